"""The default's rivals: sources, the probing policy, and what is tested."""

import numpy as np
import pandas as pd
import pytest

from papers.transfer.rivals import (
    TRAININGS,
    pasts_of,
    probe_regret,
    probed,
)
from papers.transfer.rivals import (
    tests as paired,
)


def test_sisters_are_not_each_others_past():
    past = pasts_of({"a": "s", "b": "s", "c": "c"})
    assert past == {"a": ["c"], "b": ["c"], "c": ["a", "b"]}


def test_probing_spends_its_budget_and_goes_on_with_the_best():
    curves = np.array([[0.1, 0.2, 0.9], [0.3, 0.4, 0.5], [0.2, 0.3, 0.6]])
    order = np.array([0, 1, 2])
    assert probed(curves, order, 2, 1, 1) == 0.1  # the first alone
    assert probed(curves, order, 2, 1, 2) == 0.3
    assert probed(curves, order, 2, 1, 4) == 0.5  # the better one to its end
    assert probed(curves, order, 2, 1, 5) == 0.5 and probed(curves, order, 2, 1, 6) == 0.9


def test_the_policy_is_chosen_on_the_past_and_never_sees_the_target():
    rng = np.random.default_rng(0)
    good = np.linspace(0, 1, 12)[:, None] * np.linspace(0.5, 1, 6)
    curves = np.stack([good + 0.01 * rng.normal(size=good.shape) for _ in range(5)])
    curves[0] = np.nan_to_num(curves[0])
    assert probe_regret(curves, 0, [1, 2, 3, 4], 6) < 0.1
    # other values of the target change what comes out, not what is tried: its own best place
    turned = curves.copy()
    turned[0] = curves[0][::-1]
    assert probe_regret(turned, 0, [1, 2, 3, 4], 6) > 0.3


def test_tests_count_a_source_once():
    rows = {
        (m, t, 0): [v] * len(TRAININGS)
        for m, values in {"curve-transfer": (0.1, 0.2, 0.3), "other": (0.2, 0.2, 0.1)}.items()
        for t, v in zip("abc", values, strict=True)
    }
    index = pd.MultiIndex.from_tuples(list(rows), names=["method", "task", "seed"])
    regret = pd.DataFrame(list(rows.values()), index=index, columns=[9, 18, 45])
    found = paired(regret, {"a": "s", "b": "s", "c": "c"})
    assert list(found["trainings"]) == list(TRAININGS) and set(found["rival"]) == {"other"}
    first = found.iloc[0]
    assert (first["better"], first["equal"], first["worse"]) == (1, 0, 1)
    assert first["difference"] == pytest.approx((-0.05 + 0.2) / 2)
    assert not found["significant"].any()
