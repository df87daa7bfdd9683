"""Task-aware baselines on the world where pictures decide."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.average_precision import ap_at_k
from foretune.recommenders.base import Recommender
from foretune.recommenders.baselines import TaskAgnostic
from foretune.recommenders.described import (
    GlobalMean,
    MetadataNetwork,
    NearestMetadata,
    RandomForest,
    TrAutoML,
    probes,
)
from foretune.recommenders.explanation import Explanation

MADE: dict[str, Any] = {
    "random-forest": lambda: RandomForest(trees=30),
    "nearest-metadata": NearestMetadata,
    "metadata-network": lambda: MetadataNetwork(encoding="both"),
    "global-mean": lambda: GlobalMean(encoding="both", trunk="tiny", size=16, pool=36),
}


def ap(recommender: Recommender, world) -> float:
    pairs = zip(world.new, world.values, strict=True)
    return float(
        np.mean([ap_at_k(recommender.rank(task).scores, values, 10) for task, values in pairs])
    )


@pytest.mark.parametrize("name", MADE)
def test_colours_tell_it_which_configuration_is_best(world, name: str, tmp_path: Path) -> None:
    fitted = MADE[name]().fit(world.meta, world.past)
    assert ap(fitted, world) > ap(TaskAgnostic().fit(world.meta, world.past), world) + 0.2
    ranking = fitted.rank(world.new[0])
    assert ranking.supported and ranking.predicted is not None
    assert sum(ranking.nearest.values()) == pytest.approx(1)
    fitted.save(tmp_path)
    assert np.array_equal(type(fitted).load(tmp_path).rank(world.new[0]).scores, ranking.scores)


def test_a_forest_leans_on_no_single_task(world) -> None:
    ranking = RandomForest().fit(world.meta, world.past).rank(world.new[0])
    # the nearest by metadata set the level of the forecast, and no more
    assert Explanation(ranking).shares is None
    assert {reason.kind for reason in Explanation(ranking).reasons(0)} == {"best", "worst"}


def test_the_nearest_task_lends_its_list(world) -> None:
    fitted = NearestMetadata().fit(world.meta, world.past)
    ranking = fitted.rank(world.past["t3"])
    assert ranking.nearest == Explanation(ranking).shares == {"t3": 1.0}
    assert np.allclose(ranking.scores, fitted.past.normalised[3])


def test_trial_runs_find_the_task_with_the_same_results(world) -> None:
    fitted = TrAutoML(count=4).fit(world.meta, world.past, seed=1)
    asked: list[int] = []

    def evaluate(rows: Any) -> np.ndarray:
        asked.extend(rows)
        return fitted.past.best[5, rows] + 1e-4

    assert list(fitted.rank_given(evaluate).nearest) == ["t5"]
    assert asked == probes(30, 4, 1).tolist()
    with pytest.raises(BadInput, match="must train ten configurations first"):
        fitted.rank(world.new[0])


def test_mistakes_are_named(world) -> None:
    with pytest.raises(BadInput, match="trees=0"):
        RandomForest(trees=0)
    with pytest.raises(BadInput, match="missing: t0"):
        NearestMetadata().fit(world.meta, {k: v for k, v in world.past.items() if k != "t0"})
