"""Past runs of any settings as the memory of another library's search."""

import numpy as np
import pytest
from run_world import SHARED, past_runs, score, space_of
from stores import store_of

from foretune.integrations.past_runs import PastRuns
from foretune.integrations.search_space import Axis, SearchSpace

AXES = [
    Axis("learning_rate", 1e-5, 1.0, log=True),
    Axis("weight_decay", 1e-6, 1e-1, log=True),
    Axis("dropout", 0.0, 0.9),
]


@pytest.fixture(scope="module")
def past() -> PastRuns:
    return PastRuns(store_of(past_runs(tasks=4, runs=15).to_dict("records")))


def test_it_goes_elsewhere_where_neighbours_of_the_best_bring_nothing(past):
    """Every suggestion becomes the nearest of 40 configurations, so that beside the best one there
    is nothing to find.
    """
    rng, space = np.random.default_rng(0), SearchSpace(AXES)
    table = space_of(SHARED).sample(40, rng)
    X, told, rows = space.encode(table), [], []
    for trial in range(24):
        config = past.choose(space, told, [], np.random.default_rng([0, trial])).config
        rows.append(int(np.square(X - space.encode([config])).sum(axis=1).argmin()))
        told.append((config, score(table[rows[-1]])))
    assert len(set(rows)) >= 8
    assert max(value for _, value in told) >= max(map(score, table)) - 0.01


def test_parameters_asked_for_one_by_one_make_a_run_that_is_known(past):
    """The first trial of a space that is defined while it runs."""
    config: dict = {}
    for k in range(len(AXES)):
        rng = np.random.default_rng(k)
        chosen = past.choose(SearchSpace(AXES[: k + 1]), [], [], rng, dict(config), growing=True)
        config = chosen.config
    best = sorted(past_runs(tasks=4, runs=15)["score"])[-8:]
    near = [
        abs(np.log10(config["learning_rate"] / row["learning_rate"])) for row in past.favourites
    ]
    assert min(near) < 1e-6 and score(config) > min(best) - 0.1
