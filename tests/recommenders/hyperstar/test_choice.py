"""What the inner leave-sources-out decides."""

import numpy as np
import torch

from foretune.recommenders.hyperstar.choice import DRAWS, batches, choose
from foretune.recommenders.hyperstar.training import Lesson, NetworkRecipe


def lesson(told: bool, tasks: int = 10, n: int = 12) -> Lesson:
    """A task is a number u; its features show u or nothing, its scores are highest where the
    configuration is u.
    """
    rng = np.random.default_rng(0)
    u, x = np.linspace(-1, 1, tasks), np.linspace(-1, 1, n)
    scores = -((x - u[:, None]) ** 2)
    scores = (scores - scores.mean(1, keepdims=True)) / scores.std(1, keepdims=True)
    shown = u if told else 0 * u
    features = [torch.tensor(rng.normal(s, 0.2, (24, 1)), dtype=torch.float32) for s in shown]
    labels = [np.arange(24) % 2 for _ in u]
    return Lesson(
        features, labels, scores, scores, [f"s{i}" for i in range(tasks)], np.c_[np.eye(n), x]
    )


def test_features_that_tell_are_believed_and_others_gain_little() -> None:
    recipe = NetworkRecipe(images=8)
    told, blind = lesson(True), lesson(False)
    good = choose(told, recipe, told.activations, 0)
    assert good.strength > 0.7 and good.error < 0.5 * good.mean_error
    poor = choose(blind, recipe, blind.activations, 0)
    assert 0.7 * poor.mean_error < poor.error <= poor.mean_error  # what chance gives with ten tasks


def test_the_plain_network_is_believed_as_it_is() -> None:
    own = lesson(True)
    assert choose(own, NetworkRecipe(images=8, residual=False), own.activations, 0).strength == 1.0


def test_too_few_sources_choose_nothing() -> None:
    own = lesson(True, tasks=2)
    assert choose(own, NetworkRecipe(steps=33), own.activations, 0).steps == 33
    assert choose(lesson(True), NetworkRecipe(steps=7, inner=0), [], 0).steps == 7


def test_batches_are_drawn_by_seed() -> None:
    pooled = torch.arange(20.0)[:, None]
    a = batches(pooled, 8, 1)
    assert a.shape == (DRAWS, 8, 1)
    assert torch.equal(a, batches(pooled, 8, 1)) and not torch.equal(a, batches(pooled, 8, 2))
    assert all(len(batch.unique()) == 8 for batch in a)
    assert batches(pooled[:3], 8, 1).shape == (DRAWS, 8, 1)
