"""Optimizers by name, and learning-rate schedules as plain functions of the epoch.

A schedule here has no state: the rate of epoch e (1 is the first) follows from e and `max_epoch`,
so a resumed trial cannot drift from one that ran through. All change once an epoch, as the AT2
paper's do.

| scheduler       | learning rate in epoch e, with t = e - 1   | options                           |
|-----------------|--------------------------------------------|-----------------------------------|
| `constant`      | lr                                         |                                   |
| `cosine`        | lr (1 + cos(pi t / max_epoch)) / 2         |                                   |
| `StepLR`        | lr gamma^floor(t / step_size)              | step_size, gamma                  |
| `ExponentialLR` | lr gamma^t                                 | gamma                             |
| `CyclicLR`      | lr + (min(1, lr max_lr_ratio) - lr) tri(t) | step_size_up, max_lr_ratio, gamma |
|                 | gamma^t; tri rises 0..1 in step_size_up    |                                   |
|                 | epochs and falls back                      |                                   |
| `CAWR`          | between lr and eta_min = lr eta_min_ratio  | T_0, T_mult, eta_min_ratio        |
|                 | on a cosine that restarts after T_0, T_0   |                                   |
|                 | T_mult, ... epochs                         |                                   |

The last four are PyTorch's StepLR, ExponentialLR, CyclicLR (`exp_range`) and
CosineAnnealingWarmRestarts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from foretune.errors import BadInput

if TYPE_CHECKING:
    import torch

OPTIMIZERS = ("sgd", "adam", "adagrad", "rmsprop", "adabound", "adas", "sls")
SCHEDULERS = ("constant", "cosine", "StepLR", "ExponentialLR", "CyclicLR", "CAWR")


def build(
    name: str,
    params: Iterable[torch.nn.Parameter],
    lr: float,
    weight_decay: float = 0.0,
    **options: Any,
) -> torch.optim.Optimizer:
    """An optimizer over `params`.

    `options` go to it as they are (momentum for sgd, betas for adam). `sgd` has momentum 0.9 unless
    told otherwise; `adam` with weight decay has it in the gradient, as in the papers. Raises
    `BadInput` for an unknown name and for values that the optimizer refuses. The fused kernels do a
    step in one pass over the memory.
    """
    import torch

    params = list(params)
    on_cpu = all(p.device.type == "cpu" for p in params)
    try:
        match name:
            case "sgd":
                return torch.optim.SGD(
                    params,
                    lr=lr,
                    weight_decay=weight_decay,
                    fused=True,
                    **{"momentum": 0.9, **options},
                )
            case "adam":
                return torch.optim.Adam(
                    params, lr=lr, weight_decay=weight_decay, fused=True, **options
                )
            case "adagrad":
                return torch.optim.Adagrad(
                    params, lr=lr, weight_decay=weight_decay, fused=on_cpu, **options
                )
            case "rmsprop":
                return torch.optim.RMSprop(params, lr=lr, weight_decay=weight_decay, **options)
            case "adabound" | "adas" | "sls":
                from foretune.training.paper_optimizers import SLS, AdaBound, AdaS

                made: type[Any] = {"adabound": AdaBound, "adas": AdaS, "sls": SLS}[name]
                return made(params, lr=lr, weight_decay=weight_decay, **options)
    except (ValueError, TypeError) as error:
        raise BadInput(f"optimizer {name} refuses its settings: {error}") from error
    raise BadInput(
        f"optimizer {name!r} is not known; one of {', '.join(OPTIMIZERS)} would be right"
    )


def learning_rate(scheduler: str, lr: float, epoch: int, max_epoch: int, **options: float) -> float:
    """The learning rate of epoch `epoch` (from 1).

    Raises `BadInput` for an unknown scheduler or a missing option.
    """
    t = epoch - 1
    for option in {"step_size", "step_size_up", "T_0", "T_mult"} & options.keys():
        if options[option] < 1:
            raise BadInput(
                f"scheduler option {option} must be 1 or more, but got {options[option]}"
            )
    try:
        match scheduler:
            case "constant":
                return lr
            case "cosine":
                return lr * 0.5 * (1 + math.cos(math.pi * min(t, max_epoch) / max_epoch))
            case "StepLR":
                return lr * options["gamma"] ** (t // int(options["step_size"]))
            case "ExponentialLR":
                return lr * options["gamma"] ** t
            case "CyclicLR":
                up = int(options["step_size_up"])
                height = 1 - abs(t % (2 * up) / up - 1)
                reach = min(1.0, lr * options["max_lr_ratio"]) - lr
                return lr + reach * height * options["gamma"] ** t
            case "CAWR":
                period, low = int(options["T_0"]), lr * options["eta_min_ratio"]
                while t >= period:
                    t, period = t - period, period * int(options["T_mult"])
                return low + (lr - low) * 0.5 * (1 + math.cos(math.pi * t / period))
    except KeyError as error:
        raise BadInput(f"scheduler {scheduler} needs the option {error}") from error
    raise BadInput(
        f"scheduler {scheduler!r} is not known; one of {', '.join(SCHEDULERS)} would be right"
    )
