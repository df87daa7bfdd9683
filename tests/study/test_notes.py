"""Notes of a study: typed, JSON on disk, nothing dropped."""

import json
import shutil
from pathlib import Path

import pytest

from foretune.errors import BadInput
from foretune.study.notes import Notes, RankingNote, notes_of
from foretune.study.plan import Plan
from foretune.study.study import Study

# as written when notes were a plain dict: the plan's, and two events of the journal
OLD = Path(__file__).parent / "fixtures" / "study"


def test_a_study_of_before_notes_were_typed_is_read(tmp_path):
    notes = Study.load(shutil.copytree(OLD, tmp_path / "s")).plan.notes
    stored = json.loads((OLD / "study.json").read_text())["notes"]
    assert notes.task_hash == stored["task_hash"] and notes.options == {"eta": 2}
    assert notes.settings == stored["settings"] and notes.past == tuple(stored["past"])
    assert (notes.space, notes.meta, notes.anchors, notes.baseline) == (
        "transfer",
        "light",
        (),
        None,
    )
    assert (notes.tested, notes.test_accuracy) == ((4, 1), 0.625)
    assert notes.extra == {"remark": "by hand"}
    ranking, noted = notes.recommended, stored["recommended"]
    assert ranking is not None and ranking.supported and ranking.known_as is None
    assert ranking.order == tuple(noted["order"]) and ranking.scores == tuple(noted["scores"])
    assert ranking.images == tuple(noted["images"]) and ranking.nearest == noted["nearest"]
    assert ranking.leans == noted["leans"] and ranking.recommender == "hyperstar"
    assert notes_of(OLD / "study.json").recommended == ranking


def test_the_old_study_goes_on_with_its_ranking(tmp_path):
    from foretune.searchers.registry import searcher

    study = Study.load(shutil.copytree(OLD, tmp_path / "s"))
    step = study.ask(searcher(study.plan.method, **study.plan.notes.options))
    # places 1 and 2 of the ranking, 2 and 4, are started
    assert step.config_id == study.plan.notes.recommended.order[2] == 3
    study.note(tested=(3, 1), later={"a": 1})
    again = Study.load(tmp_path / "s").plan.notes
    assert again == study.plan.notes and again.tested == (3, 1) and again.test_accuracy == 0.625
    assert again.extra == {"remark": "by hand", "later": {"a": 1}}


def test_notes_come_back_from_json_with_what_is_not_known():
    notes = Notes(
        task_hash="h",
        options={"eta": 2},
        past=("a", "b"),
        anchors=(3,),
        recommended=RankingNote(order=(1, 0), leans={"a": 1.0}, extra={"colour": "red"}),
        tested=(0, 2),
        extra={"why": [1, None]},
    )
    stored = json.loads(json.dumps(notes.to_json()))
    assert Notes.from_json(stored) == notes
    assert stored["recommended"] == {"order": [1, 0], "leans": {"a": 1.0}, "colour": "red"}
    # null and nothing are the default
    nothing = Notes.from_json({"options": None, "recommended": None, "past": []})
    assert nothing == Notes() and Notes().to_json() == {}
    plan = Plan("t", "acc", "maximize", 9, 9, notes=notes)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tested": [1]}, "tested"),
        ({"past": "abc"}, "'past' cannot be 'abc': a list of names"),
        ({"settings": [1]}, "'settings'"),
        ({"recommended": {"order": ["x"]}}, "'order'"),
        ([], "mapping"),
    ],
)
def test_notes_of_another_shape_are_refused_before_they_are_written(meta, tmp_path, given, message):
    with pytest.raises(BadInput, match=message):
        Notes.from_json(given)
    study = Study(meta.space, meta.configs[:2], Plan("t", "score", "maximize", 9, 9))
    if isinstance(given, dict):
        with pytest.raises(BadInput, match=message):
            study.note(**given)
    assert study.plan.notes == Notes()
    (tmp_path / "study.json").write_text(json.dumps({"notes": given}))
    with pytest.raises(BadInput, match="study.json"):
        notes_of(tmp_path / "study.json")
