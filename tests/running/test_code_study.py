"""Studies of a command or a function: what is refused, learnt from, continued, handed over."""

import os
import subprocess
import sys
from pathlib import Path

import own_function
import pytest
import training_script
import yaml
from ConfigSpace import ConfigurationSpace, Float
from inline import Inline

from foretune.errors import BadInput
from foretune.running.code_question import command_question, function_question
from foretune.running.code_study import (
    HOPELESS,
    finish,
    opened,
    run,
    searcher_of,
)
from foretune.running.request import Request
from foretune.running.scripts.trainers import TRAINERS
from foretune.space.space import Space
from foretune.study.study import Study

SCRIPT = f"{sys.executable} {training_script.__file__}"
LINE = f"{SCRIPT} --lr {{learning_rate}} --epochs {{epochs}} --out {{trial_folder}}"
GIVEN = {"command": LINE, "read": "results.csv:val_acc", "epochs": 3, "task": "plants"}
RESUME = {"resume": "--resume {checkpoint}", "checkpoint": "last.json"}


@pytest.fixture
def space():
    """A learning rate."""
    found = ConfigurationSpace()
    found.add(Float("learning_rate", (0.01, 1.0), log=True, default=0.1))
    return Space(found)


@pytest.fixture
def ask(tmp_path, space):
    """A request with a command."""
    space.save(tmp_path / "space.json")

    def request(script=None, **more):
        named = {"space": str(tmp_path / "space.json"), "data": tmp_path / "data", "budget": 6}
        return Request("", script={**GIVEN, **(script or {})}, **{**named, **more})

    return request


# -- what is refused before anything runs


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ({"command": f"{SCRIPT} --lr {{lr}} --out {{trial_folder}}"}, r"\{lr\}, which is no hyper"),
        (
            {"command": f"{SCRIPT} --out {{trial_folder}}"},
            "learning_rate, which the command does not",
        ),
        ({"command": f"{SCRIPT} --lr {{learning_rate}}"}, "does not name {trial_folder}"),
        ({"command": LINE.replace(sys.executable, "pithon")}, "there is no program 'pithon'"),
        ({"command": f"{LINE} --resume {{checkpoint}}"}, r"\{checkpoint\} belongs into --resume"),
        ({"resume": "--resume {checkpoint}"}, "--resume needs --checkpoint"),
        ({"checkpoint": "/tmp/last.pt"}, "must be a path inside {trial_folder}"),
        (
            {"read": "stdout:acc=([0-9.]+)", **RESUME},
            "does not say the epoch, which --resume needs",
        ),
        ({"read": None}, "--read must be given"),
        ({"command": None}, "--command must be given"),
        ({"goal": "up"}, "must be maximize or minimize"),
        ({"trainer": "keras"}, "--trainer 'keras' is not known"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"comand": "x"}, "unknown option 'comand'"),
        ({"stop_signal": "KILL"}, "must be TERM or INT"),
    ],
)
def test_what_cannot_be_meant_is_refused(ask, tmp_path, script, line):
    with pytest.raises(BadInput, match=line):
        command_question(ask(script))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"space": "transfer"}, "optimizer, which the command does not use"),
        ({"space": "nowhere.json"}, "'nowhere.json' is no file"),
        (
            {"settings": {"max_epoch": 3}},
            "--max-epoch is of foretune's own trainer: say it in --ep",
        ),
        ({"compare": True}, "--compare is for studies of images"),
        ({"method": "rgpe"}, "'rgpe' needs past tasks, and there are none"),
        ({"method": "autohyper"}, "looks at the weights"),
    ],
)
def test_options_of_our_own_trainer_are_refused(ask, more, line):
    with pytest.raises(BadInput, match=line):
        command_question(ask(**more))


def test_a_space_may_be_a_yaml_file(ask, tmp_path, space):
    (tmp_path / "space.yaml").write_text(
        "learning_rate: {low: 0.01, high: 1.0, log: true, default: 0.1}", encoding="utf-8"
    )
    assert not space.differences(command_question(ask(space=str(tmp_path / "space.yaml"))).space)


def test_what_a_loss_is_called_is_to_be_small(ask):
    for read, goal in (("results.csv:val_acc", "maximize"), ("a.csv:val/loss", "minimize")):
        assert command_question(ask({"read": read})).plan.goal == goal
    assert command_question(ask({"read": "a.csv:loss", "goal": "maximize"})).plan.goal == "maximize"


# -- what is run


def tuned(question):
    """The study of a question, run in this process."""
    with opened(question) as ready:
        run(ready, workers=Inline(ready.objective))
        return finish(ready), ready.study


def test_a_command_is_tuned_continued_and_handed_over(ask):
    first, study = tuned(command_question(ask(RESUME)))
    assert study.spent == 6 and first.name == "plants-hyperband-0"
    raised, study = tuned(command_question(ask(RESUME, budget=12)))
    assert study.spent == 12 and raised.value >= first.value
    best = yaml.safe_load((raised.folder / "best.yaml").read_text(encoding="utf-8"))
    assert best["config"] == raised.best and best["value"] == raised.value
    assert best["command"] == (
        f"{SCRIPT} --lr {raised.best['learning_rate']!r} --epochs 3 --out best"
    )
    assert Path(best["checkpoint"]).exists()
    # the study's tables are history as they lie there
    assert Study.load(raised.folder).to_meta().metric == "val_acc"
    kept = {path.parent.parent.name for path in raised.folder.glob("trials/*/files/last.json")}
    assert kept == {raised.checkpoint.parent.name}


def test_another_command_under_the_same_name_is_refused(ask):
    tuned(command_question(ask(RESUME, study="mine")))
    other = ask({**RESUME, "command": f"{LINE} --zero"}, study="mine")
    with pytest.raises(BadInput, match="was started with command .*--zero.*--study"):
        tuned(command_question(other))


def test_without_resume_every_trial_is_a_whole_training(ask):
    question = command_question(ask(budget=9, default=False))
    assert question.whole and "whole training" in question.lines[0]
    _, study = tuned(question)
    assert [(s["start"], s["stop"]) for s in study.steps] == [(0, 3)] * 3
    with opened(question) as ready:
        assert searcher_of(ready).name == "whole"


def test_a_command_that_fails_whatever_the_configuration_ends_the_study(ask):
    broken = ask({"command": f"{LINE} --ill 'crash at once'"}, budget=30)
    with pytest.raises(BadInput, match=f"first {HOPELESS} trials all failed.*no such data set"):
        tuned(command_question(broken))


def test_the_second_study_starts_from_the_firsts(ask):
    """Studies of one script are each other's history, whatever else stands in the command."""
    best, _ = tuned(command_question(ask(RESUME, budget=18)))
    second = command_question(ask({**RESUME, "task": "animals", "command": f"{LINE} --zero"}))
    assert second.past.tasks == ["studies/plants-hyperband-0"]
    assert second.plan.method == "curve-transfer"
    assert second.lines[-1] == "learning from 1 past tasks, 1 of them your own studies"
    with opened(second) as ready:
        assert best.best in ready.study.configs
    again = command_question(ask(RESUME))
    assert again.past is None and "no history yet" in again.lines[-1]  # its own is no past
    loss = command_question(ask({**RESUME, "task": "animals", "read": "results.csv:loss"}))
    assert loss.past is None
    # but the runs that there are say which rates are good
    assert loss.plan.method == "curve-transfer" and set(loss.runs["task"]) == {
        "studies/plants-hyperband-0"
    }
    assert loss.lines[-2].startswith("leaning on")


def test_runs_of_other_code_and_of_the_shipped_table_teach_a_classifiers_script(ask):
    given = {"command": f"{SCRIPT} data", "trainer": "timm", "read": None}
    with_trainer = command_question(ask(given, space="transfer"))
    assert with_trainer.past is None and len(with_trainer.runs) > 1000
    assert any("; new to them: " in line for line in with_trainer.lines)
    assert command_question(ask(RESUME)).runs is None


def test_secrets_and_environment_are_not_in_the_study(ask, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    done, _ = tuned(command_question(ask(RESUME)))
    for path in done.folder.rglob("*"):
        assert path.is_dir() or b"hf_0123456789" not in path.read_bytes()


# -- trainers


@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_completes_the_command(ask, name):
    """Every hyperparameter of its space, its results and checkpoints have their place; what the
    command says itself is not said again.
    """
    given = {"command": f"{SCRIPT} data", "trainer": name, "read": None}
    question = command_question(ask(given, space="transfer"))
    objective = question.make(Path("x"))
    used = set(objective.template.names)
    assert used >= {*question.space.names, "trial_folder", "epochs", "seed"}
    assert objective.resume.names == ["checkpoint"] and objective.checkpoint_files
    given["command"] = f"{SCRIPT} {objective.template.words[2]} " + " ".join(
        objective.template.words[3:]
    )
    assert command_question(ask(given, space="transfer")).make(Path("x")).template.words == (
        objective.template.words
    )


def test_what_ultralytics_would_ignore_is_not_tuned(ask, tmp_path):
    """Its optimizer=auto takes a learning rate of its own, whatever lr0 says."""
    space = tmp_path / "rate.yaml"
    space.write_text("learning_rate: {low: 1e-4, high: 0.5, log: true}\n", encoding="utf-8")
    given = {"command": f"{SCRIPT} data", "trainer": "ultralytics", "read": None}
    words = command_question(ask(given, space=str(space))).make(Path("x")).template.words
    assert "optimizer=SGD" in words and "lr0={learning_rate}" in words
    given["command"] += " optimizer=AdamW"
    words = command_question(ask(given, space=str(space))).make(Path("x")).template.words
    assert [w for w in words if w.startswith("optimizer")] == ["optimizer=AdamW"]
    given["command"] = f"{SCRIPT} data optimizer=auto"
    with pytest.raises(BadInput, match="ignores learning_rate"):
        command_question(ask(given, space=str(space)))


# -- functions


def test_a_function_is_tuned(tmp_path, space):
    request = Request("", budget=12, data=tmp_path, seed=3)
    question = function_question(own_function.train, space, request, max_epoch=4, metric="acc")
    found, study = tuned(question)
    assert found.name == "train-hyperband-3" and study.spent == 12
    rate = found.best["learning_rate"]
    assert found.value == pytest.approx(own_function.curve(rate, found.epoch)[-1])
    assert found.checkpoint.exists() and found.command is None


def test_a_study_that_another_process_runs_is_refused_before_it_is_read(tmp_path, space):
    request = Request("", budget=4, data=tmp_path)
    question = function_question(own_function.train, space, request, max_epoch=4, metric="acc")
    tuned(question)
    code = "import sys; from foretune.study.lock import StudyLock; held = StudyLock(sys.argv[1]); "
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            code + "print('held', flush=True); sys.stdin.read()",
            question.folder,
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    with holder:
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(BadInput, match="is being run by another process"), opened(question):
            pytest.fail("it was opened")
        holder.stdin.close()
    with opened(question) as ready:
        assert ready.study.spent == 4


def test_a_function_of_another_task_is_history(tmp_path, space):
    request = Request("", budget=12, data=tmp_path)
    more = {"max_epoch": 4, "metric": "acc"}
    tuned(function_question(own_function.train, space, request, task="plants", **more))
    second = function_question(own_function.train, space, request, task="animals", **more)
    assert second.past.tasks == ["studies/plants-hyperband-0"]


def test_a_hyperparameter_may_not_have_a_placeholders_name(ask, tmp_path):
    (tmp_path / "taken.yaml").write_text("epochs: [1, 2]\n", encoding="utf-8")
    with pytest.raises(BadInput, match="cannot be named 'epochs'.*my_epochs"):
        command_question(ask(space=str(tmp_path / "taken.yaml")))
