"""Runs of mixed columns as points."""

import numpy as np
import pandas as pd
import pytest

from foretune.searchers.transfer.run_columns import Columns, parts_of


def distances(frame: pd.DataFrame, name: str, new: pd.DataFrame | None = None) -> np.ndarray:
    """Squared distances between the rows in one column."""
    columns = Columns(frame, [c for c in frame.columns if c not in ("task", "score")])
    points = columns.encode(frame if new is None else new)
    points = points[:, columns.group == columns.names.index(name)]
    return ((points[:, None] - points[None]) ** 2).sum(axis=2)


def test_equal_ratios_of_a_rate_are_equally_far():
    apart = distances(pd.DataFrame({"rate": [1e-4, 1e-3, 1e-2, 1e-1]}), "rate")
    assert apart[0, 1] == pytest.approx(apart[1, 2]) == pytest.approx(apart[2, 3])
    assert apart[0, 2] == pytest.approx(4 * apart[0, 1])


def test_a_rate_of_zero_stands_beyond_the_smallest():
    apart = distances(pd.DataFrame({"decay": [0.0, 1e-4, 1e-2, 1e-1]}), "decay")
    assert apart[0, 1] > 0 and apart[0, 2] > apart[0, 1]


def test_two_different_names_are_one_apart_and_a_new_name_is_different_from_all():
    known = pd.DataFrame({"optimizer": ["sgd", "adam", "adam"]})
    apart = distances(known, "optimizer", pd.DataFrame({"optimizer": ["sgd", "adam", "lion"]}))
    assert apart[~np.eye(3, dtype=bool)] == pytest.approx(1.0)


def test_networks_of_a_family_are_nearer_than_others():
    names = [f"resnet{d}" for d in (18, 34, 50, 101)] + ["vit_base", "vit_small", "vit_tiny"]
    assert parts_of("ViT_base16") == ["vit", "base", "16"]
    apart = distances(pd.DataFrame({"network": names}), "network (parts)")
    assert apart[0, 1] == pytest.approx(0.5)  # one of two parts is shared
    assert apart[0, 4] == pytest.approx(1.0)  # none is


def test_off_is_a_value_and_unknown_is_the_mean():
    frame = pd.DataFrame(
        {
            "task": ["a"] * 4 + ["b"] * 2,
            "momentum": [0.0, 0.5, 1.0, None, None, None],
        }
    )
    apart = distances(frame, "momentum")
    # in task a some runs have momentum: the one without has it switched off
    assert apart[3, :3].min() == pytest.approx(0.75)
    # task b says nothing: as near to each value as can be, and to itself at 0
    assert apart[4, 5] == 0 and apart[4, :3].max() < apart[3, :3].max()


def test_a_column_that_never_varies_does_not_count_and_an_absurd_value_is_bounded():
    columns = Columns(pd.DataFrame({"a": [1, 1, 1], "b": [1, 2, 3]}), ["a", "b"])
    assert columns.names == ["b"]
    assert np.abs(columns.encode(pd.DataFrame({"b": [1e300, np.nan]}))).max() <= 1.25


def test_an_empty_cell_among_many_names_has_no_parts():
    names = [f"resnet{d}" for d in (18, 34, 50, 101)] + ["vit_base", "vit_small", "vit_tiny", None]
    apart = distances(pd.DataFrame({"network": names}), "network (parts)")
    assert apart[7, :7] == pytest.approx(0.5)  # as far from the one as from the other
