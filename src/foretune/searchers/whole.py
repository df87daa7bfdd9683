"""Any searcher where trials cannot be continued: every step is a whole training."""

from dataclasses import replace

import numpy as np

from foretune.searchers.base import Searcher
from foretune.searchers.prospect import Prospect
from foretune.study.study import Study, Suggestion


class Whole(Searcher):
    """What `searcher` suggests, to the last epoch: an early stop would be paid for twice."""

    name = "whole"

    def __init__(self, searcher: Searcher):
        self.searcher = searcher

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The searcher's suggestion, to the last epoch."""
        suggestion = self.searcher.suggest(study, rng)
        return None if suggestion is None else replace(suggestion, stop=study.max_epoch)

    def prospect(self, study: Study, price: float) -> Prospect | None:
        """As the searcher forecasts, which may count a part of a training."""
        return self.searcher.prospect(study, price)

    def recommend(self, study: Study) -> int | None:
        """As the searcher recommends."""
        return self.searcher.recommend(study)
