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
from dataclasses import dataclass

import numpy as np

from foretune.errors import BadInput, at_least, positive
from foretune.gaussian.acquisition import log_expected_improvement, pick
from foretune.searchers.base import (
    PerStudy,
    Searcher,
    best_startable,
    draw,
    seen_from,
    with_choice,
)
from foretune.searchers.gray_box.curve_gp import (
    CurvePosterior,
    Observations,
    Prior,
    fit,
    levels,
    spread_out,
)
from foretune.space.space import Config
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion

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


@dataclass(frozen=True)
class Outlook:
    """What the posterior says of the m members: the index of each and the grid level that gives it,
    (m,), mean and deviation (m, H) in standard values, and how these are made.
    """

    index: np.ndarray
    level: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    standard: Standard


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
        at_least(0, alpha=alpha)
        positive(widen=widen)
        at_least(1, first=first, candidates=candidates)
        self.alpha, self.ratio, self.first, self.widen, self.candidates = (
            alpha,
            ratio,
            first,
            widen,
            candidates,
        )
        self.prior = Prior()
        self._curves: PerStudy[Curves] = PerStudy()

    def model(self, study: Study) -> Curves:
        """The curves of this study, taken in as far as they were asked for."""
        return self._curves.get(
            study, None, lambda: Curves(study, self.ratio, self.candidates, self.prior)
        )

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The next grid epoch of the trial with the highest index."""
        model = self.model(study)
        fresh = study.open_space or bool((study.available & (study.epoch == 0)).any())
        uninformed = len(study.started) < self.first or not model.sync(study)
        view = study
        if uninformed and fresh:
            chosen = draw(study, rng)
            if chosen is not None:
                return self.step(study, model, chosen, "first configurations are random")
        elif study.open_space:
            view = with_choice(study, self.outsider(study, model, rng))
        return seen_from(study, view, self.best(view, model, rng))

    def best(self, study: Study, model: Curves, rng: np.random.Generator) -> Suggestion | None:
        """The step of the configuration of the pool with the highest index."""
        free = study.available
        if not free.any():
            return None
        if not model.sync(study):  # nothing is left to start and all of it failed so far
            return self.step(
                study, model, int(np.flatnonzero(free)[0]), "nothing finite was seen yet"
            )
        outlook = self.index(study, model)
        k = pick(np.where(free[model.members], outlook.index, -np.inf), rng, 1e-9)
        level, standard = int(outlook.level[k]), outlook.standard
        value = study.plan.sign * (standard.centre + standard.spread * outlook.mean[k, level])
        doubt = standard.spread * outlook.deviation[k, level]
        why = (
            f"best rate of improvement: {value:.4g} ± {doubt:.2g} expected at epoch "
            f"{int(model.grid[level])}"
        )
        return self.step(study, model, int(model.members[k]), why, level)

    def step(
        self, study: Study, model: Curves, choice: Choice, why: str, level: int = 0
    ) -> Suggestion:
        """To the next epoch of the grid; `level` is the one that made the configuration
        attractive.
        """
        start = int(study.epoch[choice]) if isinstance(choice, int) else 0
        stop = int(model.grid[np.searchsorted(model.grid, start, side="right")])
        return Suggestion(choice, start, stop, {"why": why})

    def index(self, study: Study, model: Curves) -> Outlook:
        """The rate of expected improvement of each member, at the level where it is highest."""
        assert model.posterior is not None
        values = np.array(model.values)
        standard = Standard(values)
        y = standard(values)
        mean = model.posterior.mean(y)
        deviation = self.widen * model.posterior.deviation(self.pending(study, model))
        cost = model.grid[None] - study.epoch[model.members][:, None]
        reachable = (cost > 0) & (cost <= max(1, study.remaining))
        # epochs, or where time is the budget what they cost
        price = np.maximum(cost, 1) * study.relative_costs[model.members][:, None]
        rate = log_expected_improvement(mean, deviation, y.max()) - self.alpha * np.log(price)
        nothing = ~reachable.any(axis=1)
        reachable[nothing] = (cost > 0)[nothing]
        rate = np.where(reachable, rate, -np.inf)
        # only if the budget ends within every trial's next step
        index = np.where(nothing, -1e300, rate.max(axis=1))
        return Outlook(index, rate.argmax(axis=1), mean, deviation, standard)

    def pending(self, study: Study, model: Curves) -> list[tuple[int, int]]:
        """Members' places and levels that steps under way will reach."""
        under_way = [int(i) for i in np.flatnonzero(study.pending) if int(i) in model.place]
        return [
            (model.place[i], int(np.searchsorted(model.grid, study.pending[i]))) for i in under_way
        ]

    def outsider(self, study: Study, model: Curves, rng: np.random.Generator) -> Choice | None:
        """The best by expected final value of fresh samples and neighbours of an open study's best
        trials.

        One that was started competes already and is passed over; None once the space is used up.
        """
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
        chosen = best_startable(study, configs, mean + deviation)
        return draw(study, rng) if chosen is None else chosen

    def outside(
        self, study: Study, model: Curves, configs: Sequence[Config]
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
