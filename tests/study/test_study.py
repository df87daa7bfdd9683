"""The study: ask, tell, budgets, and the fold over its journal."""

import gc
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from killed import as_killed

from foretune.errors import BadInput, BadSuggestion
from foretune.evaluation.replay import replay_study
from foretune.searchers.base import Searcher
from foretune.searchers.registry import searcher
from foretune.study.repair import repair
from foretune.study.study import Plan, Step, Study


class Fixed(Searcher):
    """Suggests the steps it was given, in turn."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def suggest(self, study, rng):
        return self.steps.pop(0) if self.steps else None


def make(meta, budget=30, folder=None, goal="maximize", n=6, **plan):
    """A study over the first `n` synthetic configurations."""
    plan = Plan(task="t", metric="score", goal=goal, max_epoch=9, budget=budget, **plan)
    return Study(meta.space, meta.configs[:n], plan, folder=folder)


def state(study):
    """Everything that a searcher can see, comparable."""
    arrays = {k: getattr(study, k).tolist() for k in ("epoch", "pending", "failed", "past_ids")}
    matrices = {
        k: np.nan_to_num(getattr(study, k), nan=-99.0).tolist() for k in ("Y", "X", "start_value")
    }
    rows = json.dumps(study.rows)
    plain = {
        k: getattr(study, k)
        for k in ("asked", "spent", "elapsed", "started", "order", "failures", "configs")
    }
    return {
        **arrays,
        **matrices,
        **plain,
        "rows": rows,
        "steps": json.dumps(study.steps, default=float),
        "plan": study.plan,
    }


def test_a_told_step_is_seen_everywhere(meta):
    study = make(meta)
    step = study.ask(Fixed(Step(2, 0, 3, {"why": "test"})))
    assert step == Step(2, 0, 3, {"why": "test"}) and study.pending.tolist() == [0, 0, 3, 0, 0, 0]
    assert (
        study.remaining == 27
        and study.started == [2]
        and not study.available[2]
        and study.asked == 1
    )
    study.tell(step, [0.5, 0.7])
    assert (
        study.spent == 2
        and study.remaining == 27
        and study.pending[2] == 3
        and study.order == [(2, 1), (2, 2)]
    )
    study.tell(step, [0.5, 0.7, 0.6])
    assert study.pending[2] == 0 and study.epoch[2] == 3 and study.available[2]
    assert study.incumbent == (2, 2, 0.7) and study.best.tolist() == [
        -math.inf,
        -math.inf,
        0.7,
        -math.inf,
        -math.inf,
        -math.inf,
    ]
    assert study.rows[2][1] == {"epoch": 2, "score": 0.7}
    np.testing.assert_array_equal(study.Y[2, :4], [0.5, 0.7, 0.6, np.nan])


def test_losses_are_higher_is_better_inside_and_raw_in_rows(meta):
    study = make(meta, goal="minimize")
    study.tell(study.ask(Fixed(Step(0, 0, 2))), [3.0, 2.0])
    assert (
        study.incumbent == (0, 2, -2.0)
        and study.rows[0][1]["score"] == 2.0
        and study.Y[0, 0] == -3.0
    )


def test_the_first_of_equal_values_is_the_incumbent(meta):
    study = make(meta)
    study.tell(study.ask(Fixed(Step(3, 0, 2))), [0.5, 0.5])
    assert study.incumbent == (3, 1, 0.5)
    assert make(meta).incumbent is None


def test_epoch_zero_is_free_and_told_once(meta):
    study = make(meta)
    step = study.ask(Fixed(Step(1, 0, 2)))
    study.tell(step, [{"epoch": 0, "score": 0.1}])
    study.tell(step, [{"epoch": 0, "score": 0.1}, {"epoch": 1, "score": 0.2}])
    study.tell(
        step, [{"epoch": 0, "score": 0.1}, {"epoch": 1, "score": 0.2}, {"epoch": 2, "score": 0.3}]
    )
    assert (
        study.spent == 2
        and study.start_value[1] == 0.1
        and [r["epoch"] for r in study.rows[1]] == [0, 1, 2]
    )
    assert study.incumbent == (1, 2, 0.3) and study.order == [(1, 1), (1, 2)]


def test_telling_twice_is_harmless(meta):
    study = make(meta)
    step = study.ask(Fixed(Step(1, 0, 2)))
    rows = [{"epoch": e, "score": 0.1 * e} for e in (1, 2)]
    study.tell(step, rows)
    before = state(study)
    study.tell(step, rows)
    study.tell(step, [])
    assert state(study) == before


def test_numbers_are_of_the_steps_epochs_whatever_was_told_before(meta, tmp_path):
    study = make(meta, folder=tmp_path, budget=5)
    step = study.ask(Fixed(Step(1, 0, 2)))
    study.tell(step, [0.1])
    for _ in range(3):  # as a script does that crashed after telling, and sends the step again
        study.tell(step, [0.1, 0.2])
    study.tell(study.ask(Fixed(Step(1, 2, 3))), [0.3])
    study.tell(step, [0.1, 0.2])  # late, of a step before
    for again in (study, Study.load(tmp_path)):
        again.tell(step, [0.1, 0.2])
        assert again.spent == 3 and again.remaining == 2
        assert again.rows[1] == [{"epoch": e, "score": e / 10} for e in (1, 2, 3)]


def test_more_than_was_asked_for_is_refused_whatever_step_is_shown(meta):
    study = make(meta)
    study.ask(Fixed(Step(1, 0, 2)))
    with pytest.raises(BadInput, match=r"its step ends at 2; told were epochs \[1, 2, 3\]"):
        study.tell(Step(1, 0, 3), [0.1, 0.2, 0.3])
    assert study.spent == 0


def test_a_diverged_step_told_again_is_passed_over(meta):
    study = make(meta)
    step = study.ask(Fixed(Step(4, 0, 5)))
    values = [0.5, math.nan, 0.9]
    study.tell(step, values)
    before = state(study)
    study.tell(step, values)
    study.tell(step, [{"epoch": 1, "score": 0.5}, {"epoch": 2, "score": None}])
    assert state(study) == before and study.spent == 2


def test_a_finished_step_cannot_fail(meta):
    study = make(meta)
    step = study.ask(Fixed(Step(4, 0, 9)))
    study.tell(step, [0.5] * 9)
    before = state(study)
    study.fail(step, 3, "late")
    assert state(study) == before and study.incumbent == (4, 1, 0.5) and not study.failed[4]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_value_that_is_not_finite_ends_the_trial_and_is_paid_for(meta, value):
    study = make(meta)
    step = study.ask(Fixed(Step(4, 0, 5)))
    study.tell(step, [{"epoch": e, "score": v} for e, v in ((1, 0.5), (2, value), (3, 0.9))])
    assert (
        study.failed[4]
        and study.epoch[4] == 2
        and study.spent == 2
        and study.pending[4] == 0
        and not study.available[4]
    )
    assert (
        study.failures[4] == (2, f"score is {value}")
        and study.best[4] == 0.5
        and study.remaining == 28
    )
    with pytest.raises(BadInput, match="configuration 4 has failed in epoch 2"):
        study.tell(step, [{"epoch": 3, "score": 0.9}])
    with pytest.raises(BadSuggestion, match="configuration 4 has failed"):
        study.ask(Fixed(Step(4, 2, 3)))


def test_a_failure_counts_the_epoch_it_happened_in_once(meta):
    study = make(meta)
    step = study.ask(Fixed(Step(4, 0, 5)))
    study.tell(step, [0.5])
    for _ in range(2):
        study.fail(step, 2, "out of memory")
    assert (
        study.spent == 2
        and study.epoch[4] == 2
        and study.failures[4] == (2, "out of memory")
        and math.isnan(study.rows[4][1]["score"])
    )
    study = make(meta)
    step = study.ask(Fixed(Step(4, 0, 5)))
    study.tell(step, [0.5, 0.6])
    study.fail(step, 2, "no more data")  # it failed in an epoch that was told: nothing new to pay
    assert (
        study.spent == 2
        and study.incumbent == (4, 2, 0.6)
        and study.failed[4]
        and study.pending[4] == 0
    )


def test_what_cannot_be_told_is_refused_and_changes_nothing(meta, tmp_path):
    study = make(meta, folder=tmp_path / "s")
    step = study.ask(Fixed(Step(1, 0, 3)))
    before = state(study)
    with pytest.raises(BadInput, match="epoch=nan must be a whole number"):
        study.fail(step, math.nan, "out of memory")
    with pytest.raises(BadInput, match="'score' holds a number above the largest float"):
        study.tell(step, [10**400])
    assert state(study) == before
    study.fail(step, 1.0, RuntimeError("out of memory"))
    assert study.failures == Study.load(tmp_path / "s").failures == {1: (1, "out of memory")}


def test_steps_are_cut_to_the_budget_and_pending_epochs_are_promised(meta):
    study = make(meta, budget=5)
    first = study.ask(Fixed(Step(0, 0, 3)))
    second = study.ask(Fixed(Step(1, 0, 9)))
    assert (first.stop, second.stop) == (3, 2) and study.remaining == 0
    # nothing is left to promise, though nothing is spent
    assert study.ask(Fixed(Step(2, 0, 1))) is None
    study.tell(first, [0.1, 0.2, 0.3])
    study.fail(second, 1, "diverged")
    assert study.spent == 4 and study.remaining == 1 and not study.done
    last = study.ask(Fixed(Step(2, 0, 9)))
    assert last.stop == 1
    study.tell(last, [0.1])
    assert study.done and study.spent == 5 and study.ask(Fixed(Step(3, 0, 1))) is None


def test_a_study_is_done_when_nothing_is_left_to_train(meta):
    study = make(meta, n=2, budget=1000)
    study.tell(study.ask(Fixed(Step(0, 0, 9))), [0.1] * 9)
    step = study.ask(Fixed(Step(1, 0, 9)))
    assert not study.done
    study.fail(step, 1, "out of memory")
    assert study.done and study.ask(searcher("random")) is None


def test_a_wall_clock_budget_ends_it(meta):
    study = make(meta, seconds=10.0)
    step = study.ask(Fixed(Step(0, 0, 9)))
    study.tell(step, [0.1], elapsed=9.9)
    assert not study.done
    study.tell(step, [0.1, 0.1], elapsed=10.0)
    assert study.out_of_time and study.done and study.ask(searcher("random")) is None


def test_a_released_step_may_be_suggested_again(meta):
    study = make(meta)
    step = study.ask(Fixed(Step(0, 0, 4)))
    study.release(step)
    study.release(step)
    assert study.available[0] and study.remaining == 30 and study.started == [0]
    assert study.ask(Fixed(Step(0, 0, 2))).stop == 2 and study.started == [0]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Step(6, 0, 1), "configuration 6 is unknown: the study has 6"),
        (Step(-1, 0, 1), "configuration -1 is unknown"),
        (Step(0, 0, 1), "is being trained"),
        (Step(1, 9, 10), "is fully trained"),
        (Step(2, 0, 1), "is at epoch 2 of 9; suggested was 0 to 1"),
        (Step(2, 2, 2), "suggested was 2 to 2"),
        (Step(2, 2, 10), "suggested was 2 to 10"),
    ],
)
def test_suggestions_that_cannot_be_taken_are_defects(meta, step, message):
    study = make(meta)
    study.ask(Fixed(Step(0, 0, 1)))
    study.tell(study.ask(Fixed(Step(1, 0, 9))), [0.5] * 9)
    study.tell(study.ask(Fixed(Step(2, 0, 2))), [0.5] * 2)
    before = state(study)
    with pytest.raises(BadSuggestion, match=message):
        study.ask(Fixed(step))
    assert state(study) == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([{"epoch": 3, "score": 0.1}], r"is at epoch 1 of 9, and .* told were epochs \[3\]"),
        ([{"epoch": 3, "score": 0.1}, {"epoch": 2, "score": 0.1}], r"told were epochs \[3, 2\]"),
        ([0.3] * 9, "goes from epoch 0 to 5; told was epoch 6"),
        ([{"epoch": -1, "score": 0.3}], "told was epoch -1"),
        ([0.1], "score of configuration 0 in epoch 1 was told as 0.3, and now as 0.1"),
        ([math.nan], "was told as 0.3, and now as nan"),
        ([{"epoch": 2, "accuracy": 0.1}], "lacks 'score'; it has epoch, accuracy"),
        ([{"score": 0.1}], "lacks 'epoch'"),
    ],
)
def test_rows_out_of_turn_are_refused_and_change_nothing(meta, tmp_path, values, message):
    study = make(meta, folder=tmp_path)
    step = study.ask(Fixed(Step(0, 0, 5)))
    study.tell(step, [0.3])
    before = state(study)
    with pytest.raises(BadInput, match=message):
        study.tell(step, values)
    assert state(study) == before == state(Study.load(tmp_path))


def test_an_unknown_configuration_cannot_be_told_or_failed(meta):
    study = make(meta)
    for call in (
        lambda: study.tell(Step(6, 0, 1), [0.5]),
        lambda: study.fail(Step(-1, 0, 1), 1, "x"),
        lambda: study.release(Step(99, 0, 1)),
    ):
        with pytest.raises(BadInput, match="unknown: the study has 6"):
            call()


def test_trials_of_ones_own_can_be_told_without_asking(meta):
    study = make(meta)
    study.tell(Step(5, 0, 2), [0.2, 0.4])
    assert study.started == [5] and study.spent == 2 and study.incumbent == (5, 2, 0.4)


def test_open_studies_grow_and_closed_ones_do_not(meta):
    new = {**meta.configs[0], "learning_rate": 0.0123}
    study = make(meta, open=True)
    assert (
        study.propose(new) == 6 == study.propose(dict(reversed(new.items())))
        and study.propose(meta.configs[3]) == 3
    )
    assert len(study.configs) == 7 == len(study.X) == len(study.Y) == len(study.available)
    np.testing.assert_array_equal(study.X[6], meta.space.encode([new])[0])
    with pytest.raises(BadInput, match="learning_rate=7"):
        study.propose({**new, "learning_rate": 7})
    with pytest.raises(BadSuggestion, match="not open"):
        make(meta).propose(new)


def test_past_ids_point_at_the_same_configurations(meta):
    study, _ = replay_study(meta, "t0", budget=9)
    assert study.past_ids.tolist() == list(range(40)) and study.past.tasks == [
        "t1",
        "t2",
        "t3",
        "t4",
    ]
    plan = Plan(task="t", metric="score", goal="maximize", max_epoch=9, budget=9, open=True)
    study = Study(
        meta.space, [meta.configs[7], {**meta.configs[0], "learning_rate": 0.0123}], plan, past=meta
    )
    assert study.past_ids.tolist() == [7, -1]
    new = study.propose(meta.configs[2])
    assert study.past_ids[new] == 2


def eventful(meta, folder):
    """A study in which everything has happened; returns it."""
    study = make(meta, folder=folder, open=True, budget=40, seconds=1e6)
    first = study.ask(Fixed(Step(0, 0, 3, {"why": "numpy", "past": {"a": np.float64(0.5)}})))
    study.tell(first, [{"epoch": 0, "score": 0.1}])
    study.tell(
        first, [{"epoch": 1, "score": np.float32(0.25), "seconds": np.int64(3)}], elapsed=1.5
    )
    new = study.propose({**meta.configs[0], "learning_rate": 0.0123})
    second = study.ask(Fixed(Step(np.int64(new), np.int64(0), np.int64(9))))
    study.tell(second, [0.5, 0.6, math.nan, 0.7], elapsed=2.5)
    third = study.ask(Fixed(Step(3, 0, 2)))
    study.fail(third, 1, "out of memory: ü\n2 GiB")
    study.release(study.ask(Fixed(Step(4, 0, 1))))
    study.raise_budget(55)
    study.note(test_accuracy=0.5, tested=[0, 1])
    study.ask(Fixed(Step(5, 0, 4)))
    return study


def test_a_study_read_back_is_the_same(meta, tmp_path):
    study = eventful(meta, tmp_path)
    again = Study.load(tmp_path)
    assert state(again) == state(study)
    assert again.budget == 55 and again.plan.seconds is None and again.plan.notes.tested == (0, 1)
    assert [(s.config_id, s.start, s.stop) for s in again.pending_steps()] == [(0, 1, 3), (5, 0, 4)]
    assert again.pending_steps()[0].because == {"why": "numpy", "past": {"a": 0.5}}
    assert again.rng().random() == study.rng().random()


def test_a_journal_cut_at_any_byte_reads_back_to_its_last_whole_event(meta, tmp_path):
    """What kill -9 leaves, at every kind of place: each prefix of events gives the state that the
    study had after them.
    """
    eventful(meta, tmp_path)
    journal = tmp_path / "journal.jsonl"
    data = journal.read_bytes()
    ends = [k for k in range(len(data)) if data[k : k + 1] == b"\n"]
    rng = np.random.default_rng(0)
    cuts = sorted(
        {0, 1, *(e + d for e in ends for d in (-1, 0, 1)), *rng.integers(0, len(data), 60).tolist()}
    )
    by_events = {}
    for cut in cuts:
        as_killed(tmp_path, data[:cut])
        study = Study.load(tmp_path)
        whole = sum(cut >= end for end in ends)
        assert state(study) == by_events.setdefault(whole, state(study))
        told = [(i, e) for i, e in study.order]
        assert len(told) == len(set(told)) == study.spent  # nothing twice
        assert all(
            study.epoch[i] == max((e for c, e in told if c == i), default=0)
            for i in range(len(study.configs))
        )
    assert len(by_events) == len(ends) + 1  # every prefix was seen, and nothing whole was lost:
    for whole in range(1, len(ends)):
        assert by_events[whole] != by_events[whole - 1]


def test_told_again_after_any_cut_every_epoch_is_there_once(meta, tmp_path):
    step = Step(0, 0, 6)
    rows = [{"epoch": e, "score": 0.1 * e} for e in range(7)]
    study = make(meta, folder=tmp_path)
    study.tell(study.ask(Fixed(step)), rows)
    want, data = state(study), (tmp_path / "journal.jsonl").read_bytes()
    for cut in range(len(data.split(b"\n")[0]) + 1, len(data), 7):
        as_killed(tmp_path, data[:cut])
        again = Study.load(tmp_path)
        again.tell(step, rows)
        assert state(again) == want
        assert state(Study.load(tmp_path)) == want


def test_a_diverged_row_fails_the_trial_without_a_second_event(meta, tmp_path):
    study = make(meta, folder=tmp_path)
    study.tell(study.ask(Fixed(Step(0, 0, 6))), [0.5, math.nan])
    lines = (tmp_path / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["ask", "epoch", "epoch"]
    assert Study.load(tmp_path).failed[0]


def test_a_folder_is_continued_with_the_budget_now_given(meta, tmp_path):
    study = make(meta, folder=tmp_path, budget=4)
    study.tell(study.ask(Fixed(Step(0, 0, 4))), [0.1, 0.2, 0.3, 0.4])
    assert study.done
    more = make(meta, folder=tmp_path, budget=12)
    assert (
        more.spent == 4
        and more.budget == 12
        and not more.done
        and Study.load(tmp_path).budget == 12
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 5}, "another pool of configurations"),
        ({"seed": 3}, "seed 0, now 3"),
        ({"goal": "minimize"}, "goal 'maximize', now 'minimize'"),
    ],
)
def test_another_studys_folder_is_refused(meta, tmp_path, change, message):
    make(meta, folder=tmp_path)
    with pytest.raises(BadInput, match=message):
        make(meta, folder=tmp_path, **change)


def test_a_refused_budget_does_not_poison_the_journal(meta, tmp_path):
    study = make(meta, folder=tmp_path)
    with pytest.raises(BadInput, match="budget=0"):
        study.raise_budget(0)
    assert Study.load(tmp_path).budget == 30


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("study.json", None, r"no study\.json"),
        ("study.json", "{", "is damaged"),
        ("study.json", "[]", "is damaged"),
        ("study.json", '{"configs": []}', "is damaged"),
        ("space.json", None, "no search space"),
        (
            "journal.jsonl",
            '{"event": "epoch", "config_id": 99, "row": {"epoch": 1, "score": 1}}\n',
            "line 1, is damaged: configuration 99 is unknown: the study has 6",
        ),
        ("journal.jsonl", '{"event": "ask", "config_id": 1}\n', r"line 1, .*KeyError: 'start'"),
    ],
)
def test_a_damaged_study_is_refused(meta, tmp_path, name, content, message):
    make(meta, folder=tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(BadInput, match=message):
        Study.load(tmp_path)


def test_a_finished_study_is_a_slice_of_a_meta_dataset(meta, tmp_path):
    study = make(meta, folder=tmp_path / "s", goal="minimize")
    study.tell(
        study.ask(Fixed(Step(4, 0, 3))),
        [{"epoch": e, "score": 3.0 - e, "seconds": 0.1} for e in range(4)],
    )
    study.tell(study.ask(Fixed(Step(1, 0, 3))), [5.0, math.nan])
    study.save_tables()
    table = type(meta).load(tmp_path / "s")
    assert (
        table.config_ids == [1, 4]
        and table.configs == [meta.configs[1], meta.configs[4]]
        and table.tasks == ["t"]
    )
    np.testing.assert_array_equal(table.curves("t")[1], study.Y[4])
    np.testing.assert_array_equal(table.curves("t")[0], study.Y[1])
    assert (
        table.failed("t")[0].tolist() == [False, True] + [False] * 7 and table.start("t")[1] == -3.0
    )
    # turned like every column: the goal is the table's
    assert table.curves("t", metric="seconds")[1, 0] == -0.1


def test_a_study_that_only_asked_can_be_saved(meta, tmp_path):
    study = make(meta, folder=tmp_path / "s")
    study.save_tables()
    assert not (tmp_path / "s" / "curves.parquet").exists()
    study.ask(Fixed(Step(4, 0, 3)))
    study.save_tables()
    assert len(type(meta).load(tmp_path / "s").table) == 0


def test_suggestions_depend_on_seed_and_history_only(meta):
    def choices(seed):
        study = make(meta, seed=seed, n=40, budget=90)
        while step := study.ask(searcher("random")):
            study.tell(step, [0.5] * step.epochs)
        return study.started

    assert choices(1) == choices(1) != choices(2)


def test_the_wall_clock_is_kept_without_an_epoch_being_told(meta, tmp_path):
    def opened():
        plan = Plan("t", "score", "maximize", 9, 20, seconds=60.0)
        return Study(meta.space, meta.configs[:3], plan, folder=tmp_path / "s")

    study = opened()
    study.clock(4.0)
    assert study.elapsed == 4.0 and opened().elapsed == 0.0  # a kill may take ten seconds
    study.clock(11.0)
    study.clock(12.0)
    assert study.elapsed == 12.0 and opened().elapsed == 11.0
    study.clock(60.5)
    assert study.out_of_time and opened().out_of_time
    study.clock(3.0)
    assert study.elapsed == 60.5  # never backwards
    before = (tmp_path / "s" / "journal.jsonl").read_text()
    study.clock(61.0)
    assert (tmp_path / "s" / "journal.jsonl").read_text() == before


def damage(folder, change):
    """Change the lines of a study's journal."""
    journal = folder / "journal.jsonl"
    journal.write_bytes(b"".join(change(journal.read_bytes().splitlines(keepends=True))))


def test_a_flipped_byte_in_any_line_stops_a_study_and_is_repaired_up_to_it(meta, tmp_path):
    study, folder = make(meta, folder=tmp_path / "s", budget=60), tmp_path / "s"
    for i in range(6):
        study.tell(study.ask(Fixed(Step(i, 0, 9))), [0.1 * e for e in range(1, 10)])
    assert (study.spent, len((folder / "journal.jsonl").read_text().splitlines())) == (54, 60)
    data = (folder / "journal.jsonl").read_bytes()
    study.close()
    for k in range(60):
        for old in folder.glob("journal.damaged*"):
            old.unlink()
        as_killed(folder, data)
        damage(
            folder,
            lambda lines, k=k: [
                *lines[:k],
                lines[k][: 7 * k % 60]
                + bytes([lines[k][7 * k % 60] ^ 1])
                + lines[k][7 * k % 60 + 1 :],
                *lines[k + 1 :],
            ],
        )
        bad = (folder / "journal.jsonl").read_bytes()
        for way in (Study.load, lambda folder: make(meta, folder=folder, budget=60)):
            with pytest.raises(BadInput, match=rf"journal.jsonl, line {k + 1}, is damaged"):
                way(folder)
        done = repair(folder)
        assert (done.kept, done.cut) == (k, 60 - k) and done.journal.read_bytes() == bad
        # each trial is one line of asking and nine of telling
        assert Study.load(folder).spent == k - -(-k // 10)
        assert repair(folder) is None


OLD = [
    {"event": "config", "config": "new"},
    {"event": "ask", "config_id": 6, "start": 0, "stop": 3, "because": {}, "seconds": 0.1},
    {"event": "epoch", "config_id": 6, "row": {"epoch": 1, "score": 0.5}, "elapsed": None},
    {"event": "epoch", "config_id": 6, "row": {"epoch": 2, "score": 0.6}, "elapsed": None},
    {"event": "epoch", "config_id": 6, "row": {"epoch": 3, "score": 0.7}, "elapsed": None},
    {"event": "fail", "config_id": 0, "epoch": 1, "reason": "x"},
]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda e: e, None),
        (lambda e: [*e, e[5]], None),  # failing twice was recorded once, and is harmless
        (lambda e: [e[0], *e], 2),
        (lambda e: [*e[:2], *e[3:]], 3),
        (lambda e: [*e[:3], *e[2:]], 4),
        (lambda e: [*e[:2], e[3], e[2], e[4]], 3),
        (lambda e: e[1:], 1),
        (lambda e: [*e, {**e[2], "row": {"epoch": 10, "score": 1.0}}], 7),
        (lambda e: [*e, {**e[2], "config_id": 0}], 7),
        (lambda e: [*e[:1], {**e[1], "stop": 10}, *e[2:]], 2),
        (lambda e: [*e[:1], {**e[1], "stop": 2}, *e[2:4], e[3]], 5),
        (lambda e: [{"event": "budget", "budget": 2, "seconds": None}, *e], 3),
        (lambda e: [*e, {"event": "budget", "budget": 0, "seconds": None}], 7),
        (lambda e: [*e, {"event": "spech", "config_id": 6}], 7),
        (lambda e: [*e, {"event": "release", "config_id": -1}], 7),
        (lambda e: [*e[:2], {**e[2], "row": {"epoch": 1, "score": "0.5"}}], 3),
        (lambda e: [*e[:2], {**e[2], "row": {"epoch": 1}}], 3),
    ],
)
def test_an_old_journal_is_read_if_it_could_have_been_told_so(meta, tmp_path, change, line):
    """Without checksums, what asking, telling and proposing refuse is refused in reading."""
    make(meta, folder=tmp_path / "s", open=True)
    events = [dict(event) for event in OLD]
    events[0]["config"] = {**meta.configs[0], "learning_rate": 0.0123}
    text = "".join(json.dumps(event) + "\n" for event in change(events))
    (tmp_path / "s" / "journal.jsonl").write_text(text)
    if line is not None:
        with pytest.raises(BadInput, match=f"journal.jsonl, line {line}, is damaged"):
            Study.load(tmp_path / "s")
        assert repair(tmp_path / "s").kept == line - 1
        return
    study = Study.load(tmp_path / "s")
    assert study.incumbent == (6, 3, 0.7) and study.spent == 4 and study.failed[0]
    study.tell(study.ask(Fixed(Step(6, 3, 4))), [0.8])
    study.close()
    assert state(Study.load(tmp_path / "s")) == state(study)


HOLD = """
import sys
from foretune.study.study import Study
from foretune.errors import BadInput
kind, folder = sys.argv[1:]
try:
    study = Study.load(folder)
    if kind == "write":
        study.note(test_accuracy=0.5)
    if kind == "open":
        Study(study.space, study.configs, study.plan, folder=folder)
    print("ok", study.spent)
except BadInput as error:
    print(error)
"""


def in_another_process(kind, folder):
    """What another process says that loads a study, and writes to it or opens it."""
    done = subprocess.run(
        [sys.executable, "-c", HOLD, kind, str(folder)], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("end", ["close", "with", "collected"])
def test_a_folder_is_one_processs_until_its_study_ends(meta, tmp_path, end):
    folder = tmp_path / "s"
    study = make(meta, folder=folder)
    study.tell(study.ask(Fixed(Step(0, 0, 1))), [0.5])
    assert Study.load(folder).spent == 1  # this process may
    refused = "study 's' is being run by another process"
    assert in_another_process("open", folder).startswith(refused)
    assert in_another_process("write", folder).startswith(refused)
    assert in_another_process("read", folder) == "ok 1\n"
    if end == "close":
        study.close()
    elif end == "with":
        with study:
            pass
    else:
        del study
        gc.collect()
    assert in_another_process("write", folder) == "ok 1\n"


def test_a_study_that_went_on_without_it_cannot_be_told(meta, tmp_path):
    study = make(meta, folder=tmp_path / "s")
    study.close()
    study.note(test_accuracy=0.25)  # takes the folder again
    assert in_another_process("write", tmp_path / "s").startswith("study 's' is being run")
    study.close()
    assert study.current
    in_another_process("write", tmp_path / "s")
    before = state(study)
    with pytest.raises(BadInput, match=r"written to by somebody else .* Study\.load"):
        study.note(test_accuracy=0.75)
    assert state(study) == before and not study.current
    assert Study.load(tmp_path / "s").plan.notes.test_accuracy == 0.5


def test_a_refused_folder_is_let_go(meta, tmp_path):
    make(meta, folder=tmp_path / "s").close()
    with pytest.raises(BadInput, match="seed 0, now 3"):
        make(meta, folder=tmp_path / "s", seed=3)
    assert in_another_process("open", tmp_path / "s") == "ok 0\n"


def test_tables_of_a_study_that_went_on_elsewhere_are_left_alone(meta, tmp_path):
    """A process whose journal somebody else has written to knows less than what stands there."""
    study = make(meta, folder=tmp_path / "s")
    study.tell(study.ask(Fixed(Step(4, 0, 1))), [0.5])
    study.save_tables()
    before = (tmp_path / "s" / "curves.parquet").read_bytes()
    with open(tmp_path / "s" / "journal.jsonl", "ab") as stream:
        stream.write(b"more")
    study.rows[4][0]["score"] = 0.9
    study.save_tables()
    assert (tmp_path / "s" / "curves.parquet").read_bytes() == before


def test_equal_configurations_of_a_pool_are_one(meta, tmp_path):
    """Whatever type their numbers have; the first of them counts."""
    pool = [dict(c) for c in meta.configs[:3]]
    again = {k: float(v) if isinstance(v, int) else v for k, v in pool[1].items()}
    plan = Plan("t", "score", "maximize", 3, 9)
    with Study(meta.space, [*pool[:2], again, pool[2], pool[0]], plan, folder=tmp_path / "s") as s:
        assert s.configs == pool
    with Study(meta.space, [*pool, again], plan, folder=tmp_path / "s") as s:
        assert s.configs == pool
    header = json.loads((tmp_path / "s" / "study.json").read_text(encoding="utf-8"))
    header["configs"].append(pool[0])
    (tmp_path / "s" / "study.json").write_text(json.dumps(header), encoding="utf-8")
    with pytest.raises(BadInput, match="equal configurations, which older versions told apart"):
        Study.load(tmp_path / "s")


@pytest.mark.parametrize("pool", [None, "pool", 3])
def test_what_is_no_pool_is_refused(meta, pool):
    with pytest.raises(BadInput, match="the pool must be a list of configurations"):
        Study(meta.space, pool, Plan("t", "score", "maximize", 3, 9))


def test_a_task_whose_name_no_file_can_hold_is_refused():
    with pytest.raises(BadInput, match="the task has .*, which is no text"):
        Plan("\ud800", "score", "maximize", 3, 9)


def test_a_file_is_no_folder_of_a_study(meta, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    plan = Plan("t", "score", "maximize", 3, 9)
    with pytest.raises(BadInput, match="is a file: give a folder"):
        Study(meta.space, meta.configs, plan, folder=tmp_path / "file")
    with pytest.raises(BadInput, match="can hold no study: File name too long"):
        Study(meta.space, meta.configs, plan, folder=tmp_path / ("n" * 300))
