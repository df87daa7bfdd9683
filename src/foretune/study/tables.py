"""What a study's tables hold beside its journal, which is the record that they were made from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.curve_table import CurveTable
from foretune.study.journal import CutShort, finite, remedy

Cell = tuple[int, int]  # configuration, epoch
SINGLE = 1e-6  # relative: tables of others may hold single precision


def read_cells(folder: Path, metric: str) -> dict[Cell, float]:
    """The values of the metric in a study's `curves.parquet`, NaN where it diverged; none where
    there is no table, or one that cannot be read: the end of a run makes it anew.
    """
    try:
        return need_cells(folder, metric)
    except BadInput:
        return {}


def need_cells(folder: Path, metric: str) -> dict[Cell, float]:
    """The same; raises `BadInput` where there is no table that can be read."""
    path = folder / "curves.parquet"
    try:
        columns = CurveTable.read(path).columns
        ids, epochs = (columns[name].astype(int) for name in ("config_id", "epoch"))
        values = columns[metric].astype(float)
    except (KeyError, OSError, ValueError, TypeError) as error:  # pyarrow's are two of these
        raise BadInput(f"{path} cannot be read: {error}") from error
    return dict(zip(zip(ids.tolist(), epochs.tolist(), strict=True), values.tolist(), strict=True))


def refuse_beyond(
    cells: Mapping[Cell, float],
    rows: Mapping[int, Sequence[Mapping[str, Any]]],
    metric: str,
    folder: Path,
) -> None:
    """Raise `CutShort` where a study's tables hold `cells` that the `rows` of its journal have not,
    or have with another value.
    """
    if not cells:
        return
    journal, table = folder / "journal.jsonl", folder / "curves.parquet"
    told = {(i, row["epoch"]): row[metric] for i, trial in rows.items() for row in trial}
    choice = (
        f"Put the journal back that belongs to it, or {remedy(folder)} goes by the journal and "
        "makes the tables anew, with the old one beside them"
    )
    if lacking := sorted(set(cells) - set(told)):
        i, epoch = lacking[0]
        count = f"{len(lacking)} {'epochs' if len(lacking) > 1 else 'epoch'}"
        raise CutShort(
            f"{journal} lacks {count} that {table.name} beside it holds, such as epoch {epoch} of "
            f"trial {i}: lines of it are missing. {choice}"
        )
    for (i, epoch), value in cells.items():
        if not _same(value, told[i, epoch]):
            raise CutShort(
                f"{metric} of trial {i} in epoch {epoch} is {told[i, epoch]} in {journal}, and "
                f"{value} in {table.name} beside it: they are not of one study. {choice}"
            )


def _same(one: float, other: float | None) -> bool:
    if other is None or not finite(other):
        return not finite(one)
    return bool(np.isclose(one, other, rtol=SINGLE, atol=0.0))
