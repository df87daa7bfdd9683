"""The long table of learning curves as columns, read without pandas.

Importing pandas takes longer than many a whole replay.

Notation: r rows; row k is epoch `columns["epoch"][k]` of configuration `columns["config_id"][k]`,
trained with seed `columns["seed"][k]`, on the task `tasks[task[k]]`. The other columns are metrics.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

KEYS = ["task", "config_id", "seed", "epoch"]
Column = np.ndarray[Any, Any]
NUMBERS = {
    f"{sign}int{bits}": np.dtype(f"{sign}int{bits}")
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
NUMBERS |= {
    "halffloat": np.dtype("float16"),
    "float": np.dtype("float32"),
    "double": np.dtype("float64"),
}


@dataclass(frozen=True)
class CurveTable:
    """Columns of equal length r.

    `task` (r,) holds places in `tasks`, which are in order of appearance.
    """

    tasks: tuple[str, ...]
    task: Column
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(self.task)

    @classmethod
    def read(cls, path: Path | str) -> "CurveTable":
        """Read a parquet file.

        Raises KeyError if it has no column `task`, and what pyarrow raises if it is none.
        """
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path, read_dictionary=["task"]) as file:
            table = file.read().unify_dictionaries()
        columns = {
            c: numbers(table.column(c).combine_chunks()) for c in table.column_names if c != "task"
        }
        names = table.column("task").combine_chunks()
        if not len(names):
            return cls((), np.empty(0, dtype=int), columns)
        if not hasattr(names, "indices"):
            raise ValueError(f"column task of type {names.type} holds no texts")
        # a row without a task has the place -1
        places = (
            numbers(names.indices.fill_null(-1)) if names.null_count else numbers(names.indices)
        )
        return cls(tuple(names.dictionary.to_pylist()), places, columns)

    @classmethod
    def of(cls, frame: "pd.DataFrame") -> "CurveTable":
        """Take over a data frame's columns."""
        codes, tasks = frame["task"].factorize()
        columns = {str(c): frame[c].to_numpy() for c in frame.columns if c != "task"}
        return cls(tuple(tasks), np.asarray(codes), columns)

    def frame(self) -> "pd.DataFrame":
        """The table as a data frame, `task` first."""
        import pandas as pd

        return pd.DataFrame({"task": np.array(self.tasks, dtype=object)[self.task], **self.columns})

    def rows(self, task: str, seed: int | None = None) -> np.ndarray:
        """Places of the rows of a task, and of one seed if given; empty for an unknown task."""
        if task not in self.tasks:
            return np.empty(0, dtype=int)
        chosen = self.task == self.tasks.index(task)
        return np.flatnonzero(chosen if seed is None else chosen & (self.columns["seed"] == seed))

    def only(self, tasks: Sequence[str]) -> "CurveTable":
        """The rows of these tasks, and nothing of any other."""
        kept = [k for k, name in enumerate(self.tasks) if name in tasks]
        place = np.full(len(self.tasks), -1)
        place[kept] = np.arange(len(kept))
        codes = place[self.task] if len(self.tasks) else self.task
        inside = codes >= 0
        return CurveTable(
            tuple(self.tasks[k] for k in kept),
            codes[inside],
            {c: v[inside] for c, v in self.columns.items()},
        )


def numbers(array: "pa.Array") -> Column:
    """An arrow array as numpy, empty cells of a float column as NaN.

    Reads the buffers: arrow's own `to_numpy` imports pandas.
    """
    kind = NUMBERS.get(str(array.type))
    if kind is None or (array.null_count and kind.kind != "f"):
        return array.to_numpy(zero_copy_only=False)
    bitmap, data = array.buffers()
    part = slice(array.offset, array.offset + len(array))
    values = np.frombuffer(data, kind)[part] if data is not None else np.empty(0, kind)
    if array.null_count:
        known = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")[part]
        values = np.where(known, values, kind.type(np.nan))
    return values
