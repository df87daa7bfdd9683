"""A table of past tasks as the memory of another library's search in its very space: a method of ours
chooses among the table's configurations.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import method, searcher
from foretune.space.parameters import plain
from foretune.space.space import Config
from foretune.study.study import Plan, Step, Study

VALUE = "value"


class PastTable:
    """Configurations of past tasks with their results, in any metric: each task is ranked by itself,
    better as its goal says. Raises `BadInput` for one without tasks, and an unknown method.
    """

    def __init__(self, past: MetaDataset, name: str, seed: int):
        if not past.tasks:
            raise BadInput("the sampler learns from past tasks, and the past has none")
        method(name)  # refuses an unknown one
        self._past, self._method, self._seed = whole(past), name, seed

    def has(self, names: Iterable[str]) -> bool:
        """Whether parameters are those of the table's space; none are yet, before a first trial. What
        a parent switches off, and what is constant, may be missing.
        """
        space, asked = self._past.space, set(names)
        optional = {
            *space.conditional,
            *(n for n, p in space.parameters.items() if p.kind == "constant"),
        }
        return not asked or set(space.names) - optional <= asked <= set(space.names)

    def choose(
        self,
        told: Sequence[tuple[Mapping[str, Any], float]],
        waiting: Sequence[Mapping[str, Any]],
        number: int,
        task: str,
    ) -> tuple[Config | None, str]:
        """The configuration of trial `number`, and why, after the results `told` (higher is better,
        NaN of one that failed) and those still `waiting`; None once all were tried.
        """
        study = self._study(told, waiting, number, task)
        suggestion = searcher(self._method).suggest(study, study.rng())
        if suggestion is None or not isinstance(suggestion.config, int):
            return None, ""
        config = study.configs[suggestion.config]
        return {n: plain(v) for n, v in config.items()}, str(suggestion.because.get("why", ""))

    def _study(
        self,
        told: Sequence[tuple[Mapping[str, Any], float]],
        waiting: Sequence[Mapping[str, Any]],
        number: int,
        task: str,
    ) -> Study:
        """Trials as a study of ours: whole trainings on the past's configurations."""
        past = self._past
        plan = Plan(task, VALUE, "maximize", 1, 10**9, self._method, self._seed)
        out = Study(past.space, past.configs, plan, past=past)
        values: dict[int, list[float]] = {}
        for params, value in told:
            if (i := self._id(out, params)) is not None:
                values.setdefault(i, []).append(value)
        for i, found in values.items():  # of a configuration that was tried again, the mean
            out.tell(Step(i, 0, 1), [float(np.mean(found))])
        for params in waiting:
            if (i := self._id(out, params)) is not None and i not in values:
                out.pending[i] = 1
        # a new decision with each trial, however many workers there are
        out.asked = number
        return out

    def _id(self, study: Study, params: Mapping[str, Any]) -> int | None:
        """The configuration of the past that a trial has tried; the nearest one where its values
        are its own, None where it lacks some.
        """
        space = self._past.space
        # another library draws what a condition switches off too, where it is asked for
        config = space.typed(space.completed(params, {}))
        if any(name not in params for name in config):
            return None
        known = study.id_of(config)
        if known is not None:
            return known
        try:
            place = space.encode([config])
        except (BadInput, KeyError, ValueError, TypeError):  # a choice that the past never had
            return None
        return int(np.square(study.X - place).sum(axis=1).argmin())


def whole(past: MetaDataset) -> MetaDataset:
    """The past with one observation a training: its best value, under the name `VALUE`; diverged
    ones have none.
    """
    rows = []
    for task in past.tasks:
        for seed in past.seeds(task):
            curves = past.curves(task, seed)  # higher is better
            best = np.where(np.isnan(curves), -np.inf, curves).max(axis=1)
            rows += [
                {"task": task, "config_id": i, "seed": seed, "epoch": 1, VALUE: value * past.sign}
                for i, value in zip(past.config_ids, best.tolist(), strict=True)
                if math.isfinite(value)
            ]
    configs = dict(zip(past.config_ids, past.configs, strict=True))
    about = {"name": past.name, "max_epoch": 1, "tasks": list(past.tasks)}
    goal = "maximize" if past.sign > 0 else "minimize"
    return MetaDataset.build(past.space, configs, rows, metric=VALUE, goal=goal, **about)
