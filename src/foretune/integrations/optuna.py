"""Optuna with a memory of past tasks (extra `optuna`); Optuna's storage stays Optuna's.

    study = optuna.create_study(
        sampler=foretune.optuna.Sampler("data"),  # the studies and imported runs of a data folder
        pruner=foretune.optuna.Pruner("data"),
        direction="maximize",
    )

A suggestion comes of the trials that the storage holds and of the past: a trial is one observation,
its final value (of a pruned one, its last intermediate one). Any space is sampled, defined
beforehand or while it runs; parameters that no past run had are searched along with the others.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput, extra
from foretune.history.meta_dataset import MetaDataset
from foretune.history.runs import RunStore
from foretune.integrations.past_curves import PastLags
from foretune.integrations.past_runs import PastRuns
from foretune.integrations.past_table import PastTable
from foretune.integrations.search_space import Axis, SearchSpace

with extra("optuna", "the Optuna sampler"):
    import optuna
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.study import Study as OptunaStudy
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial, TrialState

Past = RunStore | MetaDataset | Path | str
# system attributes of a trial: a table's configuration, what past runs chose so far, and why
SUGGESTED, CHOSEN, WHY = "foretune:suggested", "foretune:chosen", "foretune:why"


class Sampler(optuna.samplers.BaseSampler):
    """Samples by what `past` says: a run store, a meta-dataset, or the folder of one, or a data
    folder with all its studies and run stores.

    Of a meta-dataset whose space is the study's, the foretune method `name` chooses among its
    configurations (default: RGPE, a ranking-weighted ensemble of past tasks' Gaussian processes).
    In every other space, past runs of any settings forecast each candidate; `metric` is what the
    study measures, `settings` what it holds fixed, such as `{"network": "resnet18"}`, `without`
    names tasks of the past to leave out. `independent` draws where the past says nothing at all
    (default: TPE).

    Raises `BadInput` for a past without runs, an unknown method, and a study of several objectives.
    """

    def __init__(
        self,
        past: Past,
        name: str = "rgpe",
        *,
        metric: str | None = None,
        settings: Mapping[str, Any] | None = None,
        without: Sequence[str] = (),
        seed: int = 0,
        independent: "optuna.samplers.BaseSampler | None" = None,
    ):
        if isinstance(past, (str, Path)) and (Path(past) / "space.json").is_file():
            past = MetaDataset.load(past)
        if isinstance(past, MetaDataset):
            past = past.select([task for task in past.tasks if task not in without])
        self._table = PastTable(past, name, seed) if isinstance(past, MetaDataset) else None
        self._learn = partial(PastRuns, past, metric=metric, settings=settings, without=without)
        self._runs: PastRuns | None = None if self._table else self._learn()
        self._seed = seed
        self._lock = threading.RLock()
        self._independent = independent or optuna.samplers.TPESampler(seed=seed)
        self._intersection = optuna.search_space.IntersectionSearchSpace()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def runs(self) -> PastRuns:
        """The past as runs, learned when a space first needs it."""
        with self._lock:
            if self._runs is None:
                self._runs = self._learn()
            return self._runs

    def infer_relative_search_space(
        self, study: OptunaStudy, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """What all trials of the study had in common."""
        with self._lock:
            common = self._intersection.calculate(study)
        return {name: one for name, one in common.items() if not one.single()}

    def sample_relative(
        self, study: OptunaStudy, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The past's suggestion after all trials that the storage has."""
        refuse_several(study)
        if self._table is not None and self._table.has(search_space):
            told, waiting = trials_of(study, trial)
            config, why = self._table.choose(told, waiting, trial.number, study.study_name)
            if config is None:
                return {}  # all that the past knows was tried
            note(study, trial, SUGGESTED, config)
            note(study, trial, WHY, why)
            return {
                name: config[name]
                for name, one in search_space.items()
                if name in config and belongs(config[name], one)
            }
        if not search_space:
            return {}
        if self.runs().knows(list(search_space)):
            return self._chosen(study, trial, search_space)
        joint = self._independent.infer_relative_search_space(study, trial)
        values = self._independent.sample_relative(study, trial, joint)
        return {name: value for name, value in values.items() if name in search_space}

    def sample_independent(
        self,
        study: OptunaStudy,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value of a parameter that the trials have not in common: the one of the suggestion that
        `sample_relative` made, or the past's choice beside the trial's other values.
        """
        refuse_several(study)
        suggested = trial.system_attrs.get(SUGGESTED) or {}
        if param_name in suggested and belongs(suggested[param_name], param_distribution):
            return suggested[param_name]
        if param_distribution.single() or not (
            self._table is None and self.runs().knows([param_name])
        ):
            return self._independent.sample_independent(
                study, trial, param_name, param_distribution
            )
        space = {**trial.distributions, param_name: param_distribution}
        return self._chosen(study, trial, space, param_name)[param_name]

    def reseed_rng(self) -> None:
        """Draw anew in each worker: decisions depend on the trial's number alone."""
        self._independent.reseed_rng()

    def after_trial(
        self,
        study: OptunaStudy,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """As `independent` wishes."""
        self._independent.after_trial(study, trial, state, values)

    def _chosen(
        self,
        study: OptunaStudy,
        trial: FrozenTrial,
        space: dict[str, BaseDistribution],
        asked: str | None = None,
    ) -> dict[str, Any]:
        """The past runs' choice in a space, or of the parameter `asked` beside the values that the
        trial has already. Trials that never had it say nothing of it.
        """
        names = sorted(space)  # storages have them in orders of their own
        axes = SearchSpace([axis(name, space[name]) for name in names])
        fixed = {n: trial.params[n] for n in names if n in trial.params and n != asked}
        rng = np.random.default_rng([self._seed, trial.number, len(names)])
        with self._lock:  # two threads would choose the same
            told, waiting = trials_of(study, trial)
            if asked is not None:
                told = [one for one in told if asked in one[0]]
                waiting = [config for config in waiting if asked in config]
            growing = asked is not None and not trial.number
            chosen = self.runs().choose(axes, told, waiting, rng, fixed, growing=growing)
            note(study, trial, CHOSEN, {**(trial.system_attrs.get(CHOSEN) or {}), **chosen.config})
        note(study, trial, WHY, f"{chosen.why} (trust {chosen.trust:.2f})")
        return chosen.config


class Pruner(optuna.pruners.BasePruner):
    """Stops a trial that is so far behind the best one as hardly a past run was that still overtook
    another: fewer than `risk` of them.

    `past` as for `Sampler`; `epochs` is the last step of a full training (default: the largest that
    the study's trials have reached). Nothing is pruned before `warmup_steps`, and before the study
    has `startup_trials` complete ones. Raises `BadInput` for a past without curves.
    """

    def __init__(
        self,
        past: Past,
        *,
        risk: float = 0.02,
        epochs: int | None = None,
        startup_trials: int = 3,
        warmup_steps: int = 0,
        without: Sequence[str] = (),
    ):
        self._lags = PastLags(past, risk=risk, without=without)
        self._epochs, self._startup, self._warmup = epochs, startup_trials, warmup_steps

    def prune(self, study: OptunaStudy, trial: FrozenTrial) -> bool:
        """Whether a trial is to stop after its last report."""
        refuse_several(study)
        step = trial.last_step
        if step is None or step < self._warmup:
            return False
        sign = sign_of(study)
        others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        whole = [t for t in others if t.state == TrialState.COMPLETE and t.intermediate_values]
        if len(whole) < max(self._startup, 1):
            return False
        if math.isnan(trial.intermediate_values[step]):
            return True
        last = self._epochs or max(max(t.intermediate_values) for t in whole)
        if last <= 0 or step >= last:
            return False
        own = best_until(trial, step, sign)
        seen = [best_until(t, step, sign) for t in others if step_reached(t) >= step]
        best = max(whole, key=lambda t: best_until(t, last, sign))
        return self._lags.hopeless(
            own, best_until(best, step, sign), np.array(seen), share=step / last
        )


def refuse_several(study: OptunaStudy) -> None:
    """Raise `BadInput` for a study of several objectives."""
    if len(study.directions) != 1:
        raise BadInput(
            f"a study of {len(study.directions)} objectives cannot be sampled or pruned by past "
            "tasks: give it one direction"
        )


def sign_of(study: OptunaStudy) -> float:
    """1 where higher is better, else -1."""
    return 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0


def trials_of(
    study: OptunaStudy, trial: FrozenTrial
) -> tuple[list[tuple[dict[str, Any], float]], list[dict[str, Any]]]:
    """The parameters and outcomes (higher is better) of the other trials that are over, and the
    parameters of those that are not.
    """
    sign, told, waiting = sign_of(study), [], []
    for other in study.get_trials(deepcopy=False):
        if other.number == trial.number:
            continue
        if other.state in (TrialState.RUNNING, TrialState.WAITING):
            attributes = (other.system_attrs.get(k) for k in ("fixed_params", SUGGESTED, CHOSEN))
            known = {name: value for one in attributes for name, value in (one or {}).items()}
            waiting.append({**known, **other.params})
        else:
            told.append((other.params, sign * outcome(other)))
    return told, [config for config in waiting if config]


def outcome(trial: FrozenTrial) -> float:
    """A trial's value; of a pruned one its last intermediate one, NaN of a failed one."""
    if trial.state == TrialState.COMPLETE and trial.value is not None:
        return float(trial.value)
    if trial.state == TrialState.PRUNED and trial.intermediate_values:
        return float(trial.intermediate_values[max(trial.intermediate_values)])
    return math.nan


def best_until(trial: FrozenTrial, step: int, sign: float) -> float:
    """The best value that a trial had reported by a step, higher is better; minus infinity without
    one.
    """
    told = (sign * v for s, v in trial.intermediate_values.items() if s <= step)
    return max((v for v in told if not math.isnan(v)), default=-math.inf)


def step_reached(trial: FrozenTrial) -> float:
    """The last step of a trial, minus infinity where it reported none."""
    return max(trial.intermediate_values, default=-math.inf)


def axis(name: str, distribution: BaseDistribution) -> Axis:
    """A parameter of Optuna's."""
    if isinstance(distribution, CategoricalDistribution):
        return Axis(name, choices=tuple(distribution.choices))
    if isinstance(distribution, IntDistribution):
        step = None if distribution.log or distribution.step == 1 else distribution.step
        low, high = distribution.low, distribution.high
        return Axis(name, low, high, log=distribution.log, integer=True, step=step)
    if isinstance(distribution, FloatDistribution):
        low, high, step = distribution.low, distribution.high, distribution.step
        return Axis(name, low, high, log=distribution.log, step=step)
    raise BadInput(f"parameter {name!r} has a distribution that is not known: {distribution}")


def belongs(value: Any, distribution: BaseDistribution) -> bool:
    """Whether a value is one of a distribution's."""
    return axis("value", distribution).inside(value) is not None


def note(study: OptunaStudy, trial: FrozenTrial, key: str, value: Any) -> None:
    """Leave a note beside a trial."""
    study._storage.set_trial_system_attr(trial._trial_id, key, value)
    trial.system_attrs[key] = value


def distributions(past: MetaDataset) -> dict[str, BaseDistribution]:
    """A meta-dataset's parameters as Optuna has them."""
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
