"""Decisions beside training workers."""

import pandas as pd
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from foretune.searchers.base import Searcher
from foretune.searchers.transfer.run_surrogate import RunSurrogate
from foretune.space.space import Space
from foretune.study.study import Plan, Step, Study

SPACE = {"name": "s", "hyperparameters": [{"name": "x", "type": "uniform_float",
                                           "lower": 0.0, "upper": 1.0, "default_value": 0.5}]}  # fmt: skip


@pytest.fixture
def two_threads():
    """What a process of a machine with two cores begins with."""
    with threadpool_limits(2, user_api="blas"):
        yield


def threads():
    """Of each library of linear algebra that is loaded."""
    import scipy.linalg  # noqa: F401

    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_a_decision_takes_one_thread(two_threads):
    """Threads of small matrices wait for each other; afterwards the setting is as before."""
    before, seen = threads(), []

    class Looks(Searcher):
        def suggest(self, study, rng):
            seen.append(threads())
            return Step(0, 0, 1, {})

    study = Study(Space(SPACE), [{"x": 0.5}], Plan("t", "score", "maximize", 9, 9))
    study.ask(Looks())
    assert seen == [{1}] and threads() == before == {2}


def test_learning_from_runs_takes_one_thread(two_threads, monkeypatch):
    """Also where a recommendation asks, outside any study."""
    seen = []
    monkeypatch.setattr(RunSurrogate, "_fit", lambda self, rng: seen.append(threads()) or 1 / 0)
    runs = pd.DataFrame({"task": ["a", "a", "b", "b"], "score": [1, 2, 3, 4.0], "x": [1, 2, 1, 2]})
    with pytest.raises(ZeroDivisionError):
        RunSurrogate(runs)
    assert seen == [{1}] and threads() == {2}
