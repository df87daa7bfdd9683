"""A searcher of Ray Tune's with a memory of past tasks (extra `ray`).

    searcher = foretune.ray.Searcher("data")  # the studies and imported runs of a data folder
    tune.Tuner(
        train, param_space={"lr": tune.loguniform(1e-5, 1e-1)},
        tune_config=tune.TuneConfig(search_alg=searcher, metric="acc", mode="max", num_samples=20),
    ).fit()

Ray runs the trials, and its schedulers stop them; a trial is one observation, its last result.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput, extra
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.history.runs import RunStore
from foretune.integrations.past_runs import PastRuns
from foretune.integrations.search_space import Axis, SearchSpace

with extra("ray", "the Ray Tune searcher"):
    from ray.tune.search import Searcher as RaySearcher
    from ray.tune.search.sample import (
        Categorical,
        Domain,
        Float,
        Integer,
        LogUniform,
        Quantized,
        Uniform,
    )
    from ray.tune.search.variant_generator import parse_spec_vars
    from ray.tune.utils.util import flatten_dict, unflatten_dict


class Searcher(RaySearcher):
    """Suggests by what `past` says: a run store, a meta-dataset, the folder of one, or a data folder
    with all its studies and run stores. `what` is what the trials measure, as an import would call
    it (default: `metric`); `settings` are what they hold fixed, such as `{"network": "resnet18"}`.

    Raises `BadInput` for a past without runs, several metrics, a grid, and a distribution that has
    no bounds.
    """

    def __init__(
        self,
        past: RunStore | MetaDataset | Path | str,
        *,
        metric: str | None = None,
        mode: str | None = None,
        what: str | None = None,
        settings: Mapping[str, Any] | None = None,
        without: Sequence[str] = (),
        seed: int = 0,
    ):
        super().__init__(metric=refuse_several(metric), mode=refuse_several(mode))
        self._runs = PastRuns(past, metric=what, settings=settings, without=without)
        self._seed = seed
        self._space: SearchSpace | None = None
        # trial -> its configuration, in the order of their start; its result once it is over
        self._configs: dict[str, dict[str, Any]] = {}
        self._values: dict[str, float] = {}
        self.why: dict[str, str] = {}  # trial -> why its configuration was suggested

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """Take the Tuner's space, metric and mode."""
        self._metric = refuse_several(metric) or self._metric
        self._mode = refuse_several(mode) or self._mode
        if config:
            self._space = SearchSpace(axes_of(config))
        return self._space is not None

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of a trial."""
        if self._space is None or not self._metric or not self._mode:
            raise BadInput(
                "the searcher needs a param_space, a metric and a mode: give them to the Tuner"
            )
        told = [(self._configs[t], self._sign * value) for t, value in self._values.items()]
        waiting = [config for t, config in self._configs.items() if t not in self._values]
        rng = np.random.default_rng([self._seed, len(self._configs)])
        chosen = self._runs.choose(self._space, told, waiting, rng)
        self._configs[trial_id] = chosen.config
        self.why[trial_id] = chosen.why
        nested: dict[str, Any] = unflatten_dict(chosen.config)
        return nested

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """What a trial reports on its way is Ray's schedulers' matter."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Take a trial's last result; one that failed, or that has none, is as bad as the worst."""
        value = None if error or not result else result.get(str(self._metric))
        if trial_id in self._configs:
            self._values[trial_id] = math.nan if value is None else float(value)

    @property
    def _sign(self) -> float:
        return -1.0 if self._mode == "min" else 1.0

    def save(self, checkpoint_path: str) -> None:
        """Write the trials so far, as JSON; the past is not in it."""
        values = {t: v if math.isfinite(v) else None for t, v in self._values.items()}
        state = {"configs": self._places(), "values": values, "why": self.why}
        write_atomic(Path(checkpoint_path), json.dumps(state))

    def restore(self, checkpoint_path: str) -> None:
        """Take up the trials that `save` wrote. Raises `BadInput` before the space is known."""
        if self._space is None:
            raise BadInput("the searcher can be restored once it has a space")
        state = json.loads(Path(checkpoint_path).read_text(encoding="utf-8"))
        axes = {axis.name: axis for axis in self._space.axes}
        self._configs = {
            trial: {name: axes[name].outside(value) for name, value in config.items()}
            for trial, config in state["configs"].items()
        }
        self._values = {t: math.nan if v is None else v for t, v in state["values"].items()}
        self.why = state["why"]

    def _places(self) -> dict[str, dict[str, Any]]:
        """The configurations with choices by their places: they may be anything."""
        axes = self._space.axes if self._space else ()
        return {
            trial: {axis.name: axis.inside(config[axis.name]) for axis in axes}
            for trial, config in self._configs.items()
        }


def refuse_several(what: Any) -> str | None:
    """A metric or mode. Raises `BadInput` for a list of them."""
    if what is not None and not isinstance(what, str):
        raise BadInput(f"{what!r} is more than one: the searcher takes one metric and one mode")
    return what


def axes_of(config: Mapping[str, Any]) -> list[Axis]:
    """The parameters of Ray's `param_space`, nested ones as "a/b". Raises `BadInput`."""
    _, domains, grids = parse_spec_vars(dict(config))
    if grids:
        raise BadInput(
            f"grid_search of {'/'.join(map(str, grids[0][0]))} is no range that a searcher can "
            "choose from: tune.choice would be right"
        )
    if not domains:
        return []
    _, domains, _ = parse_spec_vars(flatten_dict(dict(config), prevent_delimiter=True))
    return [axis("/".join(map(str, path)), domain) for path, domain in domains]


def axis(name: str, domain: Domain) -> Axis:
    """A parameter of Ray's."""
    if isinstance(domain, Categorical):
        return Axis(name, choices=tuple(domain.categories))
    sampler: Any = domain.get_sampler()
    step = sampler.q if isinstance(sampler, Quantized) else None
    inner = sampler.sampler if isinstance(sampler, Quantized) else sampler
    if (
        not isinstance(domain, (Float, Integer))
        or not isinstance(inner, (Uniform, LogUniform))
        or not (math.isfinite(domain.lower) and math.isfinite(domain.upper))
    ):
        raise BadInput(
            f"{name}: {type(domain).__name__} of {type(inner).__name__} has no bounds: "
            "tune.uniform, loguniform, randint, lograndint, choice and their q forms have"
        )
    log = isinstance(inner, LogUniform)
    if isinstance(domain, Integer):  # Ray's upper bound is not in, unless it is quantized
        high = domain.upper if step else domain.upper - 1
        return Axis(name, domain.lower, high, log=log, integer=True, step=step)
    return Axis(name, domain.lower, domain.upper, log=log, step=step)
