"""`foretune history`: what is said of stores, studies and their worth."""

import argparse
import math

import numpy as np
import pandas as pd
import pytest

from foretune.commands.history import judged, run, worth_lines
from foretune.evaluation.history_worth import Worth
from foretune.history.runs import FACTS, NUMBERS, RunStore, run_id
from foretune.searchers.transfer.run_discounts import Discount
from foretune.space.catalogue import transfer_pool, transfer_space
from foretune.space.space import Space
from foretune.study.notes import Notes
from foretune.study.study import Plan, Step, Study


@pytest.fixture
def data(tmp_path):
    """A store of three tasks of eight runs each, no history that comes with foretune."""
    rows = []
    for task in ("roses", "tulips", "lilies"):
        for k, rate in enumerate(np.geomspace(1e-4, 1.0, 8)):
            facts = {fact: math.nan if fact in NUMBERS else "" for fact in FACTS}
            facts |= {"run_id": run_id(task, k), "task": task, "state": "complete"}
            facts |= {"metric": "valid_accuracy", "goal": "maximize", "split": "valid"}
            facts |= {"source": "csv:mine", "source_id": str(k), "learning_rate": rate}
            value = 0.9 - 0.1 * abs(math.log10(rate) + 2)
            rows.append({**facts, "value": value, "network": "resnet18", "epochs_planned": 7.0})
    curves = pd.DataFrame({"run_id": pd.Series(dtype=object), "epoch": pd.Series(dtype=float)})
    RunStore(pd.DataFrame(rows), curves, {"sources": ["csv:mine"]}).add_to(
        tmp_path / "history" / "mine"
    )
    (tmp_path / "meta" / "empty").mkdir(parents=True)
    return tmp_path


def said(capsys, data, **more):
    """What the command prints."""
    given = {"data": data, "meta": "gone", "check": False, "study": None, "seeds": 1, **more}
    assert run(argparse.Namespace(**given)) == 0
    return capsys.readouterr().out


def test_what_is_known_is_a_line_a_source(data, capsys):
    lines = said(capsys, data).splitlines()
    assert lines[0].split() == ["source", "tasks", "runs", "networks", "settings"]
    assert lines[1].split() == ["mine", "3", "24", "resnet18", "7", "epochs"]
    assert lines[3:] == ["mine: lilies, roses, tulips", "  varied learning_rate"]


def test_nothing_known_is_said(tmp_path, capsys):
    assert said(capsys, tmp_path).startswith("nothing is known yet")
    assert "nothing can be checked" in said(capsys, tmp_path, check=True)


def test_a_store_that_cannot_be_read_is_named_and_stops_nothing(data, capsys):
    (part,) = (data / "history" / "mine").iterdir()
    (part / "about.json").write_text("{", encoding="utf-8")
    assert "mine left out: " in said(capsys, data) and "cannot be read" in said(capsys, data)


def test_own_studies_are_one_source_and_those_that_tell_nothing_are_named(data, capsys):
    for name, images, epochs in (("a", "1", 2), ("b", "2", 2), ("cut", "3", 1)):
        notes = Notes(task_hash=images, settings={"network": "resnet18"})
        plan = Plan(name, "valid_accuracy", "maximize", 2, 9, notes=notes)
        folder = data / "studies" / name
        with Study(Space(transfer_space()), transfer_pool()[:3], plan, folder=folder) as study:
            for i in range(3):
                study.tell(Step(i, 0, epochs), [0.5, 0.6 + i / 10][:epochs])
            study.save_tables()
    lines = said(capsys, data).splitlines()
    assert [line.split()[:4] for line in lines[1:3]] == [
        ["own", "studies", "2", "6"],
        ["mine", "3", "24", "resnet18"],
    ]
    assert "own studies: studies/a, studies/b" in lines
    assert lines[-1].startswith("own studies left out: cut: too few trials reached the last epoch")


def test_what_it_is_worth(data, capsys):
    text = said(capsys, data, check=True)
    assert "leave-one-task-out on 3 tasks of your own: history saved" in text
    assert "no interval: 3 tasks are too few" in text and "it hurt on 0 of them" in text


def test_own_runs_alone_are_known_without_the_history_that_comes_along(data, capsys):
    assert "light" in said(capsys, data, meta="light")
    text = said(capsys, data, meta="none", check=True)
    assert "light" not in text and "leave-one-task-out on 3 tasks of your own" in text


def test_a_source_that_hurts_counts_nothing_and_is_shown():
    rng = np.random.default_rng(0)
    rates = np.geomspace(1e-4, 1.0, 10)
    parts = []
    for of, peak in (("mine", -2.0), ("shipped", 0.0)):
        for k in range(6):
            score = 0.9 - 0.1 * abs(np.log10(rates) - peak) + rng.normal(0, 0.01, len(rates))
            facts = {"task": f"{of}{k}", "images": "", "kind": "accuracy", "of": of}
            parts.append(pd.DataFrame({"learning_rate": rates, "score": score}).assign(**facts))
    table, lines = judged(pd.concat(parts, ignore_index=True), ["mine"])
    assert set(table["of"]) == {"mine"}
    assert len(lines) == 1 and lines[0].startswith("runs of shipped count 0: log density")


def test_worth_in_lines():
    found = Worth(
        {f"t{k}": v for k, v in enumerate([-2.0, 1.0, 1.0, 1.0, 1.0, 1.0])},
        {f"t{k}": 10.0 for k in range(6)},
        {},
        (Discount("image_size", 384, 224, 0.6),),
    )
    lines = worth_lines(found, "your own")
    assert lines[0].startswith("leave-one-task-out on 6 tasks of your own: history saved 0.5")
    assert "5.0 epochs (90 % interval" in lines[0]
    assert lines[1:] == [
        "it hurt on 1 of them: t0 (-2.0)",
        "runs at image_size 224 count 0.6 of yours at 384",
    ]


def test_what_one_study_would_leave_out_and_why(data, capsys):
    for name, size, images in (("first", 48, "a"), ("second", 64, "b")):
        notes = Notes(task_hash=images, settings={"network": "resnet18", "image_size": size})
        plan = Plan("roses", "valid_accuracy", "maximize", 2, 4, notes=notes)
        folder = data / "studies" / name
        with Study(Space(transfer_space()), transfer_pool()[:2], plan, folder=folder) as study:
            for i in range(2):
                study.tell(Step(i, 0, 2), [0.5, 0.6 + i / 10])
            study.save_tables()
    text = said(capsys, data, study="second")
    assert "leaning on 18 runs of 3 tasks" in text  # two tasks of the store, and the other study
    assert "10 runs of this very task left out: roses, studies/second" in text
    assert "no curves of own study first: image_size 48, now 64" in text
