"""What the gate trains on: the plan, and sub-tasks cut from a made-up source."""

from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foretune.space.catalogue import transfer_pool
from foretune.tasks.embedded.prepare import EMBEDDED
from foretune.tasks.task import Task
from papers.light2 import subtasks
from papers.light2.subtasks import (
    CLASSES,
    IMAGES,
    MORE_SOURCES,
    SEED,
    SOURCES,
    Factors,
    all_configurations,
    configurations,
    cut,
    draw_factors,
    epochs_of,
    prepare_subtasks,
    table_row,
    take,
)

PLAIN = Factors("x_60", "x", images=60, classes=0, resolution=64, noise=0.0, imbalance=1)


@pytest.fixture(scope="module")
def parent() -> Task:
    """Six classes; an image's pixels say its row, its class and its part."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), [200, 200, 200, 200, 200, 20])
    split = rng.permutation(np.arange(1020) % 5)
    split = np.array([0, 0, 0, 1, 2], dtype=np.uint8)[split]
    images = rng.integers(0, 256, (1020, 64, 64, 3)).astype(np.uint8)
    images[:, 0, 0, 0], images[:, 0, 0, 1], images[:, 0, 0, 2] = labels, split, labels * 0
    return Task("x", images, labels, tuple("abcdef"), split, source="made up", licence="none")


def test_configurations_are_24_of_the_pool_and_no_two_factors_go_together() -> None:
    pool = configurations()
    keys = pd.DataFrame(pool)
    assert len(pool) == 24 == len(keys.drop_duplicates())
    assert all(config in transfer_pool() for config in pool)
    assert keys["finetune"].value_counts().to_dict() == {"head": 6, "last_blocks": 9, "most": 9}
    assert keys.groupby("optimizer")["learning_rate"].nunique().ge(3).all()
    for a, b in product(("optimizer", "finetune"), ("augmentation",)):
        assert pd.crosstab(keys[a], keys[b]).to_numpy().min() >= 3


def test_light2_is_54_of_the_pool_the_gates_first() -> None:
    pool = all_configurations()
    keys = pd.DataFrame(pool)
    assert len(pool) == 54 == len(keys.drop_duplicates()) and pool[:24] == configurations()
    assert all(config in transfer_pool() for config in pool)
    # three rates of each optimizer and depth, with each augmentation
    by = keys.groupby(["optimizer", "finetune", "augmentation"])["learning_rate"]
    assert by.nunique().eq(3).all() and len(by) == 18


def test_light2_has_four_subtasks_of_each_of_sixteen_sources() -> None:
    sources = (*SOURCES, *MORE_SOURCES)
    assert len(set(sources)) == 16 and set(sources) <= set(EMBEDDED)
    assert len({f.name for source in sources for f in draw_factors(source)}) == 64


def test_every_source_has_each_size_and_number_of_classes_once() -> None:
    for source in SOURCES:
        drawn = draw_factors(source)
        assert tuple(f.images for f in drawn) == IMAGES
        assert sorted(f.classes for f in drawn) == sorted(CLASSES)
        assert {f.noise for f in drawn} == {0.0, 0.2}
        assert len({f.name for f in drawn}) == 4
        assert drawn == draw_factors(source)


def test_the_seed_is_the_one_whose_factors_go_together_least() -> None:
    def largest(seed: int) -> float:
        table = pd.DataFrame([asdict(f) for s in SOURCES for f in draw_factors(s, seed)])
        table["classes"] = table["classes"].replace(0, 20)
        numbers = table[["images", "classes", "resolution", "noise", "imbalance"]].astype(float)
        numbers.iloc[:, :3] = np.log(numbers.iloc[:, :3])
        return float(np.abs(numbers.corr().to_numpy() - np.eye(5)).max())

    assert min(range(200), key=largest) == SEED


def test_epochs_make_a_hundred_steps() -> None:
    """100 images are 4 batches of 32, 250 are 8; 33 are one batch, as a last image joins it."""
    assert [epochs_of(n) for n in (100, 250, 600, 1200, 33, 32)] == [25, 13, 10, 10, 100, 100]


def test_classes_come_in_proportion_and_fill_up() -> None:
    labels = np.repeat([0, 1, 2], [100, 100, 3])
    rng = np.random.default_rng(0)
    even = take(labels, 60, np.ones(3), rng)
    assert np.bincount(labels[even]).tolist() in ([29, 28, 3], [28, 29, 3])
    falling = take(labels, 44, np.array([10.0, 1.0, 1.0]), rng)
    assert np.bincount(labels[falling]).tolist() == pytest.approx([37, 4, 3], abs=1)
    assert len(take(labels, 1000, np.ones(3), rng)) == 203
    assert len(np.unique(even)) == 60 and (np.diff(even) > 0).all()


def test_a_sub_task_has_what_was_asked_for(parent: Task) -> None:
    made = cut(parent, PLAIN)
    assert (made.name, made.source, made.licence, made.num_classes) == (
        "x_60",
        "made up",
        "none",
        6,
    )
    (seen, labels), (unseen, true) = made.part("train"), made.part("valid")
    assert np.bincount(labels).tolist() == [10] * 6
    # parts of the source are not mixed, and no label is touched
    assert (seen[:, 0, 0, 1] == 0).all() and (unseen[:, 0, 0, 1] > 0).all()
    assert (seen[:, 0, 0, 0] == labels).all() and (unseen[:, 0, 0, 0] == true).all()
    assert len(true) == (parent.split > 0).sum() and not len(made.part("test")[1])
    assert cut(parent, PLAIN).hash == made.hash
    assert cut(parent, replace(PLAIN, name="x_61")).hash != made.hash


def test_factors_change_the_train_part_alone(parent: Task) -> None:
    noisy = cut(parent, replace(PLAIN, noise=0.2))
    (seen, labels), (unseen, true) = noisy.part("train"), noisy.part("valid")
    assert (seen[:, 0, 0, 0] != labels).sum() == 12  # of 60
    assert (unseen[:, 0, 0, 0] == true).all()
    uneven = cut(parent, replace(PLAIN, images=300, classes=5, imbalance=10))
    counts = np.bincount(uneven.part("train")[1])
    assert counts.sum() == 300 and (np.diff(counts) < 0).all()
    assert counts[0] / counts[-1] == pytest.approx(10, rel=0.1)
    assert np.ptp(np.bincount(uneven.part("valid")[1])[:-1]) < 40


def test_classes_and_images_are_capped_by_the_source(parent: Task) -> None:
    two = cut(parent, replace(PLAIN, classes=2, images=1200))
    row = table_row(two, replace(PLAIN, classes=2, images=1200))
    chosen = np.isin(parent.labels, [parent.class_names.index(c) for c in two.class_names])
    assert row["images"] == (chosen & (parent.split == 0)).sum() < 1200
    assert row["validation_images"] == (chosen & (parent.split > 0)).sum()
    assert (row["classes"], row["drawn_images"], row["source"]) == (2, 1200, "made up")
    assert cut(parent, replace(PLAIN, classes=10)).num_classes == 6


def test_resolution_is_lost_and_size_kept(parent: Task) -> None:
    fine, coarse = cut(parent, PLAIN), cut(parent, replace(PLAIN, resolution=16))
    assert coarse.images.shape == fine.images.shape
    # of independent pixels, a mean over 4 x 4 keeps a sixteenth of the variance, and less between
    assert coarse.images.astype(float).var() < fine.images.astype(float).var() / 12
    assert (coarse.split == fine.split).all() and (coarse.labels == fine.labels).all()


def test_files_are_made_once_and_again_where_the_plan_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subtasks, "SIZE", 16)
    files = prepare_subtasks(tmp_path, ("digits",), lambda line: None)  # needs no package
    assert list(files) == [f"digits_{n}" for n in IMAGES]
    # 60 % of 1,797 are the train part, a part of a class's images where classes are few
    assert len(Task.load(files["digits_100"]).part("train")[1]) == 100
    stamps = {name: path.stat().st_mtime_ns for name, path in files.items()}
    prepare_subtasks(tmp_path, ("digits",), lambda line: None)
    assert {name: path.stat().st_mtime_ns for name, path in files.items()} == stamps
    monkeypatch.setattr(subtasks, "RECIPE", 2)
    prepare_subtasks(tmp_path, ("digits",), lambda line: None)
    assert all(path.stat().st_mtime_ns > stamps[name] for name, path in files.items())
