"""Networks as chains of stages, freezing, and weights."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from foretune.errors import BadInput
from foretune.packages import Package, fetch, member
from foretune.training import architectures, chains, weights
from foretune.training.networks import build

# 20 images of ImageNet, their class in the name of the file
FOOLBOX = Package(
    "foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb", 2, "MIT"
)


def labelled_images() -> list[tuple[torch.Tensor, int]]:
    """Pixels (1, 3, 224, 224) in [0, 1] and class of the images of FOOLBOX."""
    out = []
    with zipfile.ZipFile(fetch(FOOLBOX)) as archive:
        for file in sorted(m for m in archive.namelist() if m.startswith("foolbox/data/imagenet_")):
            with Image.open(io.BytesIO(member(archive, file))) as image:
                scaled = image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
            pixels = torch.from_numpy(np.asarray(scaled, dtype=np.float32)) / 255
            out.append((pixels.permute(2, 0, 1)[None], int(Path(file).stem.rsplit("_", 1)[-1])))
    return out


@pytest.mark.parametrize(("name", "right"), [("efficientnet_lite0", 17), ("mobilenet_v2", 18)])
def test_imagenet_weights_classify_imagenet(name: str, right: int) -> None:
    """A tensor in the wrong place gives 0 or 1 of 20."""
    try:
        images, (state, origin) = labelled_images(), weights.imagenet_state(name)
    except BadInput as error:
        pytest.skip(f"ImageNet weights cannot be fetched here: {error}")
    network = build(name, 1000, pretrained=False)
    chains.load_by_order(network, state, origin)
    network.eval()
    mean, std = (torch.tensor(v)[:, None, None] for v in (network.mean, network.std))
    with torch.no_grad():
        correct = [int(network((x - mean) / std).argmax()) == label for x, label in images]
    assert (sum(correct), len(correct)) == (right, 20)


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x05", "resnet18"])
def test_chain_computes_what_the_library_does(name: str) -> None:
    torch.manual_seed(7)
    theirs = torchvision.models.get_model(
        architectures.architecture(name).model, weights=None, num_classes=5
    ).eval()
    ours = build(name, 5, pretrained=False, seed=1).eval()
    chains.load_by_order(ours, theirs.state_dict(), "torchvision")
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
        middle = ours(x, stop=3)
        torch.testing.assert_close(ours(middle, start=3), ours(x))


def test_timm_chain_computes_what_the_library_does() -> None:
    import timm

    theirs = timm.create_model("efficientnet_lite0", num_classes=5).eval()
    ours = build("efficientnet_lite0", 5, pretrained=False, seed=1).eval()
    chains.load_by_order(ours, theirs.state_dict(), "timm")
    x = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("finetune", "first"),
    [("head", "head"), ("last_blocks", "block5"), ("most", "block2"), ("all", "stem")],
)
def test_freezing(finetune: str, first: str) -> None:
    network = build("mobilenet_v2", 4, pretrained=False, finetune=finetune).train()
    assert network.names[network.first] == first
    for index, stage in enumerate(network.stages.values()):
        assert all(p.requires_grad == (index >= network.first) for p in stage.parameters())
        assert stage.training == (index >= network.first)
    kept = {key.split(".")[1] for key in network.trained_state()}
    assert kept == set(network.names[network.first :])


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (
        build("shufflenet_v2_x05", 3, pretrained=False, seed=s).state_dict() for s in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["stages.head.weight"], other["stages.head.weight"])


def test_own_weights_file_and_what_is_shared(tmp_path: Path) -> None:
    source = torchvision.models.shufflenet_v2_x0_5(weights=None)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    one, two = (
        build("shufflenet_v2_x05", 3, weights=tmp_path / "w.pth", finetune="head", seed=s)
        for s in (0, 1)
    )
    assert one.stages["stem"] is two.stages["stem"]  # frozen: one copy for all trials
    torch.testing.assert_close(one.stages["stem"][0][0].weight, source.conv1[0].weight)
    assert one.stages["head"].out_features == 3
    whole = build("shufflenet_v2_x05", 3, weights=tmp_path / "w.pth", finetune="all")
    assert whole.stages["stem"] is not one.stages["stem"]  # trained: a copy of its own


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="resnet18"):
        build("resnet81", 3)
    with pytest.raises(BadInput, match="2 classes"):
        build("resnet18", 1, pretrained=False)
    with pytest.raises(BadInput, match="last_blocks"):
        build("shufflenet_v2_x05", 3, pretrained=False, finetune="half")
    with pytest.raises(BadInput, match="does not exist"):
        build("resnet18", 3, weights=tmp_path / "none.pth")
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(BadInput, match="holds no weights"):
        build("resnet18", 3, weights=tmp_path / "bad.pth")
    torch.save({"a": torch.zeros(3)}, tmp_path / "few.pth")
    with pytest.raises(BadInput, match="does not fit"):
        build("shufflenet_v2_x05", 3, weights=tmp_path / "few.pth")


def test_no_network_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    with pytest.raises(BadInput, match="needs a network.*mobilenet_v2"):
        build("seresnext50", 3)
