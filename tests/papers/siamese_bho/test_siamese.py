"""The evaluation of Siamese-BHO's four variants, on five tasks of formulas with pictures of
noise.
"""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from foretune.params import SiamesePlan
from foretune.recommenders.past import Past
from foretune.recommenders.siamese.recommender import SiameseNearest, mapping_distance
from foretune.tasks.task import Task
from papers.siamese_bho import siamese
from papers.siamese_bho.siamese import VARIANTS, evaluate, judged, summarised

TINY = {
    "iterations": 2,
    "tau": 4,
    "group": 4,
    "sub_tasks": 2,
    "draws": 2,
    "size": 16,
    "most_images": 24,
}
PLAN = SiamesePlan(k=2, evaluations=6, repetitions=2)


@pytest.fixture(scope="module")
def grid(meta):
    """t0 and t1 of one source, the others each of its own."""
    about = {**meta.about, "sources": {"t0": "s", "t1": "s"}}
    return meta.build(meta.space, dict(enumerate(meta.configs)), meta.table, **about)


@pytest.fixture(scope="module")
def tasks(grid):
    out = {}
    for i, name in enumerate(grid.tasks):
        rng = np.random.default_rng(i)
        images = rng.integers(20 * i, 20 * i + 60, (24, 16, 16, 3)).astype(np.uint8)
        out[name] = Task(name, images, np.arange(24) % 2, ("a", "b"), np.zeros(24, dtype=np.uint8))
    return out


@pytest.fixture(scope="module")
def done(grid, tasks, tmp_path_factory):
    """The reports folder after one evaluation, and its summary."""
    folder = tmp_path_factory.mktemp("reports")
    return folder, evaluate(grid, tasks, PLAN, folder, say=lambda text: None, options=TINY)


def test_all_variants_are_there_at_every_number_of_evaluations(done, grid):
    _, summary = done
    assert summary["variant"].tolist() == [v for v in VARIANTS for _ in range(6)]
    assert summary["evaluations"].tolist() == list(range(1, 7)) * 7
    assert (summary["tasks"] == 5).all()
    for _, one in summary.groupby("variant", observed=True):
        assert (np.diff(one["mean"]) <= 1e-9).all() and one["mean"].between(0, 1).all()
    first = summary[summary["evaluations"] == 1].set_index("variant")["mean"]
    assert (
        first["random, EI"] == first["random, UCB"] == first["random search"]
        and first["nearest, EI"] == first["nearest, EI, prior mean"]
    )
    assert first["any tasks, EI, prior mean"] != first["nearest, EI"] != first["portfolio"]
    # past bests beat chance here whoever the neighbours are
    assert first["nearest, EI"] < 0.5 * first["random, EI"]


def test_tasks_of_one_source_are_never_each_other_s_past(done):
    folder, _ = done
    found = {
        row["task"]: row["nearest"]
        for row in pd.read_csv(folder / "siamese_distances.csv").to_dict("records")
    }
    assert "t1" not in found["t0"] and "t0" not in found["t1"] and len(found) == 5
    assert json.loads((folder / "runs" / "t0+t1.json").read_text())["tasks"] == ["t0", "t1"]


def same(table, other):
    """Equal in what is written: the file holds five digits."""
    pd.testing.assert_frame_equal(table, other, check_dtype=False, atol=1e-6)


def test_what_is_done_is_not_done_again_until_something_changes(done, grid, tasks, monkeypatch):
    folder, summary = done
    before = (folder / "siamese.csv").read_bytes()

    def refuse(*_):
        raise AssertionError("ran again")

    monkeypatch.setattr(siamese, "run_source", refuse)
    again = evaluate(grid, tasks, PLAN, folder, say=lambda text: None, options=TINY)
    same(again, summary)
    assert (folder / "siamese.csv").read_bytes() == before
    with pytest.raises(AssertionError, match="ran again"):
        evaluate(grid, tasks, SiamesePlan(k=3, evaluations=6, repetitions=2), folder, options=TINY)
    with pytest.raises(AssertionError, match="ran again"):
        evaluate(grid, tasks, PLAN, folder, options={**TINY, "iterations": 3})


@pytest.mark.slow
def test_tables_stand_without_their_runs_until_the_code_is_another(
    done, grid, tasks, tmp_path, monkeypatch
):
    """In a fresh clone no runs are kept: tables stand by their note, and those that other code made
    do if the sources that are made again are equal, and only then.
    """
    shutil.copytree(done[0], tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs"))
    ran, real = [], siamese.run_source
    monkeypatch.setattr(siamese, "run_source", lambda *a: ran.append(a[2]) or real(*a))
    given = (grid, tasks, PLAN, tmp_path)
    said: list[str] = []
    more = {"say": said.append, "options": TINY}
    same(evaluate(*given, **more), done[1])
    assert not ran
    monkeypatch.setattr(siamese, "digest_of", lambda *modules, **named: "other code")
    evaluate(*given, **more, compare=1)
    assert len(ran) == 1 and any("1 of" in line and "equal" in line for line in said)
    evaluate(*given, **more)
    assert len(ran) == 1  # noted
    monkeypatch.setattr(siamese, "digest_of", lambda *modules, **named: "newer code")
    table = pd.read_csv(tmp_path / "siamese_tasks.csv")
    table["normalized_regret"] += 0.5
    table.to_csv(tmp_path / "siamese_tasks.csv", index=False)
    evaluate(*given, **more, compare=1)
    assert any("in siamese_tasks.csv differs by up to 0.5" in line for line in said)
    assert pd.read_csv(tmp_path / "siamese_tasks.csv").equals(
        pd.read_csv(done[0] / "siamese_tasks.csv")
    )


def test_when_time_is_up_it_says_what_is_left(grid, tasks, tmp_path):
    with pytest.raises(BadInput, match="no source was finished"):
        evaluate(grid, tasks, PLAN, tmp_path, say=lambda text: None, seconds=-1.0, options=TINY)


def test_distances_are_judged_against_the_true_ones(grid, tasks):
    fitted = SiameseNearest(**{**TINY, "k": 2}).fit(grid.select(["t1", "t2", "t3", "t4"]), tasks)
    true = mapping_distance(Past.of(grid).normalised)[0, 1:]
    perfect = judged(fitted, grid, "t0", true)
    assert perfect["rank_correlation"] == pytest.approx(1.0)
    assert perfect["neighbours"] == pytest.approx(np.sort(true)[:2].mean() / true.mean())
    assert judged(fitted, grid, "t0", -true)["rank_correlation"] == pytest.approx(-1.0)


def test_the_standard_error_is_over_tasks_not_over_repetitions():
    rows = [
        {
            "variant": "nearest, EI",
            "task": task,
            "seed": seed,
            "evaluation": 1,
            "normalized_regret": value + seed,
        }
        for task, value in (("a", 0.0), ("b", 2.0))
        for seed in (0, 1)
    ]
    (row,) = summarised(pd.DataFrame(rows)).to_dict("records")
    assert row["mean"] == 1.5 and row["se"] == 1.0 and row["tasks"] == 2
