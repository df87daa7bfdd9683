"""DyHPO: fits, incumbents, fantasies, and that it searches."""

import numpy as np
import pytest
from laws import each, outcome, quick

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.searchers.gray_box.dyhpo import DyHPO
from foretune.searchers.registry import searcher
from foretune.study.study import Step


def told(table, values, depths):
    """A study of a table that was told the first `depths` epochs of each configuration, one after
    another.
    """
    study, _ = replay_study(table(values), "t0", budget=10_000, method="dyhpo")
    for i, depth in enumerate(depths):
        if depth:
            study.tell(Step(i, 0, depth), values[0, i, :depth].tolist())
    return study


@pytest.fixture
def meta_of_losses(table):
    """One task of losses, lower is better."""
    meta = table(np.ones((1, 6, 3)))
    about = {**meta.about, "goal": "minimize"}
    return meta.build(
        meta.space, dict(zip(meta.config_ids, meta.configs, strict=True)), meta.table, **about
    )


def rising(n=20, epochs=12):
    x = np.linspace(0, 1, n)
    top = 0.5 + 0.4 * np.sin(3 * x)
    return (top[:, None] * (1 - np.exp(-0.4 * np.arange(1, epochs + 1))))[None]


def test_a_decision_kept_up_to_date_equals_one_computed_anew(table):
    values = rising()
    study = told(table, values, [2, 0, 1, 3, 0, 1, 1, 2])
    kept = DyHPO(refit_steps=5)
    kept.utility(study, kept.surrogate(study))
    for i, epoch in ((3, 3), (1, 0), (0, 2), (0, 3), (6, 1), (9, 0)):
        study.tell(Step(i, epoch, epoch + 1), [values[0, i, epoch]])
        a = kept.utility(study, kept.surrogate(study))
        fresh = DyHPO(refit_steps=5)
        b = fresh.utility(study, fresh.surrogate(study))
        for mine, theirs in zip(a, b, strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_targets_are_one_step_ahead_until_the_budget_ends(table):
    values = rising()
    study = told(table, values, [5, 2, 1])
    chosen = DyHPO()
    model = chosen.surrogate(study)
    budgets, best = chosen.targets(study, model)
    assert budgets[:4].tolist() == [6, 3, 2, 1]
    np.testing.assert_allclose(
        best[:2], model.scaling(np.array([values[0, 0, 4], values[0, 0, 2]]))
    )
    study.raise_budget(study.spent + 4)
    budgets, best = chosen.targets(study, model)
    assert budgets[:4].tolist() == [9, 6, 5, 4] and len(set(best.tolist())) == 1
    assert DyHPO(budget_aware=False).targets(study, model)[0][0] == 6


def test_a_predictive_deviation_adds_the_noise_to_all_alike(table):
    study = told(table, rising(), [2, 0, 1, 3, 0, 1, 1, 2])
    seen = {}
    for posterior in ("latent", "predictive"):
        chosen = DyHPO(posterior=posterior)
        model = chosen.surrogate(study)
        seen[posterior] = chosen.utility(study, model), model.posterior.noise
    (latent, noise), (predictive, _) = seen["latent"], seen["predictive"]
    np.testing.assert_array_equal(latent.mean, predictive.mean)
    np.testing.assert_allclose(predictive.deviation**2, latent.deviation**2 + noise)
    assert not np.array_equal(latent.utility, predictive.utility)
    with pytest.raises(BadInput, match="posterior='noisy' must be one of latent, predictive"):
        DyHPO(posterior="noisy")


def test_log_targets_see_differences_that_one_huge_loss_hides(meta_of_losses):
    study, _ = replay_study(meta_of_losses, "t0", budget=100, method="dyhpo")
    values = -study.plan.sign * 10.0 ** np.arange(4)  # losses of 1 to 1,000, as the study has them
    for c, value in enumerate(values):
        study.tell(Step(c, 0, 1), [float(value) * -study.plan.sign])
    for target, spreads in (("raw", False), ("log", True)):
        chosen = DyHPO(target=target)
        scaling = chosen.surrogate(study).scaling
        standard = scaling(study.Y[:4, 0])
        assert (np.ptp(np.diff(standard)) < 1e-9) == spreads
        step = study.ask(chosen)
        assert "predicted" in step.because["why"] and "nan" not in step.because["why"]


def test_steps_under_way_lower_the_variance_near_them_only_and_leave_the_mean(table):
    values = rising()
    study = told(table, values, [2, 0, 1, 3, 0, 1, 1, 2])
    chosen = DyHPO()
    _, mean, deviation, _ = chosen.utility(study, chosen.surrogate(study))
    study.pending[12] = 1
    _, after, narrower, _ = chosen.utility(study, chosen.surrogate(study))
    np.testing.assert_array_equal(mean, after)
    assert (narrower <= deviation + 1e-12).all() and narrower[12] < 0.9 * deviation[12]


def test_two_workers_do_not_take_the_same_trial(table):
    study = told(table, rising(), [1, 1, 1])
    first, second = study.ask(DyHPO()), study.ask(DyHPO())
    assert first.config_id != second.config_id


def test_steps_of_several_epochs(hills):
    study, objective = replay_study(hills, "t0", budget=30, method="dyhpo")
    chosen = DyHPO(epochs=4)
    while step := study.ask(chosen):
        assert step.epochs == 4 or step.stop == 16 or study.remaining == 0
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
    assert study.spent == 30


@pytest.mark.parametrize("curve", [True, False])
def test_it_beats_random_search(regrets, random_regret, curve):
    assert regrets("dyhpo", 80, seeds=2, curve=curve) < random_regret


def test_the_registered_variant_has_its_width():
    assert (
        searcher("dyhpo+").width == 10
        and searcher("dyhpo+", width=2.0).width == 2
        and searcher("dyhpo").width == 0
    )


def test_widening_beats_random_search(regrets, random_regret):
    assert regrets("dyhpo+", 80, seeds=2) < random_regret


def test_a_percent_metric_gives_the_same_steps(table):
    steps = []
    for factor in (1.0, 100.0):
        values = rising() * factor
        study, objective = replay_study(table(values), "t0", budget=15, method="dyhpo")
        chosen = DyHPO()
        while step := study.ask(chosen):
            study.tell(
                step,
                objective.run(
                    step.config_id, study.configs[step.config_id], step.start, step.stop
                ).rows,
            )
        steps.append(study.order)
    assert steps[0] == steps[1]


def test_widening_starts_no_more_than_its_epochs_can_follow_up(table):
    """On a pool as large as the budget, DyHPO starts one new configuration after the other;
    `dyhpo+` keeps its bound at every step.
    """
    rng = np.random.default_rng(0)
    values = rng.uniform(0.2, 1, (1, 120, 1)) * (1 - np.exp(-0.2 * np.arange(1, 13))) + rng.normal(
        0, 0.01, (1, 120, 12)
    )
    started = {}
    for chosen in (DyHPO(refit_steps=5), DyHPO(width=3, first=4, refit_steps=5)):
        study, objective = replay_study(table(values), "t0", budget=72, method="dyhpo")
        while step := study.ask(chosen):
            bound = 4 + 3 * study.spent / 12
            assert not chosen.width or step.start > 0 or (study.epoch > 0).sum() < bound
            study.tell(
                step,
                objective.run(
                    step.config_id, study.configs[step.config_id], step.start, step.stop
                ).rows,
            )
        started[chosen.width] = int((study.epoch > 0).sum())
    assert started[3] <= 4 + 3 * 72 / 12 < started[0]


def test_widening_does_not_end_a_study_whose_started_trials_are_all_done(table):
    study, objective = replay_study(table(rising()), "t0", budget=10_000, method="dyhpo+")
    chosen = DyHPO(width=0.1, first=1, refit_steps=3, first_steps=5)
    while step := study.ask(chosen):
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
    assert (study.epoch == study.max_epoch).all()


def test_bad_options():
    with pytest.raises(BadInput, match="width=-1"):
        DyHPO(width=-1)
    with pytest.raises(BadInput, match="first=0"):
        DyHPO(first=0)
    with pytest.raises(BadInput, match="epochs=0"):
        DyHPO(epochs=0)
    with pytest.raises(BadInput, match="first_steps=0"):
        DyHPO(first_steps=0)
    for lr in (0.0, -0.01, float("nan")):
        with pytest.raises(BadInput, match=f"lr={lr:g} must be positive"):
            DyHPO(lr=lr)


def troubles():
    """Curves (1, n, epochs) that tell nothing, too little or mislead, by name."""
    diverging = rising(8, 5)
    diverging[:, ::2, 2:] = np.nan
    sizes = rising(8, 5)
    sizes[:, 3] *= -1e34
    return {
        "constant": np.full((1, 8, 5), 0.7),
        "diverging": diverging,
        "all NaN": np.full((1, 8, 5), np.nan),
        "sizes": sizes,
        "one": rising(1, 5),
        "identical": rising(8, 5),
    }


@each("dyhpo", "dyhpo+")
def test_under_trouble_the_model_goes_on_deciding(name, subtests, table):
    """After the first configuration each step is the largest expected improvement, of finite
    predictions; none falls back to chance.
    """
    for trouble, values in troubles().items():
        with subtests.test(method=name, trouble=trouble):
            meta = table(values)
            if trouble == "identical":
                alike = {number: dict(meta.configs[0]) for number in meta.config_ids}
                meta = meta.build(meta.space, alike, meta.table, **meta.about)
            study, objective = replay_study(meta, "t0", budget=25, method=name)
            chosen = quick(name)
            while step := study.ask(chosen):
                if study.order:
                    assert step.because["why"].startswith("largest expected improvement")
                    utility, mean, deviation, _ = chosen.utility(study, chosen.surrogate(study))
                    free = np.flatnonzero(study.available | (study.pending > 0))
                    assert (
                        np.isfinite(utility[free]).all()
                        and np.isfinite(mean).all()
                        and np.isfinite(deviation).all()
                    )
                done = outcome(objective, study, step)
                study.tell(step, done.rows)
                if done.failed:
                    study.fail(step, int(study.epoch[step.config_id]) + 1, done.failed)
            assert study.done


@pytest.mark.parametrize("method", ["dyhpo", "dpl"])
def test_where_time_is_the_budget_what_is_dear_has_to_promise_more(table, method, monkeypatch):
    """The favourite at any price is passed by."""
    study = told(table, rising(n=8), [2, 1, 1, 2, 1, 1, 1, 1])
    rng = np.random.default_rng
    usual = searcher(method).suggest(study, rng(0)).config
    dear = np.where(np.arange(8) == usual, 1e300, 1.0)
    monkeypatch.setattr(type(study), "relative_costs", dear)
    assert searcher(method).suggest(study, rng(0)).config != usual
