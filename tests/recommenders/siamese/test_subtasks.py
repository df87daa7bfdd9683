"""Sub-tasks: class subsets and image subsets of their parents, and nothing else."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.recommenders.siamese.subtasks import cut_subtasks, gallery, images_of, shrink
from foretune.tasks.task import Task


def task(counts, size=16):
    labels = np.repeat(np.arange(len(counts)), counts)
    images = np.zeros((len(labels), size, size, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = labels  # the picture says its class
    images[:, -1, -1, 1] = np.arange(len(labels))
    return Task(
        "toy",
        images,
        labels,
        tuple("abcdefghijklmnop"[: len(counts)]),
        np.zeros(len(labels), dtype=np.uint8),
    )


def test_a_gallery_keeps_classes_even_and_images_with_their_labels():
    kept = gallery(task([40, 5, 20]), 16, 30, np.random.default_rng(0))
    assert np.bincount(kept.labels).tolist() == [13, 5, 12] or np.bincount(
        kept.labels
    ).tolist() == [12, 5, 13]
    assert (kept.images[:, 0, 0, 0] == kept.labels).all()
    assert len(np.unique(kept.images[:, -1, -1, 1])) == 30  # no image twice


def test_a_gallery_holds_no_image_of_the_valid_or_test_part():
    whole = task([12, 12])
    split = np.arange(24, dtype=np.uint8) % 3
    kept = gallery(
        Task("toy", whole.images, whole.labels, ("a", "b"), split),
        16,
        100,
        np.random.default_rng(0),
    )
    assert sorted(kept.images[:, -1, -1, 1].tolist()) == list(range(0, 24, 3))
    nothing = Task("toy", whole.images, whole.labels, ("a", "b"), np.ones(24, dtype=np.uint8))
    with pytest.raises(BadInput, match="toy: has no images in its training part"):
        gallery(nothing, 16, 100, np.random.default_rng(0))


def test_shrinking_takes_block_means_and_resamples_where_blocks_do_not_fit():
    image = np.arange(16, dtype=np.uint8).reshape(1, 4, 4, 1).repeat(3, axis=3)
    # means 2.5, 4.5, 10.5, 12.5, rounded to even
    assert shrink(image, 2)[0, :, :, 0].tolist() == [[2, 4], [10, 12]]
    assert shrink(image, 4) is image
    flat = np.full((2, 24, 24, 3), 77, dtype=np.uint8)
    assert shrink(flat, 16).shape == (2, 16, 16, 3) and (shrink(flat, 16) == 77).all()


def test_sub_tasks_have_two_to_five_classes_and_only_their_images():
    source = gallery(task([20] * 9), 16, 1000, np.random.default_rng(0))
    parts = cut_subtasks(source, 60, np.random.default_rng(1), most_classes=5, most_images=40)
    assert {len(p.classes) for p in parts} == {2, 3, 4, 5}
    assert len({p.classes for p in parts}) > 40  # they differ
    for part in parts:
        assert set(source.labels[part.rows]) <= set(part.classes) and part.parent == "toy"
        assert 20 <= len(part.rows) <= 40 and len(set(part.rows.tolist())) == len(part.rows)


def test_two_classes_give_subsets_of_images():
    source = gallery(task([10, 10]), 16, 1000, np.random.default_rng(0))
    parts = cut_subtasks(source, 20, np.random.default_rng(1))
    assert all(p.classes == (0, 1) for p in parts) and len({tuple(p.rows) for p in parts}) > 15


def test_draws_repeat_an_image_only_where_there_are_too_few():
    source = gallery(task([10, 10]), 16, 1000, np.random.default_rng(0))
    part = cut_subtasks(source, 1, np.random.default_rng(3))[0]
    few = images_of(source, part, 8, np.random.default_rng(0))
    assert few.shape == (8, 16, 16, 3) and len(np.unique(few[:, -1, -1, 1])) == 8
    many = images_of(source, part, 50, np.random.default_rng(0))
    assert (
        set(many[:, -1, -1, 1].tolist()) <= set(source.images[part.rows][:, -1, -1, 1].tolist())
        and len(many) == 50
    )
