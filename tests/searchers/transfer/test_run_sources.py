"""Which sources of past runs hurt the forecast of others."""

import numpy as np
import pandas as pd

from foretune.searchers.transfer.run_sources import FEWEST_TASKS, RUNS, TASKS, hurtful, some_of

RATES = np.geomspace(1e-4, 1.0, 12)


def source(name, tasks, peak, seed=0):
    """Runs of so many tasks, best at a rate of 10 ** peak."""
    rng = np.random.default_rng(seed)
    parts = [
        pd.DataFrame(
            {
                "learning_rate": RATES,
                "score": 0.9
                - 0.1 * np.abs(np.log10(RATES) - peak)
                + rng.normal(0, 0.01, len(RATES)),
            }
        ).assign(task=f"{name}{k}", of=name)
        for k in range(tasks)
    ]
    return pd.concat(parts, ignore_index=True)


def verdicts(*sources, judges):
    runs = pd.concat(sources, ignore_index=True)
    return hurtful(runs.drop(columns="of"), runs["of"], judges)


def test_a_source_that_points_elsewhere_hurts_and_one_that_agrees_does_not():
    mine, alike = source("mine", FEWEST_TASKS, -2.0), source("alike", 4, -2.0, 1)
    other = source("other", 8, 0.0, 2)
    judges = {"alike": ["mine"], "other": ["mine"]}
    out, kept = verdicts(mine, alike, other, judges=judges)
    assert [one.name for one in out] == ["other"] and [one.name for one in kept] == ["alike"]
    assert out[0].gain < 0 and out[0].tasks == FEWEST_TASKS
    assert "on 6 tasks of other sources" in str(out[0])


def test_too_few_tasks_judge_nothing_and_nobody_judges_itself():
    mine, other = source("mine", FEWEST_TASKS - 1, -2.0), source("other", 8, 0.0)
    assert verdicts(mine, other, judges={"other": ["mine"]}) == ([], [])
    assert verdicts(mine, other, judges={"other": ["other"]}) == ([], [])


def test_a_verdict_looks_at_a_bounded_number_of_runs():
    runs = pd.concat([source("a", 200, -2.0), source("b", 3, -2.0)] * 2, ignore_index=True)
    chosen = runs[some_of(runs, runs["of"])]
    assert chosen.groupby("of")["task"].nunique().to_dict() == {"a": TASKS // 2, "b": 3}
    assert chosen.groupby("task").size().max() <= RUNS
