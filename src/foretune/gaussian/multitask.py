"""AT2's multi-task multi-fidelity Gaussian process, trained and conditioned exactly.

Notation: T past tasks, n configurations, E epochs; K = K_T (x) K_C (x) K_E (equation 3), noise s^2;
past curves Y (T, n, E) are full grids (holes are filled before). With eigenpairs (t, Q_T), (c,
Q_C), (l, Q_E) of the three factors,

    log p(Y) and its gradient in each factor cost one eigendecomposition per factor and products of
    its size; given Y, the target's curves are Gaussian with mean
    (k^T (x) K_C (x) K_E) (K + s^2 I)^-1 Y and covariance (Q_C (x) Q_E) diag(d) (Q_C (x) Q_E)^T,
    d_cl = k_** c l - sum_t (k^T Q_T)_t^2 (c l)^2 / (t c l + s^2),

where k (T,) is the task kernel between target and past, k_** its own. So the target's N
observations need N x N algebra only.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from foretune.gaussian.gp import KroneckerGP, cholesky, kron_matvec, whiten
from foretune.gaussian.kernels.configuration import CONFIGURATION_KERNELS, Layout
from foretune.gaussian.kernels.fidelity import FIDELITY_KERNELS, parameter
from foretune.gaussian.kernels.task import TASK_KERNELS, positive

KEPT = 1e-7  # modes of the target's prior below this share of the largest are left out


class Product(nn.Module):
    """The three kernels and the noise (standard deviation, in units of the standardised values)."""

    def __init__(
        self,
        layout: Layout,
        tasks: int,
        task: str = "OptiLand",
        configuration: str = "DeepPoly",
        fidelity: str = "AccCurve",
    ):
        super().__init__()
        self.task = TASK_KERNELS[task](tasks)
        self.configuration = CONFIGURATION_KERNELS[configuration](layout)
        self.fidelity = FIDELITY_KERNELS[fidelity]()
        self.noise = parameter(0.1)

    def factors(
        self, D: Tensor, R: Tensor, X: Tensor, epochs: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gram matrices of tasks (S, S), configurations (n, n) and epochs (E, E)."""
        return self.task(D, R), self.configuration(X, X), self.fidelity(epochs, epochs)


def factor_gradients(
    grams: list[np.ndarray], noise: float, y: np.ndarray
) -> tuple[float, list[np.ndarray], float]:
    """log p(y) for `y` on a full grid, its gradient with respect to each factor, and with respect
    to the noise variance.

    d/dK_i = (M_i - Q_i diag(w_i) Q_i^T) / 2: M_i contracts A = (K + s^2 I)^-1 y with itself through
    the other factors, w_i sums the other factors' eigenvalue products over the spectrum.
    """
    fit = KroneckerGP.fit(grams, y, noise)
    inverse, A = 1.0 / fit.spectrum, fit.weights
    gradients = []
    for i, Q in enumerate(fit.vectors):
        B, w = A, inverse
        for k, other in enumerate(grams):
            if k != i:
                B = np.moveaxis(np.tensordot(other, B, axes=(1, k)), 0, k)
                w = w * fit.values[k].reshape([-1 if j == k else 1 for j in range(len(grams))])
        rest = tuple(k for k in range(len(grams)) if k != i)
        M = np.tensordot(A, B, axes=(rest, rest))
        gradients.append(0.5 * (M - (Q * w.sum(axis=rest)) @ Q.T))
    by_noise = 0.5 * (float((A**2).sum()) - float(inverse.sum()))
    return fit.log_marginal, gradients, by_noise


def train(
    model: Product,
    D: np.ndarray,
    R: np.ndarray,
    X: np.ndarray,
    Y: np.ndarray,
    steps: int = 80,
    rate: float = 0.05,
) -> list[float]:
    """Maximise the exact marginal likelihood of standardised, centred past curves `Y` (T, n, E)
    with Adam.

    Returns log p(Y) per cell after each step. A step whose factors cannot be decomposed ends the
    training with what was reached.
    """
    T, _, E = Y.shape
    tensors = [torch.as_tensor(a, dtype=torch.float32) for a in (D, R, X, np.arange(1, E + 1) / E)]
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    trace = []
    for _ in range(steps):
        optimizer.zero_grad()
        K_T, K_C, K_E = model.factors(*tensors)
        factors, variance = [K_T[:T, :T], K_C, K_E], positive(model.noise) ** 2 + 1e-6
        grams = [f.detach().numpy().astype(float) for f in factors]
        if not all(np.isfinite(g).all() for g in grams):
            break
        value, gradients, by_noise = factor_gradients(grams, float(variance.detach()), Y)
        surrogate = sum(
            (f * torch.as_tensor(g, dtype=f.dtype)).sum()
            for f, g in zip(factors, gradients, strict=True)
        )
        (-(surrogate + variance * by_noise) / Y.size).backward()
        optimizer.step()
        trace.append(value / Y.size)
    return trace


@dataclass(frozen=True)
class Grid:
    """Trained factors of the past on numpy's side: Gram matrices of configurations and epochs with
    eigenpairs, noise variance, curves.
    """

    C: tuple[np.ndarray, np.ndarray]
    E: tuple[np.ndarray, np.ndarray]
    noise: float
    Y: np.ndarray  # (T, n, E), standardised and centred
    projected: np.ndarray  # Y in the eigenbasis of C and E, (T, n, E)

    @classmethod
    def of(cls, K_C: np.ndarray, K_E: np.ndarray, noise: float, Y: np.ndarray) -> "Grid":
        """Decompose the factors that do not change while the target is tuned."""
        c, Q_C = np.linalg.eigh((K_C + K_C.T) / 2)
        l, Q_E = np.linalg.eigh((K_E + K_E.T) / 2)  # noqa: E741  (the module's notation)
        return cls(
            (np.maximum(c, 0), Q_C),
            (np.maximum(l, 0), Q_E),
            noise,
            Y,
            np.einsum("tce,ci,ej->tij", Y, Q_C, Q_E, optimize=True),
        )

    def target(self, K_T: np.ndarray) -> "Target":
        """The target's prior given the past; `K_T` (T + 1, T + 1) has the target last."""
        (c, Q_C), (l, Q_E) = self.C, self.E  # noqa: E741
        t, Q_T = np.linalg.eigh((K_T[:-1, :-1] + K_T[:-1, :-1].T) / 2)
        t, along = np.maximum(t, 0), K_T[-1, :-1] @ Q_T
        cl = np.multiply.outer(c, l)
        spectrum = np.multiply.outer(t, cl) + self.noise  # (T, n, E)
        d = np.maximum(K_T[-1, -1] * cl - np.tensordot(along**2, cl**2 / spectrum, axes=1), 0.0)
        pushed = np.einsum(
            "t,tij->ij", along, cl * np.tensordot(Q_T.T, self.projected, axes=1) / spectrum
        )
        return Target(Q_C @ pushed @ Q_E.T, d, Q_C, Q_E, self.noise)


@dataclass(frozen=True)
class Target:
    """The target's prior: `mean` (n, E) and covariance (Q_C (x) Q_E) diag(d) (Q_C (x) Q_E)^T."""

    mean: np.ndarray
    d: np.ndarray
    Q_C: np.ndarray
    Q_E: np.ndarray
    noise: float

    def posterior(
        self, c: np.ndarray, e: np.ndarray, y: np.ndarray, offset: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (n, E) of the latent curves given `y` (N,) at cells (c, e);
        `offset` is the standard deviation of a constant that is added to all of the target's values
        and not known.
        """
        epochs = self.d.max(axis=0) > KEPT * self.d.max()
        configs = self.d.max(axis=1) > KEPT * self.d.max()
        d, Q_C, Q_E = self.d[np.ix_(configs, epochs)], self.Q_C[:, configs], self.Q_E[:, epochs]
        prior = kron_matvec([Q_C**2, Q_E**2], d) + offset**2
        if not len(y):
            return self.mean, np.sqrt(np.maximum(prior, 0))
        modes = (Q_C[c][:, :, None] * Q_E[e][:, None, :]).reshape(len(c), -1)  # (N, modes)
        weighted = modes * d.ravel()
        K = weighted @ modes.T + offset**2 + self.noise * np.eye(len(c))
        # (N, n E)
        cross = (Q_C @ weighted.reshape(len(c), *d.shape) @ Q_E.T + offset**2).reshape(len(c), -1)
        L = cholesky(K)
        V = whiten(L, cross)
        mean = self.mean + (whiten(L, y - self.mean[c, e]) @ V).reshape(self.mean.shape)
        return mean, np.sqrt(np.maximum(prior - (V**2).sum(axis=0).reshape(prior.shape), 1e-12))

    def log_marginal(self, c: np.ndarray, e: np.ndarray, y: np.ndarray) -> float:
        """log p(y) of the target's observations."""
        modes = (self.Q_C[c][:, :, None] * self.Q_E[e][:, None, :]).reshape(len(c), -1)
        L = cholesky((modes * self.d.ravel()) @ modes.T + self.noise * np.eye(len(c)))
        rest = whiten(L, y - self.mean[c, e])
        return float(
            -0.5 * rest @ rest - np.log(np.diag(L)).sum() - 0.5 * len(y) * np.log(2 * np.pi)
        )
