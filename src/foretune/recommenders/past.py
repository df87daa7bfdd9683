"""The past tasks as recommenders see them, and how near a new task lies to them.

Notation: T past tasks, n configurations; `best` (T, n) = best value over epochs, higher is better,
mean over seeds. A configuration is named by its row in the meta-dataset's `configs`, as in a
`Study`; stored ids (`config_ids`) are for files.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.history.ranks import greedy_portfolio, mean_rank
from foretune.space.space import config_key


@dataclass(frozen=True, eq=False)
class Past:
    """The past tasks as recommenders see them.

    `best` (T, n) by row of `config_ids`, NaN where unknown or diverged at once; `sign` turns it
    back.
    """

    tasks: tuple[str, ...]
    config_ids: tuple[int, ...]
    best: np.ndarray
    metric: str = ""
    sign: float = 1.0
    digest: str = ""  # of the configurations behind the ids (`digest_of`)

    @classmethod
    def of(cls, meta: MetaDataset) -> "Past":
        """The past of a meta-dataset. Raises `BadInput` without tasks."""
        if not meta.tasks or not len(meta):
            raise BadInput(f"{meta.name} has no past tasks to learn from")
        tasks, config_ids = tuple(meta.tasks), tuple(meta.config_ids)
        digest = configs_digest(meta, config_ids)
        return cls(tasks, config_ids, best_over_seeds(meta), meta.metric, meta.sign, digest)

    @property
    def filled(self) -> np.ndarray:
        """`best` with a task's worst value where nothing is known.

        A configuration that diverged is no good.
        """
        unknown = np.isnan(self.best).all(axis=1, keepdims=True)
        low = np.nanmin(np.where(unknown, 0.0, self.best), axis=1, keepdims=True)
        return np.where(np.isnan(self.best), low, self.best)

    @property
    def normalised(self) -> np.ndarray:
        """Scores with mean 0 and deviation 1 over configurations, by task, (T, n).

        HyperSTAR, section 3.1.
        """
        return (self.filled - self.level[0][:, None]) / self.level[1][:, None]

    @property
    def level(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation over configurations by task, (T,) each.

        1 for the latter where all are alike.
        """
        spread = self.filled.std(axis=1)
        return self.filled.mean(axis=1), np.where(spread > 1e-12, spread, 1.0)

    @property
    def ranks(self) -> np.ndarray:
        """Place of each configuration on each task, 0 = best, (T, n) int.

        Equal values keep the pool's order.
        """
        return np.argsort(np.argsort(-self.filled, axis=1, kind="stable"), axis=1, kind="stable")

    def portfolio(self) -> np.ndarray:
        """All rows in the order to try them without knowing the task.

        First the greedy portfolio, then the mean rank.
        """
        chosen = greedy_portfolio(self.best, self.best.shape[1])
        by_mean_rank = np.argsort(mean_rank(self.best), kind="stable").tolist()
        rest = [c for c in by_mean_rank if c not in set(chosen)]
        return np.array(chosen + rest, dtype=int)


def configs_digest(meta: MetaDataset, config_ids: Sequence[int]) -> str:
    """A hash of the configurations of these ids, in their order.

    Equal ids of two tables may mean different things.
    """
    place = {config_id: row for row, config_id in enumerate(meta.config_ids)}
    keys = [config_key(meta.configs[place[i]]) for i in config_ids]
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()


def best_over_seeds(meta: MetaDataset) -> np.ndarray:
    """Best value over epochs, mean over the seeds that a cell was trained with, (T, n).

    NaN where there is none.
    """
    out = np.full((len(meta.tasks), len(meta)), np.nan)
    for row, task in zip(out, meta.tasks, strict=True):
        by_seed = np.concatenate(
            [meta.best([task], seed) for seed in meta.seeds(task)] or [row[None]]
        )
        known = ~np.isnan(by_seed)
        count = known.sum(axis=0)
        row[count > 0] = np.where(known, by_seed, 0.0).sum(axis=0)[count > 0] / count[count > 0]
    return out


def equal_shares(tasks: Sequence[str]) -> dict[str, float]:
    """Past tasks that count alike; sums to 1."""
    return dict.fromkeys(tasks, 1 / len(tasks))


def weights_of(distances: np.ndarray, tasks: Sequence[str], k: int = 5) -> dict[str, float]:
    """Past tasks by nearness: shares of the `k` nearest, largest first, that sum to 1.

    A share is exp(-(d - nearest) / (median - nearest)), scaled.
    """
    nearest = np.argsort(distances, kind="stable")[:k]
    scale = float(np.median(distances) - distances[nearest[0]]) or 1.0
    share = np.exp(-(distances[nearest] - distances[nearest[0]]) / scale)
    share = share / share.sum()
    return {tasks[i]: float(w) for i, w in zip(nearest, share, strict=True)}


def support_of(new: np.ndarray, past: np.ndarray) -> tuple[float, bool]:
    """How well representations `past` (T, d) cover that of a new task (d,), and whether they do.

    A past task's distance is that to its nearest other; the new one's is that to its nearest past
    task. Support is the share of the T + 1 tasks whose distance is at least the new one's (a
    leave-one-out quantile: for a task like the others it is uniform on 1/(T+1) .. 1). The new task
    is unsupported when it lies further out than every past one; with fewer than three past tasks
    nothing can be said and it counts as supported.
    """
    if len(past) < 3:
        return 1.0, True
    between = np.linalg.norm(past[:, None] - past[None], axis=2)
    np.fill_diagonal(between, np.inf)
    among_past = between.min(axis=1)
    distance = np.linalg.norm(past - new, axis=1).min()
    support = float((1 + (among_past >= distance).sum()) / (len(past) + 1))
    return support, bool(distance <= among_past.max())
