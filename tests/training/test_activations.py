"""The cache of images and frozen activations."""

import numpy as np
import torch

from foretune.tasks.task import Task
from foretune.training.activations import Activations, Part, classes_left_out, subset
from foretune.training.networks import build


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
