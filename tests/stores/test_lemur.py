"""The LEMUR importer, on a small wheel in the published layout."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.stores.lemur import convert

ROOT = "ab/nn/stat/train/img-classification_"


def trial(uid: str, accuracy: float, **more: float) -> dict[str, object]:
    same = {"duration": 1, "lr": 0.01, "batch": 32, "momentum": 0.5, "transform": "norm_32"}
    return {"accuracy": accuracy, "uid": uid, **same, **more}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "nn_dataset-2.1.2-py3-none-any.whl"
    entries = {
        "mnist_acc_VGG/1.json": [trial("a", 0.5), trial("b", 0.3, lr=0.1)],
        "mnist_acc_VGG/2.json": [trial("a", 0.6)],
        "mnist_acc_VGG/60.json": [trial("a", 0.9)],
        "svhn_acc_VGG/1.json": [trial("c", 0.4), trial("d", 0.45)],
        "svhn_acc_AlexNet/1.json": [trial("e", 0.2, dropout=0.3), trial("f", 0.1)],
        "svhn_acc_ga-0123/1.json": [trial("g", 0.99)],
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, trials in entries.items():
            archive.writestr(ROOT + name, json.dumps(trials))
        archive.writestr("ab/nn/stat/train/img-segmentation_coco_iou_UNet/1.json", "[]")
    return path


def test_the_trials_of_hand_written_models(wheel: Path, tmp_path: Path):
    convert(wheel, tmp_path / "out")
    meta = MetaDataset.load(tmp_path / "out")
    assert meta.tasks == ["mnist", "svhn"] and meta.max_epoch == 2
    # VGG twice, AlexNet with dropout; the one without its dropout is left out
    assert len(meta.configs) == 3
    shared = next(i for i, c in enumerate(meta.configs) if c["model"] == "VGG" and c["lr"] == 0.01)
    np.testing.assert_allclose(meta.curves("mnist")[shared], [0.5, 0.6])
    np.testing.assert_allclose(meta.curves("svhn")[shared], [0.4, np.nan])
    np.testing.assert_allclose(meta.curves("svhn", seed=1)[shared], [0.45, np.nan])
    alexnet = next(c for c in meta.configs if c["model"] == "AlexNet")
    assert alexnet["dropout"] == 0.3 and meta.space.conditional == ["dropout"]
    for config in meta.configs:
        meta.space.check(config)


def test_a_folder_with_the_wheel_does_too(wheel: Path, tmp_path: Path):
    convert(wheel.parent, tmp_path / "out")
    assert MetaDataset.load(tmp_path / "out").tasks == ["mnist", "svhn"]


def test_other_files_are_refused(tmp_path: Path):
    with pytest.raises(BadInput, match="0 wheels"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "nn_dataset-1.whl").write_bytes(b"x")
    with pytest.raises(BadInput, match="not the nn-dataset wheel"):
        convert(tmp_path, tmp_path / "out")
