"""Algorithm 1 on synthetic responses, and the searcher on a study of them."""

import math

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer

from foretune.errors import BadInput
from foretune.searchers.autohyper import AutoHyper, Rules, clipped, decide, narrowed, near, search
from foretune.searchers.registry import searcher
from foretune.space.space import Space
from foretune.study.study import Plan, Study


def falling(middle, power=2.0, floor=0.0, layers=40):
    """Z of a network whose layers begin to learn around the rate `middle`."""
    return lambda rate: (
        round((floor + (1 - floor) / (1 + (rate / middle) ** power)) * layers) / layers
    )


@pytest.mark.parametrize("variant", ["paper", "published"])
@pytest.mark.parametrize("middle", [1e-4, 3e-4, 3e-3, 3e-2])
def test_finds_where_the_response_begins_to_be_flat(middle, variant):
    decision = search(falling(middle), Rules(variant=variant))
    assert decision.converged
    assert middle < decision.chosen < 6 * middle  # Z from 0.5 down to 0.03
    assert len(decision.trained) <= 35
    assert decision.spread > 0.4


def test_first_steps_follow_the_algorithm():
    rules = Rules()
    grid = np.geomspace(1e-4, 0.1, 20)
    assert decide({}).rate == pytest.approx(1e-4)
    # nothing learned: low times 5
    assert decide({1e-4: 1.0}).rate == pytest.approx(5e-4)
    assert decide({1e-4: 1.0, 5e-4: 0.9}).rate == pytest.approx(np.geomspace(5e-4, 0.1, 20)[1])
    # the first rate is too large: low / 10, once
    low = decide({1e-4: 0.4})
    assert low.rate == pytest.approx(1e-5) and low.grids[1] == (1e-5, 0.1)
    assert decide({1e-4: 0.4, 1e-5: 0.4}).rate == pytest.approx(np.geomspace(1e-5, 0.1, 20)[1])
    # plateau: 0.9 * 0.05 * 0.05 to the power 0.8 is 0.0076, and with another 0.05 it is 0.0007 <
    # 0.005
    seen = {float(grid[0]): 0.9, float(grid[1]): 0.05, float(grid[2]): 0.05}
    assert decide(seen).rate == pytest.approx(grid[3])
    zoom = decide(seen | {float(grid[3]): 0.05})
    assert zoom.grids[1] == pytest.approx((grid[2], grid[3]))
    # its first rate has been trained
    assert zoom.rate == pytest.approx(np.geomspace(grid[2], grid[3], 20)[1])
    published = decide(seen | {float(grid[3]): 0.05}, Rules(variant="published"))
    assert published.grids[1] == pytest.approx((grid[1], grid[3]))
    # everything learned
    seen = {float(grid[k]): 0.9 for k in range(4)} | {float(grid[4]): 0.0}
    assert decide(seen).grids[1] == pytest.approx((grid[2], grid[4]))
    assert decide(seen, Rules(variant="published")).grids[1] == pytest.approx((grid[2], grid[3]))
    # a trial that diverges is like one that learned everything
    assert decide({**seen, float(grid[4]): math.nan}) == decide(seen)
    # no plateau in the whole grid
    seen = {float(r): 0.99 for r in grid}
    assert decide(seen, rules).grids[1] == pytest.approx((0.1, 1.0))
    assert decide(seen, Rules(variant="published")).grids[1] == pytest.approx((grid[18], 0.15))


@pytest.mark.parametrize(
    ("response", "converged", "most"),
    [
        (lambda r: 1.0, False, 10),
        (lambda r: 0.0, True, 3),
        (lambda r: math.nan, True, 3),
        (lambda r: 0.6, True, 40),
        (lambda r: 0.97, False, 40),
        (lambda r: 1.0 if r < 0.003 else math.nan, True, 40),
        (lambda r: float(np.random.default_rng(int(r * 1e9)).random()), True, 40),
    ],
)
@pytest.mark.parametrize("variant", ["paper", "published"])
def test_always_ends(response, converged, most, variant):
    decision = search(response, Rules(variant=variant))
    assert decision.rate is None
    assert decision.converged is converged
    assert 0 < decision.chosen <= 10
    assert len(decision.trained) <= most


def test_a_response_that_does_not_move_is_seen_by_its_spread():
    assert search(lambda r: 0.6).spread == 0
    assert search(falling(3e-3)).spread == pytest.approx(0.875)


def test_resumes_at_every_point_and_ignores_the_order_of_trials():
    response = falling(2e-3, 1.5)
    whole = search(response)
    for cut in range(len(whole.trained)):
        part = {r: response(r) for r in whole.trained[:cut]}
        assert decide(part).rate == pytest.approx(whole.trained[cut])
        assert decide(dict(reversed(part.items()))) == decide(part)
    # rates that somebody else trained are taken as they are
    assert decide({r: response(r) for r in np.geomspace(1e-4, 0.1, 20)}).rate not in np.geomspace(
        1e-4, 0.1, 20
    )


def test_nonsense_is_refused():
    for bad in ({"low": 0.1, "high": 0.01}, {"trials": 0}, {"variant": "mine"}, {"plateau": 2.0}):
        with pytest.raises(BadInput):
            Rules(**bad)
    with pytest.raises(BadInput, match="share"):
        decide({1e-4: 1.5})
    with pytest.raises(BadInput, match="speed"):
        searcher("autohyper", speed=3)
    with pytest.raises(BadInput, match="low=1 must be above 0 and below high=0.1"):
        searcher("autohyper", low=1.0)


def a_study(**changes):
    space = ConfigurationSpace()
    space.add(
        Float("learning_rate", (1e-7, 10), log=True, default=1e-3),
        Categorical("optimizer", ["sgd", "adam"], default="adam"),
    )
    plan = {
        "metric": "accuracy",
        "goal": "maximize",
        "max_epoch": 12,
        "budget": 400,
        "open": True,
        **changes,
    }
    return Study(Space(space), [{"learning_rate": 0.01, "optimizer": "adam"}], Plan("t", **plan))


def run(study, searcher, response, steps=1000):
    """Train as asked: rows with Z; accuracy best near the middle; rates above 0.5 diverge."""
    taken = []
    while steps and (step := study.ask(searcher)):
        rate = study.configs[step.config_id]["learning_rate"]
        rows = [
            {
                "epoch": e,
                "accuracy": math.nan if rate > 0.5 else 1 - abs(math.log10(rate) + 2) / 10,
                "zero_share": response(rate),
            }
            for e in range(step.start + 1, step.stop + 1)
        ]
        study.tell(step, rows)
        taken.append((rate, step.start, step.stop))
        steps -= 1
    return taken


def test_searcher_walks_as_the_algorithm_does_and_trains_the_choice_to_the_end():
    response = falling(3e-3)
    study = a_study()
    taken = run(study, AutoHyper(), response)
    alone = search(response)
    assert [r for r, _, _ in taken[:-1]] == pytest.approx(list(alone.trained))
    assert {(a, b) for _, a, b in taken[:-1]} == {(0, 5)}
    rate, start, stop = taken[-1]
    assert rate == pytest.approx(alone.chosen) and stop == 12
    assert start == (5 if any(rate == pytest.approx(r) for r in alone.trained) else 0)
    assert study.configs[AutoHyper().recommend(study)]["learning_rate"] == pytest.approx(
        alone.chosen
    )


def test_searcher_is_a_function_of_the_history():
    response = falling(3e-3)
    through = run(a_study(), AutoHyper(), response)
    study = a_study()
    taken = [run(study, AutoHyper(), response, steps=1) for _ in through]
    assert [t for one in taken for t in one] == through


def test_searcher_takes_divergence_for_too_large_a_rate():
    study = a_study()
    taken = run(study, AutoHyper(low=0.01, high=5.0), falling(0.2))
    assert study.failed.any()
    assert 0.1 < taken[-1][0] <= 0.5


def test_searcher_says_what_it_needs():
    with pytest.raises(BadInput, match="open"):
        a_study(open=False).ask(AutoHyper())
    with pytest.raises(BadInput, match="no_such"):
        a_study().ask(AutoHyper(parameter="no_such"))
    study = a_study()
    step = study.ask(AutoHyper())
    study.tell(step, [0.5] * 5)
    with pytest.raises(BadInput, match="zero_share"):
        study.ask(AutoHyper())


def test_narrowing_a_space_keeps_everything_else():
    space = ConfigurationSpace()
    optimizer = Categorical("optimizer", ["sgd", "adam"])
    momentum = Float("momentum", (0.5, 0.99))
    space.add(
        Float("learning_rate", (1e-4, 0.1), log=True, default=1e-4),
        optimizer,
        momentum,
        Integer("batch_size", (16, 64)),
    )
    space.add(EqualsCondition(momentum, optimizer, "sgd"))
    small = narrowed(Space(space), 0.03, factor=5)
    rate = small.config_space["learning_rate"]
    assert (rate.lower, rate.upper, rate.log) == (pytest.approx(0.006), pytest.approx(0.1), True)
    assert small.conditional == ["momentum"] and small.names == Space(space).names
    drawn = small.sample(50, np.random.default_rng(0))
    assert all(0.006 <= c["learning_rate"] <= 0.1 for c in drawn)
    with pytest.raises(BadInput, match="nothing within"):
        narrowed(Space(space), 5.0, factor=5)
    with pytest.raises(BadInput, match="no number"):
        narrowed(Space(space), 0.01, parameter="optimizer")
    pool = [{"learning_rate": r} for r in (1e-4, 1e-3, 0.01, 0.1)] + [{"other": 1}]
    assert near(pool, 0.01) == [*pool[1:4], pool[4]]


def narrow(lower, upper):
    """An open study of a learning rate from `lower` to `upper`."""
    space = ConfigurationSpace()
    space.add(Float("learning_rate", (lower, upper), log=True))
    return Study(
        Space(space),
        [],
        Plan("t", metric="accuracy", goal="maximize", max_epoch=12, budget=400, open=True),
    )


def test_a_walk_that_would_leave_the_space_ends_at_its_end():
    study = a_study()
    assert study.space.config_space["learning_rate"].upper == 10
    study = narrow(1e-4, 0.02)
    taken = run(study, AutoHyper(), lambda rate: 0.9)  # no plateau up to 0.02
    assert max(rate for rate, _, _ in taken) == pytest.approx(0.02) and taken[-1][2] == 12
    decision = AutoHyper().decision(study)
    assert decision.chosen == 0.02 and not decision.converged and "ends at 0.02" in decision.why


@pytest.mark.parametrize(
    ("lower", "upper", "first"),
    [
        (1e-3, 0.1, 1e-3),
        (1e-3, 1.0, 1e-3),
        (5e-5, 0.03, 1e-4),
        (0.2, 2.0, 0.2),
        (1e-6, 5e-5, 1e-6),
        (1e-9, 5e-5, 5e-8),
    ],
)
def test_the_walk_begins_within_the_space(lower, upper, first):
    """It used to end before the first trial where 1e-4 is not in the space."""
    study, middle = (
        narrow(lower, upper),
        (max(lower, 1e-4 if upper > 1e-4 else upper / 100) * upper) ** 0.5 / 2,
    )
    taken = run(study, AutoHyper(), falling(middle))
    assert taken[0][0] == pytest.approx(first) and all(
        lower <= rate <= upper for rate, _, _ in taken
    )
    decision = AutoHyper().decision(study)
    assert decision.converged and middle < decision.chosen < 6 * middle


def test_a_bound_is_the_end_only_once_it_has_been_trained():
    study = narrow(5e-5, 1.0)
    # the first rate is too large: low / 10 is outside
    taken = run(study, AutoHyper(), lambda rate: 0.4)
    assert [(rate, stop) for rate, _, stop in taken] == [
        (pytest.approx(1e-4), 5),
        (5e-5, 5),
        (5e-5, 12),
    ]
    decision = AutoHyper().decision(study)
    assert (decision.chosen, decision.converged, decision.why) == (
        5e-5,
        False,
        "the space ends at 5e-05",
    )
    study = narrow(1e-3, 0.1)
    assert [rate for rate, _, _ in run(study, AutoHyper(), lambda rate: 0.4)] == pytest.approx(
        [1e-3, 1e-3]
    )
    study = narrow(1e-4, 0.3)
    # no plateau: the grid after 0.1 leaves the space
    taken = run(study, AutoHyper(), lambda rate: 0.99)
    assert taken[-2] == (0.3, 0, 5) and taken[-1] == (0.3, 5, 12)


@pytest.mark.parametrize("bounds", [(1e-4, 0.1), (1e-7, 10), (1e-9, 100)])
def test_a_space_that_holds_the_first_grid_changes_nothing(bounds):
    assert clipped(Rules(), *bounds) == Rules()
    response = falling(3e-3)
    taken = run(narrow(*bounds), AutoHyper(finish=False), response)
    assert [rate for rate, _, _ in taken] == pytest.approx(list(search(response).trained))
