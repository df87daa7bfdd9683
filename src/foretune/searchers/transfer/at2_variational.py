"""AT2's inference as published: variational, refined after each observation of the target.

Hensman et al. (UAI 2013); the AT2 paper, sections 3.2 and 4, and its published code. The inducing
rows are cells of past tasks only. Offline they, the kernels and a constant mean per task are
trained on the past tasks' cells; after each observation of the target its row joins the data, the
task distances are computed again, and training goes on for some epochs over all rows. So the
target's values act through its distances to past tasks and through one row each among tens of
thousands. Its constant mean starts at 0, as published.

Values are in the past's unit as they are, where the largest is between .1 and 1 (accuracies), else
divided by the power of ten that brings it there. Epoch 0 is not observed. At the published size (1,000 inducing rows, 200 epochs,
then 3 a query) a pair of the paper takes about 80 minutes of a core.
"""

import copy
from dataclasses import dataclass, field

import numpy as np
import torch

from foretune.gaussian.kernels.configuration import Layout
from foretune.gaussian.kernels.task import landscape_distances, power_of_ten, target_distances
from foretune.gaussian.variational import Rows, Schedule, Variational, refine, variational
from foretune.searchers.transfer.past_curves import PastCurves
from foretune.study.study import Study


class Offline:
    """The process trained on past curves: what each study of this past starts from."""

    def __init__(
        self,
        study: Study,
        past: PastCurves,
        kernels: tuple[str, str, str],
        schedule: Schedule,
        distance: str,
    ):
        self.past, self.pool, self.schedule, self.distance = past, past.pool, schedule, distance
        raw = past.Z * past.scale[:, None, None] + past.location[:, None, None]
        self.unit = power_of_ten(raw)
        self.Y = raw / self.unit  # (T, n, E)
        T, _, E = self.Y.shape
        D, R = np.full((T + 1, T + 1), 0.5), np.zeros((T + 1, T + 1))
        D[:T, :T], R[:T, :T] = landscape_distances(self.Y, distance)
        D[T, T] = 0.0
        self.rows = Rows.of(self.Y)
        layout = Layout.of(study.space)
        self.process = variational(layout, past.X, D, R, self.rows, E, kernels, schedule)


@dataclass
class Online:
    """The process of one study, as a fold over its observations in their order: the same ones give
    the same process.

    `shown` (pool, E) are the values taken in, in the past's unit, NaN where none.
    """

    offline: Offline
    refinements: int  # epochs over all rows after each observation
    process: Variational = field(init=False)
    shown: np.ndarray = field(init=False)
    # configuration and epoch (from 1) of what was looked at, and of what was taken in
    order: list[tuple[int, int]] = field(init=False)
    rows: list[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """As before the first observation."""
        self.process = copy.deepcopy(self.offline.process)
        self.order, self.rows = [], []
        self.shown = np.full((self.offline.pool, self.offline.Y.shape[2]), np.nan)

    def sync(self, order: list[tuple[int, int]], Y: np.ndarray, failed: np.ndarray) -> None:
        """Take in the observations `order` that are new, their values from `Y` (pool, E) in the
        past's unit; a configuration that `failed` (pool,) counts as the worst value before it.

        Where values that were taken in have changed since, such as by a unit recognised later, it
        starts over.
        """
        kept = np.isfinite(self.shown) & np.isfinite(Y)
        if self.order != order[: len(self.order)] or (self.shown != Y)[kept].any():
            self.start()
        for c, e in order[len(self.order) :]:
            self.order.append((c, e))
            value = Y[c, e - 1]
            if np.isnan(value) and failed[c] and self.rows:
                value = np.nanmin(self.shown)
            if np.isfinite(value):
                self.take(c, e, value)

    def take(self, c: int, e: int, value: float) -> None:
        """Take in one value, and train on."""
        self.shown[c, e - 1] = value
        self.rows.append((c, e))
        self.place()
        schedule = self.offline.schedule
        done = schedule.epochs + self.refinements * (len(self.rows) - 1)
        refine(self.process, self.data(), schedule, done, self.refinements)

    def place(self) -> None:
        """Compute the target's distances to past tasks from the values taken in."""
        offline, target = self.offline, self.shown / self.offline.unit
        D, matched = target_distances(offline.Y[:, : offline.pool], target, offline.distance)
        T = len(D)
        near = torch.as_tensor(D, dtype=torch.float32)
        self.process.D[T, :T] = self.process.D[:T, T] = near
        share = matched / offline.Y[0].size
        self.process.R[T, :] = self.process.R[:, T] = share

    def data(self) -> Rows:
        """The past's rows, and the target's in their order."""
        past, (c, e) = self.offline.rows, np.array(self.rows).T
        values = self.shown[c, e - 1] / self.offline.unit
        own = Rows(
            torch.full((len(c),), len(self.offline.Y)),
            torch.as_tensor(c),
            torch.as_tensor(e),
            torch.as_tensor(values).to(torch.float32),
        )
        return Rows(
            *(torch.cat([getattr(part, of) for part in (past, own)]) for of in Rows.__annotations__)
        )

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (pool, E) of the target's latent curves, in the past's
        unit.
        """
        T, _, E = self.offline.Y.shape
        c, e = (torch.as_tensor(a.ravel()) for a in np.indices((self.offline.pool, E)))
        cells = Rows(torch.full((len(c),), T), c, e + 1, torch.zeros(len(c)))
        with torch.no_grad():
            mean, variance = self.process.marginals(cells)
        unit, shape = self.offline.unit, (self.offline.pool, E)
        return (
            mean.numpy().astype(float).reshape(shape) * unit,
            np.sqrt(variance.numpy().astype(float)).reshape(shape) * unit,
        )

    def likeness(self) -> np.ndarray:
        """The task kernel between the target and past tasks, (T,)."""
        with torch.no_grad():
            gram = self.process.model.task(self.process.D, self.process.R)
        return np.asarray(gram[-1, :-1].numpy().astype(float))
