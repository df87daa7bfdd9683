"""Models in the formats of others: what is written gives what the model gives."""

import copy
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_training import config, settings, task
from torch import nn

from foretune.errors import BadInput
from foretune.training import export as exporting
from foretune.training.export import export
from foretune.training.model_file import Model, write_model
from foretune.training.trial import train

LIGHT = {"learning_rate": 1e-3, "optimizer": "adam", "finetune": "all"}
# a plain network of timm, a chain by hand of torchvision's, and one that is built for its size
NETWORKS = {"test_resnet": config(), "shufflenet_v2_x05": LIGHT, "test_vit": config()}


@pytest.fixture(scope="module", params=list(NETWORKS))
def model(request, tmp_path_factory) -> Model:
    folder = tmp_path_factory.mktemp("model")
    checkpoint = folder / "trial.ckpt"
    chosen = settings(request.param)
    train(task(), NETWORKS[request.param], 0, 1, settings=chosen, seed=0, checkpoint=checkpoint)
    write_model(checkpoint, folder / "best.pt")
    return Model.load(folder / "best.pt")


def pixels(count: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_a_state_dict_is_the_librarys_own(model: Model, tmp_path: Path) -> None:
    """As somebody does who has timm or torchvision alone."""
    import timm
    import torchvision

    done = export(model, "state_dict", tmp_path / "plain.pt")
    state = torch.load(done.path, weights_only=True)
    plain = {
        "test_resnet": lambda: timm.create_model("test_resnet", num_classes=3),
        "test_vit": lambda: timm.create_model("test_vit", num_classes=3, img_size=32),
        "shufflenet_v2_x05": lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=3),
    }[model.about["network"]]()
    plain.load_state_dict(state)
    about = json.loads((tmp_path / "plain.pt.json").read_text(encoding="utf-8"))
    images = torch.from_numpy(pixels().transpose(0, 3, 1, 2).copy()).float() / 255
    mean, std = (torch.tensor(about[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.inference_mode():
        found = plain.eval()((images - mean) / std).softmax(1).numpy()
    np.testing.assert_allclose(found, model.probabilities(pixels()), atol=1e-5)
    assert about["loaded_by"] == done.loaded_by and about["classes"] == list(model.classes)


def test_torchscript_takes_plain_pixels_of_any_number(model: Model, tmp_path: Path) -> None:
    done = export(model, "torchscript", tmp_path / "t.pt")
    network = torch.jit.load(str(done.path))
    for count in (1, 5):
        images = torch.from_numpy(pixels(count).transpose(0, 3, 1, 2).copy()).float() / 255
        np.testing.assert_allclose(
            network(images).detach().numpy(), model.probabilities(pixels(count)), atol=1e-5
        )


@pytest.mark.slow
def test_onnx_takes_plain_pixels_of_any_number(model: Model, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    done = export(model, "onnx", tmp_path / "o.onnx")
    session = runtime.InferenceSession(str(done.path), providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images = pixels(count).transpose(0, 3, 1, 2).astype(np.float32) / 255
        (found,) = session.run(["probabilities"], {"pixels": images})
        np.testing.assert_allclose(found, model.probabilities(pixels(count)), atol=1e-5)


def test_safetensors_by_its_suffix(model: Model, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    export(model, "state_dict", tmp_path / "plain.safetensors")
    assert len(load_file(tmp_path / "plain.safetensors")) > 10


def test_what_differs_is_not_written(model: Model, tmp_path: Path, monkeypatch) -> None:
    """A network with another bias in its classifier, as a wrong order of tensors would make it."""
    right = exporting.library_model

    def wrong(model: Model) -> tuple[nn.Module, str]:
        plain, call = right(model)
        plain = copy.deepcopy(plain)
        last = [m for m in plain.modules() if isinstance(m, nn.Linear)][-1]
        last.bias.data = last.bias.data + torch.tensor([0.01, 0.0, 0.0])
        return plain, call

    monkeypatch.setattr(exporting, "library_model", wrong)
    with pytest.raises(BadInput, match="differs .* and was not written"):
        export(model, "torchscript", tmp_path / "t.pt")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_kind_and_a_missing_package_are_said(
    model: Model, tmp_path: Path, monkeypatch
) -> None:
    with pytest.raises(BadInput, match="did you mean onnx"):
        export(model, "onx", tmp_path / "o")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BadInput, match=r"pip install 'foretune\[onnx\]'"):
        export(model, "onnx", tmp_path / "o")
