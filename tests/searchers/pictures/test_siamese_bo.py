"""Siamese-BHO's search: first points from the nearest tasks, and a prior mean that pays."""

from dataclasses import replace

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.pictures.siamese_bo import SiameseBO, ordinal, winsorised
from foretune.searchers.registry import searcher
from foretune.study.study import Plan, Study


def world(table, tasks=8, n=40, seed=0):
    """Two kinds of task, best at x = 0.25 or x = 0.8; the even ones, t0 with them, are of the first
    kind. One epoch.
    """
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 1, n)
    values = []
    for t in range(tasks):
        top = (0.25 if t % 2 == 0 else 0.8) + rng.normal(0, 0.02)
        level = rng.uniform(0.5, 0.9)
        values.append(level - 0.5 * np.abs(x - top) ** 0.7 + rng.normal(0, 0.01, n))
    return table(np.stack(values)[:, :, None])


def with_notes(study, **noted):
    study.note(recommended=noted)
    return study


def test_the_first_points_are_the_nearest_tasks_bests_without_duplicates(table):
    values = np.zeros((4, 6, 2))
    values[1, 3], values[2, 3], values[2, 1], values[3, 5] = 1.0, 1.0, 0.9, 0.7
    study, _ = replay_study(table(values), "t0", budget=100)
    with_notes(study, nearest={"t3": 0.2, "t1": 0.5, "t2": 0.3, "unknown": 0.9})
    seen = []
    for _ in range(3):
        step = study.ask(SiameseBO())
        seen.append((step.config_id, step.stop, dict(step.because["past"])))
        study.tell(step, [0.1, 0.1])
    assert seen == [(3, 2, {"t1": 1.0}), (1, 2, {"t2": 1.0}), (5, 2, {"t3": 1.0})]
    fourth = study.ask(SiameseBO())
    assert "prior mean of the 3 nearest by pictures" in fourth.because["why"]
    assert set(fourth.because["past"]) == {"t1", "t2", "t3"}


def test_without_notes_it_starts_from_the_portfolio_and_then_looks_for_like_results(table):
    meta = world(table)
    study, objective = replay_study(meta, "t0", budget=100)
    chosen = SiameseBO()
    for _ in range(3):
        step = study.ask(chosen)
        assert "portfolio" in step.because["why"]
        study.tell(step, objective.run(step.config_id, study.configs[step.config_id], 0, 1).rows)
    step = study.ask(chosen)
    assert "nearest by the results so far" in step.because["why"]


def test_neighbours_that_the_recommender_itself_does_not_trust_are_not_used(table):
    study, _ = replay_study(world(table), "t0", budget=100)
    with_notes(study, nearest={"t2": 1.0}, supported=False)
    assert SiameseBO().noted(study) == [] and "portfolio" in study.ask(SiameseBO()).because["why"]


def test_the_nearest_by_results_are_those_with_the_smallest_l1_distance(table):
    values = np.zeros((4, 5, 1))
    values[1], values[2], values[3] = 0.5, 0.32, 0.9
    study, _ = replay_study(table(values), "t0", budget=100)
    for c in (0, 1):
        study.tell(replace(study.ask(searcher("random")), config_id=c), [0.3])
    assert SiameseBO(k=2).nearest(study)[0] == ["t2", "t1"]


def test_the_prior_mean_is_the_plain_mean_of_the_nearest_tasks_mappings(table):
    meta = world(table)
    study, _ = replay_study(meta, "t0", budget=100)
    X, mean = SiameseBO().mapping(study, ["t2", "t4"])
    assert np.allclose(mean, meta.best(["t2", "t4"]).mean(axis=0)) and np.array_equal(X, meta.X)
    assert SiameseBO().mapping(study, [])[1].shape == (0,)


def final(meta, evaluations, seed, noted, method="siamese-bo", **options):
    study, objective = replay_study(meta, "t0", budget=evaluations, seed=seed, method=method)
    if noted:
        with_notes(study, nearest=noted)
    return [
        s["normalized_regret"]
        for s in replay(study, objective, searcher(method, **options), Score(meta, "t0"))
    ]


def test_neighbours_with_prior_mean_beat_random_initial_points_and_random_search(table):
    near = {"t2": 0.5, "t4": 0.3, "t6": 0.2}
    transfer, plain, blind = [], [], []
    for seed in range(5):
        meta = world(table, seed=seed)
        transfer.append(np.mean(final(meta, 8, seed, near)))
        plain.append(np.mean(final(meta, 8, seed, None, init="random", prior_mean=False)))
        blind.append(np.mean(final(meta, 8, seed, None, method="random")))
    assert np.mean(transfer) < 0.5 * np.mean(plain) and np.mean(plain) < np.mean(blind)


@pytest.mark.parametrize("acquisition", ["ei", "ucb"])
def test_the_gaussian_process_itself_beats_random_search(regrets, acquisition):
    """On `hills`, with ten full trainings."""
    random_regret = regrets("random", 160, seeds=12)
    assert (
        regrets("siamese-bo", 160, init="random", prior_mean=False, acquisition=acquisition)
        < 0.5 * random_regret
    )


def test_misleading_neighbours_are_overcome(table):
    """The notes name the tasks of the other kind: the constant and the target's own results correct
    them.
    """
    wrong = {"t1": 0.5, "t3": 0.3, "t5": 0.2}
    found = [final(world(table, seed=s), 16, s, wrong)[-1] for s in range(4)]
    blind = [final(world(table, seed=s), 16, s, None, method="random")[-1] for s in range(4)]
    assert np.mean(found) <= np.mean(blind) + 0.05


def open_best(meta, chosen, seed, trainings=14):
    """Best value in an open space without a pool, where nothing but the learning rate matters (best
    at 10^-2.6).
    """
    plan = Plan(
        task="t",
        metric=meta.metric,
        goal=meta.goal,
        max_epoch=1,
        budget=trainings,
        open=True,
        seed=seed,
    )
    study = Study(meta.space, [], plan)
    while step := study.ask(chosen):
        study.tell(step, [-abs(np.log10(study.configs[step.config_id]["learning_rate"]) + 2.6)])
    return study.incumbent[2]


@pytest.mark.slow
def test_in_an_open_space_it_samples_its_candidates_and_beats_random_search(meta):
    """`meta` has the learning rate, optimizer, momentum (conditional) and depth."""
    modelled = [
        open_best(meta, SiameseBO(init="random", prior_mean=False), seed) for seed in range(10)
    ]
    blind = [open_best(meta, searcher("random"), seed) for seed in range(200)]
    # values are negative: less than 0.4 of the distance
    assert np.mean(modelled) > 0.4 * np.mean(blind)


def test_a_study_read_back_keeps_its_neighbours(table, tmp_path):
    meta = world(table)
    study, _ = replay_study(meta, "t0", budget=20)
    kept = Study(study.space, study.configs, study.plan, past=study.past, folder=tmp_path)
    with_notes(kept, nearest={"t2": 0.9, "t6": 0.1})
    want = kept.ask(SiameseBO(k=2))
    again = Study.load(tmp_path, study.past)
    assert again.plan.notes.recommended.nearest == {"t2": 0.9, "t6": 0.1}
    assert again.pending_steps() == [want]


def test_a_random_start_needs_no_past(table):
    study, objective = replay_study(world(table), "t0", budget=5, sources=[])
    steps = list(
        replay(
            study, objective, SiameseBO(init="random", prior_mean=False), Score(world(table), "t0")
        )
    )
    assert len(steps) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0 must be at least 1"),
        ({"init": "best"}, "init='best' must be nearest or random"),
        ({"acquisition": "pi"}, "acquisition='pi' must be ei or ucb"),
        ({"beta": -1.0}, "beta=-1 must be at least 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(BadInput, match=message):
        SiameseBO(**options)


def test_winsorising_raises_only_what_is_far_below_the_quartiles():
    values = np.array([-1e34, 0.0, 1.0, 2.0, 3.0, np.nan])
    low, high = np.nanquantile(values, [0.25, 0.75])
    got = winsorised(values)
    assert (
        got[0] == low - 3 * (high - low)
        and got[1:5].tolist() == [0.0, 1.0, 2.0, 3.0]
        and np.isnan(got[5])
    )


def test_places_in_words():
    assert [ordinal(i) for i in range(4)] == [
        "nearest",
        "second nearest",
        "third nearest",
        "4th nearest",
    ]
