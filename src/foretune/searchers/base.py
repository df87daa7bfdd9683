"""What every searcher is: a function of a study's history."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import wraps
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from foretune.errors import BadInput
from foretune.study.plan import Suggestion

if TYPE_CHECKING:
    from foretune.searchers.prospect import Prospect
    from foretune.space.space import Config
    from foretune.study.plan import Choice
    from foretune.study.study import Study

Value = TypeVar("Value")
AnySearcher = TypeVar("AnySearcher", bound="Searcher")


class Searcher:
    """Decides the next step of a study.

    A searcher keeps nothing that the study does not hold: a fresh one, given the same study,
    suggests the same. Whatever it caches (`PerStudy`) it must be able to derive again from the
    history. Suggesting changes nothing: `Study.ask` records what becomes of a suggestion.
    """

    name: ClassVar[str] = "searcher"

    def suggest(self, study: "Study", rng: np.random.Generator) -> Suggestion | None:
        """What to do next, or None if nothing can be done until a pending step ends."""
        raise TypeError(f"{type(self).__name__} does not say what to suggest")

    def recommend(self, study: "Study") -> int | None:
        """The configuration expected to be best when fully trained; by default the incumbent. None
        before the first observation.
        """
        incumbent = study.incumbent
        return None if incumbent is None else incumbent[0]

    def prospect(self, study: "Study", price: float) -> "Prospect | None":
        """The training that is most worth its epochs at a `price` of each, in the metric's unit; None
        where the method forecasts nothing, or nothing can be trained.
        """
        return None


class PerStudy(Generic[Value]):
    """A cache of what a searcher works out about a study: the last value of each study, for as long
    as the study lives.

    Never keyed by `id(study)`: a collected study's address is given to the next one.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Study, tuple[object, Value]] = WeakKeyDictionary()

    def get(self, study: "Study", state: object, make: Callable[[], Value]) -> Value:
        """The value kept for `study`, made anew where it was made in another `state` of it."""
        kept = self._kept.get(study)
        if kept is None or kept[0] != state:
            kept = self._kept[study] = state, make()
        return kept[1]


def state_of(study: "Study") -> tuple[object, ...]:
    """A value that two states of one study share only where nothing was told, added or asked in
    between.
    """
    return study.spent, len(study.configs), study.pending.tobytes(), study.failed.tobytes()


def adopting(
    suggest: "Callable[[AnySearcher, Study, np.random.Generator], Suggestion | None]",
) -> "Callable[[AnySearcher, Study, np.random.Generator], Suggestion | None]":
    """Decorator of a `suggest` that starts from past tasks: an open study's first decision is made
    with all configurations in the pool that the past knows and its space allows, and the suggestion
    adopts them.
    """

    @wraps(suggest)
    def suggest_with_past(
        self: AnySearcher, study: "Study", rng: np.random.Generator
    ) -> Suggestion | None:
        view = with_past(study)
        return seen_from(study, view, suggest(self, view, rng))

    return suggest_with_past


def with_past(study: "Study") -> "Study":
    """The study, or before an open study's first decision a view of it whose pool has the past's
    configurations, as far as its space allows them.
    """
    if not study.open_space or study.past is None or study.asked:
        return study
    legal = []
    for config in study.past.configs:
        with suppress(BadInput):
            study.space.check(config)
            legal.append(config)
    return study.with_configs(legal)


def seen_from(study: "Study", view: "Study", suggestion: Suggestion | None) -> Suggestion | None:
    """A suggestion that was made on a `view` of the study, as one on the study itself: ids that
    only the view has become configurations, and what the view added is adopted.
    """
    own = len(study.configs)
    if suggestion is None or len(view.configs) == own:
        return suggestion
    config = suggestion.config
    if isinstance(config, (int, np.integer)) and config >= own:
        config = view.configs[config]
    return replace(suggestion, config=config, adopt=(*view.configs[own:], *suggestion.adopt))


# samples of an open space that may turn out to be known already, before its pool is taken
TRIES = 100
# then as many at once, lest the last few configurations of a small space be missed
LAST_TRIES = 2000


# why a searcher draws at random where it knows better
USED_UP = "no known configuration is left: random"


def draw(study: "Study", rng: np.random.Generator) -> "Choice | None":
    """A configuration that was never started: from the pool at random or, in an open space, a new
    sample. None when there is none left.
    """
    for _ in range(TRIES if study.open_space else 0):
        choice = startable(study, study.space.sample(1, rng)[0])
        if choice is not None:
            return choice
    fresh = np.flatnonzero(study.available & (study.epoch == 0))
    if study.open_space and not len(fresh):
        return best_startable(study, study.space.sample(LAST_TRIES, rng), np.zeros(LAST_TRIES))
    return int(rng.choice(fresh)) if len(fresh) else None


def at_random(study: "Study", rng: np.random.Generator, stop: int, why: str) -> Suggestion | None:
    """A `draw` from the start to epoch `stop`; None when there is none left."""
    fresh = draw(study, rng)
    return None if fresh is None else Suggestion(fresh, 0, stop, {"why": why})


def startable(study: "Study", config: "Config") -> "Choice | None":
    """The id of an equal configuration that was not started yet, `config` itself where the study
    knows none, else None.
    """
    known = study.id_of(config)
    if known is None:
        return config
    return known if study.available[known] and study.epoch[known] == 0 else None


def best_startable(
    study: "Study", configs: "Sequence[Config]", utility: np.ndarray
) -> "Choice | None":
    """The one of `configs` with the largest `utility` (k,) that can be started, by its id if the
    study knows it; None if all were started.
    """
    for k in np.argsort(-utility, kind="stable"):
        choice = startable(study, configs[k])
        if choice is not None:
            return choice
    return None


def with_choice(study: "Study", choice: "Choice | None") -> "Study":
    """The study, or a view of it that has `choice` in its pool where that is a new
    configuration.
    """
    return study if choice is None or isinstance(choice, int) else study.with_configs([choice])
