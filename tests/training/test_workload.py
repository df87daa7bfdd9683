"""What networks compute, against figures from elsewhere and counts of our own."""

import pytest
import torch
from torch import nn

from foretune.errors import BadInput
from foretune.training.networks import build
from foretune.training.workload import TABLE, Work, Workload, counted, table, workload


def by_shapes(network, size):
    """Multiply-adds of convolutions and linear layers, from their shapes."""
    total = 0

    def seen(module, inputs, output):
        nonlocal total
        each = module.weight[0].numel()  # inputs of an output element
        total += output[0].numel() * each

    hooks = [
        m.register_forward_hook(seen)
        for m in network.modules()
        if isinstance(m, (nn.Conv2d, nn.Linear))
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return total / 1e9


def test_multiply_adds_are_those_of_the_layers_shapes():
    work = counted("torchvision:squeezenet1_1")
    network = build("torchvision:squeezenet1_1", 1000, False, image_size=work.small)
    assert work.at(work.small).gmacs == pytest.approx(by_shapes(network, work.small), rel=1e-6)
    assert work.mparams == pytest.approx(1.235, abs=0.001)  # torchvision's own page
    assert work.at(224).gmacs == pytest.approx(0.35, abs=0.005)


@pytest.mark.parametrize(
    ("name", "gmacs", "mparams"),
    # timm's results/model_metadata (GMACs at 224 px), torchvision's pages
    [
        ("resnet50", 4.11, 25.6),
        ("mobilenet_v2", 0.30, 3.5),
        ("torchvision:densenet121", 2.83, 7.98),
        ("timm:convnext_tiny", 4.47, 28.6),
        ("timm:vit_small_patch16_224", 4.6, 22.1),
    ],
)
def test_the_table_has_what_is_published(name, gmacs, mparams):
    work = workload(name)
    assert work.at(224).gmacs == pytest.approx(gmacs, rel=0.03)
    assert work.mparams == pytest.approx(mparams, rel=0.02)


def test_the_table_is_small_and_has_hundreds_of_names():
    assert TABLE.stat().st_size < 200_000 and len(table()) >= 300
    assert all(0 <= row.tail_last <= row.tail_most <= 1 for row in table().values())
    assert all(row.gmacs > 0 and row.melements > 0 and row.modules > 0 for row in table().values())
    same = counted("shufflenet_v2_x05")
    assert table()["shufflenet_v2_x05"].gmacs == pytest.approx(same.gmacs, rel=1e-4)


def test_work_grows_with_the_area_of_a_convolution_and_faster_with_attention():
    square = workload("resnet18")
    assert square.at(448).gmacs / square.at(224).gmacs == pytest.approx(4, rel=0.05)
    attention = workload("timm:vit_small_patch16_224")
    assert attention.at(448).gmacs / attention.at(224).gmacs > 4.05
    assert square.at(square.large) == Work(square.gmacs, square.melements)


def test_the_tail_is_what_is_trained():
    row = workload("mobilenet_v2")
    assert row.tail("head") == 0 and row.tail("all") == row.tail("lora") == row.tail(1.0) == 1
    assert row.tail("last_blocks") == row.tail(1 / 3) == row.tail_last
    shares = [row.tail(k / 20) for k in range(21)]
    assert shares == sorted(shares) and shares[0] == 0


def test_a_tag_and_a_library_are_no_other_network():
    tagged = workload("resnet18.a1_in1k") if "timm:resnet18" in table() else None
    assert tagged == table().get("timm:resnet18")
    assert workload("torchvision:squeezenet1_1").name == "torchvision:squeezenet1_1"


def test_an_unknown_network_is_refused():
    with pytest.raises(BadInput, match="mobilenet_v2"):
        workload("mobilenet_v22")


def test_one_size_alone_scales_with_the_area():
    row = Workload("x", 1.0, 10, 224, 1.0, 2.0, 224, 1.0, 2.0, 0.3, 0.7, True)
    assert row.at(112) == Work(0.25, 0.5)
