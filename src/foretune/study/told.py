"""Values as a study is told them, brought to plain numbers."""

import math
from collections.abc import Iterable, Mapping, Set
from typing import Any

from foretune.errors import BadInput, at_least
from foretune.space.names import refuse_alike, refuse_reserved
from foretune.space.parameters import plain, whole
from foretune.study.journal import finite
from foretune.study.plan import Step

MOST = 2**63 - 1  # of a whole number in a table


def told_value(name: str, value: Any, *, number: bool) -> Any:
    """`value` as a plain number: scalars, tensors and arrays without dimensions and decimals become
    one; None, which strict JSON writers make of NaN, stays. A text is a label, such as the device,
    unless a `number` is needed or it reads as one.

    Raises `BadInput` naming the column, the value and its type.
    """
    if getattr(value, "mask", False) is not False and bool(value.mask):
        raise BadInput(f"column {name!r} is masked: it has no value")
    given = plain(value)
    if isinstance(given, int) and abs(given) > MOST:
        given = as_float(name, given)
    label = isinstance(given, str) and not number and not _reads_as_number(given)
    if label:
        return encodable(given)
    if given is None or isinstance(given, (bool, int, float)):
        return given
    raise BadInput(
        f"column {name!r} must be a number, but got {value!r} of type {type(value).__name__}"
    )


def as_float(name: str, value: float) -> float:
    """A number as a float. Raises `BadInput` naming its column if it is above the largest one."""
    try:
        return float(value)
    except OverflowError as error:
        raise BadInput(f"column {name!r} holds a number above the largest float") from error


def encodable(text: str) -> str:
    """A text that UTF-8 can hold: what is no character, as of a file's name in another encoding, is
    a question mark.
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def told_values(values: Any) -> list[Any]:
    """The values told of a step, one an epoch. Raises `BadInput` for what is no list of them, such
    as a single number.
    """
    several = isinstance(values, Iterable) and getattr(values, "ndim", 1) == 1
    if not several or isinstance(values, (str, bytes, Mapping, Set)):
        raise BadInput(
            f"told were {str(values)[:80]!r} of type {type(values).__name__}: tell a list of "
            "numbers or rows, one for each epoch of the step, such as [0.5]"
        )
    return list(values)


def told_step(step: Any) -> Step:
    """A step with whole numbers. Raises `BadInput` for what is none, such as a number."""
    try:
        given = step.config_id, step.start, step.stop
    except AttributeError as error:
        raise BadInput(
            f"{step!r} of type {type(step).__name__} is no step: give what Study.ask returned, or "
            "Step(config_id, start, stop)"
        ) from error
    if isinstance(step.config_id, bool):
        raise BadInput(f"configuration {step.config_id} is unknown: ids are whole numbers")
    names = ("the step's config_id", "the step's start", "the step's stop")
    config_id, start, stop = (whole(n, v) for n, v in zip(names, given, strict=True))
    return Step(config_id, start, stop, step.because)


def told_seconds(name: str, value: Any) -> float:
    """Seconds that something took. Raises `BadInput` for what is no number of them."""
    given = plain(value)
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not number or not math.isfinite(given):
        raise BadInput(f"{name}={value!r} must be a number of seconds")
    return float(given)


def told_failure(epoch: Any, reason: Any) -> tuple[int, str]:
    """The epoch in which a trial failed, and why. Raises `BadInput` for an epoch that is none."""
    number = whole("epoch", epoch)
    at_least(0, epoch=number)
    return number, encodable(str(reason))


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def told_row(given: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """A row of `epoch`, `metric` and further columns as plain values. Raises `BadInput` for a row
    without its epoch or metric, an epoch that is not whole, what `told_value` refuses, and a column
    with a name that the tables use themselves.
    """
    if lacking := [name for name in ("epoch", metric) if name not in given]:
        raise BadInput(f"a told row lacks {lacking[0]!r}; it has {', '.join(map(str, given))}")
    others = [name for name in given if name != "epoch"]
    refuse_reserved("column", others)
    if odd := [name for name in others if encodable(name) != name]:
        raise BadInput(f"a column is named {odd[0]!r}, which UTF-8 cannot hold")
    refuse_alike("column", others)
    row = {name: told_value(name, given[name], number=name == metric) for name in others}
    if row[metric] is not None:
        row[metric] = as_float(metric, row[metric])
    return {"epoch": whole("epoch", given["epoch"]), **row}


def same(told: Any, now: Any) -> bool:
    """Whether two values of a metric are one: equal, or neither of them finite."""
    if finite(told) and finite(now):
        return bool(told == now)
    return not finite(told) and not finite(now)
