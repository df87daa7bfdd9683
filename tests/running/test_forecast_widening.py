"""How much wider than it says a forecast's interval must be."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from foretune.running import forecast_widening
from foretune.running.forecast_widening import (
    DEVIATE,
    MOST,
    USUAL,
    deviations,
    laws_for,
    moments,
    widened,
    widening,
)
from foretune.searchers.transfer.run_surrogate import RunSurrogate


def past(tasks: int, runs: int, noise: float, seed: int = 0) -> pd.DataFrame:
    """Runs of tasks of one law of the learning rate; `noise` is each run's luck."""
    rng = np.random.default_rng(seed)
    rate = 10 ** rng.uniform(-5, 0, tasks * runs)
    score = 0.8 - 0.05 * (np.log10(rate) + 2.5) ** 2 + noise * rng.standard_normal(len(rate))
    names = np.repeat([f"task {k}" for k in range(tasks)], runs)
    return pd.DataFrame({"task": names, "score": score, "learning_rate": rate})


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return past(12, 20, 0.03)


@pytest.fixture(scope="module")
def surrogate(runs: pd.DataFrame) -> RunSurrogate:
    return RunSurrogate(runs)


def test_laws_that_fit_need_little(runs: pd.DataFrame, surrogate: RunSurrogate):
    assert 1.0 <= widening(runs, surrogate, 4) < 1.3
    assert 1.0 <= widening(runs, surrogate, 0) < 1.3


def test_laws_that_are_too_sure_are_found_out(runs: pd.DataFrame, surrogate: RunSurrogate):
    laws = surrogate.laws
    sure = RunSurrogate(runs, laws=replace(laws, noise=laws.noise / 6))
    fitted = widening(runs, surrogate, 4)
    assert fitted + 0.2 < widening(runs, sure, 4) <= MOST


def test_what_was_left_out_is_not_in_the_past(runs: pd.DataFrame, surrogate: RunSurrogate):
    # told the very runs it forecasts, a noiseless process would be off by nothing
    own = runs["task"].isin(["task 0", "task 1", "task 2"])
    found = deviations(runs[~own], runs[own], surrogate, 4, np.random.default_rng(0))
    assert len(found) == 3
    assert 0.3 < float(np.quantile(np.concatenate(found), 0.9)) / DEVIATE < 1.5


@pytest.mark.parametrize("few", [past(1, 30, 0.03), past(6, 4, 0.03)])
def test_where_nothing_can_be_left_out_the_usual_factor_holds(few: pd.DataFrame):
    assert widening(few, RunSurrogate(few), 4) == USUAL


@pytest.mark.parametrize(
    ("tasks", "needed", "factor"),
    [(1, 2.0, 1.58), (2, 2.0, 1.71), (10, 2.0, 1.92), (1, 0.5, 1.0), (25, 8.0, MOST)],
)
def test_a_few_tasks_are_not_believed_too_much(
    monkeypatch,
    runs: pd.DataFrame,
    surrogate: RunSurrogate,
    tasks: int,
    needed: float,
    factor: float,
):
    """`tasks` of each of the four parts say that intervals must be `needed` times as wide."""
    found = [np.full(12, needed * DEVIATE)] * tasks
    monkeypatch.setattr(forecast_widening, "deviations", lambda *_: found)
    assert widening(runs, surrogate, 4) == pytest.approx(factor, abs=0.005)


def test_a_column_that_the_other_tasks_lack_has_no_law(runs: pd.DataFrame, surrogate: RunSurrogate):
    more = runs.assign(weight_decay=np.linspace(0.0, 0.1, len(runs)))
    theta = dict(
        zip(RunSurrogate(more).columns.names, laws_for(more, surrogate).theta, strict=True)
    )
    assert theta == {"learning_rate": surrogate.laws.theta[0], "weight_decay": 0.0}


def test_a_mixture_is_widened_about_its_middle():
    weight, mean, std = np.array([0.25, 0.75]), np.array([[0.0], [1.0]]), np.array([[0.5], [0.1]])
    middle, spread = moments(weight, mean, std)
    wide = moments(weight, *widened(weight, mean, std, 1.5))
    assert middle == wide[0] == pytest.approx(0.75)
    assert wide[1] == pytest.approx(1.5 * spread)
