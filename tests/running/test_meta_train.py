"""Recommenders that know the user's own studies: what counts, what is forecast, and that the next
tune on a like task starts better.
"""

import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import yaml
from own_studies import NAME, data_folder, finished, fit, shown_of

from foretune.commands.recommend import as_json, lines
from foretune.commands.tune import ranked_by
from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.history.join import PREFIX
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.own import FOLDER, Own, load_own, settings_of
from foretune.recommenders.recommendation import recommend
from foretune.recommenders.registry import load, recommender
from foretune.running.meta_train import finished_studies, main, train, with_studies
from foretune.running.preparation import prepared
from foretune.running.request import Request
from foretune.running.tuning import tune_request
from foretune.searchers.registry import searcher
from foretune.space.catalogue import transfer_pool, transfer_space
from foretune.space.space import Space
from foretune.study.notes import Notes
from foretune.study.study import Plan, Study
from foretune.training.recipe import Settings


@pytest.fixture
def shown(world):
    return shown_of(world)


@pytest.fixture
def data(world, shown, tmp_path):
    return data_folder(world, shown, tmp_path)


def test_the_next_tune_on_a_like_task_starts_better(data, shown, world):
    meta, red, _ = shown
    new = next(
        task for task, values in zip(world.new, world.values, strict=True) if values.argmax() > 24
    )
    values = next(values for values in world.values if values.argmax() > 24)
    before = recommend(new, data=data, recommender=NAME)
    assert fit(data, shown, world) == [f"{PREFIX}mine", f"{PREFIX}other"]
    after = recommend(new, data=data, recommender=NAME)
    assert next(iter(after.ranking.nearest)).startswith(PREFIX) and not before.own.measured
    first = [values.max() - values[found.rows[0].row] for found in (before, after)]
    assert first[1] < 0.5 * first[0]
    regret = {}
    # and so does the study that is given the ranking
    for name, found in (("before", before), ("after", after)):
        world_of_new = with_new(meta, values)
        study, objective = replay_study(
            world_of_new, "new", budget=9, sources=red, method="recommended"
        )
        notes = Notes(recommended=found.in_pool(world_of_new.configs))
        plan = Plan(
            task="new", metric=meta.metric, goal=meta.goal, max_epoch=3, budget=9, notes=notes
        )
        study = Study(meta.space, meta.configs, plan, past=meta.select(red))
        steps = list(replay(study, objective, searcher("recommended"), Score(world_of_new, "new")))
        regret[name] = steps[2]["normalized_regret"]
    assert regret["after"] < 0.5 * regret["before"]


def with_new(meta, values):
    """`meta` and the task `new` of these final values."""
    import pandas as pd

    like = meta.table[meta.table["task"] == meta.tasks[0]]
    final = values[like["config_id"].map({c: k for k, c in enumerate(meta.config_ids)})]
    new = like.assign(task="new", score=final - 0.02 * (3 - like["epoch"]))
    configs = dict(zip(meta.config_ids, meta.configs, strict=True))
    about = {**meta.about, "tasks": [*meta.tasks, "new"]}
    return MetaDataset.build(
        meta.space, configs, pd.concat([meta.table, new], ignore_index=True), **about
    )


def test_the_shipped_model_stays_and_own_ones_say_what_they_know(data, shown, world):
    before = {file.name: file.read_bytes() for file in (data / "models" / NAME).iterdir()}
    said = []
    fit(data, shown, world, said.append)
    assert f"{len(shown[1])} tasks and 2 own studies x 30 configurations" in said[0]
    assert {file.name: file.read_bytes() for file in (data / "models" / NAME).iterdir()} == before
    own = Own.load(data / FOLDER / NAME)
    assert (
        set(own.measured) == {f"{PREFIX}mine", f"{PREFIX}other"}
        and len(own.measured[f"{PREFIX}mine"]) == 20
    )
    found = recommend(world.past[shown[2][0]], data=data, recommender=NAME)
    assert found.known_as == f"{PREFIX}mine"
    text = "\n".join(lines(found, 30, True))
    assert (
        "2 of them your own studies" in text
        and "20 of 30 configurations, and the others stand where" in text
    )
    trained = set(own.measured[f"{PREFIX}mine"])
    assert {found.ranking.past.config_ids[row.row] for row in found.rows if row.measured} == trained
    assert text.count(", a forecast") == 10 and text.count("forecast from what the study") == 10
    assert [row.predicted for row in found.rows] == sorted(
        (row.predicted for row in found.rows), reverse=True
    )
    near = next(
        task for task, values in zip(world.new, world.values, strict=True) if values.argmax() > 24
    )
    found = recommend(near, data=data, recommender=NAME)
    (leant,) = found.shares
    assert leant.startswith(PREFIX) and found.known_as is None
    told = [
        line
        for line in "\n".join(lines(found, 30, True)).splitlines()
        if f"leans on {leant} (100 %)" in line
    ]
    # its place among others would be a forecast
    assert told and all("there it reached" in line for line in told)
    leaning = {found.ranking.past.config_ids[row.row] for row in found.rows if row.reasons}
    assert leaning <= set(own.measured[leant])
    assert as_json(found, 1)["own_studies"] == [f"{PREFIX}mine", f"{PREFIX}other"]
    assert not recommend(world.new[0], data=data, recommender=NAME, own=False).own.measured


def test_holes_are_forecast_near_the_truth_and_what_was_measured_is_kept(data, shown):
    meta, red, blue = shown
    studies, images = finished_studies(meta.select(red), data / "studies")
    joined, measured = with_studies(meta.select(red), studies)
    assert joined.tasks == [*red, f"{PREFIX}mine", f"{PREFIX}other"] and set(images) == set(
        measured
    )
    truth, told = meta.best([blue[0]])[0], joined.best([f"{PREFIX}mine"])[0]
    rows = np.isin(meta.config_ids, measured[f"{PREFIX}mine"])
    np.testing.assert_allclose(told[rows], truth[rows], atol=1e-9)
    assert np.isfinite(told).all() and np.corrcoef(told[~rows], truth[~rows])[0, 1] > 0.9
    assert with_studies(meta, []) == (meta, {})


def with_test_part(task):
    """Every other image of the valid part is a test image."""
    split = task.split.copy()
    split[np.flatnonzero(split == 1)[::2]] = 2
    return replace(task, split=split)


@pytest.mark.slow
def test_what_tune_leaves_counts(world, tmp_path):
    """A real study, at the smallest: the files and notes are those that tuning writes."""
    tiny = {
        "network": "shufflenet_v2_x05",
        "image_size": 16,
        "pretrained": False,
        "batch_size": 8,
        "max_epoch": 2,
    }
    pool, rng = transfer_pool(), np.random.default_rng(0)
    rows = [
        {
            "task": task,
            "config_id": i,
            "seed": 0,
            "epoch": epoch,
            "valid_accuracy": float(rng.random()),
        }
        for task in ("t0", "t1", "t2")
        for i in range(len(pool))
        for epoch in (1, 2)
    ]
    about = {"metric": "valid_accuracy", "goal": "maximize", "max_epoch": 2, "settings": tiny}
    meta = MetaDataset.build(
        Space(transfer_space()), dict(enumerate(pool)), rows, name="light", **about
    )
    meta.save(tmp_path / "meta" / "light")
    with_test_part(world.new[0]).save(tmp_path / "images" / "photos.npz")
    tune_request(
        Request("photos", budget=6, method="random", workers=1, study="mine", data=tmp_path)
    )
    assert train(meta, world.past, [NAME], tmp_path, say=lambda line: None) == [f"{PREFIX}mine"]
    found = recommend("photos", data=tmp_path, recommender=NAME)
    assert found.known_as == f"{PREFIX}mine" and len(found.own.measured[f"{PREFIX}mine"]) == 3
    with_test_part(world.new[1]).save(tmp_path / "images" / "next.npz")
    recommender(NAME).fit(meta, world.past).save(tmp_path / "models" / NAME)
    for own, said in (
        (True, f"ranked by {NAME}, fitted on 1 of your own studies too"),
        (False, f"ranked by {NAME}"),
    ):
        request = Request(
            "next",
            method="recommended",
            recommender=NAME,
            own_studies=own,
            study=f"next-{own}",
            data=tmp_path,
        )
        with prepared(request) as ready:
            noted = ready.study.plan.notes.recommended
            assert noted.own_studies == (f"{PREFIX}mine",) * own and ranked_by(
                noted, NAME
            ).startswith(said)
            assert ("own studies" in ranked_by(noted, NAME)) == own


def test_what_does_not_count(data, shown, world):
    meta, red, blue = shown
    studies = data / "studies"
    finished(studies / "running", meta, blue[2], world.past[blue[2]])
    (studies / "running" / "best.yaml").unlink()
    finished(studies / "small", meta, blue[3], world.past[blue[3]], budget=6)
    finished(
        studies / "otherwise",
        meta,
        blue[4],
        world.past[blue[4]],
        settings=asdict(Settings(batch_size=7)),
    )
    finished(studies / "shipped", meta, red[0], world.past[red[0]])
    finished(studies / "seed", meta, blue[5], world.past[blue[5]], seed=3)
    (studies / "broken").mkdir()
    (studies / "broken" / "study.json").write_text("[]")
    (studies / "other" / "task.npz").write_bytes(b"cut")
    found, images = finished_studies(meta.select(red), studies)
    assert (
        sorted(images)
        == [f"{PREFIX}mine", f"{PREFIX}seed"]
        == sorted(study.tasks[0] for study in found)
    )
    world.new[0].save(studies / "mine" / "task.npz")  # other images than those it was trained on
    assert list(finished_studies(meta.select(red), studies)[1]) == [f"{PREFIX}seed"]


def test_without_studies_nothing_is_fitted_and_old_models_go(data, shown, world):
    fit(data, shown, world)
    shutil.rmtree(data / "studies")
    said = []
    assert fit(data, shown, world, said.append) == [] and "none in" in said[0]
    assert not (data / FOLDER / NAME).exists()


def test_the_command_takes_the_pipelines_parameters(data, shown, world, capsys):
    section = {"names": [NAME], "folder": "data/models"}
    params = {"meta_dataset": {"folder": "meta/light"}, "recommenders": section}
    (data / "params.yaml").write_text(yaml.safe_dump(params))
    arguments = [f"--params={data / 'params.yaml'}", f"--data={data}"]
    assert main(arguments) == 0 and "2 own studies" in capsys.readouterr().out
    fitted, own = load_own(NAME, data, MetaDataset.load(data / "meta" / "light"))
    assert fitted.past.tasks == load(
        data / FOLDER / NAME
    ).past.tasks and own.settings == settings_of(shown[0])
    (data / "params.yaml").unlink()
    assert main(arguments) == 2 and "params.yaml" in capsys.readouterr().err
    with pytest.raises(BadInput):
        load_own("siamese", data, shown[0])
