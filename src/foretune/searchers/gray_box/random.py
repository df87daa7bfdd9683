"""Random search: one random configuration after another, each trained to the end (Bergstra and
Bengio, JMLR 2012).
"""

import numpy as np

from foretune.searchers.base import Searcher, at_random
from foretune.study.study import Study, Suggestion


class Random(Searcher):
    """Train random configurations fully; a trial that was interrupted is finished first."""

    name = "random"

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """A paused trial to its end, else a fresh random configuration from epoch 0 to the last."""
        paused = np.flatnonzero(study.available & (study.epoch > 0))
        why = "random configuration"
        if not len(paused):
            return at_random(study, rng, study.max_epoch, why)
        first = int(paused[0])
        return Suggestion(first, int(study.epoch[first]), study.max_epoch, {"why": why})
