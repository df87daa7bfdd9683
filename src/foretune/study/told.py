"""Values as a study is told them, brought to plain numbers."""

from collections.abc import Mapping
from typing import Any

from foretune.errors import BadInput
from foretune.space.names import refuse_alike, refuse_reserved
from foretune.space.parameters import plain, whole


def told_value(name: str, value: Any, *, number: bool) -> Any:
    """`value` as a plain number: scalars, tensors and arrays without dimensions and decimals become
    one; None, which strict JSON writers make of NaN, stays. A text is a label, such as the device,
    unless a `number` is needed or it reads as one.

    Raises `BadInput` naming the column, the value and its type.
    """
    given = plain(value)
    label = isinstance(given, str) and not number and not _reads_as_number(given)
    if given is None or label or isinstance(given, (bool, int, float)):
        return given
    raise BadInput(
        f"column {name!r} must be a number, but got {value!r} of type {type(value).__name__}"
    )


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
    refuse_alike("column", others)
    row = {name: told_value(name, given[name], number=name == metric) for name in others}
    if row[metric] is not None:
        try:
            row[metric] = float(row[metric])
        except OverflowError as error:
            raise BadInput(f"column {metric!r} holds a number above the largest float") from error
    return {"epoch": whole("epoch", given["epoch"]), **row}
