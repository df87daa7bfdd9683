"""The search space and its encoding to numbers.

A configuration is a plain dict of hyperparameter name to value, without the hyperparameters that a parent switches off.

Columns of the encoding, in this order (n configurations give a float64 array of shape (n, dims)):

| hyperparameter          | columns                                                                    |
|-------------------------|----------------------------------------------------------------------------|
| float, integer          | 1: position in [0, 1] between the bounds, on the log scale if declared so   |
| ordinal                 | 1: rank / (choices - 1)                                                     |
| categorical, constant   | one per choice: one-hot                                                     |
| conditional (any of the above) | one more, at the end: 1 where active, 0 where a parent switches it off |

Inactive hyperparameters have zeros in their own columns.
"""

import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ConfigSpace import Configuration, ConfigurationSpace
from ConfigSpace import hyperparameters as hp

from foretune.errors import BadInput
from foretune.files import write_atomic

Config = dict[str, Any]


def plain(value: Any) -> Any:
    """The value as a plain Python number, string or bool."""
    return value.item() if isinstance(value, np.generic) else value


def config_key(config: Mapping[str, Any]) -> str:
    """A text that two configurations share exactly when they are equal (floats to 12 digits)."""
    values = {k: float(f"{v:.12g}") if isinstance(v, float) else v for k, v in config.items()}
    return json.dumps(values, sort_keys=True)


class Space:
    """A ConfigSpace search space, its encoding, sampling and checks."""

    def __init__(self, config_space: ConfigurationSpace):
        self.config_space = config_space

    @classmethod
    def load(cls, path: Path | str) -> "Space":
        """Read a ConfigSpace JSON file; raises `BadInput` if it is none."""
        try:
            return cls(ConfigurationSpace.from_json(path))
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{path} is not a ConfigSpace JSON search space: {error}") from error

    def save(self, path: Path | str) -> None:
        """Write the space as ConfigSpace JSON, by rename."""
        write_atomic(path, json.dumps(self.config_space.to_serialized_dict(), indent=1) + "\n")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.config_space == other.config_space

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def names(self) -> list[str]:
        """Hyperparameter names, in the order of the columns."""
        return list(self.config_space.keys())

    @cached_property
    def conditional(self) -> list[str]:
        """Names of the hyperparameters that a parent can switch off."""
        return [n for n in self.names if self.config_space.parents_of.get(n)]

    @cached_property
    def columns(self) -> dict[str, slice]:
        """The columns of each hyperparameter, its activity column not included."""
        out, at = {}, 0
        for name in self.names:
            width = len(choices(self.config_space[name])) or 1
            out[name] = slice(at, at + width)
            at += width
        return out

    @property
    def dims(self) -> int:
        """Number of columns of the encoding."""
        return max((s.stop for s in self.columns.values()), default=0) + len(self.conditional)

    def encode(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Encode configurations to (n, dims) numbers in [0, 1]; see the module's table. Raises `BadInput` on an unknown choice."""
        out = np.zeros((len(configs), self.dims))
        for name, columns in self.columns.items():
            rows = [i for i, c in enumerate(configs) if name in c]
            values = [configs[i][name] for i in rows]
            parameter = self.config_space[name]
            if known := choices(parameter):
                index = {v: k for k, v in enumerate(known)}
                try:
                    out[rows, [columns.start + index[plain(v)] for v in values]] = 1.0
                except KeyError as error:
                    raise BadInput(f"{name}={error.args[0]!r} is not one of {known}") from error
            elif isinstance(parameter, hp.OrdinalHyperparameter):
                rank = {v: k for k, v in enumerate(parameter.sequence)}
                out[rows, columns.start] = [rank[plain(v)] / max(1, len(rank) - 1) for v in values]
            else:
                out[rows, columns.start] = unit(np.asarray(values, dtype=float), parameter)
        first = self.dims - len(self.conditional)
        for k, name in enumerate(self.conditional):
            out[:, first + k] = [name in c for c in configs]
        return out

    def sample(self, n: int, rng: np.random.Generator) -> list[Config]:
        """Draw `n` configurations from the space's own distributions."""
        if n == 0:
            return []
        self.config_space.seed(int(rng.integers(2**31)))
        drawn = self.config_space.sample_configuration(n)
        return [as_dict(c) for c in ([drawn] if isinstance(drawn, Configuration) else drawn)]

    def default(self) -> Config:
        """The space's default configuration."""
        return as_dict(self.config_space.get_default_configuration())

    def neighbours(self, config: Mapping[str, Any], rng: np.random.Generator, n: int, scale: float = 0.1) -> list[Config]:
        """`n` configurations near `config`: one to three hyperparameters moved, numbers by a normal step of `scale` in the unit interval.

        A parent that moves switches its children on at random values.
        """
        out: list[Config] = []
        fresh = self.sample(n, rng)
        for other in fresh:
            moved = dict(config)
            active = [k for k in self.names if k in config and not isinstance(self.config_space[k], hp.Constant)]
            for name in rng.choice(active, size=min(len(active), int(rng.integers(1, 4))), replace=False):
                parameter = self.config_space[str(name)]
                if hasattr(parameter, "lower"):
                    position = unit(np.asarray([config[str(name)]], dtype=float), parameter)[0]
                    moved[str(name)] = from_unit(float(np.clip(position + rng.normal(0, scale), 0, 1)), parameter)
                else:
                    moved[str(name)] = other.get(str(name), parameter.default_value)
            out.append(self.completed(moved, other))
        return out

    def completed(self, config: Mapping[str, Any], filler: Mapping[str, Any]) -> Config:
        """`config` with inactive hyperparameters dropped and missing active ones taken from `filler`, else from the defaults."""
        values: Config = {}
        remaining = list(self.names)
        while remaining:  # parents before children: a name is decided once its parents are
            for name in list(remaining):
                conditions = self.config_space.parent_conditions_of.get(name, [])
                parents = {p.name for p in self.config_space.parents_of.get(name, [])}
                if parents & set(remaining):
                    continue
                remaining.remove(name)
                if all(holds(c, values) for c in conditions):
                    default = self.config_space[name].default_value
                    values[name] = plain(config.get(name, filler.get(name, default)))
        return values

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise `BadInput`, naming the value and the bounds, if `config` is not a legal configuration of this space."""
        for name, value in config.items():
            if name not in self.config_space:
                raise BadInput(f"unknown hyperparameter {name!r}; the space has {', '.join(self.names)}")
            parameter = self.config_space[name]
            legal = getattr(parameter, "choices", None) or getattr(parameter, "sequence", None)
            if legal is not None and plain(value) not in legal:
                raise BadInput(f"{name}={value!r} must be one of {', '.join(map(str, legal))}")
            if hasattr(parameter, "lower"):
                number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and math.isfinite(value)
                slack = 1e-9 * max(1.0, abs(parameter.upper))
                if not number or not parameter.lower - slack <= value <= parameter.upper + slack:
                    raise BadInput(f"{name}={value!r} must be a number from {parameter.lower:g} to {parameter.upper:g}")
        expected = self.completed(config, {})
        if missing := [n for n in expected if n not in config]:
            raise BadInput(f"the configuration lacks {', '.join(missing)}")
        if extra := [n for n in config if n not in expected]:
            raise BadInput(f"{', '.join(extra)} is switched off by another hyperparameter of this configuration: leave it out")


def choices(parameter: Any) -> list[Any]:
    """The one-hot choices of a categorical or constant hyperparameter, else an empty list."""
    if isinstance(parameter, hp.CategoricalHyperparameter):
        return [plain(c) for c in parameter.choices]
    return [plain(parameter.value)] if isinstance(parameter, hp.Constant) else []


def unit(values: np.ndarray, parameter: Any) -> np.ndarray:
    """Positions of `values` between the bounds of a numeric hyperparameter, clipped to [0, 1]."""
    lower, upper = float(parameter.lower), float(parameter.upper)
    if parameter.log:
        lower, upper, values = math.log(lower), math.log(upper), np.log(np.maximum(values, 1e-300))
    return np.clip((values - lower) / ((upper - lower) or 1.0), 0.0, 1.0)


def from_unit(position: float, parameter: Any) -> Any:
    """The value at `position` in [0, 1] between the bounds of a numeric hyperparameter: the inverse of `unit`."""
    lower, upper = float(parameter.lower), float(parameter.upper)
    value = math.exp(math.log(lower) + position * math.log(upper / lower)) if parameter.log else lower + position * (upper - lower)
    value = min(max(value, lower), upper)
    return round(value) if isinstance(parameter, hp.IntegerHyperparameter) else value


def holds(condition: Any, values: Mapping[str, Any]) -> bool:
    """Whether a ConfigSpace condition is met by the decided `values`; an inactive parent meets none."""
    if hasattr(condition, "components"):
        met = [holds(c, values) for c in condition.components]
        return any(met) if "Or" in type(condition).__name__ else all(met)
    return condition.parent.name in values and condition.satisfied_by_value({condition.parent.name: values[condition.parent.name]})


def as_dict(configuration: Configuration) -> Config:
    """A ConfigSpace configuration as a plain dict."""
    return {k: plain(v) for k, v in dict(configuration).items()}
