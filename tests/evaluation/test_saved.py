"""What history would have saved: counting, a history that helps, and refusal without one."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.evaluation.saved import needed, would_have_saved
from foretune.evaluation.synthetic import synthetic_meta


def test_needed_counts_epochs_to_the_target_and_the_budget_if_it_is_missed():
    trace = np.array([-np.inf, 0.2, 0.5, 0.5])
    assert needed(trace, 0.2, 9) == 2
    assert needed(trace, 0.5, 9) == 3
    assert needed(trace, 0.6, 9) == 9


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
