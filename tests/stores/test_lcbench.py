"""The LCBench importer, from both published layouts."""

import json
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.stores.lcbench import convert

RAW = {
    "batch_size": 64,
    "learning_rate": 0.01,
    "momentum": 0.5,
    "weight_decay": 0.001,
    "num_layers": 3,
    "max_units": 128,
    "max_dropout": 0.2,
    "optimizer": "sgd",
}


def release(values: dict[str, list[float]]) -> dict[str, object]:
    """LCBench's own layout: one configuration per task, curves by task."""
    log = {
        task: {"Train/val_balanced_accuracy": v, "Train/loss": v, "time": v}
        for task, v in values.items()
    }
    return {
        task: {"0": {"config": RAW, "log": entry, "results": {"OpenML_task_id": "1"}}}
        for task, entry in log.items()
    }


def test_the_published_folder_gives_the_published_table(
    shared: Path, tmp_path: Path, assert_same_table
):
    convert(shared / "data/originals/LCBench", tmp_path / "out")
    have = assert_same_table(tmp_path / "out", shared / "data/curves/lcbench")
    assert (
        have.about["paper_pairs"]
        == MetaDataset.load(shared / "data/curves/lcbench").about["paper_pairs"]
    )


@pytest.mark.parametrize("folder", [True, False])
def test_the_json_release(tmp_path: Path, folder: bool):
    (tmp_path / "src").mkdir()
    path = tmp_path / "src" / "data_2k_lw.json"
    path.write_text(json.dumps(release({"adult": [0.5, 0.6, 0.7], "kc1": [0.1, 0.2, 0.3]})))
    convert(tmp_path / "src" if folder else path, tmp_path / "out")
    meta = MetaDataset.load(tmp_path / "out")
    assert meta.tasks == ["adult", "kc1"] and meta.max_epoch == 2
    np.testing.assert_allclose(meta.curves("adult"), [[0.6, 0.7]])
    np.testing.assert_allclose(meta.start("kc1"), [0.1])
    assert meta.configs[0] == {k: v for k, v in RAW.items() if k != "optimizer"}


def test_configurations_that_differ_between_tasks_are_refused(tmp_path: Path):
    data = release({"a": [0.5, 0.6], "b": [0.5, 0.6]})
    data["b"]["0"]["config"] = {**RAW, "momentum": 0.9}  # type: ignore[index]
    (tmp_path / "x.json").write_text(json.dumps(data))
    with pytest.raises(BadInput, match="configuration 0 of b"):
        convert(tmp_path / "x.json", tmp_path / "out")


@pytest.mark.parametrize("content", ["[]", "{", '{"a": {"0": {"config": {}, "log": {}}}}'])
def test_other_json_is_refused(tmp_path: Path, content: str):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(BadInput, match=r"x\.json"):
        convert(tmp_path / "x.json", tmp_path / "out")
