"""The meta-dataset: configurations and learning curves over many tasks.

A published benchmark, the meta-dataset that foretune trains and every finished study are the same four files in a folder:

| file              | content                                                                                         |
|-------------------|-------------------------------------------------------------------------------------------------|
| `space.json`      | the ConfigSpace JSON of the search space                                                        |
| `configs.parquet` | `config_id`, then a column per hyperparameter, empty where inactive                             |
| `curves.parquet`  | long form: `task, config_id, seed, epoch, <metric>, ...`; epoch 0 is before training            |
| `about.json`      | `name`, `source`, `metric`, `goal` (`maximize` or `minimize`), `max_epoch`, `tasks`, notes       |

A row that is missing was never trained; a row whose metric is NaN diverged at that epoch.

Shapes: T tasks, n configurations, E epochs. Arrays are higher-is-better: a metric to minimise is negated here, at the border.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.files import replace, write_json
from foretune.space import Config, Space, config_key, plain

KEYS = ["task", "config_id", "seed", "epoch"]
KEY_TYPES = {"config_id": "int32", "seed": "int16", "epoch": "int16"}


class MetaDataset:
    """Learning curves of shared configurations over tasks; `table` is the long data frame behind it."""

    def __init__(self, space: Space, config_ids: Sequence[int], configs: Sequence[Config], table: pd.DataFrame, about: Mapping[str, Any]):
        self.space = space
        self.config_ids = list(config_ids)
        self.configs = list(configs)
        self.table = table
        self.about = dict(about)
        self.name: str = self.about.get("name", "meta-dataset")
        self.metric: str = self.about["metric"]
        self.goal: str = self.about["goal"]
        self.sign = 1.0 if self.goal == "maximize" else -1.0
        self.tasks: list[str] = list(self.about.get("tasks") or sorted(table["task"].unique()))
        self.max_epoch = int(self.about.get("max_epoch") or table["epoch"].max())
        self._dense: dict[tuple[str, str, int], np.ndarray] = {}

    @classmethod
    def build(
        cls, space: Space, configs: Mapping[int, Config], rows: Sequence[Mapping[str, Any]] | pd.DataFrame, *, metric: str, goal: str, **about: Any
    ) -> "MetaDataset":
        """Make a meta-dataset from configurations by id and rows with `task, config_id, seed, epoch` and the metrics."""
        if goal not in ("maximize", "minimize"):
            raise BadInput(f"goal={goal!r} must be 'maximize' or 'minimize'")
        table = pd.DataFrame(rows, columns=None if len(rows) else [*KEYS, metric])
        return cls(space, list(configs), list(configs.values()), table, {"metric": metric, "goal": goal, **about})

    @classmethod
    def load(cls, folder: Path | str) -> "MetaDataset":
        """Read a meta-dataset folder. Raises `BadInput` that names the missing or unreadable file."""
        folder = Path(folder)
        names = ("about.json", "space.json", "configs.parquet", "curves.parquet")
        if missing := [n for n in names if not (folder / n).is_file()]:
            raise BadInput(f"{folder} is not a meta-dataset: it lacks {', '.join(missing)}")
        try:
            about = json.loads((folder / "about.json").read_text())
            configs = pd.read_parquet(folder / "configs.parquet")
            table = pd.read_parquet(folder / "curves.parquet")
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors and OSErrors
            raise BadInput(f"{folder} cannot be read: {error}") from error
        for key in ("metric", "goal"):
            if key not in about:
                raise BadInput(f"{folder / 'about.json'} lacks {key!r}")
        if lacking := [c for c in [*KEYS, about["metric"]] if c not in table]:
            raise BadInput(f"{folder / 'curves.parquet'} lacks the columns {', '.join(lacking)}; it has {', '.join(map(str, table.columns))}")
        space = Space.load(folder / "space.json")
        if lacking := [n for n in space.names if n not in configs]:
            raise BadInput(f"{folder / 'configs.parquet'} lacks the hyperparameters {', '.join(lacking)} of space.json")
        return cls(space, configs["config_id"].tolist(), config_dicts(configs, space), table, about)

    def save(self, folder: Path | str) -> None:
        """Write the four files, each by rename; `curves.parquet` is sorted, so that equal content gives equal files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.space.save(folder / "space.json")
        records = [{"config_id": i, **c} for i, c in zip(self.config_ids, self.configs, strict=True)]
        configs = pd.DataFrame(records, columns=["config_id", *self.space.names]).convert_dtypes(convert_string=False)
        table = self.table.sort_values(KEYS, ignore_index=True).astype(KEY_TYPES)
        for target, frame in (("configs.parquet", configs), ("curves.parquet", table)):
            with replace(folder / target) as temporary:
                frame.to_parquet(temporary, index=False, compression="zstd")
        tasks = self.tasks if self.about.get("tasks") else sorted(self.table["task"].unique())
        write_json(folder / "about.json", {**self.about, "max_epoch": self.max_epoch, "tasks": tasks})

    def __len__(self) -> int:
        return len(self.configs)

    @cached_property
    def X(self) -> np.ndarray:  # noqa: N802  (the field's notation)
        """Encoded configurations, (n, dims)."""
        return self.space.encode(self.configs)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of a configuration by its content (`config_key`)."""
        return {config_key(c): i for i, c in enumerate(self.configs)}

    def rows_of(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """The row of each given configuration, -1 where this meta-dataset does not know it; (m,) int."""
        return np.array([self.row_of.get(config_key(c), -1) for c in configs], dtype=int)

    def curves(self, task: str, seed: int = 0, metric: str | None = None) -> np.ndarray:
        """Learning curves (n, E), column j = epoch j + 1, higher is better; NaN where missing or diverged. Raises `BadInput`."""
        return self._dense_of(task, seed, metric)[0]

    def start(self, task: str, seed: int = 0) -> np.ndarray:
        """Value before training (epoch 0) by configuration, (n,); NaN where the table has none."""
        return self._dense_of(task, seed, None)[1]

    def failed(self, task: str, seed: int = 0) -> np.ndarray:
        """Where a row exists whose value is not finite (the configuration diverged there), (n, E) bool."""
        return self._dense_of(task, seed, None)[2].astype(bool)

    def Y(self, tasks: Sequence[str] | None = None, seed: int = 0) -> np.ndarray:  # noqa: N802
        """Learning curves of several tasks (default: all), (T, n, E)."""
        tasks = self.tasks if tasks is None else tasks
        if not tasks:
            return np.empty((0, len(self), self.max_epoch))
        return np.stack([self.curves(t, seed) for t in tasks])

    def best(self, tasks: Sequence[str] | None = None, seed: int = 0) -> np.ndarray:
        """Best value over epochs, (T, n); NaN for a configuration without any finite value."""
        values = np.where(np.isnan(y := self.Y(tasks, seed)), -np.inf, y).max(axis=2, initial=-np.inf)
        return np.where(np.isfinite(values), values, np.nan)

    def select(self, tasks: Sequence[str]) -> "MetaDataset":
        """The same configurations, restricted to `tasks`. Raises `BadInput` on an unknown task."""
        for task in tasks:
            self.check_task(task)
        table = self.table[self.table["task"].isin(list(tasks))]
        return MetaDataset(self.space, self.config_ids, self.configs, table, {**self.about, "tasks": list(tasks), "max_epoch": self.max_epoch})

    def seeds(self, task: str) -> list[int]:
        """The seeds that `task` was trained with."""
        return sorted(int(s) for s in self.table.loc[self.table["task"] == task, "seed"].unique())

    def check_task(self, task: str) -> None:
        """Raise `BadInput` that lists the tasks, if there is no such one."""
        if task not in self.tasks:
            raise BadInput(f"unknown task {task!r}; {self.name} has {', '.join(self.tasks)}")

    def _dense_of(self, task: str, seed: int, metric: str | None) -> np.ndarray | tuple[np.ndarray, np.ndarray, np.ndarray]:
        metric = metric or self.metric
        key = (task, metric, seed)
        if key not in self._dense:
            self.check_task(task)
            part = self._by_task.get((task, seed))
            n, epochs = len(self.configs), self.max_epoch
            curves, start, failed = np.full((n, epochs), np.nan), np.full(n, np.nan), np.zeros((n, epochs), dtype=bool)
            if part is not None:
                order = {c: i for i, c in enumerate(self.config_ids)}
                rows = np.array([order.get(c, -1) for c in part["config_id"]], dtype=int)
                epoch = part["epoch"].to_numpy(dtype=int)
                values = part[metric].to_numpy(dtype=float) * self.sign
                values[~np.isfinite(values)] = np.nan
                inside = (rows >= 0) & (epoch >= 1) & (epoch <= epochs)
                curves[rows[inside], epoch[inside] - 1] = values[inside]
                failed[rows[inside], epoch[inside] - 1] = np.isnan(values[inside])
                first = (rows >= 0) & (epoch == 0)
                start[rows[first]] = values[first]
            self._dense[key] = (curves, start, failed)  # type: ignore[assignment]
        return self._dense[key]

    @cached_property
    def _by_task(self) -> dict[tuple[str, int], pd.DataFrame]:
        groups = self.table.groupby(["task", "seed"], sort=False)
        return {(str(t), int(s)): part for (t, s), part in groups}  # type: ignore[misc]


def config_dicts(frame: pd.DataFrame, space: Space) -> list[Config]:
    """Rows of `configs.parquet` as plain dicts, empty cells left out, integers as integers."""
    integer = {n for n in space.names if type(space.config_space[n]).__name__.endswith("IntegerHyperparameter")}
    out: list[Config] = []
    for record in frame[space.names].to_dict("records"):
        present = {str(k): plain(v) for k, v in record.items() if not pd.isna(v)}
        out.append({k: int(v) if k in integer else v for k, v in present.items()})
    return out
