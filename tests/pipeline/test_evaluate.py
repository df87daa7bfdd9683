"""Leave-one-task-out on the project's own meta-dataset."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foretune.evaluation.replay import Score
from foretune.history.grid import past_of
from foretune.history.meta_dataset import MetaDataset
from foretune.params import Evaluate
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


def test_fingerprint_follows_curves_and_plan(small: MetaDataset) -> None:
    plan = Evaluate(trainings=2)
    assert fingerprint(small, plan) == fingerprint(with_about(small, notes="x"), plan)
    assert fingerprint(small, plan) != fingerprint(without(small, {("t1", 50)}), plan)
    assert fingerprint(small, plan) != fingerprint(small, Evaluate(trainings=3))


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

    steps = tmp_path / "traces" / "light" / "random.parquet"
    before = steps.stat().st_mtime_ns
    evaluate(small, plan, tmp_path, say=lambda line: None)
    assert steps.stat().st_mtime_ns == before  # nothing is repeated
    evaluate(without(small, {("t1", 50)}), plan, tmp_path, say=lambda line: None)
    assert steps.stat().st_mtime_ns != before  # other curves: all is replayed
    assert 50 not in set(pd.read_parquet(steps)["config_id"])


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "params.yaml").write_text(f"meta_dataset: {{folder: {tmp_path}/nothing}}\n")
    assert main(["--params", str(tmp_path / "params.yaml")]) == 2
    assert capsys.readouterr().err.startswith("error: there is no meta-dataset folder")
