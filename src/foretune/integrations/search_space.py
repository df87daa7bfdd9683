"""The search space of another library: its parameters by their own names and values, with steps, and
what our searchers need of them (points, samples, neighbours).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretune.space.parameters import plain, same
from foretune.space.space import Config, Space


@dataclass(frozen=True)
class Axis:
    """A parameter: `choices`, or numbers from `low` to `high`, on a log scale, whole ones, or in
    steps from `low` on.
    """

    name: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    integer: bool = False
    step: float | None = None
    choices: tuple[Any, ...] | None = None

    @property
    def fixed(self) -> bool:
        """Whether it has one value only."""
        if self.choices is not None:
            return len(self.choices) == 1
        below_a_step = self.step is not None and self.high - self.low < self.step
        return below_a_step or self.low == self.high

    def described(self, name: str) -> dict[str, Any]:
        """As ConfigSpace's JSON has it; choices are their places, for they may be anything."""
        if self.choices is not None:
            places = [str(k) for k in range(len(self.choices))]
            return {
                "type": "categorical",
                "name": name,
                "choices": places,
                "default_value": "0",
                "weights": None,
            }
        if self.fixed:
            return {"type": "constant", "name": name, "value": 0}
        kind, number = ("uniform_int", round) if self.integer else ("uniform_float", float)
        middle = math.sqrt(self.low * self.high) if self.log else (self.low + self.high) / 2
        return {
            "type": kind,
            "name": name,
            "lower": number(self.low),
            "upper": number(self.high),
            "log": self.log,
            "default_value": number(min(max(middle, self.low), self.high)),
        }

    def inside(self, value: Any) -> Any:
        """The value that our space has for one of this axis; None where it is none of its values."""
        if self.choices is not None:
            places = (k for k, one in enumerate(self.choices) if same(one, plain(value)))
            return next(map(str, places), None)
        number = plain(value)
        if isinstance(number, bool) or not isinstance(number, (int, float)):
            return None
        if not (math.isfinite(number) and self.low <= number <= self.high):
            return None
        if self.integer and number != round(number):
            return None
        return 0 if self.fixed else int(number) if self.integer else float(number)

    def outside(self, value: Any) -> Any:
        """The value of this axis for one of our space, at the nearest step."""
        if self.choices is not None:
            return self.choices[int(value)]
        number = self.low if self.fixed else float(value)
        if self.step is not None:
            steps = math.floor((self.high - self.low) / self.step + 1e-8)
            number = self.low + min(round((number - self.low) / self.step), steps) * self.step
        number = min(max(number, self.low), self.high)
        return round(number) if self.integer else number


class SearchSpace:
    """Axes, and the space of ours that they are under the names h0, h1, ..., which no rule of names
    can refuse.
    """

    def __init__(self, axes: Sequence[Axis]):
        self.axes = tuple(axes)
        self._names = {axis.name: f"h{k}" for k, axis in enumerate(self.axes)}
        named = [a.described(self._names[a.name]) for a in self.axes]
        self._space = Space({"hyperparameters": named, "conditions": [], "forbiddens": []})

    @property
    def names(self) -> list[str]:
        """Names of the parameters."""
        return list(self._names)

    def contains(self, config: Mapping[str, Any]) -> bool:
        """Whether a configuration has a value for each axis, and its own values alone."""
        return all(a.name in config and a.inside(config[a.name]) is not None for a in self.axes)

    def completed(self, config: Mapping[str, Any]) -> Config:
        """The values of `config` that are of this space, the middle for what is lacking."""
        default = self._outside(self._space.default())
        return {
            a.name: config[a.name]
            if a.name in config and a.inside(config[a.name]) is not None
            else default[a.name]
            for a in self.axes
        }

    def encode(self, configs: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Points in the unit cube, (n, dims)."""
        return self._space.encode([self._inside(config) for config in configs])

    def sample(self, n: int, rng: np.random.Generator) -> list[Config]:
        """Drawn configurations."""
        return [self._outside(config) for config in self._space.sample(n, rng)]

    def neighbours(self, config: Config, rng: np.random.Generator, n: int) -> list[Config]:
        """Configurations near one."""
        near = self._space.neighbours(self._inside(config), rng, n)
        return [self._outside(one) for one in near]

    def _inside(self, config: Mapping[str, Any]) -> Config:
        return {self._names[a.name]: a.inside(config[a.name]) for a in self.axes}

    def _outside(self, config: Mapping[str, Any]) -> Config:
        return {a.name: a.outside(config[self._names[a.name]]) for a in self.axes}
