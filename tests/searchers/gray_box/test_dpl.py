"""DPL's gradient and its forecasts."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.searchers.gray_box.dpl import DPL, SMOOTH, PowerLaws


def loss(laws: PowerLaws, x, b, y) -> float:
    raw = laws.laws(x)[0]
    error = np.abs(raw[..., 0] + raw[..., 1] * b ** -np.logaddexp(0, raw[..., 2]) - y)
    smooth = np.where(error < SMOOTH, 0.5 * error**2 / SMOOTH, error - 0.5 * SMOOTH)
    return float(smooth.mean(axis=1).sum())


def test_the_gradient_is_the_slope_of_the_loss():
    rng = np.random.default_rng(0)
    laws = PowerLaws.new(2, 3, rng)
    x, b, y = rng.random((2, 7, 3)), rng.uniform(0.1, 1, (2, 7)), rng.normal(size=(2, 7))
    gradient = laws.gradient(x, b, y)
    for name, value in laws.p.items():
        direction = rng.normal(size=value.shape)
        ends = []
        for step in (1e-6, -1e-6):
            laws.p[name] = value + step * direction
            ends.append(loss(laws, x, b, y))
        laws.p[name] = value
        assert (gradient[name] * direction).sum() == pytest.approx(
            (ends[0] - ends[1]) / 2e-6, rel=1e-3, abs=1e-6
        ), name


def test_it_learns_power_laws_and_extrapolates():
    rng = np.random.default_rng(1)
    x = rng.random((60, 2))
    epochs = np.arange(1, 21) / 20
    curves = x[:, :1] - 0.3 * epochs ** -(0.3 + 0.5 * x[:, 1:])
    seen = epochs <= 0.5
    b, rows = np.tile(epochs[seen], 60), np.repeat(np.arange(60), seen.sum())
    laws = PowerLaws.new(5, 2, rng)
    laws.fit(x[rows], b, curves[:, seen].ravel(), steps=600, lr=3e-3, batch=64, rng=rng)
    final = laws.predict(x, np.ones(60)).mean(axis=0)
    assert np.sqrt(np.mean((final - curves[:, -1]) ** 2)) < 0.2 * curves[:, -1].std()


def test_the_schedule_grows():
    chosen = DPL()
    assert [chosen.scheduled(n) for n in (1, 2, 10, 11, 12, 21, 22, 24)] == [
        1,
        2,
        10,
        11,
        12,
        20,
        22,
        24,
    ]
    with pytest.raises(BadInput, match="members=0"):
        DPL(members=0)


@pytest.mark.parametrize("lr", [0.0, -0.01])
def test_a_learning_rate_that_is_not_positive_is_refused(lr):
    with pytest.raises(BadInput, match=f"lr={lr:g} must be positive"):
        DPL(lr=lr)
