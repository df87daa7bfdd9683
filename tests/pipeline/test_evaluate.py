"""Leave-one-task-out on the project's own meta-dataset."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foretune.evaluation.replay import Score
from foretune.history.grid import past_of
from foretune.history.meta_dataset import MetaDataset
from foretune.params import Evaluate
from foretune.pipeline import evaluate as stage
from foretune.pipeline.evaluate import evaluate, fingerprint, main


def with_about(meta: MetaDataset, **about: object) -> MetaDataset:
    return MetaDataset(
        meta.space, meta.config_ids, meta.configs, meta.rows, {**meta.about, **about}
    )


@pytest.fixture
def small(table: Callable[..., MetaDataset]) -> MetaDataset:
    """Four tasks x 6 configurations x 3 epochs with clear differences; t0 and t1 of one source."""
    values = np.random.default_rng(0).uniform(0.2, 0.9, (4, 6, 1)) * np.array([0.6, 0.8, 1.0])
    return with_about(table(values), sources={"t0": "s", "t1": "s", "t2": "u"}, name="light")


def without(meta: MetaDataset, cells: set[tuple[str, int]]) -> MetaDataset:
    """`meta` without the last epoch of some cells."""
    frame = meta.table
    gone = [
        (t, c) in cells and e == meta.max_epoch
        for t, c, e in zip(frame["task"], frame["config_id"], frame["epoch"], strict=True)
    ]
    return MetaDataset.build(
        meta.space,
        dict(zip(meta.config_ids, meta.configs, strict=True)),
        frame[~np.array(gone)],
        **meta.about | {"tasks": meta.tasks, "max_epoch": 3},
    )


def test_fingerprint_follows_curves_budget_and_the_methods_own_code(
    small: MetaDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Evaluate(trainings=2)
    before = fingerprint(small, plan, "sha")
    assert before == fingerprint(with_about(small, notes="x"), plan, "sha")
    assert before == fingerprint(small, Evaluate(trainings=2, seeds=3, workers=9), "sha")
    others = [
        fingerprint(without(small, {("t1", 50)}), plan, "sha"),
        fingerprint(with_about(small, sources={"t0": "s"}), plan, "sha"),
        fingerprint(small, Evaluate(trainings=3), "sha"),
        fingerprint(small, plan, "random"),
    ]
    monkeypatch.setattr(stage, "digest_of", lambda *modules, names: f"other code of {names}")
    assert len({before, *others, fingerprint(small, plan, "sha")}) == 6


@pytest.mark.slow
def test_the_tables(small: MetaDataset, tmp_path: Path) -> None:
    plan = Evaluate(methods=("random", "portfolio"), trainings=2, seeds=2, workers=1)
    summary = evaluate(small, plan, tmp_path, say=lambda line: None)
    assert list(summary.index) == ["random", "portfolio"]
    assert list(summary.columns) == ["1", "2", "1 se", "2 se"]
    written = pd.read_csv(tmp_path / "light" / "summary.csv", index_col="method")
    pd.testing.assert_frame_equal(written, summary)
    tasks = pd.read_csv(tmp_path / "light" / "tasks.csv", index_col=["method", "task"])
    np.testing.assert_allclose(
        tasks.groupby("method").mean().loc["random"], summary.loc["random", ["1", "2"]], atol=1e-4
    )
    # the portfolio's first training on t2 is the configuration that is best on average (normalized)
    # for the past of t2
    past = small.select(past_of(small)["t2"])
    best = past.best()
    normalized = (best.max(1, keepdims=True) - best) / (best.max(1) - best.min(1))[:, None]
    first = int(np.argmin(normalized.mean(0)))
    score = Score(small, "t2")
    expected = score.normalized(score.best - small.best(["t2"])[0][first])
    assert tasks.loc[("portfolio", "t2"), "1"] == pytest.approx(expected, abs=1e-4)


TRACES = Path("traces") / "light"


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


@pytest.mark.slow
def test_nothing_valid_is_repeated_and_nothing_is_deleted(
    small: MetaDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that are there stay as they are, to their seconds; other code of one method makes that
    method's runs again, and an interrupted run leaves all files alone and goes on.
    """
    plan = Evaluate(methods=("random", "sha"), trainings=1, seeds=1, workers=1)
    quiet = {"say": lambda line: None}
    evaluate(small, plan, tmp_path, work=tmp_path / "w0", **quiet)
    first = files(tmp_path / TRACES)
    evaluate(small, plan, tmp_path, work=tmp_path / "w1", **quiet)  # as in a fresh clone
    assert files(tmp_path / TRACES) == first

    own = stage.digest_of
    monkeypatch.setattr(
        stage,
        "digest_of",
        lambda *modules, names: own(*modules, names=names) + "x" * ("sha" in names),
    )
    real, made = stage.run_all, []

    def interrupted(folder, out, methods, **options):
        made.append({p.name for p in Path(out).glob("*.parquet")})
        real(folder, out, methods, **options | {"tasks": ["t0", "t1"]})
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "run_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(small, plan, tmp_path, work=tmp_path / "w1", **quiet)
    assert made == [{"random.parquet"}]  # what is valid was taken up, the rest not
    assert files(tmp_path / TRACES) == first
    begun = pd.read_parquet(tmp_path / "w1" / "light" / "sha.parquet")
    monkeypatch.setattr(stage, "run_all", real)
    evaluate(small, plan, tmp_path, work=tmp_path / "w1", **quiet)
    after = files(tmp_path / TRACES)
    assert after["random.parquet"] == first["random.parquet"]
    done = pd.read_parquet(tmp_path / TRACES / "sha.parquet")
    pd.testing.assert_frame_equal(  # to the second: what was done was not done again
        done[done["task"].isin(["t0", "t1"])].reset_index(drop=True), begun
    )


@pytest.mark.slow
def test_other_curves_are_replayed(small: MetaDataset, tmp_path: Path) -> None:
    plan = Evaluate(methods=("random",), trainings=1, seeds=1, workers=1)
    evaluate(small, plan, tmp_path, say=lambda line: None)
    evaluate(without(small, {("t1", 50)}), plan, tmp_path, say=lambda line: None)
    assert 50 not in set(pd.read_parquet(tmp_path / TRACES / "random.parquet")["config_id"])


@pytest.mark.slow
def test_kept_runs_stand_for_new_code_only_where_those_compared_are_equal(
    small: MetaDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Evaluate(methods=("random", "portfolio"), trainings=1, seeds=1, workers=1)
    evaluate(small, plan, tmp_path, say=lambda line: None)
    wrong = tmp_path / TRACES / "portfolio.parquet"
    table = pd.read_parquet(wrong)
    table.loc[table["task"] == "t3", "value"] += 0.25
    table.to_parquet(wrong)
    first, said = files(tmp_path / TRACES), []
    own = stage.digest_of
    monkeypatch.setattr(stage, "digest_of", lambda *m, names: own(*m, names=names) + "x")
    evaluate(small, plan, tmp_path, said.append, work=tmp_path / "w1", compare=9)
    after = files(tmp_path / TRACES)
    assert after["random.parquet"] == first["random.parquet"]
    assert after["portfolio.parquet"] != first["portfolio.parquet"]
    notes = json.loads(after["about.json"])["runs"]
    assert "compared" not in notes["portfolio"]
    assert re.fullmatch(r"4 of 4 runs, drawn by \d+: equal", notes["random"]["compared"])
    assert any("t3, seed 0 differs by up to 0.25" in line for line in said)
    assert "portfolio: all runs are made again" in said


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "params.yaml").write_text(f"meta_dataset: {{folder: {tmp_path}/nothing}}\n")
    assert main(["--params", str(tmp_path / "params.yaml")]) == 2
    assert capsys.readouterr().err.startswith("error: there is no meta-dataset folder")
