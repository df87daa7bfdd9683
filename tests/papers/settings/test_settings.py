"""The questions that runs of several settings answer."""

import numpy as np
import pandas as pd
import pytest

from foretune.errors import BadInput
from foretune.space.catalogue import transfer_space
from foretune.space.space import Space, config_key
from papers.settings.collect import TASKS, all_settings, configurations
from papers.settings.ten import differences
from papers.settings.worth import PASTS, all_runs, chosen, regret_of_first, regrets


def test_the_plan_is_24_configurations_under_eight_settings():
    pool = configurations()
    assert len({config_key(c) for c in pool}) == 24 and len(TASKS) == 6
    Space(transfer_space()).taken(pool, "the pool")
    found = all_settings()
    assert (
        len(found) == 8 == len({(s.network, s.image_size, s.train_limit) for s in found.values()})
    )


@pytest.fixture
def runs():
    """Two tasks under all eight settings; the best rate is 10 ** -2 at 48 px and 1 at 32 px."""
    rows = [
        {
            "task": task,
            "learning_rate": rate,
            "optimizer": "sgd",
            "finetune": "head",
            "network": s.network,
            "image_size": s.image_size,
            "train_limit": s.train_limit,
            "score": 0.9 - 0.1 * abs(np.log10(rate) + (2 if s.image_size == 48 else 0)),
        }
        for task in ("a", "b")
        for s in all_settings().values()
        for rate in (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    ]
    return pd.DataFrame(rows)


def test_a_past_differs_in_what_its_name_says(runs):
    setting = runs.iloc[0]
    of = {past: runs[chosen(past, runs, setting)] for past in PASTS}
    assert len(of["same"]) == 10 and len(of["other"]) == 70 and len(of["other network"]) == 40
    for name, column in (("other size", "image_size"), ("other images", "train_limit")):
        assert len(of[name]) == 10 and (of[name][column] != setting[column]).all()
    assert len(runs[chosen("all", runs, setting)]) == 80


def test_a_past_of_the_other_size_misleads_where_the_optimum_moves(runs):
    table = regrets(runs)
    assert len(table) == 16 and (table["same"] == 0).all()
    assert set(table["network"]) == set(runs["network"])
    assert (table["other size"] > 0.4).all() and (table["other images"] == 0).all()
    assert np.isnan(regret_of_first(runs, runs[:0], runs[:5]))


def test_without_two_settings_there_is_nothing_to_compare(tmp_path):
    with pytest.raises(BadInput, match="holds 0 settings"):
        all_runs(tmp_path)


def test_differences_are_paired_over_tasks_and_seeds():
    rows = [
        {"task": t, "seed": s, "history": h, "trainings": 5, "valid_accuracy": 0.5 + 0.1 * h}
        for t in "ab"
        for s in range(3)
        for h in (True, False)
    ]
    table = pd.DataFrame(rows).assign(test_accuracy=np.nan)
    lines = differences(table)
    assert lines == [
        "valid_accuracy after 5: 0.600 with, 0.500 without, +0.100 ± 0.000 (n 6, p 0.031)"
    ]
