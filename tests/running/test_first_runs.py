"""The first runs to make with somebody's own trainer."""

import shlex
from types import SimpleNamespace

import pytest
from recommended import picture_task, ranking_of

from foretune.errors import BadInput
from foretune.recommenders.recommendation import Recommendation
from foretune.running.first_runs import choice, data_arguments, first_runs, held_out, sayable
from foretune.running.scripts.wording import Said


def answer_of(meta, **ranking):
    return Recommendation(picture_task(), meta, ranking_of(meta, **ranking), "hyperstar")


def test_three_command_lines_by_the_ranking(meta):
    answer = answer_of(meta)
    first = first_runs(answer, "lightning", images="photos", epochs=4)
    assert [run.place for run in first.runs] == [1, 2, 3]
    for k, run in enumerate(first.runs, 1):
        assert shlex.split(run.command) == list(run.arguments)
        assert "4" in run.arguments and f"runs/new-{k}" in run.arguments
        assert run.row.config == answer.rows[k - 1].config
    assert first.confidence.level == "low" and len(first.confidence.why) > 1


def test_what_cannot_be_said_is_passed_over_and_named():
    rows = [SimpleNamespace(config=k) for k in range(6)]
    unsaid = [("a=1: no",), (), ("b=2: no",), (), (), ()]
    worded = lambda k: Said((), unsaid[k], ())  # noqa: E731
    assert choice(rows, worded, 3) == ([1, 3, 4], 2, ("a=1: no", "b=2: no"))
    # what no configuration can be told passes none over
    everywhere = lambda k: Said((), ("c=3: no", *unsaid[k]), ())  # noqa: E731
    assert choice(rows, everywhere, 2) == ([1, 3], 2, ("a=1: no", "b=2: no"))
    assert sayable([Said((), ("c",), ())] * 3) == [0, 1, 2]


def test_folders_are_handed_over_as_the_trainer_wants_them(tmp_path):
    photos = tmp_path / "my photos"
    for part in ("train", "val"):
        (photos / part / "cat").mkdir(parents=True)
    found, notes = data_arguments("timm", str(photos))
    assert found["data"].format(**found) == f"{photos} --train-split train --val-split val"
    assert notes == []
    (photos / "val").rename(photos / "dog")
    (photos / "train").rename(photos / "cat")
    found, notes = data_arguments("timm", str(photos))
    assert found["data"] == "{images}" and "wants the folders train and validation" in notes[0]
    found, notes = data_arguments("ultralytics", "mnist")
    assert found["images"] == "IMAGES" and "is no folder" in notes[0]


def test_worth_is_measured_on_tasks_that_were_left_out(meta):
    answer = answer_of(meta)
    every = [row.row for row in answer.rows]
    found = held_out(answer, every, len(every))
    assert found is not None and (found.median, found.worst) == (0.0, 0.0)
    few = held_out(answer, every, 1)
    assert few is not None and few.tasks == len(meta.tasks) and few.worst >= few.median >= 0.0


def test_unlike_images_are_said_to_be(meta):
    first = first_runs(answer_of(meta, supported=False), "lightning", images="photos")
    assert "no past task looks like these images" in first.confidence.why


@pytest.mark.parametrize(
    ("trainer", "more", "said"),
    [
        ("tim", {}, "did you mean timm"),
        ("timm", {"epochs": 0}, "epochs=0"),
        ("ultralytics", {"image_size": 3}, "image_size=3"),
        ("huggingface", {"image_size": 96}, "has no flag for it"),
    ],
)
def test_wrong_input_is_refused_in_words(meta, trainer, more, said):
    with pytest.raises(BadInput, match=said):
        first_runs(answer_of(meta), trainer, images="photos", **more)
