"""Bayesian optimisation with a prior that is estimated from the past tasks: two plain methods, as
marks to beat.

`EmpiricalPrior` (Wang, Kim and Kaelbling, NeurIPS 2018; HyperBO) sees a configuration's best value
only: mean and covariance (n, n) over past tasks, each task at location 0 and scale 1; every
configuration is trained to the end, the next one is the one with the largest expected improvement.
`TaskWeights` sees whole curves: the target is the past tasks' mean plus their deviations B^T w with
w ~ N(0, I), whose posterior is exact; one epoch at a time by expected improvement at the last
epoch.
"""

import numpy as np

from foretune.errors import BadInput, positive
from foretune.gaussian.acquisition import expected_improvement
from foretune.gaussian.gp import Exact
from foretune.searchers.base import USED_UP, Searcher, adopting, at_random
from foretune.searchers.gray_box.hyperband import best_paused
from foretune.searchers.transfer.max_trial import shares, sourced, support
from foretune.searchers.transfer.past_curves import PastCurves, learned_from_past
from foretune.searchers.transfer.units import in_past_unit
from foretune.study.study import Study, Suggestion


class WithPast(Searcher):
    """A searcher that reads past curves as they are."""

    def past(self, study: Study) -> PastCurves:
        """The study's past. Raises `BadInput` without past tasks."""
        if study.past is None or not study.past.tasks:
            raise BadInput(
                f"{self.name} starts from past tasks and there are none: give a meta-dataset, "
                "or take --method hyperband"
            )
        return learned_from_past(study, "past", lambda past: past)


class EmpiricalPrior(WithPast):
    """Expected improvement under the past tasks' sample mean and covariance of best values; full
    trainings.
    """

    name = "empirical-prior"

    def __init__(self, noise: float = 0.05):
        positive(noise=noise)
        self.noise = noise  # in standard deviations between configurations

    def posterior(self, study: Study) -> tuple[np.ndarray, np.ndarray, float, PastCurves]:
        """Mean, standard deviation (n,) and incumbent of the standardised best values, and the
        past.
        """
        past = self.past(study)
        best = past.Z.max(axis=2)[:, : past.pool]  # (T, n)
        best = (best - best.mean(axis=1, keepdims=True)) / np.maximum(
            best.std(axis=1, keepdims=True), 1e-9
        )
        mean, D = best.mean(axis=0), best - best.mean(axis=0)
        S = D.T @ D / max(1, len(D) - 1)
        S = 0.9 * S + 0.1 * np.diag(np.diag(S) + 0.1)  # few tasks: shrunk towards independence
        Y = in_past_unit(study)[0]
        own = np.where(np.isfinite(Y), Y, -np.inf).max(axis=1)
        done = np.flatnonzero(np.isfinite(own) & ((study.epoch >= study.max_epoch) | study.failed))
        if not len(done):
            return mean, np.sqrt(np.diag(S)), -np.inf, past
        y = own[done]
        spread = y.std() if len(y) > 2 else 0.0
        location, scale = (
            y.mean() - past.scale.mean() * mean[done].mean(),
            max(float(past.scale.mean()), 1e-9),
        )
        if spread > 0 and mean[done].std() > 0.05:
            scale = spread / float(np.sqrt(mean[done].var() + np.diag(S)[done].mean()))
            location = y.mean() - scale * mean[done].mean()
        z = (y - location) / scale
        gp = Exact.fit(S[np.ix_(done, done)] + self.noise**2 * np.eye(len(done)), z - mean[done])
        shift, variance = gp.predict(S[done], np.diag(S))
        return mean + shift, np.sqrt(variance), float(z.max()), past

    @adopting
    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """A paused trial to its end, else the configuration with the largest expected improvement,
        fully.
        """
        paused = best_paused(study, "finish what was begun")
        if paused is not None:
            return sourced(paused, study)
        free = study.available
        if not free.any():
            return at_random(study, rng, study.max_epoch, USED_UP)
        mean, std, best, past = self.posterior(study)
        value = mean if best == -np.inf else expected_improvement(mean, std, best)
        c = int(np.where(free, value, -np.inf).argmax())
        lean = shares(past.Z[:, c].max(axis=1) - past.Z.max(axis=2).mean(axis=1), past.tasks)
        return Suggestion(
            c,
            int(study.epoch[c]),
            study.max_epoch,
            {
                "why": "largest expected improvement when fully trained",
                "past": lean or support(study, c),
            },
        )


class TaskWeights(WithPast):
    """target = mean + B^T w, w ~ N(0, I): a linear model in the past tasks' raw curves; expected
    improvement at the last epoch.

    With `budgeted`, the last epoch that the remaining budget can reach counts instead.
    """

    name = "task-weights"

    def __init__(self, noise: float = 0.02, budgeted: bool = False):
        positive(noise=noise)
        # in the metric's unit, by the past's spread
        self.noise, self.budgeted = noise, budgeted

    def posterior(
        self, study: Study, last: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, PastCurves]:
        """Mean and standard deviation (n,) at epochs `last` (n,) in the study's unit, the weights
        (T,), and the past.
        """
        past = self.past(study)
        raw = past.raw
        unit = float(raw.std()) or 1.0
        mean, B = raw.mean(axis=0), raw - raw.mean(axis=0)  # (n, E), (T, n, E)
        Y, metric = in_past_unit(study)
        seen = np.isfinite(Y)
        A = B[:, seen] / (self.noise * unit)  # (T, N)
        precision = np.eye(len(B)) + A @ A.T
        covariance = np.linalg.inv(precision)
        w = covariance @ A @ ((Y[seen] - mean[seen]) / (self.noise * unit))
        rows = np.arange(past.pool)
        at = B[:, rows, last]  # (T, n)
        std = np.sqrt(np.maximum(np.einsum("tn,ts,sn->n", at, covariance, at), 1e-12))
        expected = metric.to_study(mean[rows, last] + w @ at)
        return expected, std * metric.factor, w, past

    @adopting
    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The next epoch of the configuration with the largest expected improvement."""
        free = study.available
        if not free.any():
            return at_random(study, rng, 1, USED_UP)
        reach = (
            study.epoch + study.remaining
            if self.budgeted
            else np.full(len(study.configs), study.max_epoch)
        )
        last = np.clip(reach, 1, study.max_epoch) - 1
        mean, std, w, past = self.posterior(study, last)
        Y, metric = in_past_unit(study)
        seen = Y[np.isfinite(Y)]
        best = metric.to_study(float(seen.max())) if len(seen) else None
        value = mean if best is None else expected_improvement(mean, std, best)
        c = int(np.where(free, value, -np.inf).argmax())
        start = int(study.epoch[c])
        because = {
            "why": "largest expected improvement",
            "past": shares(1 / len(w) + w - w.mean(), past.tasks),
        }
        return Suggestion(c, start, start + 1, because)

    def recommend(self, study: Study) -> int | None:
        """The configuration with the largest expected value at the last epoch."""
        mean, _, _, _ = self.posterior(study, np.full(len(study.configs), study.max_epoch - 1))
        return int(np.where(study.failed, -np.inf, mean).argmax())
