"""Meta-datasets as runs: a row a run, its hyperparameters and settings as columns, so that tables
of different spaces, settings and lengths stand below each other.

A run's score is its value at the end of a full training, higher is better. One that was stopped
early counts as what it reached and what its task's complete runs still gained from there on (their
median); without `ENOUGH` complete runs to say so it is left out. One that diverged counts as the
task's worst.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from foretune.searchers.transfer.run_columns import SCORE, TASK

if TYPE_CHECKING:
    from foretune.history.meta_dataset import MetaDataset

ENOUGH = 3


def final_scores(Y: np.ndarray, failed: np.ndarray) -> np.ndarray:
    """Scores (n,) of curves `Y` (n, E), NaN where unknown; `failed` (n,) diverged."""
    seen = np.isfinite(Y)
    reached = np.where(seen.any(axis=1), Y.shape[1] - seen[:, ::-1].argmax(axis=1), 0)
    whole = (reached == Y.shape[1]) & ~failed
    score = np.full(len(Y), np.nan)
    score[whole] = Y[whole, -1]
    if whole.sum() >= ENOUGH:
        for i in np.flatnonzero((reached > 0) & ~whole & ~failed):
            gained = Y[whole, -1] - Y[whole, reached[i] - 1]
            gained = gained[np.isfinite(gained)]
            if len(gained) >= ENOUGH:
                score[i] = Y[i, reached[i] - 1] + float(np.median(gained))
    if failed.any() and seen.any():
        known = score[np.isfinite(score)]
        score[failed] = float(known.min()) if len(known) else float(np.nanmin(Y[seen]))
    return score


def runs_of(meta: "MetaDataset") -> pd.DataFrame:
    """The runs of a meta-dataset, first seed of each task, with its settings as columns that its
    space does not have; runs without a score left out.
    """
    rows: list[dict[str, Any]] = []
    for task in meta.tasks:
        seeds = meta.seeds(task)
        if not seeds:
            continue
        diverged = np.asarray(meta.failed(task, seeds[0]).any(axis=1))
        scores = final_scores(meta.curves(task, seeds[0]), diverged)
        rows += [
            {**meta.configs[i], TASK: task, SCORE: scores[i]}
            for i in np.flatnonzero(np.isfinite(scores))
        ]
    frame = pd.DataFrame(rows, columns=[TASK, SCORE, *meta.space.names])
    return with_settings(frame, meta.about.get("settings") or {})


def with_settings(frame: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """`frame` with the settings that are plain values as constant columns, where it has none of
    that name.
    """
    plain = {
        name: value
        for name, value in settings.items()
        if name not in frame.columns and isinstance(value, (bool, int, float, str))
    }
    return frame.assign(**plain)


def stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of runs below each other; a column that one lacks is empty there."""
    kept = [table for table in tables if len(table)]
    if not kept:
        return pd.DataFrame(columns=[TASK, SCORE])
    return pd.concat([t.astype(object) for t in kept], ignore_index=True).infer_objects()
