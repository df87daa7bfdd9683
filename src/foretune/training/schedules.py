"""Learning-rate schedules as plain functions of the epoch.

A schedule here has no state: the rate of epoch e (1 is the first) follows from e and `max_epoch`,
so a resumed trial cannot drift from one that ran through. All change once an epoch, as the AT2
paper's do.

| scheduler          | learning rate in epoch e, with t = e - 1   | options                           |
|--------------------|--------------------------------------------|-----------------------------------|
| `constant`, `none` | lr                                         |                                   |
| `cosine`           | lr (1 + cos(pi t / max_epoch)) / 2         |                                   |
| `step`, `StepLR`   | lr gamma^floor(t / step_size)              | step_size, gamma                  |
| `ExponentialLR`    | lr gamma^t                                 | gamma                             |
| `CyclicLR`         | lr + (min(1, lr max_lr_ratio) - lr) tri(t) | step_size_up, max_lr_ratio, gamma |
|                    | gamma^t; tri rises 0..1 in step_size_up    |                                   |
|                    | epochs and falls back                      |                                   |
| `CAWR`             | between lr and eta_min = lr eta_min_ratio  | T_0, T_mult, eta_min_ratio        |
|                    | on a cosine that restarts after T_0, T_0   |                                   |
|                    | T_mult, ... epochs                         |                                   |

The last four are PyTorch's StepLR, ExponentialLR, CyclicLR (`exp_range`) and
CosineAnnealingWarmRestarts. With `warmup` epochs before it, the rate of warm-up epoch e is
lr e / (warmup + 1), and the schedule takes what is left of `max_epoch`: timm's `warmup_prefix`.
"""

from __future__ import annotations

import math

from foretune.errors import BadInput
from foretune.training.knobs import SCHEDULERS


def learning_rate(
    scheduler: str, lr: float, epoch: int, max_epoch: int, warmup: int = 0, **options: float
) -> float:
    """The learning rate of epoch `epoch` (from 1).

    Raises `BadInput` for an unknown scheduler or a missing option.
    """
    if epoch <= warmup:
        return lr * epoch / (warmup + 1)
    t, max_epoch = epoch - 1 - warmup, max_epoch - warmup
    for option in {"step_size", "step_size_up", "T_0", "T_mult"} & options.keys():
        if options[option] < 1:
            raise BadInput(
                f"scheduler option {option} must be 1 or more, but got {options[option]}"
            )
    try:
        match scheduler:
            case "constant" | "none":
                return lr
            case "cosine":
                return lr * 0.5 * (1 + math.cos(math.pi * min(t, max_epoch) / max_epoch))
            case "StepLR" | "step":
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
