"""Runs of mixed columns as points: how far two runs are apart, column by column.

A run is a row of a data frame: hyperparameters, settings and facts about its task side by side.
Each column becomes a few coordinates, scaled such that two of its values are at most about 1 apart:

| column                     | coordinates                                                            |
|----------------------------|------------------------------------------------------------------------|
| numbers                    | place between the 2 % and 98 % quantiles, on a log scale where they are positive and span more than `LOG_FROM` |
| texts, truth values        | one per value, two different values being 1 apart                        |
| texts of many values       | also the parts of their names ("vit_base_patch16_224"): related networks share some |
| empty beside filled cells  | one more: a hyperparameter that is switched off is a value of its own  |

A column of which a task's runs say nothing at all is unknown there, not switched off: it stands at
the column's mean, as near to all values as can be (a missing hyperparameter as a learned constant
is Deshwal et al. 2024's; the mean needs no learning).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

LOG_FROM = 20.0
MANY = 6  # values from which a text's parts are compared too
OVERSHOOT = 0.25  # how far beyond the quantiles a number may stand
TASK, SCORE = "task", "score"
# columns of a run store that say what became of a run, or which it was
OUTCOMES = frozenset(
    {"run_id", "source_id", "source", "seed", "state", "seconds", "epochs_planned", "epochs_done"}
    | {TASK, SCORE}
)


@dataclass(frozen=True)
class NumberColumn:
    """A numeric column: values from `lower` to `upper` stand at 0 to 1."""

    name: str
    lower: float
    upper: float
    log: bool
    floor: float  # what 0 and less count as on a log scale
    width: int = 2

    def place(self, cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (n, 2) and which cells are empty, (n,)."""
        values = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
        with np.errstate(over="ignore"):
            empty = np.isnan(values)
            scaled = np.log(np.maximum(values, self.floor)) if self.log else values
            unit = (scaled - self.lower) / (self.upper - self.lower)
        out = np.zeros((len(values), 2))
        out[:, 0] = np.where(empty, 0.5, np.clip(unit, -OVERSHOOT, 1 + OVERSHOOT))
        out[:, 1] = np.where(empty, math.sqrt(0.75), 0.0)
        return out, empty


@dataclass(frozen=True)
class TextColumn:
    """A column of names: a coordinate each, one for names never seen, one for empty cells."""

    name: str
    options: tuple[str, ...]

    @property
    def width(self) -> int:
        """Number of coordinates."""
        return len(self.options) + 2

    def place(self, cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (n, width) and which cells are empty, (n,)."""
        empty = cells.isna().to_numpy(dtype=bool)
        known = {option: k for k, option in enumerate(self.options)}
        at = cells.astype(str).map(known).fillna(len(known)).to_numpy(dtype=int, copy=True)
        at[empty] = len(known) + 1
        out = np.zeros((len(cells), self.width))
        out[np.arange(len(cells)), at] = math.sqrt(0.5)
        return out, empty


@dataclass(frozen=True)
class PartsColumn:
    """The parts of the names in a column: names that share half of their parts are half apart."""

    name: str
    source: str
    parts: tuple[str, ...]

    @property
    def width(self) -> int:
        """Number of coordinates."""
        return len(self.parts)

    def place(self, cells: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (n, width) and which cells are empty, (n,)."""
        empty = cells.isna().to_numpy(dtype=bool)
        known = {part: k for k, part in enumerate(self.parts)}
        member, names = pd.factorize(cells.astype(str).mask(empty))
        table = np.zeros((len(names), self.width))
        for row, name in zip(table, names, strict=True):
            row[[known[part] for part in parts_of(name) if part in known]] = 1.0
        table /= math.sqrt(2.0) * np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1.0)
        return np.where(empty[:, None], 0.0, table[member]), empty


AnyColumn = NumberColumn | TextColumn | PartsColumn


def parts_of(name: str) -> list[str]:
    """Runs of letters or of digits in a name, in small letters."""
    return re.findall(r"[a-z]+|[0-9]+", name.lower())


def is_numeric(cells: pd.Series) -> bool:
    """Whether a column holds numbers (truth values are names, and so are numbers among names)."""
    if pd.api.types.is_bool_dtype(cells):
        return False
    if pd.api.types.is_numeric_dtype(cells):
        return True
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in cells.dropna())


def columns_of(frame: pd.DataFrame, names: Sequence[str]) -> list[AnyColumn]:
    """The columns of `frame` in which its runs differ."""
    out: list[AnyColumn] = []
    for name in names:
        cells = frame[name]
        filled = cells.dropna()
        if cells.isna().any() and not len(filled):
            continue
        if is_numeric(cells):
            values = filled.to_numpy(dtype=float)
            values = values[np.isfinite(values)]
            if len(values) and (cells.isna().any() or values.min() < values.max()):
                out.append(number_column(name, values))
            continue
        options = tuple(sorted(filled.astype(str).unique()))
        if len(options) + bool(cells.isna().any()) < 2:
            continue
        out.append(TextColumn(name, options))
        if len(options) > MANY:
            parts = tuple(sorted({part for option in options for part in parts_of(option)}))
            out.append(PartsColumn(f"{name} (parts)", name, parts))
    return out


def number_column(name: str, values: np.ndarray) -> NumberColumn:
    """The scale of a column with these finite values."""
    positive = values[values > 0]
    log = bool(
        len(positive) >= 0.5 * len(values)
        and (values >= 0).all()
        and positive.max() / positive.min() > LOG_FROM
    )
    floor = float(positive.min()) / 10 if log else -math.inf
    scaled = np.log(np.maximum(values, floor)) if log else values
    lower, upper = np.quantile(scaled, [0.02, 0.98])
    if not lower < upper:
        lower, upper = float(scaled.min()), float(scaled.max())
    return NumberColumn(
        name, float(lower), float(upper if lower < upper else lower + 1), log, floor
    )


class Columns:
    """The encoding of runs that a set of them teaches: `encode` gives points (n, F), `group` (F,)
    the column of each coordinate, `names` the columns.
    """

    def __init__(self, frame: pd.DataFrame, names: Sequence[str]):
        self.columns = columns_of(frame, names)
        self.names = [c.name for c in self.columns]
        widths = [c.width for c in self.columns]
        self.group = np.repeat(np.arange(len(widths)), widths)
        self._starts = np.cumsum([0, *widths])
        self._means = np.zeros(int(self._starts[-1]))
        points, known = self._place(frame)
        count = np.maximum(known.sum(axis=0), 1)[self.group]
        self._means = np.where(known[:, self.group], points, 0.0).sum(axis=0) / count

    def encode(self, frame: pd.DataFrame) -> np.ndarray:
        """Points of the runs of `frame`, which may lack columns, (n, F)."""
        return self._place(frame)[0]

    def _place(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Points (n, F), and of which columns each run's task says something (n, columns)."""
        tasks = pd.factorize(frame[TASK])[0] if TASK in frame else np.zeros(len(frame), dtype=int)
        points = np.tile(self._means, (len(frame), 1))
        known = np.zeros((len(frame), len(self.columns)), dtype=bool)
        for k, (column, start) in enumerate(zip(self.columns, self._starts[:-1], strict=True)):
            source = column.source if isinstance(column, PartsColumn) else column.name
            if source not in frame.columns:
                continue
            coordinates, empty = column.place(frame[source])
            says = np.zeros(int(tasks.max(initial=-1)) + 1, dtype=bool)
            np.logical_or.at(says, tasks, ~empty)
            known[:, k] = says[tasks]
            at = slice(start, start + column.width)
            points[known[:, k], at] = coordinates[known[:, k]]
        return points, known
