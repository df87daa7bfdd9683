"""A search in a space or pool that the past does not share: past runs of any settings give means
and spreads (`run_prior`), the study's own observations say how far to believe them.

Each decision takes the largest expected improvement that is reachable before the next deadline, as
`curve_transfer` does. In an open space the candidates are samples of it, the past tasks' best runs
as far as the space allows them (what they lack at its defaults), and neighbours of the incumbent.
Where no past run says anything, the history-free method runs instead.
"""

import math
import zlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.searchers.base import USED_UP, PerStudy, Searcher, at_random, state_of
from foretune.searchers.prospect import Prospect, best_prospect
from foretune.searchers.registry import DEFAULT_WITHOUT_PAST, searcher
from foretune.searchers.transfer.curve_prior import Belief
from foretune.searchers.transfer.deadline import leaning, observations, until_deadline
from foretune.searchers.transfer.run_columns import SCORE, TASK
from foretune.searchers.transfer.run_history import runs_of, stacked, with_settings
from foretune.searchers.transfer.run_prior import (
    UNKNOWN_SHAPE,
    CurveShape,
    RunPrior,
    curve_shape,
    past_unit,
)
from foretune.searchers.transfer.run_residual import improvements, look_elsewhere
from foretune.searchers.transfer.run_surrogate import Forecast, RunSurrogate
from foretune.space.space import Config, config_key
from foretune.study.plan import Suggestion

if TYPE_CHECKING:
    from foretune.study.study import Study

SAMPLES = 250  # of an open space
NEIGHBOURS = 30  # of the incumbent
FAVOURITES = 2  # best runs of each past task that become candidates
MOST_FAVOURITES = 60
LADDER = 12
MOST_CELLS = 4000  # (candidate, epoch) that one decision looks at


@dataclass(frozen=True)
class Knowledge:
    """What a study's past runs teach: the process, the shape of curves, and their best runs."""

    surrogate: RunSurrogate
    shape: CurveShape
    favourites: tuple[dict[str, Any], ...]


@dataclass
class Forecasts:
    """The last forecast `made` for a study, and the row of each configuration in it, by key."""

    place: dict[str, int]
    made: Forecast | None


class RunTransfer(Searcher):
    """Expected improvement that is reachable before the next deadline, under a forecast from past
    runs of any columns.
    """

    name = "run-transfer"

    def __init__(self, growth: float = 0.25):
        self.growth = growth
        self._knowledge: PerStudy[Knowledge | None] = PerStudy()
        self._pools: PerStudy[tuple[list[Config], RunPrior]] = PerStudy()
        self._forecasts: PerStudy[Forecasts] = PerStudy()
        self._samples: PerStudy[dict[str, Config]] = PerStudy()
        self._neighbours: PerStudy[dict[str, Config]] = PerStudy()
        self._beliefs: PerStudy[Belief] = PerStudy()
        self._without = searcher(DEFAULT_WITHOUT_PAST)

    # -- what is known
    # --------------------------------------------------------------------------------------------
    def knowledge(self, study: "Study") -> Knowledge | None:
        """What the study's past runs teach; None where they say nothing."""

        def learn() -> Knowledge | None:
            runs = past_runs(study)
            try:
                surrogate = RunSurrogate(runs)
            except BadInput:
                return None
            return Knowledge(surrogate, shape_of(study), favourites(runs))

        return self._knowledge.get(study, len(study.runs) if study.runs is not None else 0, learn)

    def pool(self, study: "Study", known: Knowledge) -> "tuple[list[Config], RunPrior]":
        """What an open study could start besides what it knows, and the prior of both, its own
        configurations first.
        """

        def make() -> "tuple[list[Config], RunPrior]":
            own = {config_key(config): config for config in study.configs}
            others = self.candidates(study, known, own) if study.open_space else {}
            new, space, s = list(others.values()), study.space, known.surrogate
            varied = [n for n, p in space.parameters.items() if p.kind != "constant"]
            prior = RunPrior(
                self.forecast(study, known, own | others),
                past_unit(s.location, s.scale, s.laws.level),
                np.vstack([study.X, space.encode(new)]) if new else study.X,
                study.max_epoch,
                shape=known.shape,
                variance=s.variance,
                new=len(set(varied) - set(s.columns.names)),
                open_space=study.open_space,
            )
            return new, prior

        # only an open study looks at the incumbent's neighbours
        incumbent = study.incumbent if study.open_space else None
        state = (len(study.configs), incumbent[0] if incumbent is not None else None)
        return self._pools.get(study, state, make)

    def candidates(
        self, study: "Study", known: Knowledge, own: Collection[str]
    ) -> "dict[str, Config]":
        """Configurations of an open space by key that are worth a forecast and not among the study's
        `own`; the same at every decision, but for the incumbent's neighbours.
        """
        found = self._samples.get(
            study, None, lambda: by_key(worth_a_look(study, known.favourites))
        )
        if (incumbent := study.incumbent) is not None:
            best = incumbent[0]

            def near() -> "dict[str, Config]":
                rng = np.random.default_rng([study.seed, best])
                near = study.space.neighbours(study.configs[best], rng, NEIGHBOURS)
                return by_key(map(study.space.typed, near))

            found = found | self._neighbours.get(study, best, near)
        return {key: config for key, config in found.items() if key not in own}

    def forecast(
        self, study: "Study", known: Knowledge, configs: "Mapping[str, Config]"
    ) -> Forecast:
        """The forecast of configurations by key, in their order. One that was made is asked again
        as long as it knows them all: a configuration that is started is only another row of it.
        """
        runs = 0 if study.runs is None else len(study.runs)
        kept = self._forecasts.get(study, runs, lambda: Forecasts({}, None))
        if kept.made is None or not configs.keys() <= kept.place.keys():
            frame = with_settings(
                pd.DataFrame(configs.values(), columns=study.space.names),
                study.plan.notes.settings,
            )
            kept.made = known.surrogate.forecast(frame)
            kept.place = {key: k for k, key in enumerate(configs)}
            return kept.made
        return kept.made.at(np.array([kept.place[key] for key in configs], dtype=int))

    def belief(self, study: "Study", known: Knowledge, ladder: np.ndarray) -> Belief:
        """The posterior on (candidate, ladder epoch)."""
        _, prior = self.pool(study, known)

        def believe() -> Belief:
            c, e, y = observations(study, ladder)
            belief = prior.believe(c, e, y, ladder)
            waiting = np.flatnonzero(study.pending)
            if not len(waiting):
                return belief
            ends = np.searchsorted(ladder, study.pending[waiting] - 1, side="right") - 1
            y = np.r_[y, belief.expected[waiting, ends]]
            return prior.believe(np.r_[c, waiting], np.r_[e, ladder[ends]], y, ladder)

        return self._beliefs.get(study, (state_of(study), len(ladder)), believe)

    # -- what is done
    # --------------------------------------------------------------------------------------------
    def suggest(self, study: "Study", rng: np.random.Generator) -> Suggestion | None:
        """The step with the largest expected improvement reachable before the deadline; None while
        nothing is available.
        """
        known = self.knowledge(study)
        if known is None:
            return self._without.suggest(study, rng)
        new, prior = self.pool(study, known)
        own = len(study.configs)
        timed = not study.timeless
        view = study.with_configs(new) if timed else study
        fits = view.reach[own:] > 0 if timed else np.ones(len(new), dtype=bool)
        free = np.r_[study.available, fits]
        if not free.any():
            return at_random(study, rng, 1, USED_UP)
        epoch = np.r_[study.epoch, np.zeros(len(new), dtype=int)]
        left = until_deadline(study)
        costs = view.relative_costs if timed else np.ones(len(free))
        reachable = np.maximum(1, (left / costs).round()).astype(int)
        ladder = epochs_looked_at(study, len(free))
        belief = self.belief(study, known, ladder)
        trust, tried = belief.trust, started(study)
        whole = study.best[tried[study.epoch[tried] == study.max_epoch]]
        elsewhere = study.open_space and look_elsewhere(improvements(whole), rng)
        if elsewhere:
            belief = belief.only("none")
        reach = (ladder >= epoch[:, None]) & (ladder < (epoch + reachable)[:, None])
        short = free & ~reach.any(axis=1)
        reach[short, (ladder >= epoch[short, None]).argmax(axis=1)] = True
        best = float(study.best.max(initial=-math.inf))
        if math.isfinite(best):
            value = belief.gain(best)
        else:
            value = belief.expected
        value = np.where(reach & free[:, None], value, -np.inf).max(axis=1)
        if math.isfinite(best):  # improvement for each second, where epochs differ in their cost
            value = value / costs
            value[own:] *= prior.chance(tried, improvements(study.best[tried]))[own:]
        choice = int(value.argmax())
        start = int(epoch[choice])
        length = min(max(1, int(start * self.growth)), int(reachable[choice]))
        stop = min(start + length, study.max_epoch)
        what = "most expected improvement" if math.isfinite(best) else "highest forecast"
        because = {
            "why": f"{'continue' if start else 'start'}: {what} within {left} epochs, "
            f"{'whatever runs of other settings say' if elsewhere else 'from runs of other settings'}",
            "past": leaning(belief.lean, known.surrogate.tasks),
            "trust": {name: round(w, 3) for name, w in trust.items()},
        }
        return Suggestion(choice if choice < own else new[choice - own], start, stop, because)

    def prospect(self, study: "Study", price: float) -> Prospect | None:
        """By the forecast's expected improvement, of what the rest of the budget can reach."""
        known = self.knowledge(study)
        if known is None:
            return None
        new, _ = self.pool(study, known)
        free = np.r_[study.available, np.ones(len(new), dtype=bool)]
        epoch = np.r_[study.epoch, np.zeros(len(new), dtype=int)]
        ladder = epochs_looked_at(study, len(free))
        belief = self.belief(study, known, ladder)
        epochs = ladder + 1 - epoch[:, None]
        possible = free[:, None] & (epochs > 0) & (epochs <= study.remaining)
        return best_prospect(belief.gain(float(study.best.max())), epochs, possible, price)

    def recommend(self, study: "Study") -> int | None:
        """The known configuration that is expected to be best when fully trained; before any
        observation, the forecast's.
        """
        known = self.knowledge(study)
        if known is None:
            return super().recommend(study)
        if not study.configs:
            return None
        return int(self.final(study, known).argmax())

    def final(self, study: "Study", known: Knowledge) -> np.ndarray:
        """Best value that each configuration of the study has shown or is expected to show,
        (n,)."""
        own = len(study.configs)
        new, _ = self.pool(study, known)
        ladder = epochs_looked_at(study, own + len(new))
        expected = self.belief(study, known, ladder).expected[:own]
        ahead = np.where(ladder >= study.epoch[:, None], expected, -np.inf).max(axis=1)
        ahead[study.failed] = -np.inf
        return np.maximum(ahead, study.best)


def started(study: "Study") -> np.ndarray:
    """The configurations that the study has begun with, in their order."""
    return np.flatnonzero((study.epoch > 0) | (study.pending > 0))


def epochs_looked_at(study: "Study", pool: int) -> np.ndarray:
    """Epochs (from 0) at which curves are predicted, fewer for a large pool, (G,)."""
    most = max(3, min(LADDER, MOST_CELLS // max(pool, 1)))
    return np.unique(np.geomspace(1, study.max_epoch, most).round().astype(int)) - 1


def past_runs(study: "Study") -> pd.DataFrame:
    """The runs of the study's past: of its meta-dataset, and those of any settings."""
    tables = [] if study.past is None else [runs_of(study.past)]
    if study.runs is not None:
        tables.append(study.runs[study.runs[TASK] != study.plan.task])
    return stacked(tables)


def shape_of(study: "Study") -> CurveShape:
    """The shape of the past's curves."""
    past = study.past
    if past is None:
        return UNKNOWN_SHAPE
    return curve_shape([past.curves(t, past.seeds(t)[0]) for t in past.tasks if past.seeds(t)])


def favourites(runs: pd.DataFrame) -> tuple[dict[str, Any], ...]:
    """The columns of the best runs of each task, the first of every task before the second."""
    order = runs.sort_values([TASK, SCORE], ascending=[True, False], kind="stable")
    rank = order.groupby(TASK).cumcount()
    top = order[rank < FAVOURITES].assign(_rank=rank).sort_values("_rank", kind="stable")
    rows = top.drop(columns=[TASK, SCORE, "_rank"]).to_dict("records")
    return tuple({str(k): v for k, v in row.items() if not pd.isna(v)} for row in rows)


def by_key(configs: "Iterable[Config]") -> "dict[str, Config]":
    """Configurations by their key, each once."""
    return {config_key(config): config for config in configs}


def worth_a_look(study: "Study", known_best: "tuple[dict[str, Any], ...]") -> "list[Config]":
    """Samples of a study's space, and the past's best runs as far as it allows them."""
    space = study.space
    rng = np.random.default_rng([study.seed, zlib.crc32(study.plan.task.encode())])
    found = space.sample(SAMPLES, rng)
    for row in known_best:
        if len(found) >= SAMPLES + MOST_FAVOURITES:
            break
        config = space.typed(space.completed(row, {}))
        with suppress(BadInput):
            space.check(config)
            found.append(config)
    return found
