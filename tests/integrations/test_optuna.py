"""The Optuna sampler and pruner with a past, through Optuna's own interface and its own tests."""

import math
import pickle
import threading

import numpy as np
import pytest
from run_world import past_runs, score
from stores import store_of
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.integrations.past_table import whole

optuna = pytest.importorskip("optuna")
from foretune.integrations.optuna import Pruner, Sampler, distributions  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.WARNING)
META = synthetic_meta()
PAST = META.select(META.tasks[1:])
STORE = store_of(past_runs(tasks=4, runs=15).to_dict("records"))
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


def trained(trial):
    """A training as anybody writes it, in a space of its own whose names are other ones."""
    rate = trial.suggest_float("lr", 1e-6, 1.0, log=True)
    batch = trial.suggest_categorical("batch_size", [16, 32])
    head = trial.suggest_int("head_layers", 1, 3)
    return score({"learning_rate": rate}) - 0.001 * head - 0.0001 * batch


def active(trial):
    """The parameters that count, as one value."""
    return tuple(PAST.space.completed(trial.params, {}).items())


def tuned(sampler, trials, direction="maximize", function=objective, **options):
    study = optuna.create_study(sampler=sampler, direction=direction)
    study.optimize(function, n_trials=trials, **options)
    return study


# -- with a table of the study's own space


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


def test_a_parameter_of_another_kind_than_the_past_has_is_drawn():
    """The past has a choice of schedules; this study wants a number under that name."""

    def other(trial):
        name = next(n for n, d in distributions(PAST).items() if hasattr(d, "choices"))
        return trial.suggest_float(name, 0, 1)

    assert all(0 <= t.value <= 1 for t in tuned(Sampler(PAST), 3, function=other).trials)


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


# -- with runs of any space


@pytest.fixture(scope="module")
def runs_sampler():
    """A sampler whose past is learned once for all tests."""
    learned = Sampler(STORE)

    def make(seed=0):
        sampler = Sampler.__new__(Sampler)
        sampler.__dict__.update(learned.__dict__, _seed=seed)
        sampler._intersection = optuna.search_space.IntersectionSearchSpace()
        sampler._independent = optuna.samplers.TPESampler(seed=seed)
        return sampler

    return make


def test_imported_runs_speak_before_the_first_trial(runs_sampler):
    """Their best rate is 10^-2.5; in a range of six decades, another name and an open space, the
    first suggestion is within a decade of it.
    """
    first = tuned(runs_sampler(), 1, function=trained).trials[0]
    assert abs(math.log10(first.params["lr"]) + 2.5) < 1
    assert "past runs" in first.system_attrs["foretune:why"]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_imported_runs_beat_tpe_in_few_trials(runs_sampler, direction):
    """The study's loss, or its accuracy; the past is of accuracies."""
    sign = 1 if direction == "maximize" else -1
    best = (
        sign * tuned(runs_sampler(), 5, direction, lambda trial: sign * trained(trial)).best_value
    )
    tpe = [
        tuned(optuna.samplers.TPESampler(seed=s), 5, function=trained).best_value for s in range(5)
    ]
    assert best > np.mean(tpe)


def test_the_folder_of_a_store_and_a_data_folder_are_a_past(tmp_path):
    STORE.add_to(tmp_path / "history" / "imported")
    for past in (tmp_path / "history" / "imported", str(tmp_path)):
        rate = tuned(Sampler(past), 1, function=trained).trials[0].params["lr"]
        assert 1e-6 <= rate <= 1
    with pytest.raises(BadInput, match="not found"):
        Sampler(tmp_path / "nowhere")


def test_conditional_and_changing_spaces(runs_sampler):
    def changing(trial):
        optimizer = trial.suggest_categorical("optimizer", ["sgd", "adamw"])
        high = 0.1 if trial.number % 2 else 1.0
        rate = trial.suggest_float("lr", 1e-5, high, log=True)
        if optimizer == "sgd":
            trial.suggest_float("momentum", 0.0, 0.99)
        if trial.number > 2:
            trial.suggest_float("dropout", 0.0, 0.5, step=0.1)
        return score({"learning_rate": rate})

    study = tuned(runs_sampler(), 7, function=changing)
    assert all(t.value is not None for t in study.trials)
    assert all(t.params["lr"] <= 0.1 for t in study.trials if t.number % 2)
    for trial in study.trials[3:]:
        assert round(trial.params["dropout"] * 10, 6) in range(6)


def test_parallel_trials_differ(runs_sampler):
    gate = threading.Barrier(3, timeout=60)

    def together(trial):
        value = trained(trial)
        if trial.number < 3:
            gate.wait()
        return value

    study = tuned(runs_sampler(), 6, function=together, n_jobs=3)
    assert len({tuple(sorted(t.params.items())) for t in study.trials}) == 6


def test_a_copy_in_another_process_suggests_the_same(runs_sampler):
    copy = pickle.loads(pickle.dumps(runs_sampler()))
    first, second = (tuned(sampler, 1, function=trained) for sampler in (runs_sampler(), copy))
    assert first.trials[0].params == second.trials[0].params


def test_ask_and_tell(runs_sampler):
    study = optuna.create_study(sampler=runs_sampler(), direction="maximize")
    for _ in range(3):
        trial = study.ask()
        study.tell(trial, trained(trial))
    waiting = [study.ask(study.trials[0].distributions) for _ in range(3)]
    tried = [tuple(sorted(t.params.items())) for t in (*study.trials[:3], *waiting)]
    assert len(set(tried)) == 6


def test_a_study_in_a_database_goes_on(tmp_path, runs_sampler):
    """What another process would suggest next is what this one would have."""
    address = f"sqlite:///{tmp_path / 'study.db'}"
    at_once = tuned(runs_sampler(), 4, function=trained)
    for _ in range(2):
        study = optuna.create_study(
            study_name="s", storage=address, sampler=runs_sampler(), direction="maximize",
            load_if_exists=True,
        )  # fmt: skip
        study.optimize(trained, n_trials=2)
    assert [t.params for t in study.trials] == [t.params for t in at_once.trials]


def test_trials_that_fail_or_give_nan_do_not_end_the_study(runs_sampler):
    def trouble(trial):
        value = trained(trial)
        if trial.number == 1:
            raise ValueError
        return math.nan if trial.number == 0 else value

    study = tuned(runs_sampler(), 4, function=trouble, catch=ValueError)
    assert study.best_trial.number > 1


def test_a_space_of_which_the_past_knows_nothing_is_sampled_by_tpe(runs_sampler):
    def strange(trial):
        return -((trial.suggest_float("viscosity", 0, 1) - 0.3) ** 2)

    ours = tuned(runs_sampler(), 5, function=strange)
    tpe = tuned(optuna.samplers.TPESampler(seed=0), 5, function=strange)
    assert [t.params for t in ours.trials] == [t.params for t in tpe.trials]


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(BadInput, match="the past has none"):
        Sampler(META.select([]))
    with pytest.raises(BadInput, match="nonsense"):
        Sampler(PAST, "nonsense")
    with pytest.raises(BadInput, match="no past run"):
        Sampler(STORE, without=STORE.tasks)
    study = optuna.create_study(sampler=Sampler(PAST), directions=["maximize", "minimize"])
    with pytest.raises(BadInput, match="2 objectives"):
        study.ask(distributions(PAST))


# -- Optuna's own tests of samplers

suite = pytest.importorskip("optuna.testing.pytest_samplers")
# what it samples by the names x and y, many runs know
KNOWN = store_of(
    [
        {"task": f"t{k % 3}", "extra.x": k % 7, "extra.y": k % 5, "score": 0.1 * (k % 7)}
        for k in range(30)
    ]
)


@pytest.mark.slow
class TestSamplerWithRuns(
    suite.BasicSamplerTestCase, suite.RelativeSamplerTestCase, suite.SingleOnlySamplerTestCase
):
    """Where the past knows the parameters: all that a sampler of one objective must pass."""

    @pytest.fixture(scope="class")
    def learned(self):
        return Sampler(KNOWN)

    @pytest.fixture
    def sampler(self, learned):
        def make():
            learned._intersection = optuna.search_space.IntersectionSearchSpace()
            return learned

        return make


@pytest.mark.slow
class TestSamplerWithTable(suite.BasicSamplerTestCase, suite.SingleOnlySamplerTestCase):
    """Where the past is a table of another space: there it is TPE, which suggests nothing jointly."""

    @pytest.fixture(scope="class")
    def learned(self):
        return Sampler(PAST)

    @pytest.fixture
    def sampler(self, learned):
        def make():
            learned._intersection = optuna.search_space.IntersectionSearchSpace()
            return learned

        return make


# -- the pruner


def curves(trial):
    """Epochs of a training whose end its learning rate decides."""
    value = trained(trial)
    for epoch in range(1, 11):
        trial.report(value * (0.5 + 0.05 * epoch), epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return value


def pruned(study):
    return [t for t in study.trials if t.state == optuna.trial.TrialState.PRUNED]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_is_hopelessly_behind_is_pruned_and_the_best_never(direction):
    sign = 1 if direction == "maximize" else -1

    def turned(trial):
        class Turned:
            """Reports of the other sign."""

            suggest_float, suggest_int = trial.suggest_float, trial.suggest_int
            suggest_categorical, should_prune = trial.suggest_categorical, trial.should_prune

            def report(self, value, step):
                trial.report(sign * value, step)

        return sign * curves(Turned())

    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=0),
        pruner=Pruner(STORE, epochs=10), direction=direction,
    )  # fmt: skip
    study.optimize(turned, n_trials=25)
    assert len(pruned(study)) >= 5
    best = max(trained(optuna.trial.FixedTrial(t.params)) for t in study.trials)
    assert sign * study.best_value == best
    assert all(t.last_step < 10 for t in pruned(study))


def test_nothing_is_pruned_before_warm_up_and_start():
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=0), direction="maximize",
        pruner=Pruner(STORE, epochs=10, startup_trials=8, warmup_steps=6),
    )  # fmt: skip
    study.optimize(curves, n_trials=25)
    assert pruned(study) and all(t.number >= 8 and t.last_step >= 6 for t in pruned(study))


def test_a_pruner_needs_curves_and_one_objective():
    with pytest.raises(BadInput, match="curves to the end|of them to the end"):
        Pruner(store_of([{"task": "t", "learning_rate": 0.1, "score": 0.5}]))
    with pytest.raises(BadInput, match="risk"):
        Pruner(STORE, risk=2)
    study = optuna.create_study(directions=["minimize"] * 2, pruner=Pruner(STORE))
    with pytest.raises(BadInput, match="2 objectives"):
        study.pruner.prune(study, study.ask()._get_latest_trial())


# Optuna's own tests of its percentile pruners, as far as they are about any pruner


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("values", [[1.0], [math.nan]])
def test_no_trial_is_pruned_that_has_nobody_beside_it(direction, values):
    study = optuna.create_study(direction=direction, pruner=Pruner(STORE, startup_trials=0))
    trial = study.ask()
    assert not trial.should_prune()  # without a report
    for step, value in enumerate(values, 1):
        trial.report(value, step)
        assert not trial.should_prune()


def test_reports_of_nan_infinity_and_odd_steps():
    study = optuna.create_study(direction="maximize", pruner=Pruner(STORE, epochs=10))
    for k in range(6):
        trial = study.ask()
        for step in (0, 3, 10):
            trial.report(0.1 * k + 0.01 * step, step)
        study.tell(trial, 0.1 * k + 0.1)
    for value, expected in [(math.nan, True), (-math.inf, True), (math.inf, False), (2.0, False)]:
        trial = study.ask()
        trial.report(value, 7)
        assert trial.should_prune() is expected
