"""EVBMF against a slow minimisation of the free energy itself, and knowledge gain on networks."""

import time

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from torch import nn

from foretune.errors import BadInput
from foretune.training.spectral import (
    evbmf,
    gram,
    knowledge_gain,
    low_rank,
    network_rank,
    singular_values,
    threshold,
    zero_share,
)


def components(s: np.ndarray, m: int, v: float) -> tuple[np.ndarray, np.ndarray]:
    """Free energy (m, L dims) and posterior mean of each component at noise variance v, by
    coordinate descent from the data.

    With priors of the components optimised out, component h costs -M log(1 - P) - L log(1 - Q) -
    s^2 / v P Q for 0 <= P, Q < 1 (the shares of its two factors' second moments that are signal)
    and has posterior mean s P Q; P = Q = 0 is the null component, of cost 0. Each step below
    minimises this over P or over Q exactly; no threshold and no closed-form solution of the pair is
    used.
    """
    small = len(s)
    snr = np.maximum(s**2 / v, 1e-300)
    p = np.full(small, 1 - 1e-12)
    q = p.copy()
    for _ in range(4000):
        old = p
        p = np.clip(1 - m / (snr * np.maximum(q, 1e-12)), 0, 1 - 1e-15)
        q = np.clip(1 - small / (snr * np.maximum(p, 1e-12)), 0, 1 - 1e-15)
        if np.max(np.abs(p - old)) < 1e-14:
            break
    cost = -m * np.log1p(-p) - small * np.log1p(-q) - snr * p * q
    return np.where(cost < 0, cost, 0.0), np.where(cost < 0, s * p * q, 0.0)


def slow_evbmf(matrix: np.ndarray, span: float = 5.0, points: int = 160) -> np.ndarray:
    """Low-rank singular values by minimising the free energy over the variance on a grid, then by
    Brent's method in the best brackets.

    The grid has `points` values of log v, down to `span` below that of a matrix of pure noise.
    """
    s = np.linalg.svd(matrix, compute_uv=False)
    small, m = min(matrix.shape), max(matrix.shape)

    def energy(log_v: float) -> float:
        v = float(np.exp(log_v))
        return small * m * log_v + float((s**2).sum()) / v + float(components(s, m, v)[0].sum())

    top = np.log((s**2).sum() / (small * m))
    grid = np.linspace(top - span, top + 0.1, points)
    values = np.array([energy(u) for u in grid])
    dips = [
        i
        for i in range(1, len(grid) - 1)
        if values[i] <= values[i - 1] and values[i] <= values[i + 1]
    ]
    dips = sorted(dips, key=lambda i: values[i])[:3]
    found = [
        minimize_scalar(energy, bracket=(grid[i - 1], grid[i], grid[i + 1]), tol=1e-11)
        for i in dips
    ]
    best = min(found, key=lambda result: result.fun)
    d = components(s, m, float(np.exp(best.x)))[1]
    return d[d > 0]


SHAPES = [
    (12, 12),
    (20, 20),
    (8, 40),
    (15, 60),
    (5, 90),
    (40, 8),
    (60, 15),
    (30, 18),
    (2, 30),
    (25, 27),
]


def noisy(seed: int) -> tuple[np.ndarray, int, float]:
    rng = np.random.default_rng(seed)
    rows, columns = SHAPES[seed % len(SHAPES)]
    rank = int(rng.integers(0, max(2, min(rows, columns) // 4)))
    sigma = float(10 ** rng.uniform(-3, 1))
    u, _ = np.linalg.qr(rng.normal(size=(rows, max(rank, 1))))
    w, _ = np.linalg.qr(rng.normal(size=(columns, max(rank, 1))))
    strength = (
        sigma
        * (np.sqrt(rows) + np.sqrt(columns))
        * rng.uniform(2.5, 8, size=max(rank, 1))
        * (rank > 0)
    )
    return (u * strength) @ w.T + sigma * rng.normal(size=(rows, columns)), rank, sigma


@pytest.mark.slow
def test_evbmf_agrees_with_slow_minimisation_on_200_matrices():
    worst, right = 0.0, 0
    for seed in range(200):
        matrix, rank, _ = noisy(seed)
        fast, slow = evbmf(matrix), slow_evbmf(matrix)
        assert len(fast) == len(slow), (
            f"seed {seed}: {len(fast)} values kept, {len(slow)} by slow minimisation"
        )
        assert (np.diff(fast) <= 0).all()
        if len(fast):
            worst = max(worst, float(np.max(np.abs(fast - slow) / slow)))
        right += len(fast) == rank
    assert worst < 1e-6
    assert right >= 194, f"the planted rank was recovered in {right} of 200"


HIGH_RANK = [
    (64, 64, 30, 0.1),
    (29, 31, 14, 0.1),
    (20, 20, 9, 0.1),
    (20, 24, 10, 0.1),
    (31, 29, 14, 0.3),
    (40, 44, 20, 0.03),
]


@pytest.mark.slow
def test_evbmf_finds_the_global_minimum_where_half_of_the_values_are_signal():
    """Near-square, little noise, ranks to L / 2: the free energy has a dozen minima, and those of
    wide pieces are easily passed over.
    """
    recovered = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        rows, columns, rank, sigma = HIGH_RANK[seed % len(HIGH_RANK)]
        signal = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
        matrix = signal + sigma * rng.normal(size=(rows, columns))
        fast, slow = evbmf(matrix), slow_evbmf(matrix, span=14.0, points=500)
        assert len(fast) == len(slow), (
            f"seed {seed}: {len(fast)} values kept, {len(slow)} by slow minimisation"
        )
        assert fast == pytest.approx(slow, rel=1e-6)
        recovered += len(fast) == rank
    assert recovered >= 12, f"the planted rank was recovered in {recovered} of 24"


def test_noise_variance_is_recovered_on_a_large_matrix():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(200, 5)) @ rng.normal(size=(5, 300)) + 0.3 * rng.normal(
        size=(200, 300)
    )
    kept = evbmf(matrix)
    clean = np.linalg.svd(matrix, compute_uv=False)[:5]
    assert len(kept) == 5
    # far above the noise, s - d tends to (L + M) v / s
    assert clean - kept == pytest.approx(500 * 0.09 / clean, rel=0.03)


@pytest.mark.parametrize("shape", [(7, 7), (5, 31), (31, 5)])
def test_scale_and_transpose_do_not_matter(shape):
    rng = np.random.default_rng(3)
    matrix = 20 * np.outer(rng.normal(size=shape[0]), rng.normal(size=shape[1])) + rng.normal(
        size=shape
    )
    kept = evbmf(matrix)
    assert len(kept) == 1
    assert evbmf(matrix.T) == pytest.approx(kept, rel=1e-12)
    for scale in (1e-170, 1e-8, 1e170):
        assert evbmf(matrix * scale) == pytest.approx(kept * scale, rel=1e-9)


def test_zeros_vectors_exact_rank_and_nonsense():
    assert len(evbmf(np.zeros((6, 9)))) == 0
    assert len(evbmf(np.ones((1, 9)))) == 0  # one row cannot be split into signal and noise
    rng = np.random.default_rng(1)
    exact = rng.normal(size=(10, 2)) @ rng.normal(size=(2, 14))
    assert evbmf(exact) == pytest.approx(np.linalg.svd(exact, compute_uv=False)[:2], rel=1e-6)
    for bad in (np.full((3, 3), np.nan), np.array([[np.inf, 1], [1, 1]])):
        with pytest.raises(BadInput, match="not finite"):
            evbmf(bad)
    with pytest.raises(BadInput, match="shape"):
        evbmf(np.zeros(5))


def test_any_layout_of_an_array_is_taken_and_complex_numbers_are_refused():
    rng = np.random.default_rng(3)
    matrix = 20 * np.outer(rng.normal(size=7), rng.normal(size=9)) + rng.normal(size=(7, 9))
    kept = evbmf(matrix)
    assert len(kept) == 1
    for same in (
        matrix[::-1],
        matrix[:, ::-1],
        matrix.T[::-1],
        np.asfortranarray(matrix),
        matrix.astype(">f8"),
    ):
        assert evbmf(same) == pytest.approx(kept, rel=1e-12)
    for bad in (matrix + 5j, torch.tensor(matrix) + 5j, np.array([["a", "b"], ["c", "d"]])):
        with pytest.raises(BadInput, match="real numbers"):
            evbmf(bad)


def test_threshold_solves_its_equation():
    alpha = torch.tensor([1e-4, 0.01, 0.05, 0.3, 1.0], dtype=torch.float64)
    tau = threshold(alpha)
    assert torch.log1p(tau) + alpha * torch.log1p(tau / alpha) == pytest.approx(tau, abs=1e-12)
    shortcut = 2.5129 * alpha.sqrt()
    assert shortcut / tau == pytest.approx(torch.tensor([0.726, 0.89, 0.95, 0.98, 1.0]), abs=0.02)


def test_padding_by_layer_changes_nothing():
    """Layers of one side but different widths go through one call."""
    rng = np.random.default_rng(5)
    matrices = [
        rng.normal(size=(16, w)) + k * np.outer(rng.normal(size=16), rng.normal(size=w))
        for k, w in [(0, 16), (3, 40), (9, 144)]
    ]
    grams = torch.stack([gram(torch.tensor(m)) for m in matrices])
    d = low_rank(singular_values(grams), torch.tensor([16, 40, 144]))
    for row, matrix in zip(d, matrices, strict=True):
        assert row[row > 0].numpy() == pytest.approx(evbmf(matrix), rel=1e-10)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 16, 3)
        self.grouped = nn.Conv2d(16, 32, 3, groups=4)
        self.depthwise = nn.Conv2d(32, 32, 3, groups=32)
        self.point = nn.Conv2d(32, 24, 1)
        self.grey = nn.Conv2d(1, 8, 3)
        self.head = nn.Linear(24, 5)


def test_gain_of_planted_layers():
    torch.manual_seed(0)
    net = Net()
    assert network_rank(net) == 1.0  # a random start is all noise
    with torch.no_grad():
        net.point.weight[:, :, 0, 0] += 3 * torch.outer(torch.randn(24), torch.randn(32))
        net.depthwise.weight += torch.randn(32)[:, None, None, None] * torch.randn(3, 3)
        net.a.weight.zero_()
    gains = {g.layer: g for g in knowledge_gain(net)}
    assert (gains["point"].output, gains["point"].input) == (
        pytest.approx(1 / 24),
        pytest.approx(1 / 32),
    )
    # a depthwise layer has no map between channels, whatever its filters share
    assert (
        gains["depthwise"].output,
        gains["depthwise"].input,
        gains["depthwise"].output_rank,
    ) == (None, None, None)
    assert (gains["a"].output, gains["a"].input) == (0, 0)
    assert gains["grey"].input is None and gains["grey"].output == 0
    # of the 7 unfoldings that count, those of a (2), grouped (2) and grey (1) have no gain
    assert zero_share(list(gains.values())) == pytest.approx(5 / 7)


def test_unfoldings_put_a_channel_and_all_its_connections_in_a_row():
    net = nn.Sequential(nn.Conv2d(8, 12, 3, groups=2))
    conv = net[0]
    with torch.no_grad():
        conv.weight.normal_(generator=torch.Generator().manual_seed(1))
        conv.weight[:6, 2] = 40.0  # input channel 2, in the first group, drowns the others
    gain = knowledge_gain(net)[0]
    rows = torch.stack(
        [conv.weight[6 * (c // 4) : 6 * (c // 4) + 6, c % 4].flatten() for c in range(8)]
    ).detach()
    kept = evbmf(rows)
    assert (gain.input_rank, gain.input) == (1, pytest.approx(float((kept / kept[0]).sum()) / 8))


def test_depthwise_convolutions_are_left_out_of_z():
    """Z of a separable network is that of its other layers; one without any other has none."""
    torch.manual_seed(0)
    wide = nn.Conv2d(16, 32, 3, groups=16)  # two filters a channel
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3, groups=16), wide, nn.Conv2d(32, 8, 1)
    )
    with torch.no_grad():
        net[0].weight += 3 * torch.outer(torch.randn(16), torch.randn(27)).view(16, 3, 3, 3)
    others = nn.Sequential(net[0], net[3])
    assert network_rank(net) == network_rank(others) == 0.5
    with pytest.raises(BadInput, match="depthwise"):
        network_rank(nn.Sequential(net[1], wide))


def test_frozen_and_broken_networks_are_refused():
    net = Net().requires_grad_(False)
    with pytest.raises(BadInput, match="no convolution"):
        knowledge_gain(net)
    assert len(knowledge_gain(net, trained_only=False)) == 5
    with torch.no_grad():
        net.point.weight[0, 0] = torch.nan
    with pytest.raises(BadInput, match="not finite"):
        knowledge_gain(net, trained_only=False)


def test_evbmf_of_a_resnet34_costs_little_beside_its_decompositions():
    """Processor time of everything but Gram matrices and eigenvalues: 36 layers, 69 spectra (three
    1x1 layers share theirs).
    """
    rng = torch.Generator().manual_seed(0)
    sides = {
        64: [147, *[576] * 13, 1152],
        128: [*[1152] * 15, 576, 64],
        256: [*[2304] * 23, 1152, 128],
        512: [*[4608] * 11, 2304, 256],
    }
    spectra = {}
    for side, widths in sides.items():
        # eigenvalues of noise of the right law (Marchenko-Pastur), with a few signals
        s = torch.linspace(1, 0, side, dtype=torch.float64)[None].repeat(len(widths), 1)
        m = torch.tensor(widths).clamp_min(side)
        a = (side / m.double()).sqrt()[:, None]
        s = (1 - a + 2 * a * s) * m.double().sqrt()[:, None]
        s[:, :5] *= 1 + 3 * torch.rand(len(widths), 5, generator=rng, dtype=torch.float64)
        spectra[side] = s.sort(descending=True).values, m
    times = []
    for _ in range(3):
        began = time.process_time()
        for s, m in spectra.values():
            low_rank(s, m)
        times.append(time.process_time() - began)
    assert min(times) < 0.5  # about 0.05 on an idle machine


def test_nothing_is_decomposed_twice(monkeypatch):
    """A ResNet-34 has 36 convolutions: two matrices of each, one of the three that are 1x1."""
    from foretune.training.networks import build

    network = build("resnet34", 10, False, seed=0)
    asked = []

    def noise(grams):
        asked.append(len(grams))
        return torch.ones(grams.shape[:2], dtype=torch.float64)

    monkeypatch.setattr(torch.linalg, "eigvalsh", noise)
    monkeypatch.setattr("foretune.training.spectral.gram", lambda matrix, out: out.zero_())
    assert network_rank(network) == 1.0
    assert sum(asked) == 2 * 33 + 3
