"""A stranger's script as an objective: paused, continued, stopped, whatever it does."""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import training_script

from foretune.running.objectives.command import Command, Patience
from foretune.running.scripts.process import LOG_BYTES
from foretune.running.scripts.results import source
from foretune.running.scripts.template import Template

SCRIPT = training_script.__file__
LR = 0.25


def command(tmp_path, extra="", *, read="results.csv:val_acc", epochs=3, resume=True, **more):
    """The script as an objective; `extra` are options of it."""
    line = (
        f"{sys.executable} {SCRIPT} --lr {{lr}} --epochs {{epochs}} --out {{trial_folder}} {extra}"
    )
    return Command(
        Template(line),
        source(read),
        tmp_path / "trials",
        epochs,
        ("lr",),
        tmp_path,
        resume=Template("--resume {checkpoint}") if resume else None,
        checkpoint_files="last.json" if resume else None,
        **more,
    )


def curve(epochs):
    """What the script reports when nothing interrupts it."""
    return training_script.curve(LR, epochs)


def values(outcome):
    """Epoch -> value of an outcome."""
    return {row["epoch"]: row["val_acc"] for row in outcome.rows}


def gone(pid, seconds=5.0):
    """Whether a process ends within a time; a zombie has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        except OSError:
            return True
        if state.split()[0] in "ZX":
            return True
        time.sleep(0.02)
    return False


def pid_of(objective, config_id=0, name="pid"):
    """The process id that the script noted."""
    path = objective.folder / f"trial-{config_id}" / "files" / name
    return int(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("extra", ["--pause 0.3", "--pause 0.3 --zero", "--pause 0.3 --first"])
def test_a_trial_in_steps_has_the_curve_of_one_without(tmp_path, extra):
    """From its checkpoint, whichever the script writes first and however it counts; each step runs
    only what is asked for.
    """
    objective = command(tmp_path, extra, epochs=5)
    seen = []
    for start, stop in ((0, 1), (1, 3), (3, 5)):
        outcome = objective.run(0, {"lr": LR}, start, stop, seen.append)
        assert outcome.failed is None
        assert [row["epoch"] for row in outcome.rows] == list(range(start + 1, stop + 1))
        assert gone(pid_of(objective), 0.1)
    assert [row["val_acc"] for row in seen] == curve(5)
    log = (tmp_path / "trials" / "trial-0" / "log.txt").read_text(encoding="utf-8")
    assert log.count("epoch 1 acc=") == 1  # it was never started anew


def test_the_step_ends_with_its_epoch_though_the_script_goes_on(tmp_path):
    began = time.monotonic()
    outcome = command(tmp_path, "--pause 0.2", epochs=1000).run(0, {"lr": LR}, 0, 2)
    assert values(outcome) == dict(enumerate(curve(2), 1))
    assert time.monotonic() - began < 10


def test_without_resume_it_starts_anew_and_known_epochs_are_passed_over(tmp_path):
    objective = command(tmp_path, resume=False)
    objective.run(0, {"lr": LR}, 0, 2)
    outcome = objective.run(0, {"lr": LR}, 2, 3)
    assert values(outcome) == {3: curve(3)[2]}


def test_a_checkpoint_that_was_torn_by_the_stop_is_put_back(tmp_path):
    objective = command(tmp_path, "--pause 0.15")
    objective.run(0, {"lr": LR}, 0, 2)
    torn = tmp_path / "trials" / "trial-0" / "files" / "last.json"
    torn.write_text('{"epo', encoding="utf-8")
    assert values(objective.run(0, {"lr": LR}, 2, 3)) == {3: curve(3)[2]}


@pytest.mark.parametrize("extra", ["", "--first"])
def test_a_checkpoint_that_stands_still_half_written_is_waited_for(tmp_path, extra):
    objective = command(tmp_path, f"--pause 0.1 --stall 0.4 {extra}", epochs=3)
    steps = [objective.run(0, {"lr": LR}, k, k + 1) for k in range(3)]
    assert [(s.failed, values(s)) for s in steps] == [
        (None, {k: v}) for k, v in enumerate(curve(3), 1)
    ]
    log = (tmp_path / "trials" / "trial-0" / "log.txt").read_text(encoding="utf-8")
    assert log.count("epoch 1 acc=") == 1  # each step went on from the one before


def test_a_checkpoint_ahead_of_the_results_is_not_gone_on_from(tmp_path):
    """A kill between the two: its epoch's value was never read, so the trial is trained anew."""
    objective = command(tmp_path, "--pause 0.15", epochs=4)
    objective.run(0, {"lr": LR}, 0, 2)
    trial = tmp_path / "trials" / "trial-0"
    ahead = trial / "files" / "last.json"
    ahead.write_text(json.dumps({"epoch": 3, "w": 9.0}), encoding="utf-8")
    state = json.loads((trial / "state.json").read_text(encoding="utf-8"))
    known = ahead.stat()
    state |= {"signature": [known.st_mtime_ns, known.st_size], "checkpoint_epoch": None}
    state |= {"keys": state["keys"][:2], "values": state["values"][:2]}
    lines = (trial / "files" / "results.csv").read_text(encoding="utf-8").splitlines()[:3]
    (trial / "files" / "results.csv").write_text("\n".join([*lines, ""]), encoding="utf-8")
    (trial / "state.json").write_text(json.dumps(state), encoding="utf-8")
    assert values(objective.run(0, {"lr": LR}, 2, 4)) == dict(enumerate(curve(4)[2:], 3))


def test_going_on_that_fails_says_from_what(tmp_path):
    objective = replace(
        command(tmp_path, "--pause 0.15", epochs=99),
        resume=Template("--continue-from {checkpoint}"),
    )
    objective.run(0, {"lr": LR}, 0, 1)
    failed = objective.run(0, {"lr": LR}, 1, 99).failed
    assert failed.startswith("going on from last.json: it ended with exit code 2")
    assert "unrecognized arguments: --continue-from" in failed


def test_the_best_epochs_checkpoint_is_kept(tmp_path):
    """Of a loss, here: the first epoch's, since the script's only grows."""
    objective = command(tmp_path, "--pause 0.4", epochs=3, maximize=False)
    assert objective.run(0, {"lr": LR}, 0, 3).failed is None
    kept = json.loads(objective.checkpoint(0, best=True).read_text(encoding="utf-8"))
    assert kept["epoch"] == 1


# long enough for a script to start on a busy machine
SHORT = {"hang": Patience(sign=5.0, grace=0.3), "chatter": Patience(result=5.0, grace=0.3)}
PATIENT = Patience(result=60.0, sign=60.0, finish=0.5, grace=0.3)
ILLS = {
    "crash at once": (0, "it ended with exit code 1: no such data set"),
    "crash later": (2, "it ended with exit code 1: RuntimeError: the labels do not fit"),
    "out of memory": (1, "out of memory: torch.OutOfMemoryError: CUDA out of memory"),
    "killed": (1, "it was killed by SIGKILL: out of memory?"),
    "native crash": (1, "it was ended by SIGSEGV"),
    "hang": (1, "neither output nor a result for 5 s: it hangs"),
    "chatter": (1, "no result for 5 s"),
    "no result": (
        0,
        "it ended without an error and without a result: results.csv has the columns epoch, loss, "
        "val_acc",
    ),
    "too few": (2, "it ended without an error after 2 results, 3 were asked for"),
    "a word": (0, "the result 'high' is no number"),
    "flood": (3, None),
    "bytes": (3, None),
    "deaf": (3, None),
    "orphan": (3, None),
}


@pytest.mark.parametrize("ill", ILLS)
def test_whatever_a_script_does_is_an_outcome_with_a_reason(tmp_path, ill):
    objective = command(tmp_path, f"--ill '{ill}'", patience=SHORT.get(ill, PATIENT))
    outcome = objective.run(0, {"lr": LR}, 0, 3)
    epochs, reason = ILLS[ill]
    assert values(outcome) == dict(enumerate(curve(epochs), 1))
    assert (outcome.failed or "").startswith(reason or "") and bool(outcome.failed) == bool(reason)
    assert gone(pid_of(objective), 0.1)
    if ill == "orphan":
        assert gone(pid_of(objective, name="orphan"), 0.1)
    logs = list((tmp_path / "trials" / "trial-0").glob("log.txt*"))
    assert sum(path.stat().st_size for path in logs) <= 2 * LOG_BYTES + 2**18


def test_a_value_that_is_no_number_ends_the_trial_as_diverged(tmp_path):
    outcome = command(tmp_path, "--ill diverged", epochs=9).run(0, {"lr": LR}, 0, 9)
    assert [row["epoch"] for row in outcome.rows] == [1, 2]
    assert math.isnan(outcome.rows[-1]["val_acc"]) and outcome.failed is None


@pytest.mark.parametrize(
    ("read", "reason"),
    [
        ("results.csv:top1", "results.csv has the columns epoch, loss, val_acc"),
        ("out.csv:val_acc", "there is no out.csv; the trial's folder has last.json, pid"),
        ("stdout:accuracy=([0-9.]+)", "it printed nothing that 'accuracy=([0-9.]+)' finds"),
    ],
)
def test_a_result_that_is_nowhere_says_what_is_there(tmp_path, read, reason):
    failed = command(tmp_path, read=read, resume=False).run(0, {"lr": LR}, 0, 3).failed
    assert failed.startswith("it ended without an error and without a result") and reason in failed


def test_results_that_are_printed(tmp_path):
    read = r"stdout:epoch (?P<epoch>\d+) acc=(?P<value>\S+)"
    objective = command(tmp_path, "--pause 0.15", read=read)
    rows = [*objective.run(0, {"lr": LR}, 0, 2).rows, *objective.run(0, {"lr": LR}, 2, 3).rows]
    assert objective.metric == "acc"
    assert [row["acc"] for row in rows] == curve(3)


# scripts of three epochs, `out` and `epochs` given; how they report, and what a user is told
ODD = {
    "changes its folder": (
        "results.csv:acc",
        "os.chdir('/')\nfor e in range(epochs):\n"
        "    open(out + '/results.csv', 'a').write('epoch,acc\\n' * (e == 0) + f'{e},{e / 4}\\n')",
        None,
    ),
    "goes into the trial's folder": (
        "results.csv:acc",
        "os.chdir(out)\nfor e in range(epochs):\n"
        "    open('results.csv', 'a').write('epoch,acc\\n' * (e == 0) + f'{e},{e / 4}\\n')",
        None,
    ),
    "writes into its own folder": (
        "results.csv:acc",
        "open('results.csv', 'w').write('epoch,acc\\n0,0.5\\n')",
        "there is no results.csv, and nothing else in the trial's folder: does the script write to "
        "{trial_folder}?",
    ),
    "draws a progress bar": (
        "stdout:acc=([0-9.]+)",
        "for e in range(epochs):\n"
        "    for k in range(5):\n"
        "        print(f'\\repoch {e} {25 * k}% acc={e / 4 * k / 4}', end='', flush=True)\n"
        "        time.sleep(0.03)\n"
        "    print()",
        None,
    ),
    "draws one bar for all epochs": (
        "stdout:epoch (?P<epoch>[0-9]+).*acc=(?P<value>[0-9.]+)",
        "for e in range(epochs):\n"
        "    for k in range(5):\n"
        "        print(f'\\repoch {e} {25 * k}% acc={e / 4 * k / 4}', end='', flush=True)\n"
        "        time.sleep(0.03)",
        None,
    ),
    "renames its metric": (
        "log.jsonl:acc",
        "for e in range(epochs):\n"
        "    name = 'acc' if e < 2 else 'accuracy'\n"
        "    open(out + '/log.jsonl', 'a').write(json.dumps({'epoch': e, name: e / 4}) + '\\n')",
        "it ended without an error after 2 results, 3 were asked for: does it report every epoch, "
        "and train {epochs}? log.jsonl has the keys epoch, acc, accuracy",
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_scripts_that_are_odd(tmp_path, odd):
    read, code, reason = ODD[odd]
    head = "import json, os, sys, time\nout, epochs = sys.argv[1], int(sys.argv[2])\n"
    (tmp_path / "odd.py").write_text(head + code, encoding="utf-8")
    template = Template(f"{sys.executable} odd.py {{trial_folder}} {{epochs}}")
    objective = replace(command(tmp_path, read=read, resume=False), template=template)
    outcome = objective.run(0, {"lr": LR}, 0, 3)
    if reason is None:
        assert outcome.failed is None
        assert [row[objective.metric] for row in outcome.rows] == [0.0, 0.25, 0.5]
    else:
        assert outcome.failed is not None and outcome.failed.endswith(reason)


def test_a_program_that_cannot_be_run_is_an_outcome(tmp_path):
    (tmp_path / "train.sh").write_text("exit 0", encoding="utf-8")
    objective = replace(command(tmp_path), template=Template("./train.sh {lr} {trial_folder}"))
    failed = objective.run(0, {"lr": LR}, 0, 1).failed
    assert failed == "it cannot be started: ./train.sh: Permission denied"


def test_secrets_of_the_environment_are_in_no_log_and_no_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "abcdef0123456789")
    code = "import os, sys; sys.exit('denied: ' + os.environ['WANDB_API_KEY'])"
    (tmp_path / "leak.py").write_text(code, encoding="utf-8")
    template = Template(f"{sys.executable} leak.py {{lr}} {{trial_folder}}")
    outcome = replace(command(tmp_path), template=template).run(0, {"lr": LR}, 0, 1)
    assert outcome.failed == "it ended with exit code 1: denied: ***"
    everything = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"abcdef0123456789" in content for content in everything)


DRIVER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_command import LR, command
command(Path({folder!r}), "--ill '{ill}' --pause 0.1", epochs=10**6).run(0, {{"lr": LR}}, 0, 10**6)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of every descendant")
@pytest.mark.parametrize("ill", ["deaf", "orphan"])
def test_nothing_is_left_after_kill_9(tmp_path, ill):
    """Not a script that ignores SIGTERM, and not a process that it put into a session of its
    own.
    """
    code = DRIVER.format(tests=str(Path(__file__).parent), folder=str(tmp_path), ill=ill)
    driver = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    )
    last = (
        tmp_path / "trials" / "trial-0" / "files" / ("orphan" if ill == "orphan" else "last.json")
    )
    until = time.monotonic() + 60
    while not (last.exists() and last.stat().st_size) and time.monotonic() < until:
        time.sleep(0.05)
    objective = command(tmp_path)
    pids = [pid_of(objective)] + ([pid_of(objective, name="orphan")] if ill == "orphan" else [])
    driver.kill()
    driver.wait()
    assert all(gone(pid) for pid in pids)
