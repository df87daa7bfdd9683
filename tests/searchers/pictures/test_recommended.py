"""Rankings inside searchers: which configurations Hyperband starts, and what comes first for
others.
"""

from collections import Counter

import numpy as np
import pytest
from recommended import picture_task
from recommended import ranking_of as ranked

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.recommenders.explanation import Explanation
from foretune.recommenders.recommendation import Recommendation
from foretune.searchers.gray_box.hyperband import brackets
from foretune.searchers.pictures.recommended import (
    Recommended,
    TaskAwareHyperband,
    ranking_of,
    standardised,
)
from foretune.searchers.registry import searcher
from foretune.study.study import Study

N, EPOCHS = 30, 9


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    return rng.random((3, N, 1)) * (1 - np.exp(-0.5 * np.arange(1, EPOCHS + 1)))


def study_of(table, values, budget=400, **noted):
    study, objective = replay_study(table(values), "t0", budget=budget)
    if noted:
        study.note(recommended=noted)
    return study, objective


def starts(study, objective, chosen, most=100):
    """Run to the end; the steps that started a configuration."""
    found = []
    while (step := study.ask(chosen)) and len(found) < most:
        if step.start == 0:
            found.append(step)
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
    return found


def test_each_bracket_starts_the_best_of_the_ranking_that_were_not_started(table, values):
    order = np.random.default_rng(1).permutation(N).tolist()
    study, objective = study_of(
        table, values, order=order, nearest={"t2": 1.0}, leans={"t1": 0.7, "t2": 0.3}
    )
    found = starts(study, objective, TaskAwareHyperband())
    assert [s.config_id for s in found] == order
    sizes = [b.sizes[0] for b in brackets(EPOCHS, 3)]
    epochs = [b.epochs[0] for b in brackets(EPOCHS, 3)]
    assert [s.stop for s in found[: sum(sizes)]] == [
        e for n, e in zip(sizes, epochs, strict=True) for _ in range(n)
    ]
    assert "place 1" in found[0].because["why"] and found[0].because["past"] == {
        "t1": 0.7,
        "t2": 0.3,
    }


def test_in_each_stage_the_top_of_the_ranking_is_evaluated_as_the_paper_words_it(table, values):
    """eta = 3, R = 9: brackets of 9, 5 and 3 share their places; epochs are not paid for twice."""
    order = np.random.default_rng(1).permutation(N).tolist()
    study, objective = study_of(table, values, order=order)
    chosen, steps = TaskAwareHyperband(stages="top"), []
    while step := study.ask(chosen):
        outcome = objective.run(
            step.config_id, study.configs[step.config_id], step.start, step.stop
        )
        study.tell(step, outcome.rows)
        steps.append(step)
    starts = [s for s in steps if s.start == 0]
    assert [s.config_id for s in starts] == order  # three rounds of nine places, and three places
    assert all(s.stop == 1 for s in starts) and "place 1" in starts[0].because["why"]
    tenth = next(k for k, s in enumerate(steps) if s.config_id == order[9])
    done = {s.config_id: s.stop for s in steps[:tenth]}
    assert set(done) == set(order[:9])
    assert all(done[c] == EPOCHS for c in order[:3])  # the bracket of full trainings
    assert all(done[c] >= 3 for c in order[:5])  # the bracket of five
    best = sorted(order[:9], key=lambda c: -study.Y[c, 0])[:3]
    assert all(done[c] >= 3 for c in best)  # promoted in the bracket of nine
    assert max(study.Y[c, 2] for c in best) == max(study.Y[c, 2] for c in best if done[c] == EPOCHS)


def test_the_top_of_the_ranking_leaves_what_failed_and_goes_on_with_several_workers(table, values):
    order = list(range(N))
    study, _ = study_of(table, values, order=order)
    chosen = TaskAwareHyperband(stages="top")
    first, second = study.ask(chosen), study.ask(chosen)
    assert (first.config_id, second.config_id) == (0, 1)
    study.fail(first, 0, "out of memory")
    asked = []
    while step := study.ask(chosen):
        study.tell(step, [0.1 * epoch for epoch in range(step.start + 1, step.stop + 1)])
        asked.append(step.config_id)
    assert 0 not in asked and study.pending.sum() == 1  # the second is still under way


def test_the_top_of_the_ranking_is_taken_as_it_is():
    with pytest.raises(BadInput, match="stages='best' must be one of fresh, top"):
        TaskAwareHyperband(stages="best")
    with pytest.raises(BadInput, match="leave random_share and proportional out"):
        TaskAwareHyperband(stages="top", random_share=0.5)


def test_without_a_recommendation_the_mean_rank_of_past_tasks_is_the_ranking(table, values):
    values[1] = values[2] = np.linspace(0, 1, N)[:, None]
    study, objective = study_of(table, values)
    found = starts(study, objective, TaskAwareHyperband())
    assert [s.config_id for s in found] == list(range(N))[::-1]
    assert "no recommendation" in found[0].because["why"] and found[0].because["past"] == {
        "t1": 0.5,
        "t2": 0.5,
    }


def test_a_random_share_is_random_and_the_rest_stays_in_order(table, values):
    order = list(range(N))
    picked = []
    for seed in range(60):
        study, _ = replay_study(table(values), "t0", budget=9, seed=seed)
        study.note(recommended={"order": order})
        picked.append(study.ask(TaskAwareHyperband(random_share=0.5)).config_id)
    top = Counter(picked)[0]
    assert 20 <= top <= 43 and len(set(picked)) > 12
    study, objective = study_of(table, values, order=order)
    alike = [s.config_id for s in starts(study, objective, TaskAwareHyperband(random_share=1.0))]
    study, objective = study_of(table, values, order=order[::-1])
    assert alike == [
        s.config_id for s in starts(study, objective, TaskAwareHyperband(random_share=1.0))
    ]


def test_proportional_sampling_follows_the_softmax_of_the_scores(table, values):
    scores = np.full(N, -5.0)
    scores[:2] = [2.0, 1.0]
    z = standardised(scores)
    order = np.argsort(-scores, kind="stable").tolist()
    study, _ = study_of(table, values, order=order, scores=scores.tolist())
    chosen = TaskAwareHyperband(proportional=True, temperature=1.0)
    picked = Counter(
        chosen.suggest(study, np.random.default_rng(seed)).config for seed in range(400)
    )
    share = np.exp(z) / np.exp(z).sum()
    assert abs(picked[0] / 400 - share[0]) < 0.08 and abs(picked[1] / 400 - share[1]) < 0.08


def test_an_order_without_scores_ranks_by_place(table, values):
    study, _ = study_of(table, values, order=[4, 2, 7])
    ranked = ranking_of(study)
    assert ranked.order == [4, 2, 7] and ranked.scores[4] > ranked.scores[2] > ranked.scores[7]
    assert np.isneginf(ranked.scores[0])
    assert np.allclose(ranked.scores[[4, 2, 7]], [np.sqrt(1.5), 0, -np.sqrt(1.5)])


def test_an_unsupported_recommendation_says_so_and_leans_on_all_alike(table, values):
    alike = {"t1": 0.5, "t2": 0.5}
    study, _ = study_of(
        table, values, order=[4, 2], nearest={"t1": 1.0}, leans=alike, supported=False
    )
    step = study.ask(TaskAwareHyperband())
    assert step.config_id == 4 and "unlike any past task" in step.because["why"]
    assert step.because["past"] == alike


@pytest.mark.parametrize("method", [TaskAwareHyperband(), Recommended(then="random")])
def test_a_study_says_that_it_leans_on_what_the_recommendation_said(meta, method):
    ranking = ranked(meta, residual=True)
    found = Recommendation(picture_task(), meta, ranking, "hyperstar")
    study, _ = replay_study(meta, meta.tasks[0], budget=40)
    study.note(recommended=found.in_pool(study.configs))
    step, first = study.ask(method), found.rows[0]
    assert study.configs[step.config_id] == first.config
    assert step.because["past"] == Explanation(ranking).shares
    assert f"place 1, where the images add {first.from_images:+.3g} to" in step.because["why"]


def test_notes_that_do_not_say_what_they_lean_on_name_no_past_task(table, values):
    study, _ = study_of(table, values, order=[4, 2], nearest={"t1": 1.0})
    assert study.ask(TaskAwareHyperband()).because["past"] == {}


def test_when_the_ranking_is_used_up_random_configurations_follow(table, values):
    study, objective = study_of(table, values, order=[3, 1])
    found = starts(study, objective, TaskAwareHyperband())
    assert [s.config_id for s in found[:2]] == [3, 1] and len({s.config_id for s in found}) == N
    assert "used up" in found[2].because["why"]


def test_a_good_ranking_finds_the_best_sooner_than_hyperband(table):
    rng = np.random.default_rng(3)
    top = rng.random((3, 60, 1))
    values = top * (1 - np.exp(-0.4 * np.arange(1, 10)))
    order = np.argsort(-(top[0, :, 0] + rng.normal(0, 0.1, 60))).tolist()
    found = []
    for seed in range(6):
        study, objective = replay_study(table(values), "t0", budget=60, seed=seed)
        study.note(recommended={"order": order})
        starts(study, objective, TaskAwareHyperband())
        plain, objective = replay_study(table(values), "t0", budget=60, seed=seed)
        starts(plain, objective, searcher("hyperband"))
        found.append((study.incumbent[2], plain.incumbent[2]))
    aware, blind = np.mean(found, axis=0)
    assert aware > blind + 0.02


def test_the_first_points_come_first_and_then_the_other_method(table, values):
    study, objective = study_of(table, values, order=[7, 3, 20, 1], leans={"t1": 1.0})
    chosen = Recommended(then="random", points=3)
    steps = []
    for _ in range(4):
        steps.append(step := study.ask(chosen))
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
    assert [(s.config_id, s.start, s.stop) for s in steps[:3]] == [(7, 0, 9), (3, 0, 9), (20, 0, 9)]
    assert steps[3].because["why"] == "random configuration"
    study, _ = study_of(table, values, order=[7, 3, 20, 1])
    assert study.ask(Recommended(then="random", points=1, epochs=2)).stop == 2
    study, _ = study_of(table, values, order=[7, 3, 20, 1])
    with pytest.raises(BadInput, match="epochs=10 must be at most the 9 epochs of a full training"):
        study.ask(Recommended(then="random", epochs=10))
    assert not study.steps


def test_a_study_read_back_needs_no_images_to_go_on(table, values, tmp_path):
    study, _ = study_of(table, values, order=[5, 6, 7])
    kept = Study(study.space, study.configs, study.plan, past=study.past, folder=tmp_path)
    assert kept.ask(TaskAwareHyperband()).config_id == 5
    assert Study.load(tmp_path, study.past).ask(TaskAwareHyperband()).config_id == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TaskAwareHyperband(random_share=1.5), "random_share=1.5 must be from 0 to 1"),
        (lambda: TaskAwareHyperband(temperature=0), "temperature=0 must be positive"),
        (lambda: TaskAwareHyperband(eta=1), "eta=1 must be above 1"),
        (lambda: Recommended(then="recommended"), "is this method itself"),
        (lambda: Recommended(then="bohbb"), "did you mean bohb"),
        (
            lambda: Recommended(then="asha", points=0),
            "points=0 must be at least 1; without any, take the method 'asha'",
        ),
        (lambda: Recommended(epochs=0), "epochs=0 must be a whole number"),
    ],
)
def test_wrong_options_are_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()


def test_a_recommendation_for_another_pool_is_refused(table, values):
    study, _ = study_of(table, values, order=[1, 99])
    with pytest.raises(BadInput, match="names configuration 99, but the study has 30"):
        study.ask(TaskAwareHyperband())
