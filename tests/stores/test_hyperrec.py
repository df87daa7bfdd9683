"""The HyperRec importer: published values come out exactly."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.stores.hyperrec import config, convert

RAW = {
    "model": "resnet50",
    "nepoch": 2,
    "batchsize": 64,
    "optimizer": "SGD",
    "scheduler": "CyclicLR",
    "optimizer_param": {"lr": 0.01, "weight_decay": 1e-4, "momentum": 0.5},
    "scheduler_param": {
        "mode": "exp_range",
        "base_lr": 0.01,
        "max_lr": 0.012,
        "step_size_up": 4,
        "gamma": 0.2,
    },
}


def test_the_published_folder_gives_the_published_table(
    shared: Path, tmp_path: Path, assert_same_table
):
    meta = convert(shared / "data/originals/HyperRec", tmp_path / "out")
    assert len(meta.tasks) == 25
    have = assert_same_table(tmp_path / "out", shared / "data/curves/hyperrec")
    want = MetaDataset.load(shared / "data/curves/hyperrec")
    assert have.about["paper_pairs"] == want.about["paper_pairs"]


def test_a_small_release_in_the_published_layout(tmp_path: Path):
    (tmp_path / "configs.pkl").write_bytes(pickle.dumps({0: RAW, 1: {**RAW, "batchsize": 32}}))
    curves = {0: np.array([0.1, 0.2]), 1: np.array([0.3, 0.4])}
    (tmp_path / "profiles.pkl").write_bytes(
        pickle.dumps({0: {"A": curves}, 1: {"A": {0: np.array([0.5, 0.6])}}})
    )
    convert(tmp_path, tmp_path / "out")
    meta = MetaDataset.load(tmp_path / "out")
    assert meta.configs[0]["cycliclr.max_lr_ratio"] == pytest.approx(1.2)
    assert meta.configs[0]["optimizer"] == "Momentum" and meta.configs[1]["batch_size"] == 32
    np.testing.assert_allclose(meta.curves("A"), [[0.1, 0.2], [0.3, 0.4]])
    np.testing.assert_allclose(meta.curves("A", seed=1)[0], [0.5, 0.6])
    assert np.isnan(meta.curves("A", seed=1)[1]).all()
    assert meta.about["paper_pairs"] == []


def test_configurations_are_legal_in_the_space(tmp_path: Path):
    from foretune.stores.hyperrec import space

    space().check(config(RAW))


def test_a_missing_file_is_named(tmp_path: Path):
    (tmp_path / "configs.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(BadInput, match=r"profiles\.pkl"):
        convert(tmp_path, tmp_path / "out")
