"""Runs of many tasks, metrics and lengths made comparable: scores, and curves on one axis.

A value means something only beside others of its group: runs of one task, judged by one metric on
one split. Inside a group, losses are turned (higher is better from here on), and two readings
exist:

* the *rank score*: the place among the runs of the group as a normal deviate (Blom 1958,
  (r - 3/8) / (n + 1/4)): what a selection of runs leaves intact;
* the *share*: (value - worst) / (best - worst): how good, where the group holds bad runs too.

People log what worked. A group in which nothing failed or was stopped is a selection: its runs
teach which is better (ranks), not how good a run of this space is (shares), which is NaN there.

Curves stand on the share of their own planned epochs where the schedule ends there: half-way
through a cosine of 10 epochs is half-way through one of 100. Without such a schedule an epoch is an
epoch. Epoch 0 and warm-up are start-up, kept apart. Two habits of loggers are recognised, because
they look like learning: tails padded with the last value, and best-so-far instead of the current
value.

Shapes: n runs, r rows of curves.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foretune.errors import at_least
from foretune.history.trainers import with_defaults

if TYPE_CHECKING:
    import pandas as pd

GROUP = ["task", "metric", "split"]
# schedules whose end is the planned end; the others leave the curve alone
ENDING = {
    "cosine", "cosine_restarts", "linear", "poly", "onecycle", "step", "multistep", "exponential",
    "tanh", "inverse_sqrt", "cycliclr", "cawr",
}  # fmt: skip
OWN = "foretune:"
FEWEST = 8  # runs of a group before its composition says anything
PADDED_CHANCE = 1e-3  # a tail is padded where it is less likely than this among honest curves
FEWEST_PADDED = 3
FEWEST_RISING = 5  # epochs of a curve before its monotony says anything


def scores(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Scores of the runs that have a value and did not fail, one row a run, index as in `runs`.

    Columns: `run_id`, the group (`task`, `metric`, `split`), `higher` (the value, turned where the
    metric is minimised), `rank_score`, `share` (NaN in a selection, or where all are equal), `size`
    (runs of the group), `selected` (whether the group is a selection). Runs that diverged keep
    their value: it is theirs. Values are those of `value`, in the metric's unit.
    """
    usable = runs[runs["value"].notna() & runs["task"].notna() & (runs["state"] != "failed")]
    out = usable[["run_id", *GROUP]].copy()
    sign = np.where(usable["goal"] == "minimize", -1.0, 1.0)
    out["higher"] = usable["value"].astype(float) * sign
    grouped = out.groupby(GROUP, sort=False)["higher"]
    out["size"] = grouped.transform("size")
    out["rank_score"] = normal_deviate(grouped.rank(method="average"), out["size"])
    low, high = grouped.transform("min"), grouped.transform("max")
    span = (high - low).where(high > low)
    out["selected"] = selections(runs).loc[out.index].astype(bool)
    out["share"] = ((out["higher"] - low) / span).where(~out["selected"])
    return out


def normal_deviate(rank: "pd.Series", size: "pd.Series") -> np.ndarray:
    """Blom's expected normal deviate of a rank from 1 (lowest) to `size`."""
    from scipy.special import ndtri

    return np.asarray(ndtri((np.asarray(rank, float) - 0.375) / (np.asarray(size, float) + 0.25)))


def selections(runs: "pd.DataFrame") -> "pd.Series":
    """For each row, whether the runs of its group were chosen by what they gave: at least `FEWEST`
    of them, and none that failed, diverged or was stopped. Smaller groups count as selections too:
    nothing is known of them. foretune's own tables and studies are none: a table trains what was
    laid down beforehand, and a study keeps what failed.
    """
    unfinished = runs["state"] != "complete"
    keys = [runs[c].fillna("") for c in GROUP]
    size = unfinished.groupby(keys).transform("size")
    lost = unfinished.groupby(keys).transform("sum")
    own = runs["source"].str.startswith(OWN)
    return ((lost == 0) | (size < FEWEST)) & ~own.fillna(False).astype(bool)


def aligned_curves(runs: "pd.DataFrame", curves: "pd.DataFrame") -> "pd.DataFrame":
    """Curves of the goal's metric on comparable axes, long form.

    Columns: `run_id`, `epoch`, `higher` (turned where minimised), `position` (share of the planned
    epochs, in (0, 1]; NaN where the schedule does not end there or the plan is not known),
    `startup` (epoch 0, or warm-up). Padded tails are cut, and curves of groups that log best-so-far
    are left out: `best_so_far` names them.
    """
    import pandas as pd

    facts = with_defaults(runs)[0].set_index("run_id")
    hidden = set(best_so_far(runs, curves))
    parts = []
    tails = padded_tails(runs, curves)
    for metric, members in facts.groupby("metric", sort=False):
        if metric not in curves:
            continue
        rows = curves[curves["run_id"].isin(members.index) & curves[metric].notna()]
        rows = rows[~rows["run_id"].isin(hidden)]
        part = rows[["run_id", "epoch"]].copy()
        own = facts.loc[part["run_id"]]
        sign = np.where(own["goal"] == "minimize", -1.0, 1.0)
        part["higher"] = rows[metric].to_numpy(float) * sign
        ends = own["scheduler"].isin(ENDING) if "scheduler" in own else pd.Series(False, own.index)
        planned = own["epochs_planned"].to_numpy(float)
        epoch = part["epoch"].to_numpy(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.where(ends & (planned > 0), epoch / planned, np.nan)
        part["position"] = np.where(share <= 1.0 + 1e-9, np.minimum(share, 1.0), np.nan)
        warm = _warmup(own, planned)
        part["startup"] = (epoch <= 0) | (epoch <= warm)
        last = part["run_id"].map(tails)
        parts.append(part[~(part["epoch"] > last.fillna(np.inf))])
    columns = ["run_id", "epoch", "higher", "position", "startup"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _warmup(own: "pd.DataFrame", planned: np.ndarray) -> np.ndarray:
    """Epochs of warm-up of each row; 0 where none is named."""
    told = np.zeros(len(own))
    if "warmup_epochs" in own:
        told = np.nan_to_num(own["warmup_epochs"].to_numpy(float))
    if "warmup_share" in own:
        told = np.maximum(told, np.nan_to_num(own["warmup_share"].to_numpy(float) * planned))
    return told


def _series(
    runs: "pd.DataFrame", curves: "pd.DataFrame"
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Epochs (e,), values (e,) and the other metrics (e, m) of each run that has a curve, by epoch."""
    out: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    others = [c for c in curves if c not in ("run_id", "epoch")]
    for metric, members in runs.groupby("metric", sort=False)["run_id"]:
        if metric not in curves:
            continue
        rows = curves[curves["run_id"].isin(members) & curves[metric].notna()]
        codes, names = rows["run_id"].factorize()
        epochs, values = rows["epoch"].to_numpy(float), rows[metric].to_numpy(float)
        rest = rows[[c for c in others if c != metric]].to_numpy(float)
        order = np.lexsort((epochs, codes))
        cuts = np.flatnonzero(np.diff(codes[order])) + 1
        for part in np.split(order, cuts) if len(order) else ():
            inner = rest[part]
            known = ~np.isnan(inner).all(axis=0)
            out[str(names[codes[part[0]]])] = (epochs[part], values[part], inner[:, known])
    return out


def tail_length(values: Sequence[float] | np.ndarray) -> int:
    """How many values at the end repeat the one before them exactly."""
    changes = np.flatnonzero(np.diff(np.asarray(values, dtype=float)))
    return len(values) - 1 - (int(changes[-1]) + 1 if len(changes) else 0) if len(values) else 0


def padded_tails(runs: "pd.DataFrame", curves: "pd.DataFrame") -> dict[str, float]:
    """Runs whose curve ends in repeats of its last value -> the last epoch that was trained.

    Validation values repeat by chance, on small sets often. So a tail of L repeats counts as padded
    only where all other metrics that were logged stand still too, and where L repeats in a row are
    unlikely: p^L < `PADDED_CHANCE`, p the share of repeats elsewhere in the curves of the task, or
    of pairs of its runs that end at one value, if that is more (a small set has few values to
    take). A curve that stands at its worst value (a network that collapsed), or a share that stands
    at 0 or 1, is no padded one.
    """
    series = _series(runs, curves)
    facts = {r.run_id: (r.goal == "minimize", r.unit == "share") for r in runs.itertuples()}
    group = dict(zip(runs["run_id"], runs["task"].fillna(""), strict=True))
    repeats: dict[str, list[int]] = {}
    tails: dict[str, int] = {}
    for identity, (_, values, rest) in series.items():
        tails[identity] = tail_length(values)
        if rest.shape[1]:
            still = min(tail_length(column[~np.isnan(column)]) for column in rest.T)
            tails[identity] = min(tails[identity], still)
        body = values[: len(values) - tails[identity]]
        known = repeats.setdefault(group[identity], [0, 0])
        known[0] += int((np.diff(body) == 0).sum())
        known[1] += max(len(body) - 1, 0)
    ends: dict[str, Counter[float]] = {}
    for identity, (_, values, _) in series.items():
        ends.setdefault(group[identity], Counter())[float(values[-1])] += 1
    out: dict[str, float] = {}
    for identity, length in tails.items():
        same, steps = repeats[group[identity]]
        chance = (same + 1) / (steps + 2)  # Laplace: no repeat seen is no proof of none
        chance = max(chance, _met(ends[group[identity]]))
        if length >= FEWEST_PADDED and chance**length < PADDED_CHANCE:
            epochs, values, _ = series[identity]
            minimized, is_share = facts[identity]
            worst = values.max() if minimized else values.min()
            if values[-1] == worst or (is_share and values[-1] in (0.0, 1.0)):
                continue
            out[identity] = float(epochs[len(epochs) - 1 - length])
    return out


def _met(ends: Counter[float]) -> float:
    """The share of pairs of runs that end at one value."""
    n = ends.total()
    return sum(k * (k - 1) for k in ends.values()) / (n * (n - 1)) if n > 1 else 0.0


def best_so_far(runs: "pd.DataFrame", curves: "pd.DataFrame") -> list[str]:
    """Runs of those tasks and sources in which no curve ever gets worse: they log the best so far.

    Told only from at least `FEWEST_RISING` epochs a curve and, over all curves of the group, at
    least 20 steps of which none goes down; a loss or an accuracy of a validation set does in honest
    curves.
    """
    sign = dict(zip(runs["run_id"], np.where(runs["goal"] == "minimize", -1.0, 1.0), strict=True))
    keys = zip(runs["run_id"], runs["task"].fillna(""), runs["source"], runs["metric"], strict=True)
    group = {identity: tuple(key) for identity, *key in keys}
    members: dict[tuple[str, ...], list[str]] = {}
    steps: dict[tuple[str, ...], list[int]] = {}
    for identity, (_, values, _) in _series(runs, curves).items():
        if len(values) < FEWEST_RISING:
            continue
        key = group[identity]
        change = np.diff(values * sign[identity])
        members.setdefault(key, []).append(identity)
        known = steps.setdefault(key, [0, 0])
        known[0] += int((change < 0).sum())
        known[1] += len(change)
    return [
        identity
        for key, (down, count) in steps.items()
        if down == 0 and count >= 20
        for identity in members[key]
    ]


def on_grid(aligned: "pd.DataFrame", points: int = 10) -> "pd.DataFrame":
    """Curves at `points` equal shares of their planned epochs: a row a run, columns 1 / points to
    1.

    A cell is the last value at or before that share, NaN further than half the usual distance of
    two evaluations beyond where the run stopped. Raises `BadInput` for fewer than one point.
    """
    import pandas as pd

    at_least(1, points=points)
    grid = np.arange(1, points + 1) / points
    rows = {}
    known = aligned[aligned["position"].notna() & ~aligned["startup"]]
    for identity, part in known.sort_values("position").groupby("run_id", sort=False):
        place, value = part["position"].to_numpy(float), part["higher"].to_numpy(float)
        at = np.searchsorted(place, grid + 1e-9, side="right") - 1
        cells = np.where(at >= 0, value[np.maximum(at, 0)], np.nan)
        gap = np.median(np.diff(place)) if len(place) > 1 else 0.0
        cells[grid > place[-1] + 0.5 * gap + 1e-9] = np.nan
        rows[identity] = cells
    return pd.DataFrame.from_dict(rows, orient="index", columns=grid)
