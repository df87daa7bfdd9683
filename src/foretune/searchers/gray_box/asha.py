"""ASHA: asynchronous successive halving (Li et al., MLSys 2020, Algorithm 2).

Notation: r = fewest epochs, R = most, eta = reduction factor; rung k = 0, 1, ... asks for r_k =
min(R, r eta^k) epochs.

    get_job: from the highest rung down, promote a configuration that is among the best 1/eta of
             those that finished its rung and was not promoted yet;
             if there is none, start a new configuration at rung 0

Nothing is stored: who finished which rung is read off the epochs told. No rung ever waits, so any
number of workers stays busy. With the pool used up and nothing to promote, the best paused trial
goes on to its next rung, so that a small pool does not end the search.
"""

import math

import numpy as np

from foretune.errors import BadInput
from foretune.searchers.base import Searcher, draw
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion


def rungs(most_epochs: int, eta: float, first: int = 1) -> list[int]:
    """Epochs of each rung: `most_epochs` divided by powers of eta, not below `first`, in rising
    order.
    """
    if not eta > 1:
        raise BadInput(f"eta={eta:g} must be above 1")
    if not 1 <= first <= most_epochs:
        raise BadInput(
            f"first={first} must be from 1 to the {most_epochs} epochs of a full training"
        )
    count = math.floor(math.log(most_epochs / first) / math.log(eta) + 1e-9)
    return sorted(
        {min(most_epochs, max(first, round(most_epochs * eta**-k))) for k in range(count + 1)}
    )


class ASHA(Searcher):
    """Asynchronous successive halving over random configurations; `eta` as in the paper, `first` =
    epochs of the lowest rung.
    """

    name = "asha"

    def __init__(self, eta: float = 3.0, first: int = 1):
        rungs(max(first, 1), eta, first)  # refuse bad options before any study starts
        self.eta, self.first = eta, first

    def sample(self, study: Study, rng: np.random.Generator) -> Choice | None:
        """A configuration to start next; None when the pool is used up."""
        return draw(study, rng)

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """A step cut short first, then a promotion, then a new configuration."""
        levels = rungs(study.max_epoch, self.eta, min(self.first, study.max_epoch))
        free = study.available
        for k in np.flatnonzero(free & (study.epoch > 0)):
            if study.epoch[k] not in levels:  # cut short by a stop or an earlier budget
                return Suggestion(
                    int(k),
                    int(study.epoch[k]),
                    next(r for r in levels if r > study.epoch[k]),
                    {"why": "cut short"},
                )
        promoted = promotion(study, levels, self.eta)
        if promoted is not None:
            return promoted
        fresh = self.sample(study, rng)
        if fresh is not None:
            return Suggestion(
                fresh, 0, levels[0], {"why": f"new configuration at rung 0 ({levels[0]} epochs)"}
            )
        return next_rung(study, levels)


def score_at(study: Study, epochs: int) -> np.ndarray:
    """Best value up to `epochs` of each configuration, (n,); -inf for one that did not get there or
    failed.
    """
    seen = np.where(np.isnan(study.Y[:, :epochs]), -np.inf, study.Y[:, :epochs]).max(
        axis=1, initial=-np.inf
    )
    return np.where((study.epoch >= epochs) & ~study.failed, seen, -np.inf)


def promotion(study: Study, levels: list[int], eta: float) -> Suggestion | None:
    """The promotion that is due at the highest rung, or None."""
    free = study.available
    for below, above in zip(reversed(levels[:-1]), reversed(levels[1:]), strict=True):
        finished = np.flatnonzero(study.epoch >= below)
        top = int(len(finished) / eta)
        score = score_at(study, below)[finished]
        for k in np.argsort(-score, kind="stable")[:top]:
            c = int(finished[k])
            if np.isfinite(score[k]) and free[c] and study.epoch[c] == below:
                why = f"among the best {top} of {len(finished)} at {below} epochs"
                return Suggestion(c, below, above, {"why": why})
    return None


def next_rung(study: Study, levels: list[int]) -> Suggestion | None:
    """The paused trial with the best value, to its next rung; None if there is none."""
    paused = np.flatnonzero(study.available & (study.epoch > 0))
    if not len(paused):
        return None
    c = int(paused[np.argmax(study.best[paused])])
    stop = next(r for r in levels if r > study.epoch[c])
    return Suggestion(
        c, int(study.epoch[c]), stop, {"why": "the pool is used up: best paused trial"}
    )
