"""`foretune tune --command` from the outside: real processes, stopped and killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import own_function
import pytest
import training_script
from ConfigSpace import ConfigurationSpace, Float

import foretune
from foretune.commands.cli import main
from foretune.errors import BadInput
from foretune.space.space import Space
from foretune.study.study import Study

LINE = (
    f"{sys.executable} {training_script.__file__} --lr {{learning_rate}} --epochs {{epochs}} "
    "--out {trial_folder} --pause 0.1"
)


@pytest.fixture
def space():
    """A learning rate."""
    found = ConfigurationSpace()
    found.add(Float("learning_rate", (0.01, 1.0), log=True, default=0.1))
    return found


@pytest.fixture
def line(tmp_path, space, monkeypatch):
    """The arguments of a study in an empty folder."""
    Space(space).save(tmp_path / "space.json")
    monkeypatch.chdir(tmp_path)
    asked = {"command": LINE, "read": "results.csv:val_acc", "space": "space.json"}
    asked |= {"epochs": "4", "resume": "--resume {checkpoint}", "checkpoint": "last.json"}
    asked |= {"task": "plants", "tracking": "none", "budget": "12"}
    return ["tune", *(word for name, value in asked.items() for word in (f"--{name}", value))]


def test_a_script_is_tuned(line, capsys):
    assert main(line) == 0
    said = capsys.readouterr().out
    assert "plants: val_acc is to be large · hyperband · 4 epochs" in said
    assert "once more:  " in said and "report:     data/studies/plants-hyperband-0" in said
    folder = Path("data/studies/plants-hyperband-0")
    assert (folder / "report.html").exists() and Study.load(folder).spent == 12


def test_faults_are_one_line_and_exit_code_2(line, capsys):
    assert main([*line, "--read", "results.csv"]) == 2
    assert capsys.readouterr().err.startswith("foretune tune: --read 'results.csv' must be FILE:")
    assert main(["tune"]) == 2
    assert "IMAGES must be given, or --command" in capsys.readouterr().err


def pids(folder):
    """The scripts' processes that were ever started."""
    return {int(path.read_text(encoding="utf-8")) for path in folder.glob("trials/*/files/pid")}


def alive(pid):
    """Whether a process runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def started(line, folder, epochs):
    """`foretune` with these arguments, when it has told so many epochs."""
    code = "import sys; from foretune.commands.cli import main; sys.exit(main())"
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *line],
        env={**os.environ, **path},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    journal = folder / "journal.jsonl"
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if journal.exists() and journal.read_bytes().count(b'"event": "epoch"') >= epochs:
            break
        time.sleep(0.02)
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("how", ["kill -9", "Ctrl-C"])
def test_what_was_stopped_leaves_nothing_behind_and_goes_on(line, how):
    """The curves are those of an uninterrupted run."""
    folder = Path("data/studies/plants-hyperband-0")
    process = started(line, folder, epochs=3)
    if how == "kill -9":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == (-signal.SIGKILL if how == "kill -9" else 130)
    until = time.monotonic() + 5
    while any(alive(pid) for pid in pids(folder)) and time.monotonic() < until:
        time.sleep(0.02)
    assert pids(folder) and not any(alive(pid) for pid in pids(folder))
    assert Study.load(folder).spent < 12
    assert main(line) == 0
    study = Study.load(folder)
    assert study.spent == 12
    for config_id, rows in study.rows.items():
        whole = training_script.curve(study.configs[config_id]["learning_rate"], len(rows))
        assert [row["val_acc"] for row in rows] == whole


# -- foretune.tune(function, space)


def test_a_function_is_tuned_in_processes(tmp_path, space, capsys):
    found = foretune.tune(
        own_function.train, space, budget=12, max_epoch=4, metric="acc", data=tmp_path,
        tracking="none", seed=5,
    )  # fmt: skip
    study = Study.load(found.folder)
    assert study.spent == 12 and found.name == "train-hyperband-5"
    for config_id, rows in study.rows.items():
        whole = own_function.curve(study.configs[config_id]["learning_rate"], len(rows))
        assert [row["acc"] for row in rows] == whole
    assert (found.folder / "report.html").exists() and found.checkpoint.exists()
    assert "best configuration of" in capsys.readouterr().out


def test_a_function_whose_process_is_killed_goes_on(tmp_path, space):
    found = foretune.tune(
        own_function.die, space, budget=6, max_epoch=3, metric="acc", data=tmp_path,
        tracking="none", workers=1, default=False,
    )  # fmt: skip
    study = Study.load(found.folder)
    assert study.spent == 6 and not study.failures


def test_a_function_in_this_very_process(tmp_path, space):
    calls = []

    def train(config, trial):
        calls.append(config)
        for epoch in range(1, trial.epochs + 1):
            trial.report(epoch, config["learning_rate"])

    found = foretune.tune(
        train, space, budget=6, max_epoch=2, data=tmp_path, tracking="none", workers=0,
        resume=False,
    )  # fmt: skip
    assert len(calls) == 3 and found.value == max(c["learning_rate"] for c in calls)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"space": None}, "the search space must be given"),
        ({"space": "nowhere.json"}, "there is no search space nowhere.json"),
        ({"budgets": 3}, "unknown option 'budgets' .did you mean budget"),
        ({"max_epoch": 0}, "max_epoch=0 must be at least 1"),
        ({"goal": "up"}, "goal='up' must be"),
        ({"workers": -1}, "workers=-1 must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, space, more, line):
    asked = {"space": space, "data": tmp_path, "tracking": "none", **more}
    with pytest.raises(BadInput, match=line):
        foretune.tune(own_function.train, **asked)
    assert not list(tmp_path.iterdir())


def test_an_image_folder_is_told_from_a_function(tmp_path):
    with pytest.raises(BadInput, match="nowhere"):
        foretune.tune(str(tmp_path / "nowhere"), data=tmp_path, meta="none")


README = """
import foretune

def train(config, trial):
    weight = 0.0
    for epoch in range(1, trial.epochs + 1):
        weight += config["learning_rate"] * (1.0 - weight)
        trial.report(epoch, weight)
        if trial.should_stop:
            break

if __name__ == "__main__":
    space = {"learning_rate": {"low": 1e-3, "high": 1.0, "log": True}}  # entries as in YAML
    best = foretune.tune(train, space, budget=12, max_epoch=4, resume=False, tracking="none")
    print(best.best, best.value)
"""


def test_the_example_of_the_guide_runs(tmp_path):
    """As the guide prints it, as a script of its own; 15 lines."""
    guide = Path(__file__).parents[2] / "docs" / "guide" / "scripts.md"
    assert README.strip() in guide.read_text(encoding="utf-8")
    assert sum(bool(text) for text in README.splitlines()) <= 15
    (tmp_path / "own.py").write_text(README, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "own.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "{'learning_rate': " in done.stdout.splitlines()[-1]
