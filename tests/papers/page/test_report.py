"""The benchmark report: its means, its tables, and that it reads a reports folder."""

import json

import numpy as np
import pandas as pd
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation.benchmark import _append, _read
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.searchers.registry import searcher
from papers.page.report import (
    Section,
    benchmark_report,
    main,
    mean_over_tasks,
    read_sections,
    regret_points,
    summary_table,
    task_table,
)

META = synthetic_meta(tasks=3, configs=30, epochs=6)


def steps_of(method, budget=36, seeds=2):
    rows = []
    for task in META.tasks:
        for seed in range(seeds):
            study, objective = replay_study(META, task, budget=budget, method=method, seed=seed)
            steps = replay(study, objective, searcher(method), Score(META, task))
            rows += [{"method": method, "task": task, "seed": seed, **step} for step in steps]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def steps():
    return pd.concat([steps_of("random"), steps_of("portfolio")], ignore_index=True)


def given(values):
    """Steps of one method whose regret is constant in each run: {(task, seed): regret}."""
    return pd.DataFrame(
        [
            {
                "method": "m",
                "task": t,
                "seed": s,
                "spent": 1,
                "epoch": 1,
                "normalized_regret": v,
                "seconds": 0.002,
            }
            for (t, s), v in values.items()
        ]
    )


def test_means_weigh_tasks_alike_and_errors_are_over_tasks():
    steps = given({("a", 0): 0.1, ("a", 1): 0.3, ("b", 0): 0.6})
    mean, error = mean_over_tasks(steps, [1])
    assert mean.loc["m", 1] == pytest.approx(0.4)  # (0.2 + 0.6) / 2, not the mean of three runs
    assert error.loc["m", 1] == pytest.approx(np.std([0.2, 0.6], ddof=1) / np.sqrt(2))


def test_summary_has_the_budgets_that_runs_reach(steps):
    table = summary_table(Section("s", steps, 6))
    assert [c for c in table if c.isdigit()] == ["1", "2", "5"]
    assert table["5"].is_monotonic_increasing
    portfolio, random = (table[table["method"] == m].iloc[0] for m in ("portfolio", "random"))
    assert portfolio["1"] < random["1"]
    assert (portfolio["tasks"], portfolio["seeds"]) == (3, 2)


def test_a_budget_beyond_a_method_s_runs_has_no_value(steps):
    short = steps_of("portfolio", budget=12).assign(method="short")
    section = Section("s", pd.concat([steps, short], ignore_index=True), 6)
    table = summary_table(section).set_index("method")
    assert np.isfinite(table.loc["short", "2"]) and np.isnan(table.loc["short", "5"])
    assert np.isfinite(table.loc["portfolio", "5"])
    assert [epochs for _, _, epochs in regret_points(section)["short"]] == [6, 12]
    assert "–" in benchmark_report([section])


def test_task_table_has_a_row_per_task(steps):
    table = task_table(Section("s", steps, 6))
    assert list(table["task"]) == ["t0", "t1", "t2"]
    at_five = summary_table(Section("s", steps, 6)).set_index("method")["5"]
    assert table[["portfolio", "random"]].mean().to_dict() == pytest.approx(at_five.to_dict())


def test_the_page_shows_figures_references_and_nothing_from_outside(steps):
    evil = "<script>alert(1)</script>"
    section = Section(
        evil,
        steps,
        6,
        about=evil,
        reference={evil: {1: 0.5, 5: 0.0123}},
        tables={evil: pd.DataFrame({evil: [evil, None]})},
    )
    html = benchmark_report([section], {"extra": pd.DataFrame({"x": [1, 2]})})
    assert html.count("<script") == 1
    assert "http" not in html.replace("http-equiv", "")
    assert "0.0123" in html
    table = summary_table(section).set_index("method")
    for method in ("random", "portfolio"):
        assert f"{table.loc[method, '1']:.4f}" in html
        assert f"±{table.loc[method, '±1']:.4f}" in html


def test_a_reports_folder_is_read_and_written(tmp_path, steps, capsys):
    folder = tmp_path / "traces" / "synthetic"
    for method in ("random", "portfolio"):
        path = folder / f"{method}.parquet"
        _append(
            path, _read(path), steps[steps["method"] == method].assign(budget=12).to_dict("records")
        )
    (folder / "about.json").write_text(
        json.dumps({"title": "Made up", "max_epoch": 6, "reference": {"paper": {"1": 0.25}}})
    )
    pd.DataFrame({"method": ["a"], "value": [0.5]}).to_csv(tmp_path / "extra.csv", index=False)
    (tmp_path / "metrics.json").write_text(json.dumps({"a": {"b": 1.5}, "c": [1, 2]}))
    sections, tables = read_sections(tmp_path, ["extra.csv", "metrics.json"])
    assert not read_sections(tmp_path)[1]
    assert [(s.title, s.max_epoch, dict(s.reference)) for s in sections] == [
        ("Made up", 6, {"paper": {1: 0.25}})
    ]
    assert tables["metrics"].to_dict("records") == [
        {"key": "c", "value": "[1, 2]"},
        {"key": "a.b", "value": 1.5},
    ]
    main([str(tmp_path), "--tables", "extra.csv"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "benchmark.html")
    html = (tmp_path / "benchmark.html").read_text()
    assert "Made up" in html
    assert "0.2500" in html
    assert "extra" in html


def test_nothing_or_broken_files_are_refused(tmp_path):
    with pytest.raises(BadInput, match="nothing to report"):
        benchmark_report(*read_sections(tmp_path))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(BadInput, match=r"broken\.json cannot be read"):
        read_sections(tmp_path, ["broken.json"])
