"""The study loop with real processes: kills, resumes, budgets, no duplicates."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
import toy
from inline import Inline
from killed import as_killed

from foretune.running.objectives.training import Training
from foretune.running.runner import delete_checkpoints, needed, run_study, sweep
from foretune.running.workers import Ended, Processes, Row
from foretune.searchers.registry import searcher
from foretune.study.outcome import Outcome
from foretune.study.study import Plan, Step, Study
from foretune.training.recipe import Settings


def executed(folder):
    """How often each (trial, epoch) was really trained."""
    return Counter(
        tuple(map(int, line.split())) for line in (folder / "executed").read_text().splitlines()
    )


def history(study):
    """What must not depend on interruptions."""
    return (
        study.order,
        study.started,
        np.nan_to_num(study.Y, nan=-1).tolist(),
        study.spent,
        study.failures,
    )


def run_toy(folder, pool, budget, method="random", workers=1, journal=True, **plan):
    """Run the toy study in `folder` to its end, in this process; without a journal there is nothing
    to resume, and nothing to wait for.
    """
    study = toy.toy_study(folder if journal else None, pool, budget, method, **plan)
    folder.mkdir(exist_ok=True)
    run_study(study, searcher(method), Inline(toy.Toy(folder), workers))
    return study


@pytest.mark.parametrize("method", ["random", "hyperband", "sha"])
def test_the_same_seed_gives_the_same_study_and_another_seed_another(tmp_path, method):
    pool = toy.toy_pool(30)
    runs = [
        run_toy(tmp_path / str(k), pool, 100, method, journal=False, seed=s)
        for k, s in enumerate((1, 1, 2))
    ]
    assert history(runs[0]) == history(runs[1]) and history(runs[0])[0] != history(runs[2])[0]
    assert runs[0].spent == 100 and runs[0].done


@pytest.mark.parametrize("method", ["random", "hyperband", "sha"])
def test_a_study_cut_at_any_event_and_resumed_is_the_undisturbed_one(tmp_path, method):
    """The journal and the checkpoints as a kill leaves them: the checkpoint is at the told epoch,
    or one ahead.
    """
    pool = toy.toy_pool(20)
    want = history(run_toy(tmp_path / "whole", pool, 40, method))
    data = (tmp_path / "whole" / "journal.jsonl").read_bytes()
    rng = random.Random(method)
    for k in range(6):
        folder = tmp_path / str(k)
        shutil.copytree(tmp_path / "whole", folder)
        as_killed(folder, data[: rng.randrange(len(data))])
        for i, epoch in enumerate(Study.load(folder).epoch):
            path = folder / f"trial-{i}.json"
            rows = (
                json.loads(path.read_text())[: int(epoch) + rng.randrange(2)]
                if path.exists()
                else []
            )
            path.write_text(json.dumps(rows))
        assert history(run_toy(folder, pool, 40, method)) == want


def size(path):
    """Bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


@pytest.mark.slow
def test_killed_at_random_moments_the_study_ends_as_if_undisturbed(tmp_path):
    """SIGKILL of the whole study, 16 times: every cell once, nothing lost, at most one epoch in
    flight per worker trained again.
    """
    rng, kills, workers = random.Random(0), 16, 2
    command = [
        sys.executable,
        toy.__file__,
        str(tmp_path),
        "--workers",
        str(workers),
        "--configs",
        "30",
        "--seconds",
        "0.01",
    ]
    spent, journal = [0], tmp_path / "journal.jsonl"
    for kill in range(kills):
        seen = size(journal)
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 60
        while kill % 4 and process.poll() is None and size(journal) == seen:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(
            rng.random() * (0.12 if kill % 4 else 0.5)
        )  # each fourth time while it starts, else in the middle of the work
        process.kill()
        process.wait()
        # a worker that was being started may miss its parent before our code runs in it
        errors = process.stderr.read()
        assert "Traceback" not in errors or "in spawn_main" in errors, errors
        with toy.toy_study(tmp_path, toy.toy_pool(30), 270) as study:
            pass  # the next process may have the folder
        told = [(i, e) for i, e in study.order]
        # nothing twice, nothing lost
        assert len(set(told)) == len(told) == study.spent >= spent[-1]
        spent.append(study.spent)
    assert max(spent) < 270, "the study ended before it was killed often enough"
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    study = toy.toy_study(tmp_path, toy.toy_pool(30), 270)
    cells = {(i, e) for i in range(30) for e in range(1, 10)}
    assert sorted(study.order) == sorted(cells) and study.done
    want = [[toy.value(c["x"], e) for e in range(1, 10)] for c in toy.toy_pool(30)]
    np.testing.assert_array_equal(study.Y, want)
    often = executed(tmp_path)
    assert set(often) == cells and sum(often.values()) - len(cells) <= kills * workers
    table = study.to_meta()
    assert (
        not table.table.duplicated(["task", "config_id", "seed", "epoch"]).any()
        and len(table.table) == 270
    )


def test_ctrl_c_for_the_whole_process_group_leaves_a_study_that_continues(tmp_path):
    command = [
        sys.executable,
        toy.__file__,
        str(tmp_path),
        "--configs",
        "12",
        "--budget",
        "108",
        "--seconds",
        "0.02",
    ]
    for moment in (0.0, 0.3):
        seen = size(tmp_path / "journal.jsonl")
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while size(tmp_path / "journal.jsonl") == seen:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and errors == ""  # no worker complains either
    with toy.toy_study(tmp_path, toy.toy_pool(12), 108) as study:
        assert study.spent < 108 and not study.done
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    study = toy.toy_study(tmp_path, toy.toy_pool(12), 108)
    assert study.done and sorted(study.order) == [(i, e) for i in range(12) for e in range(1, 10)]


def test_trouble_of_every_kind_ends_trials_never_the_study(tmp_path):
    """With real workers: one that is killed goes on from its checkpoint, one that always dies
    fails, the rest is trained.
    """
    kinds = ["plain", "dies_once", "diverges", "dies", "refuses", "plain"]
    pool = [{"x": 0.1 * (k + 1), "kind": kind} for k, kind in enumerate(kinds)]
    study = toy.toy_study(tmp_path, pool, 1000)
    run_study(study, searcher("random"), Processes(toy.Toy(tmp_path, 0.001), 2), every=0.05)
    assert study.done and not study.pending.any()
    assert study.epoch[[0, 1, 5]].tolist() == [9, 9, 9] and study.failed.tolist() == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]
    assert study.failures[2] == (3, "loss is nan in epoch 3") and study.failures[4] == (
        1,
        "this configuration cannot be trained",
    )
    assert study.failures[3][0] == 4 and "exit code -9, 3 times in a row" in study.failures[3][1]
    assert study.spent == 3 * 9 + 3 + 4 + 1
    # what was trained before a death was not trained again
    assert max(executed(tmp_path).values()) == 1


def test_a_full_disk_stops_the_study_fails_no_trial_and_the_next_call_goes_on(tmp_path):
    pool = [
        {"x": 0.1 * (k + 1), "kind": kind}
        for k, kind in enumerate(["plain", "plain", "no_disk", "plain"])
    ]
    with pytest.raises(OSError, match="No space left on device"):
        run_study(
            toy.toy_study(tmp_path, pool, 36),
            searcher("random"),
            Processes(toy.Toy(tmp_path, 0.001), 2),
        )
    study = toy.toy_study(tmp_path, pool, 36)
    assert not study.failed.any() and study.pending[2] and not study.done

    class Mended(toy.Toy):
        def trouble(self, config_id, kind, epoch):
            """There is room again."""

    run_study(study, searcher("random"), Inline(Mended(tmp_path)))
    often = executed(tmp_path)
    assert (
        study.spent == 36
        and not study.failed.any()
        and len(study.order) == len(set(study.order)) == 36
    )
    # the other worker may have had an epoch in flight
    assert len(often) == 36 and sum(often.values()) <= 36 + 1


def test_a_write_that_knows_no_name_names_the_study(tmp_path):
    """`/dev/full` refuses every write as a full disk does."""
    study = toy.toy_study(tmp_path, toy.toy_pool(2), 18)

    def write(study):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    with pytest.raises(OSError, match="No space left") as caught:
        run_study(study, searcher("random"), Inline(toy.Toy(tmp_path)), on_change=write)
    assert caught.value.filename == str(tmp_path)


def test_four_workers_never_get_the_same_configuration(tmp_path):
    study = toy.toy_study(tmp_path, toy.toy_pool(20), 1000)
    run_study(study, searcher("random"), Processes(toy.Toy(tmp_path), 4), every=0.05)
    starts = [s["config_id"] for s in study.steps if s["start"] == 0]
    assert sorted(starts) == list(range(20)) and max(executed(tmp_path).values()) == 1


def test_the_wall_clock_stops_a_study_in_the_middle_of_a_step(tmp_path):
    study = toy.toy_study(tmp_path, toy.toy_pool(4), 36, seconds=1.5)
    workers = Processes(toy.Toy(tmp_path, 60.0), 1)
    began = time.monotonic()
    run_study(study, searcher("random"), workers, every=0.05)
    assert time.monotonic() - began < 30 and study.out_of_time and study.done and study.spent == 0
    assert study.pending.sum() == 9 and study.steps[0]["stop"] == 9  # more time takes it up again
    more = toy.toy_study(tmp_path, toy.toy_pool(4), 36, seconds=1000.0)
    run_study(more, searcher("random"), Inline(toy.Toy(tmp_path)))
    assert more.spent == 36 and more.steps[0]["config_id"] == more.order[0][0]


def test_pending_steps_of_an_interrupted_study_come_first(tmp_path):
    study = toy.toy_study(tmp_path, toy.toy_pool(10), 90)
    step = study.ask(searcher("random"))
    study.tell(step, [toy.value(study.configs[step.config_id]["x"], 1)])
    again = toy.toy_study(tmp_path, toy.toy_pool(10), 90)
    run_study(again, searcher("random"), Inline(toy.Toy(tmp_path)))
    assert again.order[:9] == [(step.config_id, e) for e in range(1, 10)] and again.asked == 10


def test_a_budget_that_is_spent_leaves_pending_steps_alone(tmp_path):
    study = toy.toy_study(tmp_path, toy.toy_pool(10), 20)
    study.tell(study.ask(searcher("random")), [0.1] * 5)
    again = toy.toy_study(tmp_path, toy.toy_pool(10), 5)
    run_study(again, searcher("random"), Inline(toy.Toy(tmp_path)))
    assert again.spent == 5 and again.done


def test_deaths_count_in_a_row_only(tmp_path):
    study = toy.toy_study(tmp_path, toy.toy_pool(1), 9)
    run_study(study, searcher("random"), Inline(toy.Toy(tmp_path), die=[0, 0]))
    assert study.spent == 9 and not study.failed.any()
    study = toy.toy_study(tmp_path / "b", toy.toy_pool(1), 9)
    (tmp_path / "b").mkdir(exist_ok=True)
    run_study(study, searcher("random"), Inline(toy.Toy(tmp_path / "b"), die=[0, 0, 0]))
    assert study.failed[0] and study.spent == 1


def test_on_change_sees_every_state_and_errors_close_the_workers(tmp_path):
    spent, workers = [], Inline(toy.Toy(tmp_path))
    study = toy.toy_study(tmp_path, toy.toy_pool(3), 27)
    run_study(study, searcher("random"), workers, on_change=lambda s: spent.append(s.spent))
    assert spent == [9, 18, 27] and workers.closed and (tmp_path / "curves.parquet").exists()

    def stop(study):
        raise KeyboardInterrupt

    workers = Inline(toy.Toy(tmp_path / "b"))
    (tmp_path / "b").mkdir()
    study = toy.toy_study(tmp_path / "b", toy.toy_pool(3), 27)
    with pytest.raises(KeyboardInterrupt):
        run_study(study, searcher("random"), workers, on_change=stop)
    assert workers.closed and (tmp_path / "b" / "curves.parquet").exists() and study.spent == 9


def test_only_checkpoints_that_a_step_can_need_are_kept(tmp_path):
    objective = Training(tmp_path / "task.npz", Settings(), tmp_path)
    study = toy.toy_study(None, toy.toy_pool(6), 100)
    for i, (epochs, score) in enumerate([(9, 0.5), (9, 0.9), (3, 0.2), (0, 0), (2, 0.1)]):
        step = Step(i, 0, epochs)
        study.tell(step, [score] * epochs)
        for best in (False, True):
            objective.checkpoint(i, best).touch()
    study.fail(Step(4, 2, 9), 3, "diverged")
    (tmp_path / ".trial-2.ckpt.half.ckpt").touch()
    assert needed(study) == {2}
    delete_checkpoints(study, objective)
    kept = {p.name for p in tmp_path.glob("trial-*")}
    assert kept == {"trial-1.best.ckpt", "trial-2.ckpt", "trial-2.best.ckpt"}
    sweep(objective)
    assert not list(tmp_path.glob(".trial*"))
    study.raise_budget(study.spent)
    delete_checkpoints(study, objective)
    assert {p.name for p in tmp_path.glob("trial-*")} == {"trial-1.best.ckpt"}


def test_a_trials_next_step_may_begin_before_its_last_one_has_ended(table):
    """A free worker gets the step that follows a row; the end of the step before must not be taken
    for the new one's.
    """

    class OneByOne:
        name = "one-by-one"

        def suggest(self, study, rng):
            return (
                None
                if study.pending[0]
                else Step(0, int(study.epoch[0]), int(study.epoch[0]) + 1, {"why": "next"})
            )

        def recommend(self, study):
            return 0

    class TwoSlow:
        """Two workers; a step's row comes one call before its end."""

        def __init__(self):
            self.busy = []

        @property
        def free(self):
            return 2 - len(self.busy)

        def submit(self, step, config):
            self.busy.append([step, False])

        def events(self, timeout):
            step, told = self.busy[0]
            row = {"epoch": step.stop, "score": 0.5}
            if not told:
                self.busy[0][1] = True
                return [Row(step, row)]
            self.busy.pop(0)
            return [Ended(step, Outcome([row]))]

        def close(self):
            pass

    meta = table(np.full((1, 1, 9), 0.5))
    plan = Plan(task="t0", metric="score", goal="maximize", max_epoch=9, budget=5)
    study = Study(meta.space, meta.configs, plan)
    run_study(study, OneByOne(), TwoSlow())
    assert study.spent == 5 and study.done
