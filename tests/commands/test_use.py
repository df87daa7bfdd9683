"""`foretune predict`, `evaluate`, `export` and `train`, by a model of a tiny folder of pictures."""

import csv
import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from small_training import config, settings

from foretune.commands.cli import main
from foretune.tasks.loading import load_task
from foretune.training.model_file import Model, write_model
from foretune.training.trial import assess, train


def make_folder(parent: Path) -> Path:
    """Three classes of twelve pictures that are no squares, some turned by their EXIF tag."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("ash", "birch", "cedar")):
        (parent / name).mkdir(parents=True)
        for number in range(12):
            size = (70, 50, 3) if number % 2 else (45, 61, 3)
            pixels = rng.integers(0, 120, size) + 60 * k
            exif = Image.Exif()
            exif[0x0112] = 6 if number % 3 == 0 else 1
            picture = Image.fromarray(pixels.astype(np.uint8))
            picture.save(parent / name / f"{number}.jpg", quality=90, exif=exif)
    return parent


@pytest.fixture(scope="module", params=["center", "squash", "pad"])
def made(request, tmp_path_factory):
    """The folder, its task, a checkpoint and the model of it."""
    parent = tmp_path_factory.mktemp(request.param)
    folder = make_folder(parent / "trees")
    task = load_task(folder, parent, 32, crop=request.param)
    checkpoint = parent / "trial.ckpt"
    train(task, config(), 0, 1, settings=settings(), seed=0, checkpoint=checkpoint)
    write_model(checkpoint, parent / "best.pt")
    return folder, task, checkpoint, parent / "best.pt"


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_predict_says_what_the_trainer_says_of_every_image(made, part, capsys) -> None:
    """The files are found by their pixels; all of a part, and no other, are predicted."""
    folder, task, checkpoint, model = made
    expected = assess(task, checkpoint, part)
    assert main(["predict", str(model), str(folder), "--json", "--top", "3"]) == 0
    said = json.loads(capsys.readouterr().out)
    read = Model.load(model)
    by_pixels = {read.read(Path(one["file"])).tobytes(): one["predictions"] for one in said}
    assert len(by_pixels) == 36
    for image, probabilities in zip(task.part(part)[0], expected.probabilities, strict=True):
        found = {one["class"]: one["probability"] for one in by_pixels[image.tobytes()]}
        for name, probability in zip(task.class_names, probabilities, strict=True):
            assert found[name] == pytest.approx(probability, abs=2e-6)


def test_evaluate_says_what_the_trainer_says(made, capsys) -> None:
    folder, task, checkpoint, model = made
    expected = assess(task, checkpoint, "test")
    line = ["evaluate", str(model), str(folder), "--data", str(model.parent)]
    assert main([*line, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["confusion"] == expected.confusion.tolist()
    for name, one in expected.metrics.items():
        assert said["metrics"][name]["value"] == pytest.approx(one.value, abs=1e-5)
        assert said["metrics"][name]["standard_error"] == pytest.approx(one.error, abs=1e-5)
    assert main([*line, "--part", "train"]) == 0
    out = capsys.readouterr()
    assert "birch" in out.out and "accuracy" in out.out and "±" in out.out
    assert "the model was trained on images of this part" in out.err
    assert main([*line, "--part", "rest"]) == 2
    assert "train, valid, test, all" in capsys.readouterr().err


def test_a_stored_task_is_read_as_it_was(tmp_path: Path, capsys) -> None:
    """Pictures that training read at 48 px and saw at 32 take both steps."""
    folder = make_folder(tmp_path / "trees")
    task = load_task(folder, tmp_path, 48)
    train(task, config(), 0, 1, settings=settings(), seed=0, checkpoint=tmp_path / "c")
    write_model(tmp_path / "c", tmp_path / "best.pt")
    model = Model.load(tmp_path / "best.pt")
    assert (model.read_size, model.image_size) == (48, 32)
    expected = assess(task, tmp_path / "c", "test").probabilities
    images = task.part("test")[0]
    found = {model.read(file).tobytes(): file for file in folder.rglob("*.jpg")}
    again = np.stack([model.read(found[image.tobytes()]) for image in images])
    np.testing.assert_array_equal(model.probabilities(again), expected)


def test_predict_as_lines_and_as_csv(made, capsys) -> None:
    folder, _, _, model = made
    file = folder / "ash" / "0.jpg"
    assert main(["predict", str(model), str(file), "--top", "1"]) == 0
    line = capsys.readouterr().out
    assert line.startswith(str(file)) and line.rstrip().endswith("%")
    assert main(["predict", str(model), str(file), str(folder / "birch"), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 13 and rows[0]["file"] == str(file)
    shares = [float(rows[0][f"probability{k}"]) for k in ("", "_2", "_3")]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-5)
    assert {rows[0][f"class{k}"] for k in ("", "_2", "_3")} == {"ash", "birch", "cedar"}


def test_bad_pictures_are_one_list(made, tmp_path: Path, capsys) -> None:
    folder, _, _, model = made
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "good.jpg").write_bytes((folder / "ash" / "0.jpg").read_bytes())
    (tmp_path / "notes.txt").write_text("passed over")
    assert main(["predict", str(model), str(tmp_path)]) == 2
    out = capsys.readouterr()
    assert out.out == "" and "2 of 3 images cannot be read" in out.err
    assert "broken.jpg" in out.err and "empty.png" in out.err and "--skip-bad" in out.err
    assert main(["predict", str(model), str(tmp_path), "--skip-bad", "--csv"]) == 0
    out = capsys.readouterr()
    assert len(out.out.splitlines()) == 2 and "good.jpg" in out.out and "broken.jpg" in out.err


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (["predict", "MODEL", "nothing.jpg", "none"], "no file or folder nothing.jpg, none"),
        (["predict", "MODEL", "EMPTY"], "there is no picture in that folder"),
        (["predict", "MODEL", "EMPTY", "--top", "0"], "--top 0 must be at least 1"),
        (["predict", "MODEL", "EMPTY", "--json", "--csv"], "choose one"),
        (["predict", "none.pt", "MODEL"], "there is no model file none.pt"),
        (["predict", "TEXT", "OTHER"], "is no model file, or a damaged one"),
        (["predict", "CUT", "OTHER"], "is no model file, or a damaged one"),
        (["predict", "PICTURE", "OTHER"], "is no model file, or a damaged one"),
        (["predict", "EMPTY", "OTHER"], "cannot be read as a model file"),
        (["predict", "MODEL", "TEXT"], "1 of 1 image cannot be read"),
        (["predict", "MODEL", "OTHER", "--device", "tpu"], "auto, cpu, cuda or cuda:N"),
        (["evaluate", "none.pt", "OTHER"], "there is no model file none.pt"),
        (["evaluate", "TEXT", "OTHER"], "is no model file, or a damaged one"),
        (["evaluate", "MODEL", "nowhere"], "there is no such folder"),
        (["evaluate", "MODEL", "TEXT"], "is a file; give a folder of class folders"),
        (["evaluate", "MODEL", "ONE"], "has 1 class folder"),
        (["evaluate", "MODEL", "OTHER"], "classes that the model does not know: fir, yew"),
        (["export", "MODEL", "--to", "onx"], "did you mean onnx"),
        (["export", "none.pt", "--to", "onnx"], "there is no model file none.pt"),
        (["export", "CUT", "--to", "onnx"], "is no model file, or a damaged one"),
        (["export", "MODEL", "--to", "state_dict", "--out", "MODEL"], "is the model itself"),
        (["export", "MODEL", "--to", "torchscript", "--out", "nowhere/x"], "no folder nowhere"),
        (["train", "MODEL", "OTHER"], "is no best.yaml"),
        (["train", "none.yaml", "OTHER"], "there is no file none.yaml"),
        (["train", "BEST", "nowhere"], "there is no such folder"),
        (["train", "BEST", "ONE"], "has 1 class folder"),
        (["train", "BEST", "OTHER", "--epochs", "0"], "--epochs 0 must be at least 1"),
        (["train", "BEST", "OTHER", "--threads", "0"], "--threads 0 must be at least 1"),
        (["train", "BEST", "OTHER", "--out", "TEXT"], "is a file; give a folder"),
        (["train", "BEST", "OTHER", "--device", "tpu"], "auto, cpu, cuda or cuda:N"),
    ],
)
def test_what_cannot_be_meant_is_refused(made, tmp_path, line, complaint, capsys) -> None:
    model = made[3]
    (tmp_path / "empty").mkdir()
    other = tmp_path / "other"
    for name in ("fir", "yew"):
        (other / name).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (9, 9), (k, 0, 0)).save(other / name / f"{k}.png")
    shutil.copytree(other / "fir", tmp_path / "one" / "fir")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "cut.pt").write_bytes(model.read_bytes()[:3000])
    best = {"config": config(), "epoch": 2, "settings": asdict(settings())}
    (tmp_path / "best.yaml").write_text(yaml.safe_dump(best), encoding="utf-8")
    known = {
        "MODEL": model,
        "EMPTY": tmp_path / "empty",
        "OTHER": other,
        "ONE": tmp_path / "one",
        "TEXT": tmp_path / "text.pt",
        "CUT": tmp_path / "cut.pt",
        "PICTURE": other / "fir" / "0.png",
        "BEST": tmp_path / "best.yaml",
    }
    assert main([str(known.get(one, one)) for one in line]) == 2
    assert complaint in capsys.readouterr().err


def test_a_model_of_more_classes_than_the_pictures_have_is_evaluated_on_those(
    made, tmp_path: Path, capsys
) -> None:
    folder, _, _, model = made
    shutil.copytree(folder, tmp_path / "two")
    shutil.rmtree(tmp_path / "two" / "cedar")
    line = ["evaluate", str(model), str(tmp_path / "two"), "--data", str(tmp_path), "--json"]
    assert main(line) == 0
    said = json.loads(capsys.readouterr().out)
    assert np.shape(said["confusion"]) == (3, 3) and sum(said["confusion"][2]) == 0
    assert said["images"] == np.sum(said["confusion"])


def test_export_says_how_it_is_loaded(made, capsys) -> None:
    model = made[3]
    assert main(["export", str(model), "--to", "state_dict"]) == 0
    path = model.with_name("best.state_dict.pt")
    assert f"{path}: model = timm.create_model('test_resnet', num_classes=3)" in (
        capsys.readouterr().out
    )
    assert "conv1.weight" in "".join(torch.load(path, weights_only=True)) or path.exists()
    assert json.loads(Path(f"{path}.json").read_text())["classes"] == ["ash", "birch", "cedar"]


def test_train_makes_the_final_model_once(made, tmp_path: Path, capsys) -> None:
    folder, task, _, _ = made
    best = tmp_path / "best.yaml"
    said = {"config": config(), "epoch": 2, "settings": asdict(settings()), "crop": task.crop}
    best.write_text(yaml.safe_dump({**said, "seconds_per_image": 0.001}), encoding="utf-8")
    line = ["train", str(best), str(folder), "--data", str(tmp_path)]
    assert main(line) == 0
    out = capsys.readouterr().out
    count = int((task.split != 2).sum())
    assert f"final training: 2 epochs on {count} images" in out and "about 0.0" in out
    assert "epoch 2: loss" in out and "measured once" in out
    about = Model.load(tmp_path / "final.pt").about
    assert about["crop"] == task.crop and about["epoch"] == 2
    assert main(line) == 0
    assert "epoch 1: loss" not in capsys.readouterr().out
    assert main([*line, "--epochs", "1", "--out", str(tmp_path / "short")]) == 0
    assert Model.load(tmp_path / "short" / "final.pt").about["epoch"] == 1
