"""Past runs as the memory of another library's search, whatever its space: the next configuration
after what it has tried.

A candidate is forecast from runs of any settings (`searchers.transfer.run_surrogate`), under the
prior of `run_prior`, conditioned on the study's own results; the one of largest expected improvement
is next. A column that the study has not named yet, as in a space that is defined while it runs, is
unknown to the forecast, which then speaks of the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.gaussian.acquisition import expected_improvement
from foretune.history.columns import COLUMNS
from foretune.history.meta_dataset import MetaDataset
from foretune.history.runs import FACTS, RunStore
from foretune.history.scoring import scored
from foretune.integrations.search_space import SearchSpace
from foretune.running.history import (
    IMAGES,
    KIND,
    OF,
    Source,
    column_of,
    in_one_unit,
    in_vocabulary,
    named,
    source_of,
    sources_of,
)
from foretune.searchers.transfer.run_columns import SCORE, TASK
from foretune.searchers.transfer.run_history import stacked
from foretune.searchers.transfer.run_prior import HYPOTHESES, RunPrior, past_unit
from foretune.searchers.transfer.run_residual import improvements, look_elsewhere
from foretune.searchers.transfer.run_surrogate import RunSurrogate
from foretune.searchers.transfer.run_transfer import favourites
from foretune.space.space import Config, config_key
from foretune.stores.metrics import understood

UNHELPFUL = dict(HYPOTHESES)["none"]  # chance of a past that says nothing
SAMPLES, NEIGHBOURS, MOST_FAVOURITES = 250, 60, 60
# columns of the vocabulary that a study rather holds than searches
SETTINGS = ("network", "image_size", "train_images", "epochs", "pretrained", "trainer")
AT_THE_END = np.zeros(1, dtype=int)  # trainings are whole: one epoch, the last


@dataclass(frozen=True)
class Chosen:
    """A configuration, why it was chosen, and how far the past is trusted, from 0 to 1."""

    config: Config
    why: str
    trust: float


class PastRuns:
    """Runs of other tasks: those of a run store, a meta-dataset, or all that a data folder knows
    (its studies and run stores, and the history that comes with foretune).

    `metric` is what the new study measures (default: what most of the runs do), `settings` are
    columns of the vocabulary in which it does not vary, such as `network` or `image_size`, `without`
    names tasks to leave out. Raises `BadInput` where there is nothing to learn from.
    """

    def __init__(
        self,
        past: RunStore | MetaDataset | Path | str,
        *,
        metric: str | None = None,
        settings: Mapping[str, Any] | None = None,
        without: Sequence[str] = (),
    ):
        table = stacked([source.table for source in sources(past)])
        table = table[~named(table, without)].reset_index(drop=True) if without else table
        if not len(table):
            raise BadInput("there is no past run to learn from")
        kind = str(understood(metric).kind) if metric else str(table[KIND].mode()[0])
        table = in_one_unit(table, kind).drop(columns=[IMAGES, KIND, OF])
        self.settings = dict(settings or {})
        self.surrogate = RunSurrogate(table)
        self.favourites = favourites(table)[:MOST_FAVOURITES]

    @cached_property
    def columns(self) -> frozenset[str]:
        """The columns in which the runs differ."""
        return frozenset(self.surrogate.columns.names)

    def knows(self, names: Sequence[str]) -> bool:
        """Whether some of these parameters were varied by past runs."""
        return any(column_of(name, names)[0] in self.columns for name in names)

    def choose(
        self,
        space: SearchSpace,
        told: Sequence[tuple[Mapping[str, Any], float]],
        waiting: Sequence[Mapping[str, Any]],
        rng: np.random.Generator,
        fixed: Mapping[str, Any] | None = None,
        *,
        growing: bool = False,
    ) -> Chosen:
        """The configuration of `space` to try after the results `told` (higher is better, NaN of one
        that failed) and those still `waiting`; `fixed` are parameters that it has already. A space
        that is `growing` will have more parameters: until something is told, past tasks' best runs
        stand for them, so that the parameters asked for one by one make a run that is known.
        """
        tried = [space.completed(config) for config, _ in told]
        running = [space.completed(config) for config in waiting]
        y = with_failures(np.array([value for _, value in told], dtype=float))
        best = tried[int(y.argmax())] if len(y) else None
        known = [*tried, *running]
        if growing and not known and self.favourites:
            return self._begun(space, dict(fixed or {}))
        new = self._candidates(space, known, best, rng, dict(fixed or {}))
        prior = self._prior(space, [*known, *new])
        c = np.arange(len(tried))
        belief = prior.believe(c, np.zeros_like(c), y, AT_THE_END)
        if running:  # they count as if they had brought what is expected of them
            c = np.arange(len(known))
            y = np.r_[y, belief.expected[len(tried) : len(known), 0]]
            belief = prior.believe(c, np.zeros_like(c), y, AT_THE_END)
        trust = 1.0 - belief.trust["none"]
        mean, std = belief.mean[:, len(known) :, 0], belief.std[:, len(known) :, 0]
        why = "most expected improvement, from past runs"
        if len(y) and look_elsewhere(improvements(y), rng):
            belief, why = belief.only("none"), "most expected improvement, whatever the past says"
        if len(y):
            value = belief.weight @ expected_improvement(mean, std, float(y.max()))
            value = value * prior.chance(c, improvements(y))[len(known) :]
        else:
            value, why = belief.weight @ mean, "highest forecast of past runs"
        return Chosen(new[int(value.argmax())], why, round(trust, 3))

    def _begun(self, space: SearchSpace, fixed: Config) -> Chosen:
        """The past run of highest forecast, all of its hyperparameters counted, with what is `fixed`
        in their place.
        """
        given = pd.DataFrame([fixed], dtype=object).assign(**self.settings)
        given = in_vocabulary(given).drop(columns=[TASK, SCORE], errors="ignore")
        known = given.iloc[0].to_dict()
        rows = [
            {c: v for c, v in row.items() if c not in SETTINGS and not c.startswith(f"{TASK}.")}
            for row in self.favourites
        ]
        frame = pd.DataFrame([row | known for row in rows], dtype=object)
        s = self.surrogate
        best = rows[int(s.forecast_at(s.columns.encode(frame)).mean.argmax())]
        config = {**space.completed(self._in_names_of(space, best)), **fixed}
        return Chosen(config, "highest forecast of past runs", 1.0 - UNHELPFUL)

    def _candidates(
        self,
        space: SearchSpace,
        known: Sequence[Config],
        best: Config | None,
        rng: np.random.Generator,
        fixed: Config,
    ) -> list[Config]:
        """Samples, past tasks' best runs, neighbours of the best so far; none twice nor tried, unless
        nothing is left.
        """
        drawn = space.sample(SAMPLES, rng)
        drawn += [space.completed(self._in_names_of(space, row)) for row in self.favourites]
        if best is not None:
            drawn += space.neighbours(best, rng, NEIGHBOURS)
        drawn = [{**config, **fixed} for config in drawn]
        unique = {config_key(config): config for config in drawn}
        tried = set(map(config_key, known))
        fresh = [config for key, config in unique.items() if key not in tried]
        return fresh or list(unique.values())

    def _in_names_of(self, space: SearchSpace, row: Mapping[str, Any]) -> Config:
        """A past run under the names and in the units of a space."""
        out: Config = {}
        for axis in space.axes:
            column, factor = column_of(axis.name, space.names)
            if column not in row:
                continue
            value = row[column]
            if axis.choices is not None:
                spelled = in_vocabulary(pd.DataFrame({axis.name: list(axis.choices)}, dtype=object))
                cells = spelled.iloc[:, 0] if spelled.shape[1] else pd.Series(dtype=object)
                hits = [
                    o for o, s in zip(axis.choices, cells, strict=False) if str(s) == str(value)
                ]
                out |= {axis.name: hits[0]} if hits else {}
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                number = float(value) / factor if column in COLUMNS else float(value)
                out[axis.name] = axis.outside(min(max(number, axis.low), axis.high))
        return out

    def _prior(self, space: SearchSpace, pool: Sequence[Config]) -> RunPrior:
        """What the past says of a pool."""
        frame = pd.DataFrame([*pool], columns=space.names, dtype=object)
        frame = in_vocabulary(frame.assign(**self.settings)).drop(
            columns=[TASK, SCORE], errors="ignore"
        )
        s = self.surrogate
        open_ = [n for n in space.names if column_of(n, space.names)[0] not in self.columns]
        points = s.columns.encode(frame)
        return RunPrior(
            s.forecast_at(points),
            past_unit(s.location, s.scale, s.laws.level),
            space.encode(pool),
            1,
            variance=s.variance,
            new=len(open_),
            open_space=True,
        )


def with_failures(y: np.ndarray) -> np.ndarray:
    """Values (n,) where those that failed (NaN, infinite) are the worst of the others; 0 where all
    did.
    """
    fine = np.isfinite(y)
    return np.where(fine, y, float(y[fine].min()) if fine.any() else 0.0)


def sources(past: RunStore | MetaDataset | Path | str) -> list[Source]:
    """The runs of a past. Raises `BadInput` for a folder that holds none."""
    if isinstance(past, MetaDataset):
        return [source_of(past, past.name)]
    if isinstance(past, RunStore):
        table = scored(past)
        table[KIND] = [str(understood(metric).kind) for metric in table["metric"].astype(str)]
        facts = [c for c in FACTS if c not in (TASK, "trainer")]
        return [Source("runs", table.drop(columns=facts).assign(**{OF: "runs"}))]
    folder = Path(past)
    if (folder / "space.json").is_file():
        return sources(MetaDataset.load(folder))
    if (folder / "runs.parquet").is_file() or any(folder.glob("*/runs.parquet")):
        return sources(RunStore.load(folder))
    if not folder.is_dir():
        raise BadInput(f"{folder} must be a meta-dataset, a run store or a data folder: not found")
    return sources_of(folder)
