"""A run that is told in so many words, as history."""

import math
from pathlib import Path

import pytest

from foretune.errors import BadInput
from foretune.history.runs import RunStore
from foretune.running.told_runs import tell_run

RUN = {"task": "roses", "config": {"lr": 0.1, "model": "vit"}, "metric": "val_acc"}


def test_it_is_read_as_an_import_is(tmp_path: Path):
    told = tell_run(tmp_path, "team", **RUN, values=[60.0, 72.5], seconds=30, trainer="timm")
    assert told.store == tmp_path / "history" / "team" and told.part is not None
    store = RunStore.load(told.store)
    (row,) = store.runs.to_dict("records")
    assert row["task"] == "roses" and row["learning_rate"] == 0.1 and row["network"] == "vit"
    assert row["value"] == pytest.approx(0.725) and row["unit"] == "share"  # percent
    assert (row["trainer"], row["seconds"], row["epochs_done"]) == ("timm", 30.0, 2.0)
    assert store.curves["epoch"].tolist() == [1.0, 2.0]


def test_another_reader_sees_the_same_run_once(tmp_path: Path):
    first = tell_run(tmp_path, "team", **RUN, values=[0.5])
    assert tell_run(tmp_path, "team", **RUN, values=[0.5]).part is None
    assert tell_run(tmp_path, "team", **RUN, values=[0.5, 0.7]).part is not None
    store = RunStore.load(first.store)
    assert len(store) == 1 and store.runs["value"].iloc[0] == 0.7


def test_a_run_without_any_value_teaches_nothing_but_is_kept(tmp_path: Path):
    told = tell_run(tmp_path, "team", **RUN, values=[], state="failed")
    assert math.isnan(RunStore.load(told.store).runs["value"].iloc[0])
    assert RunStore.load(told.store).tasks == []


def test_a_run_of_which_nothing_can_be_kept_is_refused(tmp_path: Path):
    with pytest.raises(
        BadInput, match=r"nothing of config could be kept \(lr: is no learning_rate"
    ):
        tell_run(tmp_path, "team", **(RUN | {"config": {"lr": "fast"}}), values=[0.5])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("store", ["..", "../x", "a/b", "/tmp/x", ".hidden", "", "a\0b"])
def test_a_store_lies_in_the_data_folder(tmp_path: Path, store: str):
    with pytest.raises(BadInput, match="must be a plain folder name"):
        tell_run(tmp_path, store, **RUN, values=[0.5])
    assert list(tmp_path.iterdir()) == []
