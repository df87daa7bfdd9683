"""The search space and its encoding to numbers.

A configuration is a plain dict of hyperparameter name to value, without the hyperparameters that a
parent switches off.

Columns of the encoding, in this order (n configurations give a float64 array of shape (n, dims)):

| hyperparameter                 | columns                                                         |
|--------------------------------|-----------------------------------------------------------------|
| float, integer                 | 1: position in [0, 1] between the bounds, on the log scale if   |
|                                | declared so                                                     |
| ordinal                        | 1: rank / (choices - 1)                                         |
| categorical, constant          | one per choice: one-hot                                         |
| conditional (any of the above) | one more, at the end: 1 where active, 0 where a parent switches |
|                                | it off                                                          |

Inactive hyperparameters have zeros in their own columns.
"""

import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.space.names import refuse_alike, refuse_reserved
from foretune.space.parameters import (
    FORMAT,
    Parameter,
    check_condition,
    choices,
    from_unit,
    holds,
    named_in,
    parameter,
    parents,
    plain,
    refuse_quantization,
    to_json,
    unit,
)

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

Config = dict[str, Any]
WHOLE_TO = 1e12  # beyond it a float of 12 digits stands for several whole numbers
__all__ = ["Config", "Space", "choices", "config_key", "from_unit", "plain", "to_json", "unit"]


def config_key(config: Mapping[str, Any]) -> str:
    """A text that two configurations share exactly when they are equal (floats to 12 digits). Raises
    `BadInput` for a value that is no number, text or truth value.
    """
    values = {k: _number_key(plain(v)) for k, v in config.items()}
    try:
        return json.dumps(values, sort_keys=True, default=to_json)
    except TypeError as error:
        raise BadInput(f"{dict(config)} is no configuration: {error}") from error


def _number_key(value: Any) -> Any:
    """A float to 12 digits, a whole one as the int that it equals."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    rounded = float(f"{value:.12g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < WHOLE_TO else rounded


class Space:
    """A search space, its encoding, sampling and checks.

    It is made of a ConfigSpace `ConfigurationSpace`, or of the dict that its JSON holds.

    Raises `BadInput` for a dict that describes no space.
    """

    def __init__(self, source: "ConfigurationSpace | Mapping[str, Any]"):
        described: Any = source
        # a ConfigurationSpace is a mapping too
        if not isinstance(source, Mapping) or "hyperparameters" not in source:
            described = source.to_serialized_dict()  # type: ignore[union-attr]
        self._described: dict[str, Any] = json.loads(json.dumps(described, default=to_json))
        items = self._described["hyperparameters"]
        if not isinstance(items, list):
            raise BadInput(f"the hyperparameters must be a list, but are {items!r}")
        found = [parameter(item) for item in items]
        refuse_reserved("hyperparameter", [item.get("name") for item in items])
        refuse_alike("hyperparameter", [p.name for p in found])
        self.parameters: dict[str, Parameter] = {p.name: p for p in found}
        if len(self.parameters) < len(found):
            names = [p.name for p in found]
            double = next(name for name in names if names.count(name) > 1)
            raise BadInput(f"two hyperparameters are named {double!r}")
        self._described["hyperparameters"] = [
            item if item["type"] == p.kind else _constant(p)
            for item, p in zip(items, found, strict=True)
        ]
        self._conditions: dict[str, list[dict[str, Any]]] = {}
        for condition in self._described.get("conditions") or []:
            check_condition(condition, self.parameters)
            self._conditions.setdefault(condition["child"], []).append(condition)
        forbidden = self._described.get("forbiddens") or []
        for name in (name for clause in forbidden for name in named_in(clause)):
            if name not in self.parameters:
                raise BadInput(f"a forbidden clause names the unknown hyperparameter {name!r}")
        self.default()  # refuses conditions that go round in a circle
        if forbidden:
            self.config_space  # noqa: B018 - ConfigSpace's own checks of the clauses

    @classmethod
    def load(cls, path: Path | str) -> "Space":
        """Read a ConfigSpace JSON file; raises `BadInput` if it is none."""
        try:
            # Windows' editors begin a file with a byte-order mark
            described = json.loads(Path(path).read_text(encoding="utf-8-sig"))
            items = described.get("hyperparameters") if isinstance(described, dict) else None
            if not isinstance(items, list):
                raise BadInput(
                    "a ConfigSpace JSON file is an object with a list `hyperparameters`; this is none"
                )
            version = described.get("format_version", FORMAT)
            if (
                isinstance(version, bool)
                or not isinstance(version, (int, float))
                or version > FORMAT
            ):
                raise BadInput(
                    f"format_version {version!r} is unknown; the newest read is {FORMAT:g}"
                )
            for item in items:
                refuse_quantization(item)
            # as the oldest formats name it
            renamed = [{**p, "default_value": p["default"]} if "default" in p else p for p in items]
            complete = all("default_value" in p or "value" in p for p in renamed)
            found = cls({**described, "hyperparameters": renamed}) if complete else None
            if found is not None and described.get("format_version") == FORMAT:
                return found
            from ConfigSpace import ConfigurationSpace

            return cls(ConfigurationSpace.from_serialized_dict(described))
        except FileNotFoundError as error:
            raise BadInput(f"there is no search space {path}") from error
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(
                f"{path} is not a ConfigSpace JSON search space: {type(error).__name__}: {error}"
            ) from error

    def save(self, path: Path | str) -> None:
        """Write the space as ConfigSpace JSON, by rename."""
        write_atomic(path, json.dumps(self._described, indent=1) + "\n")

    @property
    def described(self) -> dict[str, Any]:
        """The space as ConfigSpace's JSON has it, a copy."""
        return deepcopy(self._described)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and _essence(self._described) == _essence(other._described)

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def config_space(self) -> "ConfigurationSpace":
        """The ConfigSpace object, made when it is first asked for. Raises `BadInput` for what only
        ConfigSpace refuses.
        """
        from ConfigSpace import ConfigurationSpace

        try:
            return ConfigurationSpace.from_serialized_dict(deepcopy(self._described))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"ConfigSpace refuses the space: {error}") from error

    @cached_property
    def names(self) -> list[str]:
        """Hyperparameter names, in the order of the columns."""
        return list(self.parameters)

    @cached_property
    def conditional(self) -> list[str]:
        """Names of the hyperparameters that a parent can switch off."""
        return [n for n in self.names if n in self._conditions]

    @cached_property
    def columns(self) -> dict[str, slice]:
        """The columns of each hyperparameter, its activity column not included."""
        out, at = {}, 0
        for name, p in self.parameters.items():
            width = len(choices(p)) or 1
            out[name] = slice(at, at + width)
            at += width
        return out

    @property
    def dims(self) -> int:
        """Number of columns of the encoding."""
        return max((s.stop for s in self.columns.values()), default=0) + len(self.conditional)

    def encode(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Encode configurations to (n, dims) numbers in [0, 1]; see the module's table.

        Raises `BadInput` on an unknown choice.
        """
        out = np.zeros((len(configs), self.dims))
        for name, columns in self.columns.items():
            rows = [i for i, c in enumerate(configs) if name in c]
            values = [plain(configs[i][name]) for i in rows]
            p = self.parameters[name]
            if p.numeric:
                out[rows, columns.start] = unit(np.asarray(values, dtype=float), p)
                continue
            places = [p.place(v) for v in values]
            if None in places:
                raise BadInput(
                    f"{name}={values[places.index(None)]!r} is not one of "
                    f"{', '.join(map(str, p.options))}"
                )
            place = np.array(places, dtype=int)
            if p.kind == "ordinal":
                out[rows, columns.start] = place / max(1, len(p.options) - 1)
            else:
                out[rows, columns.start + place] = 1.0
        first = self.dims - len(self.conditional)
        for k, name in enumerate(self.conditional):
            out[:, first + k] = [name in c for c in configs]
        return out

    def sample(self, n: int, rng: np.random.Generator) -> list[Config]:
        """Draw `n` configurations from the space's own distributions."""
        if n == 0:
            return []
        self.config_space.seed(int(rng.integers(2**31)))
        drawn = self.config_space.sample_configuration(n if n > 1 else None)
        return [self.typed(as_dict(c)) for c in (drawn if isinstance(drawn, list) else [drawn])]

    def default(self) -> Config:
        """The space's default configuration."""
        return self.completed({}, {})

    def neighbours(
        self, config: Mapping[str, Any], rng: np.random.Generator, n: int, scale: float = 0.1
    ) -> list[Config]:
        """`n` configurations near `config`, one to three hyperparameters moved.

        Numbers move by a normal step of `scale` in the unit interval.

        A parent that moves switches its children on at random values. Where the move is forbidden,
        a random configuration takes its place.
        """
        out: list[Config] = []
        for other in self.sample(n, rng):
            moved = dict(config)
            active = [
                k for k in self.names if k in config and self.parameters[k].kind != "constant"
            ]
            for name in map(
                str,
                rng.choice(active, size=min(len(active), int(rng.integers(1, 4))), replace=False),
            ):
                p = self.parameters[name]
                if p.numeric:
                    position = unit(np.asarray([config[name]], dtype=float), p)[0]
                    moved[name] = from_unit(
                        float(np.clip(position + rng.normal(0, scale), 0, 1)), p
                    )
                else:
                    moved[name] = other.get(name, p.default)
            near = self.completed(moved, other)
            out.append(other if self.forbidden(near) else near)
        return out

    def completed(self, config: Mapping[str, Any], filler: Mapping[str, Any]) -> Config:
        """`config` without inactive hyperparameters, missing active ones filled in.

        They come from `filler`, else from the defaults.
        """
        values: Config = {}
        remaining = list(self.names)
        while remaining:  # parents before children: a name is decided once its parents are
            ready = [
                n
                for n in remaining
                if not any(p in remaining for c in self._conditions.get(n, []) for p in parents(c))
            ]
            if not ready:
                raise BadInput(f"the conditions of {', '.join(remaining)} go round in a circle")
            for name in ready:
                remaining.remove(name)
                if all(holds(c, values, self.parameters) for c in self._conditions.get(name, [])):
                    values[name] = plain(
                        config.get(name, filler.get(name, self.parameters[name].default))
                    )
        return {n: values[n] for n in self.names if n in values}

    def forbidden(self, config: Mapping[str, Any]) -> bool:
        """Whether a forbidden clause of the space rules `config` out."""
        if not self._described.get("forbiddens"):
            return False
        from ConfigSpace import Configuration
        from ConfigSpace.exceptions import ForbiddenValueError

        try:
            Configuration(self.config_space, values=dict(config))
        except ForbiddenValueError:
            return True
        return False

    def typed(self, config: Mapping[str, Any]) -> Config:
        """`config` with each value in its hyperparameter's own type, so that equal configurations
        are one whatever type their numbers came in. What is none of its values stays. Raises
        `BadInput` for what maps no names to values.
        """
        if not isinstance(config, Mapping):
            raise BadInput(f"{config!r} must be a mapping of names to values")
        known = self.parameters
        return {n: known[n].typed(v) if n in known else v for n, v in config.items()}

    def taken(self, configs: Sequence[Mapping[str, Any]], where: str) -> list[Config]:
        """`configs` in the space's own types. Raises `BadInput` for the first that is not of this
        space, as entry k of `where`.
        """
        out = []
        for k, config in enumerate(configs):
            try:
                out.append(self.typed(config))
                self.check(out[-1])
            except BadInput as error:
                raise BadInput(f"{where}, entry {k}: {error}") from error
        return out

    def pool(self, configs: Sequence[Mapping[str, Any]], where: str = "the pool") -> list[Config]:
        """`configs` as `taken` has them, each once: of equal ones the first. Raises `BadInput` as it
        does, and for what is no sequence of configurations.
        """
        if not isinstance(configs, Sequence) or isinstance(configs, (str, bytes)):
            raise BadInput(
                f"{where} must be a list of configurations, but is {configs!r:.80} of type "
                f"{type(configs).__name__}"
            )
        once: dict[str, Config] = {}
        for config in self.taken(configs, where):
            once.setdefault(config_key(config), config)
        return list(once.values())

    def differences(self, other: "Space") -> list[str]:
        """What `other` has otherwise than this space, by name; empty where they are equal."""
        if self == other:
            return []
        mine, theirs = _essence(self._described), _essence(other._described)
        before, after = (
            {item["name"]: item for item in one["hyperparameters"]} for one in (mine, theirs)
        )
        out = [f"{name} is gone" for name in before if name not in after]
        out += [f"{name} is new" for name in after if name not in before]
        for name in before:
            if name in after and before[name] != after[name]:
                keys = [
                    key
                    for key in {**before[name], **after[name]}
                    if before[name].get(key) != after[name].get(key)
                ]
                out.append(
                    f"{name} has "
                    + ", ".join(
                        f"{key} {before[name].get(key)!r}, now {after[name].get(key)!r}"
                        for key in keys
                    )
                )
        out += [f"other {key}" for key in ("conditions", "forbiddens") if mine[key] != theirs[key]]
        return out or ["another order of its hyperparameters"]

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise `BadInput`, naming value and bounds, for an illegal configuration."""
        for name, given in config.items():
            if name not in self.parameters:
                raise BadInput(
                    f"unknown hyperparameter {name!r}; the space has {', '.join(self.names)}"
                )
            p = self.parameters[name]
            if not p.numeric:
                if p.place(given) is None:
                    raise BadInput(
                        f"{name}={given!r} must be "
                        f"{'one of ' if len(p.options) > 1 else ''}{', '.join(map(str, p.options))}"
                    )
                continue
            value = plain(given)
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            slack = 1e-9 * max(abs(p.lower), abs(p.upper))
            inside = number and p.lower - slack <= value <= p.upper + slack  # no NaN is
            if not inside or (p.integer and value != round(value)):
                kind = "a whole number" if p.integer else "a number"
                raise BadInput(f"{name}={given!r} must be {kind} from {p.lower:g} to {p.upper:g}")
        expected = self.completed(config, {})
        if missing := [n for n in expected if n not in config]:
            raise BadInput(f"the configuration lacks {', '.join(missing)}")
        if extra := [n for n in config if n not in expected]:
            raise BadInput(
                f"{', '.join(extra)} is switched off by another hyperparameter of this "
                "configuration: leave it out"
            )
        if self.forbidden(config):
            raise BadInput(f"the space forbids the configuration {dict(config)}")


def as_dict(configuration: "Configuration") -> Config:
    """A ConfigSpace configuration as a plain dict."""
    return {k: plain(v) for k, v in dict(configuration).items()}


def _essence(described: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two spaces the same: neither ConfigSpace's version nor conditions' order."""
    conditions = sorted(json.dumps(c, sort_keys=True) for c in described.get("conditions") or [])
    forbiddens = sorted(json.dumps(f, sort_keys=True) for f in described.get("forbiddens") or [])
    return {
        # what is null or off says as much as what is left out
        "hyperparameters": [
            {k: v for k, v in item.items() if v is not None and not (k == "log" and v is False)}
            for item in described["hyperparameters"]
        ],
        "conditions": conditions,
        "forbiddens": forbiddens,
    }


def _constant(p: Parameter) -> dict[str, Any]:
    """A hyperparameter of one value as ConfigSpace describes it."""
    return {"type": "constant", "name": p.name, "value": p.default, "meta": None}
