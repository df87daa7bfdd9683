"""DPL's gradient and its forecasts."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.searchers.gray_box.dpl import DPL, PowerLaws


def test_a_member_is_the_law_of_its_own_network():
    laws = PowerLaws(2, 3, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    x, b = rng.random((7, 3)), rng.uniform(0.1, 1, 7)
    values = laws.predict(x, b)
    for k in range(2):
        (w1, b1), (w2, b2), (w3, b3) = ((w[k].numpy(), bias[k].numpy()) for w, bias in laws.layers)
        hidden = np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0)
        alpha, beta, gamma = (hidden @ w3 + b3).T
        np.testing.assert_allclose(values[k], alpha + beta * b ** -np.log1p(np.exp(gamma)))


def test_it_learns_power_laws_and_extrapolates():
    rng = np.random.default_rng(1)
    x = rng.random((60, 2))
    epochs = np.arange(1, 21) / 20
    curves = x[:, :1] - 0.3 * epochs ** -(0.3 + 0.5 * x[:, 1:])
    seen = epochs <= 0.5
    b, rows = np.tile(epochs[seen], 60), np.repeat(np.arange(60), seen.sum())
    laws = PowerLaws(5, 2, rng)
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
