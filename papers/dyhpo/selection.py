"""Which configurations a method spent its epochs on (DyHPO, appendix C and D, Figures 14 to 16).

For a run, let d_i be the last epoch that configuration i was trained to (0 = never), and "trained
to b" mean d_i >= b.

- `trained` at b: how many were trained to b.
- `precision` at b: the share of the table's top 1 % (at least one configuration) among those
  trained to b.
- `selected_regret` at b: mean normalized regret (by best value over epochs) of those trained to b.
- `late_bloomers` at b: of the configurations that are good at b, the share that was bad at some
  epoch before. Good: in the top third at b of those trained to b; bad: in the bottom two thirds at
  an earlier epoch of those trained to that epoch. Over the whole table it is the ground truth.

Each gives one row per method and epoch: the mean over runs that trained anything so far.
"""

import numpy as np
import pandas as pd

from foretune.evaluation.benchmark import RUN
from foretune.history.meta_dataset import MetaDataset

TOP = 0.01


def depths(
    steps: pd.DataFrame, meta: MetaDataset, budget: int | None = None
) -> dict[tuple[str, str, int], np.ndarray]:
    """Last epoch of each configuration (n,) by run (method, task, seed).

    After `budget` epochs (default: all).
    """
    row = {c: i for i, c in enumerate(meta.config_ids)}
    out = {}
    kept = steps if budget is None else steps[steps["spent"] <= budget]
    for key, run in kept.groupby(RUN, sort=True):
        last = run.groupby("config_id")["epoch"].max()
        depth = np.zeros(len(meta), dtype=int)
        depth[[row[int(c)] for c in last.index]] = last.to_numpy()
        out[key] = depth
    return out  # type: ignore[return-value]


def top_share(best: np.ndarray, share: float = TOP) -> np.ndarray:
    """The best `share` of a task's configurations by best value (n,), at least one; (n,) bool."""
    finite = np.isfinite(best)
    k = max(1, round(share * int(finite.sum())))
    threshold = np.sort(best[finite])[-k]
    return finite & (best >= threshold)


def late(curves: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Share of late bloomers among the good ones at each epoch (E,).

    NaN where fewer than three configurations were trained so far.
    """
    n, epochs = curves.shape
    was_bad = np.zeros(n, dtype=bool)
    out = np.full(epochs, np.nan)
    for b in range(1, epochs + 1):
        here = np.flatnonzero((depth >= b) & np.isfinite(curves[:, b - 1]))
        if len(here) < 3:
            break
        order = here[np.argsort(-curves[here, b - 1], kind="stable")]
        good = order[: max(1, len(here) // 3)]
        out[b - 1] = was_bad[good].mean() if b > 1 else 0.0
        was_bad[order[len(good) :]] = True
    return out


def profile(steps: pd.DataFrame, meta: MetaDataset, budget: int | None = None) -> pd.DataFrame:
    """`trained`, `precision`, `selected_regret` and `late_bloomers` by method and epoch.

    The method "all configurations" is the table itself.
    """
    best = {t: meta.best([t])[0] for t in meta.tasks}
    curves = {t: meta.curves(t) for t in meta.tasks}
    rows: dict[str, list[dict[str, np.ndarray]]] = {}
    runs = depths(steps, meta, budget)
    everything = {
        ("all configurations", t, 0): np.full(len(meta), meta.max_epoch)
        for t in {k[1] for k in runs}
    }
    for (method, task, _), depth in {**runs, **everything}.items():
        value = best[task]
        spread = np.nanmax(value) - np.nanmin(value) or 1.0
        regret = np.where(np.isfinite(value), (np.nanmax(value) - value) / spread, 1.0)
        top = top_share(value)
        reached = depth[None] >= np.arange(1, meta.max_epoch + 1)[:, None]  # (E, n)
        count = np.where(reached.any(axis=1), reached.sum(axis=1), np.nan)
        rows.setdefault(method, []).append(
            {
                "trained": reached.sum(axis=1).astype(float),
                "precision": (reached & top).sum(axis=1) / count,
                "selected_regret": np.where(reached, regret, 0.0).sum(axis=1) / count,
                "late_bloomers": late(curves[task], depth),
            }
        )
    frames = []
    for method, found in rows.items():
        stacked = {k: np.stack([f[k] for f in found]) for k in found[0]}
        # NaN passed over
        means = {k: pd.DataFrame(v).mean().to_numpy() for k, v in stacked.items()}
        frames.append(
            pd.DataFrame({"method": method, "epoch": np.arange(1, meta.max_epoch + 1), **means})
        )
    return pd.concat(frames, ignore_index=True)
