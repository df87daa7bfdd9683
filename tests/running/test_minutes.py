"""Budgets of time on a clock of our own, with trials of known cost."""

import pytest
import toy

from foretune.running.runner import run_study
from foretune.running.tuning import search_seconds
from foretune.running.workers import Ended, InProcess, Row
from foretune.searchers.registry import searcher
from foretune.space.space import Space
from foretune.study.outcome import Outcome
from foretune.study.pace import Costs
from foretune.study.study import Plan, Study

SPACE = Space({**toy.DESCRIBED, "hyperparameters": [toy.X]})


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


class Simulated:
    """Workers whose epochs take `cost(config)` seconds of the clock; starting one takes `start`."""

    def __init__(self, clock, cost, count=2, start=5.0):
        self.clock, self.cost, self.count, self.start = clock, cost, count, start
        self.busy, self.broken_off, self.began = [], [], 0

    @property
    def free(self):
        return self.count - len(self.busy)

    def submit(self, step, config):
        self.began += 1
        wait = self.start if self.began <= self.count else 0.0
        self.busy.append([self.clock.now + wait + self.cost(config), step, step.start, config])

    def events(self, timeout):
        ends = min(self.busy, key=lambda one: one[0])
        if ends[0] > self.clock.now + timeout:
            self.clock.now += timeout
            return []
        self.clock.now = max(self.clock.now, ends[0])
        _, step, epoch, config = ends
        ends[0], ends[2] = self.clock.now + self.cost(config), epoch + 1
        value = config["x"] * (1 - 0.5 ** (epoch + 1))
        out = [Row(step, {"epoch": epoch + 1, "score": value, "seconds": self.cost(config)})]
        if epoch + 1 == step.stop:
            self.busy.remove(ends)
            out.append(Ended(step, Outcome([])))
        return out

    def close(self):
        self.broken_off = [one[1] for one in self.busy]


def pool(n=12):
    return [{"x": (k + 1) / n} for k in range(n)]


def run(seconds, cost, expected=None, folder=None, method="random", clock=None, **costs):
    """A study of `seconds` on two simulated workers, run to its end."""
    clock = clock or Clock()
    plan = Plan("t", "score", "maximize", 9, None, seconds=seconds)
    study = Study(SPACE, pool(), plan, folder=folder)
    study.costs = Costs(expected, early=lambda c: 0, **costs)
    workers = Simulated(clock, cost)
    run_study(study, searcher(method), workers, every=0.5, clock=clock)
    return study, workers, clock


@pytest.mark.parametrize("method", ["random", "freeze-thaw", "asha"])
@pytest.mark.parametrize("seconds", [60.0, 120.0, 180.0])
@pytest.mark.parametrize("wrong", [0.2, 1.0, 5.0])
def test_the_search_ends_in_time_however_wrong_the_estimate(seconds, wrong, method):
    """An epoch takes 3 seconds, and was expected to take another time; 10 seconds are kept back."""
    study, _, clock = run(
        seconds, lambda c: 3.0, lambda c: (3.0 * wrong, 3.0 * wrong), method=method, fixed=10.0
    )
    assert study.concluded or study.spent == 9 * 12
    assert clock.now <= seconds - 10.0 + 0.5
    # two workers that start within 5 seconds have room for so many; the last of each may be lost
    room = 2 * int((seconds - 15.0) / 3.0)
    assert min(room, 9 * 12) - 4 <= study.spent <= room + 2


def test_what_the_end_needs_grows_with_the_machine():
    """The test of the best network is expected to take 4 seconds; all takes three times as long."""
    _, _, clock = run(100.0, lambda c: 3.0, lambda c: (1.0, 1.0), after=4.0)
    assert clock.now == pytest.approx(100.0 - 3 * 4.0, abs=2.5)


@pytest.mark.parametrize("method", ["random", "freeze-thaw", "asha"])
@pytest.mark.parametrize("times", [1.0, 4.0])
@pytest.mark.parametrize("wrong", [0.2, 1.0, 5.0])
def test_the_final_training_of_the_best_trial_ends_in_time(wrong, times, method):
    """Its epochs take `times` those of the search, of 2 or, the best ones, of 6 seconds."""
    cost = lambda c: 6.0 if c["x"] > 0.7 else 2.0  # noqa: E731
    study, _, clock = run(
        150.0,
        cost,
        lambda c: (wrong * cost(c), wrong * cost(c)),
        method=method,
        fixed=10.0,
        final=lambda c: (times, times),
    )
    i, epoch, _ = study.incumbent
    each = times * cost(study.configs[i])
    # an epoch under way may end as the best one, with one more to be trained at the end
    assert clock.now + 10.0 + each * (epoch - 1) <= 150.0
    # and no time is left in which another could have become the best one and be trained
    dear = [times * (study.epoch[k] + 1) * cost(study.configs[k]) for k in range(12)]
    assert clock.now + 10.0 + max(*dear, each * epoch) >= 150.0 * 0.8 or not study._trainable.any()


def test_where_no_final_training_fits_the_search_has_the_time():
    study, _, clock = run(
        100.0, lambda c: 3.0, lambda c: (3.0, 3.0), final=lambda c: (100.0, 100.0), fixed=10.0
    )
    assert study.final_seconds == 0 and 85 <= clock.now <= 90.5


def test_the_time_before_the_search_counts():
    study, _, clock = run(60.0, lambda c: 2.0, clock=Clock(30.0))
    assert clock.now <= 60.5 and study.spent <= 2 * 15


def test_an_epoch_that_cannot_end_is_not_waited_for():
    """40 seconds an epoch: two fit, and 25 seconds later a third has no hope."""
    study, workers, clock = run(100.0, lambda c: 40.0, lambda c: (40.0, 40.0))
    assert study.spent == 4 and clock.now < 90.0 and len(workers.broken_off) <= 2


def test_no_step_is_begun_of_which_no_epoch_would_end():
    """What costs 300 seconds is never begun in a study of 100, once costs are known."""
    dear = lambda c: 300.0 if c["x"] > 0.9 else 2.0  # noqa: E731
    study, _, clock = run(100.0, dear, lambda c: (dear(c), dear(c)), method="random")
    begun = {s["config_id"]: s["elapsed"] for s in study.steps}
    late = [i for i in begun if study.configs[i]["x"] > 0.9 and begun[i] > 10.0]
    assert late == [] and clock.now <= 100.5


def test_random_search_is_compared_for_as_long_as_the_search_took():
    """From the first decision, after 30 seconds of preparation, to the last epoch told."""
    study, _, clock = run(100.0, lambda c: 2.0, clock=Clock(30.0))
    assert search_seconds(study) == pytest.approx(clock.now - 30.0, abs=3.0)


def test_a_study_goes_on_with_the_time_that_it_has_left(tmp_path):
    class Stop(Exception):
        pass

    clock = Clock()
    plan = Plan("t", "score", "maximize", 9, None, seconds=100.0)

    def stop_at_40(study):
        if clock.now > 40:
            raise Stop

    with Study(SPACE, pool(), plan, folder=tmp_path) as study:
        study.costs = Costs(lambda c: (2.0, 2.0), early=lambda c: 0)
        workers = Simulated(clock, lambda c: 2.0)
        with pytest.raises(Stop):
            run_study(study, searcher("random"), workers, clock=clock, on_change=stop_at_40)
    again = Study(SPACE, pool(), plan, folder=tmp_path)
    assert 38 < again.elapsed <= 41 and not again.done
    later = Clock(again.elapsed)
    again.costs = Costs(lambda c: (2.0, 2.0), early=lambda c: 0)
    run_study(again, searcher("random"), Simulated(later, lambda c: 2.0), clock=later)
    assert later.now <= 100.5 and again.concluded
    spent = again.spent
    done = Clock(again.elapsed)
    run_study(again, searcher("random"), Simulated(done, lambda c: 2.0), clock=done)
    assert again.spent == spent  # what is used is used
    again.raise_budget(None, 130.0)
    run_study(again, searcher("random"), Simulated(done, lambda c: 2.0), clock=done)
    assert again.spent > spent and done.now <= 130.5


def test_a_step_in_this_process_is_cut_to_end_in_time():
    """Nothing can break it off: its epochs are counted beforehand."""
    clock = Clock()

    class Objective:
        def run(self, config_id, config, start, stop, on_epoch=None):
            for epoch in range(start + 1, stop + 1):
                clock.now += 7.0
                on_epoch({"epoch": epoch, "score": config["x"], "seconds": 7.0})
            return Outcome([])

    plan = Plan("t", "score", "maximize", 9, None, seconds=100.0)
    study = Study(SPACE, pool(), plan)
    study.costs = Costs(lambda c: (7.0, 7.0), early=lambda c: 0)
    run_study(study, searcher("random"), InProcess(Objective()), clock=clock)
    assert 70 <= clock.now <= 100


def test_cheap_configurations_are_tried_more_in_time_than_in_epochs():
    """Freeze-thaw divides what an epoch promises by what it costs."""
    cost = lambda c: 8.0 if c["x"] > 0.5 else 1.0  # noqa: E731
    timed, _, _ = run(200.0, cost, lambda c: (cost(c), cost(c)), method="freeze-thaw")
    plan = Plan("t", "score", "maximize", 9, timed.spent)
    by_epochs = Study(SPACE, pool(), plan)
    run_study(by_epochs, searcher("freeze-thaw"), Simulated(Clock(), cost), clock=Clock())

    def cheap(study):
        return sum(study.epoch[i] for i in range(12) if study.configs[i]["x"] <= 0.5) / study.spent

    assert cheap(timed) > cheap(by_epochs)
