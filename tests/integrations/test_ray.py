"""The searcher of Ray Tune with a past: its interface, and a real Tuner."""

import math
import os
import sys

import pytest
from run_world import past_runs, score
from stores import store_of

from foretune.errors import BadInput

tune = pytest.importorskip("ray.tune")
from foretune.integrations.ray import Searcher, axes_of  # noqa: E402

STORE = store_of(past_runs().to_dict("records"))
SPACE = {
    "lr": tune.loguniform(1e-6, 1.0),
    "batch_size": tune.choice([16, 32, (64, 64)]),
    "head": {"layers": tune.randint(1, 4), "width": tune.qrandint(8, 32, 8)},
    "fixed": 3,
}


@pytest.fixture(scope="module")
def learned():
    return Searcher(STORE)


@pytest.fixture
def searcher(learned):
    """A searcher that was asked nothing yet."""
    learned._configs, learned._values, learned.why = {}, {}, {}
    assert learned.set_search_properties("acc", "max", SPACE)
    return learned


def rate(config):
    return math.log10(config["lr"])


@pytest.mark.parametrize("mode", ["max", "min"])
def test_it_begins_where_past_runs_were_best_and_learns(searcher, mode):
    """The best rate of past runs is 10^-2.5; here it is 10^-4, as results say in the end."""
    sign = 1 if mode == "max" else -1
    searcher.set_search_properties("acc", mode, SPACE)
    configs = []
    for k in range(12):
        config = searcher.suggest(f"t{k}")
        configs.append(config)
        value = sign * score({"learning_rate": config["lr"]}, best=-4)
        searcher.on_trial_complete(f"t{k}", {"acc": value})
    assert abs(rate(configs[0]) + 2.5) < 1 and "past runs" in searcher.why["t0"]
    assert min(abs(rate(config) + 4) for config in configs) < 0.5
    for config in configs:
        assert config["head"]["layers"] in (1, 2, 3) and config["head"]["width"] in (8, 16, 24, 32)
        assert config["batch_size"] in (16, 32, (64, 64)) and "fixed" not in config


def test_parallel_and_failed_trials(searcher):
    running = [searcher.suggest(f"t{k}") for k in range(3)]
    assert len({repr(config) for config in running}) == 3
    searcher.on_trial_complete("t0", error=True)
    searcher.on_trial_complete("t1", {"acc": math.nan})
    searcher.on_trial_complete("t2", {"acc": 0.5})
    assert repr(searcher.suggest("t3")) not in map(repr, running)


def test_saved_and_restored_it_goes_on_alike(searcher, learned, tmp_path):
    for k in range(3):
        searcher.suggest(f"t{k}")
        if k:
            searcher.on_trial_complete(f"t{k}", {"acc": 0.1 * k if k < 2 else math.nan})
    searcher.save(str(tmp_path / "state.json"))
    following = searcher.suggest("t3")
    learned._configs, learned._values = {}, {}
    learned.restore(str(tmp_path / "state.json"))
    assert learned.suggest("t3") == following


def test_what_it_cannot_search_is_refused(learned):
    with pytest.raises(BadInput, match="no bounds"):
        axes_of({"lr": tune.randn(0, 1)})
    with pytest.raises(BadInput, match="grid_search of lr"):
        axes_of({"lr": tune.grid_search([1, 2])})
    with pytest.raises(BadInput, match="more than one"):
        learned.set_search_properties(["a", "b"], ["max", "min"], SPACE)
    with pytest.raises(BadInput, match="no past run"):
        Searcher(STORE, without=STORE.tasks)


def train(config):
    """A training of Ray's own kind."""
    for epoch in range(1, 4):
        tune.report({"acc": score({"learning_rate": config["lr"]}) * epoch / 3})


@pytest.mark.slow
def test_a_real_tuner(tmp_path):
    ray = pytest.importorskip("ray")
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # its workers import this module
    ray.init(
        num_cpus=2, include_dashboard=False, ignore_reinit_error=True,
        runtime_env={"env_vars": path},
    )  # fmt: skip
    try:
        found = tune.Tuner(
            train,
            param_space=SPACE,
            tune_config=tune.TuneConfig(
                search_alg=Searcher(STORE), metric="acc", mode="max", num_samples=6,
                max_concurrent_trials=2,
            ),
            run_config=tune.RunConfig(storage_path=str(tmp_path), verbose=0),
        ).fit()  # fmt: skip
    finally:
        ray.shutdown()
    assert len(found) == 6 and not found.errors
    assert abs(rate(found.get_best_result().config) + 2.5) < 0.5
    assert found[0].config["fixed"] == 3
