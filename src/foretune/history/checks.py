"""What a table of curves must hold before anything is read off it: numbers where numbers belong,
keys that mean one row each, and configurations that are there.

r rows, as in `foretune.history.curve_table`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.curve_table import KEYS, Column, CurveTable
from foretune.space.names import refuse_reserved
from foretune.space.parameters import plain

SMALLEST = {
    "config_id": "int32",
    "seed": "int16",
    "epoch": "int16",
}  # wider where values ask for it


def checked(rows: CurveTable, config_ids: Sequence[Any], metric: str, where: str) -> CurveTable:
    """`rows` with whole numbers in the columns of `KEYS`.

    Raises `BadInput` that names `where` and the column: one that is missing, text or other objects
    for numbers, a key that is not whole, an id that `config_ids` lack, and a cell that is given
    twice with different values.
    """
    if lacking := [c for c in [*KEYS[1:], metric] if c not in rows.columns]:
        raise BadInput(
            f"{where} lacks the columns {', '.join(lacking)}; it has "
            f"task, {', '.join(map(str, rows.columns))}"
        )
    refuse_reserved(f"metric of {where}", [c for c in rows.columns if c not in KEYS])
    if any(not isinstance(name, str) for name in rows.tasks) or (rows.task < 0).any():
        raise BadInput(f"{where} has rows without a task, or one that is no text")
    keys = {c: whole_column(rows.columns[c], c, where) for c in KEYS[1:]}
    if (keys["epoch"] < 0).any():
        raise BadInput(f"{where} has epoch {keys['epoch'].min()}; epochs count from 0")
    values = number_column(rows.columns[metric], metric, where)
    known = np.array([whole_id(i, where) for i in config_ids], dtype=np.int64)
    if len(set(known.tolist())) < len(known):
        found, counts = np.unique(known, return_counts=True)
        raise BadInput(f"{where}: config_id {found[counts > 1][0]} is given to two configurations")
    unknown = ~np.isin(keys["config_id"], known)
    if unknown.any():
        raise BadInput(
            f"{where} has rows of config_id {keys['config_id'][unknown][0]}, which is no configuration's"
        )
    _refuse_doubled(rows, keys, values, where)
    return CurveTable(rows.tasks, rows.task, {**rows.columns, **keys, metric: values})


def whole_id(value: Any, where: str) -> int:
    """A configuration's id. Raises `BadInput` for one that is no whole number of 64 bits."""
    given = plain(value)
    if isinstance(given, bool) or not isinstance(given, int) or not -(2**63) <= given < 2**63:
        raise BadInput(
            f"{where}: config_id {value!r} is of type {type(value).__name__}; ids are whole numbers"
        )
    return given


def whole_column(values: Column, name: str, where: str) -> Column:
    """A key column as int64, or the narrower integer type that it has. Raises `BadInput`."""
    if values.dtype.kind == "i":
        return values
    numbers = number_column(values, name, where)
    if numbers.dtype.kind == "b":
        raise BadInput(f"{where}: column {name} has truth values; it must hold whole numbers")
    whole = np.isfinite(numbers) & (numbers == np.floor(numbers)) & (np.abs(numbers) < 2**63)
    if not whole.all():
        wrong = plain(numbers[~whole][0])
        raise BadInput(
            f"{where}: column {name} has {wrong!r}; it must hold whole numbers of 64 bits"
        )
    return numbers.astype(np.int64)


def number_column(values: Column, name: str, where: str) -> Column:
    """A column of numbers; None becomes NaN. Raises `BadInput` naming the first value that is no
    number, and its type.
    """
    if values.dtype.kind in "iufb":
        return values
    for value in values:
        given = plain(value)
        missing = given is None or type(given).__name__ in ("NAType", "NaTType")
        if not missing and not isinstance(given, (bool, int, float)):
            raise BadInput(
                f"{where}: column {name} has {value!r} of type {type(value).__name__}; "
                "it must hold numbers"
            )
    given = [plain(value) for value in values]
    if given and all(isinstance(value, int) and not isinstance(value, bool) for value in given):
        return np.array(given, dtype=np.int64 if max(map(abs, given)) < 2**63 else np.float64)
    return np.array(
        [float(v) if isinstance(v, (bool, int, float)) else np.nan for v in given], dtype=float
    )


def _refuse_doubled(rows: CurveTable, keys: dict[str, Column], values: Column, where: str) -> None:
    columns = [rows.task, *(keys[c] for c in KEYS[1:])]
    if len(rows) < 2 or _sorted_without_doubles(columns):  # as `MetaDataset.save` writes them
        return
    order = np.lexsort(columns[::-1])
    twice = np.ones(len(rows) - 1, dtype=bool)
    for column in columns:
        twice &= column[order][1:] == column[order][:-1]
    later, earlier = order[1:][twice], order[:-1][twice]
    one, other = (np.asarray(values, dtype=float)[part] for part in (earlier, later))
    differ = ~((one == other) | (np.isnan(one) & np.isnan(other)))
    if differ.any():
        k = int(np.flatnonzero(differ)[0])
        cell = ", ".join(f"{c} {keys[c][earlier[k]]}" for c in KEYS[1:])
        raise BadInput(
            f"{where} has two values, {one[k]:g} and {other[k]:g}, of task "
            f"{rows.tasks[rows.task[earlier[k]]]}, {cell}"
        )


def _sorted_without_doubles(columns: Sequence[Column]) -> bool:
    """Whether each row is greater than the one before, first column first."""
    undecided = np.ones(len(columns[0]) - 1, dtype=bool)
    for column in columns:
        if (undecided & (column[1:] < column[:-1])).any():
            return False
        undecided &= column[1:] == column[:-1]
    return not undecided.any()


def narrowest(values: Column, name: str) -> np.dtype[Any]:
    """The smallest integer type, from that of `SMALLEST` on, that holds a key column."""
    least, most = int(values.min(initial=0)), int(values.max(initial=0))
    kinds = [np.dtype(kind) for kind in ("int16", "int32", "int64")]
    start = kinds.index(np.dtype(SMALLEST[name]))
    return next(k for k in kinds[start:] if np.iinfo(k).min <= least and most <= np.iinfo(k).max)
