"""How probable the hypotheses are by the past itself."""

import numpy as np
import pytest

from foretune.searchers.transfer.curve_prior import HYPOTHESES, CurvePrior
from foretune.searchers.transfer.hypothesis_weights import FEWEST_TASKS, KEPT, TASKS, fitted_weights
from foretune.searchers.transfer.past_curves import comparable

n, E = 16, 6


def prior(signs):
    """A past whose task t ranks configurations by their place, or (sign -1) the other way round."""
    rng = np.random.default_rng(0)
    good, curve = np.linspace(-1, 1, n)[:, None], np.log1p(np.arange(E))
    Y = np.stack([s * good + curve + 0.05 * rng.normal(size=(n, E)) for s in signs])
    names = tuple(map(str, range(len(signs))))
    return CurvePrior(comparable(Y, rng.uniform(size=(n, 3)), names, n))


def weights(signs):
    found = fitted_weights(prior(signs), HYPOTHESES)
    assert found.sum() == pytest.approx(1.0)
    return dict(zip([h.name for h in HYPOTHESES], found, strict=True))


def test_a_past_of_one_mind_is_believed_more_and_its_opposite_less():
    by_hand = {h.name: h.weight for h in HYPOTHESES}
    alike = weights([1] * 8)
    assert alike["history"] > by_hand["history"] and alike["opposite"] < by_hand["opposite"]
    assert alike["history"] <= (KEPT * by_hand["history"] + TASKS) / (KEPT + TASKS)


def test_a_task_the_other_way_round_among_the_past_makes_that_more_probable():
    assert weights([1] * 7 + [-1])["opposite"] > weights([1] * 8)["opposite"]


def test_a_short_past_changes_nothing():
    short = prior([1] * (FEWEST_TASKS - 1))
    assert short.hypotheses == HYPOTHESES
    assert prior([1] * FEWEST_TASKS).hypotheses != HYPOTHESES
