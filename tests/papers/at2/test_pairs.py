"""The paper's pairs: accounts by epoch, the ranking, the tables, and that nothing is run twice."""

import numpy as np
import pandas as pd
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from papers.at2.pairs import by_iteration, forecasts, main, pairs, paper_pairs, smoothed, summary


@pytest.fixture(scope="module")
def meta():
    return paired(synthetic_meta(tasks=4, configs=12, epochs=6))


def paired(meta: MetaDataset) -> MetaDataset:
    """With two pairs named."""
    about = {
        **meta.about,
        "paper_pairs": [{"test": t, "train": ["t2", "t3"]} for t in ("t0", "t1")],
    }
    configs = dict(zip(meta.config_ids, meta.configs, strict=True))
    return MetaDataset.build(meta.space, configs, meta.table, **about)


def test_regret_counts_every_epoch_of_a_long_step_and_ranks_hold_until_the_next(meta):
    curves = meta.curves("t0")
    steps = pd.DataFrame(
        {
            "task": "t0",
            "step": [1, 2, 3],
            "config_id": [3, 5, 3],
            "epoch": [2, 3, 4],
            "recommended_rank": [7.0, 2.0, 0.0],
        }
    )
    table = by_iteration(steps, meta, iterations=6)
    seen = [curves[3, 0], curves[3, 1], curves[5, 0], curves[5, 1], curves[5, 2], curves[3, 2]]
    assert table["regret"].to_numpy() == pytest.approx(np.nanmax(curves) - np.fmax.accumulate(seen))
    assert table["rank"].tolist() == [7, 7, 7, 7, 2, 2]


def test_mean_and_error_over_pairs():
    runs = pd.DataFrame(
        {
            "database": "d",
            "method": "m",
            "task": ["a", "b"],
            "iteration": 1,
            "regret": [0.1, 0.3],
            "rank": [4.0, 8.0],
        }
    )
    row = summary(runs).iloc[0]
    assert row["regret"] == pytest.approx(0.2) and row["regret_se"] == pytest.approx(0.1)
    assert row["rank"] == 6 and row["rank_se"] == 2


def test_smoothing_keeps_a_constant_and_the_length():
    assert smoothed(np.full(30, 4.0)) == pytest.approx(np.full(30, 4.0))
    assert len(smoothed(np.arange(30.0))) == 30


def test_tables_are_written_once_and_for_all(meta, tmp_path):
    folder = tmp_path / "meta"
    meta.save(folder)
    table = pairs([folder], ["portfolio"], tmp_path / "out")
    assert set(table["method"]) == {"portfolio"}
    trace = tmp_path / "out/traces" / meta.name / "portfolio.parquet"
    before = trace.stat().st_mtime_ns
    assert main([str(folder), "--methods", "portfolio", "--out", str(tmp_path / "out")]) == 0
    assert trace.stat().st_mtime_ns == before
    forecast = pd.read_csv(tmp_path / "out/forecast.csv")
    assert (
        set(forecast["iteration"]) == {1, 10, 25, 50} and (forecast["std"] > 0).all()
    )  # 12 x 6 cells: over before 100


def test_forecasts_come_closer_with_observations(meta):
    table = forecasts(meta, iterations=(1, 60), configs=12)
    error = (table["mean"] - table["observed"]).abs().groupby(table["iteration"]).mean()
    assert error[60] < 0.7 * error[1]


def test_a_table_without_pairs_is_refused(tmp_path, capsys):
    plain = synthetic_meta(tasks=2, configs=4, epochs=2)
    with pytest.raises(BadInput, match="paper_pairs"):
        paper_pairs(plain)
    plain.save(tmp_path)
    assert main([str(tmp_path)]) == 2 and "paper_pairs" in capsys.readouterr().err
