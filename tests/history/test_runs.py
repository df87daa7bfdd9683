"""The run store: what goes in comes out, parts are only added, clones merge."""

import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from foretune.errors import BadInput
from foretune.history.runs import FACTS, NUMBERS, RunStore, run_id


def store(
    *names: str, done: float = 5.0, state: str = "complete", source: str = "csv:mine", **more
):
    """A store of runs `names` with one column, a rate, and a curve of two epochs each."""
    rows = []
    for k, name in enumerate(names):
        facts = {fact: math.nan if fact in NUMBERS else "" for fact in FACTS}
        facts |= {"run_id": run_id(name), "task": "flowers", "state": state, "source": source}
        facts |= {"source_id": name, "metric": "valid_accuracy", "goal": "maximize"}
        rows.append({**facts, "value": 0.5 + k / 10, "epochs_done": done, **more})
    runs = pd.DataFrame(rows).assign(learning_rate=[0.1 / (k + 1) for k in range(len(names))])
    curves = pd.DataFrame(
        [
            {"run_id": run_id(n), "epoch": float(e), "valid_accuracy": 0.5}
            for n in names
            for e in (1, 2)
        ]
    )
    return RunStore(runs, curves, {"sources": [source]}, "metric: acc\n")


def test_a_store_comes_back_as_it_was(tmp_path: Path):
    kept = store("a", "b")
    kept.save(tmp_path / "s")
    back = RunStore.load(tmp_path / "s")
    pd.testing.assert_frame_equal(back.runs, kept.runs, check_dtype=False)
    pd.testing.assert_frame_equal(back.curves, kept.curves, check_dtype=False)
    assert back.mapping == kept.mapping and back.about == kept.about
    assert back.columns == ["learning_rate"] and back.tasks == ["flowers"]
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        "about.json",
        "curves.parquet",
        "mapping.yaml",
        "runs.parquet",
    ]


def test_adding_twice_adds_once(tmp_path: Path):
    folder = tmp_path / "history"
    assert len(store("a", "b").add_to(folder)) == 2
    assert len(store("a", "b").add_to(folder)) == 0
    assert len(store("b", "c").add_to(folder)) == 1
    assert len(RunStore.load(folder)) == 3 and len(list(folder.iterdir())) == 2


def test_a_run_that_trained_on_counts_once_with_the_most_epochs(tmp_path: Path):
    folder = tmp_path / "history"
    store("a", done=2.0, state="running").add_to(folder)
    assert len(store("a", done=5.0).add_to(folder)) == 1
    (row,) = RunStore.load(folder).runs.to_dict("records")
    assert (row["epochs_done"], row["state"]) == (5.0, "complete")


def test_a_revision_counts_instead_and_later_epochs_of_it_too(tmp_path: Path):
    folder = tmp_path / "history"
    store("a", "b", task="wrong").add_to(folder)
    assert len(store("a", "b").add_to(folder)) == 0  # an import as before changes nothing
    assert len(store("a", "b").add_to(folder, revise=True)) == 2
    assert len(store("a", "b").add_to(folder, revise=True)) == 0
    assert RunStore.load(folder).tasks == ["flowers"]
    store("a", done=9.0, task="grown").add_to(folder)
    assert RunStore.load(folder).tasks == ["flowers", "grown"]


def test_two_clones_merge_without_a_conflict(tmp_path: Path):
    """Files of two clones either have different names or equal bytes, and hold all runs together."""
    here, there, both = tmp_path / "here", tmp_path / "there", tmp_path / "both"
    for folder in (here, there):
        store("a", "b").add_to(folder)
    store("c").add_to(here)
    store("d").add_to(there)
    shutil.copytree(here, both)
    for path in [p for p in there.rglob("*") if p.is_file()]:
        target = both / path.relative_to(there)
        if target.exists():
            assert target.read_bytes() == path.read_bytes(), path
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    assert sorted(RunStore.load(both).runs["source_id"]) == ["a", "b", "c", "d"]


def test_columns_of_two_types_can_be_kept_together(tmp_path: Path):
    folder = tmp_path / "history"
    store("a", **{"extra.depth": 3.0}).add_to(folder)
    store("b", **{"extra.depth": "deep"}).add_to(folder)
    merged = RunStore.load(folder)
    merged.save(tmp_path / "again")
    assert set(RunStore.load(tmp_path / "again").runs["extra.depth"]) == {"3.0", "deep"}


def test_a_part_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("foretune.history.runs.write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store("a").save(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_select_keeps_the_curves_of_what_it_keeps():
    part = store("a", "b").select(lambda runs: runs["source_id"] == "b")
    assert set(part.curves["run_id"]) == {run_id("b")} == set(part.runs["run_id"])
    assert len(RunStore.merge([])) == 0 == len(RunStore.empty())


def test_what_is_no_store_is_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="no run store"):
        RunStore.load(tmp_path)
    store("a").save(tmp_path / "s")
    (tmp_path / "s" / "about.json").unlink()
    with pytest.raises(BadInput, match=r"about\.json"):
        RunStore.load(tmp_path / "s")
    runs, curves = store("a").runs, store("a").curves
    with pytest.raises(BadInput, match="twice"):
        RunStore(pd.concat([runs, runs]), curves)
    with pytest.raises(BadInput, match="lr"):
        RunStore(runs.rename(columns={"learning_rate": "lr"}), curves)
    with pytest.raises(BadInput, match="state"):
        RunStore(runs.assign(state="done"), curves)
    with pytest.raises(BadInput, match="exists"):
        store("a").save(tmp_path / "s")
