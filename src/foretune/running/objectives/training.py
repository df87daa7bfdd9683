"""A prepared task as an objective: a step trains a network."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foretune.study.outcome import Outcome, Row
from foretune.training.recipe import Settings


@dataclass(frozen=True)
class Training:
    """A prepared task as an objective: trains for real, with a checkpoint per trial in `folder`.
    Can be sent to another process.

    Beside `trial-ID.ckpt` it keeps `trial-ID.best.ckpt`, the trial as it was after its best epoch,
    as a hard link: no bytes are written twice.
    """

    task_file: Path
    settings: Settings
    folder: Path
    seed: int = 0
    metric: str = "valid_accuracy"
    goal: str = "maximize"  # or minimize: which epoch of a trial is its best one
    keep_best: bool = True
    rank: bool = False  # rows hold `zero_share` as well, from which the method autohyper decides
    _cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}

    @property
    def task(self) -> Any:
        """The task, read once per process."""
        if "task" not in self._cache:
            from foretune.tasks.task import Task

            self._cache["task"] = Task.load(self.task_file)
        return self._cache["task"]

    @property
    def _sign(self) -> float:
        """Multiplier that makes the metric higher-is-better."""
        return 1.0 if self.goal == "maximize" else -1.0

    def prepare(self) -> None:
        """Load what every step needs, PyTorch and the task, before the first one."""
        from foretune.training import trial  # noqa: F401

        _ = self.task

    def checkpoint(self, config_id: int, best: bool = False) -> Path:
        """Where the checkpoint of a trial lies: of its last epoch, or of its best one."""
        return self.folder / f"trial-{config_id}{'.best' if best else ''}.ckpt"

    def run(
        self,
        config_id: int,
        config: Mapping[str, Any],
        start: int,
        stop: int,
        on_epoch: Callable[[Row], None] | None = None,
    ) -> Outcome:
        """Train; divergence and lack of memory are outcomes, not errors."""
        from foretune.training.trial import TrialFailed, train

        last, best = self.checkpoint(config_id), self.checkpoint(config_id, best=True)
        top = -math.inf if start == 0 else self._best_of(best)

        def finished(row: Row) -> None:
            nonlocal top
            value = self._sign * row[self.metric]
            if self.keep_best and value > top and last.exists():
                top = value
                link(last, best)
            if on_epoch:
                on_epoch(row)

        try:
            rows = train(
                self.task,
                config,
                start,
                stop,
                settings=self.settings,
                seed=self.seed,
                checkpoint=last,
                on_epoch=finished,
                rank=self.rank,
            )
        except TrialFailed as failure:
            return Outcome(failure.rows, failure.reason)
        return Outcome(rows)

    def _best_of(self, best: Path) -> float:
        from foretune.training import checkpoints

        content = checkpoints.load(best) if best.exists() else None
        return (
            max((self._sign * row[self.metric] for row in content["rows"]), default=-math.inf)
            if content
            else -math.inf
        )


def link(source: Path, target: Path) -> None:
    """Make `target` a hard link of `source`, by rename."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    os.link(source, temporary)
    os.replace(temporary, target)
