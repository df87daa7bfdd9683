"""A study: one task being tuned, as a fold over the journal of what happened.

Notation: n configurations known to the study, E = `max_epoch`.

| array     | shape  | meaning                                                            |
|-----------|--------|--------------------------------------------------------------------|
| `X`       | (n, d) | encoded configurations                                             |
| `Y`       | (n, E) | observed, higher is better, NaN where not; column j is epoch j + 1 |
| `epoch`   | (n,)   | last epoch told                                                    |
| `pending` | (n,)   | epoch that a step under way will reach, 0 if none                  |
| `failed`  | (n,)   | diverged, out of memory, ...: no further step is taken             |

Every change is an event, a dict that is appended to `journal.jsonl` (one write, fsynced) before it
is applied, so a killed study is read back to the very epoch that was told last. A torn last line is
dropped; anything else that was not written so, or could not have been told, is refused.
"""

import copy
import json
import math
import sys
import time
import weakref
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from foretune.errors import BadInput, BadSuggestion, within
from foretune.files import write_json
from foretune.gaussian.threads import one_thread
from foretune.space.space import Config, Space, config_key
from foretune.study.identity import as_read, differences
from foretune.study.journal import Journal, damaged, finite, journal_in
from foretune.study.lock import StudyLock
from foretune.study.notes import as_json
from foretune.study.pace import Costs, Pace, pace_of, seconds_of
from foretune.study.plan import Plan, Step, Suggestion
from foretune.study.tables import read_cells, refuse_beyond
from foretune.study.told import told_failure, told_row, told_seconds, told_step, told_values

__all__ = ["Plan", "Step", "Study", "Suggestion"]

DRAWN = 32  # configurations that stand for an open space
CLOCK = 10.0  # seconds of a run that a kill may take from the wall-clock's record

if TYPE_CHECKING:
    import pandas as pd

    from foretune.history.meta_dataset import MetaDataset


class Suggests(Protocol):
    """What `Study.ask` needs of a searcher (`foretune.searchers.base.Searcher`)."""

    def suggest(self, study: "Study", rng: np.random.Generator) -> Suggestion | Step | None:
        """What to do next, or None if nothing can be done until a pending step ends."""


class Study:
    """Ask a searcher for steps, tell their values; keeps the history as arrays and, given a folder,
    on disk.

    `space` is the search space, `configs` the pool of configurations; `past` holds the curves of
    past tasks for searchers that transfer, `runs` past runs of any space and settings (a row each:
    `task`, `score`, higher is better, and what they were run with). A `folder` that holds a study
    already is continued, with the budget now given; raises `BadInput` if that study is another one,
    if its journal is damaged, or if another process works on it. The folder is this process's until
    `close`, the end of a `with` block, or the end of the study's life.
    """

    def __init__(
        self,
        space: Space,
        configs: Sequence[Config],
        plan: Plan,
        *,
        past: "MetaDataset | None" = None,
        runs: "pd.DataFrame | None" = None,
        folder: Path | str | None = None,
    ):
        self.space, self.plan, self.past, self.runs = space, plan, past, runs
        self.folder = None if folder is None else Path(folder)
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
        self._pace: tuple[object, Pace] | None = None
        self._usual: tuple[object, Pace] | None = None
        self.started: list[int] = []
        self.order: list[tuple[int, int]] = []
        # `elapsed` as each epoch of `order` was told, NaN where that was not said
        self.times: list[float] = []
        # every step asked for, with its reason and the seconds the decision took
        self.steps: list[dict[str, Any]] = []
        # the raw rows of each trial, metric in its own unit
        self.rows: dict[int, list[dict[str, Any]]] = {}
        self.failures: dict[int, tuple[int, str]] = {}
        self._journal: Journal | None = None
        self._let_go: Callable[[], object] | None = None
        self._add(space.pool(configs))
        if self.folder is not None:
            self._hold(self.folder)
            try:
                self._open(self.folder)
            except BaseException:
                self.close()
                raise

    # -- what a searcher reads
    # ----------------------------------------------------------------------------------------------
    @property
    def budget(self) -> int:
        """Epochs that may be spent in all: the plan's, or what the time that is left has room for
        at the pace of this study.
        """
        planned = self.spent + self._promised + self._epochs_in_time()
        return planned if self.plan.budget is None else min(self.plan.budget, planned)

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
        return self.budget - self.spent - self._promised

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
    def open_space(self) -> bool:
        """Whether configurations outside the pool may be proposed."""
        return self.plan.open

    @property
    def available(self) -> np.ndarray:
        """Configurations that can take a step now: not failed, not pending, not finished, and an
        epoch of them fits into the time that is left; (n,) bool.
        """
        return self._trainable if self.plan.seconds is None else self._trainable & (self.reach > 0)

    @property
    def _trainable(self) -> np.ndarray:
        return ~self.failed & (self.pending == 0) & (self.epoch < self.max_epoch)

    # -- time
    # ----------------------------------------------------------------------------------------------
    @property
    def pace(self) -> Pace:
        """What epochs take, by `costs` and by what was told."""
        state = (self.spent, len(self.configs), len(self.times), self.costs)
        if self._pace is None or self._pace[0] != state:
            last = next((t for t in reversed(self.times) if math.isfinite(t)), 0.0)
            active = last - self._first_began
            self._pace = state, pace_of(self.costs, self.configs, self.X, self.rows, active)
        return self._pace[1]

    @property
    def usual_pace(self) -> Pace:
        """The pace of the configurations that may come: those of the pool, and where others may be
        proposed a few of these too.
        """
        if not self.open_space:
            return self.pace
        state = (self.spent, len(self.times), self.costs)
        if self._usual is None or self._usual[0] != state:
            drawn = self.space.sample(DRAWN, np.random.default_rng(0))
            self._usual = state, self.with_configs(drawn).pace
        return self._usual[1]

    @property
    def seconds_left(self) -> float:
        """Seconds for the search: what the end of the study needs, a final training of the best
        trial so far included, is kept back; infinite without a time budget.
        """
        return max(0.0, self.seconds_to_end - self.final_seconds)

    @property
    def seconds_to_end(self) -> float:
        """Seconds for the search and the final training; infinite without a time budget."""
        if self.plan.seconds is None:
            return math.inf
        return max(0.0, self._end - self.elapsed)

    @property
    def _end(self) -> float:
        """`elapsed` when the last training has to be over."""
        assert self.plan.seconds is not None
        return self.plan.seconds - self.costs.after * self.pace.scale - self.costs.fixed

    @property
    def final_seconds(self) -> float:
        """Seconds that a final training of the best trial so far would take; before there is one,
        of a middling configuration for half of a full training's epochs, at most half of the time
        that there is; 0 where none follows, or no configuration has time for one.
        """
        if not self._finals:
            return 0.0
        if (found := self.incumbent) is None:
            pace = self.usual_pace
            half = np.full(len(pace.log), math.ceil(self.max_epoch / 2))
            middling = float(np.median(pace.final_seconds(half)))
            return min(middling, self.seconds_to_end / 2)
        i, epoch, _ = found
        return float(self.pace.final_seconds(np.full(len(self.configs), epoch))[i])

    @property
    def _finals(self) -> bool:
        """Whether a final training is planned: there was time for one of the cheapest configuration
        when the first epoch began, or an estimate alone says that there was none.
        """
        if self.costs.final is None or self.timeless:
            return False
        pace = self.usual_pace
        one = pace.final_seconds(np.ones(len(pace.log)))
        return not self.pace.timed or float(one.min()) <= self._end - self._first_began

    @property
    def timeless(self) -> bool:
        """Whether time sets no limit to the epochs: there is no such budget, or nothing is known of
        what an epoch takes.
        """
        if self.plan.seconds is None:
            return True
        return self.costs.expected is None and not self.pace.timed

    @property
    def reach(self) -> np.ndarray:
        """Epochs for which each configuration can be trained on in the time that is left, so that
        the final training that it would need as the best one still ends in time: if all goes
        quickly, where steps can be broken off, else if it goes slowly; (n,) int.
        """
        if self.timeless:
            return np.full(len(self.configs), self.max_epoch)
        doubts = -1.0 if self.costs.break_off else 1.0
        epochs = self.pace.reach(self.epoch, self.seconds_left, doubts)
        if self._finals:
            seconds = self.seconds_to_end - self.pace.final_seconds(self.epoch)
            won = self.pace.reach(self.epoch, seconds, max(0.0, doubts), final=True)
            epochs = np.minimum(epochs, won)
        if not self.pace.timed and self.seconds_left > 0:
            epochs = np.maximum(epochs, 1)  # an estimate alone refuses nothing
        return np.minimum(epochs, self.max_epoch)

    @property
    def seconds_for_an_epoch(self) -> np.ndarray:
        """Seconds in which each configuration has to end its next epoch, (n,): before the best
        trial so far begins its final training, and in time for one of its own.
        """
        left = np.full(len(self.configs), self.seconds_left)
        if self._finals:
            own = self.pace.final_seconds(self.epoch + 1)
            left = np.minimum(left, self.seconds_to_end - own)
        return left

    @property
    def relative_costs(self) -> np.ndarray:
        """Seconds of an epoch of each configuration over the pool's mean, (n,); 1 where epochs are
        the budget.
        """
        if self.timeless or not len(self.configs):
            return np.ones(len(self.configs))
        return np.asarray(self.pace.seconds / np.mean(self.pace.seconds))

    def _epochs_in_time(self) -> int:
        """Epochs of all workers together in the time that is left: at the costs of what was trained
        so far, and of the pool as far as little was.
        """
        if self.timeless:
            known = self.plan.budget is not None
            room = self.plan.budget if known else 10 * self.max_epoch
            return max(0, int(room or 0) - self.spent - self._promised)
        seconds = self.pace.seconds
        typical = float(np.mean(self.usual_pace.seconds))
        mean = (typical * self.max_epoch + float(self.epoch @ seconds)) / (
            self.max_epoch + float(self.epoch.sum())
        )
        total = self.seconds_left * self.pace.parallel / mean
        if not self.pace.timed and self.seconds_left > 0:
            total = max(total, self.costs.workers)  # an estimate alone refuses nothing
        under_way = np.minimum(
            np.maximum(self.pending - self.epoch, 0), self.seconds_left / seconds
        )
        return max(0, int(total - float(under_way.sum())))

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

    @property
    def done(self) -> bool:
        """Whether the budget (epochs or seconds) is spent, or nothing is left to train."""
        exhausted = not self.open_space and not self.pending.any() and not self.available.any()
        capped = self.plan.budget is not None and self.spent >= self.plan.budget
        return capped or self.out_of_time or exhausted

    @property
    def out_of_time(self) -> bool:
        """Whether the wall-clock budget is used up, but for what the end of the study needs."""
        return self.concluded or self.seconds_left <= 0

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

    # -- what changes a study
    # ----------------------------------------------------------------------------------------------
    def ask(self, searcher: "Suggests") -> Step | None:
        """The next step, or None if there is nothing to do now (wait for a pending step, or the
        study is done).

        New configurations that the suggestion names become part of the study. The step is cut to
        the remaining budget, and to the epochs that fit into the time that is left. Raises `BadSuggestion` if the searcher suggests what cannot be taken.
        """
        if isinstance(searcher, type) or not hasattr(searcher, "suggest"):
            raise BadInput(
                f"{searcher!r} is no searcher: give foretune.searcher(NAME), such as "
                "foretune.searcher('hyperband')"
            )
        if self.done or self._allowed <= 0:
            return None
        began = time.perf_counter()
        with one_thread():
            suggested = searcher.suggest(self, self.rng())
        seconds = time.perf_counter() - began
        if suggested is None:
            return None
        if isinstance(suggested, Step):
            suggested = Suggestion(
                suggested.config_id, suggested.start, suggested.stop, suggested.because
            )
        new, config_id = self._resolve(suggested)
        self._check(config_id, suggested.start, suggested.stop)
        start = int(suggested.start)
        view = self.with_configs(new)
        most = min(self._allowed, int(view.reach[config_id]))
        stop = min(int(suggested.stop), start + most)
        if stop <= start:  # no epoch of it can end in time
            return None
        step = Step(config_id, start, stop, suggested.because)
        because = dict(step.because)
        now = {} if self.plan.seconds is None else {"elapsed": round(self.elapsed, 3)}
        self._record(
            *({"event": "config", "config": config} for config in new),
            {"event": "ask", **asdict(step), "because": because, "seconds": round(seconds, 6)}
            | now,
        )
        return step

    def id_of(self, config: Config) -> int | None:
        """The id of the configuration that equals `config`, None if the study knows none."""
        return self._row_of.get(self._key(config))

    def with_configs(self, configs: Sequence[Config]) -> "Study":
        """This study as it would be with `configs` in its pool: a view for a searcher to reckon
        with, which is never told anything and leaves the study and its journal alone; the study
        itself where it knows them all. Raises as `propose` does.
        """
        new = self._unknown(configs)
        if not new:
            return self
        view = copy.copy(self)
        view.folder = view._journal = view._let_go = None
        view.configs, view._row_of = list(self.configs), dict(self._row_of)
        view._add(new)
        return view

    def propose(self, config: Config) -> int:
        """Add a configuration to an open study; returns its id (that of an equal one, if known).
        Raises `BadInput`.
        """
        self._record(*({"event": "config", "config": new} for new in self._unknown([config])))
        return self._row_of[self._key(config)]

    def tell(
        self, step: Step, values: Sequence[float | Mapping[str, Any]], elapsed: float | None = None
    ) -> None:
        """Report epochs of a step: numbers in the metric's own unit, of the step's epochs from its
        first on, or rows with `epoch` and the metric.

        A value that is not finite ends the trial as diverged; what follows it is dropped. Epochs
        that were told before with the same value are passed over, so that telling twice is
        harmless. Raises `BadInput` for an unknown or failed trial, a row without its epoch or
        metric, epochs out of turn or beyond the step, or another value for a told epoch.
        """
        step, given_values = told_step(step), told_values(values)
        elapsed = None if elapsed is None else told_seconds("elapsed", elapsed)
        i, metric = self._known(step.config_id), self.plan.metric
        first = int(self.epoch[i])
        # a trial of the user's own, which was not asked for, has its step's end alone
        last = min(step.stop, int(self.pending[i]) or self.max_epoch)
        told = {row["epoch"]: row for row in self.rows.get(i, [])}
        rows: list[dict[str, Any]] = []
        for k, value in enumerate(given_values, step.start + 1):
            given = value if isinstance(value, Mapping) else {"epoch": k, metric: value}
            row = told_row(given, metric)
            epoch = row["epoch"]
            if not 0 <= epoch <= step.stop:
                raise BadInput(
                    f"the step of configuration {i} goes from epoch {step.start} to {step.stop}; "
                    f"told was epoch {epoch}"
                )
            if epoch in told:
                if not same(told[epoch][metric], row[metric]):
                    raise BadInput(
                        f"{metric} of configuration {i} in epoch {epoch} was told as "
                        f"{told[epoch][metric]}, and now as {row[metric]}"
                    )
                if epoch > 0 and not finite(row[metric]):
                    break
            elif epoch > 0 or first == 0:
                rows.append(row)
                told[epoch] = row
        epochs = [r["epoch"] for r in rows if r["epoch"] > 0]
        if rows and self.failed[i]:
            raise BadInput(
                f"configuration {i} has failed in epoch {self.failures[i][0]}; told were "
                f"epochs {epochs}"
            )
        if epochs and (epochs != list(range(first + 1, epochs[-1] + 1)) or epochs[-1] > last):
            raise BadInput(
                f"configuration {i} is at epoch {first} of {self.max_epoch}, and its step ends at "
                f"{last}; told were epochs {epochs}"
            )
        bad = next(
            (k for k, row in enumerate(rows) if row["epoch"] > 0 and not finite(row[metric])),
            len(rows),
        )
        self._record(
            *(
                {"event": "epoch", "config_id": i, "row": row, "elapsed": elapsed}
                for row in rows[: bad + 1]
            )
        )

    def fail(self, step: Step, epoch: int, reason: str) -> None:
        """End a trial: it failed in `epoch` for `reason`. An epoch that was not told counts as
        spent all the same. A trial that has failed, or a step whose last epoch was told, is passed
        over: nothing of it can fail any more. Raises `BadInput` for an unknown trial.
        """
        step, (number, why) = told_step(step), told_failure(epoch, reason)
        within(0, min(step.stop, self.max_epoch), epoch=number)
        i = self._known(step.config_id)
        if self.failed[i] or self.epoch[i] >= min(step.stop, self.max_epoch):
            return
        self._record({"event": "fail", "config_id": i, "epoch": number, "reason": why})

    def release(self, step: Step) -> None:
        """Give a pending step back: it will not be finished now, and its configuration may be
        suggested again. Raises `BadInput` for an unknown trial.
        """
        i = self._known(told_step(step).config_id)
        if self.pending[i]:
            self._record({"event": "release", "config_id": i})

    def clock(self, seconds: float) -> None:
        """Say for how long the study has run, over all its runs. The journal keeps it with every
        told epoch, each `CLOCK` seconds, and when the wall-clock budget is used up. Raises
        `BadInput` for what is no number.
        """
        seconds = told_seconds("seconds", seconds)
        limit = self.plan.seconds
        used_up = limit is not None and seconds >= limit > self._kept_elapsed
        if used_up or seconds - self._kept_elapsed >= CLOCK:
            self._record({"event": "clock", "elapsed": seconds})
        self.elapsed = max(self.elapsed, seconds)

    def conclude(self) -> None:
        """Say that the time budget is used: no further step can end in what is left of it. More
        budget takes it back.
        """
        if not self.concluded:
            self._record({"event": "clock", "elapsed": self.elapsed, "over": True})

    def note(self, **facts: Any) -> None:
        """Keep facts with the study (`plan.notes`), such as the test accuracy at its end. Raises
        `BadInput` for one of another shape than `Notes` has it.
        """
        values = {name: as_json(value) for name, value in facts.items()}
        self.plan.notes.noting(values)  # refused before it is written
        self._record({"event": "note", "facts": values})

    def raise_budget(self, budget: int | None, seconds: float | None = None) -> None:
        """Change the budget of a study that is continued. Raises `BadInput` as `Plan` does."""
        new = replace(self.plan, budget=budget, seconds=seconds)  # refused before it is written
        self._record({"event": "budget", "budget": new.budget, "seconds": new.seconds})

    def close(self) -> None:
        """Let other processes have the folder. Telling more takes it again, unless the study went
        on without this object.
        """
        if self._let_go is not None:
            self._let_go()
            self._let_go = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def current(self) -> bool:
        """Whether nobody else has written to the study's folder since it was read."""
        return self._journal is None or self._journal.current

    def follow(self) -> bool:
        """Apply what another process has written to the journal since this was read; whether there
        was anything. Raises `BadInput` where the journal is not the one that was read, or damaged.
        """
        if self._journal is None:
            return False
        before = self._journal.lines
        for line, event in self._journal.read():
            self.replay(self._journal.path, line, event)
        return self._journal.lines > before

    # -- tables
    # ----------------------------------------------------------------------------------------------
    def to_meta(self) -> "MetaDataset":
        """This study as a meta-dataset of one task."""
        from foretune.history.meta_dataset import MetaDataset

        key = {"task": self.plan.task, "seed": 0}
        rows = [{**key, "config_id": i, **row} for i, rows in self.rows.items() for row in rows]
        configs = {i: self.configs[i] for i in sorted(self.rows)}
        about = {
            "name": self.folder.name if self.folder else self.plan.task,
            "max_epoch": self.max_epoch,
            "tasks": [self.plan.task],
        }
        return MetaDataset.build(
            self.space,
            configs,
            rows,
            metric=self.plan.metric,
            goal=self.plan.goal,
            source="foretune study",
            **about,
        )

    def hold(self) -> None:
        """Take the study's folder now, not with the first change. Raises `BadInput` where another
        process holds it.
        """
        if self.folder is not None:
            self._hold(self.folder)

    def save_tables(self) -> None:
        """Write the study's meta-dataset files into its folder, by rename; nothing where somebody
        else has written to the study since, whose tables know more.
        """
        if self.folder is not None and self.rows and self.current:
            self.to_meta().save(self.folder)

    # -- inside
    # ----------------------------------------------------------------------------------------------
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

    def _resolve(self, suggested: Suggestion) -> tuple[list[Config], int]:
        """The configurations that a suggestion adds to the study, and the id of the one that it
        names; ids of new ones count on from the last. Raises `BadSuggestion` for an unknown id.
        """
        if isinstance(suggested.config, Mapping):
            new = self._unknown([*suggested.adopt, suggested.config])
            known = self.id_of(suggested.config)
            if known is not None:
                return new, known
            keys = [config_key(config) for config in new]
            return new, len(self.configs) + keys.index(self._key(suggested.config))
        config_id = int(suggested.config)
        if not 0 <= config_id < len(self.configs):
            raise BadSuggestion(
                f"configuration {config_id} is unknown: the study has {len(self.configs)}"
            )
        return self._unknown(suggested.adopt), config_id

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

    def _key(self, config: Config) -> str:
        return config_key(self.space.typed(config))

    def _known(self, config_id: int) -> int:
        if not 0 <= config_id < len(self.configs):
            raise BadInput(
                f"configuration {config_id} is unknown: the study has {len(self.configs)}"
            )
        return int(config_id)

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
        if self.folder is not None and self._journal is not None and events:
            self._hold(self.folder)
            self._journal.append(events)
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

    def _hold(self, folder: Path) -> None:
        if self._let_go is None:
            self._let_go = weakref.finalize(self, StudyLock(folder).release)

    def _open(self, folder: Path) -> None:
        header = as_read({**self.plan.to_json(), "configs": self.configs})
        path = folder / "study.json"
        if not path.exists():
            journal = folder / "journal.jsonl"
            if journal.exists() and (not journal.is_file() or journal.stat().st_size):
                raise BadInput(
                    f"{folder} holds a journal, but no study.json, which says of what study: put "
                    "it back, or give another folder"
                )
            folder.mkdir(parents=True, exist_ok=True)
            self.space.save(folder / "space.json")
            journal.touch()  # before the header: a study has its journal
            write_json(path, header)
            self._read(folder)
            return
        wanted, stored = self.plan, read_header(folder)
        refuse_another(folder, stored, (self.space, self.configs, wanted))
        self.plan = stored[2]
        self._read(folder)
        if (wanted.budget, wanted.seconds) != (self.plan.budget, self.plan.seconds):
            self.raise_budget(wanted.budget, wanted.seconds)

    def _read(self, folder: Path) -> None:
        """Apply the journal of `folder`. Raises `BadInput` at the first line that cannot be, and
        where lines are missing at its end.
        """
        cells = read_cells(folder, self.plan.metric)  # before the journal, which may grow meanwhile
        self._journal = journal = journal_in(folder)
        for line, event in journal.read():
            self.replay(journal.path, line, event)
        refuse_beyond(cells, self.rows, self.plan.metric, folder)

    def replay(self, path: Path, line: int, event: dict[str, Any]) -> None:
        """Apply an event that was read from a line of a journal. Raises `BadInput` if it could not
        have been written.
        """
        try:
            self._refuse_impossible(event)
            self._apply(event)
        except (BadInput, BadSuggestion) as error:
            raise damaged(path, line, str(error)) from error
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            what = f"it cannot be applied ({type(error).__name__}: {error})"
            raise damaged(path, line, what) from error

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

    @classmethod
    def load(
        cls,
        folder: Path | str,
        past: "MetaDataset | None" = None,
        runs: "pd.DataFrame | None" = None,
    ) -> "Study":
        """Read a study back from its folder, to the last epoch told. Another process may work on it
        meanwhile; the first change made here takes the folder. Raises `BadInput` if there is no
        study, or a damaged one.
        """
        study = cls.begun(Path(folder), past, runs)
        study._read(Path(folder))
        return study

    @classmethod
    def begun(
        cls,
        folder: Path,
        past: "MetaDataset | None" = None,
        runs: "pd.DataFrame | None" = None,
    ) -> "Study":
        """The study of a folder as it was when it began, without its journal."""
        space, configs, plan = read_header(folder)
        study = cls(space, configs, plan, past=past, runs=runs)
        study.folder = folder
        return study


def same(told: Any, now: Any) -> bool:
    """Whether two values of a metric are one: equal, or neither of them finite."""
    if finite(told) and finite(now):
        return bool(told == now)
    return not finite(told) and not finite(now)


def read_header(folder: Path) -> tuple[Space, list[Config], Plan]:
    """What the study in `folder` was started with: its space, pool and plan. Raises `BadInput` if
    there is none.
    """
    path = folder / "study.json"
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        configs = header.pop("configs")
        plan = Plan.from_json(header)
    except FileNotFoundError as error:
        raise BadInput(f"{folder} holds no study (no study.json)") from error
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(
            f"{path} is damaged: {type(error).__name__}: {error}; put back the file that the study "
            "was begun with, which nothing else holds"
        ) from error
    space = Space.load(folder / "space.json")
    pool = space.pool(configs, f"the pool of {path}")
    if len(pool) < len(configs):  # its ids would mean others
        raise BadInput(
            f"{path}: its pool holds equal configurations, which older versions told apart; start "
            "another study with the same pool"
        )
    return space, pool, plan


def refuse_another(
    folder: Path,
    stored: tuple[Space, list[Config], Plan],
    wanted: tuple[Space, list[Config], Plan],
) -> None:
    """Raise `BadInput` that names what differs, if the study that `folder` holds asks another
    question than the one given: another space, pool or plan.
    """
    if differ := differences(stored, wanted):
        raise BadInput(f"{folder} holds a study with {'; '.join(differ)}: give another folder")
