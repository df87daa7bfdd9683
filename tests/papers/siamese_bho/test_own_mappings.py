"""Siamese-BHO on sub-tasks with mappings of their own: distances, controls, resumption."""

import json

import numpy as np
import pandas as pd
import pytest

from foretune.recommenders.siamese.recommender import mapping_distance
from foretune.recommenders.siamese.subtasks import Gallery
from papers.light2.gate import Table
from papers.siamese_bho.own_mappings import (
    controls,
    experiment,
    figures,
    judged,
    mappings,
    regrets,
    standardised,
    whole,
)

SIZES = np.array([100, 1000] * 3)


@pytest.fixture
def table():
    """Three sources of a small and a large sub-task; size decides the mapping, not the source."""
    rng = np.random.default_rng(0)
    small, large = rng.random(8), rng.random(8)
    values = np.stack([small, large] * 3) + 0.01 * rng.random((6, 8))
    sources = np.repeat(["a", "b", "c"], 2)
    tasks = tuple(f"{s}_{n}" for s, n in zip(sources, SIZES, strict=True))
    return Table(tasks, sources, values, np.full_like(values, np.nan), np.full(6, 500))


@pytest.fixture
def galleries(table):
    """Small sub-tasks are dark, large ones bright."""
    rng = np.random.default_rng(1)
    return [
        Gallery(
            task,
            (rng.integers(0, 60, (20, 32, 32, 3)) + 150 * (n > 500)).astype(np.uint8),
            np.tile([0, 1], 10),
        )
        for task, n in zip(table.tasks, SIZES, strict=True)
    ]


def test_inherited_mappings_are_equal_within_a_source_and_own_ones_are_not(table):
    own, inherited = (mappings(table.values, table.sources, kind) for kind in ("own", "inherited"))
    assert mapping_distance(inherited)[0, 1] == 0 < mapping_distance(own)[0, 1]
    assert inherited[0] == pytest.approx(standardised(table.values)[:2].mean(axis=0))
    assert own.mean(axis=1) == pytest.approx(np.zeros(6)) and own.std(axis=1) == pytest.approx(1)


def test_figures_of_a_known_answer():
    true, past = np.array([1.0, 2.0, 3.0, 6.0]), np.eye(4, 5)
    own = np.array([0.9, 0.1, 1.0, 0.2, 0.0])
    found = figures(np.array([1, 2, 3, 4.0]), true, past, own)
    assert found["rank_correlation"] == pytest.approx(1)
    assert found["neighbours"] == pytest.approx(2 / 3)
    assert found["regret@1"] == pytest.approx(0.1) and found["regret@3"] == 0
    assert figures(np.ones(4), true, past, own)["rank_correlation"] == 0  # nothing told apart
    assert regrets(np.array([3]), np.full(5, 0.5)) == {"regret@1": 0, "regret@3": 0}


def test_controls_know_what_they_may(table):
    d = mapping_distance(standardised(table.values))
    found = controls(table, SIZES, 0, d[0, 2:])
    assert found["size"]["neighbours"] < 1 and found["size"]["regret@1"] < 0.05
    assert found["chance"]["neighbours"] == 1
    assert np.isnan(found["portfolio"]["rank_correlation"])


def test_a_sub_task_is_not_cut_again(galleries):
    part = whole(galleries[0])
    assert part.classes == (0, 1) and len(part.rows) == 20


def test_nothing_is_trained_twice_and_the_tables_stand(table, galleries, tmp_path):
    tmp_path = tmp_path / "out"  # not there yet
    found = experiment(table, SIZES, galleries, tmp_path, networks=1, iterations=30)
    assert set(found.index) == {"size", "chance", "portfolio", "own", "inherited"}
    # brightness tells sizes apart, and own mappings are what it can be learned from
    assert found.loc["own", "neighbours"] < 0.9
    lines = (tmp_path / "runs.jsonl").read_text()
    assert lines.count("\n") == 6
    assert set(json.loads(lines.splitlines()[0])["distances"]) == {"a_100", "a_1000"}
    again = experiment(table, SIZES, galleries, tmp_path, networks=1, iterations=30)
    assert (tmp_path / "runs.jsonl").read_text() == lines
    pd.testing.assert_frame_equal(found, again)
    tests = pd.read_csv(tmp_path / "tests.csv")
    assert set(tests["baseline"]) == {"inherited", "chance", "portfolio"}


def test_a_rule_that_lacks_a_source_is_left_out(table):
    said = {"a_100": [1.0, 2.0, 3.0, 4.0], "a_1000": [1.0, 2.0, 3.0, 4.0]}
    found = judged(table, SIZES, [{"mapping": "own", "distances": said}])
    assert "own" not in set(found["rule"]) and len(found) == 18


def test_a_run_that_is_cut_short_goes_on(table, galleries, tmp_path):
    experiment(table, SIZES, galleries, tmp_path, networks=1, iterations=1, seconds=0)
    assert not (tmp_path / "runs.jsonl").exists()
    experiment(table, SIZES, galleries, tmp_path, networks=1, iterations=1)
    assert (tmp_path / "runs.jsonl").read_text().count("\n") == 6
