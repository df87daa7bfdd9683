"""From the steps of a source to epochs: 1 is one epoch trained, 0 is before training."""

import math
from collections.abc import Callable

from foretune.history.vocabulary import spellings
from foretune.stores.findings import Findings
from foretune.stores.record import Record, Source

EPOCH_SERIES = {"epoch", "epoch_epoch", "epochs_trained", "training_iteration", "trainer_epoch"}


def _zero_based(source: Source, steps: list[float], planned: float) -> bool:
    """Whether epoch 0 is the first trained one: by the format, else where counting from 0 gives the
    planned number of epochs or fewer.
    """
    if source.first is not None:
        return source.first == 0
    return bool(steps) and min(steps) == 0 and not max(steps) >= planned


def epochs_of(
    record: Record, source: Source, planned: float, findings: Findings
) -> Callable[[float], float]:
    """A function from a step of this record to epochs (1 = one epoch trained), NaN without one."""
    points = record.series.get(findings.mapping.goal.metric, [])
    steps = [step for step, _ in points if not math.isnan(step)]
    told = _epoch_by_step(record)
    if told and all(step in told for step in steps):
        zero = _zero_based(source, list(told.values()), planned) and all(
            float(e).is_integer() for e in told.values()
        )
        return lambda step: told.get(step, math.nan) + zero
    if source.axis == "epoch" and steps and not max(steps) > 1.5 * planned:
        zero = _zero_based(source, steps, planned)
        return lambda step: step + zero
    if not steps:
        return lambda step: math.nan
    last = max(
        max((s for s, _ in p if not math.isnan(s)), default=0) for p in record.series.values()
    )
    if not math.isnan(planned) and last > 0:
        findings.steps_scaled = True
        return lambda step: step * planned / last
    findings.ordinal = True
    places = {step: k + 1.0 for k, step in enumerate(sorted(set(steps)))}
    return lambda step: places.get(step, math.nan)


def _epoch_by_step(record: Record) -> dict[float, float]:
    for name, points in record.series.items():
        if spellings(name)[0] in EPOCH_SERIES and name != "epochs_trained":
            return {step: value for step, value in points if not math.isnan(step)}
    return {}


def last_epoch(record: Record, source: Source, planned: float) -> float:
    """Epochs done by a value of its own (`epoch` in a row of final values), from 1."""
    for name, points in record.series.items():
        if spellings(name)[0] in EPOCH_SERIES and points:
            last = max(value for _, value in points)
            counted = name == "epochs_trained" or source.first == 1
            return last if counted or last >= planned else last + 1
    return math.nan
