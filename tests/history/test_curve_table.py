"""The long table as columns, without pandas."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foretune.history.curve_table import CurveTable, numbers

FRAME = pd.DataFrame(
    {
        "task": ["b", "a", "b", "a", "c"],
        "config_id": np.array([3, 1, 3, 2, 1], dtype="int32"),
        "seed": np.array([0, 0, 1, 0, 0], dtype="int8"),
        "epoch": np.array([1, 1, 1, 1, 2], dtype="int16"),
        "score": np.array([0.5, np.nan, 0.25, 1.0, -1.0], dtype="float32"),
    }
)


@pytest.mark.parametrize("row_groups", [5, 2])
def test_reading_gives_what_pandas_reads(tmp_path, row_groups):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pandas(FRAME), path, row_group_size=row_groups)
    table = CurveTable.read(path)
    assert len(table) == 5 and table.tasks == ("b", "a", "c")
    pd.testing.assert_frame_equal(table.frame(), FRAME, check_dtype=False)
    assert {c: v.dtype for c, v in table.columns.items()} == {
        c: FRAME[c].dtype for c in table.columns
    }
    assert np.isnan(table.columns["score"][1])  # an empty cell in the file


def test_a_data_frame_and_back():
    pd.testing.assert_frame_equal(CurveTable.of(FRAME).frame(), FRAME, check_dtype=False)


def test_rows_of_a_task_and_a_seed():
    table = CurveTable.of(FRAME)
    assert table.rows("b").tolist() == [0, 2] and table.rows("b", 1).tolist() == [2]
    assert table.rows("nobody").tolist() == [] and table.rows("c", 1).tolist() == []


def test_only_keeps_nothing_of_the_other_tasks():
    part = CurveTable.of(FRAME).only(["c", "a"])
    assert part.tasks == ("a", "c") and len(part) == 3
    assert part.frame()["task"].tolist() == ["a", "a", "c"]
    assert set(part.columns["score"][~np.isnan(part.columns["score"])].tolist()) == {1.0, -1.0}
    assert len(part.only([])) == 0


def test_an_empty_table(tmp_path):
    path = tmp_path / "t.parquet"
    FRAME[:0].to_parquet(path)
    table = CurveTable.read(path)
    assert len(table) == 0 and table.rows("a").tolist() == [] and len(table.only(["a"])) == 0


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2, 3], pa.int16())[1:],
        pa.array([1.0, None, 3.0, None, 5.0])[1:4],
        pa.array([None] * 20 + [2.0], pa.float32())[9:],
        pa.array([True, False]),
        pa.array(["x", None]),
        pa.array([1, None]),
    ],
)
def test_numbers_equal_arrows_own_conversion(values):
    mine, theirs = numbers(values), values.to_numpy(zero_copy_only=False)
    assert mine.dtype == theirs.dtype
    np.testing.assert_array_equal(mine, theirs)


def test_reading_imports_no_pandas(tmp_path):
    FRAME.to_parquet(tmp_path / "t.parquet")
    code = (
        "import sys; from foretune.history.curve_table import CurveTable; "
        "CurveTable.read(sys.argv[1]); sys.exit('pandas' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "t.parquet")], check=False
        ).returncode
        == 0
    )
