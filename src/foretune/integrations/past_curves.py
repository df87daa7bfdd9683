"""How far behind a training may be and still overtake: what past curves say.

Notation: b_i(s) = best value that run i of a task had shown at the share s of its epochs (higher is
better); u(s) = spread of b(s) over the task's runs. Of each pair in which run i ended above run j,
one of the better half of its task, i lagged (b_j(s) - b_i(s)) / u(s) behind. The quantile of these
lags at 1 - risk, tasks weighed equally, is the largest lag at s that is not hopeless.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from foretune import shipped
from foretune.errors import BadInput, within
from foretune.history.alignment import GROUP, scores
from foretune.history.meta_dataset import MetaDataset
from foretune.history.runs import RunStore
from foretune.history.scoring import SHARES, best_at_shares
from foretune.running.history import store_folders
from foretune.study.own_studies import found_studies

GRID = np.arange(1, SHARES + 1) / SHARES
FEWEST = 5  # runs of a task to its end, for its pairs to say something
FEWEST_SEEN = 4  # trials of the study whose spread is one
TO_DEVIATION = 1.349  # from the middle half's width to a normal standard deviation


class PastLags:
    """The largest lags (20,) at equal shares of the epochs, of past tasks.

    Raises `BadInput` where no task has `FEWEST` curves to the end.
    """

    def __init__(
        self,
        past: RunStore | MetaDataset | Path | str,
        *,
        risk: float = 0.02,
        without: Sequence[str] = (),
    ):
        within(0, 1, risk=risk)
        lags = []
        for task, curves in curves_of(past):
            whole = from_the_start(curves[np.isfinite(curves[:, -1])])
            if task not in without and len(whole) >= FEWEST:
                found = lags_of_winners(whole)
                lags += [found] if len(found) else []
        if not lags:
            raise BadInput(
                f"the pruner learns from past curves: no past task has {FEWEST} of them to the end"
            )
        self.tasks = len(lags)
        weight = np.concatenate([np.full(len(one), 1 / len(one)) for one in lags])
        self.limit = weighted_quantile(np.concatenate(lags), weight, 1 - risk)

    def hopeless(self, own: float, best: float, seen: np.ndarray, share: float) -> bool:
        """Whether a trial whose best value is `own` at a `share` of the epochs will not overtake one
        that had `best` there; `seen` (n,) are the bests of the study's trials at that share.
        """
        seen = seen[np.isfinite(seen)]
        if len(seen) < FEWEST_SEEN or not np.isfinite(best):
            return False
        limit = float(np.interp(share, GRID, self.limit))
        unit = float(spread(seen[:, None])[0])
        return unit > 0 and best - own > limit * unit


def from_the_start(curves: np.ndarray) -> np.ndarray:
    """Curves (n, shares) whose first value stands before it too."""
    first = np.isfinite(curves).argmax(axis=1)
    start = curves[np.arange(len(curves)), first]
    return np.where(np.isfinite(curves), curves, start[:, None])


def lags_of_winners(curves: np.ndarray) -> np.ndarray:
    """How far each run was behind each of the better half that it beat in the end, (pairs, shares),
    of curves (n, shares); nothing where all runs are equal, as they may be at the start.
    """
    end = curves[:, -1]
    good = np.flatnonzero(end >= np.median(end))
    winner, beaten = np.nonzero(end[:, None] > end[good][None])
    unit, behind = spread(curves), curves[good[beaten]] - curves[winner]
    return np.asarray(np.divide(behind, unit, out=np.zeros_like(behind), where=unit > 0))


def spread(values: np.ndarray) -> np.ndarray:
    """Robust standard deviation over runs of values (n, ...)."""
    low, high = np.nanquantile(values, [0.25, 0.75], axis=0)
    return np.asarray((high - low) / TO_DEVIATION)


def weighted_quantile(values: np.ndarray, weight: np.ndarray, share: float) -> np.ndarray:
    """The quantile at `share` of each column of `values` (n, k) with weights (n,), (k,)."""
    order = np.argsort(values, axis=0)
    mass = np.cumsum(weight[order], axis=0)
    at = (mass < share * weight.sum()).sum(axis=0).clip(0, len(values) - 1)
    columns = np.arange(values.shape[1])
    return np.asarray(values[order[at, columns], columns])


def curves_of(
    past: RunStore | MetaDataset | Path | str,
) -> Iterator[tuple[str, np.ndarray]]:
    """Each task of a past with its runs' best values at the shares of `GRID`, (n, 20)."""
    if isinstance(past, MetaDataset):
        for task in past.tasks:
            for seed in past.seeds(task)[:1]:
                yield task, at_shares(past.curves(task, seed))
    elif isinstance(past, RunStore):
        known = scores(past.runs)
        reached = best_at_shares(past, known)
        for _, rows in known.groupby(GROUP, sort=False, dropna=False):
            some = reached.index.intersection(rows.index)
            yield str(rows["task"].iloc[0]), reached.loc[some].to_numpy(float)
    else:
        folder = Path(past)
        if (folder / "space.json").is_file():
            yield from curves_of(MetaDataset.load(folder))
        elif (folder / "runs.parquet").is_file() or any(folder.glob("*/runs.parquet")):
            yield from curves_of(RunStore.load(folder))
        elif folder.is_dir():
            if (table := shipped.find("meta", shipped.HISTORY, folder)) is not None:
                yield from curves_of(MetaDataset.load(table))
            for study in found_studies(folder / "studies").studies:
                yield from curves_of(study)
            for store in store_folders(folder):
                yield from curves_of(RunStore.load(store))
        else:
            raise BadInput(
                f"{folder} must be a meta-dataset, a run store or a data folder: not found"
            )


def at_shares(Y: np.ndarray) -> np.ndarray:
    """Best values so far (n, 20) of curves (n, E), NaN beyond where a curve ends."""
    best = np.fmax.accumulate(Y, axis=1)
    reached = Y.shape[1] - np.isfinite(Y)[:, ::-1].argmax(axis=1)
    at = np.ceil(GRID * Y.shape[1] - 1e-9).astype(int) - 1
    out = best[:, at].astype(float)
    out[(at + 1)[None] > reached[:, None]] = np.nan
    return out
