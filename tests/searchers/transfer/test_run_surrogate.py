"""The Gaussian process over runs of any columns."""

import numpy as np
import pandas as pd
import pytest
import run_world
from scipy.stats import spearmanr

from foretune.errors import BadInput
from foretune.searchers.transfer import run_surrogate
from foretune.searchers.transfer.run_surrogate import Laws, RunSurrogate, clipped, squared

RUNS = run_world.past_runs()


@pytest.fixture(scope="module")
def surrogate() -> RunSurrogate:
    return RunSurrogate(RUNS)


def test_it_ranks_configurations_that_nobody_ran(surrogate):
    new = run_world.space_of(run_world.SHARED).sample(60, np.random.default_rng(9))
    forecast = surrogate.forecast(pd.DataFrame(new))
    assert spearmanr(forecast.mean, [run_world.score(c) for c in new])[0] > 0.9
    theta = dict(zip(surrogate.columns.names, surrogate.laws.theta, strict=True))
    assert theta["learning_rate"] == max(theta.values())


@pytest.mark.parametrize("seed", [2, 15, 18, 23])
def test_few_clean_runs_teach_what_decides(seed):
    """45 runs of three tasks, from which one start ends where all is noise."""
    runs = run_world.past_runs(3, 15, seed)
    surrogate = RunSurrogate(runs)
    theta = dict(zip(surrogate.columns.names, surrogate.laws.theta, strict=True))
    assert theta["learning_rate"] > 0.5 and surrogate.laws.noise < 0.1
    new = run_world.space_of(run_world.SHARED).sample(60, np.random.default_rng(9))
    forecast = surrogate.forecast(pd.DataFrame(new))
    assert spearmanr(forecast.mean, [run_world.score(c) for c in new])[0] > 0.9


def test_permuted_scores_teach_nothing():
    forecast = RunSurrogate(run_world.permuted(RUNS)).forecast(RUNS.head(40))
    real = RunSurrogate(RUNS).forecast(RUNS.head(40))
    assert forecast.mean.std() < 0.4 * real.mean.std()


def test_the_posterior_is_the_textbook_one(surrogate):
    """Against the plain formula with the whole covariance of all runs."""
    laws, X, task = surrogate.laws, surrogate.X, surrogate.task
    Z = surrogate.stretched(X)
    same = task[:, None] == task[None]
    K = (laws.shared + laws.own * same) * np.exp(-squared(Z, Z)) + laws.level * same
    K += (laws.noise + 1e-6) * np.eye(len(K))
    z = surrogate.stretched(surrogate.columns.encode(RUNS.head(5)))
    k = laws.shared * np.exp(-squared(Z, z))
    forecast = surrogate.forecast(RUNS.head(5))
    assert forecast.mean == pytest.approx(k.T @ np.linalg.solve(K, surrogate.y), abs=1e-3)
    prior = (laws.shared + laws.own) * np.exp(-squared(z, z))
    assert forecast.cov == pytest.approx(prior - k.T @ np.linalg.solve(K, k), abs=1e-3)


def test_inducing_points_come_near_the_whole(monkeypatch, surrogate):
    monkeypatch.setattr(run_surrogate, "INDUCING", 60)
    few = RunSurrogate(RUNS, laws=surrogate.laws).forecast(RUNS.head(30))
    whole = surrogate.forecast(RUNS.head(30))
    assert np.corrcoef(few.mean, whole.mean)[0, 1] > 0.98
    assert (np.diag(few.cov) > 0).all()


def test_one_absurd_value_moves_nothing(surrogate):
    absurd = RUNS.copy()
    absurd.loc[3, "score"] = -1e30
    new = RUNS.tail(40)
    before, after = surrogate.forecast(new).mean, RunSurrogate(absurd).forecast(new).mean
    assert np.corrcoef(before, after)[0, 1] > 0.97
    assert clipped(np.array([0.1, 0.2, 0.3, 0.4, 1e34])).max() < 2.0


def test_a_task_in_another_unit_teaches_the_same(surrogate):
    percent = RUNS.assign(score=np.where(RUNS["task"] == "t1", 100 * RUNS["score"], RUNS["score"]))
    new = RUNS.tail(40)
    before, after = surrogate.forecast(new).mean, RunSurrogate(percent).forecast(new).mean
    assert np.corrcoef(before, after)[0, 1] > 0.97


def test_the_parts_of_tasks_make_the_mean(surrogate):
    forecast = surrogate.forecast(RUNS.head(7))
    assert forecast.parts.shape == (len(surrogate.tasks), 7)
    assert forecast.parts.sum(axis=0) == pytest.approx(forecast.mean)


def test_a_task_that_looks_alike_says_more():
    """Two kinds of tasks, told apart by a fact about them, that want opposite things."""
    rng = np.random.default_rng(0)
    rows = []
    for t in range(8):
        kind = float(t % 2)
        for x in rng.uniform(0, 1, 12):
            rows.append({"task": f"t{t}", "task.kind": kind, "x": x, "score": x if kind else 1 - x})
    surrogate = RunSurrogate(pd.DataFrame(rows))
    for kind in (0.0, 1.0):
        new = pd.DataFrame({"x": [0.1, 0.9], "task.kind": kind})
        low, high = surrogate.forecast(new).mean
        assert (high > low) == bool(kind)


def test_the_same_runs_and_seed_give_the_same_forecast(surrogate):
    again = RunSurrogate(RUNS.copy()).forecast(RUNS.head(9))
    assert (again.mean == surrogate.forecast(RUNS.head(9)).mean).all()


def test_the_gradient_of_the_evidence_is_that_of_its_value(monkeypatch):
    """The fit follows an analytic gradient: checked against differences at its start."""
    import scipy.optimize

    seen = {}

    def spy(cost, start, **given):
        seen["error"] = scipy.optimize.check_grad(
            lambda p: cost(p)[0], lambda p: cost(p)[1], start, epsilon=1e-6
        ) / np.linalg.norm(cost(start)[1])
        return scipy.optimize.OptimizeResult(x=start)

    original = scipy.optimize.minimize
    monkeypatch.setattr(scipy.optimize, "minimize", spy)
    RunSurrogate(RUNS.head(60))
    monkeypatch.setattr(scipy.optimize, "minimize", original)
    assert seen["error"] < 1e-4


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (RUNS.drop(columns="score"), "lack the column score"),
        (RUNS.assign(score=0.5), "nothing to learn from"),
        (RUNS.assign(score=np.nan), "nothing to learn from"),
    ],
)
def test_runs_that_say_nothing_are_refused(runs, said):
    with pytest.raises(BadInput, match=said):
        RunSurrogate(runs)


def test_laws_of_other_runs_can_be_given():
    laws = Laws(np.zeros(3), 1.0, 0.1, 0.1)
    assert RunSurrogate(RUNS, laws=laws).laws is laws
