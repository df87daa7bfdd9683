"""Any searcher, after some configurations that are trained to the end first: the default, a
colleague's favourite, the best of an older study.
"""

from collections.abc import Sequence

import numpy as np

from foretune.searchers.base import Searcher
from foretune.searchers.prospect import Prospect
from foretune.study.study import Study, Suggestion


class Anchored(Searcher):
    """Train `first` (configuration ids) fully, then do as `searcher` says; what it says it knows
    about the anchors is in the history like any trial.

    With the default configuration as the anchor, the study's incumbent is never below it.
    """

    name = "anchored"

    def __init__(self, searcher: Searcher, first: Sequence[int]):
        self.searcher, self.first = searcher, list(first)

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The first anchor that can take a step, to its last epoch; else the searcher's
        suggestion.
        """
        for c in self.first:
            if study.available[c]:
                return Suggestion(
                    c,
                    int(study.epoch[c]),
                    study.max_epoch,
                    {"why": "given: trained before the search begins"},
                )
        return self.searcher.suggest(study, rng)

    def prospect(self, study: Study, price: float) -> Prospect | None:
        """As the searcher forecasts, once the anchors are trained."""
        return self.searcher.prospect(study, price)

    def recommend(self, study: Study) -> int | None:
        """As the searcher recommends."""
        return self.searcher.recommend(study)
