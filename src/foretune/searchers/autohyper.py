"""autoHyper: the initial learning rate, from how much of the weights is still noise after a few
epochs (algorithm 1).

Z(rate) is the share of layers and unfoldings without knowledge gain (`foretune.training.spectral`),
averaged over the first T = 5 epochs: 1 at a random start and at rates too small to learn anything,
falling towards 0 as rates grow. The best rate lies where Z begins to be flat. The search walks up a
logarithmic grid until the running product of Z, to the power 0.8, falls below a threshold (the
plateau), puts a finer grid between the rates before and at the plateau, and so on until the grid's
ends no longer differ.

The paper's text and its published code differ; `Rules.variant` has both, and where the text names
no number, the code's:

| event                         | "paper"                           | "published"              |
|-------------------------------|-----------------------------------|--------------------------|
| Z = 1: nothing learned        | 5 low (high = 1.5 low if crossed) | same                     |
| first rate of all has Z < 0.5 | low / 10                          | same                     |
| Z = 0: everything learned     | low, high = rate[i - 2], rate[i]  | rate[i - 2], rate[i - 1] |
| plateau                       | low, high = rate[i - 1], rate[i]  | rate[i - 2], rate[i]     |
| end of the grid, no plateau   | low, high = high, 10 high         | rate[-2], 1.5 rate[-1]   |
| end                           | high - low < alpha = 5e-5         | 3e-5, or the 7th plateau |

A trial that diverges counts as Z = 0: its rate is too large. Nothing is drawn at random and a rate
met twice is not trained twice, so the walk is a function of the responses: to resume is to walk
again. Beside the paper's own end there are limits on trials and on the rate.
"""

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from ConfigSpace import ConfigurationSpace

from foretune.errors import BadInput, at_least
from foretune.searchers.base import Searcher
from foretune.space.space import Config, Space, config_key
from foretune.study.study import Study, Suggestion

RESPONSE = "zero_share"  # the column of a learning curve that holds Z_t
EPOCHS = 5  # T
VARIANTS = ("paper", "published")


@dataclass(frozen=True)
class Rules:
    """The constants of the walk; see the module's table. Raises `BadInput` for values that cannot
    be.
    """

    low: float = 1e-4
    high: float = 0.1
    size: int = 20  # rates in a grid
    alpha: float = 5e-5  # ends of a grid that differ by less are the same
    power: float = 0.8  # of the running product of Z
    plateau: float = 5e-3  # value of the product at which the plateau is reached
    trials: int = 40  # most rates to train (the paper's searches took 10 to 31)
    largest: float = 10.0  # a rate beyond which no grid goes
    variant: str = "paper"

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high <= self.largest:
            raise BadInput(
                f"low={self.low:g} must be above 0 and below high={self.high:g}, and that at "
                f"most largest={self.largest:g}"
            )
        for name, holds, right in (
            ("size", self.size >= 3, "3 or more"),
            ("trials", self.trials >= 1, "1 or more"),
            ("alpha", self.alpha > 0, "above 0"),
            ("plateau", 0 < self.plateau < 1, "between 0 and 1"),
            ("power", self.power > 0, "above 0"),
        ):
            if not holds:
                raise BadInput(f"{name}={getattr(self, name):g} must be {right}")
        if self.variant not in VARIANTS:
            raise BadInput(f"variant {self.variant!r} must be one of {', '.join(VARIANTS)}")


@dataclass(frozen=True)
class Decision:
    """What follows from the responses so far: a `rate` to train next, or the `chosen` one. `why`
    says it in words.

    `converged` is False where a limit ended the walk; `chosen` is then the best that is known.
    `spread` is the largest Z met minus the smallest: where it is near 0, the weights do not respond
    to the rate and `chosen` means nothing. `grids` lists (low, high) of every grid.
    """

    why: str
    rate: float | None = None
    chosen: float | None = None
    converged: bool = False
    trained: tuple[float, ...] = ()
    spread: float = 0.0
    grids: tuple[tuple[float, float], ...] = field(default=(), repr=False)


@dataclass
class _Walk:
    """Where algorithm 1 stands."""

    low: float
    high: float
    grids: list[tuple[float, float]]
    zooms: int = 0
    at: int = 0


def _algorithm_1(rules: Rules, walk: _Walk) -> Generator[float, float, str]:
    """Yields rates, is sent Z of each, returns why it ended; the chosen rate is then
    `walk.high`.
    """
    paper = rules.variant == "paper"
    while True:
        if walk.high - walk.low < rules.alpha:
            return f"the ends of the grid differ by less than {rules.alpha:g}"
        if walk.high > rules.largest:
            return f"no plateau up to a rate of {rules.largest:g}"
        if not paper and walk.zooms > 6:
            return "seven plateaus were found, each inside the one before"
        grid = np.geomspace(walk.low, walk.high, rules.size)
        walk.grids.append((walk.low, walk.high))
        product = 1.0
        for i, rate in enumerate(map(float, grid)):
            walk.at = i
            z = yield rate
            product *= z
            before, two_before = float(grid[max(i - 1, 0)]), float(grid[max(i - 2, 0)])
            if z >= 1.0:
                walk.low *= 5
                walk.high = walk.high if walk.low < walk.high else 1.5 * walk.low
                break
            if i == 0 and z < 0.5 and len(walk.grids) == 1:
                walk.low /= 10
                break
            if z <= 0.0:
                walk.low, walk.high = two_before, rate if paper else before
                walk.zooms += 1
                break
            if product**rules.power < rules.plateau:
                walk.low, walk.high = before if paper else two_before, rate
                walk.zooms += 1
                break
        else:
            walk.low, walk.high = (
                (walk.high, 10 * walk.high) if paper else (float(grid[-2]), 1.5 * float(grid[-1]))
            )


def key(rate: float) -> str:
    """A text that equal rates share."""
    return f"{rate:.9g}"


def decide(responses: Mapping[float, float], rules: Rules | None = None) -> Decision:
    """Walk as far as `responses` (rate -> Z; NaN for a trial that diverged) go; always ends. Raises
    `BadInput` for Z outside 0 to 1.
    """
    rules = rules or Rules()
    if wrong := {r: z for r, z in responses.items() if not (math.isnan(z) or 0 <= z <= 1)}:
        raise BadInput(f"a response must be a share from 0 to 1, but got {wrong}")
    known = {key(rate): 0.0 if math.isnan(z) else float(z) for rate, z in responses.items()}
    walk = _Walk(rules.low, rules.high, [])
    steps = _algorithm_1(rules, walk)
    used: dict[str, float] = {}
    try:
        rate = next(steps)
        for _ in range(
            50 * rules.trials
        ):  # every visit of a rate that is known already costs nothing, but must not go on for ever
            if key(rate) not in known:
                break
            used[key(rate)] = rate
            rate = steps.send(known[key(rate)])
        ended = ""
    except StopIteration as end:
        ended = str(end.value)
    z = [known[k] for k in used]
    facts: dict[str, Any] = {
        "trained": tuple(used.values()),
        "spread": max(z, default=0) - min(z, default=0),
        "grids": tuple(walk.grids),
    }
    if ended and walk.high <= rules.largest:
        return Decision(ended, chosen=walk.high, converged=True, **facts)
    if ended or len(used) >= rules.trials or key(rate) in known:
        flattest = min(used.values(), key=lambda r: (known[key(r)], r), default=rules.low)
        chosen = walk.high if walk.zooms and not ended else flattest
        return Decision(
            ended or f"the limit of {rules.trials} trials was reached", chosen=chosen, **facts
        )
    where = (
        f"grid {len(walk.grids)} from {walk.low:.3g} to {walk.high:.3g}, rate "
        f"{walk.at + 1} of {rules.size}"
    )
    return Decision(where, rate, **facts)


def search(response: Callable[[float], float], rules: Rules | None = None) -> Decision:
    """Run the whole walk on a function rate -> Z."""
    responses: dict[float, float] = {}
    while (decision := decide(responses, rules)).rate is not None:
        responses[decision.rate] = response(decision.rate)
    return decision


def clipped(rules: Rules, lower: float, upper: float) -> Rules:
    """`rules` whose first grid lies within a space from `lower` to `upper`: the part that they
    share, else the three decades of the space next to it.

    Where the grid is another, `alpha` is at most a step of it, so that a space of small rates is
    walked as well.
    """
    low, high = max(rules.low, lower), min(rules.high, upper)
    if (low, high) == (rules.low, rules.high):
        return rules
    if low >= high:
        low, high = (
            (lower, min(upper, 1000 * lower))
            if lower >= rules.high
            else (max(lower, upper / 1000), upper)
        )
    alpha = min(rules.alpha, (high - low) / rules.size)
    return replace(rules, low=low, high=high, largest=max(rules.largest, high), alpha=alpha)


class AutoHyper(Searcher):
    """Tunes one learning rate of an open study by autoHyper, then trains the chosen rate to the
    end.

    All other hyperparameters stay as in `base` (default: the space's default configuration). Each
    rate is trained for `epochs` epochs, whose rows must hold Z_t as `zero_share` (`Training` with
    `rank` writes it). Raises `BadInput` for a study with a pool, a space without the `parameter`,
    or curves without the column. `low`, `high`, `trials` and `variant` are those of `Rules`; with
    `finish` false the search is all.
    """

    name = "autohyper"

    def __init__(
        self,
        parameter: str = "learning_rate",
        epochs: int = EPOCHS,
        base: Config | None = None,
        finish: bool = True,
        low: float = Rules.low,
        high: float = Rules.high,
        trials: int = Rules.trials,
        variant: str = Rules.variant,
    ):
        at_least(1, epochs=epochs)
        self.rules = Rules(low=low, high=high, trials=trials, variant=variant)
        self.parameter, self.epochs, self.base, self.finish = parameter, epochs, base, finish

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The trial that the walk asks for, one at a time; then the chosen rate to the last epoch,
        then nothing.
        """
        if study.pending.any():
            return None
        decision = self.decision(study)
        if decision.rate is not None:
            suggestion = self._suggestion(
                study,
                self.config(study, decision.rate),
                min(self.epochs, study.max_epoch),
                {"why": decision.why},
            )
            if suggestion is None:
                raise BadInput(
                    f"the trial of rate {decision.rate:g} ended without a value of {RESPONSE}"
                )
            return suggestion
        if not self.finish or decision.chosen is None:
            return None
        because = {"why": f"chosen rate: {decision.why}", "converged": decision.converged}
        chosen = self.config(study, decision.chosen)
        return self._suggestion(study, chosen, study.max_epoch, because)

    def recommend(self, study: Study) -> int | None:
        """The trial of the chosen rate once it has been trained, else the incumbent."""
        if study.open_space and (chosen := self.decision(study).chosen) is not None:
            config_id = study.id_of(self.config(study, chosen))
            if config_id is not None and study.epoch[config_id] and not study.failed[config_id]:
                return config_id
        return super().recommend(study)

    def decision(self, study: Study) -> Decision:
        """What the study's trials say. The first grid lies within the space; a walk that would
        leave it ends at its end, which is trained first.
        """
        responses = self.responses(study)
        bounds: Any = study.space.config_space[self.parameter]
        decision = decide(responses, clipped(self.rules, float(bounds.lower), float(bounds.upper)))
        wanted = decision.chosen if decision.rate is None else decision.rate
        if wanted is None or bounds.lower <= wanted <= bounds.upper:
            return decision
        end = float(bounds.lower if wanted < bounds.lower else bounds.upper)
        why = f"the space ends at {end:g}"
        if key(end) not in map(key, responses) and len(decision.trained) < self.rules.trials:
            return replace(decision, why=why, rate=end, chosen=None, converged=False)
        return replace(decision, why=why, rate=None, chosen=end, converged=False)

    def responses(self, study: Study) -> dict[float, float]:
        """Rate -> Z, over the trials that have had their epochs; NaN where one failed."""
        self.check(study)
        out: dict[float, float] = {}
        rest = config_key(self.rest(study))
        for config_id in study.started:
            config = study.configs[config_id]
            if config_key({k: v for k, v in config.items() if k != self.parameter}) != rest:
                continue
            if (
                z := mean_response(
                    study.rows[config_id], min(self.epochs, study.max_epoch), study.plan.metric
                )
            ) is not None:
                out[float(config[self.parameter])] = z
            elif study.failed[config_id]:
                out[float(config[self.parameter])] = math.nan
        return out

    def rest(self, study: Study) -> Config:
        """The hyperparameters that are not searched."""
        base = study.space.default() if self.base is None else self.base
        return {k: v for k, v in base.items() if k != self.parameter}

    def config(self, study: Study, rate: float) -> Config:
        """The configuration of a rate."""
        return {**self.rest(study), self.parameter: rate}

    def check(self, study: Study) -> None:
        """Raise `BadInput` for a study that this method cannot run."""
        if not study.open_space:
            raise BadInput(
                "method 'autohyper' looks for a learning rate outside any pool: it needs an "
                "open study (--open)"
            )
        if self.parameter not in study.space.names:
            raise BadInput(
                f"method 'autohyper' needs the hyperparameter {self.parameter!r}; the space "
                f"has {', '.join(study.space.names)}"
            )

    @staticmethod
    def _suggestion(
        study: Study, config: Config, stop: int, because: dict[str, Any]
    ) -> Suggestion | None:
        known = study.id_of(config)
        if known is None:
            return Suggestion(config, 0, stop, because)
        if not study.available[known] or study.epoch[known] >= stop:
            return None
        return Suggestion(known, int(study.epoch[known]), stop, because)


def mean_response(rows: Sequence[Mapping[str, Any]], epochs: int, metric: str) -> float | None:
    """Z of a trial: the mean of Z_t over epochs 1 to `epochs`; None before they are there. Raises
    `BadInput` for rows without Z_t.
    """
    trained = [
        r
        for r in rows
        if 0 < r["epoch"] <= epochs and r.get(metric) is not None and math.isfinite(r[metric])
    ]
    if any(RESPONSE not in r for r in trained):
        raise BadInput(
            f"the learning curves have no column {RESPONSE!r}, from which autoHyper decides: "
            "train with rank=True"
        )
    return float(np.mean([r[RESPONSE] for r in trained])) if len(trained) == epochs else None


def narrowed(
    space: Space, rate: float, factor: float = 10.0, parameter: str = "learning_rate"
) -> Space:
    """`space` with the range of its learning rate cut to `rate` / factor .. `rate` * factor:
    autoHyper as a prior of any other searcher.

    Raises `BadInput` for a space without that number, or where nothing of its range is left.
    """
    if parameter not in space.names or not hasattr(space.config_space[parameter], "lower"):
        raise BadInput(
            f"the space has no number {parameter!r} to narrow; it has {', '.join(space.names)}"
        )
    if not factor > 1 or not rate > 0:
        raise BadInput(f"rate={rate:g} must be positive and factor={factor:g} above 1")
    content = json.loads(json.dumps(space.config_space.to_serialized_dict()))
    entry = next(h for h in content["hyperparameters"] if h["name"] == parameter)
    low, high = max(entry["lower"], rate / factor), min(entry["upper"], rate * factor)
    if not low < high:
        raise BadInput(
            f"{parameter} from {entry['lower']:g} to {entry['upper']:g} has nothing within a "
            f"factor {factor:g} of {rate:g}"
        )
    entry.update(lower=low, upper=high, default_value=min(max(rate, low), high))
    return Space(ConfigurationSpace.from_serialized_dict(content))


def near(
    configs: Sequence[Config], rate: float, factor: float = 10.0, parameter: str = "learning_rate"
) -> list[Config]:
    """Those of a pool whose learning rate is within `factor` of `rate` (those without one stay)."""
    slack = 1 + 1e-9
    return [
        c
        for c in configs
        if parameter not in c or rate / factor / slack <= c[parameter] <= rate * factor * slack
    ]
