"""A run of anybody's, told in so many words, as history: what `foretune import` does for files.

    tell_run(data, "team", task="roses", config={"lr": 1e-3}, metric="val_acc", values=[.7, .8])

Names, units and what is private are read as for any import (`foretune.stores.importing`). Telling
the same run again adds nothing, telling it with more epochs puts it in the place of the shorter one.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.running.history import FOLDER
from foretune.running.opening import check_name
from foretune.stores.importing import import_runs
from foretune.stores.mapping import left_out, propose
from foretune.stores.metrics import Goal, choose, understood
from foretune.stores.record import Record, Source

FORMAT = "told"
STATES = ("finished", "failed", "stopped", "running")
MOST = 100_000  # values of a run, and characters of a name


@dataclass(frozen=True)
class Told:
    """What became of a run that was told: the store and its part (None: nothing was new), the run as
    it was understood, and the names that were left out, by reason.
    """

    store: Path
    part: Path | None
    run: Mapping[str, Any]
    left_out: Mapping[str, Sequence[str]]


def tell_run(
    data: Path,
    store: str,
    *,
    task: str,
    config: Mapping[str, Any],
    metric: str,
    values: Sequence[float | None],
    goal: str | None = None,
    state: str = "finished",
    planned: int | None = None,
    seconds: float | None = None,
    name: str | None = None,
    trainer: str = "",
) -> Told:
    """Add a run with the metric's value after each epoch (or its last alone; None or NaN where it
    diverged; none of a run that failed) to DATA/history/STORE. Raises `BadInput` for what is no run,
    and for a store's name that leads elsewhere.
    """
    check_store(store)
    if state not in STATES:
        raise BadInput(f"state={state!r} must be one of {', '.join(STATES)}")
    for what, text in (("task", task), ("metric", metric)):
        if not text.strip() or len(text) > 200 or "\0" in text:
            raise BadInput(f"{what}={text[:40]!r} must be a name")
    if not config:
        raise BadInput("config is empty: give what the run was trained with, such as learning_rate")
    if not values and state not in ("failed", "running"):
        raise BadInput(f"values is empty: give {metric} after each epoch, or state=failed")
    if len(values) > MOST:
        raise BadInput(f"values has {len(values):,} values; at most {MOST:,} are taken")
    if seconds is not None and not 0 <= seconds < math.inf:
        raise BadInput(f"seconds={seconds:g} must be 0 or more")
    curve = [math.nan if value is None else float(value) for value in values] or [math.nan]
    record = Record(
        name=name or digest(task, config, metric),
        group=task,
        params=dict(config),
        series={metric: [(float(k), value) for k, value in enumerate(curve, 1)]},
        state=state,
        seconds=seconds,
        unique=True,
        planned=None if planned is None else float(planned),
    )
    source = Source(FORMAT, store, [record], axis="epoch", first=1, trainer=trainer)
    mapping = propose(source, goal_of(source, metric, goal), {"task": f"={task}"})
    part, _ = import_runs(source, mapping)
    if not part.columns:
        why = "; ".join(f"{', '.join(names)}: {what}" for what, names in left_out(mapping).items())
        raise BadInput(f"nothing of config could be kept ({why})")
    folder = data / FOLDER / store
    new = part.add_to(folder)
    row = {str(name): cell for name, cell in part.runs.iloc[0].dropna().items()}
    return Told(folder, folder / new.part_name() if len(new) else None, row, left_out(mapping))


def check_store(store: str) -> None:
    """Raise `BadInput` for a store's name that is no plain folder name."""
    try:
        check_name(store or ".")
    except BadInput as error:
        raise BadInput(
            f"store={store!r} must be a plain folder name in DATA/{FOLDER}, such as team"
        ) from error


def goal_of(source: Source, metric: str, goal: str | None) -> Goal:
    """The metric of a told run; of one without any value too."""
    if any(math.isfinite(value) for _, value in source.records[0].series[metric]):
        return choose(source, metric, goal)
    known = understood(metric)
    direction = goal or known.goal
    if direction not in ("maximize", "minimize"):
        raise BadInput(f"whether more of {metric!r} is better cannot be told: give goal")
    return Goal(metric, direction, "", known.split, "as told")


def digest(task: str, config: Mapping[str, Any], metric: str) -> str:
    """A name for a run that has none: by what it was run with."""
    text = json.dumps([task, config, metric], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
