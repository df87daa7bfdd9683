"""Any searcher, until what the rest of the budget can still gain is worth less than it costs.

The utility of a study is its best value less `worth` for every full training that it spends (Lee et
al., Cost-sensitive freeze-thaw Bayesian optimization, arXiv 2510.21379, with a linear cost). It goes
on as long as some configuration, trained on to some epoch, is expected to gain more than that costs.
If none is, no set of them is: the gain of the best of several is at most the sum of theirs. What is
not counted is that a training which disappoints is broken off for less than it was to cost.
"""

import numpy as np

from foretune.errors import positive
from foretune.searchers.base import Searcher
from foretune.searchers.prospect import Prospect
from foretune.searchers.registry import method
from foretune.study.plan import Plan
from foretune.study.study import Study, Suggestion


class WhenDone(Searcher):
    """As `searcher`, after `first` full trainings only as long as one is expected to gain `worth`."""

    name = "when-done"

    def __init__(self, searcher: Searcher, worth: float, first: int = 1):
        positive(worth=worth)
        self.searcher, self.worth, self.first = searcher, worth, first

    def done(self, study: Study) -> Prospect | None:
        """The best prospect of a study that is over, since it is not worth its cost; None of one that
        goes on, and where the searcher forecasts nothing.
        """
        if study.spent < self.first * study.max_epoch or study.incumbent is None:
            return None
        found = self.searcher.prospect(study, self.worth / study.max_epoch)
        return found if found is not None and found.net <= 0 else None

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The searcher's suggestion, None once the study is over."""
        return None if self.done(study) is not None else self.searcher.suggest(study, rng)

    def recommend(self, study: Study) -> int | None:
        """As the searcher recommends."""
        return self.searcher.recommend(study)


def until_done(searcher: Searcher, plan: Plan, worth: float | None) -> Searcher:
    """`searcher`, until it is not worth its cost (None: to the end of the budget). What the plan
    gives to be trained first is trained before anything is judged.
    """
    if worth is None:
        return searcher
    return WhenDone(searcher, worth, max(1, len(plan.notes.anchors)))


def useless_stop(wanted: bool, plan: Plan) -> list[str]:
    """What to say where a study is to end early that never will."""
    if not wanted or method(plan.method).forecasts:
        return []
    return [f"{plan.method} forecasts no curves, so --stop-when-done ends nothing"]


def note_stop(study: Study, searcher: Searcher) -> None:
    """Note with a study that has run why it ended before its budget did, if it did."""
    if not isinstance(searcher, WhenDone) or study.done or study.pending.any():
        return
    if (found := searcher.done(study)) is not None:
        facts = {"gain": found.gain, "epochs": found.epochs, "saved": study.remaining}
        study.note(stopped={**facts, "spent": study.spent, "worth": searcher.worth})


def said_of_stop(study: Study) -> str | None:
    """What was saved, for people; None where the study did not end before its budget, or went on
    since.
    """
    noted = study.plan.notes.extra.get("stopped")
    if noted is None or noted["spent"] != study.spent:
        return None
    left = f"{noted['saved']} of {noted['saved'] + study.spent} epochs saved"
    return (
        f"done early: {left}; the best that can still be trained is expected to gain "
        f"{noted['gain']:.2g} in {noted['epochs']} epochs, less than they are worth "
        f"({noted['worth']:g} a full training)"
    )
