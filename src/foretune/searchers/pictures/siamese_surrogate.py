"""The Gaussian process of Siamese-BHO: BoTorch's `SingleTaskGP` with the nearest past tasks'
mapping as its prior mean.

Notation: N observations X (N, d) encoded, y (N,); m(x) = prior mean; r = y - m(X); G groups of
columns (one a hyperparameter).

    f(x) = m(x) + c + g(x),  g ~ GP(0, s k),  y = f + noise s v
    k = Gaussian kernel with one length scale l_g a group

The constant c lets the target be easier or harder than the past tasks that it resembles: without it
a level that is off would look like a gain everywhere that was not tried yet. c ~ N(0, s C) is
integrated out of the fit and set to its posterior mean.

Kernel hyperparameters are the best on a grid by the marginal likelihood times a prior, s integrated
out under an inverse gamma prior: first one length scale for all groups and the noise v, then each
group's own. The 3 to 30 points of a study do not determine more, and a marginal likelihood
maximised by L-BFGS through gpytorch took a hundred times as long. Everything here is in double
precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import gpytorch
import numpy as np
import torch
from botorch.acquisition import LogExpectedImprovement, UpperConfidenceBound
from botorch.models import SingleTaskGP

LENGTHS = (0.15, 0.3, 0.6, 1.2, 2.4, 4.8)  # of columns in [0, 1]
NOISES = (1e-3, 1e-2, 1e-1)  # v, in units of s
SHAPE, RATE = 2.0, 1.0  # of the inverse gamma prior of s, for y of spread about 1
LEVEL = 10.0  # C: prior variance of the constant, in units of s


class PriorMean(gpytorch.means.Mean):
    """A mapping known at `X` (n, d) as a mean function: the value itself at a known configuration,
    a Gaussian-weighted mean of them elsewhere.

    The weights' width is the median distance of a known configuration to its nearest other. With no
    known configuration it is 0 everywhere.
    """

    def __init__(self, X: np.ndarray, values: np.ndarray, constant: float = 0.0):
        super().__init__()
        self.register_buffer("X", torch.as_tensor(X, dtype=torch.double))
        self.register_buffer("values", torch.as_tensor(values, dtype=torch.double))
        self.constant = constant
        width = 1.0
        if len(X) > 1:
            gap = torch.cdist(self.X, self.X) + torch.diag(
                torch.full((len(X),), torch.inf, dtype=torch.double)
            )
            width = float(gap.min(dim=1).values.median())
        self.width = max(width, 1e-3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """m at x (..., d), (...)."""
        if not len(self.values):
            return torch.full(x.shape[:-1], self.constant, dtype=x.dtype)
        distance = torch.cdist(x.reshape(-1, x.shape[-1]), self.X)  # (k, n)
        smooth = torch.softmax(-0.5 * (distance / self.width) ** 2, dim=1) @ self.values
        nearest, which = distance.min(dim=1)
        return (
            torch.where(nearest < 1e-6, self.values[which], smooth).reshape(x.shape[:-1])
            + self.constant
        )


@dataclass(frozen=True)
class Kernel:
    """Length scales by column (d,), signal variance s, noise variance s v, constant c."""

    lengths: np.ndarray
    signal: float
    noise: float
    constant: float = 0.0


def squared_gaps(X: np.ndarray, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """Squared distances within each group of columns, (G, N, N)."""
    return np.stack([((X[:, None, g] - X[None, :, g]) ** 2).sum(axis=2) for g in map(list, groups)])


def log_evidence(
    gaps: np.ndarray, lengths: np.ndarray, noise: float, r: np.ndarray, level: float = LEVEL
) -> tuple[float, float]:
    """log p(r | l, v) up to a constant, s and c integrated out, plus the log prior of `lengths`
    (G,); and r^T K^-1 r.
    """
    n = len(r)
    K = np.exp(-0.5 * np.tensordot(1 / lengths**2, gaps, axes=1)) + noise * np.eye(n) + level
    L = np.linalg.cholesky(K)
    a = np.linalg.solve(L, r)
    quadratic = float(a @ a)
    fit = -np.log(np.diag(L)).sum() - (SHAPE + n / 2) * np.log(RATE + quadratic / 2)
    # log-normal around 0.8, a factor e either way
    prior = -0.5 * (np.log(lengths / 0.8) ** 2).sum()
    return float(fit + prior), quadratic


def fit_kernel(
    X: np.ndarray, r: np.ndarray, groups: Sequence[Sequence[int]], level: float = LEVEL
) -> Kernel:
    """The grid's best kernel for residuals `r` (N,), and the posterior mean of the constant (0
    where `level`, its C, is 0).
    """
    gaps = squared_gaps(X, groups)
    # a group that never varied keeps the common length
    moves = gaps.max(axis=(1, 2), initial=0.0) > 0
    best = max(
        (
            (log_evidence(gaps, np.full(len(groups), s), v, r, level)[0], s, v)
            for s in LENGTHS
            for v in NOISES
        ),
        key=lambda fit: fit[0],
    )
    value, common, noise = best
    lengths = np.full(len(groups), common)
    for g in np.flatnonzero(moves):
        for s in LENGTHS:
            other = lengths.copy()
            other[g] = s
            if (score := log_evidence(gaps, other, noise, r, level)[0]) > value:
                value, lengths = score, other
    _, quadratic = log_evidence(gaps, lengths, noise, r, level)
    signal = (RATE + quadratic / 2) / (SHAPE + len(r) / 2)
    constant = 0.0
    if level > 0:
        K = np.exp(-0.5 * np.tensordot(1 / lengths**2, gaps, axes=1)) + noise * np.eye(len(r))
        w = np.linalg.solve(K, np.ones(len(r)))
        constant = float(w @ r / (w.sum() + 1 / level))
    columns = np.ones(X.shape[1])
    for group, length in zip(groups, lengths, strict=True):
        columns[list(group)] = length
    return Kernel(columns, float(signal), float(signal * noise), constant)


def gaussian_process(X: np.ndarray, y: np.ndarray, mean: PriorMean, kernel: Kernel) -> SingleTaskGP:
    """BoTorch's model with this mean and these hyperparameters, ready to predict."""
    covariance = gpytorch.kernels.ScaleKernel(gpytorch.kernels.RBFKernel(ard_num_dims=X.shape[1]))
    likelihood = gpytorch.likelihoods.GaussianLikelihood(
        noise_constraint=gpytorch.constraints.GreaterThan(1e-8)
    )
    mean.constant = kernel.constant
    model = SingleTaskGP(
        torch.as_tensor(X, dtype=torch.double),
        torch.as_tensor(y, dtype=torch.double)[:, None],
        likelihood=likelihood,
        covar_module=covariance,
        mean_module=mean,
        outcome_transform=None,
    ).double()
    covariance.base_kernel.lengthscale = torch.as_tensor(kernel.lengths)
    covariance.outputscale = kernel.signal
    likelihood.noise = kernel.noise
    return model.eval()


def predict(model: SingleTaskGP, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation of f at X (m, d), (m,) each."""
    with torch.no_grad():
        posterior = model.posterior(torch.as_tensor(X, dtype=torch.double))
        return posterior.mean[:, 0].numpy(), posterior.variance[:, 0].sqrt().numpy()


def utility(model: SingleTaskGP, X: np.ndarray, kind: str, best: float, beta: float) -> np.ndarray:
    """log expected improvement over `best` ("ei"), or mean + sqrt(beta) std ("ucb"), at X (m, d),
    (m,).
    """
    chosen = (
        LogExpectedImprovement(model, best_f=best)
        if kind == "ei"
        else UpperConfidenceBound(model, beta=beta)
    )
    with torch.no_grad():
        return np.asarray(chosen(torch.as_tensor(X, dtype=torch.double)[:, None]).numpy())
