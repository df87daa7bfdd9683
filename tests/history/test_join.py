"""Joining meta-datasets."""

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.join import join
from foretune.history.meta_dataset import MetaDataset


def test_join_keeps_first_ids_and_adds_new_configurations(meta):
    a = meta.select(meta.tasks[:2])
    half = dict(zip(meta.config_ids[20:], meta.configs[20:], strict=True))
    part = meta.table[(meta.table.task == meta.tasks[3]) & meta.table.config_id.isin(half)]
    b = MetaDataset.build(
        meta.space,
        half,
        part,
        metric=meta.metric,
        goal=meta.goal,
        max_epoch=meta.max_epoch,
        tasks=[meta.tasks[3]],
    )
    both = join([a, b], "both")
    assert both.config_ids == a.config_ids and both.tasks == [*a.tasks, *b.tasks]
    np.testing.assert_array_equal(both.curves(meta.tasks[0]), meta.curves(meta.tasks[0]))
    np.testing.assert_array_equal(both.curves(meta.tasks[3])[20:], meta.curves(meta.tasks[3])[20:])
    assert np.isnan(both.curves(meta.tasks[3])[:20]).all()
    other = join([b, a], "other way round")
    row = other.row_of
    from foretune.space.space import config_key

    np.testing.assert_array_equal(
        other.curves(meta.tasks[0])[[row[config_key(c)] for c in meta.configs]],
        meta.curves(meta.tasks[0]),
    )


def test_join_keeps_the_first_of_equal_cells(table):
    one, two = table(np.full((1, 2, 3), 0.25)), table(np.full((1, 2, 3), 0.75))
    assert (join([one, two], "x").curves("t0") == 0.25).all()
    with pytest.raises(BadInput, match="max_epoch"):
        join([one, table(np.zeros((1, 2, 4)))], "x")
    with pytest.raises(BadInput, match="goal"):
        join([one, table(np.zeros((1, 2, 3)), goal="minimize")], "x")
    with pytest.raises(BadInput, match="nothing to join"):
        join([], "x")
