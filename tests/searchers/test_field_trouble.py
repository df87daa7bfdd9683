"""The gray-box field under trouble that the contract's tests do not make: units, budgets below a
step, huge pools, and models that must decide.

Constant curves, curves that diverge, one configuration and identical ones are in
`test_contract.py`, for every method.
"""

import time

import numpy as np
import pytest
from synthetic import synthetic_space

from foretune.evaluation.replay import replay_study
from foretune.searchers.registry import searcher
from foretune.study.study import Plan, Step, Study

OPTIONS = {
    "dyhpo": {"refit_steps": 5, "first_steps": 20},
    "dyhpo+": {"refit_steps": 5, "first_steps": 20},
    "dpl": {"steps": 30},
}  # quick fits
FIELD = (
    "random",
    "hyperband",
    "asha",
    "bohb",
    "hyperband-gp",
    "dehb",
    "boca",
    "freeze-thaw",
    "dpl",
    "dyhpo",
    "dyhpo+",
)
# every decision after the first few is the model's
MODELS = ("boca", "freeze-thaw", "dpl", "dyhpo", "dyhpo+")


@pytest.fixture(params=FIELD)
def name(request):
    """Each method of the field."""
    return request.param


def make(name, **more):
    return searcher(name, **OPTIONS.get(name, {}) | more)


def rising(n=24, epochs=9):
    """Curves with a best region at two thirds of the line."""
    x = np.linspace(0, 1, n)
    top = 0.9 - (x - 0.66) ** 2
    return (top[:, None] * (1 - np.exp(-0.5 * np.arange(1, epochs + 1))))[None]


def run(study, objective, chosen):
    while step := study.ask(chosen):
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
    return study


def test_the_unit_of_the_metric_does_not_matter(name, table):
    """Shares, or hundreds to a thousand: a power of two, since fits amplify differences in the last
    digit.
    """
    factor = 1024.0
    orders = []
    for by in (1.0, factor):
        study, objective = replay_study(table(rising() * by), "t0", budget=30, method=name)
        orders.append(run(study, objective, make(name)).order)
    assert orders[0] == orders[1]


@pytest.mark.parametrize("budget", [1, 2])
def test_a_budget_below_one_step(name, table, budget):
    study, objective = replay_study(table(rising()), "t0", budget=budget, method=name)
    more = {"epochs": 5} if name in ("dyhpo", "dyhpo+", "dpl") else {}
    assert run(study, objective, make(name, **more)).spent == budget


@pytest.fixture(scope="module")
def huge():
    """Ten thousand configurations with their encoding."""
    space = synthetic_space()
    return space, space.sample(10_000, np.random.default_rng(0))


def test_ten_thousand_candidates(name, huge):
    """Eight decisions after thirty observations; the best by far is near what was seen to be
    good.
    """
    space, configs = huge
    plan = Plan(task="t", metric="accuracy", goal="maximize", max_epoch=9, budget=1000, method=name)
    study, chosen = Study(space, configs, plan), make(name)
    took = []
    for _ in range(30):
        began = time.process_time()
        step = study.ask(chosen)
        took.append(time.process_time() - began)
        study.tell(
            step,
            [1 / (1 + abs(np.log10(configs[step.config_id]["learning_rate"]) + 2))] * step.epochs,
        )
    assert np.median(took) < 1.0


@pytest.mark.parametrize("name", MODELS)
def test_the_model_decides_and_not_chance(name, table):
    """With a history that tells much, two random states suggest the same."""
    values = rising()
    study, _ = replay_study(table(values), "t0", budget=500, method=name)
    for i in range(0, 24, 2):
        study.tell(Step(i, 0, 2), values[0, i, :2].tolist())
    suggested = {
        make(name).suggest(study, np.random.default_rng(seed)).config_id for seed in range(3)
    }
    assert len(suggested) == 1


def troubles():
    """Curves (1, n, epochs) that tell nothing, too little or mislead, by name."""
    constant = np.full((1, 8, 5), 0.7)
    diverging = rising(8, 5)
    diverging[:, ::2, 2:] = np.nan
    hopeless = np.full((1, 8, 5), np.nan)
    sizes = rising(8, 5)
    sizes[:, 3] *= -1e34
    return {
        "constant": constant,
        "diverging": diverging,
        "all NaN": hopeless,
        "sizes": sizes,
        "one": rising(1, 5),
    }


@pytest.mark.parametrize("trouble", [*troubles(), "identical"])
@pytest.mark.parametrize("name", ["dyhpo", "dyhpo+"])
def test_under_trouble_the_model_goes_on_deciding(name, trouble, table):
    """After the first configuration each step is the largest expected improvement, of finite
    predictions; none falls back to chance.
    """
    meta = table(troubles().get(trouble, rising(8, 5)))
    if trouble == "identical":
        meta.configs[:] = [dict(meta.configs[0]) for _ in meta.configs]
    study, objective = replay_study(meta, "t0", budget=25, method=name)
    chosen = make(name)
    while step := study.ask(chosen):
        if study.order:
            assert step.because["why"].startswith("largest expected improvement")
            utility, mean, deviation, _ = chosen.utility(study, chosen.surrogate(study))
            free = np.flatnonzero(study.available | (study.pending > 0))
            assert (
                np.isfinite(utility[free]).all()
                and np.isfinite(mean).all()
                and np.isfinite(deviation).all()
            )
        done = objective.run(step.config_id, study.configs[step.config_id], step.start, step.stop)
        study.tell(step, done.rows)
        if done.failed:
            study.fail(step, int(study.epoch[step.config_id]) + 1, done.failed)
    assert study.done
