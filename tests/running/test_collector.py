"""The loop that trains missing cells."""

import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretune.history.meta_dataset import MetaDataset
from foretune.running import collector as module
from foretune.running.collection import COLUMNS, Block, Collection
from foretune.running.collector import collect, train_cells
from foretune.space.catalogue import transfer_pool, transfer_space
from foretune.space.space import Space
from foretune.tasks.task import Task
from foretune.training.recipe import Settings
from foretune.training.trial import Diverged, train

TINY = {
    "network": "shufflenet_v2_x05",
    "image_size": 16,
    "pretrained": False,
    "batch_size": 8,
    "max_epoch": 2,
}


POOL = transfer_pool()


def tiny_task(name: str, seed: int = 0) -> Task:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], 15)
    images = (rng.integers(0, 100, (30, 16, 16, 3)) + labels[:, None, None, None] * 100).astype(
        np.uint8
    )
    return Task(
        name,
        images,
        labels,
        ("dark", "bright"),
        np.tile([0, 0, 0, 1, 2], 6).astype(np.uint8),
        source=f"source of {name}",
    )


class Pretended:
    """A `submit` whose trials take no time; counts what was trained and how much was under way at
    once.
    """

    def __init__(self, per_call: int = 2, fail_after: int = 10**6):
        self.trained: Counter[tuple[str, int]] = Counter()
        self.under_way = self.most = self.calls = 0
        self.per_call, self.fail_after = per_call, fail_after
        self._pool = ThreadPoolExecutor(8)

    def __call__(
        self,
        function: Any,
        file: str,
        block: Block,
        configs: Mapping[int, Any],
        settings: Settings,
        seed: int,
        rank: bool,
    ) -> Future[Any]:
        assert function is train_cells
        assert set(configs) == set(block.config_ids)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return self._pool.submit(self._run, block, settings, seed)

    def _run(self, block: Block, settings: Settings, seed: int) -> list[dict[str, Any]]:
        time.sleep(0.002)
        self.under_way -= 1
        self.calls += 1
        if self.calls > self.fail_after:
            raise KeyboardInterrupt
        ids = block.config_ids[: self.per_call]
        self.trained.update((block.task, i) for i in ids)
        metrics = {
            "valid_accuracy": 0.5,
            "valid_loss": 1.0,
            "valid_top5": 1.0,
            "train_loss": 1.0,
            "learning_rate": 0.1,
            "seconds": 1.0,
        }
        return [
            {"task": block.task, "config_id": i, "seed": seed, "epoch": e} | metrics
            for i in ids
            for e in range(1, settings.max_epoch + 1)
        ]


def run(
    folder: Path, submit: Any, *, configurations: int = 20, workers: int = 3, seconds: float = 60.0
) -> Collection:
    made = Collection(folder, Space(transfer_space()), POOL, Settings(max_epoch=2))
    blocks = made.missing(["a", "b"], configurations)
    files = {task: Path(f"{task}.npz") for task in ("a", "b")}
    collect(made, blocks, files, submit, workers=workers, seconds=seconds, say=lambda line: None)
    return made


def test_each_task_is_trained_to_its_own_end(tmp_path: Path) -> None:
    space, settings = Space(transfer_space()), Settings(max_epoch=2)
    made = Collection(tmp_path / "m", space, POOL, settings, epochs={"b": 5})
    files, blocks = {task: Path(f"{task}.npz") for task in "ab"}, made.missing(["a", "b"], 2)
    collect(made, blocks, files, Pretended(), workers=1, say=lambda line: None)
    table = MetaDataset.load(tmp_path / "m").table
    assert table.groupby("task")["epoch"].max().to_dict() == {"a": 2, "b": 5}
    assert made.missing(["a", "b"], 2) == []


def test_each_missing_cell_is_trained_once(tmp_path: Path) -> None:
    submit = Pretended()
    made = run(tmp_path / "m", submit)
    assert len(submit.trained) == 40
    assert set(submit.trained.values()) == {1}
    assert submit.most <= 3
    assert made.finished() == set(submit.trained)
    assert len(MetaDataset.load(tmp_path / "m").table) == 80
    more = Pretended()
    run(tmp_path / "m", more, configurations=23)
    assert len(more.trained) == 6  # three more configurations on two tasks
    assert not set(more.trained) & set(submit.trained)


def test_another_seed_adds_curves_beside_those_there(tmp_path: Path) -> None:
    run(tmp_path / "m", Pretended(), configurations=6)
    made = Collection(tmp_path / "m", Space(transfer_space()), POOL, Settings(max_epoch=2), seed=1)
    blocks = made.missing(["a"], 4)
    assert [len(b.config_ids) for b in blocks] == [4] and not made.finished()
    made.add(
        [
            {
                "task": "a",
                "config_id": blocks[0].config_ids[0],
                "seed": 1,
                "epoch": 2,
                **dict.fromkeys(COLUMNS, 0.5),
            }
        ]
    )
    made.save()
    meta = MetaDataset.load(tmp_path / "m")
    assert meta.seeds("a") == [0, 1] and meta.seeds("b") == [0] and len(made.finished()) == 1


def test_what_is_finished_survives_an_interrupt(tmp_path: Path) -> None:
    submit = Pretended(fail_after=5)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "m", submit, workers=1)
    assert len(MetaDataset.load(tmp_path / "m").table) == 5 * 2 * 2
    again = Pretended()
    made = run(tmp_path / "m", again)
    assert not set(again.trained) & set(submit.trained)
    assert len(made.finished()) == 40
    assert len(again.trained) == 30


def test_no_new_work_after_the_deadline(tmp_path: Path) -> None:
    submit = Pretended()
    made = run(tmp_path / "m", submit, seconds=0.0)
    assert not submit.trained
    assert made.finished() == set()


def test_cells_are_the_trainers_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, settings = tiny_task("a"), Settings(**TINY)
    task.save(tmp_path / "a.npz")
    rows = train_cells(
        str(tmp_path / "a.npz"), Block("a", (3, 40)), {3: POOL[3], 40: POOL[40]}, settings, 0
    )
    assert [(row["config_id"], row["epoch"]) for row in rows] == [(3, 1), (3, 2), (40, 1), (40, 2)]
    expected = train(task, POOL[40], 0, 2, settings=settings, seed=0)
    assert [row["valid_loss"] for row in rows[2:]] == [row["valid_loss"] for row in expected]
    monkeypatch.setattr(module, "SECONDS", 0.0)
    rows = train_cells(
        str(tmp_path / "a.npz"), Block("a", (3, 40)), {3: POOL[3], 40: POOL[40]}, settings, 0
    )
    assert {row["config_id"] for row in rows} == {3}  # time is up: the rest is handed back


def test_a_diverged_trial_ends_with_nan_and_too_little_memory_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_task("a").save(tmp_path / "a.npz")
    first = {"epoch": 1, "valid_accuracy": 0.25, "seconds": 0.1}

    def diverges(*args: Any, **options: Any) -> list[Any]:
        raise Diverged(2, "training loss is nan", [first])

    monkeypatch.setattr("foretune.training.trial.train", diverges)
    rows = train_cells(str(tmp_path / "a.npz"), Block("a", (3,)), {3: POOL[3]}, Settings(**TINY), 0)
    assert (rows[0]["epoch"], rows[0]["valid_accuracy"]) == (1, 0.25)
    assert rows[1]["epoch"] == 2
    assert np.isnan(rows[1]["valid_accuracy"])

    def lacks_memory(*args: Any, **options: Any) -> list[Any]:
        raise MemoryError

    monkeypatch.setattr("foretune.training.trial.train", lacks_memory)
    with pytest.raises(MemoryError):
        train_cells(str(tmp_path / "a.npz"), Block("a", (3,)), {3: POOL[3]}, Settings(**TINY), 0)
