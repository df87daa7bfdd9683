"""A study: one task being tuned, asked and told, and kept on disk.

What it knows is a fold over its events (`foretune.study.state`). Every change is an event, a dict
that is appended to `journal.jsonl` (one write, fsynced) before it is applied, so a killed study is
read back to the very epoch that was told last. A torn last line is dropped; anything else that was
not written so, or could not have been told, is refused.
"""

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from foretune.errors import BadInput, BadSuggestion, within
from foretune.gaussian.threads import one_thread
from foretune.space.space import Config, Space, config_key
from foretune.study.header import read_header, refuse_another, write_header
from foretune.study.journal import Journal, damaged, finite, journal_in
from foretune.study.lock import StudyLock
from foretune.study.notes import as_json
from foretune.study.plan import Plan, Step, Suggestion
from foretune.study.tables import read_cells, refuse_beyond
from foretune.study.timed import TimedState
from foretune.study.told import (
    same,
    told_failure,
    told_row,
    told_seconds,
    told_step,
    told_values,
)

__all__ = ["Plan", "Step", "Study", "Suggestion"]

CLOCK = 10.0  # seconds of a run that a kill may take from the wall-clock's record

if TYPE_CHECKING:
    import pandas as pd

    from foretune.history.meta_dataset import MetaDataset


class Suggests(Protocol):
    """What `Study.ask` needs of a searcher (`foretune.searchers.base.Searcher`)."""

    def suggest(self, study: "Study", rng: np.random.Generator) -> Suggestion | Step | None:
        """What to do next, or None if nothing can be done until a pending step ends."""


class Study(TimedState):
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
        super().__init__(space, configs, plan, past=past, runs=runs)
        self.folder = None if folder is None else Path(folder)
        self._journal: Journal | None = None
        self._let_go: Callable[[], object] | None = None
        if self.folder is not None:
            self._hold(self.folder)
            try:
                self._open(self.folder)
            except BaseException:
                self.close()
                raise

    def with_configs(self, configs: Sequence[Config]) -> Self:
        """As `State.with_configs`; the view has no folder."""
        view = super().with_configs(configs)
        if view is not self:
            view.folder = view._journal = view._let_go = None
        return view

    # -- what changes a study
    # --------------------------------------------------------------------------------------------
    def ask(self, searcher: "Suggests") -> Step | None:
        """The next step, or None if there is nothing to do now (wait for a pending step, or the
        study is done).

        New configurations that the suggestion names become part of the study. The step is cut to
        the remaining budget, and to the epochs that fit into the time that is left. Raises
        `BadSuggestion` if the searcher suggests what cannot be taken.
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
    # --------------------------------------------------------------------------------------------
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

    def save_tables(self) -> None:
        """Write the study's meta-dataset files into its folder, by rename; nothing where somebody
        else has written to the study since, whose tables know more.
        """
        if self.folder is not None and self.rows and self.current:
            self.to_meta().save(self.folder)

    # -- on disk
    # --------------------------------------------------------------------------------------------
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

    def hold(self) -> None:
        """Take the study's folder now, not with the first change. Raises `BadInput` where another
        process holds it.
        """
        if self.folder is not None:
            self._hold(self.folder)

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

    def _hold(self, folder: Path) -> None:
        if self._let_go is None:
            self._let_go = weakref.finalize(self, StudyLock(folder).release)

    def _open(self, folder: Path) -> None:
        if not (folder / "study.json").exists():
            journal = folder / "journal.jsonl"
            if journal.exists() and (not journal.is_file() or journal.stat().st_size):
                raise BadInput(
                    f"{folder} holds a journal, but no study.json, which says of what study: put "
                    "it back, or give another folder"
                )
            folder.mkdir(parents=True, exist_ok=True)
            journal.touch()  # before the header: a study has its journal
            write_header(folder, self.space, self.configs, self.plan)
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

    def _record(self, *events: dict[str, Any]) -> None:
        if self.folder is not None and self._journal is not None and events:
            self._hold(self.folder)
            self._journal.append(events)
        for event in events:
            self._apply(event)

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
