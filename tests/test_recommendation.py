"""Recommendations as values: notes of a study, what worked where, which fitted recommender fits which meta-dataset."""

import json
import shutil

import numpy as np
import pytest
from recommended import data_folder, picture_task, ranking_of

from foretune.errors import BadInput
from foretune.evaluation.synthetic import synthetic_meta
from foretune.images import load_task
from foretune.meta import MetaDataset
from foretune.recommendation import Recommendation, recommend
from foretune.recommenders.base import Past
from foretune.recommenders.registry import recommender


@pytest.fixture
def data(tmp_path, meta):
    return data_folder(tmp_path, meta)


def test_notes_name_a_pools_configurations_and_leave_out_what_it_lacks(meta):
    found = Recommendation(picture_task(), meta, ranking_of(meta), "hyperstar")
    pool = [*reversed(meta.configs[:7]), {**meta.configs[0], "unknown": 1}]
    notes = found.in_pool(pool)
    by_score = sorted(range(7), key=lambda i: -found.ranking.scores[6 - i])
    assert notes["order"] == by_score
    assert notes["scores"][:7] == pytest.approx([found.ranking.scores[6 - i] for i in range(7)], abs=1e-5)
    assert notes["scores"][7] == -1.0  # scores run from 1 to 0
    assert notes["leans"] == {k: round(v, 4) for k, v in found.ranking.nearest.items()} and "images" not in notes
    json.dumps(notes)


def test_notes_hold_what_the_images_add_to_each_of_a_pools_configurations(meta):
    found = Recommendation(picture_task(), meta, ranking_of(meta, residual=True), "hyperstar")
    notes = found.in_pool([*reversed(meta.configs[:7]), {**meta.configs[0], "unknown": 1}])
    assert notes["images"] == [*(round(float(found.ranking.from_images[6 - i]), 5) for i in range(7)), 0.0]
    assert set(notes["leans"].values()) == {0.2}


def test_what_worked_is_in_the_metrics_unit(meta):
    found = Recommendation(picture_task(), meta, ranking_of(meta), "hyperstar")
    config, value = found.worked_on(meta.tasks[1], 1)[0]
    best = meta.best([meta.tasks[1]])[0]
    assert config == meta.configs[int(np.nanargmax(best))]
    assert value == pytest.approx(meta.sign * np.nanmax(best))


def test_images_of_a_past_task_are_recognised(data, meta):
    meta.about["hashes"] = {meta.tasks[2]: load_task("new", data).hash}
    try:
        meta.save(data / "meta" / "light")
        assert recommend("new", data=data, recommender="portfolio").known_as == meta.tasks[2]
    finally:
        del meta.about["hashes"]


def test_fitted_recommender_of_another_meta_dataset_is_refused(data, meta):
    recommender("portfolio").fit(meta, {}).save(data / "models" / "portfolio")
    assert recommend("new", data=data, recommender="portfolio").rows
    shutil.rmtree(data / "meta" / "light")
    synthetic_meta(configs=5).save(data / "meta" / "light")
    with pytest.raises(BadInput, match="fitted on another meta-dataset"):
        recommend("new", data=data, recommender="portfolio")


def test_equal_ids_with_other_configurations_are_refused(data, meta):
    recommender("portfolio").fit(meta, {}).save(data / "models" / "portfolio")
    turned = dict(zip(meta.config_ids, reversed(meta.configs), strict=True))
    about = {**meta.about, "tasks": meta.tasks, "max_epoch": meta.max_epoch}
    MetaDataset.build(meta.space, turned, meta.table, **about).save(data / "meta" / "other")
    with pytest.raises(BadInput, match="fitted on another meta-dataset"):
        recommend("new", data=data, meta="other", recommender="portfolio")


def test_task_unlike_any_past_one_gets_the_portfolio_and_is_told_so(meta):
    from foretune.commands.recommend import lines

    found = Recommendation(picture_task(), meta, ranking_of(meta, supported=False), "hyperstar")
    assert [r.row for r in found.rows] == Past.of(meta).portfolio().tolist()
    assert all(r.predicted is None for r in found.rows)
    text = "\n".join(lines(found, 3, True))
    assert "greedy portfolio" in text and "leans on" not in text
    assert text.count("all 5 past tasks count alike in this list") == 3
    assert found.rows[0].reasons[0].rank == Past.of(meta).ranks[:, found.rows[0].row].min()
    scores = found.notes["scores"]
    assert scores == sorted(scores, reverse=True)
