"""A Python function as an objective: a step calls it, and ends when it has reported the step's last
epoch.

    def train(config, trial):
        model, first = build(config), 1
        if trial.resume:
            first = load(model, trial.resume) + 1
        for epoch in range(first, trial.epochs + 1):
            accuracy = one_epoch(model)
            save(model, epoch, trial.checkpoint)
            trial.report(epoch, accuracy)
            if trial.should_stop:
                break
"""

import math
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.running.objectives.command import NO_MEMORY, REASON_LENGTH
from foretune.running.objectives.trial_folder import TrialFolder
from foretune.study.outcome import Outcome, Row
from foretune.study.told import told_row

Trains = Callable[[dict[str, Any], "Trial"], object]


class StepOver(BaseException):
    """Raised by `Trial.report` in a function that goes on though its step is over; nothing but
    foretune should catch it.
    """


class Gap(Exception):
    """A function went on from a checkpoint that was ahead of its reports: it was killed between the
    two.
    """


class Trial:
    """What a function that trains gets beside its configuration: one step of one trial.

    `folder` is the trial's own; `checkpoint` a path in it to save to, before each report; `resume`
    that path where there is a checkpoint to go on from, else None; `start` the epochs that are done
    and `stop` the epoch that the step ends with, of `epochs` in all.
    """

    def __init__(
        self,
        folder: TrialFolder,
        config: Mapping[str, Any],
        *,
        start: int,
        stop: int,
        epochs: int,
        seed: int,
        objective: "Function",
        on_epoch: Callable[[Row], None] | None,
    ):
        self.config = dict(config)
        self.folder, self.checkpoint = folder.files, folder.files / "checkpoint"
        self.start, self.stop, self.epochs, self.seed = start, stop, epochs, seed
        self.resume = self.checkpoint if start and self.checkpoint.exists() else None
        self._own, self._objective, self._on_epoch = folder, objective, on_epoch
        self._moment = time.monotonic()
        self._rows: list[Row] = []
        best = folder.state().get("best")
        self._best = -math.inf if best is None or not start else float(best)

    @property
    def should_stop(self) -> bool:
        """Whether the step's last epoch is reported, or a value that is no number."""
        last = self._rows[-1] if self._rows else None
        return last is not None and (
            last["epoch"] >= self.stop or not math.isfinite(last[self._objective.metric])
        )

    def report(self, epoch: int, value: float | Mapping[str, Any]) -> None:
        """Say what epoch `epoch` (from 1) gave: the metric, or a mapping of metrics with it.

        Epochs that are known, as of a function that starts anew, are passed over. Raises `BadInput`
        for an epoch left out and for what is no number.
        """
        metric = self._objective.metric
        given = dict(value) if isinstance(value, Mapping) else {metric: value}
        row = told_row({**given, "epoch": epoch}, metric)
        if row[metric] is None:
            row[metric] = math.nan
        done = self._rows[-1]["epoch"] if self._rows else self.start
        if row["epoch"] <= done:
            return
        if self.should_stop:
            raise StepOver
        if row["epoch"] != done + 1:
            if self.resume is not None and not self._rows:
                raise Gap
            raise BadInput(f"epoch {epoch} was reported after epoch {done}: report every epoch")
        now = time.monotonic()
        row.setdefault("seconds", round(now - self._moment, 3))
        self._moment = now
        self._rows.append(row)
        signed = row[metric] * (1.0 if self._objective.maximize else -1.0)
        if signed > self._best and self.checkpoint.exists():
            self._best = signed
            if self._own.keep("best", self.checkpoint):
                self._own.note(best=signed, best_epoch=row["epoch"])
        if self._on_epoch:
            self._on_epoch(row)


@dataclass(frozen=True)
class Function:
    """A function as an objective, with a folder per trial below `folder`. Can be sent to another
    process where the function can: it is found again by its module and name.

    With `resume`, the function goes on from `Trial.resume`; without, each step starts it anew.
    """

    function: Trains
    folder: Path
    metric: str
    epochs: int
    maximize: bool = True
    seed: int = 0
    resume: bool = True

    def checkpoint(self, config_id: int, best: bool = False) -> Path | None:
        """A trial's checkpoint after its last epoch, or its best one; None where there is none."""
        trial = TrialFolder(self.folder, config_id)
        if best:
            return trial.copy("best")
        last = trial.files / "checkpoint"
        return last if last.exists() else None

    def run(
        self,
        config_id: int,
        config: Mapping[str, Any],
        start: int,
        stop: int,
        on_epoch: Callable[[Row], None] | None = None,
    ) -> Outcome:
        """Call the function; what it raises is an outcome with a reason, and stands in full in the
        trial's log.
        """
        own = TrialFolder(self.folder, config_id)
        own.make()
        if start == 0 or not self.resume:
            own.clear()
        try:
            return self._once(own, config, start, stop, on_epoch)
        except Gap:
            own.clear()
            return self._once(own, config, start, stop, on_epoch)

    def _once(
        self,
        own: TrialFolder,
        config: Mapping[str, Any],
        start: int,
        stop: int,
        on_epoch: Callable[[Row], None] | None,
    ) -> Outcome:
        trial = Trial(
            own,
            config,
            start=start,
            stop=stop,
            epochs=self.epochs,
            seed=self.seed,
            objective=self,
            on_epoch=on_epoch,
        )
        try:
            self.function(dict(config), trial)
        except StepOver:
            pass
        except (Gap, BrokenPipeError, ConnectionResetError):  # nobody waits for the step any more
            raise
        except Exception as error:  # noqa: BLE001 - a stranger's code may raise anything
            if trial.should_stop:
                return Outcome(trial._rows)
            own.log.write_text(traceback.format_exc(), encoding="utf-8", errors="backslashreplace")
            return Outcome(trial._rows, told_error(error))
        except SystemExit as error:
            if trial.should_stop:
                return Outcome(trial._rows)
            return Outcome(trial._rows, f"the function called sys.exit({error.code!r})")
        if not trial.should_stop:
            done = trial._rows[-1]["epoch"] if trial._rows else start
            return Outcome(
                trial._rows, f"the function returned after epoch {done}; epoch {stop} was asked for"
            )
        return Outcome(trial._rows)


def told_error(error: Exception) -> str:
    """An error in one line."""
    words = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode("utf-8")
    text = f"{type(error).__name__}: {words}"[:REASON_LENGTH]
    return f"out of memory: {text}" if NO_MEMORY.search(text) else text


def check_sendable(function: Trains) -> None:
    """Raise `BadInput` for a function that no other process can find: a lambda, one inside another,
    or one of a notebook.
    """
    name = getattr(function, "__qualname__", type(function).__name__)
    how = "define it with def at the top of a module, or give workers=0 to train in this process"
    try:
        pickle.dumps(function)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise BadInput(f"worker processes cannot find the function {name}: {how}") from error
    main = getattr(sys.modules["__main__"], "__file__", None)
    if getattr(function, "__module__", "") == "__main__" and not os.path.exists(main or ""):
        raise BadInput(f"worker processes cannot find {name}, which no file holds: {how}")
