"""The gate's collection: stopped at any point it goes on, and trains each cell once."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from foretune.history.meta_dataset import MetaDataset
from foretune.running.collection import COLUMNS, Collection
from foretune.running.collector import Job
from papers import command
from papers.light2 import collect, subtasks
from papers.light2.collect import better, main, trained_again
from papers.light2.gate import Table
from papers.light2.subtasks import IMAGES, epochs_of

Cells = Counter[tuple[str, int, int]]
Run = Callable[..., tuple[int, Cells]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where sub-tasks are prepared, once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def run(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Collect on sub-tasks of digits with trials that take no time, stopped after some cells."""
    monkeypatch.setattr(subtasks, "SIZE", 16)  # pixels: quicker to prepare
    monkeypatch.setattr(collect, "SOURCES", ("digits",))
    monkeypatch.setattr(collect, "MORE_SOURCES", ())
    monkeypatch.setattr(collect, "check", lambda *args, **kwargs: "")

    def go(most: int, plan: str = "gate") -> tuple[int, Cells]:
        done: Cells = Counter()

        def pretend(job: Job, say: Callable[[str], None]) -> int:
            for block in job.blocks:
                last = job.collection.settings_of(block.task).max_epoch
                for config in block.config_ids:
                    if done.total() == most:
                        job.collection.save()
                        return 130
                    key = (block.task, config, job.collection.seed)
                    done[key] += 1
                    cell = dict(zip(("task", "config_id", "seed"), key, strict=True))
                    job.collection.add(
                        [
                            cell | {"epoch": e} | dict.fromkeys(COLUMNS, 1 / 3)
                            for e in range(1, last + 1)
                        ]
                    )
            job.collection.save()
            return 0

        monkeypatch.setattr(command, "collect_on_processes", pretend)
        gate = ["--gate", str(tmp_path / "gate")]
        place = ["--data", str(data), "--out", str(tmp_path / plan), "--plan", plan]
        return main([*place, *gate]), done

    return go


def test_it_goes_on_where_it_was_stopped(run: Run, tmp_path: Path) -> None:
    status, first = run(30)
    assert (status, first.total()) == (130, 30)
    status, rest = run(10**6)
    assert status == 0
    assert set((first + rest).values()) == {1}  # each cell once
    by_seed = Counter(seed for _, _, seed in first + rest)
    assert by_seed == {0: 4 * 24, 1: 10}  # a tenth of 96 cells
    # the first half of the configurations, second seeds too, came before the rest
    cells = [*first, *rest]
    assert len({config for _, config, seed in cells[: 4 * 12] if seed == 0}) == 12
    assert 1 in {seed for _, _, seed in cells[48:60]}
    assert run(10**6) == (0, Counter())

    meta = MetaDataset.load(tmp_path / "gate")
    ends = [epochs_of(meta.about["factors"][f"digits_{n}"]["images"]) for n in IMAGES]
    assert list(meta.about["epochs"].values()) == ends and meta.max_epoch == max(ends)
    table = Table.of(meta)
    assert table.values.shape == (4, 24) and (~(table.again != table.again)).sum() == 10
    lines = (tmp_path / "gate" / "factors.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"digits_{n}" for n in IMAGES]


def test_light2_begins_with_the_gates_cells_and_trains_the_better_half_twice(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(10**6)[0] == 0
    capsys.readouterr()
    status, cells = run(10**6, "light2")
    assert status == 0 and "106 cells are the gate's" in capsys.readouterr().out
    seeds = Counter(seed for _, _, seed in cells)
    assert seeds[0] == 4 * 54 - 4 * 24  # the others are there
    meta = MetaDataset.load(tmp_path / "light2")
    again = meta.about["again"]
    assert {task: len(chosen) for task, chosen in again.items()} == dict.fromkeys(meta.tasks, 27)
    # all came to the same: the first 27, of which the gate had trained some twice
    assert again["digits_100"] == list(range(27))
    twice = {(t, c) for t, c, seed in cells if seed == 1}
    assert len(twice) >= 4 * 27 - 10 and all(c < 27 for _, c in twice)
    assert run(10**6, "light2") == (0, Counter())


def test_the_better_half_is_that_of_the_task(run: Run, tmp_path: Path) -> None:
    run(10**6, "light2")
    meta = MetaDataset.load(tmp_path / "light2")
    rows = meta.table[meta.table["seed"] == 0].copy()
    up = rows["task"] == "digits_100"
    rows["valid_accuracy"] = np.where(up, rows["config_id"], 53 - rows["config_id"]) / 100
    at = (rows["task"] == "digits_250") & (rows["config_id"] == 0)
    rows.loc[at & (rows["epoch"] == 3), "valid_accuracy"] = math.nan
    rows = rows[~at | (rows["epoch"] <= 3)]
    table = SimpleNamespace(table=rows, epochs=meta.about["epochs"], pool=meta.configs, seed=0)
    table.finished = lambda: {(t, c) for t in meta.tasks for c in range(54)}
    chosen = better(table)  # type: ignore[arg-type]
    assert chosen["digits_100"] == list(range(27, 54))
    assert chosen["digits_600"] == list(range(27))
    assert chosen["digits_250"] == list(range(1, 28))  # the best one diverged
    table.finished = lambda: {(t, c) for t in meta.tasks for c in range(53)}
    assert better(table) == {}  # type: ignore[arg-type]


def test_another_trainer_or_other_images_are_refused(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(3)
    asked = []

    def other(collection: Collection, files: Mapping[str, Path], say: Callable[..., None]) -> str:
        asked.append((collection.finished(), list(files)))
        return "another trainer"

    with monkeypatch.context() as patch:
        patch.setattr(collect, "check", other)
        assert run(1)[0] == 2
    assert len(asked[0][0]) == 3 and asked[0][1] == [f"digits_{n}" for n in IMAGES]
    assert "error: another trainer" in capsys.readouterr().err
    about = json.loads((tmp_path / "gate" / "about.json").read_text())
    about["hashes"] = dict.fromkeys(about["hashes"], "0" * 64)
    (tmp_path / "gate" / "about.json").write_text(json.dumps(about))
    assert run(1)[0] == 2
    assert "were trained on images 000000000000" in capsys.readouterr().err


def test_a_tenth_of_the_cells_is_trained_again() -> None:
    chosen = trained_again([f"t{i}" for i in range(24)], 24)
    cells = [(task, config) for task, configs in chosen.items() for config in configs]
    assert len(cells) == len(set(cells)) == 58
    assert all(0 <= config < 24 for _, config in cells)
    assert chosen == trained_again([f"t{i}" for i in range(24)], 24)
