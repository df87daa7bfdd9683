"""Z helps a forecast where it tells something, and does not where it is noise."""

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.running.collection import METRIC, RANK
from papers.autohyper import rank_forecast as rf
from papers.autohyper.runs import LONG, LONG_EPOCHS, LONG_NETWORKS, LONG_RATES, RunKey, Runs


@pytest.fixture
def runs(tmp_path):
    """Curves whose second half rises by what Z_1 .. Z_5 says, and by nothing else that is to be
    seen; one diverges.
    """
    rng = np.random.default_rng(0)
    runs = Runs(tmp_path / "runs.jsonl")
    made = {}
    for task in "abc":
        for network in LONG_NETWORKS:
            for optimizer in LONG:
                for rate in LONG_RATES:
                    z, start = rng.uniform(0, 1), rng.uniform(0.2, 0.5)
                    valid = [
                        start + 0.4 * z * max(0, e - 5) / (LONG_EPOCHS - 5)
                        for e in range(1, LONG_EPOCHS + 1)
                    ]
                    losses = rng.uniform(1, 2, LONG_EPOCHS).tolist()
                    made[RunKey("long", task, network, optimizer, rate=rate)] = {
                        "z": z,
                        "curve": [z] * LONG_EPOCHS,
                        "losses": losses,
                        "valid": valid,
                    }
    lost = RunKey("long", "a", "plain", "adam", rate=LONG_RATES[-1])
    made[lost] = {**made[lost], "losses": [1.0, float("nan"), *[float("nan")] * (LONG_EPOCHS - 2)]}
    runs.add(made)
    return runs


def test_the_meta_dataset_holds_z_beside_the_curves(runs, tmp_path):
    rf.gather(runs).save(tmp_path / "spectral")
    meta = MetaDataset.load(tmp_path / "spectral")
    assert meta.tasks == ["a", "b", "c"] and len(meta.configs) == len(LONG_NETWORKS) * len(
        LONG
    ) * len(LONG_RATES)
    config_id = meta.configs.index(
        {"network": "plain", "optimizer": "adam", "learning_rate": LONG_RATES[-1]}
    )
    lost = meta.table[(meta.table["task"] == "a") & (meta.table["config_id"] == config_id)]
    assert lost["epoch"].tolist() == [1, 2] and lost[METRIC].isna().tolist() == [False, True]
    run = runs.get(RunKey("long", "b", "residual", "adas", rate=LONG_RATES[0]))
    config_id = meta.configs.index(
        {"network": "residual", "optimizer": "adas", "learning_rate": LONG_RATES[0]}
    )
    rows = meta.table[(meta.table["task"] == "b") & (meta.table["config_id"] == config_id)]
    assert rows[METRIC].tolist() == pytest.approx(run["valid"]) and rows[
        RANK
    ].tolist() == pytest.approx(run["curve"])
    _, facts = rf.features(meta, 2, ())
    assert len(facts) == 3 * len(meta.configs) - 1  # the one that diverged has no end


@pytest.mark.parametrize("forecaster", rf.FORECASTERS)
def test_z_helps_where_it_tells_something(runs, forecaster):
    meta = rf.gather(runs)
    mean = {
        name: pd.DataFrame(rf.forecast(meta, 2, more, forecaster)).mean(numeric_only=True)
        for name, more in rf.FEATURES.items()
    }
    assert mean["curve"]["rmse"] > 0.08 and mean["curve + loss"]["rmse"] > 0.08
    assert mean["curve + Z"]["rmse"] < 0.03 and mean["curve + loss + Z"]["rmse"] < 0.05
    assert mean["curve + Z"]["correlation"] > 0.97 > mean["curve"]["correlation"]
    assert mean["curve + Z"]["regret"] < 0.03


def test_scores_are_of_the_held_out_task(runs):
    """The truth of a task must not reach its own forecast."""
    meta = rf.gather(runs)
    before = rf.forecast(meta, 3, (), "ridge")
    table = meta.table.copy()
    last = (table["task"] == "b") & (table["epoch"] == LONG_EPOCHS)
    table.loc[last, METRIC] = table.loc[last, METRIC] + 0.1
    about = {k: v for k, v in meta.about.items() if k not in ("metric", "goal")}
    moved = MetaDataset.build(
        meta.space, dict(enumerate(meta.configs)), table, metric=METRIC, goal="maximize", **about
    )
    after = rf.forecast(moved, 3, (), "ridge")
    assert after[1]["correlation"] == pytest.approx(
        before[1]["correlation"]
    )  # all its ends moved alike, its forecasts not at all
    assert after[1]["rmse"] > before[1]["rmse"] and after[0]["rmse"] != before[0]["rmse"]


def test_summary_says_what_z_changes(runs, monkeypatch):
    monkeypatch.setattr(rf, "SEEN", (2,))
    monkeypatch.setattr(rf, "FORECASTERS", ("ridge",))
    (row,) = rf.summarise(rf.compare(rf.gather(runs)))
    change = row["rmse: Z changes curve by"]
    assert change == pytest.approx(row["rmse: curve + Z"] - row["rmse: curve"]) and change < -0.05
    assert 0 < row["rmse: Z changes curve by, se"] < 0.02


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(BadInput, match="no long runs"):
        rf.gather(Runs(tmp_path / "runs.jsonl"))
