"""The study loop: ask, run, tell, until the budget is spent; stops and resumes at any point.

What a killed run left is in two places, both written by rename or whole lines: the study's journal
(steps asked for, epochs told) and the trials' checkpoints (with the rows of their epochs). Steps
that were under way are taken up first; epochs that a checkpoint has and the journal lacks are told
from it, not trained again.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from foretune.running.costs import alone
from foretune.running.objectives.training import Training
from foretune.running.presence import Presence
from foretune.running.workers import Died, Ended, InProcess, Processes, Row, Workers
from foretune.searchers.base import Searcher
from foretune.study.study import Step, Study
from foretune.tasks.reading import processors

RETRIES = 2  # of a step whose worker died; then the trial has failed


class Stopwatch:
    """Seconds a study has run, over all its runs, on the monotonic clock: the wall clock may
    jump. `before` are those of earlier runs; this run began at `began` (default: now).
    """

    def __init__(self, before: float, began: float | None = None):
        self._zero = (time.monotonic() if began is None else began) - before

    def __call__(self) -> float:
        return time.monotonic() - self._zero


def run_study(
    study: Study,
    searcher: Searcher,
    workers: Workers,
    *,
    on_change: Callable[[Study], None] = lambda study: None,
    every: float = 0.5,
    clock: Stopwatch | None = None,
) -> None:
    """Run `study` to its end. `on_change` is called after each change, and at least each `every`
    seconds while waiting.

    A time budget runs on `clock` (default: from now on). No step is begun of which not one epoch
    would end in time; with the time for training used, or none of the steps under way about to end
    an epoch within it, they are broken off and stay pending, for a study that is given more. An
    exception, Ctrl-C included, closes the workers and leaves the study as it stands, to be continued
    by another call. A full disk is such an exception, an OSError that names the study's folder if it
    knows no file.
    """
    try:
        time = clock or Stopwatch(study.elapsed)
        with Presence(study.folder) as presence:
            _run(study, searcher, workers, presence, on_change, every, time)
    except OSError as error:
        if error.filename is None and error.errno is not None and study.folder is not None:
            error.filename = str(study.folder)
        raise


def _run(
    study: Study,
    searcher: Searcher,
    workers: Workers,
    presence: Presence,
    on_change: Callable[[Study], None],
    every: float,
    clock: Stopwatch,
) -> None:
    break_off = not isinstance(workers, InProcess)
    study.costs = replace(study.costs, workers=max(1, workers.free), break_off=break_off)
    deaths: Counter[int] = Counter()
    queue = study.pending_steps()
    # (configuration, epoch it started from): a trial's next step may begin before its last has
    # ended
    running: set[tuple[int, int]] = set()
    heard: dict[int, float] = {}  # when a configuration's epoch under way began, on the clock
    try:
        while True:
            study.clock(clock())
            while workers.free and (step := next_step(study, searcher, queue)):
                workers.submit(step, study.configs[step.config_id])
                running.add((step.config_id, step.start))
                heard[step.config_id] = clock()
            if not running or study.out_of_time or hopeless(study, heard, running, clock()):
                break
            presence(places(workers, {i for i, _ in running}))
            for event in workers.events(min(every, max(0.01, study.seconds_left))):
                i = event.step.config_id
                heard[i] = clock()
                match event:
                    case Row(step, row):
                        study.tell(step, untold(study, i, [row]), elapsed=clock())
                        deaths.pop(i, None)
                    case Ended(step, outcome):
                        running.discard((i, step.start))
                        study.tell(step, untold(study, i, outcome.rows), elapsed=clock())
                        if outcome.failed:
                            study.fail(step, int(study.epoch[i]) + 1, outcome.failed)
                    case Died(step, reason):
                        running.discard((i, step.start))
                        # else it died with its last epoch told
                        lost = bool(study.pending[i]) and study.epoch[i] < step.stop
                        deaths[i] += 1
                        if lost and deaths[i] > RETRIES:
                            study.fail(
                                step,
                                int(study.epoch[i]) + 1,
                                f"{reason}, {deaths[i]} times in a row (out of memory?)",
                            )
                        elif lost:
                            queue.append(Step(i, int(study.epoch[i]), step.stop, step.because))
            study.clock(clock())
            study.costs = replace(study.costs, alone=alone_by(workers))
            on_change(study)
        budget = study.plan.budget
        if study.plan.seconds is not None and (budget is None or study.spent < budget):
            study.conclude()
    finally:
        workers.close()
        study.save_tables()


def alone_by(workers: Workers) -> float:
    """`Costs.alone`, by what the workers have used so far."""
    if not isinstance(workers, Processes) or (share := workers.share) is None:
        return 1.0
    threads = max(1, getattr(getattr(workers.objective, "settings", None), "threads", 1))
    return alone(share / threads, workers.count, threads, processors())


def places(workers: Workers, trials: set[int]) -> dict[int, str]:
    """Trial -> where its step runs, as far as the workers know."""
    known = workers.places if isinstance(workers, Processes) else {}
    return {i: known.get(i, "") for i in sorted(trials)}


def untold(study: Study, i: int, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of trial `i` that the study does not know. A machine that trains an epoch once more,
    because its checkpoint was lost, may come to slightly other numbers: the first told are kept.
    """
    told = {row["epoch"] for row in study.rows.get(i, [])}
    return [row for row in rows if row["epoch"] not in told]


def next_step(study: Study, searcher: Searcher, queue: list[Step]) -> Step | None:
    """The next interrupted step of `queue` that has time for an epoch, else what the searcher
    suggests; None when nothing can be done now.
    """
    if study.done:
        return None
    while queue:
        step = queue.pop(0)
        if study.reach[step.config_id] > 0:
            return step
    return study.ask(searcher)


def hopeless(
    study: Study, heard: Mapping[int, float], running: Set[tuple[int, int]], now: float
) -> bool:
    """Whether no trial under way will end its epoch in the time for training, even if it is quick;
    one that takes longer than that already may end at any moment.
    """
    if study.timeless or not study.pace.timed:
        return False
    pace = study.pace
    early = study.epoch < pace.count
    quick = np.exp(np.where(early, pace.early, pace.log) - pace.doubt)
    left = study.seconds_for_an_epoch
    return all(quick[i] - (now - heard[i]) > left[i] for i, _ in running)


def needed(study: Study) -> set[int]:
    """Trials whose last checkpoint a later step may need: paused or under way, while there is
    budget.
    """
    if study.done:
        return set()
    alive = ~study.failed & (study.epoch > 0) & (study.epoch < study.max_epoch) | (
        study.pending > 0
    )
    return {int(i) for i in np.flatnonzero(alive)}


def needed_checkpoints(study: Study, objective: Training) -> set[Path]:
    """The checkpoints that a step can need: those of `needed` trials, and of the incumbent's best
    epoch.
    """
    incumbent, live = study.incumbent, needed(study)
    keep = {objective.checkpoint(i) for i in live}
    return keep | {
        objective.checkpoint(i, best=True) for i in live | ({incumbent[0]} if incumbent else set())
    }


def delete_checkpoints(study: Study, objective: Training) -> None:
    """Delete the checkpoints that no step can need."""
    keep = needed_checkpoints(study, objective)
    for path in objective.folder.glob("trial-*.ckpt"):
        if path not in keep:
            path.unlink(missing_ok=True)


def sweep(objective: Training) -> None:
    """Delete what killed workers left half-written; for a time when no worker runs."""
    for path in objective.folder.glob(".trial-*"):
        path.unlink(missing_ok=True)
