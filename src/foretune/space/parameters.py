"""Hyperparameters and conditions as ConfigSpace's JSON writes them, read without ConfigSpace.

ConfigSpace imports scipy.stats, which takes longer than many a whole replay; it is loaded only
where a space is sampled. What everything else needs of a space is in its JSON: bounds, choices,
defaults, and under which values of its parents a hyperparameter is active.
"""

import math
import operator
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from foretune.errors import BadInput

LARGEST = sys.float_info.max
FORMAT = 0.4  # the serialization that is read here; ConfigSpace turns others into it
# most values are these already: asked first, since a pool of 10,000 configurations has 60,000
PLAIN = frozenset({bool, float, int, str, type(None)})
NUMERIC = ("uniform_float", "uniform_int", "normal_float", "normal_int", "beta_float", "beta_int")


def plain(value: Any) -> Any:
    """The value as a plain Python number, string or bool: numpy's scalars, arrays and tensors
    without dimensions, decimals and fractions become what they hold; anything else stays.
    """
    if type(value) in PLAIN:
        return value
    if isinstance(value, (Decimal, Fraction)):
        return float(value)
    if isinstance(value, np.longdouble):
        return float(value)
    without_dimensions = hasattr(value, "item") and getattr(value, "ndim", None) == 0
    return value.item() if isinstance(value, np.generic) or without_dimensions else value


def to_json(value: Any) -> Any:
    """What `json.dumps` takes for a value that JSON does not know (its `default`). Raises TypeError
    for one that is no number, text or truth value.
    """
    given = plain(value)
    if given is value:
        raise TypeError(f"{value!r} of type {type(value).__name__} has no place in JSON")
    return given


def whole(name: str, value: Any) -> int:
    """`value` as an int where it is one exactly (3, 3.0, a numpy scalar). Raises `BadInput` that
    names it.
    """
    given = plain(value)
    number = isinstance(given, (int, float)) and not isinstance(given, bool)
    if not number or not math.isfinite(given) or given != int(given):
        raise BadInput(f"{name}={value!r} must be a whole number")
    return int(given)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, where True is not 1 and False is not 0."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


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

    def place(self, value: Any) -> int | None:
        """Where `value` stands among the options, None where it is none of them."""
        given = plain(value)
        return next((k for k, one in enumerate(self.options) if same(one, given)), None)

    def typed(self, value: Any) -> Any:
        """`value` in this hyperparameter's own type where it is one of its values: an int, a float
        or the option that equals it. Anything else comes back as it is, for `Space.check` to
        refuse.
        """
        given = plain(value)
        if not self.numeric:
            place = self.place(given)
            return given if place is None else self.options[place]
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            return given
        if not math.isfinite(given):
            return given
        if self.integer:
            return int(given) if given == int(given) else given
        return float(given) if abs(given) <= LARGEST else given


def parameter(item: Mapping[str, Any]) -> Parameter:
    """Read one entry of `hyperparameters`; one whose bounds are equal is a constant.

    Raises `BadInput` for a kind, bounds, options or a default that make none.
    """
    if not isinstance(item, Mapping):
        raise BadInput(f"a hyperparameter is described by {item!r}; it must be an object")
    name, kind = item.get("name"), item.get("type")
    where = f"hyperparameter {name!r}"
    refuse_unencodable("a hyperparameter's name", [name])
    key = {"categorical": "choices", "ordinal": "sequence", "constant": "value"}.get(str(kind))
    if kind in NUMERIC:
        wanted: tuple[str, ...] = ("lower", "upper", "default_value")
    elif key is not None:
        wanted = (key,) if kind == "constant" else (key, "default_value")
    else:
        raise BadInput(f"{where} is of the unknown type {kind!r}")
    if lacking := [k for k in wanted if k not in item]:
        raise BadInput(f"{where} lacks {', '.join(lacking)}")
    if kind in NUMERIC:
        return _numeric(str(name), str(kind), item)
    if kind == "constant":
        refuse_composed(where, [item["value"]])
        refuse_unencodable(where, [item["value"]])
        return Parameter(str(name), "constant", item["value"], options=(item["value"],))
    options = item[str(key)]
    if not isinstance(options, (list, tuple)) or not options:
        raise BadInput(f"{where} must have a list of {key} that is not empty, but has {options!r}")
    refuse_composed(where, options)
    refuse_unencodable(where, options)
    for k, one in enumerate(options):
        # ConfigSpace takes True for 1 and False for 0
        if one in options[:k]:
            raise BadInput(
                f"{where} has {one!r} and the equal {options[options.index(one)]!r} among its {key}"
            )
    found = Parameter(str(name), str(kind), item["default_value"], options=tuple(options))
    if found.place(found.default) is None:
        raise BadInput(
            f"{where} has the default {found.default!r}, which is not one of "
            f"{', '.join(map(repr, options))}"
        )
    return found


def refuse_unencodable(where: str, values: Iterable[Any]) -> None:
    """Raise `BadInput` for a text that UTF-8 cannot hold, and so neither journal nor table."""
    for one in values:
        if isinstance(one, str) and any("\ud800" <= letter <= "\udfff" for letter in one):
            raise BadInput(f"{where} has {one!r}, which is no text: half of a character pair alone")


def refuse_composed(where: str, values: Sequence[Any]) -> None:
    """Raise `BadInput` for a value that no cell of a table holds, such as a list."""
    for one in values:
        if isinstance(one, (Mapping, list, tuple, set)):
            raise BadInput(
                f"{where} has the value {one!r}; it must be a number, a text, true, false or null, "
                "such as '0.9,0.99' for a pair"
            )


def refuse_quantization(item: Mapping[str, Any]) -> None:
    """Raise `BadInput` for a hyperparameter of an old format that moves in steps (`q`), which
    ConfigSpace would drop.
    """
    q = item.get("q")
    if q is not None and not (q == 1 and str(item.get("type")).endswith("_int")):
        raise BadInput(
            f"hyperparameter {item.get('name')!r} moves in steps of q={q!r}, which ConfigSpace "
            "no longer knows: leave q out, or list the values as an ordinal hyperparameter"
        )


def _numeric(name: str, kind: str, item: Mapping[str, Any]) -> Parameter:
    where = f"hyperparameter {name!r}"
    refuse_quantization(item)
    log, integer = item.get("log", False), kind.endswith("_int")
    if not isinstance(log, bool):
        raise BadInput(f"{where} has log {log!r}; it must be true or false")
    for key in ("lower", "upper", "default_value"):
        value = item[key]
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or (integer and value != int(value)):
            expected = "a whole number" if integer else "a finite number"
            raise BadInput(f"{where} has {key} {value!r}; it must be {expected}")
    lower, upper, default = item["lower"], item["upper"], item["default_value"]
    scale = " on a log scale" if log else ""
    if lower > upper or (log and lower <= 0):
        raise BadInput(f"{where} has bounds {lower} to {upper}{scale}")
    if integer and max(abs(lower), abs(upper)) >= 2**63:
        raise BadInput(f"{where} has bounds {lower} to {upper}; tables hold 64 bits")
    slack = 1e-9 * max(abs(lower), abs(upper))
    if not lower - slack <= default <= upper + slack:
        raise BadInput(f"{where} has the default {default}, which is not from {lower} to {upper}")
    if lower == upper:
        only = int(lower) if integer else float(lower)
        return Parameter(name, "constant", only, options=(only,))
    return Parameter(name, kind, default, lower, upper, log)


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


def check_condition(condition: Any, known: Mapping[str, Parameter]) -> None:
    """Raise `BadInput` for a condition that is none, or asks for a value that its parent cannot
    have.
    """
    kind = condition.get("type") if isinstance(condition, Mapping) else None
    child = condition.get("child") if isinstance(condition, Mapping) else None
    if kind in ("AND", "OR"):
        parts = condition.get("conditions")
        if not isinstance(parts, (list, tuple)) or not parts:
            raise BadInput(f"the condition on {child!r} has no parts")
        for part in parts:
            check_condition(part, known)
        return
    if kind not in ("EQ", "NEQ", "IN", "LT", "GT"):
        raise BadInput(f"the condition on {child!r} is of the unknown type {kind!r}")
    key = "values" if kind == "IN" else "value"
    if lacking := [k for k in ("parent", key) if k not in condition]:
        raise BadInput(f"the condition on {child!r} lacks {', '.join(lacking)}")
    for name in (child, condition["parent"]):
        if name not in known:
            raise BadInput(f"a condition names the unknown hyperparameter {name!r}")
    parent = known[condition["parent"]]
    for value in condition["values"] if kind == "IN" else [condition["value"]]:
        if not parent.numeric and parent.place(value) is None:
            raise BadInput(
                f"the condition on {child!r} asks for {parent.name}={value!r}, which is not one of "
                f"{', '.join(map(repr, parent.options))}"
            )


def named_in(clause: Any) -> Iterator[Any]:
    """Names of the hyperparameters that a forbidden clause speaks of."""
    if isinstance(clause, Mapping):
        yield from (clause[key] for key in ("name", "left", "right") if key in clause)
        for part in clause.get("clauses") or ():
            yield from named_in(part)
