"""The cache of images and frozen activations."""

import numpy as np
import pytest
import torch

from foretune.tasks.task import Task
from foretune.training.activations import (
    Activations,
    Part,
    Spilled,
    Streamed,
    classes_left_out,
    subset,
)
from foretune.training.networks import build
from foretune.training.settings import Settings
from foretune.training.trial import Trial


def some_task() -> Task:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 32, 32, 3)).astype(np.uint8)
    return Task(
        "t", images, np.arange(30) % 2, ("a", "b"), np.repeat([0, 1, 2], 10).astype(np.uint8)
    )


def test_least_recently_used_goes_first_and_the_limit_holds() -> None:
    cache, made = Activations(limit=80), []

    def get(key: str, floats: int = 10) -> None:
        cache.get(key, lambda: made.append(key) or torch.zeros(floats))  # type: ignore[func-returns-value]

    # 40 bytes each: two fit; c drives out b, b drives out c
    for key in ["a", "b", "a", "c", "a", "b"]:
        get(key)
    assert made == ["a", "b", "c", "b"] and cache.used == 80
    get("large", 21)
    get("large", 21)
    assert made[-2:] == ["large", "large"] and cache.used == 80


def test_subset_is_stratified_fixed_and_bounded() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    chosen = subset(labels, 50)
    assert np.bincount(labels[chosen]).tolist() == [30, 15, 5]
    assert np.array_equal(chosen, subset(labels, 50)) and len(set(chosen)) == 50
    assert np.array_equal(subset(labels, 0), np.arange(100)) and np.array_equal(
        subset(labels, 200), np.arange(100)
    )
    assert set(labels[subset(labels, 10)]) == {0, 1, 2}


def test_frozen_activations_are_the_networks_and_computed_once() -> None:
    cache = Activations(limit=10**8)
    network = build("shufflenet_v2_x05", 2, pretrained=False, finetune="last_blocks")
    part = Part(some_task(), "train", limit=0, size=32, device=torch.device("cpu"), cache=cache)
    kept = part.at_boundary(network, 0, "none", 0)
    x = part.images.float() / 255
    x = (x - torch.tensor(network.mean).view(1, 3, 1, 1)) / torch.tensor(network.std).view(
        1, 3, 1, 1
    )
    with torch.no_grad():
        torch.testing.assert_close(kept, network(x, stop=network.first), rtol=1e-4, atol=1e-5)
    assert part.at_boundary(network, 0, "none", 0) is kept
    assert part.at_boundary(network, 1, "none", 0) is not kept  # a trunk drawn from another seed
    views = [part.at_boundary(network, 0, "crop_flip", v) for v in (0, 1, 0)]
    assert views[0] is views[2] and not torch.equal(views[0], views[1])


def test_part_is_resized_and_limited() -> None:
    part = Part(
        some_task(), "valid", limit=4, size=48, device=torch.device("cpu"), cache=Activations(10**8)
    )
    assert (
        part.images.shape == (4, 3, 48, 48) and part.images.dtype == torch.uint8 and len(part) == 4
    )
    assert torch.bincount(part.labels).tolist() == [2, 2]


def test_classes_that_a_limit_leaves_without_images_are_counted() -> None:
    labels = np.repeat(np.arange(1000), 3)
    # one image a class comes first, so a limit of 400 leaves exactly 1000 - 400 classes out
    assert classes_left_out(labels, 400) == 600
    assert classes_left_out(labels, 1000) == classes_left_out(labels, 0) == 0
    assert classes_left_out(np.array([0, 0, 1]), 1) == 1


def parts_of(size: int, image_size: int = 32) -> tuple[Part, Part]:
    """The same part held, and read where it is asked for from a cache that holds next to nothing."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (60, image_size, image_size, 3)).astype(np.uint8)
    split = np.tile(np.array([0, 0, 1], np.uint8), 20)
    task = Task("t", images, np.arange(60) % 2, ("a", "b"), split)
    cpu = torch.device("cpu")
    held, streamed = (
        Part(task, "train", limit=30, size=size, device=cpu, cache=Activations(limit))
        for limit in (10**8, 100)
    )
    return held, streamed


@pytest.mark.parametrize("size", [32, 48])
def test_images_that_are_read_when_asked_for_are_those_that_are_held(size: int) -> None:
    held, streamed = parts_of(size)
    assert isinstance(held.images, torch.Tensor) and isinstance(streamed.images, Streamed)
    assert len(streamed) == len(streamed.images) == 30
    index = torch.tensor([3, 3, 29, 0, 7])
    assert torch.equal(streamed.images[index], held.images[index])
    chunks = list(streamed.images.split(8))
    assert [len(chunk) for chunk in chunks] == [8, 8, 8, 6]
    assert torch.equal(torch.cat(chunks), held.images)
    assert torch.equal(streamed.labels, held.labels)


@pytest.mark.parametrize("finetune", ["head", "last_blocks"])
def test_activations_too_large_to_be_held_lie_in_a_file_and_are_the_same(finetune: str) -> None:
    held, streamed = parts_of(32)
    network = build("shufflenet_v2_x05", 2, pretrained=False, finetune=finetune)
    kept = held.at_boundary(network, 0, "crop_flip", 1)
    spilled = streamed.at_boundary(network, 0, "crop_flip", 1)
    assert isinstance(kept, torch.Tensor) and isinstance(spilled, Spilled)
    assert len(spilled) == 30 and spilled.nbytes == kept.nbytes
    index = torch.tensor([3, 3, 29, 0, 7])
    assert torch.equal(spilled[index], kept[index])
    assert torch.equal(torch.cat(list(spilled.split(8))), kept)
    assert streamed.at_boundary(network, 0, "crop_flip", 1) is spilled
    assert streamed.cache.used < 1000 < streamed.cache.disk.used == spilled.nbytes


def test_a_trial_learns_the_same_from_images_that_are_not_held() -> None:
    rng, labels = np.random.default_rng(0), np.arange(40) % 2
    images = (rng.integers(0, 100, (40, 32, 32, 3)) + labels[:, None, None, None] * 100).astype(
        "u1"
    )
    split = np.tile(np.array([0, 0, 0, 1], np.uint8), 10)
    task = Task("t", images, labels, ("a", "b"), split)
    settings = Settings("shufflenet_v2_x05", 32, pretrained=False, batch_size=8, max_epoch=2)
    for finetune in ("all", "last_blocks"):
        config = {
            "learning_rate": 0.01,
            "optimizer": "sgd",
            "finetune": finetune,
            "augmentation": "crop_flip",
        }
        rows = []
        for limit in (10**9, 100):
            trial = Trial(task, config, settings, 0, cache=Activations(limit))
            rows.append([{**trial.train_epoch(), "seconds": 0, "images_per_second": 0}] * 2)
        assert rows[0] == rows[1]


def test_what_is_spilled_is_bounded_too() -> None:
    cache = Activations(limit=10, disk=100)
    chunk = torch.zeros(2, 5)  # 40 bytes
    for key in "abc":
        cache.get(key, lambda: Spilled([chunk], torch.device("cpu")))
    assert cache.disk.used == 80 and "a" not in cache.disk and "c" in cache.disk
    assert cache.used == 0


def test_bfloat16_survives_the_file() -> None:
    values = torch.randn(7, 3, 2, 2).to(torch.bfloat16).to(memory_format=torch.channels_last)
    spilled = Spilled(values.split(3), torch.device("cpu"))
    assert torch.equal(spilled[torch.arange(7)], values)
    assert spilled[torch.arange(2)].is_contiguous(memory_format=torch.channels_last)
