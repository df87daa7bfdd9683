"""AT2: Amortized Auto-Tuning (Xiao, Xing and Neiswanger, NeurIPS 2021 meta-learning), with exact
inference by default.

A multi-task multi-fidelity Gaussian process (`foretune.gaussian.multitask`) over task x
configuration x epoch; by default OptiLand x DeepPoly x AccCurve as in the paper. Each step:
Max-Trial-GP-UCB, the configuration with the largest mean + eta std over its epochs not yet
observed, trained for its next epoch. Recommended is the configuration with the largest posterior
mean.

Differences from the paper: inference is exact (`inference` = "variational" is the published one,
`at2_variational`); D is the one of the text (`distance` = "centred" is that of the published code).
With exact inference the task Gram matrix is repaired to be positive semi-definite; the target's
constant mean starts at the past tasks' average with their spread as its prior, where the paper
starts it at 0; OptiLand's U, which full grids do not identify, is set so that an unseen target is
as like the past tasks as they are like each other; epoch 0 is not observed. Holes in past curves
are filled first.
"""

from typing import Any

import numpy as np

from foretune.errors import BadInput, at_least, one_of
from foretune.searchers.base import PerStudy
from foretune.searchers.transfer.max_trial import MaxTrial, shares
from foretune.searchers.transfer.past_curves import PastCurves
from foretune.study.study import Study

INFERENCES = ("exact", "variational")


class AT2(MaxTrial):
    """Max-Trial-GP-UCB under the multi-task multi-fidelity process; `task`, `configuration` and
    `fidelity` name the kernels.

    `inference` is "exact" or, as published, "variational" (`foretune.searchers.transfer.
    at2_variational`): then the process has `inducing` rows of past tasks, is trained for `epochs`,
    and for `refinements` more after each observation. `distance` says what OptiLand's D compares:
    values "normalised" and centred (the paper's text) or only "centred" (its published code).

    The trained kernels are a cache: a fresh searcher trains them again from the past tasks. Task
    kernels that learn their tasks (all but OptiLand) place the target by the evidence of its
    observations, from their trained mean.
    """

    name = "at2"

    def __init__(
        self,
        task: str = "OptiLand",
        configuration: str = "DeepPoly",
        fidelity: str = "AccCurve",
        eta: float = 0.25,
        steps: int = 80,
        inference: str = "exact",
        distance: str = "normalised",
        inducing: int = 1000,
        epochs: int = 200,
        refinements: int = 3,
    ):
        super().__init__(eta)
        from foretune.gaussian.kernels.configuration import CONFIGURATION_KERNELS
        from foretune.gaussian.kernels.fidelity import FIDELITY_KERNELS
        from foretune.gaussian.kernels.task import DISTANCES, TASK_KERNELS
        from foretune.gaussian.variational import Schedule

        tables: tuple[tuple[str, str, dict[str, Any]], ...] = (
            ("task", task, TASK_KERNELS),
            ("configuration", configuration, CONFIGURATION_KERNELS),
            ("fidelity", fidelity, FIDELITY_KERNELS),
        )
        for part, name, known in tables:
            if name not in known:
                raise BadInput(f"unknown {part} kernel {name!r}; there are {', '.join(known)}")
        one_of(INFERENCES, inference=inference)
        one_of(tuple(DISTANCES), distance=distance)
        at_least(1, steps=steps, inducing=inducing, epochs=epochs, refinements=refinements)
        self.kernels, self.steps = (task, configuration, fidelity), steps
        self.inference, self.distance, self.refinements = inference, distance, refinements
        self.schedule = Schedule(inducing=inducing, epochs=epochs)
        self._online: PerStudy[Any] = PerStudy()

    def learn(self, study: Study, past: PastCurves) -> Any:
        """The process trained on the study's past: `Trained`, or `at2_variational.Offline`."""
        if self.inference == "exact":
            return Trained(study, past, self.kernels, self.steps, self.distance)
        from foretune.searchers.transfer.at2_variational import Offline

        return Offline(study, past, self.kernels, self.schedule, self.distance)

    def predict(self, learned: Any, study: Study, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The target's posterior; the variational one knows nothing of steps under way."""
        if self.inference == "exact":
            mean, std = learned.posterior(Y)
            return mean, std
        from foretune.searchers.transfer.at2_variational import Online

        online = self._online.get(study, None, lambda: Online(learned, self.refinements))
        online.sync(study.order, self.observed(study)[0], study.failed)
        mean, std = online.posterior()
        return mean, std

    def lean(self, learned: Any, study: Study, config_id: int) -> dict[str, float]:
        """The task kernel between the target, as placed by its observations, and the past tasks."""
        if self.inference == "variational":
            self.predicted(study)
            online = self._online.get(study, None, lambda: None)
            return shares(online.likeness(), learned.past.tasks)
        return shares(learned.place(self.observed(study)[0])[-1, :-1], learned.past.tasks)


class Trained:
    """The process after training on past curves: standardisation, factors, and how the target is
    placed among the tasks.
    """

    def __init__(
        self,
        study: Study,
        past: PastCurves,
        kernels: tuple[str, str, str],
        steps: int,
        distance: str = "normalised",
    ):
        import torch

        from foretune.gaussian.kernels.configuration import Layout
        from foretune.gaussian.kernels.task import (
            OptiLand,
            landscape_distances,
            positive,
            power_of_ten,
        )
        from foretune.gaussian.multitask import Grid, Product, train

        self.past, self.pool = past, past.pool
        # (T, n, E), holes filled
        self.raw = past.Z * past.scale[:, None, None] + past.location[:, None, None]
        T, _, E = self.raw.shape
        self.unit = float(self.raw.std()) or 1.0
        self.means = self.raw.mean(axis=(1, 2))
        Y = (self.raw - self.means[:, None, None]) / self.unit
        self.D, self.R = np.full((T + 1, T + 1), 0.5), np.zeros((T + 1, T + 1))
        self.distance = distance
        # what D compares: min-max normalisation needs no unit, centring does
        self.landscape = self.raw / (power_of_ten(self.raw) if distance == "centred" else 1.0)
        self.D[:T, :T], self.R[:T, :T] = landscape_distances(self.landscape, distance)
        self.D[T, T] = 0.0
        torch.manual_seed(0)
        self.model = Product(Layout.of(study.space), T + 1, *kernels)
        own = slice(None) if self.model.task.learns_tasks else slice(0, T)
        self.trace = train(self.model, self.D[own, own], self.R[own, own], past.X, Y, steps)
        if isinstance(self.model.task, OptiLand):
            self.model.task.start_cold(torch.as_tensor(self.D[own, own], dtype=torch.float32))
        with torch.no_grad():
            K_C = (
                self.model.configuration(*[torch.as_tensor(past.X, dtype=torch.float32)] * 2)
                .numpy()
                .astype(float)
            )
            scaled = torch.arange(1, E + 1) / E
            K_E = self.model.fidelity(scaled, scaled).numpy().astype(float)
            noise = float(positive(self.model.noise) ** 2 + 1e-6)
        self.grid = Grid.of(K_C, K_E, noise, Y)
        self.location, self.spread = float(self.means.mean()), float(self.means.std() / self.unit)
        self._placed: tuple[bytes, np.ndarray] | None = None  # of the observations asked for last

    def gram(self, pool: np.ndarray) -> np.ndarray:
        """The task Gram matrix (T + 1, T + 1) given the target's observations `pool` (pool, E), NaN
        where none.
        """
        import torch

        from foretune.gaussian.kernels.task import power_of_ten, target_distances

        T = len(self.raw)
        own = pool / (power_of_ten(self.raw) if self.distance == "centred" else 1.0)
        D, matched = target_distances(self.landscape[:, : self.pool], own, self.distance)
        self.D[T, :T] = self.D[:T, T] = D
        self.R[T, :] = self.R[:, T] = matched / self.raw[0].size
        with torch.no_grad():
            both = [torch.as_tensor(a, dtype=torch.float32) for a in (self.D, self.R)]
            return np.asarray(self.model.task(*both).numpy().astype(float))

    def posterior(self, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and standard deviation (pool, E) in the metric's unit, given observations
        `pool`, NaN where none.
        """
        c, e, y = self.observed(pool)
        mean, std = self.grid.target(self.place(pool)).posterior(c, e, y, offset=self.spread)
        return mean[: self.pool] * self.unit + self.location, std[: self.pool] * self.unit

    def observed(self, pool: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The target's cells (configuration, epoch) and standardised values, (N,) each."""
        c, e = np.nonzero(np.isfinite(pool))
        return c, e, (pool[c, e] - self.location) / self.unit

    def place(self, pool: np.ndarray) -> np.ndarray:
        """The task Gram matrix (T + 1, T + 1) with the target where its observations `pool`
        put it.
        """
        key = pool.tobytes()
        if self._placed is None or self._placed[0] != key:
            K_T, (c, e, y) = self.gram(pool), self.observed(pool)
            if self.model.task.learns_tasks and len(y):
                K_T = placed(K_T, self.grid, c, e, y)
            self._placed = (key, K_T)
        return self._placed[1]


def placed(K_T: np.ndarray, grid: Any, c: np.ndarray, e: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The Gram matrix with the target's row leaning to the past task that makes its observations
    most probable.

    Candidates: the row as trained (the average task), and half-way rows towards each past task; a
    convex combination of the Gram matrix's own rows, so it stays positive semi-definite.
    """
    T = len(K_T) - 1
    best, chosen = -np.inf, K_T
    # the newest observations are enough to tell tasks apart
    last = slice(max(0, len(y) - 30), None)
    for t in [-1, *range(T)]:
        B = np.eye(T + 1)
        if t >= 0:
            B[T, T], B[T, t] = 0.5, 0.5
        trial = B @ K_T @ B.T
        value = grid.target(trial).log_marginal(c[last], e[last], y[last])
        if value > best:
            best, chosen = value, trial
    return chosen
