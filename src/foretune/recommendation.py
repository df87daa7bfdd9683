"""Ask a fitted recommender about a dataset: what to try, how good it may be, which past runs say so, and the same as notes of a study.

    found = recommend("photos/", data=Path("data"))
    found.rows[0].config, found.rows[0].predicted

Fitted recommenders lie in `data/models/NAME` (`python -m foretune.recommenders.train`). One that looks at no images needs no fitting and is made
from the meta-dataset on the spot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretune.errors import BadInput
from foretune.images import Task, load_task
from foretune.meta import MetaDataset
from foretune.space import Config, config_key

if TYPE_CHECKING:
    from foretune.recommenders.base import Ranking, Reason, Recommender

DEFAULT = "hyperstar"


@dataclass(frozen=True)
class Row:
    """A suggestion: the configuration, its row in the meta-dataset, forecast and spread in the metric's unit (None: no forecast), its reasons.

    `without_images` is the place, 0 = first, that it would have in a list that does not look at the task; None where there is no such list behind it.
    """

    row: int
    config: Config
    predicted: float | None
    spread: float | None
    reasons: tuple[Reason, ...]
    without_images: int | None = None


@dataclass(frozen=True, eq=False)
class Recommendation:
    """What a recommender says about `task`, on top of the past tasks in `meta`. `known_as` names the past task with the very same images."""

    task: Task
    meta: MetaDataset
    ranking: Ranking
    recommender: str
    known_as: str | None = None

    @cached_property
    def rows(self) -> list[Row]:
        """All configurations, in the order to try them."""
        ranking, past = self.ranking, self.ranking.past
        place = {config_id: k for k, config_id in enumerate(self.meta.config_ids)}
        forecast = ranking.supported and ranking.predicted is not None
        elsewhere = ranking.places_without_images if ranking.supported else None
        return [
            Row(
                int(r),
                self.meta.configs[place[past.config_ids[r]]],
                float(ranking.predicted[r]) if forecast else None,  # type: ignore[index]
                float(ranking.spread[r]) if forecast and ranking.spread is not None else None,
                tuple(self.reasons(int(r))),
                None if elsewhere is None else int(elsewhere[r]),
            )
            for r in ranking.advice
        ]

    @property
    def looked(self) -> bool:
        """Whether the recommender tells past tasks apart for these images."""
        return len(set(self.ranking.nearest.values())) > 1

    def reasons(self, row: int) -> list[Reason]:
        """The past runs behind a suggestion: the nearest tasks' where their results are the score, else those where it placed best, and none at random."""
        if self.recommender == "random":
            return []
        of_nearest = self.looked and self.ranking.supported and self.ranking.base is None
        return self.ranking.because(row) if of_nearest else self.spoken_for(row)

    def spoken_for(self, row: int, k: int = 3) -> list[Reason]:
        """The `k` past tasks on which a configuration placed best: all tasks count alike in such a list."""
        from foretune.recommenders.base import Reason

        past = self.ranking.past
        ranks, share = past.ranks[:, row], 1 / len(past.tasks)
        return [
            Reason(past.tasks[t], int(ranks[t]), float(past.best[t, row] * past.sign), share)
            for t in np.argsort(ranks, kind="stable")[:k]
        ]

    def worked_on(self, past_task: str, k: int = 3) -> list[tuple[Config, float]]:
        """The `k` best configurations of a past task and their best values, in the metric's unit."""
        past = self.ranking.past
        best = past.best[past.tasks.index(past_task)]
        place = {config_id: row for row, config_id in enumerate(self.meta.config_ids)}
        order = [int(r) for r in np.argsort(np.where(np.isnan(best), np.inf, -best), kind="stable")[:k]]
        return [(self.meta.configs[place[past.config_ids[r]]], float(best[r] * past.sign)) for r in order]

    @property
    def notes(self) -> dict[str, Any]:
        """As plain values, for `Plan.notes`; `configs` go with `scores` and are in the order to try them (see `in_pool`)."""
        n = len(self.rows)
        falling = [1.0 - k / n for k in range(n)]  # a portfolio has an order and no scores
        scores = [float(self.ranking.scores[r.row]) for r in self.rows] if self.ranking.supported else falling
        return {
            "recommender": self.recommender,
            "supported": self.ranking.supported,
            "known_as": self.known_as,
            "nearest": {k: round(float(v), 4) for k, v in self.ranking.nearest.items()},
            "configs": [r.config for r in self.rows],
            "scores": scores,
        }

    def in_pool(self, pool: Sequence[Config]) -> dict[str, Any]:
        """The notes for a study's pool: `order`, ids of the configurations that the ranking knows, best first, and `scores` of all ids.

        A configuration that the ranking does not know scores as far below the last as that is below the first.
        """
        notes = self.notes
        configs, scores = notes.pop("configs"), notes.pop("scores")
        ids = {config_key(c): i for i, c in reversed(list(enumerate(pool)))}
        known = {ids[config_key(c)]: s for c, s in zip(configs, scores, strict=True) if config_key(c) in ids}
        unknown = 2 * min(scores) - max(scores)
        return notes | {"order": list(known), "scores": [round(known.get(i, unknown), 5) for i in range(len(pool))]}


def recommend(
    images: str | Task, *, data: Path | str = "data", meta: str = "light", recommender: str = DEFAULT, seed: int = 0
) -> Recommendation:
    """Rank the configurations of a meta-dataset for `images` (anything that `foretune tune` takes) without training any. Raises `BadInput`."""
    if seed < 0:
        raise BadInput(f"--seed {seed} must be at least 0")
    data = Path(data)
    known = MetaDataset.load(data / "meta" / meta)
    fitted = fitted_recommender(recommender, data, known)
    task = images if isinstance(images, Task) else load_task(images, data)
    hashes = known.about.get("hashes", {})
    same = next((name for name in fitted.past.tasks if hashes.get(name) == task.hash), None)
    return Recommendation(task, known, fitted.rank(task, seed), recommender, same)


def fitted_recommender(name: str, data: Path, meta: MetaDataset) -> Recommender:
    """The recommender of `data/models/NAME`, or, for one that needs no images, made now. Raises `BadInput` where it is missing or does not fit `meta`."""
    from foretune.recommenders.base import digest_of
    from foretune.recommenders.registry import entry, load, recommender

    entry(name)
    folder = data / "models" / name
    if folder.is_dir():
        fitted = load(folder)
        known = set(fitted.past.config_ids) <= set(meta.config_ids) and set(fitted.past.tasks) <= set(meta.tasks)
        if (
            not known
            or digest_of(meta, fitted.past.config_ids) != fitted.past.digest
            or fitted.past.metric != meta.metric
        ):
            raise BadInput(
                f"{folder} was fitted on another meta-dataset than {meta.name}: its tasks, its configurations or its metric are others; "
                f"fit it again with: python -m foretune.recommenders.train"
            )
        return fitted
    made = recommender(name)
    try:
        return made.fit(meta, {})
    except BadInput as error:
        if "needs the images" not in str(error):
            raise
        raise BadInput(
            f"recommender {name!r} is not fitted yet ({folder} is missing): add it to recommenders.names in params.yaml, then "
            f"python -m foretune.recommenders.train fits it in minutes"
        ) from error
