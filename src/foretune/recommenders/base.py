"""What every recommender is: fitted once on past tasks, it ranks configurations for a new one.

Notation: T past tasks, n configurations; `best` (T, n) = best value over epochs, higher is better,
mean over seeds. A configuration is named by its row in the meta-dataset's `configs`, as in a
`Study`; stored ids (`config_ids`) are for files.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from foretune.errors import BadInput
from foretune.files import replace, write_json
from foretune.history.meta_dataset import MetaDataset
from foretune.history.ranks import greedy_portfolio, mean_rank
from foretune.space.space import config_key
from foretune.tasks.task import Task

Arrays = dict[str, np.ndarray]
# past tasks that all tasks' variance counts as, beside the nearest ones' own (`further`)
PRIOR = 3.0
ABOUT, WEIGHTS = "recommender.json", "weights.safetensors"


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
        digest = digest_of(meta, meta.config_ids)
        return cls(
            tuple(meta.tasks),
            tuple(meta.config_ids),
            best_over_seeds(meta),
            meta.metric,
            meta.sign,
            digest,
        )

    @property
    def filled(self) -> np.ndarray:
        """`best` with a task's worst value where nothing is known.

        A configuration that diverged is no good.
        """
        low = np.nanmin(
            np.where(np.isnan(self.best).all(axis=1, keepdims=True), 0.0, self.best),
            axis=1,
            keepdims=True,
        )
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
        rest = [
            int(c)
            for c in np.argsort(mean_rank(self.best), kind="stable")
            if int(c) not in set(chosen)
        ]
        return np.array(chosen + rest, dtype=int)


@dataclass(frozen=True)
class Reason:
    """One past run of a suggested configuration.

    The task, its place there (0 = best), its best value in the metric's unit, the task's share in
    the score.

    `said` is why this run is named: `leans` (its task counts more than others), `best` or `worst`
    (among tasks that count alike, and of which all count), or `measured` (on the very images that
    the suggestion is for).
    """

    task: str
    rank: int
    value: float
    weight: float
    said: str = "leans"


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a recommender says about one task.

    scores (n,): higher is better, by row of the meta-dataset that it was fitted on. predicted,
    spread (n,): forecast of the best value and its standard deviation in the metric's own unit,
    None where the recommender has none. nearest: past task -> weight, sums to 1, largest first.
    support: share of past tasks that lie at least as far from the others as the new one does
    (`support_of`); supported: whether the past has a say at all. base (n,): the scores without the
    images, where `scores` are these and what the images change; None where there is no such list
    behind them. counts: past task -> its share in `scores`, or in `base` where there is one, where
    these are a weighted mean over past tasks; sums to 1. None where they are no such mean (a
    forest, a plain regression, chance): then no past run has a share.
    """

    past: Past
    scores: np.ndarray
    nearest: dict[str, float]
    support: float = 1.0
    supported: bool = True
    predicted: np.ndarray | None = None
    spread: np.ndarray | None = None
    base: np.ndarray | None = None
    counts: dict[str, float] | None = None

    def __post_init__(self) -> None:
        n = len(self.past.config_ids)
        if self.scores.shape != (n,) or not np.isfinite(self.scores).all():
            raise BadInput(
                f"scores must be {n} finite numbers, one a configuration, but are "
                f"{self.scores.shape}"
            )

    @property
    def order(self) -> np.ndarray:
        """Rows, best first, (n,); equal scores keep the pool's order."""
        return np.argsort(-self.scores, kind="stable")

    @property
    def places_without_images(self) -> np.ndarray | None:
        """The place of each row, 0 = first, had the images not been looked at, (n,).

        None where nothing but they decides.
        """
        return (
            None
            if self.base is None
            else np.argsort(np.argsort(-self.base, kind="stable"), kind="stable")
        )

    @property
    def advice(self) -> np.ndarray:
        """Rows in the order to try them, (n,).

        The ranking where the past supports it, else the greedy portfolio.
        """
        return self.order if self.supported else self.past.portfolio()

    @property
    def leans(self) -> dict[str, float] | None:
        """What `advice` leans on: past task -> its share in the list, heaviest first.

        None where no past task has a share.

        It is the same for all configurations, what images add apart (`from_images`): a list in
        which all past tasks count alike leans on those where a configuration did badly as much as
        on those where it did well.
        """
        if not self.supported:
            return equal_shares(self.past.tasks)
        return (
            None
            if self.counts is None
            else dict(sorted(self.counts.items(), key=lambda item: -item[1]))
        )

    @property
    def all_alike(self) -> bool:
        """Whether all past tasks have the same share in `advice`."""
        leans = self.leans or {}
        return len(leans) == len(self.past.tasks) and np.ptp(list(leans.values())) < 1e-9

    @property
    def from_images(self) -> np.ndarray | None:
        """What the images add to `base`, signed and in the metric's own unit, (n,).

        At the range of the nearest past tasks, as in `in_unit`.
        """
        if self.base is None or not self.supported:
            return None
        weight = np.array([self.nearest.get(task, 0.0) for task in self.past.tasks])
        return (
            self.past.sign
            * float(weight @ self.past.level[1] / weight.sum())
            * (self.scores - self.base)
        )

    def because(self, config_id: int, k: int = 4, skip: Collection[str] = ()) -> list[Reason]:
        """`k` past runs behind the place of row `config_id`, without the tasks in `skip`.

        Where past tasks count differently: those that count most, heaviest first. Where all count
        alike, or none has a share of its own: where the configuration did best and where it did
        worst, half each (the best first; one more of them for an odd `k`).
        """
        ranks, leans = self.past.ranks[:, config_id], self.leans or {}
        place = {task: t for t, task in enumerate(self.past.tasks)}

        def reason(t: int, said: str) -> Reason:
            task = self.past.tasks[t]
            value = float(self.past.best[t, config_id] * self.past.sign)
            return Reason(task, int(ranks[t]), value, float(leans.get(task, 0.0)), said)

        if leans and not self.all_alike:
            return [reason(place[task], "leans") for task in leans if task not in skip][:k]
        order = [int(t) for t in np.argsort(ranks, kind="stable") if self.past.tasks[t] not in skip]
        best = order[: min((k + 1) // 2, (len(order) + 1) // 2)]
        worst = order[len(best) :][max(0, len(order) - len(best) - k // 2) :]
        return [reason(t, "best") for t in best] + [reason(t, "worst") for t in worst]


def equal_shares(tasks: Sequence[str]) -> dict[str, float]:
    """Past tasks that count alike; sums to 1."""
    return dict.fromkeys(tasks, 1 / len(tasks))


class Recommender(ABC):
    """Ranks configurations for a new task from its images and the past tasks' results.

    A subclass has `fit`, `rank`, and `state`/`restore`, the arrays and plain values that make up
    what was learned. Options are keyword arguments of its constructor with plain values, kept in
    `options`. A fitted recommender is a function of the meta-dataset, the images and the seed.
    """

    name: ClassVar[str] = ""
    past: Past

    def __init__(self, **options: Any):
        self.options = options

    @abstractmethod
    def fit(self, meta: MetaDataset, tasks: Mapping[str, Task], seed: int = 0) -> Self:
        """Learn from the past tasks alone: `meta` holds no other.

        `tasks` are their images by name; more than those are ignored.
        """

    @abstractmethod
    def rank(self, task: Task, seed: int = 0) -> Ranking:
        """Rank the configurations for `task`; `seed` draws the images that are looked at."""

    @abstractmethod
    def state(self) -> tuple[Arrays, dict[str, Any]]:
        """What `restore` needs: arrays by name, and values that JSON can hold."""

    @abstractmethod
    def restore(self, arrays: Arrays, values: dict[str, Any]) -> None:
        """Take back what `state` gave; `past` is set already."""

    def settled(self) -> dict[str, Any]:
        """Options that fix what `fit` chose by itself, for a further training on the same past."""
        return {}

    def begin(self, meta: MetaDataset, tasks: Mapping[str, Task]) -> list[Task]:
        """Set `past` and return the past tasks in its order.

        Raises `BadInput` that names those without images.
        """
        self.past = Past.of(meta)
        if missing := [name for name in self.past.tasks if name not in tasks]:
            raise BadInput(
                f"recommender {self.name!r} needs the images of all past tasks; missing: "
                f"{', '.join(missing)}"
            )
        return [tasks[name] for name in self.past.tasks]

    def save(self, folder: Path | str) -> None:
        """Write `recommender.json` and `weights.safetensors`, each by rename.

        Equal content gives equal files.
        """
        from safetensors.numpy import save

        folder = Path(folder)
        arrays, values = self.state()
        content = save(
            {"past/best": self.past.best}
            | {key: np.ascontiguousarray(value) for key, value in arrays.items()}
        )
        with replace(folder / WEIGHTS) as temporary:
            temporary.write_bytes(content)
        past = {
            "tasks": list(self.past.tasks),
            "config_ids": [int(i) for i in self.past.config_ids],
            "metric": self.past.metric,
            "sign": self.past.sign,
            "digest": self.past.digest,
        }
        write_json(
            folder / ABOUT,
            {"name": self.name, "options": self.options, "past": past, "values": values},
        )

    @classmethod
    def load(cls, folder: Path | str) -> Self:
        """Read what `save` wrote.

        Raises `BadInput` for a folder that holds another recommender or cannot be read.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        folder = Path(folder)
        try:
            about = json.loads((folder / ABOUT).read_text())
            arrays = load_file(folder / WEIGHTS)
            if about["name"] != cls.name:
                raise BadInput(
                    f"{folder} holds the recommender {about['name']!r}, not {cls.name!r}"
                )
            out = cls(**about["options"])
            out.past = Past(
                tuple(about["past"]["tasks"]),
                tuple(about["past"]["config_ids"]),
                arrays.pop("past/best"),
                about["past"]["metric"],
                about["past"]["sign"],
                about["past"]["digest"],
            )
            out.restore(arrays, about["values"])
        except BadInput:
            raise
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            RuntimeError,
            SafetensorError,
        ) as error:  # RuntimeError: torch's, of a weight that does not fit
            raise BadInput(f"{folder} holds no recommender that can be read: {error}") from error
        return out


def digest_of(meta: MetaDataset, config_ids: Sequence[int]) -> str:
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
    own = between.min(axis=1)
    distance = np.linalg.norm(past - new, axis=1).min()
    return float((1 + (own >= distance).sum()) / (len(past) + 1)), bool(distance <= own.max())


def weights_of(distances: np.ndarray, tasks: Sequence[str], k: int = 5) -> dict[str, float]:
    """Past tasks by nearness: shares of the `k` nearest, largest first, that sum to 1.

    A share is exp(-(d - nearest) / (median - nearest)), scaled.
    """
    nearest = np.argsort(distances, kind="stable")[:k]
    scale = float(np.median(distances) - distances[nearest[0]]) or 1.0
    share = np.exp(-(distances[nearest] - distances[nearest[0]]) / scale)
    share = share / share.sum()
    return {tasks[i]: float(w) for i, w in zip(nearest, share, strict=True)}


def further(weight: np.ndarray, values: np.ndarray, prior: float = PRIOR) -> float:
    """Variance of a new task's value around the weighted mean of past ones.

    `weight` (T,) sums to 1, `values` are (T,).

    The weighted variance of few tasks is too small twice over: it is measured around their own
    mean, and that mean is uncertain. Both factors are those of n = 1 / sum w^2 equal tasks, (1 +
    1/n) / (1 - 1/n). That the nearest tasks scatter less than all do is believed as far as n of
    them show it: all tasks' variance counts as `prior` tasks more.
    """
    n = 1.0 / float(weight @ weight)
    own = float(weight @ (values - weight @ values) ** 2) / max(1.0 - 1.0 / n, 0.5)
    every = float(values.var(ddof=1)) if len(values) > 1 else own
    return (1.0 + 1.0 / n) * (n * own + prior * every) / (n + prior)


def in_unit(
    past: Past, z: np.ndarray, nearest: Mapping[str, float], doubt: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Normalised scores `z` (n,) as best values and spread in the metric's own unit, (n,) each.

    `doubt` is the standard deviation of `z`.

    A new task's level and range are not in a normalised score; they are taken from the nearest past
    tasks, and how much a further task may differ from those is part of the spread (`further`).
    Predictions stay inside what past tasks reached.
    """
    weight = np.array([nearest.get(task, 0.0) for task in past.tasks])
    weight = weight / weight.sum()
    centre, width = past.level
    mean, scale = float(weight @ centre), float(weight @ width)
    forecast = np.clip(mean + scale * z, np.nanmin(past.best), np.nanmax(past.best))
    level, range_ = further(weight, centre), further(weight, width)
    spread = np.sqrt((scale * np.asarray(doubt)) ** 2 + level + range_ * z**2)
    return past.sign * forecast, np.broadcast_to(spread, z.shape).copy()
