"""Successive halving and Hyperband against the paper and a plain implementation."""

import math

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.searchers.gray_box.hyperband import (
    Bracket,
    Hyperband,
    SuccessiveHalving,
    brackets,
    top,
)
from foretune.study.study import Step


def test_brackets_of_table_1():
    """Li et al. 2018, Table 1 (R = 81, eta = 3): rungs and epochs of each bracket, and the bracket
    s = 4 and s = 0 whole.

    The table starts s = 3, 2, 1 with 27, 9, 6 configurations, which takes the floor of (s_max + 1)
    / (s + 1); Algorithm 1 of the same paper takes the ceiling of the whole product, 34, 15, 8. We
    follow Algorithm 1.
    """
    found = brackets(81, 3)
    assert [b.epochs for b in found] == [
        (1, 3, 9, 27, 81),
        (3, 9, 27, 81),
        (9, 27, 81),
        (27, 81),
        (81,),
    ]
    assert [b.sizes for b in found] == [(81, 27, 9, 3, 1), (34, 11, 3, 1), (15, 5, 1), (8, 2), (5,)]
    table = [81, 27, 9, 6, 5]
    assert [math.floor(5 / (s + 1)) * 3**s for s in (4, 3, 2, 1, 0)] == table
    assert all(b.sizes[0] >= n for b, n in zip(found, table, strict=True))


def algorithm_1(R, eta):
    """Algorithm 1, lines 1 to 8, as written: for each s, the (n_i, r_i) before rounding r_i to
    whole epochs; exact integers for whole eta.
    """
    s_max = 0
    while eta ** (s_max + 1) <= R * (1 + 1e-12):
        s_max += 1
    B = (s_max + 1) * R
    out = []
    for s in range(s_max, -1, -1):
        n = math.ceil(B / R * eta**s / (s + 1) - 1e-9)
        r = R * eta**-s
        out.append([(math.floor(n * eta**-i + 1e-9), r * eta**i) for i in range(s + 1)])
    return out


def test_brackets_are_those_of_algorithm_1_for_any_eta_and_R():
    rng = np.random.default_rng(0)
    cases = [(R, eta) for R in range(1, 101) for eta in (2, 3, 4)]
    cases += [(int(rng.integers(1, 2000)), float(rng.uniform(1.3, 10))) for _ in range(300)]
    cases += [
        (eta**k, eta) for eta in (2, 3, 4, 5, 7, 10) for k in range(1, 5)
    ]  # exact powers: floor(log) must not round down
    for R, eta in cases:
        found, want = brackets(R, eta), algorithm_1(R, eta)
        assert len(found) == len(want), (R, eta)
        for bracket, rungs in zip(found, want, strict=True):
            assert bracket.sizes == tuple(max(1, n) for n, _ in rungs), (R, eta)
            assert bracket.epochs == tuple(min(R, max(1, round(r))) for _, r in rungs), (R, eta)
            assert bracket.epochs[-1] == R
            assert all(a >= b for a, b in zip(bracket.sizes, bracket.sizes[1:], strict=False))
            assert all(a <= b for a, b in zip(bracket.epochs, bracket.epochs[1:], strict=False))


def direct(values, R, eta, sampled, rounds):
    """Algorithm 1, lines 3 to 10, on a table of values (n, E): the (configuration, epochs)
    evaluations in order.

    `sampled` gives the configurations in the order in which they are drawn. The loss at r_i is the
    best value up to epoch r_i.
    """
    out, at = [], 0
    for bracket in brackets(R, eta) * rounds:
        survivors = sampled[at : at + bracket.sizes[0]]
        at += bracket.sizes[0]
        for i, epochs in enumerate(bracket.epochs):
            out += [(c, epochs) for c in survivors]
            keep = bracket.sizes[i + 1] if i + 1 < len(bracket.sizes) else 0
            survivors = sorted(survivors, key=lambda c, e=epochs: -values[c, :e].max())[:keep]
    return out


@pytest.mark.parametrize(("R", "eta"), [(9, 3), (8, 2), (27, 3), (10, 4), (16, 2.5), (1, 3)])
def test_the_sequence_on_a_table_is_algorithm_1s(table, R, eta):
    rng = np.random.default_rng(R)
    per_round = sum(b.sizes[0] for b in brackets(R, eta))
    values = np.sort(rng.normal(size=(2, 2 * per_round + 3, R)), axis=2) + rng.normal(
        0, 0.3, (2, 2 * per_round + 3, R)
    )
    meta = table(values)
    study, objective = replay_study(meta, "t0", budget=10**6, seed=4)
    steps = []
    while len(study.started) <= 2 * per_round and (step := study.ask(Hyperband(eta=eta))):
        outcome = objective.run(
            step.config_id, study.configs[step.config_id], step.start, step.stop
        )
        study.tell(step, outcome.rows)
        steps.append((step.config_id, step.stop))
    want = direct(values[0], R, eta, list(study.started), rounds=2)
    reached, new = {}, []
    # an evaluation that costs no new epoch (two rungs of equal length) is no step
    for c, epochs in want:
        if epochs > reached.get(c, 0):
            new.append((c, epochs))
            reached[c] = epochs
    assert steps[: len(new)] == new and len(set(study.started)) == len(study.started)


def test_successive_halving_repeats_the_first_bracket(table):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, 30, 9))
    study, objective = replay_study(table(values), "t0", budget=10**6)
    steps = []
    while len(study.started) < 19 and (step := study.ask(SuccessiveHalving())):
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
        steps.append(step.stop)
    assert steps == ([1] * 9 + [3] * 3 + [9]) * 2 + [1]


def test_only_the_best_are_promoted_ties_by_start_failed_never(table):
    values = np.zeros((1, 9, 9))
    values[0, :, 0] = [1, 5, 5, 2, 9, 5, 0, 8, 0]
    study, _ = replay_study(table(values), "t0", budget=1000)
    for c in range(9):
        study.tell(Step(c, 0, 1), [values[0, c, 0]])
    study.fail(Step(4, 1, 3), 2, "diverged")
    assert top(study, list(range(9)), 1, 4) == [7, 1, 2, 5]
    step = study.ask(Hyperband())
    assert (step.config_id, step.start, step.stop) == (7, 1, 3)
    for c in (7, 1, 2):
        study.tell(Step(c, 1, 3), [0.0, 0.0])
    assert (study.ask(Hyperband()).config_id, study.steps[-1]["stop"]) == (7, 9)


def test_a_rung_waits_for_its_results_and_the_next_bracket_starts_meanwhile(table):
    study, _ = replay_study(table(np.zeros((1, 40, 9))), "t0", budget=1000)
    first = [study.ask(Hyperband()) for _ in range(9)]
    assert {s.stop for s in first} == {1}
    ahead = study.ask(Hyperband())
    # of the second bracket: nothing of the first may be promoted yet
    assert (ahead.start, ahead.stop) == (0, 3)
    for step in first[:-1]:
        study.tell(step, [0.5])
    assert study.ask(Hyperband()).stop == 3 and study.steps[-1]["start"] == 0
    study.tell(first[-1], [0.9])
    promoted = study.ask(Hyperband())
    assert (promoted.config_id, promoted.start, promoted.stop) == (first[-1].config_id, 1, 3)


def test_given_configurations_start_first(table):
    study, _ = replay_study(table(np.zeros((1, 40, 9))), "t0", budget=1000)
    searcher = Hyperband(first=[31, 7])
    assert [study.ask(searcher).config_id for _ in range(2)] == [31, 7]
    with pytest.raises(BadInput, match="first=99 is no configuration of this study, which has 40"):
        study.ask(Hyperband(first=[99]))


def test_a_shorter_R_bounds_the_epochs(table):
    study, _ = replay_study(table(np.zeros((1, 40, 9))), "t0", budget=60)
    while step := study.ask(Hyperband(R=3)):
        study.tell(step, [0.1] * step.epochs)
    assert study.spent == 60 and study.epoch.max() == 3


def test_with_the_pool_used_up_the_best_paused_trial_goes_on(table):
    study, objective = replay_study(
        table(np.arange(10.0)[None, :, None] + np.zeros((1, 1, 9))), "t0", budget=1000
    )
    while step := study.ask(Hyperband()):
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
    assert study.spent == 90
    finished = [
        s["config_id"] for s in study.steps if s["because"]["why"].startswith("the pool is used up")
    ]
    assert finished == sorted(finished, reverse=True)


@pytest.mark.parametrize(
    "options",
    [
        {"eta": 1},
        {"eta": 0.5},
        {"eta": math.nan},
        {"eta": math.inf},
        {"R": 0},
        {"R": 2.5},
        {"R": -1},
        {"first": ["a"]},
    ],
)
def test_bad_options_are_refused_before_any_study(options):
    with pytest.raises(BadInput, match=next(iter(options))):
        Hyperband(**options)


def test_a_bracket_is_what_it_says():
    assert brackets(1, 3) == [Bracket((1,), (1,))] and brackets(75, 3)[0].epochs == (3, 8, 25, 75)
