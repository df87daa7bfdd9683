"""Random search: one random configuration after another, each trained to the end (Bergstra and
Bengio, JMLR 2012).
"""

import numpy as np

from foretune.searchers.base import Searcher, draw
from foretune.study.study import Step, Study


class Random(Searcher):
    """Train random configurations fully; a trial that was interrupted is finished first."""

    name = "random"

    def suggest(self, study: Study, rng: np.random.Generator) -> Step | None:
        """A paused trial to its end, else a fresh random configuration from epoch 0 to the last."""
        paused = np.flatnonzero(study.available & (study.epoch > 0))
        config_id = int(paused[0]) if len(paused) else draw(study, rng)
        if config_id is None:
            return None
        return Step(
            config_id, int(study.epoch[config_id]), study.max_epoch, {"why": "random configuration"}
        )
