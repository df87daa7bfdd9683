"""Siamese-BHO's search: Bayesian optimisation that starts where similar past tasks ended (Kim, Kim
and Choi, 2017, Algorithm 2).

The k nearest past tasks give the first k points, each its best configuration that no nearer task
gave, and the mean of their mappings from configuration to accuracy is the prior mean of the
Gaussian process. Each suggestion is a full training.

| variant of Figure 2                 | options                                             |
|-------------------------------------|-----------------------------------------------------|
| random initial points, EI           | init="random", prior_mean=False                     |
| random initial points, GP-UCB       | init="random", prior_mean=False, acquisition="ucb"  |
| 3 nearest, EI                       | prior_mean=False                                    |
| 3 nearest, EI with prior mean       | (the default)                                       |

Which tasks are near is read from the study's notes, `recommended.nearest` (past task -> weight),
which a recommender wrote before the study began. Without it, or where the recommender found the
pictures unlike any past task's, the distance is the L1 distance to what the target itself has
shown, and the first points are the past tasks' greedy portfolio.

Notation: T past tasks, n configurations, N observations; values are scaled so that configurations
differ by about 1.
"""

from typing import Any

import numpy as np

from foretune.errors import BadInput, at_least
from foretune.gaussian.acquisition import pick
from foretune.history.ranks import greedy_portfolio, mean_rank
from foretune.searchers.base import Searcher, adopting, at_random
from foretune.searchers.gray_box.hyperband import best_paused
from foretune.searchers.transfer.portfolio import past_best
from foretune.searchers.transfer.units import in_past_unit
from foretune.space.space import Config
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion

# random configurations that an open space is searched with, beside the neighbours of the best
SAMPLES = 128
NEIGHBOURS = 32  # of each of the three best


class SiameseBO(Searcher):
    """Algorithm 2 with `k` neighbours; `beta` is that of GP-UCB (mean + sqrt(beta) std)."""

    name = "siamese-bo"

    def __init__(
        self,
        k: int = 3,
        init: str = "nearest",
        acquisition: str = "ei",
        prior_mean: bool = True,
        beta: float = 4.0,
    ):
        for option, value, known in (
            ("init", init, ("nearest", "random")),
            ("acquisition", acquisition, ("ei", "ucb")),
        ):
            if value not in known:
                raise BadInput(f"{option}={value!r} must be {' or '.join(known)}")
        at_least(1, k=k)
        at_least(0, beta=beta)
        self.k, self.init, self.acquisition, self.prior_mean, self.beta = (
            k,
            init,
            acquisition,
            prior_mean,
            beta,
        )

    @adopting
    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """A paused trial to its end, else one of the first points, else the best by the acquisition
        function, fully.
        """
        if self.init == "nearest" or self.prior_mean:
            best = past_best(study)  # refuses a study without past tasks
        paused = best_paused(study, "finish what was begun")
        if paused is not None:
            return paused
        if self.init == "nearest":
            for c, why, lean in self.first_points(study, best):
                if study.available[c] and study.epoch[c] == 0:
                    return Suggestion(c, 0, study.max_epoch, {"why": why, "past": lean})
        seen = np.isfinite(study.best)
        if not seen.any() or (self.init == "random" and len(study.started) < self.k):
            return at_random(study, rng, study.max_epoch, "random initial point")
        return self.best_by_acquisition(study, rng)

    def first_points(
        self, study: Study, best: np.ndarray
    ) -> list[tuple[int, str, dict[str, float]]]:
        """At most k configurations, none twice, with the reason and the past task that each leans
        on; a function of past and notes alone.
        """
        names = self.noted(study)
        rows = study.past.tasks if study.past is not None else []
        out: list[tuple[int, str, dict[str, float]]] = []
        if not names:
            order = [
                c
                for c in np.argsort(mean_rank(best), kind="stable")
                if not np.isnan(best[:, c]).all()
            ]
            listed = list(dict.fromkeys([*greedy_portfolio(best, self.k), *map(int, order)]))[
                : self.k
            ]
            why = "no picture distances: past tasks' portfolio"
            return [(c, f"{why}, place {i + 1}", {}) for i, c in enumerate(listed)]
        taken: set[int] = set()
        for place, name in enumerate(names):
            values = np.where(np.isnan(row := best[rows.index(name)]), -np.inf, row)
            values[list(taken)] = -np.inf
            c = int(np.argmax(values))
            if np.isfinite(values[c]):
                taken.add(c)
                out.append(
                    (
                        c,
                        f"best configuration of {name}, {ordinal(place)} by its pictures",
                        {name: 1.0},
                    )
                )
        return out

    def noted(self, study: Study) -> list[str]:
        """The k nearest past tasks by the study's notes, nearest first; empty where they name none
        of its past, or say that it gives no support.
        """
        noted = study.plan.notes.recommended
        nearest = noted.nearest if noted is not None and noted.supported else {}
        known = [name for name in nearest if study.past is not None and name in study.past.tasks]
        return sorted(known, key=lambda name: -nearest[name])[: self.k]

    def nearest(self, study: Study) -> tuple[list[str], str]:
        """The k nearest past tasks, and how they were found."""
        if names := self.noted(study):
            return names, "nearest by pictures"
        best = past_best(study)
        own = best_in_past_unit(study)
        seen = np.isfinite(own)
        both = seen & ~np.isnan(best)
        shared = both.sum(axis=1)
        gap = np.where(both, np.abs(np.where(both, best, 0.0) - np.where(seen, own, 0.0)), 0.0).sum(
            axis=1
        )
        distance = np.where(shared > 0, gap / np.maximum(shared, 1), np.inf)
        order = [int(t) for t in np.argsort(distance, kind="stable")[: self.k] if shared[t]]
        assert study.past is not None
        return [study.past.tasks[t] for t in order], "nearest by the results so far"

    def mapping(self, study: Study, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The past's encoded configurations and the mean of the tasks' best values where any of
        them knows one, (m, d) and (m,).
        """
        if not names or study.past is None:
            return np.empty((0, study.X.shape[1])), np.empty(0)
        best = study.past.best(names)  # (k, n)
        known = ~np.isnan(best)
        held = np.stack([winsorised(row) for row in best])
        mean = np.where(known, held, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        rows = known.any(axis=0)
        return study.past.X[rows], mean[rows]

    def best_by_acquisition(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The candidate with the highest acquisition value under the Gaussian process of the
        history.
        """
        from foretune.searchers.pictures.siamese_surrogate import utility

        X, fresh, drawn = self.candidates(study, rng)
        if not len(X):
            return None
        names, how = self.nearest(study) if self.prior_mean else ([], "")
        model, incumbent = self.model(study, names)
        c = pick(utility(model, X, self.acquisition, incumbent, self.beta), rng)
        choice: Choice = int(fresh[c]) if c < len(fresh) else drawn[c - len(fresh)]
        kind = "expected improvement" if self.acquisition == "ei" else "upper confidence bound"
        because: dict[str, Any] = {"why": f"largest {kind}"}
        if names:
            because |= {
                "why": f"largest {kind}; prior mean of the {len(names)} {how}",
                "past": dict.fromkeys(names, round(1 / len(names), 3)),
            }
        return Suggestion(choice, 0, study.max_epoch, because)

    def candidates(
        self, study: Study, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, list[Config]]:
        """Encoded candidates: the pool's configurations that were not started and, in an open
        space, new ones after them.
        """
        fresh = np.flatnonzero(study.available & (study.epoch == 0))
        drawn: list[Config] = []
        if study.open_space:
            drawn = study.space.sample(SAMPLES, rng)
            for c in np.argsort(-study.best, kind="stable")[:3]:
                drawn += study.space.neighbours(study.configs[c], rng, NEIGHBOURS)
            known = {row.tobytes() for row in study.X}
            drawn = [
                d
                for d, row in zip(drawn, study.space.encode(drawn), strict=True)
                if row.tobytes() not in known
            ]
        new = study.space.encode(drawn) if drawn else np.empty((0, study.X.shape[1]))
        return np.vstack([study.X[fresh], new]), fresh, drawn

    def model(self, study: Study, names: list[str]) -> tuple[Any, float]:
        """The Gaussian process given the history and the incumbent, both in scaled values; steps
        under way count as what is expected of them.
        """
        from foretune.searchers.pictures.siamese_surrogate import (
            PriorMean,
            fit_kernel,
            gaussian_process,
            predict,
        )

        observed = np.flatnonzero((study.epoch > 0) & (study.pending == 0))
        own = best_in_past_unit(study)
        value = own[observed]
        seen = value[np.isfinite(value)]
        if not len(seen):  # all that was told so far is of steps under way
            observed, value = (rows := np.flatnonzero(np.isfinite(own))), own[rows]
            seen = value
        y = winsorised(np.where(np.isfinite(value), value, seen.min()))
        known, mapping = self.mapping(study, names)
        if len(mapping) > 1 and mapping.std() > 0:
            location, scale = float(mapping.mean()), float(mapping.std())
        else:
            location, scale = float(y.mean()), float(y.std())
        scale = scale if scale > 0 else 1.0
        z = (y - location) / scale
        mean = PriorMean(known, (mapping - location) / scale)
        kernel = fit_kernel(study.X[observed], z - as_array(mean, study.X[observed]), groups(study))
        model = gaussian_process(study.X[observed], z, mean, kernel)
        waiting = np.setdiff1d(np.flatnonzero(study.pending), observed)
        if len(waiting):
            expected, _ = predict(model, study.X[waiting])
            rows = np.concatenate([observed, waiting])
            model = gaussian_process(study.X[rows], np.concatenate([z, expected]), mean, kernel)
        return model, float(z.max())


def best_in_past_unit(study: Study) -> np.ndarray:
    """Best value of each configuration (n,), -inf where there is none, in the unit of the past
    where there is one: mapping and distances compare both.
    """
    if study.past is None or not study.past.tasks:
        return study.best
    Y = in_past_unit(study)[0]
    return np.where(np.isfinite(Y), Y, -np.inf).max(axis=1)


def groups(study: Study) -> list[list[int]]:
    """Columns of the encoding by hyperparameter, activity columns each on its own."""
    space = study.space
    out = [list(range(columns.start, columns.stop)) for columns in space.columns.values()]
    return out + [[c] for c in range(space.dims - len(space.conditional), space.dims)]


def as_array(mean: Any, X: np.ndarray) -> np.ndarray:
    """A mean function's values at X (m, d), (m,)."""
    import torch

    with torch.no_grad():
        return np.asarray(mean(torch.as_tensor(X, dtype=torch.double)).numpy())


def winsorised(values: np.ndarray) -> np.ndarray:
    """Values with the worst raised to the lower quartile minus three times the quartiles' distance:
    how bad the bad ones are must not bend the scale.

    NaN stays NaN; where more than half of the values are alike nothing is raised.
    """
    if not np.isfinite(values).any():
        return values
    low, high = np.nanquantile(values, [0.25, 0.75])
    return np.maximum(values, low - 3 * (high - low)) if high > low else values


def ordinal(place: int) -> str:
    """In words: nearest, second nearest, ..."""
    return (
        "nearest"
        if place == 0
        else f"{('second', 'third')[place - 1] if place < 3 else f'{place + 1}th'} nearest"
    )
