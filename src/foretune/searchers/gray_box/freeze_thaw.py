"""Freeze-thaw: pause and resume trials by what a Gaussian process over learning curves expects of
the epochs that the budget can still reach.

Like DyHPO it decides anew after every step, but it

- looks at all the epochs a trial can still reach, not at the next one: a trial is worth the highest
  rate of expected improvement over the best value so far, EI(g) / (g - t)^`alpha` for grid epochs g
  with g - t <= remaining budget (a Gittins-like index; DyHPO's one-step EI does not see late
  bloomers);
- steps along a geometric grid of epochs (1, 2, 3, 4, 5, 6, 8, 10, ...), since a value after 40
  epochs says little that one after 41 does not;
- models the running best of a curve (what regret is measured on) with an exact process (`curve_gp`)
  of few parameters instead of a network, and widens its predictions by `widen`, which was set where
  it is calibrated.

Everything is a function of the history: theta is fitted from the prior's centre on the observations
at hand when their number last passed a step of a geometric schedule, so a resumed study loses
nothing.
"""

from collections.abc import Sequence

import numpy as np

from foretune.errors import BadInput
from foretune.gaussian.acquisition import log_expected_improvement, pick
from foretune.searchers.base import Searcher, best_startable, draw
from foretune.searchers.gray_box.curve_gp import (
    CurvePosterior,
    Observations,
    Prior,
    fit,
    levels,
    spread_out,
)
from foretune.study.study import Step, Study

FIRST_FIT = 6  # observations
SCHEDULE = 1.25  # refit when they grew by this factor


class Standard:
    """Running bests to standard values: the bad tail cut at `clip` times the better half-range
    below the median, then centred and scaled.
    """

    def __init__(self, values: np.ndarray, clip: float = 2.0):
        finite = values[np.isfinite(values)]
        median = float(np.median(finite)) if len(finite) else 0.0
        top = float(finite.max()) if len(finite) else 0.0
        upper = float(np.quantile(finite, 0.9)) - median if len(finite) else 0.0
        self.floor = median - clip * max(upper, 0.1 * (top - median))
        kept = self.cut(values) if len(values) else np.zeros(1)
        self.centre = float(kept.mean())
        spread = float(kept.std())
        self.spread = spread if spread > 1e-12 * max(1.0, abs(self.centre)) else 1.0

    def cut(self, values: np.ndarray) -> np.ndarray:
        """Values with the tail cut; what is not finite is at the floor."""
        return np.where(np.isfinite(values), np.maximum(values, self.floor), self.floor)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Standard values, same shape."""
        return (self.cut(values) - self.centre) / self.spread


class Curves:
    """The observations of a study on the grid, and the posterior that they give; kept up to date
    with the study's order of events.
    """

    def __init__(self, study: Study, ratio: float, candidates: int, prior: Prior):
        self.grid = levels(study.max_epoch, ratio)
        self.u = np.log(self.grid) / np.log(max(2, study.max_epoch))
        self.prior, self.candidates = prior, candidates
        self.order: list[tuple[int, int]] = []
        # (configuration, level), in the order they were reached
        self.points: list[tuple[int, int]] = []
        self.values: list[float] = []  # running best there, -inf where it failed
        self.scheduled = 0  # observations that theta was fitted on
        self.theta = prior.centre(study.X.shape[1])
        self.posterior: CurvePosterior | None = None
        self.members = np.empty(0, dtype=int)  # configurations that the posterior covers
        self.place: dict[int, int] = {}

    def take(self, study: Study) -> None:
        """Read what was told since the last call off `study.order`."""
        for i, epoch in study.order[len(self.order) :]:
            self.order.append((i, epoch))
            failed = not np.isfinite(study.Y[i, epoch - 1])
            level = int(np.searchsorted(self.grid, epoch))
            if failed or self.grid[level] == epoch:
                best = (
                    np.nanmax(study.Y[i, :epoch])
                    if np.isfinite(study.Y[i, :epoch]).any()
                    else -np.inf
                )
                self.points.append((i, level))
                self.values.append(-np.inf if failed else float(best))

    def sync(self, study: Study) -> bool:
        """Bring theta and the posterior up to date; False while nothing finite was seen."""
        self.take(study)
        if not np.isfinite(self.values).any():
            return False
        n = len(self.points)
        due = self.scheduled_before(n)
        if (
            self.posterior is None
            or due > self.scheduled
            or not all(i in self.place for i, _ in self.points)
            or study.open_space
        ):
            self.cover(study, due)
        assert self.posterior is not None
        self.posterior.add_all(
            [(self.place[i], level) for i, level in self.points[self.posterior.n :]]
        )
        return True

    def scheduled_before(self, n: int) -> int:
        """The last number of observations up to n at which theta is fitted, 0 before the first."""
        at = FIRST_FIT
        if n < at:
            return 0
        while max(at + 1, int(at * SCHEDULE)) <= n:
            at = max(at + 1, int(at * SCHEDULE))
        return at

    def cover(self, study: Study, due: int) -> None:
        """A posterior over the started configurations and at most `candidates` others, theta fitted
        on the first `due` observations.
        """
        started = sorted({i for i, _ in self.points})
        others = np.setdiff1d(np.flatnonzero(study.available), started)
        if len(others) > self.candidates:
            others = np.random.default_rng([study.seed, due]).choice(
                others, self.candidates, replace=False
            )
        self.members = np.concatenate([np.array(started, dtype=int), np.sort(others)])
        self.place = {int(c): k for k, c in enumerate(self.members)}
        x = spread_out(study.X, finite=not study.open_space)[self.members]
        if due > self.scheduled:
            y = Standard(np.array(self.values[:due]))(np.array(self.values[:due]))
            ids = np.array([self.place[i] for i, _ in self.points[:due]])
            self.theta = fit(
                x,
                Observations(ids, np.array([h for _, h in self.points[:due]]), y),
                self.u,
                self.prior,
                seed=due,
            )
            self.scheduled = due
        self.posterior = CurvePosterior(x, self.u, self.theta, self.prior)


class FreezeThaw(Searcher):
    """Freeze-thaw search by the rate of expected improvement.

    `alpha` weighs the epochs that an improvement costs (0: not at all), `ratio` is that of the
    epoch grid, `first` the number of random configurations before the model decides, `widen`
    multiplies its standard deviations, `candidates` bounds how many new configurations are looked
    at.
    """

    name = "freeze-thaw"

    def __init__(
        self,
        alpha: float = 1.0,
        ratio: float = 1.25,
        first: int = 3,
        widen: float = 1.0,
        candidates: int = 1000,
    ):
        if not ratio > 1:
            raise BadInput(f"ratio={ratio:g} must be above 1")
        if not alpha >= 0:
            raise BadInput(f"alpha={alpha:g} must be at least 0 (0: epochs cost nothing)")
        if not widen > 0:
            raise BadInput(f"widen={widen:g} must be positive (1: deviations as predicted)")
        for name, value in (("first", first), ("candidates", candidates)):
            if value < 1:
                raise BadInput(f"{name}={value} must be at least 1")
        self.alpha, self.ratio, self.first, self.widen, self.candidates = (
            alpha,
            ratio,
            first,
            widen,
            candidates,
        )
        self.prior = Prior()
        self.curves: Curves | None = None

    def model(self, study: Study) -> Curves:
        """The curves of this study, begun anew if this object served another."""
        c = self.curves
        if (
            c is None
            or c.order != study.order[: len(c.order)]
            or c.theta.shape != (4 + study.X.shape[1],)
        ):
            c = self.curves = Curves(study, self.ratio, self.candidates, self.prior)
        return c

    def suggest(self, study: Study, rng: np.random.Generator) -> Step | None:
        """The next grid epoch of the trial with the highest index."""
        model = self.model(study)
        free = study.available
        fresh = study.open_space or bool((free & (study.epoch == 0)).any())
        uninformed = len(study.started) < self.first or not model.sync(study)
        if uninformed and fresh:
            chosen = draw(study, rng)
            if chosen is not None:
                return self.step(study, model, chosen, "first configurations are random")
        elif study.open_space:
            self.propose(study, rng)
            free = study.available
        if not free.any():
            return None
        if not model.sync(study):  # nothing is left to start and all of it failed so far
            return self.step(
                study, model, int(np.flatnonzero(free)[0]), "nothing finite was seen yet"
            )
        index, level, mean, deviation, standard = self.index(study, model)
        index = np.where(free[model.members], index, -np.inf)
        k = pick(index, rng, 1e-9)
        g = int(model.grid[level[k]])
        value = study.plan.sign * (standard.centre + standard.spread * mean[k, level[k]])
        doubt = standard.spread * deviation[k, level[k]]
        why = f"best rate of improvement: {value:.4g} ± {doubt:.2g} expected at epoch {g}"
        return self.step(study, model, int(model.members[k]), why, int(level[k]))

    def step(self, study: Study, model: Curves, config_id: int, why: str, level: int = 0) -> Step:
        """To the next epoch of the grid; `level` is the one that made the configuration
        attractive.
        """
        start = int(study.epoch[config_id])
        return Step(
            config_id,
            start,
            int(model.grid[np.searchsorted(model.grid, start, side="right")]),
            {"why": why},
        )

    def index(
        self, study: Study, model: Curves
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Standard]:
        """Index (m,) of each member and the level (m,) that gives it; mean and deviation (m, H) in
        standard values, and these.
        """
        assert model.posterior is not None
        values = np.array(model.values)
        standard = Standard(values)
        y = standard(values)
        mean = model.posterior.mean(y)
        deviation = self.widen * model.posterior.deviation(self.pending(study, model))
        cost = model.grid[None] - study.epoch[model.members][:, None]
        reachable = (cost > 0) & (cost <= max(1, study.remaining))
        rate = log_expected_improvement(mean, deviation, y.max()) - self.alpha * np.log(
            np.maximum(cost, 1)
        )
        nothing = ~reachable.any(axis=1)
        reachable[nothing] = (cost > 0)[nothing]
        rate = np.where(reachable, rate, -np.inf)
        # only if the budget ends within every trial's next step
        index = np.where(nothing, -1e300, rate.max(axis=1))
        return index, rate.argmax(axis=1), mean, deviation, standard

    def pending(self, study: Study, model: Curves) -> list[tuple[int, int]]:
        """Members' places and levels that steps under way will reach."""
        under_way = [int(i) for i in np.flatnonzero(study.pending) if int(i) in model.place]
        return [
            (model.place[i], int(np.searchsorted(model.grid, study.pending[i]))) for i in under_way
        ]

    def propose(self, study: Study, rng: np.random.Generator) -> None:
        """Add to an open study the best by expected final value of fresh samples and neighbours of
        its best trials.

        One that was started competes already and is passed over; nothing is added once the space is
        used up.
        """
        model = self.model(study)
        assert model.posterior is not None
        top = np.argsort(-study.best)[:4]
        near = [
            n
            for i in top
            if np.isfinite(study.best[i])
            for n in study.space.neighbours(study.configs[i], rng, 32)
        ]
        configs = study.space.sample(256, rng) + near
        mean, deviation = self.outside(study, model, configs)
        if best_startable(study, configs, mean + deviation) is None:
            draw(study, rng)

    def outside(
        self, study: Study, model: Curves, configs: Sequence[dict]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation (k,) of the last grid epoch of configurations that the study does not
        know.
        """
        x = np.vstack([study.X[model.members], study.space.encode(configs)])
        everything = CurvePosterior(x, model.u, model.theta, self.prior)
        everything.add_all([(model.place[i], level) for i, level in model.points])
        values = np.array(model.values)
        mean = everything.mean(Standard(values)(values))
        return mean[len(model.members) :, -1], everything.deviation()[len(model.members) :, -1]
