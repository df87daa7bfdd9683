"""The update rules, checked against what the papers write, number by number."""

import math

import pytest
import torch
from torch import nn

from foretune.errors import BadInput
from foretune.training.optimizers import build
from foretune.training.paper_optimizers import (
    SLS,
    AdaBound,
    AdaS,
    SelfTuning,
    rank_after_epoch,
)
from foretune.training.spectral import network_rank


def weight(value, grad):
    p = nn.Parameter(torch.tensor(value, dtype=torch.float64))
    p.grad = torch.tensor(grad, dtype=torch.float64)
    return p


def test_adabound_follows_its_rule_for_three_steps():
    p = weight([1.0, -2.0], [0.5, 40.0])
    optimizer = AdaBound([p], lr=0.01, final_lr=0.1, gamma=0.1, weight_decay=0.0)
    w, m, v = [1.0, -2.0], [0.0, 0.0], [0.0, 0.0]
    for t, grads in enumerate([[0.5, 40.0], [0.1, -3.0], [-0.2, 0.0]], 1):
        p.grad = torch.tensor(grads, dtype=torch.float64)
        optimizer.step()
        for i, g in enumerate(grads):
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            step = 0.01 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) / (math.sqrt(v[i]) + 1e-8)
            w[i] -= min(max(step, 0.1 * (1 - 1 / (0.1 * t + 1))), 0.1 * (1 + 1 / (0.1 * t))) * m[i]
        assert p.tolist() == pytest.approx(w, rel=1e-12)


def test_adabound_ends_as_sgd_and_a_schedule_scales_its_bounds():
    p = weight([0.0], [2.0])
    optimizer = AdaBound([p], lr=0.01, betas=(0.0, 0.999), final_lr=0.1, gamma=1.0)
    p.grad = torch.tensor([2.0], dtype=torch.float64)
    optimizer.step()
    optimizer.state[p]["step"] = 10**9
    before = p.item()
    optimizer.step()
    assert before - p.item() == pytest.approx(0.1 * 2.0, rel=1e-6)
    optimizer.param_groups[0]["lr"] = 0.001
    before = p.item()
    optimizer.step()
    assert before - p.item() == pytest.approx(0.01 * 2.0, rel=1e-6)


def learn(conv, strength):
    """Put a rank-one signal into a convolution."""
    with torch.no_grad():
        generator = torch.Generator().manual_seed(7)
        u, c = (
            torch.randn(conv.weight.shape[0], generator=generator),
            torch.randn(conv.weight.shape[1], generator=generator),
        )
        w = c[:, None, None] * torch.randn(conv.weight.shape[2:], generator=generator)
        conv.weight.add_(strength * u[:, None, None, None] * w)


def test_adas_rates_follow_the_gain_of_each_layer():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(6, 12, 3), nn.BatchNorm2d(12), nn.Conv2d(12, 8, 1), nn.Linear(3, 2)
    )
    optimizer = AdaS(net.parameters(), lr=0.03, beta=0.9, zeta=0.5)
    first, last, norm, fc = net[0].weight, net[2].weight, net[1].weight, net[3].weight
    group = optimizer.param_groups[0]
    assert optimizer.rate(first, group) == 0.03
    optimizer.end_epoch()  # random weights: no gain anywhere
    optimizer.end_epoch()
    assert [optimizer.rate(p, group) for p in (first, last, norm, fc)] == [0.03] * 4
    learn(net[0], 2.0)
    optimizer.end_epoch()  # rank 1: gain 1/12 by output, 1/6 by input
    expected = 0.9 * 0.03 + 0.5 * (1 / 12 + 1 / 6) / 2
    assert optimizer.rate(first, group) == pytest.approx(expected)
    assert optimizer.rate(norm, group) == pytest.approx(expected)
    assert optimizer.rate(last, group) == optimizer.rate(fc, group) == 0.03
    optimizer.end_epoch()  # nothing gained: the rate decays
    assert optimizer.rate(first, group) == pytest.approx(0.9 * expected)
    with torch.no_grad():
        first.normal_(generator=torch.Generator().manual_seed(1))
    optimizer.end_epoch()  # what was known is lost: 0.81 * expected - zeta / 8 is below 0
    assert optimizer.rate(first, group) == pytest.approx(max(0.81 * expected - 0.5 / 8, 0))


def test_adas_gives_a_depthwise_layer_the_rate_of_the_convolution_before_it():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(6, 12, 3), nn.Conv2d(12, 12, 3, groups=12), nn.Conv2d(12, 8, 1))
    optimizer = AdaS(net.parameters(), lr=0.03)
    optimizer.end_epoch()
    learn(net[0], 2.0)
    learn(net[1], 9.0)  # which says nothing
    optimizer.end_epoch()
    rates = [optimizer.rate(m.weight, optimizer.param_groups[0]) for m in net]
    assert rates[0] == rates[1] > 0.03 == rates[2]
    lonely = nn.Conv2d(4, 4, 3, groups=4)
    optimizer = AdaS(lonely.parameters(), lr=0.03)
    optimizer.end_epoch()
    assert optimizer.rate(lonely.weight, optimizer.param_groups[0]) == 0.03


def test_adas_steps_as_sgd_with_momentum_and_its_own_rates():
    p, q = weight([[[[1.0]]], [[[2.0]]]], [[[[0.5]]], [[[0.5]]]]), weight([3.0], [1.0])
    optimizer = AdaS([p, q], lr=0.1, momentum=0.9, weight_decay=0.01)
    optimizer.step()
    assert q.item() == pytest.approx(3 - 0.1 * 1.03)
    optimizer.state[q]["rate"] = 0.5
    before = q.item()
    optimizer.step()
    assert before - q.item() == pytest.approx(0.5 * (0.9 * 1.03 + 1 + 0.01 * before))
    with pytest.raises(ValueError, match="beta"):
        AdaS([q], beta=1.0)


def test_sls_takes_the_first_step_that_meets_armijos_condition():
    p = weight([1.0, 1.0], [0.0, 0.0])
    scale = torch.tensor([1.0, 10.0], dtype=torch.float64)

    def loss():
        return 0.5 * (scale * p**2).sum()

    class Short(SLS):
        FEWEST = 1

    optimizer = Short([p], lr=1.0, c=0.1, backtrack=0.5, gamma=4.0, batches=2)
    p.grad = (scale * p).detach().clone()
    optimizer.step(loss)
    # along the gradient: loss(eta) = (1 - eta)^2 / 2 + 5 (1 - 10 eta)^2; it must fall by 0.1 eta
    # 101: 1, .5, .25 do not, .125 does
    for eta, holds in ((1, False), (0.5, False), (0.25, False), (0.125, True)):
        assert (0.5 * (1 - eta) ** 2 + 5 * (1 - 10 * eta) ** 2 <= 5.5 - 0.1 * eta * 101) is holds
    assert p.tolist() == pytest.approx([1 - 0.125, 1 - 1.25])
    assert optimizer.param_groups[0]["eta"] == 0.125
    p.grad = (scale * p).detach().clone()
    optimizer.step(loss)  # starts from 0.125 * 4^(1/2) = 0.25, which fails, back to 0.125
    assert optimizer.param_groups[0]["eta"] == 0.125
    optimizer.end_epoch()
    assert optimizer.param_groups[0]["batches"] == 2
    with pytest.raises(ValueError, match="loss"):
        optimizer.step()


@pytest.mark.parametrize(
    ("batches", "growth"), [(20, 2 ** (1 / 390)), (390, 2 ** (1 / 390)), (1000, 2 ** (1 / 1000))]
)
def test_sls_grows_no_faster_than_in_its_authors_epochs(batches, growth):
    """gamma^(1 / batches), as published, where an epoch has 390 batches or more; else gamma^(1 /
    390).
    """
    p = weight([1.0], [1.0])
    optimizer = SLS([p], lr=1e-3, gamma=2.0, batches=batches)

    def loss():
        return p.sum()  # a line: any step is taken

    for k in range(3):
        before = p.item()
        optimizer.step(loss)
        assert before - p.item() == pytest.approx(1e-3 * growth**k, rel=1e-9)


def test_sls_with_no_descent_at_all_takes_the_smallest_step():
    p = weight([1.0], [1.0])
    optimizer = SLS([p], lr=1.0, tries=5, smallest=1e-6)
    values = iter([0.0, *[1.0] * 5])
    optimizer.step(lambda: torch.tensor(next(values)))
    assert p.item() == pytest.approx(1 - 1e-6, abs=1e-12)


@pytest.mark.parametrize("make", [AdaBound, AdaS, SLS])
def test_state_survives_a_checkpoint(make, tmp_path):
    def start():
        torch.manual_seed(3)
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.Linear(6, 2))

    x, y = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(1)), torch.arange(8) % 2

    def train(net, optimizer, steps):
        for _ in range(steps):
            loss = nn.functional.cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(lambda: nn.functional.cross_entropy(net(x), y))
            if isinstance(optimizer, SelfTuning):
                optimizer.end_epoch()

    through = start()
    train(through, make(through.parameters(), lr=0.1), 6)
    net = start()
    optimizer = make(net.parameters(), lr=0.1)
    train(net, optimizer, 3)
    torch.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "x")
    saved = torch.load(tmp_path / "x", weights_only=True)
    again = start()
    optimizer = make(again.parameters(), lr=0.1)
    again.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])
    train(again, optimizer, 3)
    for a, b in zip(through.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    first, last = start(), through
    assert nn.functional.cross_entropy(last(x), y) < nn.functional.cross_entropy(first(x), y)


def test_all_three_can_be_named_in_a_configuration():
    for name, kind, options in (
        ("adabound", AdaBound, {"final_lr": 0.5}),
        ("adas", AdaS, {"beta": 0.975}),
        ("sls", SLS, {"c": 0.5}),
    ):
        made = build(name, [weight([1.0], [0.0])], 0.02, 1e-4, **options)
        assert isinstance(made, kind)
        assert made.param_groups[0]["lr"] == 0.02 and made.param_groups[0]["weight_decay"] == 1e-4
        assert {k: made.param_groups[0][k] for k in options} == options
    with pytest.raises(BadInput, match="beta"):
        build("adas", [weight([1.0], [0.0])], 0.02, beta=2.0)


def test_z_after_an_epoch_decomposes_nothing_that_adas_has_decomposed(monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1))
    adas, sgd = AdaS(net.parameters(), lr=1e-4), build("sgd", net.parameters(), 0.1)
    decomposed = []
    eigvalsh = torch.linalg.eigvalsh
    monkeypatch.setattr(
        torch.linalg, "eigvalsh", lambda a: decomposed.append(len(a)) or eigvalsh(a)
    )
    for _ in range(2):
        net(torch.randn(2, 3, 9, 9)).square().mean().backward()
        adas.step()
        with torch.no_grad():  # something to find
            net[0].weight += 3 * torch.outer(torch.randn(8), torch.randn(27)).view(8, 3, 3, 3)
        adas.end_epoch()
        each = sum(decomposed)
        found = rank_after_epoch(net, adas)
        # two of the first layer, none of the depthwise, one of the last
        assert each == 3 and sum(decomposed) == 3
        assert found == network_rank(net) == rank_after_epoch(net, sgd) and 0 < found < 1
        decomposed.clear()
    # which AdaS cannot know from the weights alone
    grouped = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2))
    adas = AdaS(grouped.parameters())
    adas.end_epoch()
    decomposed.clear()
    assert rank_after_epoch(grouped, adas) == network_rank(grouped) and len(decomposed) > 0
