"""What leave-one-task-out says of runs whose worth is known."""

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from foretune.evaluation.history_worth import FEWEST_TASKS, Worth, needed, worth

RATES = np.geomspace(1e-4, 1.0, 16)


def task(name, peak=-2.0, **columns):
    """Runs of one task, best at a rate of 10 ** peak."""
    scores = 0.9 - 0.1 * np.abs(np.log10(RATES) - peak)
    return pd.DataFrame({"learning_rate": RATES, "score": scores}).assign(task=name, **columns)


@pytest.fixture(scope="module")
def found():
    """Six tasks of one peak, and one whose peak is at the other end."""
    alike = [task(f"t{k}", epochs=8.0) for k in range(6)]
    return worth(pd.concat([*alike, task("odd", peak=0.0, epochs=8.0)], ignore_index=True))


def test_history_that_points_at_the_best_saves_trainings_and_one_that_misleads_hurts(found):
    assert all(found.by_task[f"t{k}"] > 0 for k in range(6))
    assert found.by_task["odd"] < min(found.by_task[f"t{k}"] for k in range(6))
    assert set(found.hurt) <= {"odd"}
    assert found.runs["t0"] == 16 and found.epochs["t0"] == 8.0
    low, high = found.interval
    assert low <= found.mean <= high


def test_an_interval_needs_tasks():
    few = {f"t{k}": 1.0 for k in range(FEWEST_TASKS - 1)}
    assert Worth(few, {}, {}, ()).interval is None
    assert Worth({**few, "t": 1.0}, {}, {}, ()).interval == (1.0, 1.0)
    assert Worth({"a": -1.0, "b": 2.0, "c": -3.0}, {}, {}, ()).hurt == ["c", "a"]


def test_trainings_needed():
    best = np.array([0.1, 0.5, 0.5, 0.7])
    assert [needed(best, v, 9) for v in (0.1, 0.5, 0.6, 0.8)] == [1, 2, 4, 9]


def test_too_little_is_refused():
    with pytest.raises(BadInput, match="needs two tasks"):
        worth(task("t"))
    short = pd.concat([task("a").head(3), task("b").head(3)], ignore_index=True)
    with pytest.raises(BadInput, match="nothing to replay"):
        worth(short)
