"""The objective that looks curves up in a table."""

import math

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.running.objectives.replay import Replay
from foretune.study.outcome import Outcome


@pytest.fixture
def line(table):
    """Two tasks, four configurations, five epochs; configuration 1 of t0 diverges in epoch 3."""
    values = (
        0.1 * np.arange(4)[None, :, None] + 0.01 * np.arange(5)[None, None, :] + np.zeros((2, 1, 1))
    )
    values[0, 1, 2:] = np.nan
    return table(values)


def test_a_step_gives_the_tables_values_epoch_by_epoch(line):
    objective, seen = Replay(line, "t0"), []
    outcome = objective.run(3, line.configs[3], 1, 4, seen.append)
    assert outcome.failed is None and seen == outcome.rows
    assert [(r["epoch"], r["score"]) for r in outcome.rows] == [
        (e, pytest.approx(0.3 + 0.01 * (e - 1))) for e in (2, 3, 4)
    ]


def test_losses_come_in_their_own_unit(table):
    objective = Replay(table(np.full((1, 2, 3), 7.5), "minimize"), "t0")
    assert objective.run(0, objective.meta.configs[0], 0, 1).rows == [{"epoch": 1, "score": 7.5}]


def test_a_diverged_cell_ends_the_step(line):
    outcome = Replay(line, "t0").run(1, line.configs[1], 0, 5)
    assert (
        [r["epoch"] for r in outcome.rows] == [1, 2, 3]
        and math.isnan(outcome.rows[-1]["score"])
        and outcome.failed is None
    )


def test_a_missing_cell_ends_the_step_with_a_reason_and_reports_what_was_there(line):
    rows = line.rows.frame()
    short = line.build(
        line.space,
        dict(enumerate(line.configs)),
        rows[(rows["epoch"] < 4)].assign(config_id=rows["config_id"] // 10),
        metric="score",
        goal="maximize",
        max_epoch=5,
    )
    seen = []
    outcome = Replay(short, "t1").run(2, short.configs[2], 1, 5, seen.append)
    assert [r["epoch"] for r in outcome.rows] == [
        2,
        3,
    ] and outcome.failed == "the table has no epoch 4 of this configuration"
    assert seen == outcome.rows


def test_epoch_zero_comes_before_the_first_epoch_only(meta):
    objective = Replay(meta, "t1")
    first = objective.run(0, meta.configs[0], 0, 1).rows
    assert [r["epoch"] for r in first] == [0, 1] and first[0]["valid_accuracy"] == meta.start("t1")[
        0
    ]
    assert [r["epoch"] for r in objective.run(0, meta.configs[0], 1, 2).rows] == [2]


def test_configurations_are_found_by_content_where_the_id_is_another_pools(line):
    outcome = Replay(line, "t1").run(0, dict(line.configs[2]), 0, 1)
    assert outcome.rows[0]["score"] == pytest.approx(0.2)
    assert Replay(line, "t1").run(17, {"x": 0.123}, 0, 1) == Outcome(
        [], "the table does not have this configuration"
    )


def test_equal_configurations_keep_their_own_curves(line):
    configs = dict(zip(line.config_ids, line.configs, strict=True))
    configs[line.config_ids[3]] = dict(line.configs[0])
    alike = line.build(line.space, configs, line.table, **line.about)
    for i in (0, 3):  # as a worker process gets them: equal, not identical
        assert Replay(alike, "t1").run(i, dict(alike.configs[i]), 0, 1).rows[0][
            "score"
        ] == pytest.approx(0.1 * i)


def test_unknown_tasks_and_seeds_are_refused(line):
    with pytest.raises(BadInput, match="unknown task 'paris'; line has t0, t1"):
        Replay(line, "paris")
    with pytest.raises(BadInput, match="curve seed 3 of t0 is not in line; it has 0"):
        Replay(line, "t0", 3)
