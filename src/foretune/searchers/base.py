"""What every searcher is: a function of a study's history."""

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from foretune.errors import BadInput

if TYPE_CHECKING:
    from foretune.space.space import Config
    from foretune.study.study import Step, Study


class Searcher:
    """Decides the next step of a study.

    A searcher keeps nothing that the study does not hold: a fresh one, given the same study,
    suggests the same. Whatever it caches it must be able to derive again from the history.
    """

    name: ClassVar[str] = "searcher"

    def suggest(self, study: "Study", rng: np.random.Generator) -> "Step | None":
        """The next step, or None if nothing can be done until a pending step ends."""
        raise TypeError(f"{type(self).__name__} does not say what to suggest")

    def recommend(self, study: "Study") -> int | None:
        """The configuration expected to be best when fully trained; by default the incumbent. None
        before the first observation.
        """
        incumbent = study.incumbent
        return None if incumbent is None else incumbent[0]


def adopt_past(study: "Study") -> None:
    """Before an open study's first decision: take what the past tasks know into its pool, as far as
    its space allows it.
    """
    if study.open_space and study.past is not None and not study.asked:
        for config in study.past.configs:
            with suppress(BadInput):
                study.propose(config)


# samples of an open space that may turn out to be known already, before its pool is taken
TRIES = 100
# then as many at once, lest the last few configurations of a small space be missed
LAST_TRIES = 2000


def draw(study: "Study", rng: np.random.Generator) -> int | None:
    """A configuration that was never started: from the pool at random or, in an open space, a new
    sample. None when there is none left.
    """
    for _ in range(TRIES if study.open_space else 0):
        config_id = study.propose(study.space.sample(1, rng)[0])
        if study.available[config_id] and study.epoch[config_id] == 0:
            return config_id
    fresh = np.flatnonzero(study.available & (study.epoch == 0))
    if study.open_space and not len(fresh):
        return best_startable(study, study.space.sample(LAST_TRIES, rng), np.zeros(LAST_TRIES))
    return int(rng.choice(fresh)) if len(fresh) else None


def best_startable(study: "Study", configs: "Sequence[Config]", utility: np.ndarray) -> int | None:
    """The one of `configs` with the largest `utility` (k,) that can be started, added to the open
    study if it is new; None if all were started.
    """
    for k in np.argsort(-utility, kind="stable"):
        config_id = study.propose(configs[k])
        if study.available[config_id] and study.epoch[config_id] == 0:
            return config_id
    return None
