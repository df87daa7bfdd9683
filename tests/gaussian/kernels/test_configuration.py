"""Configuration kernels on a nested space: layout, sum-product over the tree, symmetry and sign."""

import numpy as np
import pytest
import torch
from synthetic import synthetic_space

from foretune.gaussian.kernels.configuration import (
    CONFIGURATION_KERNELS,
    DeepLinear,
    DeepPoly,
    Flat,
    Layout,
    Tree,
)
from foretune.gaussian.kernels.task import positive


@pytest.fixture
def layout():
    return Layout.of(synthetic_space())


@pytest.fixture
def X():
    space = synthetic_space()
    return torch.as_tensor(
        space.encode(space.sample(12, np.random.default_rng(0))), dtype=torch.float32
    )


def test_layout_knows_choices_children_and_activity(layout):
    columns = {c.name: c for c in layout.columns}
    assert (
        columns["optimizer"].one_hot and columns["optimizer"].stop - columns["optimizer"].first == 3
    )
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


def rbf(x, y, length=0.5):
    return np.exp(-0.5 * ((x[:, None] - y[None]) / length) ** 2)


def index(x, y, v=0.5):
    """Choices as one-hot rows under b = 1: equal 1, different 1 / (1 + v), both inactive 1, one
    inactive 0.
    """
    both = x @ y.T + (x @ (1 - y).T) / (1 + v)
    return both + (1 - x.sum(1))[:, None] * (1 - y.sum(1))[None]


def test_flat_is_the_product_of_the_kernels_of_its_hyperparameters(layout, X):
    x, product = X.numpy(), np.ones((len(X), len(X)))
    for c in layout.columns:
        columns = x[:, c.first : c.stop]
        product *= index(columns, columns) if c.one_hot else rbf(columns[:, 0], columns[:, 0])
    np.testing.assert_allclose(Flat(layout)(X, X).detach(), product, rtol=1e-4, atol=1e-6)


def test_tree_is_the_sum_product_over_the_conditions_one_hyperparameter_at_a_time(layout, X):
    x = X.numpy()
    columns = {c.name: x[:, c.first : c.stop] for c in layout.columns}

    def branch(column):
        values = columns[column.name]
        own = index(values, values) if column.one_hot else rbf(values[:, 0], values[:, 0])
        below, together = np.ones_like(own), np.zeros_like(own)
        for child in (c for c in layout.columns if c.parent == column.name):
            both = np.outer(x[:, child.activity], x[:, child.activity])
            below *= both * branch(child) + 1 - both
            together = np.maximum(together, both)
        return own + together * below  # w = 1

    product = np.prod([branch(c) for c in layout.columns if c.parent is None], axis=0)
    np.testing.assert_allclose(Tree(layout)(X, X).detach(), product, rtol=1e-4, atol=1e-6)


def test_the_polynomial_is_the_square_of_the_linear_kernel(layout, X):
    linear, square = DeepLinear(layout), DeepPoly(layout)
    scale = float(positive(linear.scale))
    np.testing.assert_allclose(
        square(X, X).detach() / scale, (linear(X, X).detach() / scale) ** 2, rtol=1e-4
    )
