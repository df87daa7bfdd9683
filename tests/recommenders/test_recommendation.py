"""Recommendations as values: notes of a study, what worked where, which fitted recommender fits
which meta-dataset.
"""

import json
import shutil

import numpy as np
import pytest
from recommended import data_folder, picture_task, ranking_of
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.past import Past
from foretune.recommenders.recommendation import Recommendation, recommend
from foretune.recommenders.registry import recommender
from foretune.searchers.pictures.recommended import TaskAwareHyperband
from foretune.study.notes import RankingNote
from foretune.tasks.loading import load_task


@pytest.fixture
def data(tmp_path, meta):
    return data_folder(tmp_path, meta)


def test_notes_name_a_pools_configurations_and_leave_out_what_it_lacks(meta):
    found = Recommendation(picture_task(), meta, ranking_of(meta), "hyperstar")
    pool = [*reversed(meta.configs[:7]), {**meta.configs[0], "unknown": 1}]
    notes = found.in_pool(pool)
    by_score = sorted(range(7), key=lambda i: -found.ranking.scores[6 - i])
    assert list(notes.order) == by_score
    assert notes.scores[:7] == pytest.approx(
        [found.ranking.scores[6 - i] for i in range(7)], abs=1e-5
    )
    assert notes.scores[7] == -1.0  # scores run from 1 to 0
    assert (
        notes.leans == {k: round(v, 4) for k, v in found.ranking.nearest.items()}
        and notes.images is None
    )
    assert RankingNote.from_json(json.loads(json.dumps(notes.to_json()))) == notes


def test_notes_hold_what_the_images_add_to_each_of_a_pools_configurations(meta):
    found = Recommendation(picture_task(), meta, ranking_of(meta, residual=True), "hyperstar")
    notes = found.in_pool([*reversed(meta.configs[:7]), {**meta.configs[0], "unknown": 1}])
    assert list(notes.images) == [
        *(round(float(found.explanation.image_effect[6 - i]), 5) for i in range(7)),
        0.0,
    ]
    assert set(notes.leans.values()) == {0.2}


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


@pytest.mark.parametrize("supported", [True, False])
def test_on_images_of_a_past_task_what_was_measured_there_decides_and_is_shown(meta, supported):
    """Not the forecast for a new task, which knows no level of its own and is wide."""
    from foretune.commands.recommend import as_json, lines

    task = meta.tasks[2]
    ranking = ranking_of(meta, supported)
    ranking.past.best[2, 7] = np.nan  # diverged at once
    found = Recommendation(picture_task(), meta, ranking, "hyperstar", known_as=task)
    best = ranking.past.best[2]
    rank = np.argsort(-np.nan_to_num(best, nan=-np.inf), kind="stable")
    assert found.rows[0].config == meta.configs[rank[0]]
    assert [row.predicted for row in found.rows[:5]] == pytest.approx(
        [meta.sign * best[i] for i in rank[:5]]
    )
    assert all(
        row.measured and row.spread is None and row.from_images is None for row in found.rows
    )
    assert [(r.task, r.rank, r.kind) for r in found.rows[1].reasons] == [(task, 1, "measured")]
    text = "\n".join(lines(found, len(meta), True))
    assert "±" not in text and "expected" not in text and "measured on these images" in text
    assert (
        f"the order is that of what was measured on them, {len(meta)} of {len(meta)} configurations"
        in text
    )
    assert f"{100 * best[rank[0]]:.2f} %" in text
    assert text.count("diverged") == 1
    json.dumps(as_json(found, len(meta)), allow_nan=False)


def test_a_study_of_images_that_are_a_past_task_begins_with_what_was_best_there(meta):
    task = meta.tasks[2]
    found = Recommendation(
        picture_task(), meta, ranking_of(meta, supported=False), "hyperstar", known_as=task
    )
    notes = found.in_pool(meta.configs)
    best = meta.best([task])[0]
    assert notes.order[0] == int(np.nanargmax(best)) == int(np.argmax(notes.scores))
    assert notes.supported and notes.leans == {task: 1.0} and notes.images is None
    study, _ = replay_study(meta, task, budget=9)
    study.note(recommended=notes)
    step = study.ask(TaskAwareHyperband())
    assert step.config_id == notes.order[0] and step.because["past"] == {task: 1.0}
    assert f"measured on these very images, the past task {task}: place 1" in step.because["why"]


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
    scores = found.scores
    assert scores == sorted(scores, reverse=True)


def test_a_past_task_is_left_out_by_a_recommender_that_looks_at_no_images(data, meta):
    images, name = picture_task(), meta.tasks[0]
    found = recommend(images, data=data, recommender="portfolio", without=(name,))
    assert found.ranking.past.tasks == tuple(meta.tasks[1:])
    with pytest.raises(BadInput, match="was fitted on t0 too: --without goes with one"):
        recommend(images, data=data, recommender="hyperstar", without=("t0",))
    with pytest.raises(BadInput, match="--without 'nowhere' is no past task"):
        recommend(images, data=data, recommender="portfolio", without=("nowhere",))
    with pytest.raises(BadInput, match="leaves no past task"):
        recommend(images, data=data, recommender="portfolio", without=tuple(meta.tasks))
