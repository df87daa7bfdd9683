"""Scores and curves that can be compared."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from foretune.errors import BadInput
from foretune.history.alignment import (
    aligned_curves,
    best_so_far,
    on_grid,
    padded_tails,
    scores,
    selections,
    tail_length,
)


def table(values, task="t", goal="maximize", state="complete", **more) -> pd.DataFrame:
    """Runs with these values; `more` are further columns."""
    n = len(values)
    facts = {
        "run_id": [f"{task}{k}" for k in range(n)],
        "task": task,
        "metric": "valid_accuracy",
        "split": "valid",
        "goal": goal,
        "unit": "share",
        "state": state,
        "source": "csv:x",
        "trainer": "",
        "value": np.array(values, dtype=float),
        "epochs_planned": 10.0,
    }
    return pd.DataFrame({**facts, **more})


def curves_of(runs: pd.DataFrame, values: list[list[float]], first: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"run_id": identity, "epoch": float(first + e), "valid_accuracy": v}
            for identity, curve in zip(runs["run_id"], values, strict=True)
            for e, v in enumerate(curve)
        ]
    )


def test_losses_are_turned_and_ranks_do_not_see_the_scale():
    accuracy = table(np.linspace(0.1, 0.9, 9), "a")
    loss = table(np.exp(-np.linspace(0.1, 0.9, 9) * 9), "b", goal="minimize")
    out = scores(pd.concat([accuracy, loss], ignore_index=True))
    first, second = out[out["task"] == "a"], out[out["task"] == "b"]
    np.testing.assert_allclose(first["rank_score"], second["rank_score"])
    np.testing.assert_allclose(first["rank_score"], norm.ppf((np.arange(1, 10) - 0.375) / 9.25))
    assert (np.diff(second["higher"]) > 0).all()


def test_tasks_and_splits_are_groups_of_their_own():
    runs = pd.concat([table([0.1, 0.2], "a"), table([0.8, 0.9], "b")], ignore_index=True)
    runs.loc[3, "split"] = "test"
    assert scores(runs)["size"].tolist() == [2, 2, 1, 1]


def test_failed_runs_have_no_score_and_diverged_ones_do():
    runs = table([0.1, 0.5, math.nan, 0.0], state=["diverged", "complete", "failed", "failed"])
    assert scores(runs)["run_id"].tolist() == ["t0", "t1"]


def test_a_selection_teaches_ranks_only():
    kept = table(np.linspace(0.8, 0.9, 10), "kept")
    whole = table(np.linspace(0, 1, 11), "whole", state=["cut"] + ["complete"] * 10)
    out = scores(pd.concat([kept, whole], ignore_index=True)).set_index("run_id")
    assert out.loc["kept9", "selected"] and math.isnan(out.loc["kept9", "share"])
    assert out.loc["kept9", "rank_score"] > out.loc["kept0", "rank_score"]
    assert not out.loc["whole10", "selected"] and out.loc["whole10", "share"] == 1.0
    assert out.loc["whole5", "share"] == pytest.approx(0.5)
    assert selections(table([0.1] * 7, state="cut")).all()  # of few, nothing is known
    assert not selections(table([0.1] * 9, source="foretune:light")).any()


def test_a_cosine_of_ten_epochs_and_one_of_a_hundred_meet_at_their_half():
    runs = table([0.9, 0.9, 0.9], scheduler=["cosine", "cosine", "none"])
    runs["epochs_planned"] = [10.0, 100.0, 10.0]
    values = [[k / 10 for k in range(1, 11)], [k / 100 for k in range(1, 101)], [0.1, 0.3]]
    values[0][0] = values[1][0] = 0.3  # an honest curve falls somewhere
    aligned = aligned_curves(runs, curves_of(runs, values))
    grid = on_grid(aligned, 4)
    np.testing.assert_allclose(grid.loc["t0"], [0.2, 0.5, 0.7, 1.0])
    np.testing.assert_allclose(grid.loc["t1"], [0.25, 0.5, 0.75, 1.0])
    assert "t2" not in grid.index  # an epoch there is an epoch
    assert aligned.loc[aligned["run_id"] == "t2", "position"].isna().all()


def test_a_trainer_s_default_schedule_counts():
    runs = table([0.9], trainer="timm")
    aligned = aligned_curves(runs, curves_of(runs, [[0.1, 0.2]]))
    assert aligned["position"].tolist() == [0.1, 0.2]
    assert aligned["startup"].all()  # timm warms up over five epochs unless told otherwise


def test_a_stopped_curve_ends_and_start_up_is_apart():
    runs = table([0.9], scheduler="cosine", warmup_epochs=2.0)
    aligned = aligned_curves(runs, curves_of(runs, [[0.0, 0.1, 0.2, 0.3, 0.4, 0.5]], first=0))
    assert aligned["startup"].tolist() == [True, True, True, False, False, False]
    grid = on_grid(aligned, 10)
    assert grid.loc["t0"].notna().tolist() == [False, False, True, True, True] + [False] * 5
    with pytest.raises(BadInput, match="points=0"):
        on_grid(aligned, 0)


def noisy(rng: np.random.Generator, epochs: int) -> list[float]:
    return list(0.8 - 0.5 * 0.8 ** np.arange(epochs) + rng.normal(0, 0.01, epochs))


def test_padded_tails_are_cut_and_honest_plateaus_stay():
    rng = np.random.default_rng(0)
    values = [noisy(rng, 25) for _ in range(10)]
    for k in range(6):
        values[k] = values[k][: 8 + k] + [values[k][7 + k]] * (17 - k)
    runs = table([max(v) for v in values])
    assert padded_tails(runs, curves_of(runs, values)) == {f"t{k}": 8.0 + k for k in range(6)}
    aligned = aligned_curves(runs, curves_of(runs, values))
    assert aligned.groupby("run_id").size().tolist() == [8, 9, 10, 11, 12, 13, 25, 25, 25, 25]
    # a validation set of ten images: values repeat all the time
    coarse = [[round(v * 5) / 5 for v in curve] for curve in [noisy(rng, 25) for _ in range(10)]]
    small = table([max(v) for v in coarse])
    assert padded_tails(small, curves_of(small, coarse)) == {}


def test_a_tail_whose_loss_still_moves_is_not_padded():
    rng = np.random.default_rng(0)
    values = [[*noisy(rng, 10), *[0.9] * 15]]
    runs = table([0.9])
    curves = curves_of(runs, values)
    assert padded_tails(runs, curves) == {"t0": 11.0}
    assert padded_tails(runs, curves.assign(valid_loss=rng.normal(size=25))) == {}


@pytest.mark.parametrize("stuck", [0.0, 1.0])
def test_a_network_that_collapsed_or_knows_all_is_not_padded(stuck: float):
    rng = np.random.default_rng(0)
    runs = table([1.0])
    assert padded_tails(runs, curves_of(runs, [[*noisy(rng, 10), *[stuck] * 15]])) == {}


def test_best_so_far_is_told_from_a_curve():
    rng = np.random.default_rng(0)
    honest = table([0.8] * 5, "honest")
    best = table([0.8] * 5, "best")
    values = [noisy(rng, 15) for _ in range(5)]
    running = [list(np.maximum.accumulate(v)) for v in values]
    runs = pd.concat([honest, best], ignore_index=True)
    curves = pd.concat([curves_of(honest, values), curves_of(best, running)], ignore_index=True)
    assert best_so_far(runs, curves) == best["run_id"].tolist()
    assert set(aligned_curves(runs, curves)["run_id"]) == set(honest["run_id"])
    # turned, a loss that only falls is best so far too
    losses = best.assign(goal="minimize")
    falling = curves_of(losses, [[1 - v for v in curve] for curve in running])
    assert best_so_far(losses, falling) == best["run_id"].tolist()


def test_tails():
    assert [tail_length(v) for v in ([], [1.0], [1, 2, 3], [1, 2, 2], [2, 2, 2])] == [0, 0, 0, 1, 2]
