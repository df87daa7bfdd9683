"""The user's own script as an objective: a step runs it until the step's last epoch, and stops it."""

import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foretune.errors import plural
from foretune.running.objectives.trial_folder import Signature, TrialFolder, remove, signature
from foretune.running.scripts.checkpoint import SETTLED_SECONDS, CheckpointWatch
from foretune.running.scripts.process import Process
from foretune.running.scripts.results import (
    DATABASE,
    BadResult,
    Curve,
    Gap,
    Reader,
    Source,
    reader,
)
from foretune.running.scripts.template import Template
from foretune.study.outcome import Outcome, Row

LOOK_SECONDS = 0.02  # between two looks at files
HOLDS = 10  # tries to catch a script while it writes no checkpoint
AHEAD_SECONDS = 2.0  # for the result of a checkpoint that is there already
REASON_LENGTH = 300  # characters
NO_MEMORY = re.compile(
    r"out of memory|OutOfMemory|\bMemoryError|cannot allocate memory|std::bad_alloc", re.IGNORECASE
)
KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)  # by a shell, the second


@dataclass(frozen=True)
class Patience:
    """How long a script is waited for, in seconds.

    `result`: for its next result (None: for ever); `sign`: for output or a result; `checkpoint`:
    for the checkpoint of the step's last epoch; `finish`: for its end after the last epoch of all;
    `grace`: between the signal that asks it to stop and SIGKILL.
    """

    result: float | None = None
    sign: float = 1800.0
    checkpoint: float = 60.0
    finish: float = 120.0
    grace: float = 10.0


@dataclass(frozen=True)
class Command:
    """A script as an objective: trains for real, in a folder per trial below `folder`. Can be sent
    to another process, or to another machine that has the same files.

    `resume` are the arguments that let it go on from `checkpoint`, a file (or pattern) of the
    trial's folder: with both, a trial is paused and continued; without, each step starts it anew,
    and results of epochs that are known already are passed over. A script that fails, hangs, says
    nothing or too much is an `Outcome` with a reason.
    """

    template: Template
    source: Source
    folder: Path
    epochs: int
    hyperparameters: tuple[str, ...]
    working_folder: Path
    resume: Template | None = None
    checkpoint_files: str | None = None
    maximize: bool = True
    seed: int = 0
    device: str = "cpu"
    stop_signal: signal.Signals = signal.SIGTERM
    patience: Patience = field(default_factory=Patience)

    @property
    def metric(self) -> str:
        """The name of the results."""
        return self.source.metric

    def checkpoint(self, config_id: int, best: bool = False) -> Path | None:
        """The copy of a trial's checkpoint after its last step, or its best epoch; None where the
        script wrote none.
        """
        return TrialFolder(self.folder, config_id).copy("best" if best else "last")

    def arguments(
        self,
        config: Mapping[str, Any],
        folder: Path | str,
        last_epoch: int,
        checkpoint: Path | None = None,
    ) -> list[str]:
        """The command line of a step."""
        values = {
            **config,
            "trial_folder": folder,
            "epochs": self.epochs,
            "last_epoch": last_epoch,
            "seed": self.seed,
            "device": self.device,
            "checkpoint": checkpoint,
        }
        inactive = [name for name in self.hyperparameters if name not in config]
        out = self.template.filled(values, inactive)
        if checkpoint is not None and self.resume is not None:
            out += self.resume.filled(values, inactive)
        return out

    def run(
        self,
        config_id: int,
        config: Mapping[str, Any],
        start: int,
        stop: int,
        on_epoch: Callable[[Row], None] | None = None,
    ) -> Outcome:
        """Run the script from epoch `start` to `stop`, and stop it there."""
        trial = TrialFolder(self.folder, config_id)
        trial.make()
        checkpoint, curve = self._resumed(trial, start)
        rows: list[Row] = []
        try:
            rows = known_rows(curve, trial, stop, self.metric) if checkpoint else []
            if on_epoch:
                for row in rows:
                    on_epoch(row)
            if curve.told >= stop:
                return Outcome(rows)
            outcome = self._once(trial, config, stop, checkpoint, curve, on_epoch)
            return Outcome([*rows, *outcome.rows], outcome.failed)
        except Gap:  # what the lost epoch gave, a new run will tell
            anew = Curve([], [], told=curve.told)
            outcome = self._once(trial, config, stop, None, anew, on_epoch)
            return Outcome([*rows, *outcome.rows], outcome.failed)

    def _once(
        self,
        trial: TrialFolder,
        config: Mapping[str, Any],
        stop: int,
        checkpoint: Path | None,
        curve: Curve,
        on_epoch: Callable[[Row], None] | None,
    ) -> Outcome:
        if checkpoint is None:
            trial.clear()
        arguments = self.arguments(config, trial.files, stop, checkpoint)
        process = Process(
            arguments,
            folder=self.working_folder,
            environment=self._environment(trial),
            log=trial.log,
            lock=trial.lock,
        )
        with process:
            run = _Run(self, trial, process, curve, checkpoint, stop, on_epoch)
            return run.to_its_end()

    def _resumed(self, trial: TrialFolder, start: int) -> tuple[Path | None, Curve]:
        """The checkpoint to go on from, as it was when the last step ended, and the results so far;
        None and no results where the script has to start anew.
        """
        state = trial.state()
        keys, values = state.get("keys", []), state.get("values", [])
        nothing = None, Curve([], [], told=start)
        if self.resume is None or start == 0 or len(keys) < start or "checkpoint" not in state:
            return nothing
        path, kept = trial.files / state["checkpoint"], trial.copy("last")
        if signature(path) != tuple(state["signature"]):  # written again by what was stopped
            if kept is None:
                return nothing
            remove(path)
            os.rename(kept, path)
        known = [math.nan if value is None else float(value) for value in values]
        return path, Curve([float(key) for key in keys], known, told=start)

    def _environment(self, trial: TrialFolder) -> dict[str, str]:
        added = {"PYTHONUNBUFFERED": "1", "FORETUNE_TRIAL_FOLDER": str(trial.files)}
        if self.source.kind == "mlflow":
            added["MLFLOW_TRACKING_URI"] = f"sqlite:///{trial.files / DATABASE}"
        return added


class _Run:
    """One run of a script for one step."""

    def __init__(
        self,
        command: Command,
        trial: TrialFolder,
        process: Process,
        curve: Curve,
        checkpoint: Path | None,
        stop: int,
        on_epoch: Callable[[Row], None] | None,
    ):
        self.command, self.trial, self.process, self.curve = command, trial, process, curve
        self.resumed_from, self.stop, self.on_epoch = checkpoint, stop, on_epoch
        self.reader: Reader = reader(command.source, trial.files)
        curve.before = self.reader.results(last=True) or [] if checkpoint else []
        pattern = command.checkpoint_files
        self.watch = CheckpointWatch(trial.files, pattern, process.members) if pattern else None
        self.rows: list[Row] = []
        self.noted: Signature | None = None  # of the checkpoint that a killed run goes on from
        self.unkept: int | None = None  # the best epoch, while no copy of its checkpoint is kept
        self.last_result = self.last_sign = time.monotonic()
        self._looked = 0.0

    @property
    def reached(self) -> bool:
        """Whether the step's last epoch is told."""
        return self.curve.told >= self.stop

    def to_its_end(self) -> Outcome:
        """Follow the script to the step's last epoch, or to what comes before it."""
        try:
            while not (self.reached or self.diverged or self.process.over):
                self.follow()
                if reason := self.impatient():
                    return self.failed(reason)
            if self.reached and not self.diverged:
                self.wait_for_the_end()
                self.keep_checkpoint()
        except Gap:
            self.end()
            raise
        except BadResult as error:
            return self.failed(str(error))
        if self.resumed_from and self.process.exit_code == 0:
            # it had nothing to do: its checkpoint was of the last epoch, which it has reported once
            ahead = range(self.curve.told + 1, len(self.curve.values) + 1)
            self.curve.told += len(ahead)
            self.tell([(epoch, self.curve.values[epoch - 1]) for epoch in ahead])
        if self.reached or self.diverged:
            self.end()
            return Outcome(self.rows)
        return self.failed(self.why_it_ended())

    @property
    def diverged(self) -> bool:
        """Whether the last result told is no number: what follows it counts for nothing."""
        return bool(self.rows) and not math.isfinite(self.rows[-1][self.command.metric])

    def follow(self) -> None:
        """Read what is new."""
        lines = self.process.lines(LOOK_SECONDS)
        self.reader.printed(lines)
        if self.process.over:
            self.reader.ended()
        now = time.monotonic()
        if lines:
            self.last_sign = now
        if now - self._looked < LOOK_SECONDS and not self.process.over:
            return
        self._looked = now
        self.read(last=self.process.over)
        if self.watch:
            self.watch.look()
            self.keep_best()
            if self.checkpointed:
                self.note_checkpoint()

    def read(self, last: bool = True) -> None:
        """Read results that are new; unless it is the `last` time, not more often than they bear."""
        results = self.reader.results(last)
        if results is not None:
            if self.resumed_from and any(key is None for key, _ in results):
                raise BadResult(
                    "the results do not say their epoch, which a trial that is continued needs: "
                    "name a column epoch or step, or the group (?P<epoch>...) of the pattern"
                )
            self.tell(self.curve.take(results))

    def tell(self, new: list[tuple[int, float]]) -> None:
        """Report epochs, once they are noted for the next run of this trial."""
        if not new:
            return
        keys, values = self.curve.keys, self.curve.values
        self.trial.note(keys=keys, values=[v if math.isfinite(v) else None for v in values])
        seconds = (time.monotonic() - self.last_result) / len(new)
        self.last_result = self.last_sign = time.monotonic()
        for epoch, value in new:
            if epoch > self.stop or self.diverged:
                return
            row = {"epoch": epoch, self.command.metric: value, "seconds": round(seconds, 3)}
            self.rows.append(row)
            if self.is_best(epoch):
                self.unkept = epoch
            if self.on_epoch:
                self.on_epoch(row)

    def is_best(self, epoch: int) -> bool:
        """Whether every epoch before was worse."""
        sign = 1.0 if self.command.maximize else -1.0
        *before, value = (sign * v for v in self.curve.values[:epoch])
        return math.isfinite(value) and all(value > v for v in before if math.isfinite(v))

    @property
    def checkpointed(self) -> bool:
        """Whether the script has written as many checkpoints as it has reported epochs, the last
        one whole: then that is of the last epoch, whichever it does first.
        """
        return (
            self.watch is not None
            and self.watch.settled
            and self.watch.versions == len(self.curve.reported) > 0
        )

    def keep_best(self) -> None:
        """Copy the checkpoint of the best epoch, where it is the one that lies there."""
        if self.unkept is None or self.watch is None or self.watch.path is None:
            return
        latest = len(self.curve.keys) == self.unkept
        if not latest:
            self.unkept = None  # the script was faster
        elif self.checkpointed:
            self.keep_as_best(self.watch.path)

    def keep_as_best(self, path: Path) -> None:
        """Copy the checkpoint of the best epoch."""
        if self.trial.keep("best", path):
            self.trial.note(best_epoch=self.unkept)
            self.unkept = None

    def wait_for_the_end(self) -> None:
        """Let the script write the checkpoint of the epoch that it was asked for, or end by itself
        where that was the last one.
        """
        patience = self.command.patience
        final = self.stop >= self.command.epochs
        if not final and self.watch is None:
            return
        began = time.monotonic()
        until = began + (patience.finish if final else patience.checkpoint)
        seen = len(self.curve.keys)
        while time.monotonic() < until and not self.process.over:
            if not final and (self.checkpointed or len(self.curve.keys) > seen):
                return
            if not final and self.ahead and time.monotonic() > began + AHEAD_SECONDS:
                return
            self.follow()

    @property
    def ahead(self) -> bool:
        """Whether there are more checkpoints than results: of an epoch that is about to be
        reported, or of the time before the first.
        """
        return self.watch is not None and self.watch.versions > len(self.curve.reported)

    def note_checkpoint(self) -> None:
        """Note which checkpoint the next run goes on from, if this one is killed."""
        assert self.watch is not None
        path = self.watch.path
        if self.command.resume is None or path is None or self.watch.signature == self.noted:
            return
        self.noted = self.watch.signature
        relative = str(path.relative_to(self.trial.files))
        epoch = len(self.curve.keys) if self.checkpointed else None
        self.trial.note(checkpoint=relative, signature=self.noted, checkpoint_epoch=epoch)

    def keep_checkpoint(self) -> None:
        """Keep the checkpoint that the next step goes on from, and the best one, while the script
        is held: nothing is written meanwhile.
        """
        if self.watch is None:
            return
        for _ in range(HOLDS):
            self.hold()
            self.read()
            self.watch.look()
            if self.watch.settled or self.watch.path is None or self.process.over:
                break
            self.process.send(signal.SIGCONT)  # it was writing
            until = time.monotonic() + 2 * SETTLED_SECONDS
            while time.monotonic() < until:
                self.follow()
        path = self.watch.path
        if path is None:
            remark = f"there is no checkpoint {self.command.checkpoint_files} after epoch"
            self.process.remark(f"foretune: {remark} {self.stop}; the next step starts anew")
            return
        if self.watch.broken:  # the next step goes on from what was kept before, or starts anew
            self.process.remark(f"foretune: {path.name} is not whole after epoch {self.stop}")
            return
        if self.process.over and self.unkept == len(self.curve.keys):
            self.keep_as_best(path)
        if self.command.resume is None or self.stop >= self.command.epochs:
            return
        if path.is_dir() or self.trial.keep("last", path):
            self.note_checkpoint()

    def hold(self) -> None:
        """Stop the script's clock, so to speak."""
        sent = self.process.sent
        self.process.send(signal.SIGSTOP)
        while self.process.sent == sent and not self.process.over:
            self.reader.printed(self.process.lines(LOOK_SECONDS))

    def end(self) -> None:
        """Ask the script to stop, and see that it does."""
        self.process.send(self.command.stop_signal, self.command.patience.grace)
        self.process.send(signal.SIGCONT, self.command.patience.grace)
        while not self.process.over:
            self.process.lines(LOOK_SECONDS)

    def failed(self, reason: str) -> Outcome:
        """The outcome of a script that did not reach the step's last epoch."""
        if not self.process.over:
            self.end()
        if self.resumed_from and not self.rows:
            reason = f"going on from {self.resumed_from.name}: {reason}"
        return Outcome(self.rows, reason[:REASON_LENGTH])

    def impatient(self) -> str | None:
        """Why it is waited for no longer."""
        patience, now = self.command.patience, time.monotonic()
        if patience.result is not None and now - self.last_result > patience.result:
            return f"no result for {patience.result:g} s (--timeout)"
        if now - self.last_sign > patience.sign:
            return f"neither output nor a result for {patience.sign:g} s: it hangs (--silence)"
        return None

    def why_it_ended(self) -> str:
        """Why a script that has ended did not reach its epoch."""
        process, told = self.process, self.curve.told
        if process.refused is not None:
            return f"it cannot be started: {process.refused}"
        code, last = process.exit_code, process.tail[-1] if process.tail else ""
        memory = next((line for line in reversed(process.tail) if NO_MEMORY.search(line)), None)
        if code and memory is not None:
            return f"out of memory: {memory.strip()}"
        if code in KILLED:
            return "it was killed by SIGKILL: out of memory?"
        if code is not None and code < 0:
            return f"it was ended by {name_of(-code)}" + (f": {last.strip()}" if last else "")
        if code:
            return f"it ended with exit code {code}" + (f": {last.strip()}" if last else "")
        if told == 0:
            return f"it ended without an error and without a result: {self.reader.missing()}"
        # keys may change from line to line
        keys = f" {self.reader.missing()}" if self.command.source.kind == "json" else ""
        return (
            f"it ended without an error after {told} {plural('result', told)}, "
            f"{self.stop} were asked for: does it report every epoch, and train {{epochs}}?{keys}"
        )


def known_rows(curve: Curve, trial: TrialFolder, stop: int, metric: str) -> list[Row]:
    """The epochs up to `stop` that the script had reported, and saved, beyond what its step asked
    for; `curve` has told them then.
    """
    saved = trial.state().get("checkpoint_epoch") or 0
    rows = []
    while curve.told < min(stop, saved, len(curve.values)):
        curve.told += 1
        rows.append({"epoch": curve.told, metric: curve.values[curve.told - 1], "seconds": 0.0})
    return rows


def name_of(number: int) -> str:
    """The name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def device_named(device: str) -> str:
    """What `{device}` stands for: `auto` is the first GPU of NVIDIA's that this process sees, or
    `mps` on a Mac, else the CPU; nothing is imported for it.
    """
    if device != "auto":
        return device
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if Path("/dev/nvidia0").exists() or (visible and Path("/dev/nvidiactl").exists()):
        return "cpu" if visible in ("", "-1") else "cuda"
    return "mps" if sys.platform == "darwin" and os.uname().machine == "arm64" else "cpu"
