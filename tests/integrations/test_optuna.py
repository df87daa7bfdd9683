"""The Optuna sampler with a past, through Optuna's own interface."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput

optuna = pytest.importorskip("optuna")
from foretune.integrations.optuna import Sampler, distributions, whole  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)
META = synthetic_meta()
PAST = META.select(META.tasks[1:])
BEST = {  # of the target, by its configuration
    tuple(sorted(c.items())): float(np.nanmax(v))
    for c, v in zip(META.configs, META.curves(META.tasks[0]), strict=True)
}


def objective(trial):
    """The target's value of the nearest configuration that its table has."""
    spaces = distributions(PAST)
    params = {name: trial._suggest(name, spaces[name]) for name in spaces}
    place = META.space.encode([META.space.typed(META.space.completed(params, {}))])
    i = int(np.square(META.space.encode(META.configs) - place).sum(axis=1).argmin())
    return META.sign * BEST[tuple(sorted(META.configs[i].items()))]


def active(trial):
    """The parameters that count, as one value."""
    return tuple(PAST.space.completed(trial.params, {}).items())


def tuned(sampler, trials, direction="maximize", function=objective):
    study = optuna.create_study(sampler=sampler, direction=direction)
    study.optimize(function, n_trials=trials)
    return study


def test_the_first_suggestion_is_what_the_past_holds_best():
    """Before any trial nothing but the past can speak: the suggestion is among the past's upper
    tenth, where a random one is in one of ten cases.
    """
    study = tuned(Sampler(PAST), 1)
    mean = np.mean([np.nanmax(whole(PAST).curves(t), axis=1) for t in PAST.tasks], axis=0)
    first = PAST.space.completed(study.trials[0].params, {})
    i = PAST.configs.index(PAST.space.typed(first))
    assert (mean > mean[i]).mean() <= 0.1
    assert study.trials[0].system_attrs["foretune:why"]


def test_with_like_tasks_it_finds_in_five_trials_what_random_search_does_not():
    ours = [tuned(Sampler(PAST, seed=s), 5).best_value for s in range(3)]
    drawn = [tuned(optuna.samplers.RandomSampler(seed=s), 5).best_value for s in range(3)]
    assert np.mean(ours) > np.mean(drawn)


def test_no_configuration_is_suggested_twice_and_a_loss_is_turned():
    study = tuned(Sampler(PAST), 6, "minimize", lambda trial: -objective(trial))
    tried = [active(t) for t in study.trials]
    assert len(set(tried)) == len(tried) == 6


def test_failed_pruned_and_running_trials_are_passed_over_or_told():
    def trouble(trial):
        value = objective(trial)
        trial.report(value / 2, 1)
        if trial.number == 0:
            raise ValueError
        if trial.number == 1:
            raise optuna.TrialPruned
        return value

    study = optuna.create_study(sampler=Sampler(PAST), direction="maximize")
    waiting = study.ask(distributions(PAST))
    study.optimize(trouble, n_trials=4, catch=ValueError)
    tried = [active(t) for t in study.trials]
    assert tried[0] == active(waiting)
    assert len(set(tried)) == len(tried)


def test_a_parameter_that_the_past_does_not_know_is_drawn():
    def more(trial):
        assert 1 <= trial.suggest_int("layers", 1, 3) <= 3
        return objective(trial)

    assert set(tuned(Sampler(PAST), 2, function=more).trials[1].params) == {
        "layers",
        *distributions(PAST),
    }


def test_the_same_seed_suggests_the_same():
    first, second = (tuned(Sampler(PAST, seed=3), 3) for _ in range(2))
    assert [t.params for t in first.trials] == [t.params for t in second.trials]


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(BadInput, match="the past has none"):
        Sampler(META.select([]))
    with pytest.raises(BadInput, match="nonsense"):
        Sampler(PAST, "nonsense")
    study = optuna.create_study(sampler=Sampler(PAST), directions=["maximize", "minimize"])
    with pytest.raises(BadInput, match="2 objectives"):
        study.ask(distributions(PAST))
