"""Seconds that an epoch takes, before anything is trained: a network's work (`workload`), what of
it is fine-tuned, and how quick a machine is.

    seconds an image forward = gmacs / machine.gmacs + melements / machine.melements
    seconds a batch          = machine.batch + modules * machine.module, for each pass over them
    seconds an epoch         = these, and machine.epoch for its metrics and its checkpoint

A backward pass costs `Machine.back` times what went forward through the layers that are trained, for
arithmetic and memory apart; layers that are frozen go forward alone, or, where their output is kept
(`foretune.training.trial`), not at all after the first epochs. Each step of the optimizer passes over
the trained parameters.

The machines' figures were fitted to the CPU seconds of 18 networks (of 10 families, from 48 to 160
pixels, all or a third of the layers trained) on one thread: see `bench/cost.py` and
docs/guide/networks.md. Another machine is another factor, which a study learns from its first epochs
(`foretune.study.pace`); an estimate without any is good to a factor of three at best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretune.training.knobs import LORA
from foretune.training.workload import Work, workload

if TYPE_CHECKING:
    from foretune.training.recipe import Recipe
    from foretune.training.settings import Settings

SPREAD = 3.0  # factor either way, of a machine that was never seen


@dataclass(frozen=True)
class Machine:
    """What a device does in a second, on `threads` threads: 1e9 multiply-adds and 1e6 elements of
    activations; and what it takes, in seconds, to call a module, for the optimizer to update 1e6
    parameters, and for what every step and every epoch does beside. `back_*` are backward over
    forward.
    """

    gmacs: float
    melements: float
    module: float
    update: float
    back_gmacs: float
    back_melements: float
    batch: float = 1e-3
    epoch: float = 0.015


CPU = Machine(40.0, 3500.0, 8e-5, 0.021, 0.7, 2.8)
# not measured: a tenth of what a data centre's GPU can do in bfloat16, and its memory's bandwidth
CUDA = Machine(3e4, 2e5, 2.5e-5, 1e-4, 2.0, 2.0)


@dataclass(frozen=True)
class Parts:
    """How many images an epoch trains on, and is judged by."""

    train: int
    valid: int


def machine_of(settings: Settings, cuda: bool) -> Machine:
    """The machine that trials run on."""
    if settings.device.startswith("cuda") or (cuda and settings.device == "auto"):
        return CUDA
    faster = settings.threads**0.7
    return Machine(
        CPU.gmacs * faster, CPU.melements * faster, CPU.module, CPU.update / faster,
        CPU.back_gmacs, CPU.back_melements,
    )  # fmt: skip


def epoch_seconds(recipe: Recipe, settings: Settings, parts: Parts, machine: Machine) -> float:
    """Seconds of an epoch in the long run: what is frozen and can be kept was computed before.

    Raises `BadInput` for a network that is not known.
    """
    return _epoch(recipe, settings, parts, machine, kept=keeps(recipe))


def first_epoch_seconds(
    recipe: Recipe, settings: Settings, parts: Parts, machine: Machine
) -> float:
    """Seconds of an epoch that also computes what is kept. Raises as `epoch_seconds`."""
    return _epoch(recipe, settings, parts, machine, kept=False)


def forward_seconds(recipe: Recipe, settings: Settings, images: int, machine: Machine) -> float:
    """Seconds to let images through the whole network, as a test does. Raises as
    `epoch_seconds`.
    """
    row = workload(recipe.network)
    batches = max(1, round(images / BATCH))
    return images * _seconds(row.at(settings.image_size), machine) + batches * row.modules * (
        machine.module
    )


BATCH = 256  # images that are evaluated at once


def early_epochs(recipe: Recipe) -> int:
    """How many first epochs compute what is kept: one for each view of the images. One also where
    nothing is kept: memory is allocated in it, and kernels are chosen.
    """
    return recipe.augmentation.views if keeps(recipe) else 1


def keeps(recipe: Recipe) -> bool:
    """Whether the output of the frozen layers is kept from epoch to epoch."""
    frozen = recipe.finetune not in ("all", LORA, 1.0)
    return frozen and not recipe.mixes and workload(recipe.network).divided


def _epoch(recipe: Recipe, settings: Settings, parts: Parts, machine: Machine, kept: bool) -> float:
    row = workload(recipe.network)
    whole, share = row.at(settings.image_size), row.tail(recipe.finetune)
    tail = whole * share
    forward = tail if kept else whole
    back = Work(tail.gmacs * machine.back_gmacs, tail.melements * machine.back_melements)
    batches = max(1, parts.train // recipe.batch_size)
    modules = row.modules * (share if kept else 1.0)
    calls = batches * (modules + 2 * row.modules * share) + (max(1, parts.valid // BATCH) * modules)
    trained = row.mparams if recipe.finetune in ("all", "most", LORA) else row.mparams * share
    return (
        parts.train * _seconds(forward + back, machine)
        + parts.valid * _seconds(forward, machine)
        + calls * machine.module
        + batches * machine.batch
        + batches * trained * machine.update
        + machine.epoch
    )


def _seconds(work: Work, machine: Machine) -> float:
    return work.gmacs / machine.gmacs + work.melements / machine.melements
