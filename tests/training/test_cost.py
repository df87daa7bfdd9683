"""The cost model: what makes an epoch dearer, and how far it is off here."""

import time
from dataclasses import replace

import numpy as np
import pytest

from foretune.training.cost import (
    CPU,
    CUDA,
    Machine,
    Parts,
    early_epochs,
    epoch_seconds,
    first_epoch_seconds,
    forward_seconds,
    keeps,
    machine_of,
)
from foretune.training.recipe import Augmentation, Recipe
from foretune.training.settings import Settings
from foretune.training.workload import workload

SETTINGS = Settings(image_size=96, device="cpu")
RECIPE = Recipe("mobilenet_v2", 32, "adam", 1e-3)
PARTS = Parts(400, 300)
# 1e9 multiply-adds a second
ARITHMETIC = Machine(
    1.0, 1e12, 0.0, 0.0, 2.0, 0.0, batch=0.0, epoch=0.0
)  # 1e9 multiply-adds a second


def seconds(parts=PARTS, settings=SETTINGS, machine=CPU, **recipe):
    return epoch_seconds(replace(RECIPE, **recipe), settings, parts, machine)


def test_arithmetic_is_counted_forward_and_backward():
    """400 images thrice, forward and twice backward, and 300 forward."""
    work = workload("mobilenet_v2").at(96).gmacs
    assert seconds(machine=ARITHMETIC) == pytest.approx((3 * 400 + 300) * work)
    images = forward_seconds(RECIPE, SETTINGS, 112, ARITHMETIC)
    assert images == pytest.approx(112 * work)


def test_what_is_frozen_is_kept_after_the_first_epochs():
    row = workload("mobilenet_v2")
    work, tail = row.at(96).gmacs, row.tail_last
    last = replace(RECIPE, finetune="last_blocks")
    assert seconds(machine=ARITHMETIC, finetune="last_blocks") == pytest.approx(
        (3 * 400 + 300) * work * tail
    )
    early = first_epoch_seconds(last, SETTINGS, PARTS, ARITHMETIC)
    assert early == pytest.approx((700 + 2 * 400 * tail) * work)
    assert keeps(last) and not keeps(RECIPE) and not keeps(replace(last, mixup=0.2))


def test_early_epochs_are_those_that_compute_what_is_kept():
    """One for each view of the images, and without augmentation there is one."""
    last = replace(RECIPE, finetune="last_blocks")
    flipped = replace(last, augmentation=Augmentation("crop_flip"))
    assert early_epochs(last) == 1 and early_epochs(flipped) == 4
    assert early_epochs(replace(flipped, mixup=0.2)) == 1  # nothing is kept


def test_an_epoch_of_next_to_nothing_still_takes_its_metrics_and_its_checkpoint():
    few = replace(RECIPE, finetune="head")
    plain = epoch_seconds(few, Settings(), Parts(4, 4), ARITHMETIC)
    with_them = epoch_seconds(few, Settings(), Parts(4, 4), replace(ARITHMETIC, epoch=0.5))
    assert with_them == pytest.approx(plain + 0.5)


@pytest.mark.parametrize(
    "dearer",
    [
        {"parts": Parts(800, 300)},
        {"parts": Parts(400, 3000)},
        {"settings": replace(SETTINGS, image_size=192)},
        {"network": "resnet50"},
        {"batch_size": 2},
    ],
)
def test_more_of_anything_takes_longer(dearer):
    assert seconds(**dearer) > 1.05 * seconds()


def test_the_deeper_the_dearer():
    depths = ["head", "last_blocks", "most", "all"]
    costs = [seconds(finetune=depth) for depth in depths]
    assert costs == sorted(costs) and 0 < costs[0] < costs[-1] / 3


def test_the_machine_is_the_settings():
    assert machine_of(SETTINGS, cuda=True) == CPU
    assert machine_of(replace(SETTINGS, device="auto"), cuda=True) == CUDA
    assert machine_of(replace(SETTINGS, device="auto"), cuda=False) == CPU
    assert machine_of(replace(SETTINGS, threads=4), cuda=False).gmacs > 2 * CPU.gmacs


@pytest.mark.slow
def test_measured_here_it_is_within_a_factor_of_three_and_ranks_networks():
    """CPU seconds of a step, in which other processes do not show."""
    import torch
    from torch.nn import functional as F

    from foretune.training.networks import build

    torch.set_num_threads(1)
    cases = [("shufflenet_v2_x05", 64), ("mobilenet_v2", 64), ("resnet18", 64), ("resnet18", 128)]
    said, measured = [], []
    for name, size in cases:
        network = build(name, 10, False, image_size=size).train()
        x, y = torch.rand(16, 3, size, size), torch.arange(16) % 10
        optimizer = torch.optim.Adam(network.parameters())
        times = []
        for _ in range(4):
            began = time.process_time()
            loss = F.cross_entropy(network(x.to(memory_format=torch.channels_last)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            times.append(time.process_time() - began)
        measured.append(min(times))
        asked = replace(RECIPE, network=name, batch_size=16)
        settings = replace(SETTINGS, image_size=size)
        said.append(epoch_seconds(asked, settings, Parts(16, 0), CPU))
    ratios = np.array(measured) / np.array(said)
    assert np.ptp(np.log(ratios)) < np.log(9)  # whatever the machine's own factor
    assert np.argsort(said).tolist() == np.argsort(measured).tolist()
