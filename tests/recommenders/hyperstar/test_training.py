"""Algorithm 1: batches, targets, folds, what each step changes."""

import numpy as np
import pytest
import torch
from torch import nn

from foretune.recommenders.hyperstar.training import (
    Batches,
    Lesson,
    NetworkRecipe,
    Trained,
    base_scores,
    folds_of,
)

SOURCES = ["a", "a", "b", "c"]


def lesson(tail: bool = False) -> Lesson:
    generator = torch.Generator().manual_seed(0)
    acts = [torch.randn(20, 3, 2, 2, generator=generator) + i for i in range(4)]
    scores = np.array([[1.0, 0, -1], [1, 0, -1], [-1, 0, 1], [0, 1, -1]])
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 1) if tail else None
    if conv is None:
        acts = [a.mean(dim=(2, 3)) for a in acts]
    return Lesson(
        acts, [np.arange(20) % 4 for _ in range(4)], scores, scores, SOURCES, np.eye(3), conv
    )


def test_the_base_of_a_task_is_the_mean_of_other_sources() -> None:
    scores = np.array([[1.0, 0], [3, 0], [5, 2], [7, 4]])
    assert base_scores(scores, SOURCES).tolist() == [[6, 3], [6, 3], [11 / 3, 4 / 3], [3, 2 / 3]]
    assert base_scores(scores, ["a"] * 4).tolist() == [[4, 1.5]] * 4


def test_folds_keep_a_source_together_and_cover_all() -> None:
    folds = folds_of(SOURCES, 4, np.random.default_rng(0))
    assert len(folds) == 3
    assert sorted(np.concatenate(folds)) == [0, 1, 2, 3]
    assert [0, 1] in [fold.tolist() for fold in folds]


def test_batches_come_whole_or_from_some_classes() -> None:
    labels = [np.arange(40) % 4, np.zeros(3, int)]
    always = Batches(labels, 16, 1.0, np.random.default_rng(0))
    seen = {len(np.unique(labels[0][always.draw([0])[0]])) for _ in range(30)}
    assert seen == {2, 3}  # never all four: a proper subset
    assert len(always.draw([0, 1])[1]) == 16  # three images, drawn with replacement
    never = Batches(labels, 40, 0.0, np.random.default_rng(0))
    assert sorted(never.draw([0])[0].tolist()) == list(range(40))


def test_training_lowers_the_loss_and_is_a_function_of_the_seed() -> None:
    recipe = NetworkRecipe(images=8, dropout=0.0, weight_decay=0.0)
    one, two = Trained(lesson(), recipe, 1), Trained(lesson(), recipe, 1)
    first = one.step(tail=False)
    assert one.run(60).step(tail=False) < 0.2 * first
    two.run(62)
    for a, b in zip(one.network.parameters(), two.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_training_leaves_the_global_generator_alone() -> None:
    own = lesson()
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    Trained(own, NetworkRecipe(images=8), 1).run(2)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("tail", [False, True])
def test_the_tail_moves_only_when_it_is_told_to(tail: bool) -> None:
    own = lesson(tail=True)
    before = own.tail.weight.detach().clone()  # type: ignore[union-attr]
    trained = Trained(own, NetworkRecipe(images=8, tail_tasks=2, residual=False), 0).run(
        5, tail=tail
    )
    assert torch.equal(own.tail.weight, before) is not tail  # type: ignore[union-attr]
    assert trained.network.centre.shape == (5,)


def spread_of(alpha: float, beta: float) -> tuple[float, float]:
    """How far cosines are from r, and how far batches of a task from each other, after training."""
    trained = Trained(
        lesson(), NetworkRecipe(images=4, alpha=alpha, beta=beta, dropout=0.0, steps=150), 0
    ).run(150)
    with torch.no_grad():
        t = torch.stack(
            [
                torch.cat([trained.network.represent(f[None, i : i + 4]) for i in range(0, 20, 4)])
                for f in trained.frozen
            ]
        )
    unit = torch.nn.functional.normalize(t.mean(dim=1), dim=1)
    apart = ~torch.eye(4, dtype=torch.bool)
    return float((unit @ unit.T - trained.r)[apart].abs().mean()), float(
        t.std(dim=1).mean() / t.mean(dim=1).std(dim=0).mean()
    )


def test_the_similarity_regulariser_brings_cosines_to_ap() -> None:
    assert spread_of(1.0, 0.0)[0] < 0.6 * spread_of(0.0, 0.0)[0]


def test_only_keeps_what_belongs_together() -> None:
    part = lesson().only([2, 0])
    assert part.sources == ["b", "a"]
    assert part.scores.tolist() == [[-1, 0, 1], [1, 0, -1]]
    assert torch.equal(part.activations[0], lesson().activations[2])
