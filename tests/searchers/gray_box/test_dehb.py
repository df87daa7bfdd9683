"""DEHB's schedule, its crossing of configurations, and that it searches."""

from itertools import islice

import numpy as np

from foretune.searchers.gray_box.dehb import cross, slots
from foretune.searchers.gray_box.hyperband import brackets


def test_slots_are_hyperbands_brackets():
    first = brackets(9, 3)[0]
    found = list(islice(slots(9, 3), sum(first.sizes) + 1))
    assert [s.budget for s in found[:-1]] == [
        e for n, e in zip(first.sizes, first.epochs, strict=True) for _ in range(n)
    ]
    assert found[first.sizes[0]].below == first.epochs[0] and found[-1].bracket == 1


def test_a_number_is_crossed_as_rand_1(meta):
    space = meta.space
    rng = np.random.default_rng(0)
    configs = [
        {"learning_rate": lr, "optimizer": "adam", "finetune": "all"}
        for lr in (1e-4, 1e-2, 1e-1, 1e-3)
    ]
    for _ in range(50):
        child = cross(space, configs, 0.5, 1.0, rng)
        space.check(child)
        assert np.isclose(np.log10(child["learning_rate"]), -1.0)  # log10: -2 + 0.5 (-1 - -3)
        assert child["optimizer"] == "adam"
    kept = [cross(space, configs, 0.5, 0.0, rng) for _ in range(60)]
    same = [c["learning_rate"] == 1e-4 for c in kept]
    assert 0.4 < np.mean(same) < 0.95  # without crossover one hyperparameter changes, at random


def test_children_of_mixed_parents_are_legal(meta):
    rng = np.random.default_rng(1)
    for _ in range(100):
        meta.space.check(cross(meta.space, meta.space.sample(4, rng), 0.5, 0.5, rng))


def test_it_beats_random_search(regrets, random_regret):
    assert regrets("dehb", 80, seeds=6) < random_regret
