"""ABLR: adaptive Bayesian linear regression over features shared by all tasks (Perrone et al.,
NeurIPS 2018), and with Hyperband.

Phi (N, 50) = features of a network (two tanh layers) of configuration and epoch; each task is a
Bayesian linear regression on them with its own prior precision alpha_t and noise precision beta_t.
Network, alphas and betas maximise the sum of the tasks' log marginal likelihoods (equation 4); past
tasks share their cells, so Phi^T Phi is computed once. The target takes the geometric means of
alpha and beta. `ABLRHyperband` (Valkov et al. 2018) lets Hyperband choose epochs and the model
sample.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretune.errors import at_least
from foretune.gaussian.gp import cholesky, whiten
from foretune.searchers.gray_box.hyperband import Hyperband
from foretune.searchers.transfer.max_trial import MaxTrial, sourced
from foretune.searchers.transfer.past_curves import PastCurves
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion

WIDTH = 50
CELLS = 1000  # cells of the past that the features are trained on


@dataclass(frozen=True)
class Features:
    """Features of all cells of the pool (pool E, WIDTH), the target's precisions, and the past."""

    Phi: np.ndarray
    alpha: float
    beta: float
    past: PastCurves


class ABLR(MaxTrial):
    """Bayesian linear regression on trained features, under Max-Trial-GP-UCB; `steps` of Adam train
    the features.
    """

    name = "ablr"

    def __init__(self, eta: float = 0.25, steps: int = 120):
        super().__init__(eta)
        at_least(1, steps=steps)
        self.steps = steps

    def learn(self, study: Study, past: PastCurves) -> Features:
        """Train the shared features on the past tasks."""
        import torch
        from torch import nn

        T, n, E = past.Z.shape
        inputs = np.hstack(
            [np.repeat(past.X, E, axis=0), np.tile(np.arange(1, E + 1) / E, n)[:, None]]
        )
        some = np.random.default_rng(0).choice(n * E, min(n * E, CELLS), replace=False)
        generator = torch.Generator().manual_seed(0)
        layers = nn.Linear(inputs.shape[1], WIDTH), nn.Linear(WIDTH, WIDTH)
        net = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh())
        with torch.no_grad():
            for layer in layers:
                layer.weight.copy_(
                    torch.randn(layer.weight.shape, generator=generator)
                    / layer.weight.shape[1] ** 0.5
                )
                layer.bias.zero_()
        x = torch.as_tensor(inputs, dtype=torch.float32)
        y = torch.as_tensor(past.Z.reshape(T, -1)[:, some], dtype=torch.float32)
        log_alpha, log_beta = (nn.Parameter(v * torch.ones(T)) for v in (0.0, 3.0))
        optimizer = torch.optim.Adam([*net.parameters(), log_alpha, log_beta], lr=0.01)
        for _ in range(self.steps):
            optimizer.zero_grad()
            loss = -log_marginal(net(x[some]), y, log_alpha, log_beta).sum() / y.numel()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            Phi = net(x[: past.pool * E]).numpy().astype(float)
            return Features(Phi, float(log_alpha.mean().exp()), float(log_beta.mean().exp()), past)

    def predict(self, learned: Any, study: Study, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The target's regression at all cells, in the metric's unit."""
        past, seen = learned.past, np.isfinite(Y)
        scale = float(past.scale.mean())
        location = float(Y[seen].mean()) if seen.any() else float(past.location.mean())
        at = learned.Phi[seen.ravel()]
        A = learned.alpha * np.eye(WIDTH) + learned.beta * at.T @ at
        L = cholesky(A)
        weights = learned.beta * np.linalg.solve(A, at.T @ ((Y[seen] - location) / scale))
        variance = (whiten(L, learned.Phi.T) ** 2).sum(axis=0)
        return location + scale * (learned.Phi @ weights).reshape(Y.shape), scale * np.sqrt(
            variance
        ).reshape(Y.shape)


def log_marginal(Phi: Any, y: Any, log_alpha: Any, log_beta: Any) -> Any:
    """log p(y_t) (T,) of targets `y` (T, N) on features `Phi` (N, D): weights ~ N(0, I / alpha),
    noise variance 1 / beta.
    """
    import torch

    N, D = Phi.shape
    alpha, beta = log_alpha.exp(), log_beta.exp()
    A = alpha[:, None, None] * torch.eye(D) + beta[:, None, None] * (Phi.T @ Phi)
    L = torch.linalg.cholesky(A)
    b = beta[:, None] * (y @ Phi)  # (T, D)
    m = torch.cholesky_solve(b[:, :, None], L)[:, :, 0]
    quadratic = beta * (y**2).sum(1) - (b * m).sum(1)
    half_logdet = torch.diagonal(L, dim1=1, dim2=2).log().sum(1)
    return 0.5 * (D * log_alpha + N * log_beta - quadratic - N * np.log(2 * np.pi)) - half_logdet


class ABLRHyperband(Hyperband):
    """Hyperband that starts, in each bracket, the configuration with ABLR's largest upper
    confidence bound at the last epoch.
    """

    name = "ablr-hb"

    def __init__(self, eta: float = 3.0, optimism: float = 0.25, steps: int = 120):
        super().__init__(eta=eta)
        self.model = ABLR(optimism, steps)
        self.optimism = optimism

    def sample(self, study: Study, rng: np.random.Generator) -> Choice | None:
        """The fresh configuration that the model likes most."""
        fresh = np.flatnonzero(study.available & (study.epoch == 0))
        if not len(fresh):
            return super().sample(study, rng)
        mean, std = self.model.predicted(study)
        return int(fresh[np.argmax((mean + self.optimism * std)[fresh, -1])])

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """Hyperband's step, with the past tasks that speak for its configuration."""
        return sourced(super().suggest(study, rng), study)

    def recommend(self, study: Study) -> int | None:
        """The configuration with the model's largest mean."""
        return self.model.recommend(study)
