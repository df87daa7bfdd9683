"""Replaying a table: every figure of the steps recomputed here from the table itself."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import searcher
from foretune.study.study import Step


def steps_of(meta, task, name, budget, **more):
    study, objective = replay_study(meta, task, budget=budget, method=name, **more)
    return list(
        replay(study, objective, searcher(name), Score(meta, task, more.get("curve_seed", 0)))
    )


def recount(meta, task, steps, seed=0):
    """The figures of each step by plain counting over the long table."""
    frame = meta.table[
        (meta.table["task"] == task) & (meta.table["seed"] == seed) & (meta.table["epoch"] >= 1)
    ]
    cells = {
        (int(c), int(e)): float(v)
        for c, e, v in zip(frame["config_id"], frame["epoch"], frame[meta.metric], strict=True)
    }
    sign = 1 if meta.goal == "maximize" else -1
    per_config = {}
    for (c, _), v in cells.items():
        if math.isfinite(v):
            per_config[c] = max(per_config.get(c, -math.inf), sign * v)
    best, worst = max(per_config.values()), min(per_config.values())
    reached, spent, found, out = {}, 0, -math.inf, []
    for step in steps:
        c, epoch = step["config_id"], step["epoch"]
        for e in range(reached.get(c, 0) + 1, epoch + 1):
            spent += 1
            if math.isfinite(cells[c, e]):
                found = max(found, sign * cells[c, e])
        assert epoch > reached.get(c, 0)
        reached[c] = epoch
        value = cells[c, epoch]
        known = math.isfinite(found)
        recommended = step["recommended"]
        out.append(
            {
                "config_id": c,
                "epoch": epoch,
                "value": value if math.isfinite(value) else None,
                "spent": spent,
                "incumbent": found * sign if known else None,
                "regret": best - found if known else None,
                "normalized_regret": (best - found) / (best - worst)
                if known and best > worst
                else 0.0
                if known
                else None,
                "recommended_rank": None
                if recommended not in per_config
                else sum(v > per_config[recommended] for v in per_config.values()),
            }
        )
    return out


def same(step, want):
    for key, value in want.items():
        got = step[key]
        if value is None or got is None:
            assert got is value, (key, got, value)
        else:
            assert got == pytest.approx(value, rel=1e-6, abs=1e-9), (key, got, value)


@pytest.mark.parametrize("goal", ["maximize", "minimize"])
@pytest.mark.parametrize("name", ["random", "hyperband", "portfolio"])
def test_every_figure_is_the_tables(name, goal):
    from synthetic import synthetic_meta

    meta = synthetic_meta(goal=goal)
    for task in ("t0", "t3"):
        steps = steps_of(meta, task, name, budget=120)
        for step, want in zip(steps, recount(meta, task, steps), strict=True):
            same(step, want)
        assert [s["step"] for s in steps] == list(range(1, len(steps) + 1)) and steps[-1][
            "spent"
        ] == 120
        assert all(s["seconds"] >= 0 for s in steps)
        # some diverge, and it shows
        assert any(s["value"] is None for s in steps) or name != "random"
        regrets = [s["regret"] for s in steps if s["regret"] is not None]
        assert regrets == sorted(regrets, reverse=True) and regrets[-1] >= 0


def test_on_a_published_table_with_nan_cells_and_huge_losses(shared):
    meta = MetaDataset.load(shared / "data" / "curves" / "taskset")
    steps = steps_of(meta, meta.tasks[1], "hyperband", budget=300)
    for step, want in zip(steps, recount(meta, meta.tasks[1], steps), strict=True):
        same(step, want)
    assert steps[-1]["spent"] == 300


def test_epoch_zero_is_free(meta):
    steps = steps_of(meta, "t0", "random", budget=9)
    assert [(s["epoch"], s["spent"]) for s in steps] == [(9, 9)]
    study, objective = replay_study(meta, "t0", budget=9)
    step = study.ask(searcher("random"))
    study.tell(step, objective.run(step.config_id, study.configs[step.config_id], 0, 9).rows)
    assert (
        study.spent == 9 and study.start_value[step.config_id] == meta.start("t0")[step.config_id]
    )
    assert study.incumbent[1] >= 1


def test_the_end_of_a_short_curve_costs_nothing_and_the_trial_is_left(table):
    values = np.ones((2, 4, 5))
    full = table(values)
    frame = full.table[
        ~((full.table["config_id"] == 10) & (full.table["epoch"] > 2))
        & ~(full.table["config_id"] == 20)
    ]
    configs = dict(zip(full.config_ids, full.configs, strict=True))
    meta = full.build(full.space, configs, frame, **full.about)
    steps = steps_of(meta, "t0", "random", budget=1000)
    assert steps[-1]["spent"] == 5 + 2 + 5 and {(s["config_id"], s["epoch"]) for s in steps} == {
        (0, 5),
        (10, 2),
        (30, 5),
    }


def test_all_diverged_gives_nothing_to_report_but_the_cost(table):
    values = np.ones((2, 3, 2))
    values[0, :2] = np.nan
    steps = steps_of(table(values), "t0", "random", budget=2, seed=1)
    first = steps[0]
    assert (first["value"], first["incumbent"], first["regret"], first["normalized_regret"]) in (
        (None,) * 4,
        (1.0, 1.0, 0.0, 0.0),
    )


def test_the_past_is_all_other_tasks_or_those_named_never_the_target(meta):
    study, _ = replay_study(meta, "t1", budget=9)
    assert study.past.tasks == ["t0", "t2", "t3", "t4"] and "t1" not in set(
        study.past.table["task"]
    )
    study, _ = replay_study(meta, "t1", budget=9, sources=["t4", "t0"])
    assert study.past.tasks == ["t4", "t0"] and set(study.past.table["task"]) == {"t0", "t4"}
    assert replay_study(meta, "t1", budget=9, sources=[])[0].past is None
    with pytest.raises(BadInput, match="'t1' itself"):
        replay_study(meta, "t1", budget=9, sources=["t0", "t1"])
    with pytest.raises(BadInput, match="unknown task 'oslo'"):
        replay_study(meta, "t1", budget=9, sources=["oslo"])


def test_the_sources_decide_what_a_warm_start_does(meta):
    first = {
        sources: steps_of(meta, "t0", "portfolio", budget=9, sources=list(sources))[0]["config_id"]
        for sources in (("t1",), ("t2",), ("t3",))
    }
    for (source,), config_id in first.items():
        assert config_id == int(np.nanargmax(meta.best([source])[0]))


def test_the_curve_seed_chooses_the_curves(meta):
    other = meta.table.copy()
    other["seed"], other[meta.metric] = 1, other[meta.metric] * 0.5
    import pandas as pd

    configs = dict(zip(meta.config_ids, meta.configs, strict=True))
    both = meta.build(meta.space, configs, pd.concat([meta.table, other]), **meta.about)
    one, half = (steps_of(both, "t0", "random", budget=27, curve_seed=k) for k in (0, 1))
    assert [s["config_id"] for s in one] == [s["config_id"] for s in half]
    assert [s["value"] for s in half] == [
        None if s["value"] is None else pytest.approx(0.5 * s["value"]) for s in one
    ]
    for step, want in zip(half, recount(both, "t0", half, seed=1), strict=True):
        same(step, want)
    with pytest.raises(BadInput, match="curve seed 2 of t0 is not in synthetic; it has 0, 1"):
        replay_study(both, "t0", budget=9, curve_seed=2)


def test_ranks_count_the_better_ones_and_ties_share(table):
    score = Score(table(np.array([[[0.5, 0.1], [0.9, 0.2], [0.5, 0.5], [np.nan, np.nan]]])), "t0")
    assert score.rank.tolist() == [1, 0, 1, math.inf]
    assert (score.best, score.worst) == (0.9, 0.5) and score.normalized(0.1) == pytest.approx(0.25)


def test_a_constant_table_has_no_regret(table):
    steps = steps_of(table(np.full((2, 3, 2), 0.3)), "t0", "random", budget=4)
    assert [s["normalized_regret"] for s in steps] == [0.0, 0.0] and [
        s["recommended_rank"] for s in steps
    ] == [0, 0]


def test_a_regret_is_infinite_before_anything_is_known(meta):
    study, _ = replay_study(meta, "t0", budget=9)
    assert Score(meta, "t0").regret(study) == math.inf
    study.tell(Step(0, 0, 1), [0.25])
    assert Score(meta, "t0").regret(study) == pytest.approx(Score(meta, "t0").best - 0.25)


def test_a_cheap_replay_imports_nothing_heavy(meta_folder, tmp_path):
    code = (
        "import sys; from foretune.commands.cli import main;"
        f"assert main(['replay', {str(meta_folder)!r}, '--task', 't0', '--method', "
        f"'portfolio', '--budget', '20', '--out', {str(tmp_path / 'o')!r}]) == 0;"
        "print(sorted({'torch', 'pandas', 'scipy', 'sklearn', 'ConfigSpace', 'mlflow', "
        "'prefect', 'dvc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done
    assert len([json.loads(line) for line in (tmp_path / "o").read_text().splitlines()]) == 3


@pytest.mark.filterwarnings("error")
def test_a_task_whose_every_cell_diverged_is_replayed_without_a_figure_or_a_warning(table):
    steps = steps_of(table(np.full((1, 4, 3), np.nan)), "t0", "random", budget=10)
    assert [s["spent"] for s in steps] == [1, 2, 3, 4]
    for key in (
        "value",
        "incumbent",
        "regret",
        "normalized_regret",
        "recommended",
        "recommended_rank",
    ):
        assert all(s[key] is None for s in steps), key
