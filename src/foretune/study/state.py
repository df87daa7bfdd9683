"""What is known of a study: a fold over the events of its journal, as arrays.

Notation: n configurations known to the study, E = `max_epoch`.

| array     | shape  | meaning                                                            |
|-----------|--------|--------------------------------------------------------------------|
| `X`       | (n, d) | encoded configurations                                             |
| `Y`       | (n, E) | observed, higher is better, NaN where not; column j is epoch j + 1 |
| `epoch`   | (n,)   | last epoch told                                                    |
| `pending` | (n,)   | epoch that a step under way will reach, 0 if none                  |
| `failed`  | (n,)   | diverged, out of memory, ...: no further step is taken             |
"""

import copy
import math
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from foretune.errors import BadInput, BadSuggestion
from foretune.space.space import Config, Space, config_key
from foretune.study.journal import finite
from foretune.study.pace import Costs, seconds_of
from foretune.study.plan import Plan, Step
from foretune.study.told import told_row

if TYPE_CHECKING:
    import pandas as pd

    from foretune.history.meta_dataset import MetaDataset


class State:
    """Everything that the events of a study say, for searchers to read.

    `space` is the search space, `configs` the pool of configurations; `past` holds the curves of
    past tasks for searchers that transfer, `runs` past runs of any space and settings (a row each:
    `task`, `score`, higher is better, and what they were run with).
    """

    def __init__(
        self,
        space: Space,
        configs: Sequence[Config],
        plan: Plan,
        *,
        past: "MetaDataset | None" = None,
        runs: "pd.DataFrame | None" = None,
    ):
        self.space, self.plan, self.past, self.runs = space, plan, past, runs
        self.configs: list[Config] = []
        self._row_of: dict[str, int] = {}
        d, epochs = space.dims, plan.max_epoch
        self.X = np.empty((0, d))
        self.Y = np.empty((0, epochs))
        self.start_value = np.empty(0)
        self.epoch = np.empty(0, dtype=int)
        self.pending = np.empty(0, dtype=int)
        self.failed = np.empty(0, dtype=bool)
        self.past_ids = np.empty(0, dtype=int)
        self.asked = 0
        self.spent = 0
        self.elapsed = 0.0  # seconds that the study has run, over all its runs
        self._kept_elapsed = 0.0
        self._first_began = 0.0  # `elapsed` when the first epoch told began
        self.concluded = False  # whether no step can end any more in the time that there is
        # what is known beforehand of the costs of a study with a time budget
        self.costs = Costs()
        self.started: list[int] = []
        self.order: list[tuple[int, int]] = []
        # `elapsed` as each epoch of `order` was told, NaN where that was not said
        self.times: list[float] = []
        # every step asked for, with its reason and the seconds the decision took
        self.steps: list[dict[str, Any]] = []
        # the raw rows of each trial, metric in its own unit
        self.rows: dict[int, list[dict[str, Any]]] = {}
        self.failures: dict[int, tuple[int, str]] = {}
        self._add(space.pool(configs))

    # -- what a searcher reads
    # --------------------------------------------------------------------------------------------
    @property
    def max_epoch(self) -> int:
        """Epochs of a full training."""
        return self.plan.max_epoch

    @property
    def seed(self) -> int:
        """The seed of the study's suggestions."""
        return self.plan.seed

    @property
    def open_space(self) -> bool:
        """Whether configurations outside the pool may be proposed."""
        return self.plan.open

    @property
    def best(self) -> np.ndarray:
        """Best observed value of each configuration, -inf where none; (n,)."""
        return np.where(np.isnan(self.Y), -np.inf, self.Y).max(axis=1, initial=-np.inf)

    @property
    def incumbent(self) -> tuple[int, int, float] | None:
        """(configuration, epoch, value) of the best observation, higher is better; None before the
        first.
        """
        if not np.isfinite(self.Y).any():
            return None
        where = int(np.nanargmax(self.Y))
        i, j = divmod(where, self.max_epoch)
        return i, j + 1, float(self.Y[i, j])

    def rng(self) -> np.random.Generator:
        """The generator of the next decision: a function of seed, task and how many decisions were
        made, so a resumed study repeats none.

        The task counts because tables are averaged over tasks, and own studies are each other's
        history: with one seed they all would draw the same configurations.
        """
        return np.random.default_rng([self.seed, self.asked, zlib.crc32(self.plan.task.encode())])

    def pending_steps(self) -> list[Step]:
        """Steps asked for and not finished: what a resumed study takes up first."""
        ids = np.flatnonzero(self.pending)
        reasons = {s["config_id"]: s["because"] for s in self.steps}
        return [
            Step(int(i), int(self.epoch[i]), int(self.pending[i]), reasons.get(int(i), {}))
            for i in ids
        ]

    def id_of(self, config: Config) -> int | None:
        """The id of the configuration that equals `config`, None if the study knows none."""
        return self._row_of.get(self._key(config))

    def with_configs(self, configs: Sequence[Config]) -> Self:
        """This state as it would be with `configs` in its pool: a view for a searcher to reckon
        with, which is never told anything and leaves the study alone; the state itself where it
        knows them all. Raises as `propose` does.
        """
        new = self._unknown(configs)
        if not new:
            return self
        view = copy.copy(self)
        view.configs, view._row_of = list(self.configs), dict(self._row_of)
        view._add(new)
        return view

    @property
    def _promised(self) -> int:
        return int(np.maximum(self.pending - self.epoch, 0).sum())

    @property
    def _allowed(self) -> int:
        """Epochs that may be promised to another step: those of the plan. Time sets its limit to
        each configuration (`reach`): a worker that is free has that of all the time that is left.
        """
        budget = self.plan.budget
        return sys.maxsize if budget is None else budget - self.spent - self._promised

    @property
    def _trainable(self) -> np.ndarray:
        return ~self.failed & (self.pending == 0) & (self.epoch < self.max_epoch)

    # -- the fold
    # --------------------------------------------------------------------------------------------
    def _apply(self, event: dict[str, Any]) -> None:
        i = event.get("config_id", -1)
        match event["event"]:
            case "config":
                self._add([event["config"]])
            case "ask":
                self.asked += 1
                if event["start"] == 0 and i not in self.rows:
                    self.started.append(i)
                    self.rows[i] = []
                self.pending[i] = event["stop"]
                self.steps.append(event)
                self._apply_clock(event.get("elapsed") or 0.0)
            case "epoch":
                self._apply_epoch(i, event["row"], event.get("elapsed"))
                self._apply_clock(event.get("elapsed") or 0.0)
            case "clock":
                self._apply_clock(event["elapsed"])
                self.concluded = self.concluded or bool(event.get("over"))
            case "fail" if self.failed[i] or self.epoch[i] >= self.max_epoch:
                pass  # journals hold such events from when they were not passed over
            case "fail":
                if i not in self.rows:
                    self.started.append(i)
                    self.rows[i] = []
                if self.epoch[i] < min(
                    event["epoch"], self.max_epoch
                ):  # an epoch that failed before it could be told was paid for all the same
                    self.spent += 1
                    self.order.append((i, int(self.epoch[i]) + 1))
                    self.times.append(math.nan)
                    self.epoch[i] += 1
                    self.rows[i].append({"epoch": int(self.epoch[i]), self.plan.metric: math.nan})
                self.failed[i], self.pending[i] = True, 0
                self.failures[i] = (event["epoch"], event["reason"])
            case "release":
                self.pending[i] = 0
            case "budget":
                self.plan = replace(self.plan, budget=event["budget"], seconds=event["seconds"])
                self.concluded = False
            case "note":
                self.plan = replace(self.plan, notes=self.plan.notes.noting(event["facts"]))

    def _apply_clock(self, seconds: float) -> None:
        self.elapsed = self._kept_elapsed = max(self.elapsed, seconds)

    def _apply_epoch(self, i: int, row: dict[str, Any], elapsed: float | None) -> None:
        value = (
            self.plan.sign * row[self.plan.metric] if finite(row[self.plan.metric]) else math.nan
        )
        # told without having been asked for: a trial the user ran on their own
        if i not in self.rows:
            self.started.append(i)
        self.rows.setdefault(i, []).append(row)
        if row["epoch"] == 0:
            self.start_value[i] = value
            return
        self.Y[i, row["epoch"] - 1] = value
        self.epoch[i] = row["epoch"]
        self.spent += 1
        self.order.append((i, row["epoch"]))
        self.times.append(math.nan if elapsed is None else elapsed)
        if len(self.times) == 1 and elapsed is not None:
            self._first_began = max(0.0, elapsed - (seconds_of(row) or 0.0))
        # the row itself says that the trial diverged, so no kill can part the two
        if math.isnan(value):
            self.failed[i] = True
            self.failures[i] = (row["epoch"], f"{self.plan.metric} is {row[self.plan.metric]}")
        if self.failed[i] or self.epoch[i] >= self.pending[i]:
            self.pending[i] = 0

    def _add(self, new: list[Config]) -> None:
        n = len(new)
        for config in new:
            self._row_of.setdefault(config_key(config), len(self.configs))
            self.configs.append(config)
        self.X = np.vstack([self.X, self.space.encode(new)])
        self.Y = np.vstack([self.Y, np.full((n, self.max_epoch), np.nan)])
        self.start_value = np.append(self.start_value, np.full(n, np.nan))
        self.epoch = np.append(self.epoch, np.zeros(n, dtype=int))
        self.pending = np.append(self.pending, np.zeros(n, dtype=int))
        self.failed = np.append(self.failed, np.zeros(n, dtype=bool))
        ids = self.past.rows_of(new) if self.past is not None else np.full(n, -1)
        self.past_ids = np.append(self.past_ids, ids)

    # -- what cannot be
    # --------------------------------------------------------------------------------------------
    def _refuse_impossible(self, event: dict[str, Any]) -> None:
        """Raise `BadInput` for an event of a journal that asking, telling and proposing would have
        refused.
        """
        kind = event["event"]
        if kind in ("ask", "epoch", "fail", "release"):
            if not isinstance(event["config_id"], int):
                raise BadInput(f"configuration {event['config_id']!r} must be a whole number")
            i = self._known(event["config_id"])
        match kind:
            case "config":
                if config_key(event["config"]) in self._row_of:
                    raise BadInput(f"{event['config']} is in the study already")
                if not self.open_space:
                    raise BadInput("the study is not open to new configurations")
            case "ask":
                self._check(i, event["start"], event["stop"])
                if event["stop"] - event["start"] > self._allowed:
                    raise BadInput(
                        f"a step from epoch {event['start']} to {event['stop']} does not fit into "
                        f"the {self._allowed} epochs that remain of {self.plan.budget}"
                    )
            case "epoch":
                told_row(event["row"], self.plan.metric)
                if (elapsed := event.get("elapsed")) is not None and not finite(elapsed):
                    raise BadInput(f"elapsed is {elapsed}, not a number of seconds")
                first, told = int(self.epoch[i]), event["row"]["epoch"]
                last = int(self.pending[i]) or self.max_epoch
                before = told == 0 and first == 0 and not self.rows.get(i)
                if self.failed[i] or not (before or told == first + 1 <= last):
                    state = "has failed" if self.failed[i] else "may be told more"
                    raise BadInput(
                        f"configuration {i} is at epoch {first}, {state} up to epoch {last}, and "
                        f"epoch {told} follows"
                    )
            case "fail" | "release" | "clock" | "budget" | "note":
                pass
            case _:
                raise BadInput(f"{kind!r} is no event")

    def _check(self, config_id: int, start: int, stop: int) -> None:
        """Raise `BadSuggestion` if this configuration, or a new one, cannot take this step."""
        is_new = config_id >= len(self.configs)
        if not is_new and not self._trainable[config_id]:
            state = (
                "has failed"
                if self.failed[config_id]
                else "is being trained"
                if self.pending[config_id]
                else "is fully trained"
            )
            raise BadSuggestion(
                f"configuration {config_id} {state} and cannot take the suggested step to epoch "
                f"{stop}"
            )
        reached = 0 if is_new else int(self.epoch[config_id])
        if start != reached or not start < stop <= self.max_epoch:
            raise BadSuggestion(
                f"configuration {config_id} is at epoch {reached} of {self.max_epoch}; "
                f"suggested was {start} to {stop}"
            )

    def _unknown(self, configs: Sequence[Config]) -> list[Config]:
        """Those of `configs` that are new to the study, each once. Raises `BadSuggestion` where it
        takes none, `BadInput` where one is not of its space.
        """
        new: dict[str, Config] = {}
        for given in configs:
            config = self.space.typed(given)
            key = config_key(config)
            if key in self._row_of or key in new:
                continue
            if not self.open_space:
                raise BadSuggestion(
                    f"{config} is not in the pool of this study, which is not open to new "
                    "configurations"
                )
            self.space.check(config)
            new[key] = config
        return list(new.values())

    def _key(self, config: Config) -> str:
        return config_key(self.space.typed(config))

    def _known(self, config_id: int) -> int:
        if not 0 <= config_id < len(self.configs):
            raise BadInput(
                f"configuration {config_id} is unknown: the study has {len(self.configs)}"
            )
        return int(config_id)
