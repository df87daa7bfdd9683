"""What a study shows while it runs: a live line on a terminal, else a line per incumbent."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from foretune.errors import plural
from foretune.study.study import Study
from foretune.views.summary import decimals, duration


class Progress:
    """Trials, epochs spent, incumbent and time left of a study that is running.

    On a terminal the last line is rewritten in place; elsewhere a line is printed for each new
    incumbent and each tenth of the budget.
    """

    def __init__(self, study: Study, stream: TextIO | None = None):
        self.stream = stream or sys.stdout  # as it is now, not as it was at import
        self.live = self.stream.isatty()
        self._spent_before = study.spent
        self._first: tuple[float, int] | None = None
        self._shown: tuple[Any, ...] = (study.incumbent, 0)
        self._at = 0.0

    def line(self, study: Study) -> str:
        """Where the study stands."""
        running, failed = int((study.pending > 0).sum()), int(study.failed.sum())
        parts = [
            f"{study.spent}{'' if study.plan.budget is None else f'/{study.plan.budget}'} epochs",
            f"{len(study.started)} {plural('trial', len(study.started))} ({running} "
            f"running{f', {failed} failed' if failed else ''})",
        ]
        if study.incumbent:
            trial, epoch, value = study.incumbent
            parts.append(f"best {decimals(study.plan.sign * value)} (trial {trial}, epoch {epoch})")
        if left := self.seconds_left(study):
            parts.append(f"about {duration(round(left))} left")
        return " · ".join(parts)

    def seconds_left(self, study: Study) -> float | None:
        """Estimate from the pace of this run and, if there is one, the wall-clock budget."""
        if study.done or study.spent == self._spent_before:
            return None
        # the first epoch carries the start of the workers: the pace is taken from there
        if self._first is None:
            self._first = time.monotonic(), study.spent
        began, first = self._first
        if study.spent == first:
            return None
        pace = (time.monotonic() - began) / (study.spent - first)
        cap, limit = study.plan.budget, study.plan.seconds
        left = [] if cap is None else [pace * (cap - study.spent)]
        left += [] if limit is None else [max(0.0, limit - study.elapsed)]
        return min(left)

    def share(self, study: Study) -> float:
        """How much of the budget is used, from 0 to 1: of epochs or of time, whichever is more."""
        cap, limit = study.plan.budget, study.plan.seconds
        used = [] if cap is None else [study.spent / cap]
        used += [] if limit is None else [study.elapsed / limit]
        return min(1.0, max(used))

    def __call__(self, study: Study) -> None:
        """Show a change."""
        now = time.monotonic()
        if self.live:
            if now - self._at >= 0.1 or study.done:
                self._at = now
                self.stream.write(f"\r\x1b[2K  {self.line(study)}")
                self.stream.flush()
            return
        tenth = int(10 * self.share(study)) if study.spent else 0
        if (study.incumbent, tenth) != self._shown:
            self._shown = (study.incumbent, tenth)
            print(f"  {self.line(study)}", file=self.stream, flush=True)


class Decoding:
    """How far the reading of images is: a line every ten seconds, on `stream` (default: stderr)."""

    def __init__(self, seconds: float = 10.0, stream: TextIO | None = None):
        self.seconds, self.stream = seconds, stream or sys.stderr
        self._at = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        """Say it, if it is time."""
        now = time.monotonic()
        if now - self._at >= self.seconds:
            self._at = now
            print(f"  read {done:,} of {total:,} images", file=self.stream, flush=True)


@contextmanager
def progress(study: Study, stream: TextIO | None = None) -> Iterator[Progress]:
    """A `Progress` that leaves the cursor on a line of its own, however the study ends."""
    shown = Progress(study, stream)
    try:
        yield shown
    finally:
        if shown.live:
            shown.stream.write("\n")
            shown.stream.flush()
