"""Who works on a study, and asking for its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import toy
from inline import Inline

from foretune.errors import BadInput
from foretune.files import write_json
from foretune.running.presence import LOST, RUNNING, STOP, StopRequested, request_stop, running
from foretune.running.runner import run_study
from foretune.searchers.registry import searcher
from foretune.study.study import Study

TOY = Path(toy.__file__)


def study_of(folder, budget=30):
    folder.mkdir(exist_ok=True)
    return toy.toy_study(folder, toy.toy_pool(20), budget)


def test_a_run_says_where_it_is_while_it_runs_and_no_longer(tmp_path):
    seen = []
    with study_of(tmp_path / "s") as study:
        run_study(
            study,
            searcher("random"),
            Inline(toy.Toy(study.folder)),
            on_change=lambda s: seen.append(running(s.folder)),
        )
    assert {one.process for one in seen} == {os.getpid()}
    assert {one.host for one in seen} == {socket.gethostname()}
    assert running(tmp_path / "s") is None and not (tmp_path / "s" / RUNNING).exists()


def test_a_request_ends_the_run_like_ctrl_c_and_the_next_run_goes_on(tmp_path):
    folder = tmp_path / "s"
    told = []

    def ask_after_three(study):
        told.append(study.spent)
        if len(told) == 3:
            request_stop(study.folder)

    with study_of(folder) as study:
        workers = Inline(toy.Toy(folder))
        with pytest.raises(KeyboardInterrupt) as stopped:
            run_study(study, searcher("random"), workers, on_change=ask_after_three)
        assert stopped.type is StopRequested and workers.closed
        assert len(told) == 3 and study.spent < 30
    assert not (folder / STOP).exists()
    (folder / STOP).touch()  # of somebody who asked too late
    with study_of(folder) as study:
        run_study(study, searcher("random"), Inline(toy.Toy(folder)))
        assert study.spent == 30


def test_nobody_can_be_asked_where_nobody_runs(tmp_path):
    study_of(tmp_path / "s").close()
    with pytest.raises(BadInput, match="nobody works on study 's'"):
        request_stop(tmp_path / "s")
    assert not (tmp_path / "s" / STOP).exists()


def test_a_sign_of_life_is_believed_as_far_as_can_be_told(tmp_path):
    """Another process of the same number, and a machine that has not been heard of for long."""
    seen = []
    with study_of(tmp_path / "s", 9) as study:
        run_study(
            study,
            searcher("random"),
            Inline(toy.Toy(study.folder)),
            on_change=lambda s: seen.append(running(s.folder)),
        )
    now = seen[0]
    other = replace(now, process_began=now.process_began - 100)
    fresh = replace(now, host="elsewhere", process=1, at=time.time())
    for one, alive in ((now, True), (other, False), (fresh, True)):
        write_json(tmp_path / RUNNING, asdict(one))
        assert (running(tmp_path) is not None) is alive
    write_json(tmp_path / RUNNING, asdict(replace(fresh, at=time.time() - LOST - 1)))
    assert running(tmp_path) is None
    for text in ("", "[]", json.dumps({"places": {}})):
        (tmp_path / RUNNING).write_text(text, encoding="utf-8")
        assert running(tmp_path) is None


def test_a_real_run_of_processes_is_stopped_and_one_that_was_killed_is_gone(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    command = [sys.executable, str(TOY), str(folder), "--workers", "1", "--seconds", "0.2"]
    for kill in (False, True):
        with subprocess.Popen(command) as process:
            until = time.monotonic() + 60
            while not (found := running(folder)) or Study.load(folder).spent == 0:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            assert found.process == process.pid
            assert all(place.startswith("process ") for place in found.places.values())
            if kill:
                process.send_signal(signal.SIGKILL)
                process.wait()
                assert (folder / RUNNING).exists()
            else:
                request_stop(folder)
                assert process.wait(30) == 130
        assert running(folder) is None
