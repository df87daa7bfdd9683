"""Figure 2 (b): near landscapes that share their best configurations, by construction or not."""

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from papers.at2.landscapes import compared, contrast, main, matrices, pairs


def test_distance_is_blind_to_level_and_the_best_are_counted(table):
    rng = np.random.default_rng(0)
    values = rng.random((3, 12, 4))
    values[1] = values[0] + 0.3  # the same landscape, higher
    meta = table(values)
    distance, shared = matrices(meta)
    assert distance[0, 1] == pytest.approx(0, abs=1e-6) and shared[0, 1] == 5
    a, b = (v - v.mean() for v in (values[0], values[2]))
    assert distance[0, 2] == pytest.approx(np.sqrt(((a - b) ** 2).mean()), rel=1e-5)


def test_the_nearest_and_farthest_tenth():
    distance = np.arange(20.0)
    shared = np.where(distance < 2, 4, np.where(distance >= 18, 1, 2))
    assert contrast(distance, shared) == (4, 1)


def test_two_kinds_of_tasks_are_told_from_chance_and_noise_is_not(table):
    rng = np.random.default_rng(1)
    kinds = rng.random((2, 30, 3))
    of_kind = kinds[np.arange(12) % 2] + 0.05 * rng.random((12, 30, 3))
    meta = table(of_kind)
    found = compared(meta, pairs(meta))
    assert found["p"] < 0.01 and found["low"] > 0 and found["rank_correlation"] < -0.3
    meta = table(rng.random((12, 30, 3)))
    assert compared(meta, pairs(meta))["p"] > 0.05


def test_sisters_are_no_pair_and_the_command_writes_both_tables(table, tmp_path, capsys):
    meta = table(np.random.default_rng(2).random((6, 12, 3)))
    meta.about["sources"] = {"t0": "s", "t1": "s"}
    assert len(pairs(meta)) == 14
    meta.save(tmp_path / "meta")
    assert main([str(tmp_path / "meta"), f"--out={tmp_path}"]) == 0
    assert len(pd.read_csv(tmp_path / "landscapes.csv")) in (14, 15)
    assert pd.read_csv(tmp_path / "figure2.csv")["pairs"][0] in (14, 15)
    with pytest.raises(BadInput, match="not ten"):
        pairs(table(np.random.default_rng(3).random((3, 12, 3))))
