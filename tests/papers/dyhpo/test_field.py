"""The files of the field's evaluation, from steps small enough to count by hand and from real
replays of a synthetic table.
"""

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from papers.dyhpo import field
from papers.dyhpo.field import (
    FieldTable,
    compare,
    complete,
    evaluate,
    main,
    over_epochs,
    read,
    run,
    summary,
    wall_clock,
)


@pytest.fixture
def steps() -> pd.DataFrame:
    """Two methods on two tasks (`b` lacks the third): regret .4 then .2 for a, .3 for b; b thinks 5
    s a step.
    """
    rows = []
    for method, tasks, regrets, seconds in (
        ("a", "xyz", (0.4, 0.2), 0.0),
        ("b", "xy", (0.3, 0.3), 5.0),
    ):
        for task in tasks:
            for k, regret in enumerate(regrets, 1):
                rows.append((method, task, 0, k, 10 * k, regret, seconds))
    return pd.DataFrame(
        rows, columns=["method", "task", "seed", "step", "spent", "normalized_regret", "seconds"]
    )


def test_summary(steps):
    table = summary(steps, (10, 20))
    assert table.index.tolist() == ["a", "b"] and table["tasks"].to_dict() == {"a": 3, "b": 2}
    assert table.loc["a", "10"] == pytest.approx(0.4) and table.loc["a", "20"] == pytest.approx(0.2)
    assert table.loc["b", "decision_ms"] == 5000


def test_ranks_are_on_the_tasks_that_all_have(steps):
    curves = over_epochs(steps, 20, points=200).set_index(["method", "epochs"])
    assert curves.loc[("a", 10), "rank"] == 2 and curves.loc[("a", 20), "rank"] == 1
    # nothing was found yet
    assert curves.loc[("a", 1), "rank"] == 1.5 and curves.loc[("a", 1), "regret"] == 1


def test_wall_clock_counts_decisions(steps):
    clock = wall_clock(steps, 20, epoch_seconds=(1.0,))
    assert clock.loc["a", "1 s, 0.6"] == pytest.approx(0.4) and clock.loc[
        "a", "1 s, 1"
    ] == pytest.approx(0.2)
    assert clock.loc["b", "1 s, 0.6"] == 1.0  # 10 epochs and 5 s of thinking are not done at 12 s
    assert clock.loc["b", "1 s, 1"] == pytest.approx(0.3)


def test_compare_needs_three_methods(steps):
    with pytest.raises(BadInput, match="3 methods"):
        compare(steps, 20)


@pytest.mark.slow
def test_the_files(meta_folder, tmp_path):
    names = ("random", "asha", "hyperband-gp")
    table = FieldTable("toy", meta_folder, 40, "toy", (9, 40), (20, 40), dict.fromkeys(names, 2))
    with pytest.raises(BadInput, match="--run"):
        read(tmp_path / "traces", names, 40)
    run(table, tmp_path / "traces", ["random", "asha"])
    run(table, tmp_path / "traces", ["hyperband-gp"])
    result = evaluate(table, tmp_path / "traces", tmp_path / "out")
    assert (
        set(result.index) == set(names)
        and (result["repetitions"] == 2).all()
        and (result["tasks"] == 5).all()
    )
    odd = pd.read_csv(tmp_path / "out" / "toy-odd.csv", index_col="method")
    assert set(odd.index) == set(names) and (odd["tasks"] == 2).all()
    pairs = pd.read_csv(tmp_path / "out" / "toy-tests.csv")
    assert len(pairs) == 6 and (pairs["p_holm"] >= pairs["p"]).all() and set(pairs["tasks"]) == {5}
    assert "toy, 40 epochs, 5 tasks" in (tmp_path / "out" / "toy-40.svg").read_text()
    curves = pd.read_csv(tmp_path / "out" / "toy-curves.csv")
    assert np.allclose(curves.groupby("epochs")["rank"].sum(), 6)
    chosen = pd.read_csv(tmp_path / "out" / "toy-selection.csv")
    assert set(chosen["method"]) == {*names, "all configurations"}


def test_the_family_has_pairs_of_its_own(meta_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(field, "FAMILY", ("random", "asha", "sha"))
    names = ("random", "asha", "hyperband", "sha")
    table = FieldTable("toy", meta_folder, 18, "toy", (9, 18), (18,), dict.fromkeys(names, 1))
    run(table, tmp_path / "traces")
    evaluate(table, tmp_path / "traces", tmp_path / "out")
    all_pairs, own = (
        pd.read_csv(tmp_path / "out" / f"toy-{name}.csv") for name in ("tests", "family")
    )
    assert len(all_pairs) == 6 and len(own) == 3
    assert set(own["a"]) | set(own["b"]) == {"random", "asha", "sha"}
    both = own.merge(all_pairs, on=["a", "b"], suffixes=("", "_all"))
    # fewer pairs cost less
    assert (both["p"] == both["p_all"]).all() and (both["p_holm"] <= both["p_holm_all"]).all()


def test_a_table_that_is_being_trained_is_cut_to_what_is_complete(meta, meta_folder, tmp_path):
    table = FieldTable("toy", meta_folder, 40, "toy", (9,), (40,))
    with complete(table) as whole:
        assert whole is table
    whole_run = next(i for k, i in enumerate(meta.config_ids) if np.isfinite(meta.Y()[:, k]).all())
    frame = meta.table[(meta.table["config_id"] != whole_run) | (meta.table["epoch"] < 4)]
    configs = dict(zip(meta.config_ids, meta.configs, strict=True))
    meta.build(meta.space, configs, frame, **meta.about).save(tmp_path / "part")
    with complete(FieldTable("toy", tmp_path / "part", 40, "toy", (9,), (40,))) as whole:
        assert (
            whole_run not in MetaDataset.load(whole.folder).config_ids
            and len(MetaDataset.load(whole.folder)) == 39
        )


def test_a_missing_table_is_skipped_in_words_and_an_unknown_one_refused(tmp_path, capsys):
    main(["lcbench", "--published", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "lcbench: skipped" in capsys.readouterr().out and not (tmp_path / "out").exists()
    with pytest.raises(BadInput, match="unknown table"):
        main(["nonsense"])
