"""The command line: quick help, one-line errors, nothing half-written."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest

from foretune.commands import cli as command_line
from foretune.commands.cli import main

COMMANDS = (
    "tune",
    "recommend",
    "lr",
    "replay",
    "tasks",
    "import",
    "methods",
    "studies",
    "report",
    "doctor",
)
HEAVY = ("torch", "pandas", "mlflow", "prefect", "numpy", "scipy", "ConfigSpace", "pyarrow")


def test_help_is_quick_and_imports_nothing_heavy(cli):
    runs = [cli("--help") for _ in range(3)]
    assert all(r.code == 0 and all(name in r.out for name in COMMANDS) for r in runs)
    assert min(r.cpu for r in runs) < 0.5
    code = (
        "import sys\ntry:\n    from foretune.commands.cli import main; "
        f"main(['--help'])\nfinally:\n    print('HEAVY', sorted(set({HEAVY!r}) & "
        "set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "HEAVY []" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_a_function(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0 and f"foretune {name}" in capsys.readouterr().out
    positional = {
        "tune": ["x"],
        "recommend": ["x"],
        "lr": ["x"],
        "replay": ["x"],
        "import": ["a", "b", "c"],
        "report": ["x"],
    }
    where = command_line.parser().parse_args([name, *positional.get(name, [])]).run
    module, _, function = where.partition(":")
    import importlib

    assert callable(getattr(importlib.import_module(module), function))


def snapshot(folder):
    """Every file and folder below, with its size."""
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*"))}


@pytest.fixture
def place(tmp_path, meta_folder, tiny_task, monkeypatch):
    """A working folder with a meta-dataset, a task, and things that are none of these."""
    shutil.copytree(meta_folder, tmp_path / "meta")
    shutil.copy(tiny_task, tmp_path / "tiny.npz")
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    shutil.copytree(meta_folder, tmp_path / "torn")
    data = (tmp_path / "torn" / "curves.parquet").read_bytes()
    (tmp_path / "torn" / "curves.parquet").write_bytes(data[:-200])
    (tmp_path / "one" / "cats").mkdir(parents=True)
    (tmp_path / "one" / "cats" / "1.png").write_bytes(b"no picture")
    (tmp_path / "data" / "studies" / "broken").mkdir(parents=True)
    (tmp_path / "data" / "studies" / "broken" / "study.json").write_text("{")
    (tmp_path / "space.json").write_text(json.dumps({"hyperparameters": "none"}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORETUNE_DATA", "data")
    return tmp_path


REPLAY = ["replay", "meta", "--task", "t0", "--method", "random", "--out", "out.jsonl"]
TUNE = ["tune", "tiny.npz", "--meta", "none", "--tracking", "none"]
BAD = {
    "no command": ([], "required: COMMAND"),
    "unknown command": (["tone"], "invalid choice: 'tone'"),
    "argument lacking": (["replay"], "required: META"),
    "unknown option of the command": ([*REPLAY, "--bugdet", "9"], "unknown option '--bugdet'; did you mean --budget"),
    "an option cut short": ([*REPLAY, "--bud", "9"], "unknown option '--bud'; did you mean --budget"),
    "an option unlike any": (["studies", "--zzzzz"], "unknown option '--zzzzz' ("),
    "an argument too many": ([*REPLAY, "meta"], "unknown argument 'meta'"),
    "no number": ([*REPLAY, "--budget", "many"], "invalid int value: 'many'"),
    "no such table": (["replay", "nowhere", "--task", "t0", "--method", "random"], "no meta-dataset folder nowhere"),
    "a file for a table": (["replay", "file", "--task", "t0", "--method", "random"], "no meta-dataset folder file"),
    "an empty folder for a table": (["replay", "empty", "--task", "t0", "--method", "random"], "it lacks about.json"),
    "a torn table": (["replay", "torn", "--task", "t0", "--method", "random"], "torn cannot be read"),
    "no task": (["replay", "meta", "--method", "random"], "--task is missing (t0, t1, t2, t3, t4)"),
    "no method": (["replay", "meta", "--task", "t0"], "--method is missing"),
    "unknown task": ([*REPLAY, "--task", "t9"], "unknown task 't9'; synthetic has t0, t1"),
    "unknown method": ([*REPLAY, "--method", "hyperbend"], "did you mean hyperband?"),
    "unknown option": ([*REPLAY, "--option", "eta=2"], "method 'random' has no option 'eta'"),
    "option without a value": ([*REPLAY, "--option", "eta"], "--option 'eta' must be NAME=VALUE"),
    "option of another kind": ([*REPLAY, "--method", "hyperband", "--option", "eta=two"], "eta='two' of method 'hyperband' must be a number"),
    "option out of range": ([*REPLAY, "--method", "hyperband", "--option", "eta=1"], "eta=1 must be above 1"),
    "no budget": ([*REPLAY, "--budget", "0"], "budget=0 must be at least 1"),
    "negative seed": ([*REPLAY, "--seed", "-1"], "seed=-1 must be at least 0"),
    "unknown curve seed": ([*REPLAY, "--curve-seed", "5"], "curve seed 5 of t0 is not in synthetic; it has 0"),
    "unknown source": ([*REPLAY, "--sources", "t1,oslo"], "unknown task 'oslo'"),
    "the target as a source": ([*REPLAY, "--sources", "t0,t1"], "'t0' itself"),
    "no source for a method that needs some": ([*REPLAY, "--method", "portfolio", "--sources", ""], "needs past tasks"),
    "output into a folder": ([*REPLAY, "--out", "empty"], "--out empty is a folder"),
    "output below a file": ([*REPLAY, "--out", "file/out.jsonl"], "file"),
    "unknown format": (["import", "hyperwreck", "file", "new"], "hyperwreck"),
    "no source to import": (["import", "hyperrec", "nowhere", "new"], "nowhere does not exist"),
    "import into something": (["import", "hyperrec", "file", "meta"], "DEST meta exists"),
    "unknown embedded task": (["tasks", "unicorns"], "unknown task 'unicorns'"),
    "unknown study": (["report", "monday"], "no study 'monday'"),
    "a damaged study": (["report", "broken"], "study.json is damaged"),
    "no such images": (["tune", "photos", *TUNE[2:]], "photos"),
    "images that are no folder of classes": (["tune", "empty", *TUNE[2:]], "empty"),
    "one class only": (["tune", "one", *TUNE[2:]], "one"),
    "a text for images": (["tune", "file", *TUNE[2:]], "file"),
    "no workers": ([*TUNE, "--workers", "0"], "workers=0 must be at least 1"),
    "no time": ([*TUNE, "--minutes", "0"], "minutes=0.0 must be positive"),
    "unknown network": ([*TUNE, "--network", "resnet19"], "resnet19"),
    "a small image size": ([*TUNE, "--image-size", "4"], "image_size must be 16 or more"),
    "an unknown device": ([*TUNE, "--device", "tpu"], "tpu"),
    "an unknown space": ([*TUNE, "--space", "galaxy"], "space 'galaxy' is neither"),
    "a space that is none": ([*TUNE, "--space", "space.json"], "space.json: a ConfigSpace JSON file is"),
    "a study's name that is a path": ([*TUNE, "--study", "../elsewhere"], "plain folder name"),
    "past tasks named where there are none": ([*TUNE, "--sources", "a"], "--sources names past tasks"),
    "an unknown meta-dataset": ([*TUNE[:2], "--meta", "heavenly", *TUNE[4:]], "heavenly"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line_and_exit_code_2_and_nothing_is_written(case, place, capsys):
    arguments, message = BAD[case]
    before = snapshot(place)
    try:
        code = main(arguments)
    except SystemExit as end:  # argparse's own
        code = end.code
    printed = capsys.readouterr()
    assert code == 2 and printed.out == ""
    assert (
        printed.err.endswith("\n")
        and printed.err.count("\n") == 1
        and printed.err.startswith("foretune")
    ), printed.err
    assert message in printed.err and "Traceback" not in printed.err and len(printed.err) < 600
    after = snapshot(place)
    assert {k: v for k, v in after.items() if k not in before} in (
        {},
        {"data/studies": after.get("data/studies")},
    )
    assert all(after[k] == v for k, v in before.items() if not os.path.isdir(place / k))


def test_the_exit_code_reaches_the_shell(cli, place):
    done = cli("replay", "nowhere", cwd=place)
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "foretune replay: there is no meta-dataset folder nowhere\n",
    )


def test_a_reader_that_goes_away_is_no_error(place):
    command = (
        f"{sys.executable} -m foretune.commands.cli replay meta --task t0 --method "
        "random --budget 300 | head -1"
    )
    done = subprocess.run(
        command, shell=True, capture_output=True, text=True, cwd=place, check=False
    )
    assert json.loads(done.stdout)["step"] == 1 and done.stderr == ""


def test_defects_keep_their_traceback(place, monkeypatch):
    import foretune.commands.replay

    def defect(args):
        raise OSError("not about any file")

    monkeypatch.setattr(foretune.commands.replay, "run", defect)
    with pytest.raises(OSError, match="not about any file"):
        main(REPLAY)


def test_ctrl_c_is_130(place, monkeypatch, capsys):
    import foretune.commands.replay

    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(foretune.commands.replay, "run", interrupted)
    assert main(REPLAY) == 130 and "stopped" in capsys.readouterr().err


def test_engines_are_told_to_be_quiet(monkeypatch, capsys):
    monkeypatch.delenv("DO_NOT_TRACK", raising=False)
    main(["methods", "--default"])
    assert os.environ["DO_NOT_TRACK"] == "true"


def test_a_full_disk_is_one_line_and_a_defect_is_not():
    from foretune.commands.cli import told

    assert (
        told(OSError(errno.ENOSPC, "No space left on device", "data/x"))
        == "data/x: No space left on device"
    )
    assert told(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert told(OSError("something of ours")) is None
