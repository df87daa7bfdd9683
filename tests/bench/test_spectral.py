"""The parts of a Z's cost are those of the whole, and every matrix is counted."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

PATH = Path(__file__).resolve().parents[2] / "bench" / "spectral.py"
spec = importlib.util.spec_from_file_location("bench_spectral", PATH)
assert spec is not None and spec.loader is not None
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16), nn.Conv2d(16, 8, 1))


def test_parts_and_matrices(network):
    seconds = bench.parts(network)
    assert set(seconds) == {"gram", "eigenvalues", "rest"} and min(seconds.values()) > 0
    assert [tuple(m.shape[:2]) for m in bench.decomposed(network)] == [(16, 3), (3, 16), (8, 16)]


def test_a_signal_is_found_and_depthwise_layers_are_told_apart(network):
    assert bench.shares(network) == (1.0, 1.0)
    bench.signal(network)
    assert bench.shares(network) == (0.0, 0.0)


def test_the_line_of_a_network(capsys):
    bench.cost(["shufflenet_v2_x05"])
    first, second = capsys.readouterr().out.splitlines()
    assert '"twice": 0' in first and "low-rank part" in second
