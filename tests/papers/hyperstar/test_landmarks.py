"""Kernel ridge judged beside kept scores: nothing of a held-out source is used; chances count."""

import numpy as np
import pandas as pd
import pytest

from foretune.recommenders.landmarks import NAMES as LANDMARKS
from foretune.recommenders.metadata import NAMES as METADATA
from papers.hyperstar.landmarks import (
    chance,
    chances,
    descriptions,
    held_out,
    main,
    near_best,
    rankings,
    write,
)

P = len(LANDMARKS) + len(METADATA)


@pytest.fixture
def meta(table):
    """Eight tasks of four sources, of which each source's two agree."""
    rng = np.random.default_rng(0)
    best = np.repeat(rng.random((4, 1, 20)), 2, axis=1).reshape(8, 20)
    made = table(np.stack([best / 2, best], axis=2) + 0.01 * rng.random((8, 20, 2)))
    made.about["sources"] = {task: f"s{k // 2}" for k, task in enumerate(made.tasks)}
    return made


@pytest.fixture
def raw(meta):
    values = np.random.default_rng(1).normal(size=(8, P))
    return pd.DataFrame(values, index=meta.tasks, columns=[*LANDMARKS, *METADATA])


def kept(meta, reports):
    """A table of scores of two recommenders, three trials each."""
    rng = np.random.default_rng(2)
    rows = [
        {"recommender": name, "task": task, "trial": trial, "config_id": c, "score": rng.random()}
        for name in ("hyperstar-bm", "hyperstar", "raw-mean")
        for task in meta.tasks
        for trial in range(3)
        for c in meta.config_ids
    ]
    reports.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(reports / "rankings.parquet")
    return pd.DataFrame(rows)


def test_a_held_out_source_has_no_say_in_its_own_ranking(raw):
    scores = np.random.default_rng(3).normal(size=(8, 20))
    sources = np.array([f"s{k // 2}" for k in range(8)])
    before = held_out(raw.to_numpy(), scores, sources)
    changed = scores.copy()
    changed[:2] += 50
    after = held_out(raw.to_numpy(), changed, sources)
    for key, said in before.items():
        assert (said[:2] == after[key][:2]).all(), key
    assert (before["list"][2:] != after["list"][2:]).all()
    middle = (before["list"] + before["strength"]) / 2
    assert before["half"] == pytest.approx(middle)


def test_rankings_of_networks_are_means_over_their_trials(meta, raw, tmp_path):
    table = kept(meta, tmp_path)
    found = rankings(meta, raw, tmp_path)
    mine = table[(table["recommender"] == "hyperstar-bm") & (table["task"] == "t3")]
    want = mine.groupby("config_id")["score"].mean().loc[list(meta.config_ids)].to_numpy()
    place = list(meta.tasks).index("t3")
    assert found["hyperstar-bm, averaged"][place] == pytest.approx(want)
    both = "ridge on landmarks + metadata, with hyperstar-bm"
    middle = (found["ridge on landmarks + metadata"][place] + want) / 2
    assert found[both][place] == pytest.approx(middle)
    assert "random-forest" not in found  # the table has none


def test_a_chance_is_the_share_of_past_misses_that_leave_the_first_good():
    scores = np.array([2.0, 1.0, 0.5, 0.0, -3.0])
    nothing, much = np.zeros(5), np.array([0, 0, 0, 0, 9.0])
    assert chance(scores, np.stack([nothing] * 3), np.ones(3)) == 4 / 5
    assert chance(scores, np.stack([nothing, much, much]), np.ones(3)) == 2 / 5
    # a difference of 4 deviations is within two points where one is worth a thousandth
    assert chance(scores, np.stack([much] * 3), np.full(3, 0.001)) == 4 / 5
    assert near_best(scores, np.array([0.5, 0.3, 0.2, 0.51, 0.1]))
    assert not near_best(scores, np.array([0.5, 0.3, 0.2, 0.53, 0.1]))


def test_chances_are_probabilities_with_a_base_rate_beside_them(meta, raw):
    table = chances(meta, raw.to_numpy())
    assert list(table.index[-2:]) == ["mean", "Brier score"]
    told = table.loc[list(meta.tasks)]
    assert told["chance"].between(0, 1, inclusive="neither").all()
    assert set(told["came true"]) <= {0.0, 1.0}
    want = ((told["chance"] - told["came true"]) ** 2).mean()
    assert table.loc["Brier score", "chance"] == pytest.approx(want)


def test_the_tables_are_written(meta, raw, tmp_path):
    kept(meta, tmp_path)
    assert "hyperstar-bm, averaged" in write(meta, raw, tmp_path)
    folder = tmp_path / "landmarks"
    tests = pd.read_csv(folder / "tests.csv")
    assert set(tests["baseline"]) == {"list", "raw-mean", "hyperstar, averaged"}
    summary = pd.read_csv(folder / "summary.csv", index_col="ranking")
    tasks = pd.read_csv(folder / "tasks.csv")
    for name, mine in tasks.groupby("ranking"):
        assert summary.loc[name, "AP@10"] == pytest.approx(mine["AP@10"].mean(), abs=1e-4)


def test_a_described_task_needs_no_images(meta, raw, tmp_path, capsys):
    file = tmp_path / "reports" / "landmarks" / "descriptions.csv"
    file.parent.mkdir(parents=True)
    raw.assign(hash="x").rename_axis("task").to_csv(file)
    assert descriptions(meta.tasks, tmp_path, file).to_numpy() == pytest.approx(raw.to_numpy())
    kept(meta, tmp_path / "reports")
    meta.save(tmp_path / "meta")
    params = tmp_path / "params.yaml"
    params.write_text(f"meta_dataset:\n  folder: {tmp_path / 'meta'}\n")
    given = [f"--params={params}", f"--images={tmp_path}", f"--reports={tmp_path / 'reports'}"]
    assert main(given) == 0 and "Brier" in capsys.readouterr().out
    file.unlink()
    assert main(given) == 2 and "does not describe" in capsys.readouterr().err
