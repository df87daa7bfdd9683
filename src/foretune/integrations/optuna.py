"""An Optuna sampler that learns from past tasks (extra `optuna`); Optuna's storage stays Optuna's.

    past = foretune.MetaDataset.load("data/meta/mine")
    study = optuna.create_study(sampler=Sampler(past), direction="maximize")

A suggestion is that of a foretune method on the trials that the storage holds: a whole training is
one observation, its final value (of a pruned trial, its last intermediate one). The space is the
past's; a parameter that the past does not know, or whose values the past never saw, is drawn by
`independent` as in Optuna's own samplers.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from foretune.errors import BadInput, extra
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import method, searcher
from foretune.space.parameters import plain
from foretune.study.study import Plan, Step, Study

with extra("optuna", "the Optuna sampler"):
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.study import Study as OptunaStudy
    from optuna.trial import FrozenTrial, TrialState

VALUE = "value"


class Sampler(optuna.samplers.BaseSampler):
    """Samples by the foretune method `name` with `past` as history (default: RGPE, a
    ranking-weighted ensemble of past tasks' Gaussian processes).

    `past` are configurations of other tasks with their results, in any metric of its own: each
    task is ranked by itself, better as its goal says. Configurations are chosen among those that
    the past knows. `independent` draws what the past does not know, and everything once all
    configurations of the past were tried.

    Raises `BadInput` for a past without tasks, an unknown method, and a study of several
    objectives.
    """

    def __init__(
        self,
        past: MetaDataset,
        name: str = "rgpe",
        *,
        seed: int = 0,
        independent: "optuna.samplers.BaseSampler | None" = None,
    ):
        if not past.tasks:
            raise BadInput("the Optuna sampler learns from past tasks, and the past has none")
        method(name)  # refuses an unknown one
        self._past, self._method, self._seed = whole(past), name, seed
        self._independent = independent or optuna.samplers.RandomSampler(seed=seed)
        self._distributions = distributions(self._past)

    def infer_relative_search_space(
        self, study: "OptunaStudy", trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The past's space."""
        return dict(self._distributions)

    def sample_relative(
        self,
        study: "OptunaStudy",
        trial: FrozenTrial,
        search_space: Mapping[str, BaseDistribution],
    ) -> dict[str, Any]:
        """The method's suggestion, after all trials that the storage has."""
        if len(study.directions) != 1:
            raise BadInput(f"a study of {len(study.directions)} objectives cannot be sampled: one")
        told = self._told(study, trial)
        suggestion = searcher(self._method).suggest(told, told.rng())
        if suggestion is None or not isinstance(suggestion.config, int):
            return {}  # all that the past knows was tried
        config = told.configs[suggestion.config]
        known = {name: plain(config[name]) for name in search_space if name in config}
        why = str(suggestion.because.get("why", ""))
        study._storage.set_trial_system_attr(trial._trial_id, "foretune:why", why)
        return known

    def sample_independent(
        self,
        study: "OptunaStudy",
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """What the past does not know."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Draw anew in each worker."""
        self._independent.reseed_rng()

    def _told(self, study: "OptunaStudy", trial: FrozenTrial) -> Study:
        """The storage's trials as a study of ours: whole trainings on the past's configurations."""
        past = self._past
        maximize = study.direction == optuna.study.StudyDirection.MAXIMIZE
        plan = Plan(
            task=study.study_name,
            metric=VALUE,
            goal="maximize" if maximize else "minimize",
            max_epoch=1,
            budget=10**9,
            method=self._method,
            seed=self._seed,
        )
        out = Study(past.space, past.configs, plan, past=past)
        values: dict[int, list[float]] = {}
        waiting: set[int] = set()
        for other in study.get_trials(deepcopy=False):
            i = None if other.number == trial.number else self._id(out, other.params)
            if i is None:
                continue
            if other.state in (TrialState.RUNNING, TrialState.WAITING):
                waiting.add(i)
            else:
                values.setdefault(i, []).append(outcome(other))
        for i, found in values.items():  # of a configuration that was tried again, the mean
            out.tell(Step(i, 0, 1), [float(np.mean(found))])
        for i in waiting - set(values):
            out.pending[i] = 1
        # a new decision with each trial, however many workers there are
        out.asked = trial.number
        return out

    def _id(self, study: Study, params: Mapping[str, Any]) -> int | None:
        """The configuration of the past that a trial has tried; the nearest one where its values
        are its own, None where it lacks some.
        """
        space = self._past.space
        # Optuna draws what a condition switches off too, where it is asked for
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


def outcome(trial: FrozenTrial) -> float:
    """A trial's value; of a pruned one its last intermediate one, NaN of a failed one."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return float(trial.value)
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        return float(trial.intermediate_values[max(trial.intermediate_values)])
    return math.nan


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


def distributions(past: MetaDataset) -> dict[str, BaseDistribution]:
    """The past's parameters as Optuna has them."""
    out: dict[str, BaseDistribution] = {}
    for name, parameter in past.space.parameters.items():
        if parameter.options:
            out[name] = CategoricalDistribution(list(parameter.options))
        elif parameter.integer:
            low, high = int(parameter.lower), int(parameter.upper)
            out[name] = IntDistribution(low, high, log=parameter.log)
        else:
            out[name] = FloatDistribution(parameter.lower, parameter.upper, log=parameter.log)
    return out
