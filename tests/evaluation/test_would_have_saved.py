"""What history would have saved: counting, a history that helps, and refusal without one."""

import numpy as np
import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation import would_have_saved as module
from foretune.evaluation.would_have_saved import (
    epochs_needed,
    shipped_for,
    shipped_tasks,
    trained,
    would_have_saved,
)
from foretune.history.curve_table import CurveTable
from foretune.history.meta_dataset import MetaDataset
from foretune.study.study import Study


def test_needed_counts_epochs_to_the_target_and_the_budget_if_it_is_missed():
    trace = np.array([-np.inf, 0.2, 0.5, 0.5])
    assert epochs_needed(trace, 0.2, 9) == 2
    assert epochs_needed(trace, 0.5, 9) == 3
    assert epochs_needed(trace, 0.6, 9) == 9


def test_related_tasks_save_epochs_and_the_mean_lies_in_its_interval():
    saved = would_have_saved(synthetic_meta(tasks=4, configs=30, epochs=6), budget=30, seeds=1)
    assert set(saved.by_task) == {"t0", "t1", "t2", "t3"}
    assert saved.mean == pytest.approx(np.mean(list(saved.by_task.values())))
    assert saved.low <= saved.mean <= saved.high
    assert saved.mean > 0 and "saved" in saved.sentence


def test_one_task_has_no_history():
    with pytest.raises(BadInput, match="at least 2"):
        would_have_saved(synthetic_meta(tasks=1, configs=5, epochs=3))


def test_tasks_of_one_source_are_no_history_for_each_other():
    meta = synthetic_meta(tasks=3, configs=12, epochs=4)
    alike = meta.build(
        meta.space,
        dict(zip(meta.config_ids, meta.configs, strict=True)),
        meta.table,
        **{**meta.about, "sources": dict.fromkeys(meta.tasks, "one")},
    )
    with pytest.raises(BadInput, match="another source"):
        would_have_saved(alike, budget=8, seeds=1)


def sparse(meta, kept):
    """`meta` as studies leave it: of a task the configurations in `kept`, each to its epoch, and no
    more.
    """
    rows = meta.rows
    last = np.array(
        [
            kept[rows.tasks[t]].get(c, 0)
            for t, c in zip(rows.task, rows.columns["config_id"], strict=True)
        ]
    )
    keep = (rows.columns["epoch"] <= last) & (last > 0)
    table = CurveTable(rows.tasks, rows.task[keep], {c: v[keep] for c, v in rows.columns.items()})
    return MetaDataset(
        meta.space,
        meta.config_ids,
        meta.configs,
        table,
        {**meta.about, "max_epoch": meta.max_epoch},
    )


@pytest.fixture
def studies():
    """Three tasks of 6 configurations or fewer, out of 30, some of them stopped early."""
    kept = {
        "t0": {0: 6, 7: 6, 4: 2},
        "t1": {0: 6, 5: 6, 9: 1, 12: 1},
        "t2": {0: 6, 7: 3, 9: 6, 20: 1, 21: 1, 24: 1},
    }
    return sparse(synthetic_meta(tasks=3, configs=30, epochs=6), kept), kept


def test_a_replay_chooses_among_what_the_task_has_trained(studies, monkeypatch):
    meta, kept = studies
    ran = {}
    monkeypatch.setattr(
        module, "Study", lambda *a, **k: ran.setdefault((a[2].task, a[2].method), Study(*a, **k))
    )
    found = would_have_saved(meta, seeds=1, method="mean-rank")
    assert found.configurations == {"t0": 3, "t1": 4, "t2": 6}
    for (task, _), study in ran.items():
        assert len(study.configs) == len(kept[task])
        assert all(
            study.epoch[i] > 0 for i in study.failures
        )  # none is held against the method for never having been tried
        assert study.spent == sum(kept[task].values())


def test_the_budget_is_at_most_what_the_table_holds_of_a_task(studies):
    meta, kept = studies
    found = would_have_saved(meta, seeds=1, method="mean-rank")  # five full trainings would be 30
    assert (
        found.budgets
        == {task: sum(own.values()) for task, own in kept.items()}
        == {"t0": 14, "t1": 14, "t2": 18}
    )
    assert "of 15.3 epochs a study" in found.sentence
    assert all(abs(value) < found.budgets[task] for task, value in found.by_task.items())
    assert set(would_have_saved(meta, 10, seeds=1, method="mean-rank").budgets.values()) == {10}


def test_what_a_task_has_trained_keeps_ids_and_curves(studies):
    meta, _ = studies
    one = trained(meta, "t1")
    assert one.config_ids == [0, 5, 9, 12] and one.tasks == ["t1"]
    np.testing.assert_array_equal(one.curves("t1"), meta.curves("t1")[[0, 5, 9, 12]])


def test_the_shipped_table_is_history_but_for_the_very_images(studies, tmp_path, monkeypatch):
    meta, _ = studies
    own = MetaDataset(
        meta.space,
        meta.config_ids,
        meta.configs,
        meta.rows,
        {**meta.about, "hashes": {"t0": "same"}},
    )
    whole = synthetic_meta(tasks=3, configs=30, epochs=6)
    names = {task: f"shipped {task}" for task in whole.tasks}
    rows = CurveTable(tuple(names.values()), whole.rows.task, whole.rows.columns)
    about = {
        **whole.about,
        "tasks": list(names.values()),
        "hashes": {"shipped t1": "same"},
        "max_epoch": 6,
    }
    shipped = MetaDataset(whole.space, whole.config_ids, whole.configs, rows, about)
    assert shipped_tasks(shipped, own, "t0") == ["shipped t0", "shipped t2"]
    assert (
        shipped_tasks(shipped, own, "t1") == list(names.values())
        and shipped_tasks(None, own, "t0") == []
    )
    seen = {}
    monkeypatch.setattr(
        module, "Study", lambda *a, **k: seen.setdefault((a[2].task, a[2].method), Study(*a, **k))
    )
    assert (
        would_have_saved(own.select(["t0"]), seeds=1, method="mean-rank", shipped=shipped).shipped
        == 3
    )
    assert (
        seen["t0", "mean-rank"].past.tasks == ["shipped t0", "shipped t2"]
        and seen["t0", "hyperband"].past is None
    )
    shipped.save(tmp_path / "light")
    found = shipped_for(own, tmp_path / "light")
    assert found is not None and found.tasks == shipped.tasks
    own.about["settings"] = {"batch_size": 7}
    assert shipped_for(own, tmp_path / "light") is None and shipped_for(own, tmp_path) is None
