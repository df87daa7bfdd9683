"""A run store as lessons: a score for each run, comparable within its task, and what it was run with.

A run that reached its planned epochs scores its best value. One that was cut counts as what it had
reached and what its group's complete runs still gained from that share of their epochs on (their
median); where fewer than `ENOUGH` of them have a curve to say so, it is left out. One that diverged
counts as the worst of its group. In a group that is a selection, whose values say which run is better
but not by how much, scores are the ranks' normal deviates at the group's own level and spread.
"""

from typing import TYPE_CHECKING

import numpy as np

from foretune.history.alignment import GROUP, scores
from foretune.history.trainers import with_defaults

if TYPE_CHECKING:
    import pandas as pd

    from foretune.history.runs import RunStore

ENOUGH = 3  # complete runs that say what a cut one would still have gained
SHARES = 20  # of the planned epochs, at which curves are compared
MAD = 1.4826  # median deviation to standard deviation


def scored(store: "RunStore") -> "pd.DataFrame":
    """The runs of a store that have a score, as they are in `store.runs` with each trainer's defaults
    filled in, and `score` (higher is better) beside them; `task` is of one metric and split: of the
    groups of one task the largest keeps its name, the others are `TASK (METRIC, SPLIT)`, and `images`
    is the task's own name.
    """
    runs = store.runs
    known = scores(runs)
    table = with_defaults(runs.loc[known.index])[0]
    if "epochs" not in table:
        table["epochs"] = np.nan
    table["epochs"] = table["epochs"].astype(float).fillna(table["epochs_planned"])
    reached = best_at_shares(store, known)
    score = known["higher"].astype(float)
    for _, rows in known.groupby(GROUP, sort=False, dropna=False).groups.items():
        state = runs.loc[rows, "state"]
        whole, lost = rows[state == "complete"], rows[state == "diverged"]
        for row in rows[state.isin(["cut", "running"])]:
            score[row] = _finished(reached, row, whole)
        if known.loc[rows, "selected"].all():
            score[rows] = _ranked(known.loc[rows, "rank_score"], score[rows])
        rest = score[rows.difference(lost)].dropna()
        if len(lost) and len(rest):
            score[lost] = min(float(rest.min()), float(score[lost].min()))
    table["images"] = table["task"]
    table["task"] = _labels(known)
    return table.assign(score=score)[score.notna()].reset_index(drop=True)


def best_at_shares(store: "RunStore", known: "pd.DataFrame") -> "pd.DataFrame":
    """The best value so far at `SHARES` equal shares of each run's planned epochs, turned so that
    higher is better; index as in `known`, NaN beyond where a run stopped.
    """
    import pandas as pd

    facts = store.runs.loc[known.index].set_index("run_id")
    place = dict(zip(known["run_id"], known.index, strict=True))
    grid = np.arange(1, SHARES + 1) / SHARES
    plans = {
        identity: (float(planned), goal == "minimize")
        for identity, planned, goal in zip(
            facts.index, facts["epochs_planned"], facts["goal"], strict=True
        )
    }
    rows: dict[object, np.ndarray] = {}
    for metric, members in facts.groupby("metric", sort=False):
        if metric not in store.curves:
            continue
        curves = store.curves[store.curves["run_id"].isin(members.index)]
        curves = curves[curves[metric].notna() & (curves["epoch"] > 0)].sort_values("epoch")
        for identity, part in curves.groupby("run_id", sort=False):
            planned, minimized = plans[identity]
            if not planned > 0:
                continue
            sign = -1.0 if minimized else 1.0
            best = np.maximum.accumulate(sign * part[metric].to_numpy(float))
            share = part["epoch"].to_numpy(float) / planned
            at = np.searchsorted(share, grid + 1e-9, side="right") - 1
            cells = np.where(at >= 0, best[np.maximum(at, 0)], np.nan)
            cells[grid > share[-1] + 1e-9] = np.nan
            rows[place[identity]] = cells
    return pd.DataFrame.from_dict(rows, orient="index", columns=grid)


def _finished(reached: "pd.DataFrame", row: int, whole: "pd.Index") -> float:
    """What a run that was cut would have come to; NaN where nothing says so."""
    if row not in reached.index:
        return float("nan")
    own = reached.loc[row].to_numpy()
    seen = np.flatnonzero(~np.isnan(own))
    others = reached.loc[reached.index.intersection(whole)].to_numpy()
    if not len(seen):
        return float("nan")
    gained = others[:, -1] - others[:, seen[-1]]
    gained = gained[~np.isnan(gained)]
    return float(own[seen[-1]] + np.median(gained)) if len(gained) >= ENOUGH else float("nan")


def _ranked(deviate: "pd.Series", values: "pd.Series") -> "pd.Series":
    """Normal deviates at the level and the spread of values."""
    middle = values.median()
    spread = MAD * (values - middle).abs().median() or values.std(ddof=0)
    return (middle + spread * deviate).where(values.notna())


def _labels(known: "pd.DataFrame") -> "pd.Series":
    """A name for each group of runs: its task's for the largest."""
    import pandas as pd

    sizes = known.groupby(GROUP, sort=False, dropna=False).size().sort_values(ascending=False)
    names: dict[tuple[str, ...], str] = {}
    for task, metric, split in sizes.index:
        taken = task in names.values()
        names[task, metric, split] = f"{task} ({metric}, {split})" if taken else task
    keys = zip(*(known[c] for c in GROUP), strict=True)
    return pd.Series([names[key] for key in keys], index=known.index, dtype=object)
