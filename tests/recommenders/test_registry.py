"""The table of recommenders."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.baselines import MeanRankOrder
from foretune.recommenders.registry import RECOMMENDERS, class_of, entry, load, offered, recommender


@pytest.mark.parametrize("name", RECOMMENDERS)
def test_every_entry_can_be_made_and_says_what_it_does(name: str) -> None:
    made = recommender(name)
    assert isinstance(made, class_of(name))
    assert entry(name).about


def test_unknown_names_and_options_are_refused_with_a_hint() -> None:
    with pytest.raises(BadInput, match="did you mean mean-rank"):
        recommender("mean-ranks")
    with pytest.raises(BadInput, match="has no option 'depth'"):
        recommender("mean-rank", depth=3)


def test_a_saved_recommender_is_found_by_its_name(
    table: Callable[..., MetaDataset], tmp_path: Path
) -> None:
    MeanRankOrder().fit(table(np.random.default_rng(0).random((2, 4, 1))), {}).save(tmp_path)
    assert isinstance(load(tmp_path), MeanRankOrder)
    (tmp_path / "recommender.json").write_text('{"name": "oracle"}')
    with pytest.raises(BadInput, match="'oracle', which is not known"):
        load(tmp_path)


def test_one_that_must_train_first_is_not_offered_for_a_recommendation() -> None:
    with pytest.raises(
        BadInput, match=r"must train ten configurations on the new task first.*Take one of random, "
    ) as refusal:
        offered("tr-automl")
    assert "tr-automl" not in str(refusal.value).split("Take one of")[1]
    with pytest.raises(BadInput, match="unknown recommender 'oracle'; there are random") as refusal:
        offered("oracle")
    assert "tr-automl" not in str(refusal.value)
    assert entry("tr-automl").trains and offered("hyperstar") is entry("hyperstar")
