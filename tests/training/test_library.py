"""Any network of timm or torchvision: found by name, grouped, divided, trained, resumed, exported."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from small_training import config, numbers, settings, task
from timm.optim import param_groups_layer_decay

from foretune.errors import BadInput
from foretune.training.architectures import architecture
from foretune.training.model_file import Model, predict, write_model
from foretune.training.networks import build, check_buildable
from foretune.training.trial import Trial, train
from foretune.training.weights import imagenet_file

# ten families, ten kinds of blocks
FAMILIES = (
    "test_resnet", "test_vit", "test_convnext", "test_efficientnet", "test_byobnet", "test_nfnet",
    "test_maxvit", "test_mambaout", "torchvision:squeezenet1_1", "torchvision:shufflenet_v2_x0_5",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.slow
def test_ten_families_are_trained_killed_resumed_and_exported(name: str, tmp_path: Path) -> None:
    """Three epochs in one go, and one, a new process's worth of state, two more."""
    chosen, asked = config(finetune="most", augmentation="crop_flip", ema=0.9), settings(name)
    whole = train(task(), chosen, 0, 3, settings=asked, seed=1)
    path = tmp_path / "trial.ckpt"
    cut = train(task(), chosen, 0, 1, settings=asked, seed=1, checkpoint=path)
    cut += train(task(), chosen, 1, 3, settings=asked, seed=1, checkpoint=path)
    assert numbers(cut) == numbers(whole)
    write_model(path, tmp_path / "best.pt")
    images, labels = task().part("valid")
    shares = predict(tmp_path / "best.pt", images)
    assert (shares.argmax(1) == labels).mean() == pytest.approx(whole[-1]["valid_accuracy"])


@pytest.mark.parametrize("name", ["test_vit", "test_convnext"])
def test_resumed_numbers_are_the_same(name: str, tmp_path: Path) -> None:
    chosen = config(finetune=0.5, augmentation="crop_flip")
    whole = train(task(), chosen, 0, 2, settings=settings(name), seed=1)
    path = tmp_path / "c"
    for epoch in range(2):
        row = train(
            task(), chosen, epoch, epoch + 1, settings=settings(name), seed=1, checkpoint=path
        )
        assert numbers(row) == numbers(whole[epoch : epoch + 1])


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "torchvision:squeezenet1_1"])
@pytest.mark.parametrize("finetune", ["head", "last_blocks", "most"])
def test_the_frozen_layers_run_once_and_the_numbers_are_the_same(
    name: str, finetune: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, asked = config(finetune=finetune, optimizer="sgd"), settings(name)
    quick = Trial(task(), chosen, asked, seed=1)
    assert quick.network.divided and quick._start() == quick.network.first > 0
    rows = [quick.train_epoch() for _ in range(2)]
    monkeypatch.setattr(Trial, "_start", lambda self: 0)
    slow = Trial(task(), chosen, asked, seed=1)
    for row, other in zip(rows, [slow.train_epoch() for _ in range(2)], strict=True):
        for key in ("train_loss", "valid_loss"):
            assert row[key] == pytest.approx(other[key], rel=1e-4)


def test_what_is_frozen_stays_as_it_was_and_counts_nothing() -> None:
    one = Trial(task(), config(finetune="last_blocks"), settings("test_resnet"), seed=1)
    before = {key: value.clone() for key, value in one.network.state_dict().items()}
    one.train_epoch()
    kept = one.network.trained_state()
    changed = {k for k, v in one.network.state_dict().items() if not torch.equal(before[k], v)}
    assert changed and changed <= set(kept) < set(before)
    assert not any("running_mean" in key for key in set(before) - set(kept) & changed)


def test_layers_and_their_rates_are_timms() -> None:
    network = build("test_vit", 3, False, image_size=32)
    theirs = timm.create_model("test_vit", num_classes=3, img_size=32)
    ours, wanted = (
        [
            (round(g["lr_scale"], 9), g["weight_decay"], [tuple(p.shape) for p in g["params"]])
            for g in param_groups_layer_decay(model, weight_decay=0.1, layer_decay=0.7)
        ]
        for model in (network, theirs)
    )
    assert ours == wanted
    assert network.depth == len({scale for scale, _, _ in ours})


@pytest.mark.parametrize(
    ("finetune", "first"),
    [("head", 8), (0.0, 8), ("last_blocks", 5), (0.5, 4), ("most", 2), ("all", 0), (1.0, 0)],
)
def test_depths_are_shares_of_the_layers(finetune: str | float, first: int) -> None:
    """test_vit has 8 layers: the stem, six blocks, what follows them."""
    network = build("test_vit", 3, False, finetune=finetune, image_size=32).train()
    assert network.first == first
    for name, parameter in network.named_parameters():
        at = network.layer_of(name)
        assert parameter.requires_grad == (at >= first or name.startswith("model.head."))
    assert network.model.blocks[0].training == (first <= 1)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("convnext_tinny", "convnext_tiny"),
        ("timm:resnet81", "resnet18"),
        ("resnet50.nonsense", "is not known"),
        ("keras:resnet50", "names the library 'keras'"),
    ],
)
def test_names_that_are_none(name: str, near: str) -> None:
    with pytest.raises(BadInput, match=near):
        architecture(name)


def test_a_name_may_say_its_library() -> None:
    assert architecture("resnet18").chain
    assert not architecture("timm:resnet18").chain
    assert architecture("torchvision:resnet18").library == "torchvision"
    assert architecture("resnet18.a1_in1k").model == "resnet18.a1_in1k"
    assert architecture("vit_tiny_patch16_224").mean == (0.5, 0.5, 0.5)


def test_a_size_that_a_network_does_not_take_is_refused() -> None:
    check_buildable("test_vit", False, None, 32, 0.0)
    with pytest.raises(BadInput, match="test_vit.*33 px"):
        check_buildable("test_vit", False, None, 33, 0.0)
    with pytest.raises(BadInput, match=r"drop_path=0\.1"):
        check_buildable("torchvision:resnet18", False, None, 32, 0.1)
    with pytest.raises(BadInput, match="no stochastic depth"):
        check_buildable("mobilenet_v2", False, None, 32, 0.1)


def test_weights_from_a_file(tmp_path: Path) -> None:
    theirs = timm.create_model("test_convnext", num_classes=7)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "w.pth")
    for file in ("w.safetensors", "w.pth"):
        network = build("test_convnext", 3, weights=tmp_path / file, finetune="head", image_size=32)
        x = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(
                network.eval().model.forward_features(x), theirs.eval().forward_features(x)
            )
        assert network(x).shape == (2, 3)
    with pytest.raises(BadInput, match="does not fit test_vit: it lacks"):
        build("test_vit", 3, weights=tmp_path / "w.pth", image_size=32)
    (tmp_path / "code.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadInput, match="holds no weights"):
        build("test_vit", 3, weights=tmp_path / "code.safetensors", image_size=32)


def test_safetensors_of_a_chain_are_matched_by_name(tmp_path: Path) -> None:
    theirs = torchvision.models.shufflenet_v2_x0_5(weights=None)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    network = build("shufflenet_v2_x05", 3, weights=tmp_path / "w.safetensors")
    torch.testing.assert_close(network.stages["stem"][0][0].weight, theirs.conv1[0].weight)


def test_where_weights_would_come_from_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("foretune.training.weights._reachable", lambda address: False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a: None)
    with pytest.raises(BadInput, match=r"timm/test_vit.*cannot be reached.*--from-scratch") as said:
        imagenet_file("test_vit")
    assert "\n" not in str(said.value)


def test_an_exported_network_is_the_librarys(tmp_path: Path) -> None:
    """Its tensors are those of timm under `model.`."""
    path = tmp_path / "c"
    train(task(), config(), 0, 1, settings=settings("test_resnet"), seed=1, checkpoint=path)
    write_model(path, tmp_path / "best.pt")
    model = Model.load(tmp_path / "best.pt")
    network, about = model.network, model.about
    theirs = timm.create_model("test_resnet", num_classes=3)
    state = torch.load(tmp_path / "best.pt", weights_only=True)["state_dict"]
    theirs.load_state_dict({key.removeprefix("model."): v for key, v in state.items()})
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(x), theirs.eval()(x))
    assert about["network"] == "test_resnet" and np.allclose(about["mean"], network.mean)
