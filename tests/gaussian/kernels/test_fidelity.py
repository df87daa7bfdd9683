"""Fidelity kernels against their definitions."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from foretune.gaussian.kernels.fidelity import FIDELITY_KERNELS, RBF, AccCurve, Matern
from foretune.gaussian.kernels.task import positive

EPOCHS = torch.linspace(0, 1, 7)


def test_acc_curve_is_the_gamma_mixture_of_saturating_exponentials():
    kernel = AccCurve()
    a, b = float(positive(kernel.alpha)), float(positive(kernel.beta))
    mixing = stats.gamma(a, scale=1 / b)
    for e1, e2 in ((0.3, 0.8), (0.1, 0.1)):
        both = lambda r, a=e1, b=e2: (1 - np.exp(-r * a)) * (1 - np.exp(-r * b)) * mixing.pdf(r)  # noqa: E731
        truth, _ = integrate.quad(both, 0, np.inf)
        value = kernel(torch.tensor([e1]), torch.tensor([e2]))
        assert float(value) == pytest.approx(float(positive(kernel.scale)) * truth, rel=1e-3)
    assert float(kernel(torch.tensor([0.0]), torch.tensor([0.5]))) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", FIDELITY_KERNELS)
def test_gram_is_symmetric_and_positive(name):
    K = FIDELITY_KERNELS[name]()(EPOCHS, EPOCHS).detach().numpy().astype(float)
    np.testing.assert_allclose(K, K.T, atol=1e-6)
    assert np.linalg.eigvalsh(K)[0] > -1e-5


def test_rbf_and_matern_values():
    one, two = torch.tensor([0.2]), torch.tensor([0.5])
    rbf, matern = RBF(), Matern()
    length, scale = float(positive(rbf.length)), float(positive(rbf.scale))
    assert float(rbf(one, two)) == pytest.approx(
        scale * np.exp(-0.5 * (0.3 / length) ** 2), rel=1e-5
    )
    r = 5**0.5 * 0.3 / length
    assert float(matern(one, two)) == pytest.approx(
        scale * (1 + r + r**2 / 3) * np.exp(-r), rel=1e-5
    )
