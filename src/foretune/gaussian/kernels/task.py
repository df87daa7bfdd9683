"""Task kernels of AT2 (section 3.3.1): how much one tuning task says about another.

Notation: S tasks, the target last; G (S, S) = the kernel's Gram matrix. `OptiLand` compares
observations; the others learn an entry or an embedding per task and know nothing of a task that
they were not trained with: its embedding starts at the mean of the others'.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from foretune.gaussian.gp import nearest_psd


def positive(raw: Tensor) -> Tensor:
    """softplus: an unconstrained parameter as a positive one."""
    return nn.functional.softplus(raw)


def inverse_softplus(value: float) -> float:
    """The raw parameter of a positive value."""
    return float(np.log(np.expm1(value)))


def landscape_distances(
    Y: np.ndarray, distance: str = "normalised"
) -> tuple[np.ndarray, np.ndarray]:
    """Distance D and share of matched cells R between tasks, both (S, S), from curves `Y` (S, n,
    E), NaN where unobserved.

    Matched cells are those that both tasks have observed; their values are made comparable per task
    as `distance` says (`DISTANCES`; the text's is the equation before 4). At most one matched cell
    gives D = 1/2; D = 0 on the diagonal.
    """
    alike = DISTANCES[distance]
    S = len(Y)
    flat = Y.reshape(S, -1)
    seen = np.isfinite(flat)
    D, R = np.full((S, S), 0.5), np.zeros((S, S))
    for i in range(S):
        D[i, i], R[i, i] = 0.0, seen[i].mean()
        for j in range(i):
            both = seen[i] & seen[j]
            R[i, j] = R[j, i] = both.mean()
            if both.sum() > 1:
                a, b = alike(flat[i, both]), alike(flat[j, both])
                D[i, j] = D[j, i] = float(np.mean((a - b) ** 2))
    return D, R


def normalised(values: np.ndarray) -> np.ndarray:
    """Min-max to [0, 1], then zero mean; a constant vector gives zeros."""
    spread = values.max() - values.min()
    scaled = (values - values.min()) / spread if spread > 0 else np.zeros_like(values)
    return np.asarray(scaled - scaled.mean())


def centred(values: np.ndarray) -> np.ndarray:
    """Zero mean, in the metric's own unit."""
    return np.asarray(values - values.mean())


# what D compares: the paper's text, and what the published code does
DISTANCES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "normalised": normalised,
    "centred": centred,
}


def target_distances(
    past: np.ndarray, target: np.ndarray, distance: str = "normalised"
) -> tuple[np.ndarray, int]:
    """D (T,) and the number of matched cells between a target's curves `target` (n, E), NaN where
    unobserved, and full ones of T past tasks `past` (T, n, E).
    """
    alike, seen = DISTANCES[distance], np.isfinite(target)
    D = np.full(len(past), 0.5)
    if seen.sum() > 1:
        own = alike(target[seen])
        D = np.array([float(np.mean((own - alike(curves[seen])) ** 2)) for curves in past])
    return D, int(seen.sum())


def power_of_ten(values: np.ndarray) -> float:
    """The power of ten that the largest absolute value divided by is above .1 and at most 1."""
    most = float(np.abs(values).max())
    return 10.0 ** float(np.ceil(np.log10(most) - 1e-9)) if most > 0 else 1.0


class OptiLand(nn.Module):
    """s exp(-D / (xi gamma)^2), gamma = U / (1 + (U - 1) R) (equation 4); xi > 0, U > 1 and s > 0
    are learned.

    Not a positive semi-definite function once tasks are partially observed (measured: smallest
    eigenvalue down to -2.7), as D is then a different metric for each pair. `gram` therefore
    returns the nearest positive semi-definite matrix (negative eigenvalues set to 0, the diagonal
    restored).
    """

    learns_tasks = False

    def __init__(self, tasks: int):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(inverse_softplus(1.0)))
        self.length = nn.Parameter(torch.tensor(inverse_softplus(0.5)))
        self.bound = nn.Parameter(torch.tensor(inverse_softplus(0.5)))

    def plain(self, D: Tensor, R: Tensor) -> Tensor:
        """The kernel as the paper has it, without repair."""
        U = 1 + positive(self.bound)
        gamma = U / (1 + (U - 1) * R)
        return positive(self.scale) * torch.exp(-D / (positive(self.length) * gamma) ** 2)

    def start_cold(self, D: Tensor) -> None:
        """Set U by the past: a target without matches (D = 1/2, R = 0) is as like a past task as
        those, of distances D (T, T), on average are.

        Past full grids match everywhere (R = 1, gamma = 1), so their likelihood does not depend on
        U: left at its start, a length scale learned from their small distances would leave nothing
        to transfer at D = 1/2. U stays as it is for fewer than two tasks.
        """
        T = len(D)
        if T < 2:
            return
        with torch.no_grad():
            length = positive(self.length)
            alike = torch.exp(-D / length**2)
            mean = ((alike.sum() - T) / (T * (T - 1))).clamp(1e-3, 0.999)
            U = float(torch.sqrt(-0.5 / torch.log(mean)) / length)
            self.bound.fill_(inverse_softplus(min(max(U - 1, 1e-3), 50.0)))

    def forward(self, D: Tensor, R: Tensor) -> Tensor:
        """The Gram matrix (S, S); the repair is a constant for the gradient."""
        K = self.plain(D, R)
        repaired = torch.as_tensor(nearest_psd(K.detach().numpy()), dtype=K.dtype)
        return K + (repaired - K.detach())


class MTBO(nn.Module):
    """A free covariance matrix, L L^T of a learned lower triangle (Swersky et al., NeurIPS
    2013).
    """

    learns_tasks = True

    def __init__(self, tasks: int):
        super().__init__()
        start = 0.9 * torch.ones(tasks, tasks) + 0.1 * torch.eye(tasks)
        self.lower = nn.Parameter(torch.linalg.cholesky(start))

    def forward(self, D: Tensor, R: Tensor) -> Tensor:
        """The Gram matrix; the observations' distances are not used."""
        L = torch.tril(self.lower)
        return L @ L.T + 1e-6 * torch.eye(len(L))


class DeepLinear(nn.Module):
    """A learned embedding z per task and the linear kernel s (z . z' + c)."""

    learns_tasks = True
    power = 1

    def __init__(self, tasks: int, width: int = 4):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(tasks, width, generator=generator) / width**0.5
        start[-1] = start[:-1].mean(0) if tasks > 1 else start[-1]
        self.embedding = nn.Parameter(start)
        self.offset = nn.Parameter(torch.tensor(inverse_softplus(1.0)))
        self.scale = nn.Parameter(torch.tensor(inverse_softplus(0.5)))

    def forward(self, D: Tensor, R: Tensor) -> Tensor:
        """The Gram matrix; the observations' distances are not used."""
        inner = self.embedding @ self.embedding.T + positive(self.offset)
        return positive(self.scale) * inner**self.power


class DeepPoly(DeepLinear):
    """The same embedding under a second-order polynomial kernel s (z . z' + c)^2."""

    power = 2


TASK_KERNELS: dict[str, type[nn.Module]] = {
    "OptiLand": OptiLand,
    "MTBO": MTBO,
    "DeepLinear": DeepLinear,
    "DeepPoly": DeepPoly,
}
