"""What a study learns from is said before anything is trained: a past that does not know its space,
or was trained otherwise, and own studies that are left out.
"""

from dataclasses import replace

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, Constant, Float

from foretune.commands.tune import announce
from foretune.errors import BadInput
from foretune.history.join import confined
from foretune.history.meta_dataset import MetaDataset
from foretune.running.preparation import checked, looked_up, prepared
from foretune.running.request import Request
from foretune.running.tuning import searcher_of
from foretune.searchers.registry import DEFAULT, DEFAULT_WITHOUT_PAST
from foretune.space.catalogue import transfer_pool, transfer_space
from foretune.space.space import Space
from foretune.study.notes import Notes
from foretune.study.study import Plan, Step, Study

SETTINGS = {
    "network": "shufflenet_v2_x05",
    "pretrained": False,
    "image_size": 32,
    "batch_size": 32,
    "train_limit": 32,
    "valid_limit": 0,
    "max_epoch": 2,
}
POOL = transfer_pool()[::7][:12]
RATES = sorted(config["learning_rate"] for config in POOL)


def past(settings=SETTINGS, epochs=(1, 2), configs=12):
    """Two past tasks of the transfer space's first configurations."""
    pool = dict(enumerate(POOL[:configs]))
    rows = [
        {"task": t, "seed": 0, "config_id": i, "epoch": e, "valid_accuracy": 0.3 + 0.01 * i * e}
        for t in ("one", "two")
        for i in pool
        for e in epochs
    ]
    about = {"name": "mine", "max_epoch": 2, "tasks": ["one", "two"], "settings": settings}
    return MetaDataset.build(
        Space(transfer_space()),
        pool,
        rows,
        metric="valid_accuracy",
        goal="maximize",
        source="made here",
        **about,
    )


@pytest.fixture
def asked(tiny_task, tmp_path):
    """A request that learns from the past `mine`."""
    data = tmp_path / "data"
    past().save(data / "meta" / "mine")
    return Request(images=str(tiny_task), budget=20, meta="mine", data=data)


def space_file(tmp_path, *hyperparameters):
    """A file of a space."""
    space = ConfigurationSpace()
    space.add(list(hyperparameters))
    Space(space).save(tmp_path / "space.json")
    return str(tmp_path / "space.json")


def own_study(data, name, settings, task_hash="other images", space=None, configs=None):
    """A study as `foretune tune` leaves it, of two trained configurations."""
    space = space or Space(transfer_space())
    plan = Plan(
        task=name,
        metric="valid_accuracy",
        goal="maximize",
        max_epoch=2,
        budget=4,
        notes=Notes(task_hash=task_hash, settings=settings),
    )
    configs = configs or POOL[:2]
    with Study(space, configs, plan, folder=data / "studies" / name) as study:
        for i in range(2):
            study.tell(Step(i, 0, 2), [0.5, 0.6 + i / 10])
        study.save_tables()


OTHER = (
    Float("learning_rate", (1e-4, 1e-1), log=True),
    Categorical("optimizer", ["sgd", "adam"]),
)
# what no past run varied
FOREIGN = (
    Constant("learning_rate", 0.01),
    Constant("optimizer", "adam"),
    Float("label_smoothing", (0.0, 0.3)),
    Float("mixup", (0.0, 0.8)),
)


def test_a_method_that_takes_no_past_is_not_said_to_learn_from_it(asked, capsys):
    with prepared(replace(asked, method="random", study="s")) as ready:
        announce(ready)
        assert ready.study.past is not None
    said = capsys.readouterr().out
    assert "random · without past tasks" in said and "learning from" not in said


def test_a_space_that_the_past_does_not_know_is_tuned_without_history_and_that_is_said(
    asked, tmp_path, capsys
):
    asked = replace(asked, space=space_file(tmp_path, *FOREIGN), study="s")
    with prepared(asked) as ready:
        announce(ready)
        assert ready.study.past is None and ready.study.plan.method == DEFAULT_WITHOUT_PAST
        assert ready.study.plan.notes.meta is None and ready.study.spent == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if "left out" in line]
    assert (
        "the curves of the 2 past tasks of mine are left out" in line and "finetune is gone" in line
    )
    assert "history says nothing of this space: no past run varied label_smoothing or mixup" in said
    assert f"{DEFAULT_WITHOUT_PAST} · without past tasks" in said
    assert "learning from" not in said


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"method": "curve-transfer"},
            "needs past tasks, and the curves of the 2 past tasks of mine are left out",
        ),
        (
            {"sources": ("one",)},
            "--sources names past tasks, but the curves of the 2 past tasks of mine are",
        ),
    ],
)
def test_who_insists_on_a_past_that_does_not_know_the_space_is_refused(
    asked, tmp_path, more, message
):
    with pytest.raises(BadInput, match=message):
        checked(replace(asked, space=space_file(tmp_path, *FOREIGN), **more))
    assert not (asked.data / "studies").exists()


def test_of_a_narrower_space_the_past_inside_it_counts(asked, tmp_path):
    whole = Space(transfer_space()).config_space
    others = [whole[name] for name in whole if name != "learning_rate"]
    bounds = float(np.quantile(RATES, 0.2)), float(np.quantile(RATES, 0.9))
    rate = Float("learning_rate", bounds, log=True)
    found = looked_up(checked(replace(asked, space=space_file(tmp_path, rate, *others))))
    inside = [c for c in POOL if bounds[0] <= c["learning_rate"] <= bounds[1]]
    assert 2 <= len(inside) < 12
    assert list(found.past.configs) == inside and found.plan.method == DEFAULT
    # encoded as the study's space encodes: the lower bound is 0, the upper 1
    column = found.past.space.encode(inside)
    np.testing.assert_array_equal(found.past.X, column)
    assert found.past.space == Space.load(tmp_path / "space.json")
    lines = [line for line in found.told if "lie outside the space" in line]
    assert lines == [
        f"{12 - len(inside)} of the 12 past configurations lie outside the space and are left out"
    ]


def test_the_same_space_is_the_past_itself():
    meta = past()
    assert confined(meta, Space(transfer_space())) is meta


def test_curves_of_another_network_or_size_are_named(asked):
    settings = {"network": "resnet18", "image_size": 48}
    found = looked_up(checked(replace(asked, settings=settings)))
    (line,) = [line for line in found.told if "trained otherwise" in line]
    assert "network 'shufflenet_v2_x05', now 'resnet18'" in line
    assert "image_size 32, now 48" in line and "batch_size" not in line
    assert [line for line in looked_up(checked(asked)).told if "otherwise" in line] == []


def test_own_studies_that_are_left_out_are_named_with_why(asked, tmp_path):
    own_study(asked.data, "bigger", {**SETTINGS, "image_size": 64})
    own_study(asked.data, "equal", SETTINGS)
    found = looked_up(checked(asked))
    assert found.past.tasks == ["one", "two", "studies/equal"]
    assert "own study left out: bigger (image_size 64, now 32)" in found.told
    images = found.task.hash
    own_study(asked.data, "twin", SETTINGS, task_hash=images)
    assert "own study of these very images left out: twin" in looked_up(checked(asked)).told
    assert looked_up(checked(replace(asked, own_studies=False))).told == ()


def test_own_studies_of_a_space_that_the_shipped_past_does_not_know_are_its_history(
    asked, tmp_path
):
    file = space_file(tmp_path, *OTHER)
    space = Space.load(file)
    configs = [
        {"learning_rate": 0.01, "optimizer": "sgd"},
        {"learning_rate": 0.1, "optimizer": "adam"},
    ]
    own_study(asked.data, "before", SETTINGS, space=space, configs=configs)
    found = looked_up(checked(replace(asked, space=file)))
    assert found.past.tasks == ["studies/before"] and found.plan.method == DEFAULT
    assert any("the curves of the 2 past tasks of mine are left" in line for line in found.told)


def test_a_past_without_values_in_the_studys_epochs_teaches_by_its_runs(asked):
    past(epochs=(2,)).save(asked.data / "meta" / "late")
    found = looked_up(checked(replace(asked, meta="late", settings={"max_epoch": 1})))
    assert found.past is None and found.plan.method == DEFAULT and len(found.lessons.table) == 24
    assert any("two values in the first 1 epochs" in line for line in found.told)


def test_a_study_without_history_goes_on_when_there_is_some(asked, tmp_path, monkeypatch):
    file = space_file(tmp_path, *FOREIGN)
    asked = replace(asked, space=file, study="s")
    with prepared(asked) as ready:
        assert ready.study.plan.method == DEFAULT_WITHOUT_PAST
    configs = [
        {"learning_rate": 0.01, "optimizer": "adam", "label_smoothing": 0.01, "mixup": 0.1},
        {"learning_rate": 0.01, "optimizer": "adam", "label_smoothing": 0.1, "mixup": 0.5},
    ]
    own_study(asked.data, "before", SETTINGS, space=Space.load(file), configs=configs)
    with prepared(asked) as ready:
        assert ready.study.plan.method == DEFAULT_WITHOUT_PAST
    with prepared(replace(asked, study="another")) as ready:
        assert ready.study.plan.method == DEFAULT


def test_a_study_of_another_space_learns_from_runs_and_goes_on_with_the_same(asked, tmp_path):
    asked = replace(asked, space=space_file(tmp_path, *OTHER), study="s")
    with prepared(asked) as ready:
        assert ready.study.past is None and ready.study.plan.method == DEFAULT
        kept, first = ready.study.runs, ready.study.ask(searcher_of(ready.study.plan))
        assert set(kept["task"]) == {"one", "two"} and len(kept) == 24
        assert ready.leaning[0].startswith("leaning on 24 runs of 2 tasks: mine (24 of 2)")
    own_study(asked.data, "bigger", {**SETTINGS, "image_size": 64})
    past().select(["one"]).save(asked.data / "meta" / "less")
    with prepared(replace(asked, meta="less")) as ready:
        again = ready.study
        assert len(again.runs) == 24 and again.plan.method == DEFAULT
        assert again.pending_steps() == [first]
    with prepared(replace(asked, study="another")) as ready:
        assert set(ready.study.runs["task"]) == {"one", "two", "studies/bigger"}
    (asked.data / "studies" / "s" / "past-runs.parquet").unlink()
    with pytest.raises(BadInput, match=r"past-runs.parquet is gone: study 's' learns from it"):
        prepared(asked).__enter__()


def test_one_past_task_can_be_left_out(asked, tmp_path):
    assert looked_up(checked(replace(asked, without=("one",)))).past.tasks == ["two"]
    other = replace(asked, space=space_file(tmp_path, *OTHER), without=("one",))
    assert set(looked_up(checked(other)).lessons.table["task"]) == {"two"}
    with pytest.raises(BadInput, match="--without 'onne' is no past task .did you mean one"):
        checked(replace(asked, without=("onne",)))


def test_what_the_curves_are_and_how_like_is_said_in_two_lines(asked, capsys):
    with prepared(asked) as ready:
        announce(ready)
    said = capsys.readouterr().out
    assert "leaning on curves of this space on one, two" in said
    assert "how like: trained with this study's settings" in said


def test_classes_without_an_image_at_the_limit_are_told(asked):
    """Three classes of 18 training images each: of two images, one class has none."""
    found = looked_up(checked(replace(asked, settings={"train_limit": 2, "valid_limit": 0})))
    assert (
        "1 of 3 classes have no training image at --train-limit 2; --train-limit 0 takes all 54"
        in (found.told)
    )
    assert [line for line in looked_up(checked(asked)).told if "have no" in line] == []
