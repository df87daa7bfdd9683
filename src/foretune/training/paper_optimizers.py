"""Optimizers of the autoHyper paper that torch does not have, written from their papers.

| class      | paper                                    | what `lr` is                             |
|------------|------------------------------------------|------------------------------------------|
| `AdaBound` | Luo, Xiong, Liu and Sun, ICLR 2019,      | the rate; schedules scale its bounds     |
|            | algorithm 2                              | with it                                  |
| `AdaS`     | Hosseini and Plataniotis, 2020 (arXiv    | the rate of every layer until its        |
|            | 2006.06587)                              | weights learn                            |
| `SLS`      | Vaswani et al., NeurIPS 2019, algorithm  | the first step that the line search      |
|            | 1                                        | tries                                    |

`AdaS` and `SLS` set their own rates (`SelfTuning`): after the first epoch (AdaS) or the first step
(SLS), a schedule changes nothing. Packages: `adabound` 0.0.5 (2019) and `adas` 1.1.3 (2021) are no
longer kept up, SLS has none. State is numbers and tensors only, in `state` and `param_groups`, so
it goes through a checkpoint unchanged.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Generator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from foretune.training.spectral import Gain, gains, network_rank, zero_share


def check_bounds(**limits: tuple[float, float, float]) -> None:
    """Raise ValueError for a setting outside its bounds, given as name=(value, low, high)."""
    for name, (value, low, high) in limits.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must be from {low:g} to {high:g}, but got {value:g}")


class SelfTuning(torch.optim.Optimizer):
    """An optimizer that sets its own rate, and what a trainer does for it.

    `end_epoch` is called after each epoch; with `needs_loss`, `step` is given the batch's loss as a
    function of nothing, at the weights as they then are.
    """

    needs_loss: ClassVar[bool] = False

    @abstractmethod
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient."""

    @abstractmethod
    def end_epoch(self) -> None:
        """Take notice that an epoch has ended."""


class AdaBound(torch.optim.Optimizer):
    """Adam with each weight's step clipped to a band that narrows to `final_lr` (SGD).

    Step t: band [final (1 - 1 / (gamma t + 1)), final (1 + 1 / (gamma t))] around final = final_lr
    * (current lr / first lr).
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        check_bounds(
            lr=(lr, 0, math.inf),
            final_lr=(final_lr, 0, math.inf),
            gamma=(gamma, 1e-12, 1),
            eps=(eps, 0, math.inf),
            beta1=(betas[0], 0, 1 - 1e-12),
            beta2=(betas[1], 0, 1 - 1e-12),
            weight_decay=(weight_decay, 0, math.inf),
        )
        defaults = {
            "lr": lr,
            "betas": betas,
            "final_lr": final_lr,
            "gamma": gamma,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        super().__init__(params, {**defaults, "first_lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad.add(p, alpha=group["weight_decay"])
                state = self.state[p]
                if not state:
                    state.update(step=0, mean=torch.zeros_like(p), square=torch.zeros_like(p))
                state["step"] += 1
                t = state["step"]
                state["mean"].lerp_(grad, 1 - beta1)
                state["square"].mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
                rate = group["lr"] * math.sqrt(1 - beta2**t) / (1 - beta1**t)
                final = group["final_lr"] * (
                    group["lr"] / group["first_lr"] if group["first_lr"] else 1.0
                )
                low = final * (1 - 1 / (group["gamma"] * t + 1))
                high = final * (1 + 1 / (group["gamma"] * t))
                p.sub_(
                    (rate / (state["square"].sqrt() + group["eps"])).clamp_(low, high)
                    * state["mean"]
                )


class AdaS(SelfTuning):
    """SGD with momentum whose rate in each convolution follows that layer's knowledge gain.

    After epoch t: rate <- max(beta * rate + zeta * (G_t - G_{t-1}), 0), G the mean gain of the
    layer's two unfoldings. A layer whose gain has not yet risen keeps the first rate: it has
    learned nothing that could be measured. Other weights (normalisation, fully connected, depthwise
    convolutions, which have no gain) take the rate of the convolution before them.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.03,
        beta: float = 0.8,
        zeta: float = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
    ):
        check_bounds(
            lr=(lr, 0, math.inf),
            beta=(beta, 0, 1 - 1e-12),
            zeta=(zeta, 0, math.inf),
            momentum=(momentum, 0, 1 - 1e-12),
            weight_decay=(weight_decay, 0, math.inf),
        )
        super().__init__(
            params,
            {
                "lr": lr,
                "beta": beta,
                "zeta": zeta,
                "momentum": momentum,
                "weight_decay": weight_decay,
            },
        )
        self.gains: list[Gain] = []  # at the end of the last epoch

    def rate(self, p: Tensor, group: dict[str, Any]) -> float:
        """The learning rate of weight `p` now."""
        rate: float | None = self.state[p].get("rate")
        return group["lr"] if rate is None else rate

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # type: ignore[override]
        """One update of every weight that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                grad = p.grad.add(p, alpha=group["weight_decay"])
                state = self.state[p]
                if group["momentum"]:
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(p)
                    grad = state["momentum"].mul_(group["momentum"]).add_(grad)
                p.sub_(grad, alpha=self.rate(p, group))

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Set every layer's rate from what its weights gained in the epoch that ended."""
        self.gains = []
        for group in self.param_groups:
            convs = {str(i): p for i, p in enumerate(group["params"]) if p.ndim == 4}
            if not any(p.shape[1] > 1 for p in convs.values()):
                continue
            known = self.layer_gains(convs)
            for name, gain in known.items():
                state = self.state[convs[name]]
                before = state.get("gain")
                rate = self.rate(convs[name], group)
                if before is not None and (gain > before or state["rising"]):
                    rate = max(group["beta"] * rate + group["zeta"] * (gain - before), 0.0)
                    state["rising"] = True
                state.update(gain=gain, rate=rate, rising=state.get("rising", False))
            rate = self.state[convs[next(iter(known))]]["rate"]
            for i, p in enumerate(group["params"]):
                rate = self.state[p]["rate"] if str(i) in known else rate
                self.state[p]["rate"] = rate

    def layer_gains(self, convs: dict[str, Tensor]) -> dict[str, float]:
        """Mean knowledge gain over a layer's unfoldings, of layers that have any.

        One input channel per filter is read as a depthwise layer.
        """
        layers = gains({name: (w, len(w) if w.shape[1] == 1 else 1) for name, w in convs.items()})
        self.gains += layers
        sides = {g.layer: [s for s in (g.output, g.input) if s is not None] for g in layers}
        return {name: sum(known) / len(known) for name, known in sides.items() if known}


class SLS(SelfTuning):
    """SGD whose step is found on each batch by backtracking until Armijo's condition holds.

    loss(w - eta grad) <= loss(w) - c eta |grad|^2, from eta = the last step times gamma^(1 /
    batches in an epoch), times `backtrack` until it holds (at most `tries` times, then `smallest`
    is taken). Batch normalisation sees a batch once for each evaluation of its loss, as in the
    authors' experiments. One step size for all weights.

    An epoch of fewer than `FEWEST` batches counts as that many: the authors' gamma = 2 doubles the
    step in the 390 batches of an epoch of CIFAR-10 at 128 images; doubled within 20, it outgrows
    what Armijo's condition holds back.
    """

    FEWEST: ClassVar[int] = 390  # batches between two doublings at gamma = 2, at least

    needs_loss: ClassVar[bool] = True

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        c: float = 0.1,
        backtrack: float = 0.9,
        gamma: float = 2.0,
        batches: int = 390,
        tries: int = 100,
        smallest: float = 1e-6,
        weight_decay: float = 0.0,
    ):
        check_bounds(
            lr=(lr, 0, math.inf),
            c=(c, 1e-12, 1),
            backtrack=(backtrack, 0.01, 0.999),
            gamma=(gamma, 1, 1e6),
            batches=(batches, 1, math.inf),
            tries=(tries, 1, 10_000),
            weight_decay=(weight_decay, 0, math.inf),
        )
        search = {
            "c": c,
            "backtrack": backtrack,
            "gamma": gamma,
            "batches": batches,
            "tries": tries,
            "smallest": smallest,
        }
        super().__init__(
            params, {"lr": lr, "weight_decay": weight_decay, **search, "eta": None, "seen": 0}
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> None:  # type: ignore[override]
        """Search along the gradients that the weights hold.

        `closure` returns the same batch's loss at the weights as they are.

        Weight decay counts as part of the loss. Raises ValueError without a closure.
        """
        if closure is None:
            raise ValueError("SLS.step needs the loss of the batch as a function")
        search = self.search()
        try:
            next(search)
            while True:
                search.send(float(closure()))
        except StopIteration:
            return

    @torch.no_grad()
    def search(self) -> Generator[None, float, None]:
        """The step, by a caller who computes the losses: `step` does so with its closure.

        The search sets the weights that it wants to try and yields; it is sent the batch's loss
        there, and ends with the weights of the step. So a caller with many networks (`Fleet` of
        papers/autohyper/small_networks.py) runs their searches side by side and gets the losses of
        all of them in one pass.
        """
        settings = self.param_groups[0]
        decay = settings["weight_decay"]
        pairs = [
            (p, p.grad.add(p, alpha=decay))
            for group in self.param_groups
            for p in group["params"]
            if p.grad is not None
        ]
        if not pairs:
            return
        settings["seen"] += 1
        start = [p.clone() for p, _ in pairs]

        def penalty() -> float:
            return decay / 2 * sum(float(p.square().sum()) for p, _ in pairs) if decay else 0.0

        def move(eta: float) -> None:
            for (p, grad), before in zip(pairs, start, strict=True):
                torch.sub(before, grad, alpha=eta, out=p)

        slope = sum(float(g.square().sum()) for _, g in pairs)
        loss = (yield) + penalty()
        if slope < 1e-16 or not math.isfinite(loss):
            return
        eta = settings["eta"]
        eta = settings["lr"] if eta is None else eta * self.growth(settings)
        for _ in range(settings["tries"]):
            move(eta)
            if (yield) + penalty() <= loss - settings["c"] * eta * slope:
                break
            eta *= settings["backtrack"]
        else:
            eta = settings["smallest"]
            move(eta)
        settings["eta"] = eta

    @classmethod
    def growth(cls, settings: dict[str, Any]) -> float:
        """By what the last step is multiplied before the search of the next batch."""
        return float(settings["gamma"] ** (1 / max(settings["batches"], cls.FEWEST)))

    def end_epoch(self) -> None:
        """Take the number of batches of the epoch that ended; it scales the step's growth."""
        group = self.param_groups[0]
        group["batches"], group["seen"] = group["seen"] or group["batches"], 0


def rank_after_epoch(network: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    """Z_t (`foretune.training.spectral.network_rank`) of a network whose epoch has just ended.

    AdaS has decomposed its weights already.
    """
    convs = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight.requires_grad]
    # AdaS sees weights without their groups: it is right where they are plain or depthwise
    readable = all(m.groups == 1 < m.in_channels or 1 < m.groups == m.in_channels for m in convs)
    if isinstance(optimizer, AdaS) and readable and len(optimizer.gains) == len(convs):
        return zero_share(optimizer.gains)
    return network_rank(network)
