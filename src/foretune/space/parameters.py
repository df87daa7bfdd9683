"""Hyperparameters and conditions as ConfigSpace's JSON writes them, read without ConfigSpace.

ConfigSpace imports scipy.stats, which takes longer than many a whole replay; it is loaded only
where a space is sampled. What everything else needs of a space is in its JSON: bounds, choices,
defaults, and under which values of its parents a hyperparameter is active.
"""

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretune.errors import BadInput

FORMAT = 0.4  # the serialization that is read here; ConfigSpace turns others into it
NUMERIC = ("uniform_float", "uniform_int", "normal_float", "normal_int", "beta_float", "beta_int")


def plain(value: Any) -> Any:
    """The value as a plain Python number, string or bool."""
    return value.item() if isinstance(value, np.generic) else value


KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list",
}


def coerce(kind: type, value: Any, where: str, hint: str = "") -> Any:
    """`value` as one of `kind` (bool, int, float, str or tuple), without loss: a whole number is a
    number, a list a tuple, and nothing else becomes what it is not.

    Raises `BadInput` that says `where`, and `hint` after what would be right.
    """
    given = plain(value)
    match kind():
        case bool():
            fits = isinstance(given, bool)
        case int():
            fits = isinstance(given, int) and not isinstance(given, bool)
        case float():
            number = isinstance(given, (int, float)) and not isinstance(given, bool)
            fits = number and math.isfinite(given)
        case tuple():
            fits = isinstance(given, (list, tuple))
        case _:
            fits = isinstance(given, kind)
    if not fits:
        raise BadInput(f"{where} must be {KINDS[kind]}{hint}, but got {value!r}")
    return kind(given)


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter.

    A numeric one has `lower`, `upper`, `log`, `integer`; the others have `options` (a constant: its
    one value).
    """

    name: str
    kind: str
    default: Any
    lower: float = 0.0
    upper: float = 1.0
    log: bool = False
    options: tuple[Any, ...] = ()

    @property
    def numeric(self) -> bool:
        """Whether it has bounds."""
        return self.kind in NUMERIC

    @property
    def integer(self) -> bool:
        """Whether its values are whole numbers."""
        return self.kind.endswith("_int")

    @property
    def sequence(self) -> tuple[Any, ...]:
        """The options of an ordinal hyperparameter in their order, else none."""
        return self.options if self.kind == "ordinal" else ()


def parameter(item: Mapping[str, Any]) -> Parameter:
    """Read one entry of `hyperparameters`.

    Raises `BadInput` for a kind or bounds that make none, KeyError for a missing key.
    """
    name, kind = str(item["name"]), item["type"]
    if kind in NUMERIC:
        lower, upper, log = item["lower"], item["upper"], bool(item.get("log", False))
        in_order = math.isfinite(lower) and math.isfinite(upper) and lower <= upper
        if not in_order or (log and lower <= 0):
            raise BadInput(
                f"hyperparameter {name!r} has bounds {lower} to "
                f"{upper}{' on a log scale' if log else ''}"
            )
        return Parameter(name, kind, item["default_value"], lower, upper, log)
    options = {"categorical": "choices", "ordinal": "sequence"}
    if kind in options:
        return Parameter(name, kind, item["default_value"], options=tuple(item[options[kind]]))
    if kind == "constant":
        return Parameter(name, kind, item["value"], options=(item["value"],))
    raise BadInput(f"hyperparameter {name!r} is of the unknown type {kind!r}")


def choices(parameter: Parameter) -> list[Any]:
    """The one-hot choices of a categorical or constant hyperparameter, else an empty list."""
    return list(parameter.options) if parameter.kind in ("categorical", "constant") else []


def unit(values: np.ndarray, parameter: Parameter) -> np.ndarray:
    """Positions of `values` between the bounds of a numeric hyperparameter, clipped to [0, 1]."""
    lower, upper = float(parameter.lower), float(parameter.upper)
    if parameter.log:
        lower, upper, values = math.log(lower), math.log(upper), np.log(np.maximum(values, 1e-300))
    return np.clip((values - lower) / ((upper - lower) or 1.0), 0.0, 1.0)


def from_unit(position: float, parameter: Parameter) -> Any:
    """The value at `position` in [0, 1] of a numeric hyperparameter: inverse of `unit`."""
    lower, upper = float(parameter.lower), float(parameter.upper)
    if parameter.log:
        value = math.exp(math.log(lower) + position * math.log(upper / lower))
    else:
        value = lower + position * (upper - lower)
    value = min(max(value, lower), upper)
    return round(value) if parameter.integer else value


def parents(condition: Mapping[str, Any]) -> Iterator[str]:
    """Names of the hyperparameters that a condition asks about."""
    if condition["type"] in ("AND", "OR"):
        for part in condition["conditions"]:
            yield from parents(part)
    else:
        yield condition["parent"]


def holds(
    condition: Mapping[str, Any], values: Mapping[str, Any], known: Mapping[str, Parameter]
) -> bool:
    """Whether a condition is met by the decided `values`; an inactive parent meets none.

    Raises `BadInput` for an unknown type.
    """
    kind = condition["type"]
    if kind in ("AND", "OR"):
        met = (holds(part, values, known) for part in condition["conditions"])
        return all(met) if kind == "AND" else any(met)
    name = condition["parent"]
    if name not in values:
        return False
    value = plain(values[name])
    match kind:
        case "EQ":
            return bool(value == condition["value"])
        case "NEQ":
            return bool(value != condition["value"])
        case "IN":
            return value in condition["values"]
        case "LT" | "GT":
            # ordinals compare by their order
            place = known[name].sequence.index if known[name].sequence else float
            compare = operator.lt if kind == "LT" else operator.gt
            return bool(compare(place(value), place(condition["value"])))
    raise BadInput(f"the condition on {condition['child']!r} is of the unknown type {kind!r}")
