"""Ask a fitted recommender about a dataset: what to try, how good it may be, which past runs say
so, and the same as notes of a study.

    found = recommend("photos/", data=Path("data"))
    found.rows[0].config, found.rows[0].predicted

Fitted recommenders come with the package or lie in `data/models/NAME`, which comes first (`python
-m foretune.pipeline.recommenders`); those that know the user's own studies too, in
`data/own_models/NAME` (`python -m foretune.running.meta_train`), come before both. One that looks at no images needs no fitting and is
made from the meta-dataset on the spot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foretune import shipped
from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.own import FOLDER, Own, belongs, load_own
from foretune.space.space import Config, config_key
from foretune.study.notes import RankingNote
from foretune.tasks.loading import load_task
from foretune.tasks.task import Task

if TYPE_CHECKING:
    from foretune.recommenders.base import Ranking, Reason, Recommender

DEFAULT = "hyperstar"
REASONS = 4  # past runs that a suggestion names


@dataclass(frozen=True)
class Row:
    """A suggestion: the configuration, its row in the meta-dataset, forecast and spread in the
    metric's unit (None: no forecast), its reasons.

    `without_images` is the place, 0 = first, that it would have in a list that does not look at the
    task, and `from_images` what the images add to that list's forecast, signed, in the metric's
    unit; both None where there is no such list behind it. `measured`: `predicted` was measured on
    these very images and is no forecast (NaN: it diverged); it then has no spread.
    """

    row: int
    config: Config
    predicted: float | None
    spread: float | None
    reasons: tuple[Reason, ...]
    without_images: int | None = None
    from_images: float | None = None
    measured: bool = False


@dataclass(frozen=True, eq=False)
class Recommendation:
    """What a recommender says about `task`, on top of the past tasks in `meta`. `known_as` names
    the past task with the very same images: then the order is that of its results, and the
    recommender only parts equal ones.

    `own` is what it took from the user's studies; `passed_over` why a model that knows them was not
    taken, where there is one.
    """

    task: Task
    meta: MetaDataset
    ranking: Ranking
    recommender: str
    known_as: str | None = None
    own: Own = field(default_factory=Own)
    passed_over: str = ""

    @cached_property
    def rows(self) -> list[Row]:
        """All configurations, in the order to try them."""
        ranking, past = self.ranking, self.ranking.past
        place = {config_id: k for k, config_id in enumerate(self.meta.config_ids)}
        if self.known_as is not None:
            values = past.best[past.tasks.index(self.known_as)] * past.sign
            return [
                Row(
                    int(r),
                    self.meta.configs[place[past.config_ids[r]]],
                    float(values[r]),
                    None,
                    tuple(self.reasons(int(r))),
                    measured=self.own.saw(self.known_as, past.config_ids[r]),
                )
                for r in self.order
            ]
        forecast = ranking.supported and ranking.predicted is not None
        elsewhere = ranking.places_without_images if ranking.supported else None
        added = ranking.from_images
        return [
            Row(
                int(r),
                self.meta.configs[place[past.config_ids[r]]],
                float(ranking.predicted[r]) if forecast else None,  # type: ignore[index]
                float(ranking.spread[r]) if forecast and ranking.spread is not None else None,
                tuple(self.reasons(int(r))),
                None if elsewhere is None else int(elsewhere[r]),
                None if added is None else float(added[r]),
            )
            for r in self.order
        ]

    @property
    def order(self) -> np.ndarray:
        """Rows in the order to try them, (n,): the recommender's; on images that are a past task,
        by what was measured on them (what an own study has not tried, by the forecast from what it
        has), equal values in the recommender's order.
        """
        advice = self.ranking.advice
        if self.known_as is None:
            return advice
        return advice[np.argsort(-self.known[advice], kind="stable")]

    @property
    def known(self) -> np.ndarray:
        """Normalised scores of the past task with the very same images, (n,), in the unit of a
        recommender's.
        """
        assert self.known_as is not None
        past = self.ranking.past
        return past.normalised[past.tasks.index(self.known_as)]

    @property
    def leans(self) -> dict[str, float] | None:
        """What the order leans on, past task -> share: the very images' own task where there is
        one, else as the ranking has it.
        """
        return self.ranking.leans if self.known_as is None else {self.known_as: 1.0}

    @property
    def looked(self) -> bool:
        """Whether the recommender tells past tasks apart for these images."""
        nearest = self.ranking.nearest
        return len(nearest) < len(self.ranking.past.tasks) or len(set(nearest.values())) > 1

    def reasons(self, row: int) -> list[Reason]:
        """The past runs behind a suggestion, as `Ranking.because` has them, none that is only a
        forecast, and none at random.

        On images that are a past task it is the run there, where it was measured.
        """
        from foretune.recommenders.base import Reason

        past, config_id = self.ranking.past, self.ranking.past.config_ids[row]
        if self.known_as is not None:
            t = past.tasks.index(self.known_as)
            better = int((past.filled[t] > past.filled[t, row]).sum())
            run = Reason(
                self.known_as, better, float(past.best[t, row] * past.sign), 1.0, "measured"
            )
            return [run] if self.own.saw(self.known_as, config_id) else []
        if self.recommender == "random":
            return []
        forecast = [task for task in past.tasks if not self.own.saw(task, config_id)]
        return self.ranking.because(row, REASONS, forecast)

    def worked_on(self, past_task: str, k: int = 3) -> list[tuple[Config, float]]:
        """The `k` best configurations of a past task that were trained there, and their best
        values, in the metric's unit.
        """
        past = self.ranking.past
        saw = [self.own.saw(past_task, config_id) for config_id in past.config_ids]
        best = np.where(saw, past.best[past.tasks.index(past_task)], np.nan)
        place = {config_id: row for row, config_id in enumerate(self.meta.config_ids)}
        order = [
            int(r)
            for r in np.argsort(np.where(np.isnan(best), np.inf, -best), kind="stable")[:k]
            if not np.isnan(best[r])
        ]
        return [
            (self.meta.configs[place[past.config_ids[r]]], float(best[r] * past.sign))
            for r in order
        ]

    @property
    def scores(self) -> list[float]:
        """Scores in the order to try them, falling; a portfolio has an order and no scores, so the
        place gives them.
        """
        if self.known_as is not None:
            return [float(self.known[r.row]) for r in self.rows]
        if self.ranking.supported:
            return [float(self.ranking.scores[r.row]) for r in self.rows]
        return [1.0 - k / len(self.rows) for k in range(len(self.rows))]

    def in_pool(self, pool: Sequence[Config]) -> RankingNote:
        """The same for a study's pool: `leans` and `images` are what its suggestions say that they
        lean on, as `reasons` and `from_images` say here.

        A configuration that the ranking does not know scores as far below the last as that is below
        the first, and its images add nothing.
        """
        ids = {config_key(c): i for i, c in reversed(list(enumerate(pool)))}
        scores = self.scores
        found = [
            (ids[key], row, score)
            for row, score in zip(self.rows, scores, strict=True)
            if (key := config_key(row.config)) in ids
        ]
        unknown = 2 * min(scores) - max(scores)
        known = {i: score for i, _, score in found}
        images = None
        if self.ranking.from_images is not None and self.known_as is None:
            added = {i: row.from_images or 0.0 for i, row, _ in found}
            images = tuple(round(added.get(i, 0.0), 5) for i in range(len(pool)))
        return RankingNote(
            recommender=self.recommender,
            supported=self.ranking.supported or self.known_as is not None,
            known_as=self.known_as,
            own_studies=tuple(self.own.measured),
            nearest={k: round(float(v), 4) for k, v in self.ranking.nearest.items()},
            leans={k: round(float(v), 4) for k, v in (self.leans or {}).items()},
            order=tuple(known),
            scores=tuple(round(known.get(i, unknown), 5) for i in range(len(pool))),
            images=images,
        )


def recommend(
    images: str | Task,
    *,
    data: Path | str = "data",
    meta: str = shipped.HISTORY,
    recommender: str = DEFAULT,
    seed: int = 0,
    own: bool = True,
) -> Recommendation:
    """Rank the configurations of a meta-dataset for `images` (anything that `foretune tune` takes)
    without training any. Raises `BadInput`.

    With `own`, a recommender fitted on the user's own studies too comes before the shipped one,
    where it is there and fits the meta-dataset.
    """
    from foretune.recommenders.registry import offered

    if seed < 0:
        raise BadInput(f"--seed {seed} must be at least 0")
    data = Path(data)
    offered(recommender)
    known = MetaDataset.load(shipped.need("meta", meta, data))
    # before what takes seconds to load
    task = images if isinstance(images, Task) else load_task(images, data)
    fitted, mine, why = (own_recommender if own else shipped_recommender)(recommender, data, known)
    hashes = {**known.about.get("hashes", {}), **mine.hashes}
    same = next((name for name in fitted.past.tasks if hashes.get(name) == task.hash), None)
    return Recommendation(task, known, fitted.rank(task, seed), recommender, same, mine, why)


def own_recommender(name: str, data: Path, meta: MetaDataset) -> tuple[Recommender, Own, str]:
    """The recommender that knows the own studies, if there is one that fits `meta`, else the
    shipped one and why. Raises `BadInput` as that does.
    """
    from foretune.recommenders.registry import offered

    offered(name)
    if not (folder := data / FOLDER / name).is_dir():
        return shipped_recommender(name, data, meta)
    try:
        return *load_own(name, data, meta), ""
    except BadInput as error:
        fitted, none, _ = shipped_recommender(name, data, meta)
        return (
            fitted,
            none,
            f"{folder} is not used: {error}; fit it again with: python -m "
            "foretune.running.meta_train",
        )


def shipped_recommender(name: str, data: Path, meta: MetaDataset) -> tuple[Recommender, Own, str]:
    """The fitted recommender of `data/models/NAME` or of the package, or, for one that needs no
    images, made now. Raises `BadInput` where it is missing or does not fit `meta`.
    """
    from foretune.recommenders.registry import load, offered, recommender

    offered(name)
    folder = shipped.find("models", name, data)
    if folder is not None:
        fitted = load(folder)
        if not belongs(fitted, meta):
            raise BadInput(
                f"{folder} was fitted on another meta-dataset than {meta.name}: its tasks, "
                "its configurations or its metric are others; "
                f"fit it again with: python -m foretune.pipeline.recommenders"
            )
        return fitted, Own(), ""
    made = recommender(name)
    try:
        return made.fit(meta, {}), Own(), ""
    except BadInput as error:
        if "needs the images" not in str(error):
            raise
        raise BadInput(
            f"recommender {name!r} is not fitted yet: {shipped.missing('models', name, data)}; "
            "add it to recommenders.names in params.yaml, then "
            "python -m foretune.pipeline.recommenders fits it in minutes"
        ) from error
