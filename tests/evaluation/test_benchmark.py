"""Runs over tasks, seeds and methods: kept, continued, and read off at budgets."""

import os

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from foretune.evaluation import benchmark
from foretune.evaluation.benchmark import (
    error_of,
    main,
    one_run,
    one_thread_each,
    regret_at,
    run_all,
)


class Here:
    """A process pool of no processes."""

    ran = 0

    def __init__(self, jobs, mp_context=None, initializer=None):
        pass

    def shutdown(self, wait, cancel_futures):
        pass

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        Here.ran += 1
        future = Future()
        future.set_result(function(*arguments))
        return future


@pytest.fixture
def here(monkeypatch):
    """Run in this process, and count the runs."""
    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", Here)
    monkeypatch.setattr(benchmark, "_meta", {})
    Here.ran = 0
    return Here


def test_every_method_task_and_seed_is_run_once_and_kept(here, meta_folder, tmp_path):
    steps = run_all(
        meta_folder, tmp_path, ["random", "portfolio"], budget=27, seeds=2, tasks=["t0", "t1"]
    )
    assert here.ran == 8
    assert set(map(tuple, steps[["method", "task", "seed"]].drop_duplicates().to_numpy())) == {
        (m, t, s) for m in ("random", "portfolio") for t in ("t0", "t1") for s in (0, 1)
    }
    want = one_run(str(meta_folder), "random", "t1", 1, 27, None, {})
    got = steps[(steps["method"] == "random") & (steps["task"] == "t1") & (steps["seed"] == 1)]
    assert got["config_id"].tolist() == [s["config_id"] for s in want] and got[
        "spent"
    ].tolist() == [s["spent"] for s in want]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["portfolio.parquet", "random.parquet"]
    again = run_all(
        meta_folder, tmp_path, ["random", "portfolio"], budget=27, seeds=2, tasks=["t0", "t1"]
    )
    assert here.ran == 8
    pd.testing.assert_frame_equal(again, steps, check_dtype=False)


def test_only_what_is_missing_is_run_and_files_do_not_depend_on_the_order(
    here, meta_folder, tmp_path
):
    run_all(meta_folder, tmp_path / "a", ["random"], budget=18, seeds=1, tasks=["t1"])
    run_all(meta_folder, tmp_path / "a", ["random"], budget=18, seeds=2, tasks=["t0", "t1"])
    assert here.ran == 4
    run_all(meta_folder, tmp_path / "b", ["random"], budget=18, seeds=2, tasks=["t0", "t1"])
    a, b = (pd.read_parquet(tmp_path / k / "random.parquet").drop(columns="seconds") for k in "ab")
    pd.testing.assert_frame_equal(a, b)


def test_a_run_with_another_budget_is_made_again_not_mixed(here, meta_folder, tmp_path):
    run_all(meta_folder, tmp_path, ["random"], budget=9, seeds=1, tasks=["t0", "t1"])
    steps = run_all(meta_folder, tmp_path, ["random"], budget=27, seeds=1, tasks=["t0"])
    assert here.ran == 3
    assert steps.groupby("task")["spent"].max().to_dict() == {"t0": 27, "t1": 9}
    assert not steps.duplicated(["method", "task", "seed", "step"]).any()


def test_a_label_names_a_variant_with_options_and_sources(here, meta_folder, tmp_path):
    steps = run_all(
        meta_folder,
        tmp_path,
        ["portfolio:one"],
        budget=18,
        seeds=1,
        tasks=["t0"],
        sources={"t0": ["t2"]},
        options={"portfolio:one": {"size": 1}},
    )
    assert (tmp_path / "portfolio-one.parquet").exists() and set(steps["method"]) == {
        "portfolio:one"
    }
    want = one_run(str(meta_folder), "portfolio:one", "t0", 0, 18, ["t2"], {"size": 1})
    assert steps["config_id"].tolist() == [s["config_id"] for s in want]


@pytest.mark.parametrize(
    ("methods", "more", "message"),
    [
        (["hyperbrand"], {}, "did you mean hyperband"),
        (["random"], {"tasks": ["oslo"]}, "unknown task 'oslo'"),
        (["random"], {"sources": {"oslo": []}}, "unknown task"),
    ],
)
def test_wrong_names_are_refused_before_anything_runs(
    here, meta_folder, tmp_path, methods, more, message
):
    with pytest.raises(BadInput, match=message):
        run_all(meta_folder, tmp_path / "out", methods, budget=9, seeds=1, **more)
    assert here.ran == 0 and not (tmp_path / "out").exists()


def test_real_processes_give_the_same(meta_folder, tmp_path):
    steps = run_all(meta_folder, tmp_path, ["random"], budget=9, seeds=2, tasks=["t0"], jobs=2)
    want = [
        step["config_id"]
        for s in (0, 1)
        for step in one_run(str(meta_folder), "random", "t0", s, 9, None, {})
    ]
    assert steps.sort_values(["seed", "step"])["config_id"].tolist() == want


def test_one_thread_puts_the_environment_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with one_thread_each():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


def trace(rows):
    return pd.DataFrame(
        rows, columns=["method", "task", "seed", "step", "spent", "normalized_regret"]
    )


def test_regret_at_a_budget_is_that_of_the_last_step_within_it():
    steps = trace(
        [
            ("m", "t", 0, 1, 3, np.nan),
            ("m", "t", 0, 2, 6, 0.4),
            ("m", "t", 0, 3, 10, 0.1),
            ("m", "u", 0, 1, 10, 0.2),
            ("m", "u", 1, 1, 4, 0.3),
        ]
    )
    table = regret_at(steps, [2, 3, 6, 9, 10, 99])
    assert table.loc[("m", "t", 0)].tolist() == [1.0, 1.0, 0.4, 0.4, 0.1, 0.1]
    assert table.loc[("m", "u", 0)].tolist() == [1.0, 1.0, 1.0, 1.0, 0.2, 0.2]
    assert regret_at(steps, [2], nothing=0.5).loc[("m", "u", 1)].tolist() == [0.5]


def test_errors_count_tasks_not_seeds():
    steps = trace(
        [
            ("m", t, s, 1, 1, v + 0.01 * s)
            for t, v in (("a", 0.1), ("b", 0.3), ("c", 0.2))
            for s in range(4)
        ]
    )
    assert error_of(regret_at(steps, [1])).loc["m", "1"] == pytest.approx(0.1 / np.sqrt(3))


def test_the_command_prints_and_keeps_a_summary(here, meta_folder, tmp_path, capsys):
    main(
        [
            str(meta_folder),
            "--methods",
            "portfolio,random",
            "--budget",
            "18",
            "--seeds",
            "1",
            "--out",
            str(tmp_path),
            "--summary",
            str(tmp_path / "s.csv"),
        ]
    )
    printed = capsys.readouterr().out
    table = pd.read_csv(tmp_path / "s.csv", index_col=0)
    assert table.index.tolist() == ["portfolio", "random"] and table.columns.tolist() == [
        "9",
        "18",
        "9 se",
        "18 se",
    ]
    assert "portfolio" in printed and table.loc["portfolio", "9"] < table.loc["random", "9"]
