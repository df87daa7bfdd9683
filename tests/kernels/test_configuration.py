"""Configuration kernels on a nested space: layout, sum-product over the tree, symmetry and sign."""

import numpy as np
import pytest
import torch

from foretune.evaluation.synthetic import synthetic_space
from foretune.kernels.configuration import CONFIGURATION_KERNELS, DeepLinear, DeepPoly, Flat, Layout, Tree
from foretune.kernels.task import positive


@pytest.fixture
def layout():
    return Layout.of(synthetic_space())


@pytest.fixture
def X():
    space = synthetic_space()
    return torch.as_tensor(space.encode(space.sample(12, np.random.default_rng(0))), dtype=torch.float32)


def test_layout_knows_choices_children_and_activity(layout):
    columns = {c.name: c for c in layout.columns}
    assert columns["optimizer"].one_hot and columns["optimizer"].stop - columns["optimizer"].first == 3
    assert not columns["learning_rate"].one_hot and columns["learning_rate"].parent is None
    assert columns["momentum"].parent == "optimizer"
    assert columns["momentum"].activity == layout.dims - 1


@pytest.mark.parametrize("name", CONFIGURATION_KERNELS)
def test_gram_is_symmetric_and_positive(name, layout, X):
    K = CONFIGURATION_KERNELS[name](layout)(X, X).detach().numpy().astype(float)
    np.testing.assert_allclose(K, K.T, rtol=1e-4, atol=1e-5)
    assert np.linalg.eigvalsh(K)[0] > -1e-4
    assert (np.diag(K) > 0).all()


def test_a_child_adds_likeness_only_where_both_configurations_have_it(layout):
    space = synthetic_space()
    base = {"learning_rate": 0.01, "finetune": "head"}
    sgd = [{**base, "optimizer": "sgd", "momentum": m} for m in (0.1, 0.9)]
    adam = {**base, "optimizer": "adam"}
    X = torch.as_tensor(space.encode([*sgd, adam, adam]), dtype=torch.float32)
    tree = Tree(layout)
    K = tree(X, X).detach()
    s, w = 1.0, float(positive(tree.weights["optimizer"]).detach())
    assert float(K[0, 0]) == pytest.approx(s * (1 + w), rel=1e-4)  # equal in all, momentum included
    assert float(K[2, 3]) == pytest.approx(s, rel=1e-4)  # equal, no child to compare
    assert float(K[2, 3]) < float(K[0, 1]) < float(K[0, 0])
    assert float(K[0, 2]) < s


def test_flat_is_the_product_of_its_parts(layout, X):
    kernel = Flat(layout)
    product = torch.ones(len(X), len(X))
    for part in kernel.parts:
        product = product * part(X, X)
    np.testing.assert_allclose(kernel(X, X).detach(), (positive(kernel.scale) * product).detach(), rtol=1e-5)


def test_the_polynomial_is_the_square_of_the_linear_kernel(layout, X):
    linear, square = DeepLinear(layout), DeepPoly(layout)
    scale = float(positive(linear.scale))
    np.testing.assert_allclose(square(X, X).detach() / scale, (linear(X, X).detach() / scale) ** 2, rtol=1e-4)
