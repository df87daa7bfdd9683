"""The trunk of task representations."""

import numpy as np
import pytest
import torch

from foretune.errors import BadInput
from foretune.recommenders.trunk import image_rows, kept_activations, trunk
from foretune.tasks.task import Task


def task(images: int = 30, name: str = "t") -> Task:
    rng = np.random.default_rng(0)
    split = (np.arange(images) % 3 == 2).astype(np.uint8)
    pixels = rng.integers(0, 256, (images, 24, 24, 3), dtype=np.uint8)
    return Task(name, pixels, np.arange(images) % 2, ("a", "b"), split)


def test_images_are_drawn_from_the_train_part() -> None:
    own = task()
    assert image_rows(own, 100).tolist() == np.flatnonzero(own.split == 0).tolist()
    few = image_rows(own, 8)
    assert len(set(few)) == 8 and (own.split[few] == 0).all()
    assert np.array_equal(few, image_rows(own, 8))
    assert not np.array_equal(few, image_rows(own, 8, np.random.default_rng(1)))


def test_activations_do_not_depend_on_company() -> None:
    tiny = trunk("tiny", 16)
    images = task().images
    whole, alone = tiny.activations(images), tiny.activations(images[7:8])
    assert whole.dtype == torch.float16 and whole.shape == (30, 24, 4, 4)
    assert torch.allclose(whole[7].float(), alone[0].float(), atol=1e-2)
    assert tiny.penultimate(whole).shape == (30, tiny.width)


def test_a_fresh_tail_is_a_copy() -> None:
    tiny = trunk("tiny", 16)
    one, two = tiny.fresh_tail(), tiny.fresh_tail()
    with torch.no_grad():
        next(one.parameters()).add_(1.0)
    assert torch.equal(next(two.parameters()), next(tiny.tail.parameters()))
    assert all(p.requires_grad for p in one.parameters())
    assert not any(p.requires_grad for p in tiny.tail.parameters())


def test_activations_are_kept_by_content() -> None:
    first, labels = kept_activations("tiny", 16, task(), 12)
    again, _ = kept_activations("tiny", 16, task(name="another name"), 12)
    assert first is again
    assert len(first) == len(labels) == 12


def test_unknown_trunks_are_refused() -> None:
    with pytest.raises(BadInput, match="trunk 'vit' must be mobilenet_v2 or tiny"):
        trunk("vit")
