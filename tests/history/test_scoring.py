"""Scores of a run store's runs: cut, diverged and chosen ones."""

import math

import pandas as pd
import pytest

from foretune.history.runs import FACTS, NUMBERS, RunStore
from foretune.history.scoring import scored


def store(*runs, **facts):
    """A store of runs: (id, state, curve of values, ...) over four planned epochs."""
    rows, points = [], []
    for name, state, curve in runs:
        row = {fact: math.nan if fact in NUMBERS else "" for fact in FACTS}
        row |= {
            "run_id": name,
            "task": "t",
            "state": state,
            "source": "foretune:x",
            "split": "valid",
        }
        row |= {"metric": "acc", "goal": "maximize", "value": max(curve), "epochs_planned": 4.0}
        rows.append({**row, "learning_rate": 0.1, **facts})
        points += [{"run_id": name, "epoch": e, "acc": v} for e, v in enumerate(curve, 1)]
    return RunStore(pd.DataFrame(rows), pd.DataFrame(points))


WHOLE = [(f"w{k}", "complete", [0.2 + g, 0.3, 0.4, 0.5 + g]) for k, g in enumerate((0, 0.1, 0.0))]


def test_a_cut_run_counts_what_the_complete_ones_still_gained():
    found = scored(store(*WHOLE, ("cut", "cut", [0.1, 0.25])))
    # from epoch 2 (best so far .3, .3, .3) to the end (.5, .6, .5) they gained .2, .3, .2
    assert found["score"].tolist() == pytest.approx([0.5, 0.6, 0.5, 0.45])


def test_a_cut_run_that_nothing_tells_the_end_of_is_left_out():
    assert len(scored(store(*WHOLE[:2], ("cut", "cut", [0.1, 0.25])))) == 2


def test_a_run_that_diverged_is_its_groups_worst():
    found = scored(store(*WHOLE, ("gone", "diverged", [0.9])))
    assert found["score"].tolist() == pytest.approx([0.5, 0.6, 0.5, 0.5])


def test_a_selection_teaches_ranks_at_its_own_level():
    chosen = [(f"r{k}", "complete", [v]) for k, v in enumerate((0.5, 0.51, 0.52, 0.53, 5.0))]
    found = scored(store(*chosen, source="csv:x"))["score"]
    assert found.is_monotonic_increasing and found[2] == pytest.approx(0.52)
    assert found[4] - found[2] == pytest.approx(found[2] - found[0])  # symmetric, 5.0 or not
    assert found[4] < 0.6


def test_groups_of_one_task_are_tasks_of_their_own():
    table = store(*WHOLE, ("other", "complete", [0.4, 0.5]))
    table.runs.loc[3, "split"] = "test"
    found = scored(table)
    assert found["task"].tolist() == ["t", "t", "t", "t (acc, test)"]
    assert set(found["images"]) == {"t"} and (found["epochs"] == 4).all()
