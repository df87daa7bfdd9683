"""Box-BO and Box-BOHB: the search is confined to the box around the past tasks' best configurations
(Perrone et al., NeurIPS 2019).

The box spans, per numeric hyperparameter, the values of the `top` best configurations of every past
task, and holds the choices that they took. Of a pool, the configurations inside remain. Box-BO then
runs a single-task Gaussian process with AT2's configuration and fidelity kernels (DeepPoly x
AccCurve) under Max-Trial-GP-UCB; Box-BOHB runs BOHB.
"""

from typing import Any, NamedTuple

import numpy as np

from foretune.errors import at_least
from foretune.gaussian.gp import Exact
from foretune.searchers.base import PerStudy, draw
from foretune.searchers.gray_box.bohb import BOHB, Density, binary_columns
from foretune.searchers.transfer.max_trial import MaxTrial, sourced
from foretune.searchers.transfer.past_curves import PastCurves
from foretune.searchers.transfer.portfolio import past_best
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion

TOP = 3  # as in the AT2 paper


def inside(study: Study, top: int) -> np.ndarray:
    """Which configurations of the pool lie in the box of the past tasks' `top` best, (n,) bool; all
    if the box would be empty.
    """
    best = past_best(study)
    chosen = {
        int(c)
        for row in best
        for c in np.argsort(-np.where(np.isnan(row), -np.inf, row))[:top]
        if np.isfinite(row[c])
    }
    if not chosen:
        return np.ones(len(study.configs), dtype=bool)
    rows = study.X[sorted(chosen)]
    within = (rows.min(axis=0) - 1e-9 <= study.X) & (rows.max(axis=0) + 1e-9 >= study.X)
    return np.asarray(within.all(axis=1))


class Kernels(NamedTuple):
    """Gram matrices of the pool (n, n) and of the epochs (E, E), and the noise variance."""

    configuration: np.ndarray
    fidelity: np.ndarray
    noise: float


class BoxBO(MaxTrial):
    """Single-task Bayesian optimisation inside the box; `top` best configurations per past task
    span it.
    """

    name = "box-bo"

    def __init__(self, eta: float = 0.25, top: int = TOP, steps: int = 30):
        super().__init__(eta)
        at_least(1, top=top, steps=steps)
        self.top, self.steps = top, steps
        self._kernels: PerStudy[Kernels] = PerStudy()

    def learn(self, study: Study, past: PastCurves) -> tuple[np.ndarray, PastCurves]:
        """The box."""
        return inside(study, self.top), past

    def candidates(self, study: Study) -> np.ndarray:
        """What is available inside the box, else anywhere."""
        within = study.available & self.learned(study)[0]
        return within if within.any() else study.available

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """A random one of the box first, then by the model."""
        if not study.started and self.candidates(study).any():
            c = int(rng.choice(np.flatnonzero(self.candidates(study))))
            return Suggestion(
                c,
                0,
                1,
                {
                    "why": "random in the box of past bests",
                    "past": self.lean(self.learned(study), study, c),
                },
            )
        return super().suggest(study, rng)

    def recommend(self, study: Study) -> int | None:
        """The largest mean among the box and what was tried."""
        mean = self.predicted(study)[0].max(axis=1)
        known = (self.learned(study)[0] | (study.epoch > 0)) & ~study.failed
        return int(np.where(known, mean, -np.inf).argmax())

    def predict(self, learned: Any, study: Study, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A single-task process on the observations."""
        c, e = np.nonzero(np.isfinite(Y))
        past = learned[1]
        if not len(c):
            return np.full(Y.shape, float(past.location.mean())), np.full(
                Y.shape, float(past.scale.mean())
            )
        location, scale = (
            float(Y[c, e].mean()),
            max(float(Y[c, e].std()), 0.1 * float(past.scale.mean())),
        )
        C, E, noise = self.kernels(study)
        z = (Y[c, e] - location) / scale
        gp = Exact.fit(C[np.ix_(c, c)] * E[np.ix_(e, e)] + noise * np.eye(len(c)), z)
        cross = (C[c][:, :, None] * E[e][:, None, :]).reshape(len(c), -1)
        prior = np.multiply.outer(np.diag(C), np.diag(E)).ravel()
        mean, variance = gp.predict(cross, prior)
        return location + scale * mean.reshape(Y.shape), scale * np.sqrt(variance).reshape(Y.shape)

    def kernels(self, study: Study) -> Kernels:
        """The kernels fitted to the first 4, 8, 16, ... observations told."""
        used = 4
        while 2 * used <= len(study.order):
            used *= 2
        used = min(used, len(study.order))

        def fit() -> Kernels:
            cells = [(c, e - 1) for c, e in study.order[:used] if np.isfinite(study.Y[c, e - 1])]
            return fitted(study, cells, self.steps)

        return self._kernels.get(study, (len(study.configs), used), fit)


def fitted(study: Study, cells: list[tuple[int, int]], steps: int) -> Kernels:
    """DeepPoly and AccCurve after `steps` of Adam on the evidence of the study's values at
    `cells`.
    """
    import torch

    from foretune.gaussian.kernels.configuration import DeepPoly, Layout
    from foretune.gaussian.kernels.fidelity import AccCurve, parameter
    from foretune.gaussian.kernels.task import positive

    configuration, fidelity, noise = DeepPoly(Layout.of(study.space)), AccCurve(), parameter(0.1)
    X = torch.as_tensor(study.X, dtype=torch.float32)
    epochs = torch.arange(1, study.max_epoch + 1) / study.max_epoch
    if len(cells) >= 4:
        c, e = (torch.as_tensor(k) for k in zip(*cells, strict=True))
        y = torch.as_tensor(study.Y[tuple(np.array(cells).T)], dtype=torch.float32)
        y = (y - y.mean()) / y.std().clamp_min(1e-6)
        optimizer = torch.optim.Adam(
            [*configuration.parameters(), *fidelity.parameters(), noise], lr=0.03
        )
        for _ in range(steps):
            optimizer.zero_grad()
            K = configuration(X[c], X[c]) * fidelity(epochs[e], epochs[e])
            L, bad = torch.linalg.cholesky_ex(K + (positive(noise) ** 2 + 1e-4) * torch.eye(len(y)))
            if int(bad):
                break
            alpha = torch.linalg.solve_triangular(L, y[:, None], upper=False)
            (0.5 * (alpha**2).sum() + torch.diagonal(L).log().sum()).backward()
            optimizer.step()
    with torch.no_grad():
        C, E = (
            configuration(X, X).numpy().astype(float),
            fidelity(epochs, epochs).numpy().astype(float),
        )
        return Kernels(C, E, float(positive(noise) ** 2 + 1e-4))


class BoxBOHB(BOHB):
    """BOHB whose configurations come from the box."""

    name = "box-bohb"

    def __init__(
        self,
        eta: float = 3.0,
        rho: float = 1 / 3,
        q: float = 0.15,
        samples: int = 64,
        widen: float = 3.0,
        top: int = TOP,
    ):
        super().__init__(eta=eta, rho=rho, q=q, samples=samples, widen=widen)
        at_least(1, top=top)
        self.top = top

    def sample(self, study: Study, rng: np.random.Generator) -> Choice | None:
        """A fresh configuration of the box by the ratio of densities, else a random one of the box,
        else of the pool.
        """
        fresh = np.flatnonzero(study.available & (study.epoch == 0) & inside(study, self.top))
        if not len(fresh):
            return draw(study, rng)
        split = None if rng.random() < self.rho else self.split(study)
        if split is None:
            return int(rng.choice(fresh))
        good, bad = (Density(study.X[ids], binary_columns(study)) for ids in split)
        return int(fresh[np.argmax(good.log(study.X[fresh]) - bad.log(study.X[fresh]))])

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """BOHB's step, with the past tasks that speak for its configuration."""
        return sourced(super().suggest(study, rng), study)
