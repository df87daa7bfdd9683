"""The TaskSet importer: the DyHPO authors' JSON files."""

import json
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.stores.taskset import convert


def entry(lr: float, losses: list[float]) -> dict[str, object]:
    return {
        "hp": {"learning_rate": lr, "beta1": lr / 2},
        **{s: {"loss": losses} for s in ("train", "valid", "test")},
    }


def test_the_published_file_gives_the_published_table(
    shared: Path, tmp_path: Path, assert_same_table
):
    meta = convert(shared / "data/originals/taskset", tmp_path / "out")
    assert meta.tasks == ["imdb_patch32_GRU64_avg_bs128"]
    assert_same_table(tmp_path / "out", shared / "data/curves/taskset")


def test_losses_are_minimised_and_divergence_stays_visible(tmp_path: Path):
    content = json.dumps([entry(0.1, [0.9, 0.5]), entry(0.2, [0.8, float("inf")])])
    (tmp_path / "FixedTextRNNClassification_small.json").write_text(content)
    convert(tmp_path, tmp_path / "out")
    meta = MetaDataset.load(tmp_path / "out")
    assert meta.tasks == ["small"] and meta.goal == "minimize"
    np.testing.assert_allclose(meta.curves("small"), [[-0.9, -0.5], [-0.8, np.nan]])
    assert meta.failed("small").tolist() == [[False, False], [False, True]]
    assert meta.space.config_space["learning_rate"].log and not meta.space.config_space["beta1"].log
    for config in meta.configs:
        meta.space.check(config)


def test_files_with_other_configurations_are_refused(tmp_path: Path):
    (tmp_path / "a.json").write_text(json.dumps([entry(0.1, [1.0]), entry(0.2, [1.0])]))
    (tmp_path / "b.json").write_text(json.dumps([entry(0.1, [1.0]), entry(0.3, [1.0])]))
    with pytest.raises(BadInput, match=r"b\.json holds other configurations"):
        convert(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("content", ["[]", "{}", '[{"hp": {"a": 1}}]', "x"])
def test_other_layouts_are_refused(tmp_path: Path, content: str):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(BadInput, match=r"a\.json"):
        convert(tmp_path, tmp_path / "out")
