"""The meta-dataset: configurations and learning curves over many tasks.

A published benchmark, the meta-dataset that foretune trains and every finished study are the same
four files in a folder:

| file              | content                                                                      |
|-------------------|------------------------------------------------------------------------------|
| `space.json`      | the ConfigSpace JSON of the search space                                     |
| `configs.parquet` | `config_id`, then a column per hyperparameter, empty where inactive; as JSON |
|                   | texts where it may be None or of several types                               |
| `curves.parquet`  | long form: `task, config_id, seed, epoch, <metric>, ...`; epoch 0 is before  |
|                   | training                                                                     |
| `about.json`      | `name`, `source`, `metric`, `goal` (`maximize` or `minimize`), `max_epoch`,  |
|                   | `tasks`, `json_columns` (those of `configs.parquet`, if any), notes          |

A row that is missing was never trained; a row whose metric is NaN diverged at that epoch.

Shapes: T tasks, n configurations, E epochs. Arrays are higher-is-better: a metric to minimise is
negated here, at the border.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretune.errors import BadInput
from foretune.files import replace, write_json
from foretune.history.checks import checked, narrowest, whole_id
from foretune.history.curve_table import KEYS, CurveTable
from foretune.space.space import Config, Space, config_key, plain

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KEYS", "MetaDataset"]
JSON_COLUMNS = (
    "json_columns"  # in about.json: the columns of `configs.parquet` that hold JSON texts
)


class MetaDataset:
    """Learning curves of shared configurations over tasks; `rows` is the long table behind it.

    Raises `BadInput` if `about` is at fault.
    """

    def __init__(
        self,
        space: Space,
        config_ids: Sequence[int],
        configs: Sequence[Config],
        rows: CurveTable,
        about: Mapping[str, Any],
    ):
        if about["goal"] not in ("maximize", "minimize"):
            raise BadInput(f"goal={about['goal']!r} must be 'maximize' or 'minimize'")
        self.space = space
        self.config_ids = list(config_ids)
        self.configs = list(configs)
        self.rows = rows
        self.about = dict(about)
        self.name: str = self.about.get("name", "meta-dataset")
        self.metric: str = self.about["metric"]
        self.goal: str = self.about["goal"]
        self.sign = 1.0 if self.goal == "maximize" else -1.0
        self.tasks: list[str] = list(self.about.get("tasks") or sorted(rows.tasks))
        self.max_epoch = int(self.about.get("max_epoch") or rows.columns["epoch"].max(initial=1))
        if (last := rows.columns["epoch"].max(initial=0)) > self.max_epoch:
            raise BadInput(f"there are rows of epoch {last}, beyond max_epoch {self.max_epoch}")
        self._dense: dict[tuple[str, str, int], Dense] = {}

    @classmethod
    def build(
        cls,
        space: Space,
        configs: Mapping[int, Config],
        rows: "Sequence[Mapping[str, Any]] | pd.DataFrame",
        *,
        metric: str,
        goal: str,
        **about: Any,
    ) -> "MetaDataset":
        """Make a meta-dataset from configurations by id and rows of results.

        Rows have `task, config_id, seed, epoch` and the metrics. Raises `BadInput` for
        configurations that are not of the space, and rows that are none
        (`foretune.history.checks.checked`).
        """
        import pandas as pd

        if isinstance(rows, pd.DataFrame):
            frame = rows
        else:
            frame = pd.DataFrame(rows, columns=None if len(rows) else [*KEYS, metric])
        if lacking := [c for c in KEYS if c not in frame.columns]:
            raise BadInput(
                f"the rows lack {', '.join(lacking)}; they have {', '.join(map(str, frame.columns))}"
            )
        return cls(
            space,
            list(configs),
            space.taken(list(configs.values()), "the configurations"),
            checked(CurveTable.of(frame), list(configs), metric, "the rows"),
            {"metric": metric, "goal": goal, **about},
        )

    @classmethod
    def load(cls, folder: Path | str) -> "MetaDataset":
        """Read a meta-dataset folder.

        Raises `BadInput` that names the missing or unreadable file, and the column of one that
        holds what it should not.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise BadInput(f"there is no meta-dataset folder {folder}")
        names = ("about.json", "space.json", "configs.parquet", "curves.parquet")
        if missing := [n for n in names if not (folder / n).is_file()]:
            raise BadInput(f"{folder} is not a meta-dataset: it lacks {', '.join(missing)}")
        from pyarrow.parquet import ParquetFile

        try:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            with ParquetFile(folder / "configs.parquet") as file:
                records = file.read().to_pylist()
                known = file.schema_arrow.names
            rows = CurveTable.read(folder / "curves.parquet")
        except KeyError as error:
            raise BadInput(f"{folder / 'curves.parquet'} lacks the column task") from error
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors and OSErrors
            raise BadInput(f"{folder} cannot be read: {error}") from error
        if not isinstance(about, dict) or (
            lacking := [key for key in ("metric", "goal") if key not in about]
        ):
            raise BadInput(
                f"{folder / 'about.json'} must be an object that names the metric and the goal"
            )
        space = Space.load(folder / "space.json")
        if lacking := [n for n in ["config_id", *space.names] if n not in known]:
            raise BadInput(
                f"{folder / 'configs.parquet'} lacks the columns {', '.join(lacking)} of space.json"
            )
        where = str(folder / "configs.parquet")
        ids = [whole_id(r["config_id"], where) for r in records]
        configs = [config_of(r, space, about.get(JSON_COLUMNS, ()), where) for r in records]
        configs = space.taken(configs, where)
        rows = checked(rows, ids, about["metric"], str(folder / "curves.parquet"))
        try:
            return cls(space, ids, configs, rows, about)
        except BadInput as error:
            raise BadInput(f"{folder / 'about.json'}: {error}") from error

    @cached_property
    def table(self) -> "pd.DataFrame":
        """The long table as a data frame."""
        return self.rows.frame()

    def save(self, folder: Path | str) -> None:
        """Write the four files, each by rename.

        `curves.parquet` is sorted, so that equal content gives equal files.
        """
        import pandas as pd

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.space.save(folder / "space.json")
        as_text = json_columns(self.space)
        records = [
            {"config_id": i, **{k: json.dumps(v) if k in as_text else v for k, v in c.items()}}
            for i, c in zip(self.config_ids, self.configs, strict=True)
        ]
        configs = pd.DataFrame(records, columns=["config_id", *self.space.names]).astype(
            self._types()
        )
        table = self.table.sort_values(KEYS, ignore_index=True)
        table = table.astype({c: narrowest(table[c].to_numpy(), c) for c in KEYS[1:]})
        table = with_one_type_a_column(table)
        for target, frame in (("configs.parquet", configs), ("curves.parquet", table)):
            with replace(folder / target) as temporary:
                frame.to_parquet(temporary, index=False, compression="zstd")
        tasks = self.tasks if self.about.get("tasks") else sorted(self.rows.tasks)
        about = {k: v for k, v in self.about.items() if k != JSON_COLUMNS}
        about |= {"max_epoch": self.max_epoch, "tasks": tasks}
        write_json(folder / "about.json", about | ({JSON_COLUMNS: as_text} if as_text else {}))

    def _types(self) -> dict[str, str]:
        """Column types of `configs.parquet`: whole numbers stay whole beside empty cells."""
        kinds: dict[type, str] = {int: "Int64", float: "Float64", bool: "boolean"}
        out = {"config_id": "Int64"}
        for name in self.space.names:
            if name in json_columns(self.space):
                out[name] = "object"
                continue
            found = {type(plain(c[name])) for c in self.configs if name in c}
            if len(found) == 1 and (kind := found.pop()) in kinds:
                out[name] = kinds[kind]
        return out

    def __len__(self) -> int:
        return len(self.configs)

    @cached_property
    def X(self) -> np.ndarray:
        """Encoded configurations, (n, dims)."""
        return self.space.encode(self.configs)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of a configuration by its content (`config_key`); the first of equal ones."""
        return {config_key(c): i for i, c in reversed(list(enumerate(self.configs)))}

    def rows_of(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The row of each given configuration, -1 where this meta-dataset does not know it.

        (m,) int.
        """
        # a configuration that the table holds twice keeps its own row where the given pool is this
        # very pool
        mine = self.configs
        return np.array(
            [
                i if i < len(mine) and mine[i] == c else self.row_of.get(config_key(c), -1)
                for i, c in enumerate(configs)
            ],
            dtype=int,
        )

    def curves(self, task: str, seed: int = 0, metric: str | None = None) -> np.ndarray:
        """Learning curves (n, E), column j = epoch j + 1, higher is better.

        NaN where missing or diverged. Raises `BadInput`.
        """
        return self._dense_of(task, seed, metric)[0]

    def start(self, task: str, seed: int = 0) -> np.ndarray:
        """Value before training (epoch 0) by configuration, (n,); NaN where the table has none."""
        return self._dense_of(task, seed, None)[1]

    def failed(self, task: str, seed: int = 0) -> np.ndarray:
        """Where a row exists whose value is not finite (it diverged there), (n, E) bool."""
        return self._dense_of(task, seed, None)[2].astype(bool)

    def Y(self, tasks: Sequence[str] | None = None, seed: int = 0) -> np.ndarray:
        """Learning curves of several tasks (default: all), (T, n, E)."""
        tasks = self.tasks if tasks is None else tasks
        if not tasks:
            return np.empty((0, len(self), self.max_epoch))
        return np.stack([self.curves(t, seed) for t in tasks])

    def best(self, tasks: Sequence[str] | None = None, seed: int = 0) -> np.ndarray:
        """Best value over epochs, (T, n); NaN for a configuration without any finite value."""
        values = np.where(np.isnan(y := self.Y(tasks, seed)), -np.inf, y).max(
            axis=2, initial=-np.inf
        )
        return np.where(np.isfinite(values), values, np.nan)

    def select(self, tasks: Sequence[str]) -> "MetaDataset":
        """The same configurations, restricted to `tasks`. Raises `BadInput` on an unknown task."""
        for task in tasks:
            self.check_task(task)
        tasks = list(dict.fromkeys(tasks))
        about = {**self.about, "tasks": tasks, "max_epoch": self.max_epoch}
        return MetaDataset(self.space, self.config_ids, self.configs, self.rows.only(tasks), about)

    def seeds(self, task: str) -> list[int]:
        """The seeds that `task` was trained with."""
        return np.unique(self.rows.columns["seed"][self.rows.rows(task)]).tolist()

    def check_task(self, task: str) -> None:
        """Raise `BadInput` that lists the tasks, if there is no such one."""
        if task not in self.tasks:
            raise BadInput(f"unknown task {task!r}; {self.name} has {', '.join(self.tasks)}")

    def _dense_of(self, task: str, seed: int, metric: str | None) -> "Dense":
        metric = metric or self.metric
        key = (task, metric, seed)
        if key not in self._dense:
            self.check_task(task)
            if metric not in self.rows.columns:
                raise BadInput(
                    f"unknown metric {metric!r}; {self.name} has "
                    f"{', '.join(c for c in self.rows.columns if c not in KEYS)}"
                )
            n, epochs = len(self.configs), self.max_epoch
            curves = np.full((n, epochs), np.nan)
            start = np.full(n, np.nan)
            failed = np.zeros((n, epochs), dtype=bool)
            part = self.rows.rows(task, seed)
            epoch = self.rows.columns["epoch"][part].astype(int)
            place = self._place_of(self.rows.columns["config_id"][part])
            values = self.rows.columns[metric][part].astype(float) * self.sign
            values[~np.isfinite(values)] = np.nan
            inside = (place >= 0) & (epoch >= 1) & (epoch <= epochs)
            curves[place[inside], epoch[inside] - 1] = values[inside]
            failed[place[inside], epoch[inside] - 1] = np.isnan(values[inside])
            first = (place >= 0) & (epoch == 0)
            start[place[first]] = values[first]
            self._dense[key] = (curves, start, failed)
        return self._dense[key]

    def _place_of(self, config_ids: np.ndarray) -> np.ndarray:
        """Rows of `configs` by stored id, -1 for an id that is not there."""
        ids = np.asarray(self.config_ids)
        if not len(ids):
            return np.full(len(config_ids), -1)
        order = np.argsort(ids, kind="stable")
        at = order[np.minimum(np.searchsorted(ids[order], config_ids), len(ids) - 1)]
        return np.where(ids[at] == config_ids, at, -1)


# curves (n, E), values before training (n,), where diverged (n, E)
Dense = tuple[np.ndarray, np.ndarray, np.ndarray]


def with_one_type_a_column(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table as parquet can hold it: a column of numbers and truth values as numbers, one of
    texts and anything else as texts.
    """
    out = table.copy(deep=False)
    for name in table.columns:
        if name == "task" or table[name].dtype != object:
            continue
        cells = [plain(cell) for cell in table[name]]
        kinds = {type(cell) for cell in cells if cell is not None}
        if str in kinds and len(kinds) > 1:
            out[name] = [cell if _is_empty(cell) else str(cell) for cell in cells]
        elif kinds <= {bool, int, float} and kinds != {bool}:
            out[name] = np.array([math.nan if c is None else float(c) for c in cells])
    return out


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def json_columns(space: Space) -> list[str]:
    """The hyperparameters whose values one column of a table cannot hold as they are: None beside
    "inactive", and options of several types.
    """
    return [
        name
        for name, p in space.parameters.items()
        if None in p.options or len({type(one) for one in p.options}) > 1
    ]


def config_of(
    record: Mapping[str, Any], space: Space, as_json: Sequence[str] = (), where: str = "configs"
) -> Config:
    """A row of `configs.parquet` as a configuration, without its empty cells; the columns
    `as_json` hold JSON texts.

    Numbers and options get the type that the space gives them. In a table that was written without
    JSON texts, an empty cell of an active hyperparameter that may be None is None. Raises
    `BadInput` that names `where` for a text that is no JSON.
    """
    cells: Config = {}
    for name in space.names:
        value = plain(record[name])
        if value is None or (isinstance(value, float) and math.isnan(value)):
            continue
        try:
            cells[name] = json.loads(value) if name in as_json else value
        except (ValueError, TypeError) as error:
            raise BadInput(f"{where}: column {name} has {value!r}, which is no JSON") from error
    known = space.parameters
    unsure = [
        n for n in space.names if n not in cells and n not in as_json and None in known[n].options
    ]
    if unsure:
        active = space.completed({**dict.fromkeys(unsure), **cells}, {})
        cells |= {name: None for name in unsure if name in active}
    return {n: known[n].typed(cells[n]) for n in space.names if n in cells}
