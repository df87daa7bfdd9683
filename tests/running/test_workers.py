"""Worker processes: rows as they come, deaths, refusals, Ctrl-C and orphans."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import toy

from foretune.errors import BadInput
from foretune.running import workers as module
from foretune.running.runner import run_study
from foretune.running.workers import Died, Ended, Processes, Row, without_interrupt
from foretune.searchers.registry import searcher
from foretune.study.study import Step, Study, Suggestion

CONFIG = {"x": 0.5, "kind": "plain"}


@pytest.fixture
def processes(tmp_path):
    """Two workers with the toy objective; ended with the test."""
    pool = Processes(toy.Toy(tmp_path, 0.001), 2)
    yield pool
    pool.close()


def until_over(pool, count=1):
    """All events until `count` steps are over."""
    events, over = [], 0
    deadline = time.monotonic() + 60
    while over < count:
        assert time.monotonic() < deadline, events
        new = pool.events(5)
        events += new
        over += sum(not isinstance(e, Row) for e in new)
    return events


def test_steps_report_each_epoch_and_their_end_and_workers_are_used_again(processes):
    assert processes.free == 2
    steps = [Step(0, 0, 3), Step(1, 0, 2)]
    for step in steps:
        processes.submit(step, CONFIG)
    assert processes.free == 0
    events = until_over(processes, 2)
    assert processes.free == 2
    for step in steps:
        mine = [e for e in events if e.step == step]
        assert [type(e) for e in mine] == [Row] * step.stop + [Ended]
        assert [e.row["score"] for e in mine[:-1]] == [
            toy.value(0.5, e) for e in range(1, step.stop + 1)
        ]
        assert mine[-1].outcome.failed is None and mine[-1].outcome.rows == [
            e.row for e in mine[:-1]
        ]
    pids = {p.pid for p, _ in processes._idle}
    processes.submit(Step(0, 3, 4), CONFIG)
    assert [e.row["epoch"] for e in until_over(processes) if isinstance(e, Row)] == [4]
    assert {p.pid for p, _ in processes._idle} == pids


def test_a_killed_worker_takes_nothing_with_it(processes):
    processes.submit(Step(0, 0, 9), {"x": 0.5, "kind": "dies"})
    processes.submit(Step(1, 0, 9), CONFIG)
    events = until_over(processes, 2)
    died = [e for e in events if isinstance(e, Died)]
    assert len(died) == 1 and died[0].step.config_id == 0 and "-9" in died[0].reason
    assert [e.row["epoch"] for e in events if isinstance(e, Row) and e.step.config_id == 0] == [
        1,
        2,
        3,
    ]
    assert [len(e.outcome.rows) for e in events if isinstance(e, Ended)] == [9]
    processes.submit(Step(2, 0, 1), CONFIG)  # a new worker takes the dead one's place
    assert isinstance(until_over(processes)[-1], Ended)


def test_a_worker_killed_while_idle_is_noticed_at_the_next_step(processes):
    processes.submit(Step(0, 0, 1), CONFIG)
    until_over(processes)
    process, _ = processes._idle[0]
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    processes.submit(Step(1, 0, 1), CONFIG)
    assert isinstance(until_over(processes)[-1], Died) and processes.free == 2


def test_a_refused_configuration_is_a_failed_trial_not_a_dead_worker(processes):
    processes.submit(Step(0, 0, 3), {"x": 0.5, "kind": "refuses"})
    assert [e.outcome.failed for e in until_over(processes)] == [
        "this configuration cannot be trained"
    ]
    processes.submit(Step(1, 0, 3), {"x": 0.5, "kind": "diverges"})
    last = until_over(processes)[-1]
    assert last.outcome.failed == "loss is nan in epoch 3" and [
        r["epoch"] for r in last.outcome.rows
    ] == [1, 2]


def test_a_full_disk_is_the_machines_fault_and_never_the_trials(processes):
    processes.submit(Step(0, 0, 9), {"x": 0.5, "kind": "no_disk"})
    with pytest.raises(OSError, match="No space left on device") as caught:
        until_over(processes)
    assert caught.value.filename.endswith("trial")


def test_closing_ends_the_workers_in_the_middle_of_a_step(tmp_path):
    pool = Processes(toy.Toy(tmp_path, 30.0), 1)
    pool.submit(Step(0, 0, 9), CONFIG)
    (process,) = [p for p, _ in pool._busy.values()]
    pool.close()
    assert not process.is_alive() and pool.free == 1 and pool.events(0) == []


def test_workers_end_with_a_killed_parent_even_in_the_middle_of_an_epoch(tmp_path):
    command = [sys.executable, toy.__file__, str(tmp_path), "--workers", "1", "--seconds", "60"]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE)
    children = wait_for(lambda: children_of(parent.pid))
    wait_for((tmp_path / "journal.jsonl").exists)
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    wait_for(
        lambda: not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in children),
        seconds=20,
    )
    assert b"Traceback" not in parent.stderr.read()


def test_ctrl_c_is_held_back_while_a_process_starts():
    with pytest.raises(KeyboardInterrupt):
        interrupted_inside()


def interrupted_inside():
    with without_interrupt():
        os.kill(os.getpid(), signal.SIGINT)
        arrived = True  # not interrupted here ...
    assert not arrived, "the interrupt was lost"  # ... but on leaving


def children_of(pid):
    """The spawned workers of a process (multiprocessing's own helper process left out)."""
    return [
        p
        for p in psutil.Process(pid).children()
        if any("spawn_main" in word for word in p.cmdline())
    ]


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found


def test_the_first_process_too_is_started_without_ctrl_c():
    """multiprocessing starts its resource tracker with the first process, and that lets SIGINT
    through again.
    """
    code = """
import multiprocessing, signal
from foretune.running.workers import without_interrupt
with without_interrupt():
    process = multiprocessing.get_context("spawn").Process(target=print)
    process.start()
    print("held back:", signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
process.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "held back: True" in done.stdout


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("MemoryError", "cannot begin: MemoryError: no torch"),
        ("ImportError", "cannot begin: ImportError: no torch"),
        ("exit", "before their first step, with exit code 3"),
        ("killed", "exit code -9 .3 in a row were killed"),
    ],
)
def test_a_worker_that_is_never_ready_stops_the_run_and_fails_no_trial(tmp_path, how, said):
    study = toy.toy_study(tmp_path, toy.toy_pool(4), 20)
    workers = Processes(toy.Unready(tmp_path, 0.001, how), 2)
    with pytest.raises(BadInput, match=said) as stopped:
        run_study(study, searcher("random"), workers, every=0.05)
    assert "\n" not in str(stopped.value)
    after = Study.load(tmp_path)
    assert not after.failed.any() and after.spent == 0 and after.pending.any()
    run_study(after, searcher("random"), Processes(toy.Toy(tmp_path, 0.001), 2), every=0.05)
    assert after.spent == 20 and not after.failed.any()


def test_a_worker_killed_once_before_it_is_ready_is_started_again(tmp_path):
    pool = Processes(toy.KilledOnce(tmp_path, 0.001), 1)
    pool.submit(Step(0, 0, 2), CONFIG)
    events = until_over(pool)
    pool.close()
    assert [type(e) for e in events] == [Row, Row, Ended]


@pytest.mark.skipif(os.name != "posix", reason="other systems stop no processes")
def test_a_stopped_worker_does_not_outlive_the_study_that_an_error_ends(tmp_path, monkeypatch):
    """A signal to end waits until a stopped process goes on, which nobody makes it do."""
    monkeypatch.setattr(module, "STOP_SECONDS", 0.5)
    pool = toy.toy_pool(2)
    pool[1]["kind"] = "no_disk"
    study = toy.toy_study(tmp_path, pool, 18)
    processes, seen = Processes(toy.Toy(tmp_path, 0.05), 2), []

    def stop_the_other(study):
        for process, step in processes._busy.values():
            if step.config_id == 0 and study.epoch[0] and not seen:
                psutil.Process(process.pid).suspend()
                seen.append(psutil.Process(process.pid))

    class InOrder:
        def suggest(self, study, rng):
            fresh = np.flatnonzero(study.available & (study.epoch == 0))
            return Suggestion(int(fresh[0]), 0, 9) if study.asked == 0 or seen else None

    with pytest.raises(OSError, match="No space left"):
        run_study(study, InOrder(), processes, on_change=stop_the_other, every=0.05)
    assert seen
    assert not any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in seen)
