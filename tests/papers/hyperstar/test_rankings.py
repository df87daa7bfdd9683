"""The ranking table on a small made-up meta-dataset: folds, resumption, files, figures that can be
recomputed.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from foretune.errors import BadInput
from foretune.history.average_precision import ap_at_k
from foretune.history.meta_dataset import MetaDataset
from foretune.params import RankingsPlan
from foretune.recommenders.described import probes
from foretune.tasks.task import Task
from papers.hyperstar import rankings
from papers.hyperstar.rankings import (
    ROUNDING,
    SHORT_ROUNDING,
    Fold,
    RankingTable,
    fill,
    folds,
    judged,
    main,
    order_of,
    short_fit,
    take_up,
    write,
)
from papers.hyperstar.rounding import learning_twice_as_fast, rounded_otherwise

Make = Callable[..., MetaDataset]
CHEAP = ("random", "task-agnostic", "nearest-metadata", "tr-automl")


def made(
    table: Make,
    tmp_path: Path,
    recommenders: tuple[str, ...] = CHEAP,
    trials: int = 4,
    **options: object,
) -> RankingTable:
    rng = np.random.default_rng(0)
    meta = table(rng.random((5, 14, 2)))
    meta.about["sources"] = {"t0": "one", "t1": "one", "t2": "two", "t3": "three", "t4": "four"}
    tasks = {
        name: Task(
            name,
            rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8),
            np.arange(12) % 2,
            ("a", "b"),
            np.zeros(12, np.uint8),
        )
        for name in meta.tasks
    }
    return RankingTable(
        meta, tasks, RankingsPlan(recommenders, trials, 2, 0), tmp_path / "work", **options
    )  # type: ignore[arg-type]


def test_tasks_of_one_source_are_held_out_together(table: Make, tmp_path: Path) -> None:
    meta = made(table, tmp_path).meta
    found = folds(meta)
    assert found[0] == Fold(("t0", "t1"), ("t2", "t3", "t4"))
    assert [fold.held_out for fold in found[1:]] == [("t2",), ("t3",), ("t4",)]
    assert folds(meta, "task")[0].past == ("t1", "t2", "t3", "t4")
    with pytest.raises(BadInput, match="leave='class' must be one of source, task"):
        folds(meta, "class")


def test_the_parquet_alone_gives_the_table(table: Make, tmp_path: Path) -> None:
    work = made(table, tmp_path)
    assert fill(work, say=lambda line: None)
    summary = write(work, tmp_path / "reports")
    scores = pd.read_parquet(tmp_path / "reports" / "rankings.parquet")
    assert list(scores) == ["recommender", "task", "trial", "config_id", "score"]
    assert len(scores) == 4 * 5 * 4 * 14
    assert sorted(set(scores["config_id"])) == [10 * i for i in range(14)]  # as stored, not places
    again = {}
    for (name, task, _trial), part in scores.groupby(["recommender", "task", "trial"]):
        best = work.meta.best([task])[0]
        again.setdefault((name, task), []).append(
            ap_at_k(part.sort_values("config_id")["score"].to_numpy(), best, 10)
        )
    by_task = pd.read_csv(tmp_path / "reports" / "rankings" / "tasks.csv").set_index(
        ["recommender", "task"]
    )
    for key, found in again.items():
        assert by_task.loc[key, "AP@10"] == pytest.approx(np.mean(found), abs=1e-4)
    column = by_task.loc["random"]["AP@10"]
    assert summary.loc["random", "AP@10"] == pytest.approx(column.mean(), abs=1e-3)
    assert summary.loc["random", "AP@10 se"] == pytest.approx(column.std() / np.sqrt(5), abs=1e-3)
    assert list(summary.index) == list(CHEAP)


def test_tests_are_by_source_and_against_both_lists(table: Make, tmp_path: Path) -> None:
    work = made(table, tmp_path, ("random", "task-agnostic", "raw-mean", "nearest-metadata"))
    fill(work, say=lambda line: None)
    write(work, tmp_path / "reports")
    folder = tmp_path / "reports" / "rankings"
    by_task = pd.read_csv(folder / "tasks.csv").pivot(
        index="task", columns="recommender", values="AP@10"
    )
    found = pd.read_csv(folder / "tests.csv").set_index(["baseline", "method"])
    assert len(found) == 6
    for name in ("task-agnostic", "raw-mean"):
        gap = by_task["random"] - by_task[name]
        four = [gap[["t0", "t1"]].mean(), gap["t2"], gap["t3"], gap["t4"]]  # t0 and t1: one source
        row = found.loc[(name, "random")]
        assert row["difference"] == pytest.approx(np.mean(four), abs=2e-4)
        assert row[["higher", "equal", "lower"]].sum() == 4
        assert row["p"] <= row["p_holm"]
    shares = pd.read_csv(folder / "evaluations.csv").set_index(["baseline", "given", "recommender"])
    assert len(shares) == 2 * 2 * 4  # two lists, given 5 and 10 of 14 configurations
    own = shares.loc[("task-agnostic", 10, "task-agnostic")]
    assert own["from"] <= own["share"] <= 1
    curve = pd.read_csv(folder / "figure5a.csv").set_index(["recommender", "k"])["regret"]
    assert curve["task-agnostic"].iloc[0] >= curve["task-agnostic"].iloc[9]


def test_scores_that_are_there_are_judged_without_images_or_fits(
    table: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads no images joins them; what does and is not there stays out."""
    work, reports = made(table, tmp_path), tmp_path / "reports"
    fill(work, say=lambda line: None)
    write(work, reports)
    folder = reports / "rankings"
    before = {name: (folder / name).read_bytes() for name in ("tasks.csv", "figure5a.csv")}
    scores = pd.read_parquet(reports / "rankings.parquet")
    wanted = replace(work.plan, recommenders=(*CHEAP, "raw-mean", "random-forest"))
    summary = rankings.judge(work.meta, wanted, reports, "source")
    assert list(summary.index) == [*CHEAP, "raw-mean"]
    after = pd.read_parquet(reports / "rankings.parquet")
    assert after[: len(scores)].equals(scores) and set(after["recommender"]) == set(summary.index)
    rankings.judge(work.meta, work.plan, reports, "source")
    assert {name: (folder / name).read_bytes() for name in before} == before
    with pytest.raises(BadInput, match="rankings.parquet is missing"):
        rankings.judge(work.meta, work.plan, reports, "task")


def test_a_held_out_task_is_never_seen(table: Make, tmp_path: Path) -> None:
    """Poison: other values of the held-out source change no score of its own fold (Tr-AutoML's
    trial runs aside).
    """
    first = made(table, tmp_path / "a", ("task-agnostic", "nearest-metadata"))
    second = made(table, tmp_path / "b", ("task-agnostic", "nearest-metadata"))
    rows = second.meta.table
    rows.loc[rows["task"].isin(["t0", "t1"]), "score"] = 7.0
    second.meta = MetaDataset.build(
        second.meta.space, dict(zip(second.meta.config_ids, second.meta.configs, strict=True)), rows, metric="score",
        goal="maximize", max_epoch=2, tasks=second.meta.tasks, sources=first.meta.about["sources"],
    )  # fmt: skip
    for one in (first, second):
        fill(one, say=lambda line: None)
    a, b = first.collect(), second.collect()
    for name in a:
        for task in ("t0", "t1"):
            assert np.array_equal(a[name][task], b[name][task])
        assert not np.array_equal(a[name]["t2"], b[name]["t2"])


def test_a_run_cut_short_goes_on_and_gives_the_same(table: Make, tmp_path: Path) -> None:
    whole, cut = made(table, tmp_path / "a"), made(table, tmp_path / "b")
    fill(whole, say=lambda line: None)
    assert not fill(cut, minutes=0.0, say=lambda line: None)
    with pytest.raises(BadInput, match="no recommender is complete yet"):
        write(cut, tmp_path)
    cut.run("random", cut.folds[1])
    stamp = cut.part("random", cut.folds[1]).stat().st_mtime_ns
    assert fill(cut, say=lambda line: None)
    assert cut.part("random", cut.folds[1]).stat().st_mtime_ns == stamp
    for name, by_task in whole.collect().items():
        for task, scores in by_task.items():
            assert np.array_equal(scores, cut.collect()[name][task])


def test_a_fresh_clone_goes_on_from_the_tables(
    table: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the cache, scores that are still valid are taken from the tables; those that other
    code made are not, unless the folds that are made again are equal.
    """
    quiet = {"say": lambda line: None}
    reports = tmp_path / "reports"
    fill(first := made(table, tmp_path / "a"), **quiet)
    write(first, reports)
    again = made(table, tmp_path / "b")
    assert not any(take_up(again, reports).values())  # nothing was compared, nothing fitted
    parts = [again.part(name, fold) for name in CHEAP for fold in again.folds]
    assert all(path.is_file() for path in parts)
    before = {path: path.read_bytes() for path in sorted(reports.rglob("*")) if path.is_file()}
    write(again, reports)
    assert {path: path.read_bytes() for path in before} == before

    own = rankings.digest_of
    monkeypatch.setattr(
        rankings,
        "digest_of",
        lambda *m, names, **k: own(*m, names=names, **k) + "x" * ("random" in names),
    )
    take_up(other := made(table, tmp_path / "c"), reports)
    assert not any(other.part("random", fold).is_file() for fold in other.folds)
    assert all(other.part("tr-automl", fold).is_file() for fold in other.folds)
    said = take_up(other, reports, compare=2, **quiet)
    assert re.fullmatch(r"2 of 4 folds, drawn by \d+: equal", said["random"]["compared"])
    assert all(other.part("random", fold).is_file() for fold in other.folds)
    write(other, reports, said)
    assert take_up(made(table, tmp_path / "d"), reports) == said  # and it stays noted

    scores = pd.read_parquet(reports / "rankings.parquet")
    scores.loc[scores["recommender"] == "random", "score"] += 1
    scores.to_parquet(reports / "rankings.parquet")
    monkeypatch.setattr(rankings, "digest_of", lambda *m, names, **k: f"newer {names}")
    said = take_up(last := made(table, tmp_path / "e"), reports, compare=1, **quiet)
    assert {name for name in said if "compared" in said[name]} == set(CHEAP) - {"random"}
    assert not all(last.part("random", fold).is_file() for fold in last.folds)


def test_a_short_fit_tells_a_doubled_learning_rate_from_rounding(
    table: Make, tmp_path: Path
) -> None:
    """Random curves and pictures: features that hardly differ, so that less noise does as much."""
    work = made(table, tmp_path)
    kept = short_fit(work, "metadata-network")
    with rounded_otherwise(0, relative=2e-8):
        rounded = np.abs(short_fit(work, "metadata-network") - kept).max()
    assert 0 < rounded < SHORT_ROUNDING
    with learning_twice_as_fast():
        assert np.abs(short_fit(work, "metadata-network") - kept).max() > SHORT_ROUNDING
    assert np.array_equal(short_fit(work, "metadata-network"), kept)


@pytest.mark.parametrize(
    ("scores_by", "short_by", "stands"),
    [(0.0, 0.0, True), (0.5, 0.5, True), (0.5, 1.5, False), (0.0, 1.5, False), (1.5, 0.5, False)],
)
def test_scores_stand_where_rounding_explains_both_them_and_the_short_fit(
    table: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    scores_by: float, short_by: float, stands: bool,
) -> None:  # fmt: skip
    """Made again, scores and short fit differ by so much of what rounding explains, one up and the
    next down; the short fit that stays noted is that of the machine that made the scores.
    """
    names, reports, said = ("metadata-network",), tmp_path / "reports", []
    shift = {"scores": 0.0, "short": 0.0}

    def fake(work: RankingTable, name: str, fold: Fold, options: object) -> tuple[dict, dict]:
        rng = np.random.default_rng(work.meta.tasks.index(fold.held_out[0]))
        up_or_down = np.where(np.arange(14) % 2, 1, -1) * shift["scores"]
        rows = {task: rng.normal(size=(4, 14)) + up_or_down for task in fold.held_out}
        return rows, {"steps": 80, "strength": 0.5}

    monkeypatch.setattr(rankings, "ranked", fake)
    monkeypatch.setattr(rankings, "short_fit", lambda *a: np.float32(np.ones(14) + shift["short"]))
    fill(first := made(table, tmp_path / "a", names), say=said.append)
    write(first, reports)
    monkeypatch.setattr(rankings, "digest_of", lambda *m, names, **k: f"newer {names}")
    monkeypatch.setattr(rankings, "ap_at_k", lambda scores, truth, k: 0.5)
    shift |= {"scores": scores_by * ROUNDING, "short": short_by * SHORT_ROUNDING}
    stays = take_up(other := made(table, tmp_path / "b", names), reports, 3, said.append)
    assert set(stays) == set(names if stands else ())
    if stands:
        write(other, reports, stays)
        about = json.loads((reports / "rankings" / "about.json").read_text())
        note = about["runs"]["metadata-network"]
        assert note["short"] == [1.0] * 14 and len(note["chosen"]) == 4
        assert ("within rounding" in note["compared"]) == (scores_by > 0)
    else:
        assert said[-1] == "metadata-network: all folds are made again"


def test_trials_differ_where_there_is_chance_and_only_there(table: Make, tmp_path: Path) -> None:
    work = made(table, tmp_path)
    fill(work, say=lambda line: None)
    found = work.collect()
    assert len(np.unique(found["random"]["t2"], axis=0)) == 4
    assert len(np.unique(found["task-agnostic"]["t2"], axis=0)) == 1
    # two trainings: two sets of trial runs
    assert len(np.unique(found["tr-automl"]["t2"], axis=0)) <= 2


def test_trial_runs_come_first_in_the_curve(table: Make, tmp_path: Path) -> None:
    scores = np.arange(14.0)
    order = order_of("tr-automl", scores, 3)
    assert order[:10].tolist() == probes(14, 10, 3).tolist()
    assert sorted(order) == list(range(14))
    assert order_of("random", scores, 3).tolist() == list(range(13, -1, -1))
    work = made(table, tmp_path, ("task-agnostic",))
    fill(work, say=lambda line: None)
    curves = judged(work, work.collect())[1].set_index(["task", "k"])["regret"]
    assert curves.loc["t0"].is_monotonic_decreasing and curves.loc[("t0", 14)] == 0.0


def test_the_command(table: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = made(table, tmp_path)
    work.meta.save(tmp_path / "meta")
    for task in work.tasks.values():
        task.save(tmp_path / "images" / f"{task.name}.npz")
    section = {"recommenders": ["random", "mean-rank"], "trials": 2, "trainings": 1, "seed": 0}
    params = {"meta_dataset": {"folder": str(tmp_path / "meta")}, "rankings": section}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    arguments = [f"--{name}={tmp_path / path}" for name, path in
                 [("params", "params.yaml"), ("reports", "out"), ("images", "images"), ("work", "w")]]  # fmt: skip
    assert main(arguments) == 0
    assert "AP@10" in capsys.readouterr().out
    for folder in (tmp_path / "out", tmp_path / "out" / "leave_one_task_out"):
        assert (folder / "rankings.parquet").is_file() and (
            folder / "rankings" / "figure5a.csv"
        ).is_file()
    both = [
        pd.read_csv(f / "rankings" / "tasks.csv")
        for f in (tmp_path / "out", tmp_path / "out" / "leave_one_task_out")
    ]
    # t0 and t1 are of one source: alone, they are each other's past
    assert not both[0].equals(both[1])
    assert main([*arguments, "--leave=city"]) == 2
