"""The plainest uses of past tasks: a fixed list of configurations, each trained to the end.

`MeanRank` orders the pool by the mean over past tasks of a configuration's rank. `Portfolio` builds
its list greedily: each next configuration is the one that lowers the mean regret of the best so far
most (Feurer et al., Auto-sklearn 2.0, JMLR 2022, Algorithm 1). Both go on with the mean rank when
their list ends, and with configurations that no past task knows last, at random.

Notation: T past tasks, n configurations; `best` (T, n) = best value over epochs.
"""

from typing import NamedTuple

import numpy as np

from foretune.errors import BadInput, at_least
from foretune.history.ranks import equal_support, greedy_portfolio, mean_rank
from foretune.searchers.base import PerStudy, Searcher, adopting, at_random
from foretune.study.study import Study, Suggestion


def past_best(study: Study) -> np.ndarray:
    """Best values (T, n) of the study's own configurations on its past tasks, NaN where unknown.
    Raises `BadInput` without past tasks.
    """
    if study.past is None or not study.past.tasks:
        raise BadInput(
            "this method starts from past tasks and there are none: give a meta-dataset, or "
            "take --method hyperband"
        )
    best = np.full((len(study.past.tasks), len(study.configs)), np.nan)
    known = study.past_ids >= 0
    if not known.any():
        return best
    best[:, known] = study.past.best()[:, study.past_ids[known]]
    return best


class Listed(NamedTuple):
    """`past_best` (T, n) of a study, and the configurations to train, best first."""

    best: np.ndarray
    order: list[int]


class MeanRank(Searcher):
    """Train the configurations fully, in the order of their mean rank on the past tasks."""

    name = "mean-rank"
    why = "mean rank over past tasks"

    def __init__(self) -> None:
        self._lists: PerStudy[Listed] = PerStudy()

    def list_of(self, study: Study) -> Listed:
        """The list, made once per study: it depends on its past alone, and on how many
        configurations it knows.
        """

        def make() -> Listed:
            best = past_best(study)
            return Listed(best, self.order(best))

        return self._lists.get(study, len(study.configs), make)

    def order(self, best: np.ndarray) -> list[int]:
        """Configurations to train, best first."""
        rank = mean_rank(best)
        return [int(c) for c in np.argsort(rank, kind="stable") if np.isfinite(rank[c])]

    @adopting
    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The first configuration of the list that is not fully trained, from where it stands to
        the last epoch.
        """
        best, order = self.list_of(study)
        free = study.available
        past = study.past.tasks if study.past is not None else []
        for place, c in enumerate(order):
            if free[c]:
                because = {
                    "why": f"{self.why}: place {place + 1}",
                    "past": equal_support(best, past, c),
                }
                return Suggestion(c, int(study.epoch[c]), study.max_epoch, because)
        return at_random(study, rng, study.max_epoch, "no past task knows it: random")


class Portfolio(MeanRank):
    """Train the greedy portfolio of the past tasks fully, then go on by mean rank."""

    name = "portfolio"
    why = "greedy portfolio of past tasks"

    def __init__(self, size: int = 1000):
        at_least(1, size=size)
        super().__init__()
        self.size = size

    def order(self, best: np.ndarray) -> list[int]:
        """The portfolio, then the rest by mean rank."""
        chosen = greedy_portfolio(best, self.size)
        return chosen + [c for c in super().order(best) if c not in set(chosen)]
