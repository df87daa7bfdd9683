"""What is known of the user's own studies, and which models of one's own can be used."""

import json

import pytest
from own_studies import NAME, data_folder, fit, shown_of

from foretune.commands.recommend import lines
from foretune.recommenders.own import FOLDER
from foretune.recommenders.recommendation import recommend
from foretune.recommenders.registry import recommender


@pytest.fixture
def shown(world):
    return shown_of(world)


@pytest.fixture
def data(world, shown, tmp_path):
    return data_folder(world, shown, tmp_path)


@pytest.mark.parametrize("fault", ["settings", "notes", "tasks", "table", "shipped"])
def test_a_model_that_does_not_fit_is_passed_over_with_the_reason(fault, data, shown, world):
    meta, red, _ = shown
    fit(data, shown, world)
    folder = data / FOLDER / NAME
    notes = json.loads((folder / "own.json").read_text())
    match fault:
        case "settings":
            (folder / "own.json").write_text(json.dumps({**notes, "settings": {}}))
        case "notes":
            (folder / "own.json").write_text("{")
        case "tasks":
            (folder / "own.json").write_text(json.dumps({**notes, "measured": {}}))
        case "table":
            meta.select(red[:-1]).save(data / "meta" / "light")
            recommender(NAME).fit(meta.select(red[:-1]), world.past).save(data / "models" / NAME)
        case "shipped":
            meta.save(data / "meta" / "light")
            recommender(NAME).fit(meta, world.past).save(data / "models" / NAME)
    reasons = {
        "settings": "other settings",
        "notes": "cannot be read",
        "tasks": "not of one fit",
        "table": "another meta-dataset",
        "shipped": "knows tasks that it does not",
    }
    found = recommend(world.new[0], data=data, recommender=NAME)
    assert not found.own.measured and reasons[fault] in found.passed_over
    assert any(
        "is not used" in line and "running.meta_train" in line for line in lines(found, 1, False)
    )
