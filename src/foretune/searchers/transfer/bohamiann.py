"""BOHAMIANN: Bayesian optimisation with a neural network sampled by stochastic-gradient Hamiltonian
Monte Carlo.

Springenberg et al., NeurIPS 2016, multi-task as in their section 5: inputs are configuration, epoch
and a learned embedding of the task; two tanh layers of 50; the chain of equation 10 (scale
adaptation during burn-in). A chain over the past tasks is run once; each decision continues it on
the past and the target's observations, half of each batch from either, and averages the states that
it visits. Predictions are made at a ladder of epochs and interpolated.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretune.errors import at_least, positive
from foretune.searchers.transfer.max_trial import MaxTrial
from foretune.searchers.transfer.past_curves import PastCurves
from foretune.study.study import Study

WIDTH, EMBEDDING, BATCH = 50, 5, 64


@dataclass(frozen=True)
class Chain:
    """The chain's state over the past (a list of tensors) and its scale estimates, inputs (cells,
    d), values (T, cells), the past.
    """

    state: list[Any]
    scales: list[Any]
    inputs: np.ndarray
    values: np.ndarray
    past: PastCurves


class Bohamiann(MaxTrial):
    """The sampled network under Max-Trial-GP-UCB: `burn_in` steps on the past, `steps` more for
    each decision, every 6th kept.
    """

    name = "bohamiann"

    def __init__(self, eta: float = 0.25, burn_in: int = 1000, steps: int = 60, rate: float = 0.01):
        super().__init__(eta)
        at_least(1, burn_in=burn_in)
        at_least(6, steps=steps)
        positive(rate=rate)
        self.burn_in, self.steps, self.rate = burn_in, steps, rate

    def learn(self, study: Study, past: PastCurves) -> Chain:
        """Burn in on the past tasks."""
        import torch

        T, n, E = past.Z.shape
        inputs = np.hstack(
            [np.repeat(past.X, E, axis=0), np.tile(np.arange(1, E + 1) / E, n)[:, None]]
        )
        generator = torch.Generator().manual_seed(0)
        state = initial(inputs.shape[1], T + 1, generator)
        scales = [torch.ones_like(p) for p in state]
        chain = Chain(state, scales, inputs, past.Z.reshape(T, -1), past)
        empty = np.empty(0, dtype=int), np.empty(0)
        list(self.walk(chain, *empty, self.burn_in, generator, adapt=True))
        return chain

    def walk(
        self,
        chain: Chain,
        cells: np.ndarray,
        y: np.ndarray,
        steps: int,
        generator: Any,
        adapt: bool,
    ) -> Any:
        """Move the chain's state in place; yields every 6th. Half of each batch are the target's
        `cells` with values `y`, if any.

        v <- v - rate^2 V^-1/2 grad - decay v + noise;  theta <- theta + v, V a running mean of
        squared gradients.
        """
        import torch

        T = len(chain.values)
        x = torch.as_tensor(chain.inputs, dtype=torch.float32)
        z, own = (
            torch.as_tensor(chain.values, dtype=torch.float32),
            torch.as_tensor(y, dtype=torch.float32),
        )
        velocity = [torch.zeros_like(p) for p in chain.state]
        total, decay = chain.values.size + len(y), 0.05
        for k in range(steps):
            task = torch.randint(T, (BATCH,), generator=generator)
            cell = torch.randint(len(x), (BATCH,), generator=generator)
            truth = z[task, cell]
            if len(y):
                half = BATCH // 2
                pick = torch.randint(len(y), (half,), generator=generator)
                task[:half], cell[:half] = T, torch.as_tensor(cells)[pick]
                truth = torch.cat([own[pick], truth[half:]])
            for p in chain.state:
                p.requires_grad_(True)
            log_noise = chain.state[-1]
            error = forward(chain.state, x[cell], task) - truth
            loss = (0.5 * error**2 * torch.exp(-log_noise) + 0.5 * log_noise).mean() + sum(
                0.5 * (p**2).sum() for p in chain.state[:-1]
            ) / total
            gradients = torch.autograd.grad(loss, chain.state)
            with torch.no_grad():
                for p, v, g, s in zip(chain.state, velocity, gradients, chain.scales, strict=True):
                    if adapt:
                        s.mul_(0.99).add_(0.01 * g**2)
                    step = self.rate / (s.sqrt() + 1e-3)
                    noise = (
                        torch.randn(p.shape, generator=generator)
                        * (2 * decay * self.rate * step / total).sqrt()
                    )
                    v.mul_(1 - decay).add_(noise - self.rate * step * g)
                    p.requires_grad_(False).add_(v)
            if k % 6 == 5:
                yield [p.clone() for p in chain.state]

    def predict(self, learned: Any, study: Study, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and spread over the states that the chain visits from the past's last one."""
        import torch

        past = learned.past
        seen, E = np.isfinite(Y), Y.shape[1]
        scale = float(past.scale.mean())
        location = (
            float(Y[seen].mean() - scale * past.mean[: past.pool][seen].mean())
            if seen.any()
            else float(past.location.mean())
        )
        cells = np.flatnonzero(seen.ravel())
        chain = Chain(
            [p.clone() for p in learned.state], learned.scales, learned.inputs, learned.values, past
        )
        generator = torch.Generator().manual_seed(1 + study.spent)
        ladder = np.unique(np.geomspace(1, E, 12).round().astype(int)) - 1
        at = torch.as_tensor(
            learned.inputs.reshape(-1, E, learned.inputs.shape[1])[: past.pool][:, ladder],
            dtype=torch.float32,
        )
        task = torch.full((at.shape[0] * at.shape[1],), len(learned.values))
        draws = []
        for state in self.walk(
            chain, cells, (Y[seen] - location) / scale, self.steps, generator, adapt=False
        ):
            with torch.no_grad():
                draws.append(
                    forward(state, at.reshape(-1, at.shape[2]), task).numpy().reshape(at.shape[:2])
                )
        mean, std = np.mean(draws, axis=0), np.std(draws, axis=0) + 1e-3
        whole = [
            np.stack([np.interp(np.arange(E), ladder, row) for row in part]) for part in (mean, std)
        ]
        return location + scale * whole[0], scale * whole[1]


def initial(width: int, tasks: int, generator: Any) -> list[Any]:
    """Weights and biases of the layers, the tasks' embeddings, and the log noise variance last."""
    import torch

    sizes = [(WIDTH, width + EMBEDDING), (WIDTH, WIDTH), (1, WIDTH)]
    layers = [
        t
        for a, b in sizes
        for t in (torch.randn(a, b, generator=generator) / b**0.5, torch.zeros(a))
    ]
    embedding = 0.1 * torch.randn(tasks, EMBEDDING, generator=generator)
    return [*layers, embedding, torch.tensor(-2.0)]


def forward(state: list[Any], x: Any, task: Any) -> Any:
    """The network's output (B,) for inputs `x` (B, d) of tasks (B,)."""
    import torch

    W1, b1, W2, b2, W3, b3, embedding, _ = state
    h = torch.tanh(torch.cat([x, embedding[task]], dim=1) @ W1.T + b1)
    return (torch.tanh(h @ W2.T + b2) @ W3.T + b3)[:, 0]
