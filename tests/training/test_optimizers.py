"""Optimizers against their closed-form first steps; schedules against PyTorch's own."""

import math

import pytest
import torch
from torch.optim import lr_scheduler

from foretune.errors import BadInput
from foretune.training.optimizers import OPTIMIZERS, build
from foretune.training.schedules import learning_rate


def first_step(name: str, **options: float) -> float:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = build(name, [weight], 0.1, **options)
    (3 * weight).sum().backward()
    optimizer.step()
    return 1.0 - float(weight.detach())


def test_first_steps() -> None:
    assert first_step("sgd") == pytest.approx(0.3)
    assert first_step("sgd", weight_decay=1.0) == pytest.approx(0.4)
    assert first_step("adam") == pytest.approx(0.1)  # lr times the sign
    assert first_step("adagrad") == pytest.approx(0.1)
    # alpha 0.99: v = 0.01 g^2
    assert first_step("rmsprop") == pytest.approx(0.1 / math.sqrt(0.01), rel=1e-4)


def test_momentum_default_and_option() -> None:
    weight = [torch.nn.Parameter(torch.zeros(1))]
    assert build("sgd", weight, 0.1).param_groups[0]["momentum"] == 0.9
    assert build("sgd", weight, 0.1, momentum=0.3).param_groups[0]["momentum"] == 0.3
    assert build("adam", weight, 0.1, betas=(0.5, 0.9)).param_groups[0]["betas"] == (0.5, 0.9)


def test_bad_input() -> None:
    weight = [torch.nn.Parameter(torch.zeros(1))]
    for name in OPTIMIZERS:
        with pytest.raises(BadInput, match=name):
            build(name, weight, -1.0)
    with pytest.raises(BadInput, match="one of sgd"):
        build("lamb", weight, 0.1)
    with pytest.raises(BadInput, match="gamma"):
        learning_rate("ExponentialLR", 0.1, 1, 10)
    with pytest.raises(BadInput, match="T_0 must be 1"):
        learning_rate("CAWR", 0.1, 1, 10, T_0=0, T_mult=1, eta_min_ratio=0.5)
    with pytest.raises(BadInput, match="one of cosine, step, constant"):
        learning_rate("poly", 0.1, 1, 10)


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("StepLR", {"step_size": 3, "gamma": 0.4}, lambda o: lr_scheduler.StepLR(o, 3, 0.4)),
        ("ExponentialLR", {"gamma": 0.9}, lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
        ("CAWR", {"T_0": 3, "T_mult": 2, "eta_min_ratio": 0.5},
         lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3, 2, eta_min=0.05)),
        ("CyclicLR", {"step_size_up": 4, "max_lr_ratio": 1.5, "gamma": 0.7},
         lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.15, 4, mode="exp_range", gamma=0.7, cycle_momentum=False)),
        ("cosine", {}, lambda o: lr_scheduler.CosineAnnealingLR(o, 20)),
    ],
)  # fmt: skip
def test_schedules_are_pytorchs(name: str, options: dict[str, float], theirs: object) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = theirs(optimizer)  # type: ignore[operator]
    for epoch in range(1, 21):
        expected = optimizer.param_groups[0]["lr"]
        assert learning_rate(name, 0.1, epoch, 20, **options) == pytest.approx(
            expected, rel=1e-9
        ), epoch
        optimizer.step()
        scheduler.step()


def test_cyclic_stops_at_one_and_constant_stays() -> None:
    assert learning_rate(
        "CyclicLR", 0.9, 5, 20, step_size_up=4, max_lr_ratio=1.5, gamma=1.0
    ) == pytest.approx(1.0)
    assert learning_rate("constant", 0.2, 9, 10) == 0.2
