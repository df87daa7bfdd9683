"""The importance of hyperparameters finds what a formula put there."""

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

from foretune.space.space import Space
from foretune.study.study import Plan, Step, Study
from foretune.views.importance import importance


def space():
    s = ConfigurationSpace(seed=0)
    kind = Categorical("kind", ["a", "b"])
    child = Float("child", (0.0, 1.0))
    s.add(Float("strong", (0.0, 1.0)), Float("weak", (0.0, 1.0)), kind, child)
    s.add(EqualsCondition(child, kind, "b"))
    return Space(s)


def study_of(value, n=80):
    s = space()
    configs = s.sample(n, np.random.default_rng(1))
    study = Study(s, configs, Plan("t", "accuracy", "maximize", max_epoch=1, budget=n))
    for i, config in enumerate(configs):
        study.tell(Step(i, 0, 1), [value(config)])
    return study


def test_strong_before_weak_and_shares_are_near_the_truth():
    found = importance(
        study_of(lambda c: 2.0 * c["strong"] + 0.5 * c["weak"]), np.random.default_rng(0)
    )
    assert not found.problem
    assert found.explained > 0.7
    assert list(found.index)[:2] == ["strong", "weak"]
    assert found.index["strong"] == pytest.approx(4 / 4.25, abs=0.2)  # variances 4/12 and 0.25/12
    assert found.index["kind"] < 0.05
    assert found.index["child"] < 0.05


def test_a_child_counts_where_it_is_active():
    found = importance(study_of(lambda c: c.get("child", 0.5)), np.random.default_rng(0))
    assert next(iter(found.index)) == "child"
    assert found.index["child"] > 0.5


def test_too_few_trials_or_nothing_to_explain_is_said():
    assert (
        "at least 12"
        in importance(study_of(lambda c: c["strong"], n=11), np.random.default_rng(0)).problem
    )
    assert "same value" in importance(study_of(lambda c: 0.5), np.random.default_rng(0)).problem
    noise = np.random.default_rng(3)
    assert (
        "too little"
        in importance(
            study_of(lambda c: float(noise.random()), n=20), np.random.default_rng(0)
        ).problem
    )


def test_same_seed_same_answer():
    study = study_of(lambda c: c["strong"], n=30)
    assert importance(study, np.random.default_rng(5)) == importance(
        study, np.random.default_rng(5)
    )
