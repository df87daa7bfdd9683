"""Max-Trial-GP-UCB (AT2 paper, section 3.4) over any model of the target's curves: the paper runs
all of its baselines with it.

The configuration with the largest mean + eta std over its epochs not yet observed is trained for
its next epoch; recommended is the one with the largest mean over all epochs. A step takes one
epoch.
"""

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from foretune.errors import BadInput, at_least
from foretune.gaussian.acquisition import max_trial_ucb
from foretune.history.ranks import support_by_task
from foretune.searchers.base import (
    USED_UP,
    PerStudy,
    Searcher,
    adopting,
    at_random,
    state_of,
    with_choice,
)
from foretune.searchers.transfer.past_curves import PastCurves, learned_from_past
from foretune.searchers.transfer.units import Unit, in_past_unit
from foretune.study.study import Study, Suggestion


class MaxTrial(Searcher):
    """A searcher by a model's predictions; a subclass says what `learn` makes of the past and
    `predict` of the observations.

    What was learned and predicted last is a cache: a fresh searcher derives both again from the
    study.
    """

    name: ClassVar[str] = "max-trial"

    def __init__(self, eta: float = 0.25):
        at_least(0, eta=eta)
        self.eta = eta
        self._predictions: PerStudy[tuple[np.ndarray, np.ndarray]] = PerStudy()

    def learn(self, study: Study, past: PastCurves) -> Any:
        """Whatever the model takes from past tasks; past.Z (T, n, E) are their curves of one
        location and scale.
        """
        raise TypeError(f"{type(self).__name__} does not say what it learns")

    def predict(self, learned: Any, study: Study, Y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (pool, E) of the target given `Y` (pool, E), NaN where not
        observed, all in the past's unit.
        """
        raise TypeError(f"{type(self).__name__} does not say what it predicts")

    def lean(self, learned: Any, study: Study, config_id: int) -> dict[str, float]:
        """The past tasks that a suggestion leans on, as shares; by default those that speak for the
        configuration.
        """
        return support(study, config_id)

    def learned(self, study: Study) -> Any:
        """`learn`, once per past and pool."""
        if study.past is None or not study.past.tasks:
            raise BadInput(
                f"{self.name} starts from past tasks and there are none: give a meta-dataset, "
                "or take --method hyperband"
            )
        key = (self.name, *sorted((k, v) for k, v in vars(self).items() if not k.startswith("_")))
        return learned_from_past(study, key, lambda past: self.learn(study, past))

    def observed(self, study: Study) -> tuple[np.ndarray, Unit]:
        """The target's values (pool, E), NaN where not observed, in the past's unit, and their
        own.
        """
        return in_past_unit(study)

    def predicted(self, study: Study) -> tuple[np.ndarray, np.ndarray]:
        """`predict`, once per state of the study, in the study's unit. Failures count as the worst
        value seen, steps under way as what is expected.
        """

        def predict() -> tuple[np.ndarray, np.ndarray]:
            learned = self.learned(study)
            Y, unit = self.observed(study)
            seen = np.isfinite(Y)
            if seen.any():
                Y[study.failed, np.maximum(study.epoch[study.failed] - 1, 0)] = Y[seen].min()
            mean, std = self.predict(learned, study, Y)
            waiting = np.flatnonzero(study.pending)
            if len(waiting):
                ends = study.pending[waiting] - 1
                Y[waiting, ends] = mean[waiting, ends]
                mean, std = self.predict(learned, study, Y)
            return unit.to_study(mean), std * unit.factor

        return self._predictions.get(study, state_of(study), predict)

    def candidates(self, study: Study) -> np.ndarray:
        """Configurations that may be suggested, (n,) bool."""
        return study.available

    @adopting
    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The next epoch of the configuration with the largest upper confidence bound at any epoch
        ahead of it.
        """
        if not study.available.any():
            return at_random(study, rng, 1, USED_UP)
        free = self.candidates(study)
        value = max_trial_ucb(*self.predicted(study), study.epoch, self.eta)
        c = int(np.where(free, value, -np.inf).argmax())
        because = {
            "why": f"largest mean + {self.eta:g} std ahead",
            "past": self.lean(self.learned(study), study, c),
        }
        return Suggestion(c, int(study.epoch[c]), int(study.epoch[c]) + 1, because)

    def recommend(self, study: Study) -> int | None:
        """The configuration with the largest mean over all epochs."""
        mean = self.predicted(study)[0].max(axis=1)
        return int(np.where(study.failed, -np.inf, mean).argmax())


def support(study: Study, config_id: int) -> dict[str, float]:
    """How much each past task speaks for a configuration: 1 - its normalized regret there, as
    shares; at most five tasks.
    """
    past = learned_from_past(study, "past", lambda past: past)
    best = learned_from_past(study, "best", lambda past: past.Z.max(axis=2)[:, : past.pool])
    return support_by_task(best, past.tasks, config_id)


def sourced(suggestion: Suggestion | None, study: Study) -> Suggestion | None:
    """The suggestion with the past tasks that speak for its configuration, if it names none."""
    if suggestion is None or suggestion.because.get("past"):
        return suggestion
    if isinstance(suggestion.config, int):
        lean = support(study, suggestion.config)
    else:  # a new configuration is its view's last
        lean = support(with_choice(study, suggestion.config), len(study.configs))
    return replace(suggestion, because={**suggestion.because, "past": lean})


def shares(weights: np.ndarray, tasks: tuple[str, ...], most: int = 5) -> dict[str, float]:
    """The largest of the weights (T,), as shares of their sum, by task; at most five, none for
    weights that are all 0.
    """
    weights = np.maximum(weights, 0.0)
    total = float(weights.sum())
    top = np.argsort(-weights, kind="stable")[:most]
    return (
        {tasks[k]: round(float(weights[k] / total), 3) for k in top if weights[k] > 0}
        if total > 0
        else {}
    )
