"""Warm-up and schedules against timm's schedulers."""

import pytest
import torch
from timm.scheduler import CosineLRScheduler, StepLRScheduler

from foretune.training.schedules import learning_rate


def rates(scheduler: object, optimizer: torch.optim.Optimizer, epochs: int) -> list[float]:
    out = []
    for t in range(epochs):
        scheduler.step(t)  # type: ignore[attr-defined]
        out.append(optimizer.param_groups[0]["lr"])
    return out


@pytest.mark.parametrize("warmup", [0, 1, 3])
def test_cosine_after_a_warm_up_is_timms(warmup: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    theirs = CosineLRScheduler(
        optimizer,
        t_initial=10 - warmup,
        warmup_t=warmup,
        warmup_lr_init=0.4 / (warmup + 1),
        warmup_prefix=True,
    )
    ours = [learning_rate("cosine", 0.4, e, 10, warmup) for e in range(1, 11)]
    assert ours == pytest.approx(rates(theirs, optimizer, 10))


def test_step_is_timms() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    theirs = StepLRScheduler(optimizer, decay_t=3, decay_rate=0.2)
    ours = [learning_rate("step", 0.4, e, 10, step_size=3, gamma=0.2) for e in range(1, 11)]
    assert ours == pytest.approx(rates(theirs, optimizer, 10))


def test_none_stays() -> None:
    assert {learning_rate("none", 0.4, e, 10) for e in range(1, 11)} == {0.4}
