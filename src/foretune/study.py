"""A study: one task being tuned, as a fold over the journal of what happened.

Notation: n configurations known to the study, E = `max_epoch`.

| array           | shape   | meaning                                                                                  |
|-----------------|---------|------------------------------------------------------------------------------------------|
| `X`             | (n, d)  | encoded configurations                                                                   |
| `Y`             | (n, E)  | observed values, higher is better, NaN where not observed; column j is epoch j + 1        |
| `epoch`         | (n,)    | last epoch told                                                                          |
| `pending`       | (n,)    | epoch that a step under way will reach, 0 if none                                        |
| `failed`        | (n,)    | diverged, out of memory, ...: no further step is taken                                   |

Every change is an event, a dict that is appended to `journal.jsonl` (one write, fsynced) before it is applied, so a killed study is read back
to the very epoch that was told last. A torn last line is dropped.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretune.errors import BadInput, BadSuggestion
from foretune.files import append_lines, write_json
from foretune.space import Config, Space, config_key

if TYPE_CHECKING:
    from foretune.meta import MetaDataset
    from foretune.searchers.base import Searcher


@dataclass(frozen=True)
class Step:
    """Take configuration `config_id` from epoch `start` (so many are done) to epoch `stop`; `because` says why and by which past tasks."""

    config_id: int
    start: int
    stop: int
    because: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Epochs that this step costs."""
        return self.stop - self.start


@dataclass(frozen=True)
class Plan:
    """What defines a study and never changes, except that a budget may be raised when it is continued.

    `budget` counts epochs of training; `seconds` of wall-clock, None for no limit. `open` studies may try configurations outside the pool.
    """

    task: str
    metric: str
    goal: str
    max_epoch: int
    budget: int
    method: str = "random"
    seed: int = 0
    seconds: float | None = None
    open: bool = False
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.goal not in ("maximize", "minimize"):
            raise BadInput(f"goal={self.goal!r} must be 'maximize' or 'minimize'")
        if self.max_epoch < 1:
            raise BadInput(f"max_epoch={self.max_epoch} must be at least 1")
        if self.budget < 1:
            raise BadInput(f"budget={self.budget} must be at least 1 epoch")
        if self.seconds is not None and not self.seconds > 0:
            raise BadInput(f"seconds={self.seconds} must be positive")

    @property
    def sign(self) -> float:
        """Multiplier that makes the metric higher-is-better."""
        return 1.0 if self.goal == "maximize" else -1.0


class Study:
    """Ask a searcher for steps, tell their values; keeps the history as arrays and, given a folder, on disk.

    `space` is the search space, `configs` the pool of configurations; `past` holds the curves of past tasks for searchers that transfer.
    """

    def __init__(
        self, space: Space, configs: Sequence[Config], plan: Plan, *, past: "MetaDataset | None" = None, folder: Path | None = None
    ):
        self.space, self.plan, self.past, self.folder = space, plan, past, folder
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
        self.elapsed = 0.0
        self.started: list[int] = []
        self.order: list[tuple[int, int]] = []
        self.steps: list[dict[str, Any]] = []  # every step asked for, with its reason and the seconds the decision took
        self.rows: dict[int, list[dict[str, Any]]] = {}  # the raw rows of each trial, metric in its own unit
        self.failures: dict[int, tuple[int, str]] = {}
        self._add(list(configs))
        if folder is not None:
            self._open_journal()

    # -- what a searcher reads ---------------------------------------------------------------------------------------------------
    @property
    def budget(self) -> int:
        """Epochs that may be spent in all."""
        return self.plan.budget

    @property
    def max_epoch(self) -> int:
        """Epochs of a full training."""
        return self.plan.max_epoch

    @property
    def seed(self) -> int:
        """The seed of the study's suggestions."""
        return self.plan.seed

    @property
    def remaining(self) -> int:
        """Epochs that are neither spent nor promised to a pending step."""
        return self.budget - self.spent - int(np.maximum(self.pending - self.epoch, 0).sum())

    @property
    def open_space(self) -> bool:
        """Whether configurations outside the pool may be proposed."""
        return self.plan.open

    @property
    def available(self) -> np.ndarray:
        """Configurations that can take a step now: not failed, not pending, not finished; (n,) bool."""
        return ~self.failed & (self.pending == 0) & (self.epoch < self.max_epoch)

    @property
    def best(self) -> np.ndarray:
        """Best observed value of each configuration, -inf where none; (n,)."""
        return np.where(np.isnan(self.Y), -np.inf, self.Y).max(axis=1, initial=-np.inf)

    @property
    def incumbent(self) -> tuple[int, int, float] | None:
        """(configuration, epoch, value) of the best observation, higher is better; None before the first."""
        if not np.isfinite(self.Y).any():
            return None
        where = int(np.nanargmax(self.Y))
        i, j = divmod(where, self.max_epoch)
        return i, j + 1, float(self.Y[i, j])

    @property
    def done(self) -> bool:
        """Whether the budget (epochs or seconds) is spent, or nothing is left to train."""
        exhausted = not self.open_space and not self.pending.any() and not self.available.any()
        return self.spent >= self.budget or self.out_of_time or exhausted

    @property
    def out_of_time(self) -> bool:
        """Whether the wall-clock budget is used up."""
        return self.plan.seconds is not None and self.elapsed >= self.plan.seconds

    def rng(self) -> np.random.Generator:
        """The generator of the next decision: a function of the seed and of how many decisions were made, so a resumed study repeats none."""
        return np.random.default_rng([self.seed, self.asked])

    def pending_steps(self) -> list[Step]:
        """Steps asked for and not finished: what a resumed study takes up first."""
        ids = np.flatnonzero(self.pending)
        reasons = {s["config_id"]: s["because"] for s in self.steps}
        return [Step(int(i), int(self.epoch[i]), int(self.pending[i]), reasons.get(int(i), {})) for i in ids]

    # -- what changes a study ----------------------------------------------------------------------------------------------------
    def ask(self, searcher: "Searcher") -> Step | None:
        """The next step, or None if there is nothing to do now (wait for a pending step, or the study is done).

        The step is cut to the remaining budget. Raises `BadSuggestion` if the searcher suggests what cannot be taken.
        """
        if self.done or self.remaining <= 0:
            return None
        began = time.perf_counter()
        step = searcher.suggest(self, self.rng())
        seconds = time.perf_counter() - began
        if step is None:
            return None
        self._check(step)
        step = Step(step.config_id, step.start, min(step.stop, step.start + self.remaining), step.because)
        self._record({"event": "ask", **asdict(step), "because": dict(step.because), "seconds": round(seconds, 6)})
        return step

    def propose(self, config: Config) -> int:
        """Add a configuration to an open study; returns its id (that of an equal one, if known). Raises `BadInput`."""
        key = config_key(config)
        if key not in self._row_of:
            if not self.open_space:
                raise BadSuggestion(f"{config} is not in the pool of this study, which is not open to new configurations")
            self.space.check(config)
            self._record({"event": "config", "config": config})
        return self._row_of[key]

    def tell(self, step: Step, values: Sequence[float] | Sequence[Mapping[str, Any]], elapsed: float | None = None) -> None:
        """Report the next epochs of a step: numbers in the metric's own unit, or rows with `epoch` and the metric.

        A value that is not finite ends the trial as diverged. Epochs that were told before are passed over, so that telling twice is harmless.
        """
        first = int(self.epoch[step.config_id])
        rows: list[dict[str, Any]] = []
        for k, value in enumerate(values):
            row = dict(value) if isinstance(value, Mapping) else {"epoch": first + 1 + k, self.plan.metric: float(value)}
            if self.plan.metric not in row:
                raise BadInput(f"a told row lacks the study's metric {self.plan.metric!r}; it has {', '.join(row)}")
            if row["epoch"] > first or (row["epoch"] == 0 and first == 0):
                rows.append(row)
        epochs = [r["epoch"] for r in rows if r["epoch"] > 0]
        if epochs != list(range(first + 1, first + 1 + len(epochs))) or first + len(epochs) > self.max_epoch:
            raise BadInput(f"configuration {step.config_id} is at epoch {first} of {self.max_epoch}; told were epochs {epochs}")
        events = [{"event": "epoch", "config_id": step.config_id, "row": row, "elapsed": elapsed} for row in rows]
        for k, row in enumerate(rows):
            if row["epoch"] > 0 and not math.isfinite(row[self.plan.metric]):
                events[k + 1 :] = [self._failure(step.config_id, row["epoch"], f"{self.plan.metric} is {row[self.plan.metric]}")]
                break
        self._record(*events)

    def fail(self, step: Step, epoch: int, reason: str) -> None:
        """End a trial: it failed in `epoch` (which was not told) for `reason`; the epoch counts as spent."""
        self._record(self._failure(step.config_id, epoch, reason))

    def release(self, step: Step) -> None:
        """Give a pending step back: it will not be finished now, and its configuration may be suggested again."""
        if self.pending[step.config_id]:
            self._record({"event": "release", "config_id": step.config_id})

    def note(self, **facts: Any) -> None:
        """Keep facts with the study (`plan.notes`), such as the test accuracy at its end."""
        self._record({"event": "note", "facts": facts})

    def raise_budget(self, budget: int, seconds: float | None = None) -> None:
        """Change the budget of a study that is continued."""
        self._record({"event": "budget", "budget": budget, "seconds": seconds})

    # -- tables ------------------------------------------------------------------------------------------------------------------
    def to_meta(self) -> "MetaDataset":
        """This study as a meta-dataset of one task."""
        from foretune.meta import MetaDataset

        key = {"task": self.plan.task, "seed": 0}
        rows = [{**key, "config_id": i, **row} for i, rows in self.rows.items() for row in rows]
        configs = {i: self.configs[i] for i in sorted(self.rows)}
        about = {"name": self.folder.name if self.folder else self.plan.task, "max_epoch": self.max_epoch, "tasks": [self.plan.task]}
        return MetaDataset.build(self.space, configs, rows, metric=self.plan.metric, goal=self.plan.goal, source="foretune study", **about)

    def save_tables(self) -> None:
        """Write the study's meta-dataset files into its folder, by rename."""
        if self.folder is not None and self.rows:
            self.to_meta().save(self.folder)

    # -- inside ------------------------------------------------------------------------------------------------------------------
    def _check(self, step: Step) -> None:
        i = step.config_id
        if not 0 <= i < len(self.configs):
            raise BadSuggestion(f"configuration {i} is unknown: the study has {len(self.configs)}")
        if not self.available[i]:
            state = "has failed" if self.failed[i] else "is being trained" if self.pending[i] else "is fully trained"
            raise BadSuggestion(f"configuration {i} {state} and cannot take the suggested step to epoch {step.stop}")
        if step.start != self.epoch[i] or not step.start < step.stop <= self.max_epoch:
            raise BadSuggestion(f"configuration {i} is at epoch {self.epoch[i]} of {self.max_epoch}; suggested was {step.start} to {step.stop}")

    def _failure(self, config_id: int, epoch: int, reason: str) -> dict[str, Any]:
        return {"event": "fail", "config_id": config_id, "epoch": int(epoch), "reason": reason}

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

    def _record(self, *events: dict[str, Any]) -> None:
        if self.folder is not None and events:
            append_lines(self.folder / "journal.jsonl", [json.dumps(e) for e in events])
        for event in events:
            self._apply(event)

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
            case "epoch":
                self._apply_epoch(i, event["row"])
                self.elapsed = max(self.elapsed, event.get("elapsed") or 0.0)
            case "fail":
                if event["epoch"] > self.epoch[i]:  # an epoch that failed before it could be told was paid for all the same
                    self.spent += 1
                    self.order.append((i, int(self.epoch[i]) + 1))
                    self.epoch[i] += 1
                    self.rows.setdefault(i, []).append({"epoch": int(self.epoch[i]), self.plan.metric: math.nan})
                self.failed[i], self.pending[i] = True, 0
                self.failures[i] = (event["epoch"], event["reason"])
            case "release":
                self.pending[i] = 0
            case "budget":
                self.plan = Plan(**{**asdict(self.plan), "budget": event["budget"], "seconds": event["seconds"]})
            case "note":
                self.plan = Plan(**{**asdict(self.plan), "notes": {**self.plan.notes, **event["facts"]}})

    def _apply_epoch(self, i: int, row: dict[str, Any]) -> None:
        value = row[self.plan.metric]
        value = self.plan.sign * value if value is not None and math.isfinite(value) else math.nan
        if i not in self.rows:  # told without having been asked for: a trial the user ran on their own
            self.started.append(i)
        self.rows.setdefault(i, []).append(row)
        if row["epoch"] == 0:
            self.start_value[i] = value
            return
        self.Y[i, row["epoch"] - 1] = value
        self.epoch[i] = row["epoch"]
        self.spent += 1
        self.order.append((i, row["epoch"]))
        if self.epoch[i] >= self.pending[i]:
            self.pending[i] = 0

    def _open_journal(self) -> None:
        assert self.folder is not None
        header = {**asdict(self.plan), "configs": self.configs}
        journal = self.folder / "journal.jsonl"
        if not (self.folder / "study.json").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.space.save(self.folder / "space.json")
            write_json(self.folder / "study.json", header)
        elif journal.exists():
            for event in read_journal(journal):
                self._apply(event)

    @classmethod
    def load(cls, folder: Path | str, past: "MetaDataset | None" = None) -> "Study":
        """Read a study back from its folder, to the last epoch told. Raises `BadInput` if there is none."""
        folder = Path(folder)
        try:
            header = json.loads((folder / "study.json").read_text())
            configs = header.pop("configs")
            plan = Plan(**header)
        except FileNotFoundError as error:
            raise BadInput(f"{folder} holds no study (no study.json)") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{folder / 'study.json'} is damaged: {error}") from error
        return cls(Space.load(folder / "space.json"), configs, plan, past=past, folder=folder)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The events of a journal; lines torn by a kill are passed over."""
    events = []
    for line in path.read_bytes().split(b"\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events
