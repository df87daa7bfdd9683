"""The published filter of TaskSet's configurations."""

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from papers.dyhpo.filtered import filtered, kept, main


def test_it_is_the_authors_rule():
    """Against their lines, on losses with holes and tails."""
    rng = np.random.default_rng(0)
    losses = rng.lognormal(0, 2, (200, 7)) * np.linspace(2, 1, 7)
    losses[rng.random(200) < 0.1, 3:] = np.nan
    frame = pd.DataFrame(losses)
    theirs = frame.notnull().all(axis=1) & (frame < frame.quantile(0.95).min()).all(axis=1)
    assert kept(losses).tolist() == theirs.tolist() and 50 < kept(losses).sum() < 195


def test_a_task_keeps_its_own_configurations(table):
    values = np.ones((2, 40, 3)) - np.linspace(0, 0.5, 40)[None, :, None]
    values[0, 7] = 1e9  # diverged on one task alone
    meta = table(values, goal="minimize")
    first, second = (filtered(meta, task) for task in meta.tasks)
    assert first.tasks == ["t0"] and meta.config_ids[7] not in first.config_ids
    assert meta.config_ids[7] in second.config_ids
    row = first.config_ids.index(meta.config_ids[9])
    assert np.array_equal(first.curves("t0")[row], meta.curves("t0")[9])
    with pytest.raises(BadInput, match="one of losses"):
        filtered(table(values), "t0")


@pytest.mark.slow
def test_the_command(table, tmp_path, capsys):
    rng = np.random.default_rng(0)
    table(rng.random((5, 30, 6)), goal="minimize").save(tmp_path / "meta")
    arguments = [
        str(tmp_path / "meta"), f"--traces={tmp_path / 'traces'}", f"--out={tmp_path / 'out'}",
        "--methods=random,hyperband,dyhpo:predictive", "--budget=51", "--repetitions=1", "--run",
    ]  # fmt: skip
    assert main(arguments) == 0 and "dyhpo:predictive" in capsys.readouterr().out
    tests = pd.read_csv(tmp_path / "out" / "taskset-filtered-tests.csv")
    assert set(tests["baseline"]) == {"random", "hyperband"} and (tests["p"] <= 1).all()
    by_task = pd.read_csv(tmp_path / "out" / "taskset-filtered-tasks.csv")
    assert len(by_task) == 5 and (by_task["kept"] < by_task["all"]).all()
    table(rng.random((4, 30, 6)), goal="minimize").save(tmp_path / "fewer")  # than were run
    assert main([str(tmp_path / "fewer"), *arguments[1:-1]]) == 0
    assert len(pd.read_csv(tmp_path / "out" / "taskset-filtered-tasks.csv")) == 4
