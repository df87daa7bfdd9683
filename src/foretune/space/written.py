"""A search space as people write it: a YAML file with an entry for each hyperparameter.

    learning_rate: {low: 1e-5, high: 1e-1, log: true}     a range; default: in its middle
    batch_size: {low: 16, high: 128, log: true}           whole bounds: whole numbers
    optimizer: [adamw, sgd]                                choices; default: the first
    finetune: {order: [head, last_blocks, most, all]}     choices that have an order
    momentum: {low: 0.8, high: 0.99, if: optimizer == sgd}
    label_smoothing: 0.1                                  a constant

`default:` stands in any entry with braces. A condition compares another hyperparameter: `==`, `!=`,
`<`, `>`, or `in [a, b]`, several joined by `and`. A hyperparameter whose condition does not hold is
not in the configuration.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from foretune.errors import BadInput, near
from foretune.space.parameters import FORMAT, holds
from foretune.space.space import Space

RANGE, CHOICES = ("low", "high", "log", "default", "if"), ("choices", "order", "default", "if")
COMPARISONS = {"==": "EQ", "!=": "NEQ", "<": "LT", ">": "GT", "in": "IN"}
_CONDITION = re.compile(r"\s*([\w.\-]+)\s*(==|!=|<|>|\bin\b)\s*(.+?)\s*")
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
# a text that means a range: 1e-5..1e-1, (0.1, 0.9), 16 to 128 log
_LIKE_A_RANGE = re.compile(
    rf"(?:log\w*\s*)?[\[(]?\s*{_NUMBER}\s*(?:\.\.+|,|\bto\b|\s[-–]\s)\s*{_NUMBER}\s*[\])]?(?:[\s,]*log\w*)?"
)
EXAMPLE = "{low: 1e-5, high: 1e-1, log: true}, [adamw, sgd] or 0.1"


class Entries(yaml.SafeLoader):
    """YAML in which a key that stands twice is a fault, not the last one of them."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node. Raises `BadInput` for a key that stands twice."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for k, key in enumerate(keys):
            if key in keys[:k]:
                raise BadInput(
                    f"entry {key} stands twice, again in line {node.value[k][0].start_mark.line + 1}"
                )
        return super().construct_mapping(node, deep)


def read(path: Path | str) -> Space:
    """The space in a YAML file. Raises `BadInput` with the entry, its value, and what would be
    right.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        return space_of(Entries(text).get_single_data(), Path(path).stem)
    except FileNotFoundError as error:
        raise BadInput(f"there is no search space {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError, RecursionError) as error:
        raise BadInput(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def of_file(path: Path | str) -> Space:
    """The space in a YAML file or a ConfigSpace JSON file. Raises `BadInput`, also for faults that
    ConfigSpace alone sees.
    """
    space = read(path) if Path(path).suffix in (".yaml", ".yml") else Space.load(path)
    space.config_space  # noqa: B018
    return space


def space_of(entries: Any, name: str = "") -> Space:
    """The space of entries as YAML gives them. Raises `BadInput`."""
    if not isinstance(entries, Mapping) or not entries:
        raise BadInput(f"must have entries such as learning_rate: {EXAMPLE}, but is {entries!r}")
    described, conditions = [], []
    for key, entry in entries.items():
        described.append(_parameter(key, entry))
        if isinstance(entry, Mapping) and "if" in entry:
            conditions.append(_condition(str(key), entry["if"], entries))
    return Space(
        {
            "name": name,
            "hyperparameters": described,
            "conditions": conditions,
            "forbiddens": [],
            "format_version": FORMAT,
        }
    )


def _parameter(key: Any, entry: Any) -> dict[str, Any]:
    """One entry as ConfigSpace describes a hyperparameter."""
    if not isinstance(key, str):
        raise BadInput(f"entry {key!r} has no name: a name is a text")
    if isinstance(entry, list):
        return _choices(key, {"choices": entry})
    if not isinstance(entry, Mapping):
        if entry is None:
            raise BadInput(f"entry {key} is empty; {EXAMPLE} would be right")
        entry = _number(entry)
        meant = isinstance(entry, str) and _LIKE_A_RANGE.fullmatch(entry.strip())
        if meant or not isinstance(entry, (str, bool, int, float)):
            raise BadInput(f"entry {key} cannot be {entry!r}; {EXAMPLE} would be right")
        return {"name": key, "type": "constant", "value": entry, "meta": None}
    ranged = "low" in entry or "high" in entry
    known = RANGE if ranged else CHOICES
    for word in entry:
        if word not in known:
            raise BadInput(
                f"entry {key} has the unknown word {word!r}{near(str(word), known)}; "
                f"{EXAMPLE if known is CHOICES else ', '.join(known)} would be right"
            )
    return _range(key, entry) if ranged else _choices(key, entry)


def _range(key: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    bounds = []
    for word in ("low", "high"):
        if word not in entry:
            raise BadInput(f"entry {key} lacks {word}: {dict(entry)}")
        bound = _number(entry[word])
        if isinstance(bound, bool) or not isinstance(bound, (int, float)):
            raise BadInput(f"entry {key}: {word} must be a number, but is {entry[word]!r}")
        bounds.append(bound)
    low, high = bounds
    log = entry.get("log", False)
    if not isinstance(log, bool):
        raise BadInput(f"entry {key}: log must be true or false, but is {log!r}")
    if not low < high:
        raise BadInput(f"entry {key}: low must be below high, but they are {low} and {high}")
    if log and low <= 0:
        raise BadInput(f"entry {key}: low must be above 0 on a log scale, but is {low}")
    integer = isinstance(low, int) and isinstance(high, int)
    middle: float = math.sqrt(low * high) if log else (low + high) / 2
    default = _number(entry.get("default", round(middle) if integer else float(f"{middle:.3g}")))
    return {
        "name": key,
        "type": "uniform_int" if integer else "uniform_float",
        "lower": low if integer else float(low),
        "upper": high if integer else float(high),
        "default_value": default,
        "log": log,
        "meta": None,
    }


def _choices(key: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    words = [word for word in ("choices", "order") if word in entry]
    if len(words) != 1:
        raise BadInput(
            f"entry {key} must have low and high, or choices, or order, but is {dict(entry)}"
        )
    options = entry[words[0]]
    if not isinstance(options, list) or not options:
        raise BadInput(f"entry {key}: {words[0]} must be a list such as [a, b], but is {options!r}")
    options = [_number(one) for one in options]
    for one in options:
        if not isinstance(one, (str, int, float)):
            raise BadInput(f"entry {key}: {one!r} is neither a number, a text nor true or false")
    if len(options) == 1:
        return {"name": key, "type": "constant", "value": options[0], "meta": None}
    default = _number(entry.get("default", options[0]))
    if words[0] == "order":
        return {
            "name": key, "type": "ordinal", "sequence": options, "default_value": default,
            "meta": None,
        }  # fmt: skip
    return {
        "name": key, "type": "categorical", "choices": options, "default_value": default,
        "weights": None, "meta": None,
    }  # fmt: skip


def _condition(key: str, text: Any, entries: Mapping[str, Any]) -> dict[str, Any]:
    """`if: optimizer == sgd and scheduler in [step, cosine]` as ConfigSpace describes it."""
    parts = []
    for part in re.split(r"\band\b", str(text)):
        found = _CONDITION.fullmatch(part)
        if found is None:
            raise BadInput(
                f"entry {key}: if must be a comparison such as optimizer == sgd, but is {text!r}"
            )
        parent, sign, value = found.groups()
        if parent not in entries:
            raise BadInput(
                f"entry {key}: if names {parent!r}, which is no entry{near(parent, entries)}"
            )
        one: dict[str, Any] = {"child": key, "parent": parent, "type": COMPARISONS[sign]}
        read_value = yaml.safe_load(value)
        if sign == "in":
            if not isinstance(read_value, list):
                raise BadInput(f"entry {key}: if ... in must have a list, but has {value!r}")
            one["values"] = [_number(item) for item in read_value]
        else:
            one["value"] = _number(read_value)
        parts.append(one)
    return parts[0] if len(parts) == 1 else {"child": key, "type": "AND", "conditions": parts}


def _number(value: Any) -> Any:
    """A number that YAML 1.1 takes for a text, as 1e-5 has no dot; NumPy's numbers as Python's."""
    if type(value).__module__ == "numpy":  # which need not be imported to tell
        return value.item()
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def fixed(space: Space, values: Mapping[str, Any]) -> Space:
    """`space` with the hyperparameters in `values` as constants, whether or not the space had the
    value. What a constant switches off for good is gone, a condition that it meets too.
    """
    described = space.described
    values = {name: _number(v) for name, v in values.items() if name in space.parameters}
    described["hyperparameters"] = [
        {"name": item["name"], "type": "constant", "value": values[item["name"]], "meta": None}
        if item["name"] in values
        else item
        for item in described["hyperparameters"]
    ]
    gone: set[str] = set()
    while True:
        left, before = [], len(gone)
        for condition in described["conditions"]:
            decided = _decided(condition, values, gone, space)
            if decided is False:
                gone.add(condition["child"])
            elif decided is not True:
                left.append(decided)
        if len(gone) == before:
            break
    described["conditions"] = [one for one in left if one["child"] not in gone]
    described["hyperparameters"] = [
        item for item in described["hyperparameters"] if item["name"] not in gone
    ]
    return Space(described)


def _decided(
    condition: dict[str, Any], values: Mapping[str, Any], gone: set[str], space: Space
) -> bool | dict[str, Any]:
    """Whether constants decide a condition: True, False, or what is left of it."""
    if condition["type"] in ("AND", "OR"):
        parts = [_decided(part, values, gone, space) for part in condition["conditions"]]
        final = condition["type"] == "OR"  # the answer that one part gives for all
        if any(part is final for part in parts):
            return final
        open_ = [part for part in parts if isinstance(part, dict)]
        if len(open_) < 2:
            return open_[0] if open_ else not final
        return {**condition, "conditions": open_}
    if condition["parent"] in gone:
        return False
    if condition["parent"] not in values:
        return condition
    return holds(condition, values, space.parameters)
