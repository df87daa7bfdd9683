"""The comparison of task-aware Hyperband, on five tasks of formulas."""

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from foretune.evaluation.replay import Score
from foretune.params import RankingsPlan, TaskAwarePlan
from foretune.recommenders.described import probes
from foretune.searchers.registry import searcher
from papers.hyperstar import task_aware
from papers.hyperstar.task_aware import (
    Rankings,
    best_value,
    by_epoch,
    evaluate,
    methods,
    needed,
    replayed,
)

PLAN = TaskAwarePlan(budgets=(20, 45), large_budgets=(60,), repetitions=2)


@pytest.fixture(scope="module")
def grid(meta):
    """t0 and t1 of one source, the others each of its own; stored ids differ from rows."""
    ids = [10 + 3 * i for i in meta.config_ids]
    table = meta.table.assign(config_id=meta.table["config_id"] * 3 + 10)
    about = {**meta.about, "sources": {"t0": "s", "t1": "s"}}
    return meta.build(meta.space, dict(zip(ids, meta.configs, strict=True)), table, **about)


@pytest.fixture(scope="module")
def rankings(grid):
    """hyperstar knows the truth up to noise; tr-automl is chance."""
    rng = np.random.default_rng(0)
    rows = []
    for t, task in enumerate(grid.tasks):
        best = np.nan_to_num(grid.best([task])[0])
        for trial in range(2):
            for name, scores in (
                ("hyperstar", best + rng.normal(0, 0.02, len(best))),
                ("tr-automl", np.random.default_rng([t, trial]).random(len(best))),
            ):
                rows += [
                    {"recommender": name, "task": task, "trial": trial, "config_id": c, "score": s}
                    for c, s in zip(grid.config_ids, scores, strict=True)
                ]
    return Rankings(pd.DataFrame(rows), grid, RankingsPlan(trials=2, trainings=2, seed=5))


@pytest.fixture(scope="module")
def done(grid, rankings, tmp_path_factory):
    """The reports folder after one evaluation, and its summary."""
    folder = tmp_path_factory.mktemp("reports")
    return folder, evaluate(grid, rankings, PLAN, folder, say=lambda text: None)


def test_every_method_at_every_budget(done):
    folder, summary = done
    assert set(summary["method"]) == set(methods(PLAN)) and (summary["tasks"] == 5).all()
    assert [tuple(k) for k in summary[["eta", "budget"]].drop_duplicates().to_numpy()] == [
        (2, 20),
        (2, 45),
        (3, 60),
    ]
    at = summary.pivot(index="method", columns=["eta", "budget"], values="mean")
    assert (at[(2, 45)] <= at[(2, 20)]).all()
    # the ranking is nearly the truth
    assert (at.loc["task-aware Hyperband"] < 0.5 * at.loc["Hyperband"]).all()
    curves = pd.read_csv(folder / "task_aware_curves.csv")
    assert (
        curves.groupby(["eta", "method"])["mean"].apply(lambda c: (np.diff(c) <= 1e-9).all()).all()
    )


def test_shares_of_budget_follow_from_the_curves(done):
    folder, _ = done
    share = pd.read_csv(folder / "task_aware_share.csv").set_index(["eta", "budget", "method"])
    assert share.shape == (3 * 10, 10)
    assert share.loc[(3, 60, "task-aware Hyperband"), "Hyperband"] <= 0.5
    assert np.isnan(share.loc[(3, 60, "Hyperband"), "task-aware Hyperband"])  # never as good
    # its own value, by the end at the latest
    assert (np.diag(share.loc[(2, 45)][list(methods(PLAN))]) <= 1).all()


def test_claims_come_with_intervals_and_tests_by_source(done, grid):
    folder, _ = done
    tests = pd.read_csv(folder / "task_aware_tests.csv")
    # six methods take a ranking, four do not; t0 and t1 are one source of four
    assert len(tests) == 3 * 6 * 4 and (tests[["higher", "equal", "lower"]].sum(axis=1) == 4).all()
    row = tests.set_index(["eta", "budget", "method", "against"]).loc[
        (3, 60, "task-aware Hyperband", "Hyperband")
    ]
    by_task = pd.read_csv(folder / "task_aware_tasks.csv")
    at = by_task[(by_task["eta"] == 3) & (by_task["budget"] == 60)]
    wide = at.pivot(index="task", columns="method", values="regret")
    gap = wide["task-aware Hyperband"] - wide["Hyperband"]
    four = [gap[["t0", "t1"]].mean(), *gap[["t2", "t3", "t4"]]]
    assert row["difference"] == pytest.approx(np.mean(four), abs=1e-4) and row["difference"] < 0
    assert row["low"] < row["difference"] < row["high"]
    assert row["from"] <= row["share"] <= row["to"] <= 1 and row["p"] <= row["p_holm"]


def test_what_is_done_is_not_done_again_and_a_changed_ranking_is(done, grid, rankings, monkeypatch):
    folder, summary = done
    ran = []
    real = task_aware.replayed

    def counted(grid_, task, past, chosen, *more):
        ran.append(chosen.name)
        return real(grid_, task, past, chosen, *more)

    monkeypatch.setattr(task_aware, "replayed", counted)
    assert evaluate(grid, rankings, PLAN, folder, say=lambda text: None).equals(summary) and not ran
    other = rankings.table.assign(
        score=np.where(rankings.table["recommender"] == "hyperstar", -1.0, 1.0)
        * rankings.table["score"]
    )
    worse = evaluate(
        grid, Rankings(other, grid, rankings.plan), PLAN, folder, say=lambda text: None
    )
    assert set(ran) == {"task-aware-hyperband"} and len(ran) == 4 * 2 * 2 * 5
    at = worse.set_index(["method", "budget"])["mean"]
    # a ranking turned round is worse than chance
    assert at["task-aware Hyperband", 20] > at["Hyperband", 20]


@pytest.mark.slow
def test_tables_stand_without_their_runs_until_the_code_is_another(
    grid, rankings, tmp_path, monkeypatch
):
    """In a fresh clone no runs are kept: tables stand by their note, and those that other code made
    do if the pairs that are made again are equal.
    """
    given = (grid, rankings, PLAN, tmp_path)
    summary = evaluate(*given, say=lambda text: None)
    shutil.rmtree(tmp_path / "runs")
    ran, real = [], task_aware.replayed
    monkeypatch.setattr(task_aware, "replayed", lambda *a: ran.append(a[3].name) or real(*a))
    said: list[str] = []
    assert evaluate(*given, say=said.append).equals(summary) and not ran
    own = task_aware.digest_of
    monkeypatch.setattr(
        task_aware,
        "digest_of",
        lambda *m, names, **k: own(*m, names=names, **k) + "x" * ("bohb" in names),
    )
    assert evaluate(*given, say=said.append, compare=2).equals(summary)
    assert set(ran) == {"bohb"}
    (line,) = [line for line in said if "equal" in line]
    assert re.fullmatch(r"BOHB: 2 of 10 pairs of task and eta, drawn by \d+: equal", line)
    monkeypatch.setattr(task_aware, "digest_of", lambda *m, names, **k: f"newer {names}")
    table = pd.read_csv(tmp_path / "task_aware_tasks.csv")
    table["regret"] += 0.5
    table.to_csv(tmp_path / "task_aware_tasks.csv", index=False)
    assert evaluate(*given, say=said.append, compare=1).equals(summary)  # all made again
    assert any(line.startswith("BOHB: 1 of 10") and "differs by up to 0.5" in line for line in said)


def test_a_run_counts_every_epoch_and_starts_from_nothing(grid):
    table = replayed(grid, "t0", ["t2"], searcher("random"), 18, 0, {})
    best = grid.best(["t0"])[0]
    assert table["spent"].tolist()[0] == 0 and table["normalized_regret"].tolist()[0] == 1.0
    assert (np.diff(table["spent"]) > 0).all() and (np.diff(table["normalized_regret"]) < 0).all()
    assert table["spent"].max() <= 18
    score = Score(grid, "t0")
    last = best_value(score, table["normalized_regret"].iloc[-1])
    assert np.isclose(grid.curves("t0"), last).any() and last <= np.nanmax(best)


def test_regret_between_falls_is_the_last_one(grid):
    runs = pd.DataFrame(
        {
            "task": ["a"] * 3 + ["a"] * 2,
            "seed": [0, 0, 0, 1, 1],
            "spent": [0, 2, 5, 0, 3],
            "normalized_regret": [1.0, 0.5, 0.1, 1.0, 0.3],
        }
    )
    assert by_epoch(runs, range(1, 7)).loc["a"].tolist() == [1.0, 0.75, 0.4, 0.4, 0.2, 0.2]
    assert (
        needed(np.array([1.0, 0.4, 0.4, 0.2]), 0.4) == 2
        and needed(np.array([1.0, 0.4]), 0.3) is None
    )


def test_rankings_are_read_by_stored_id_and_repetitions_take_trials_in_turn(grid, rankings):
    notes = rankings.notes("hyperstar", "t3", 0)
    mine = rankings.table.query("recommender == 'hyperstar' and task == 't3' and trial == 0")
    top = mine.loc[mine["score"].idxmax(), "config_id"]
    assert (
        grid.config_ids[notes.order[0]] == top
        and notes.scores[notes.order[0]] == mine["score"].max()
    )
    assert rankings.notes("hyperstar", "t3", 2) == notes != rankings.notes("hyperstar", "t3", 1)


def test_tr_automl_pays_for_its_trial_runs_first(rankings):
    first = rankings.notes("tr-automl", "t2", 1).order
    assert list(first[:10]) == probes(40, 10, 6).tolist() and sorted(first) == list(range(40))


def test_a_table_that_lacks_something_is_refused_in_words(grid, rankings, tmp_path):
    with pytest.raises(BadInput, match=r"rankings\.parquet is missing"):
        Rankings.read(tmp_path / "rankings.parquet", grid, rankings.plan)
    with pytest.raises(BadInput, match="no 'hyperstar' for task 'elsewhere'"):
        rankings.notes("hyperstar", "elsewhere", 0)
    fewer = Rankings(rankings.table[rankings.table["config_id"] < 100], grid, rankings.plan)
    with pytest.raises(BadInput, match="differ in 10 configurations"):
        fewer.notes("hyperstar", "t0", 0)


def test_methods_without_a_ranking_are_left_out_and_said(grid, rankings, tmp_path):
    said = []
    some = Rankings(
        rankings.table[rankings.table["recommender"] == "hyperstar"], grid, rankings.plan
    )
    plan = TaskAwarePlan(budgets=(10,), large_budgets=(10,), repetitions=1)
    summary = evaluate(grid, some, plan, tmp_path, say=said.append)
    assert "Tr-AutoML list" not in set(summary["method"]) and any(
        "tr-automl" in text for text in said
    )


def test_the_page_names_the_leaders_at_450_epochs_as_they_were_measured():
    root = Path(__file__).resolve().parents[3]
    measured = pd.read_csv(root / "data/reports/task_aware.csv")
    measured = measured[measured["budget"] == 450].set_index("method").sort_values("mean")
    page = " ".join((root / "docs/notes/siamese.md").read_text().split())
    found = re.search(
        r"the portfolio's full trainings lead \((.+?)\) and Tr-AutoML's follow \((.+?)\)", page
    )
    assert found is not None
    for name, said in zip(measured.index[:2], found.groups(), strict=True):
        row = measured.loc[name]
        assert said == f"{row['mean']:.4f} ± {row['se']:.4f}".replace("0.", ".")
    assert list(measured.index[:2]) == ["portfolio", "Tr-AutoML list"]
