"""The NAS-Bench-201 importer, on small files in NATS-Bench's layout."""

import bz2
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.stores.nasbench201 import config, convert

ARCH = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"


def architecture(arch: str, first: float) -> dict[str, object]:
    def training(base: float, epochs: list[int]) -> dict[str, object]:
        evals = {f"{name}@{e}": base + e for e in epochs for name in ("x-valid", "ori-test")}
        return {
            "name": "infer.tiny",
            "epochs": 3,
            "seed": 777,
            "net_state_dict": None,
            "eval_acc1es": evals,
        }

    results = OrderedDict()
    results["cifar10-valid", 777] = training(first, [0, 1, 2])
    results["cifar10-valid", 888] = training(first + 10, [0, 1, 2])
    results["cifar100", 777] = training(first + 20, [2])
    results["cifar10", 777] = training(99.0, [0, 1, 2])
    return {
        "12": {},
        "200": {
            "arch_index": 0,
            "arch_str": arch,
            "all_results": results,
            "dataset_seed": {"cifar100": [777]},
        },
    }


def test_a_small_export(tmp_path: Path):
    other = ARCH.replace("none~2", "nor_conv_3x3~2")
    (tmp_path / "000000.pickle.pbz2").write_bytes(
        bz2.compress(pickle.dumps(architecture(ARCH, 50.0)))
    )
    (tmp_path / "000011.pickle").write_bytes(pickle.dumps(architecture(other, 60.0)))
    (tmp_path / "meta.pickle.pbz2").write_bytes(b"not read")
    convert(tmp_path, tmp_path / "out")
    meta = MetaDataset.load(tmp_path / "out")
    assert (
        meta.tasks == ["cifar10-valid", "cifar100"]
        and meta.config_ids == [0, 11]
        and meta.max_epoch == 3
    )
    np.testing.assert_allclose(meta.curves("cifar10-valid"), [[50, 51, 52], [60, 61, 62]])
    np.testing.assert_allclose(meta.curves("cifar10-valid", seed=1)[1], [70, 71, 72])
    np.testing.assert_allclose(
        meta.curves("cifar100"), [[np.nan, np.nan, 72], [np.nan, np.nan, 82]]
    )
    assert meta.configs[1]["edge_3_2"] == "nor_conv_3x3"
    assert meta.X.shape == (2, 30) and (meta.X.sum(axis=1) == 6).all()


def test_the_edges_of_an_architecture():
    assert config(ARCH) == {
        "edge_1_0": "nor_conv_3x3",
        "edge_2_0": "none",
        "edge_2_1": "skip_connect",
        "edge_3_0": "avg_pool_3x3",
        "edge_3_1": "nor_conv_1x1",
        "edge_3_2": "none",
    }
    for wrong in ("", ARCH.replace("none", "conv"), ARCH[:-10]):
        with pytest.raises(BadInput, match="not an architecture"):
            config(wrong)


def test_an_empty_folder_and_a_wrong_file_are_told(tmp_path: Path):
    with pytest.raises(BadInput, match="no architecture files"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "000000.pickle.pbz2").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"000000\.pickle"):
        convert(tmp_path, tmp_path / "out")
