"""AT2's process as published: stochastic variational inference.

Hensman et al. (UAI 2013); the AT2 paper, section 3.2.

Notation: N rows (task, configuration, epoch) with values y, M inducing rows Z, K_ZZ = L L^T, A =
L^-1 K_ZX. The inducing values are whitened, u = L v, so the prior is p(v) = N(0, I) and q(v) = N(m,
S), S = C C^T:

    q(f_i) = N(mu_t + A_i^T m,  k_ii - |A_i|^2 + |C^T A_i|^2)
    ELBO / N = mean_i E_q log N(y_i; f_i, s^2) - KL(q(v) || p(v)) / N

As in the published code: Z = random rows (1,000), a constant mean mu_t per task, SGD with rate 0.02
and momentum 0.8, batches of 1,000, 200 epochs, linear warm-up over the first 1 % of steps, then
linear decay that would reach 0 after another 300 epochs; then 3 epochs over all data after each
observation of the target (`refine`). Tasks, choices and activities of Z stay as drawn.
`foretune.gaussian.multitask` has exact inference in the same kernels: it is what the searcher runs
on, being faster and no worse.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from foretune.gaussian.kernels.configuration import Layout
from foretune.gaussian.kernels.task import positive
from foretune.gaussian.multitask import Product

JITTER = 1e-4  # on the diagonal of K_ZZ (scale 1), as gpytorch adds in single precision


@dataclass(frozen=True)
class Rows:
    """Observations: task (N,), row of a configuration (N,), epoch from 1 (N,), value (N,)."""

    task: Tensor
    config: Tensor
    epoch: Tensor
    y: Tensor

    @classmethod
    def of(cls, Y: np.ndarray) -> "Rows":
        """The finite cells of curves `Y` (T, n, E)."""
        t, c, e = np.nonzero(np.isfinite(Y))
        return cls(
            torch.as_tensor(t),
            torch.as_tensor(c),
            torch.as_tensor(e + 1),
            torch.as_tensor(Y[t, c, e]).to(torch.float32),
        )

    def __len__(self) -> int:
        return len(self.y)

    def take(self, which: Tensor) -> "Rows":
        """Some of the rows."""
        return Rows(self.task[which], self.config[which], self.epoch[which], self.y[which])

    def split(self, count: int, generator: torch.Generator) -> tuple["Rows", "Rows"]:
        """`count` rows at random, and the rest."""
        order = torch.randperm(len(self), generator=generator)
        return self.take(order[:count]), self.take(order[count:])


@dataclass(frozen=True)
class Schedule:
    """How the published code trains; `inducing` is capped at the number of rows."""

    inducing: int = 1000
    batch: int = 1000
    epochs: int = 200
    rate: float = 0.02
    momentum: float = 0.8
    later: int = 300  # further epochs that the decay is spread over

    def factor(self, step: int, per_epoch: int) -> float:
        """The learning rate's factor at a step (from 0) of `per_epoch` steps an epoch."""
        total = self.epochs * per_epoch
        warm = max(1, round(0.01 * total))
        if step < warm:
            return (step + 1) / warm
        return max(0.0, 1 - (step - warm) / (total + self.later * per_epoch - warm))


class Variational(nn.Module):
    """The process with its inducing rows.

    `D` and `R` (T, T) are the tasks' landscape distances and matched shares.
    """

    def __init__(
        self,
        layout: Layout,
        X: np.ndarray,
        D: np.ndarray,
        R: np.ndarray,
        kernels: tuple[str, str, str],
        Z: Rows,
        epochs: int,
    ):
        super().__init__()
        self.model = Product(layout, len(D), *kernels)
        self.D, self.R, self.X = (torch.as_tensor(a, dtype=torch.float32) for a in (D, R, X))
        self.grid = torch.arange(epochs + 1) / epochs  # scaled epochs 0 .. E
        self.means = nn.Parameter(torch.zeros(len(D)))
        self.Z_task = Z.task
        self.Z_x = nn.Parameter(self.X[Z.config].clone())
        self.Z_e = nn.Parameter(self.grid[Z.epoch].clone())
        free = torch.zeros(layout.dims)
        for column in layout.columns:
            if not column.one_hot:
                free[column.first : column.stop] = 1.0
        self.Z_x.register_hook(lambda gradient: gradient * free)
        self.m = nn.Parameter(torch.zeros(len(Z)))
        self.C = nn.Parameter(torch.eye(len(Z)))

    def factors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Gram matrices of the tasks (T, T) and of Z with everything.

        Z's configurations with all are (M + n, M + n), its epochs with 0 .. E (M + E + 1, same).

        One call per kernel: a kernel over many hyperparameters costs by the call, not by the size.
        """
        x, e = torch.cat([self.Z_x, self.X]), torch.cat([self.Z_e.clamp(0.0, 1.0), self.grid])
        return (
            self.model.task(self.D, self.R),
            self.model.configuration(x, x),
            self.model.fidelity(e, e),
        )

    def marginals(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Mean and variance of q(f) at the rows, (N,)."""
        K_T, K_C, K_E = self.factors()
        M = len(self.m)
        K_ZZ = K_T[self.Z_task][:, self.Z_task] * K_C[:M, :M] * K_E[:M, :M]
        c, e = M + rows.config, M + rows.epoch
        # index_select: several times as fast as [:, c], with its gradient
        K_ZX = K_T[self.Z_task].index_select(1, rows.task)
        K_ZX = K_ZX * K_C[:M].index_select(1, c) * K_E[:M].index_select(1, e)
        A = torch.linalg.solve_triangular(lower(K_ZZ), K_ZX, upper=False)
        prior = K_T[rows.task, rows.task] * K_C[c, c] * K_E[e, e]
        C = torch.tril(self.C)
        variance = prior - (A**2).sum(0) + ((C.T @ A) ** 2).sum(0)
        return self.means[rows.task] + A.T @ self.m, variance.clamp(min=1e-8)

    @property
    def noise(self) -> Tensor:
        """Variance of the observations."""
        return positive(self.model.noise) ** 2 + 1e-6

    def divergence(self) -> Tensor:
        """KL(q(v) || N(0, I))."""
        C = torch.tril(self.C)
        return (
            0.5 * ((C**2).sum() + (self.m**2).sum() - len(self.m))
            - torch.diagonal(C).abs().clamp(min=1e-8).log().sum()
        )

    def elbo(self, rows: Rows, total: int) -> Tensor:
        """ELBO per observation on `rows`, as gpytorch's VariationalELBO.

        The divergence is spread over `total` training rows.
        """
        mean, variance = self.marginals(rows)
        s2 = self.noise
        fit = -0.5 * (((rows.y - mean) ** 2 + variance) / s2 + torch.log(2 * torch.pi * s2))
        return fit.mean() - self.divergence() / total

    def similarity(self, one: Rows, two: Rows) -> Tensor:
        """Kernel correlation of paired rows, (N,)."""
        K_T, K_C, K_E = self.factors()
        M = len(self.m)

        def kernel(a: Rows, b: Rows) -> Tensor:
            return (
                K_T[a.task, b.task]
                * K_C[M + a.config, M + b.config]
                * K_E[M + a.epoch, M + b.epoch]
            )

        return kernel(one, two) / torch.sqrt(kernel(one, one) * kernel(two, two)).clamp(min=1e-12)


def lower(K: Tensor) -> Tensor:
    """Cholesky factor of K + c I; c grows tenfold until it works.

    Raises `torch.linalg.LinAlgError` beyond 10 % of the mean diagonal.
    """
    jitter, scale = JITTER, torch.diagonal(K).mean().detach().clamp(min=1e-6)
    while True:
        L, info = torch.linalg.cholesky_ex(K + jitter * scale * torch.eye(len(K)))
        if not int(info):
            return L
        jitter *= 10
        if jitter > 0.1:
            raise torch.linalg.LinAlgError(
                f"K_ZZ ({len(K)} inducing rows) is not positive definite"
            )


def variational(
    layout: Layout,
    X: np.ndarray,
    D: np.ndarray,
    R: np.ndarray,
    rows: Rows,
    epochs: int,
    kernels: tuple[str, str, str] = ("OptiLand", "DeepPoly", "AccCurve"),
    schedule: Schedule | None = None,
    seed: int = 0,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Variational:
    """Train on `rows`; `on_epoch(epoch, ELBO per observation)` is called after each.

    Training ends early if the ELBO is not finite.
    """
    schedule = schedule or Schedule()
    generator = torch.Generator().manual_seed(seed)
    Z, _ = rows.split(min(schedule.inducing, len(rows)), generator)
    torch.manual_seed(seed)
    process = Variational(layout, X, D, R, kernels, Z, epochs)
    _descend(process, rows, schedule, schedule.epochs, 0, generator, on_epoch)
    return process


def refine(
    process: Variational, rows: Rows, schedule: Schedule, done: int, epochs: int = 3, seed: int = 0
) -> None:
    """Go on after new observations: `epochs` more over all rows.

    `done` epochs were run before; they set the rate.
    """
    _descend(
        process, rows, schedule, epochs, done, torch.Generator().manual_seed(seed + done), None
    )


def _descend(
    process: Variational,
    rows: Rows,
    schedule: Schedule,
    epochs: int,
    done: int,
    generator: torch.Generator,
    on_epoch: Callable[[int, float], None] | None,
) -> None:
    optimizer = torch.optim.SGD(process.parameters(), lr=schedule.rate, momentum=schedule.momentum)
    per_epoch = -(-len(rows) // schedule.batch)
    kept = {name: value.detach().clone() for name, value in process.state_dict().items()}
    for epoch in range(epochs):
        total, order = 0.0, torch.randperm(len(rows), generator=generator)
        for k in range(per_epoch):
            batch = rows.take(order[k * schedule.batch : (k + 1) * schedule.batch])
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate * schedule.factor(
                    (done + epoch) * per_epoch + k, per_epoch
                )
            optimizer.zero_grad()
            try:
                value = process.elbo(batch, len(rows))
            except torch.linalg.LinAlgError:
                value = torch.tensor(torch.nan)
            if not torch.isfinite(value):
                process.load_state_dict(kept)
                return
            (-value).backward()
            nn.utils.clip_grad_norm_(process.parameters(), 10.0)
            optimizer.step()
            total += float(value.detach()) * len(batch)
        kept = {name: value.detach().clone() for name, value in process.state_dict().items()}
        if on_epoch:
            on_epoch(done + epoch + 1, total / len(rows))
