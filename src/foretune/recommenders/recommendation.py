"""What a fitted recommender says about a dataset.

What to try, how good it may be, which past runs say so, and the same as notes of a study.

    recommendation = recommend("photos/", data=Path("data"))
    recommendation.rows[0].config, recommendation.rows[0].predicted

Fitted recommenders come with the package or lie in `data/models/NAME`, which comes first
(`python -m foretune.pipeline.recommenders`); those that know the user's own studies too, in
`data/own_models/NAME` (`python -m foretune.running.meta_train`), come before both. One that looks
at no images needs no fitting and is made from the meta-dataset on the spot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foretune import shipped
from foretune.errors import BadInput, near
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.own import FOLDER, Own, belongs, load_own
from foretune.space.space import Config, config_key
from foretune.study.notes import RankingNote
from foretune.tasks.loading import load_task
from foretune.tasks.task import Task

if TYPE_CHECKING:
    from foretune.recommenders.base import Recommender
    from foretune.recommenders.explanation import Explanation, Reason
    from foretune.recommenders.ranking import Ranking

DEFAULT = "hyperstar"
SIZE = 64  # pixels of the past tasks' images, which recommenders were fitted on
REASONS = 4  # past runs that a suggestion names


@dataclass(frozen=True)
class Suggestion:
    """A configuration, its row in the ranking, its forecast and the reasons for it.

    Forecast and spread are in the metric's unit, None where there is no forecast.

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
    """What a recommender says about `task`, on top of the past tasks in `meta`.

    `known_as` names the past task with the very same images: then the order is that of its results,
    and the recommender only parts equal ones.

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
    def rows(self) -> list[Suggestion]:
        """All configurations, in the order to try them."""
        make = self._forecast if self.known_as is None else self._measured
        return [make(int(row)) for row in self.order]

    def _measured(self, row: int) -> Suggestion:
        past = self.ranking.past
        assert self.known_as is not None
        value = past.best[past.tasks.index(self.known_as), row] * past.sign
        measured = self.own.was_measured(self.known_as, past.config_ids[row])
        reasons = tuple(self.reasons(row))
        return Suggestion(row, self._config(row), float(value), None, reasons, measured=measured)

    def _forecast(self, row: int) -> Suggestion:
        ranking, explanation = self.ranking, self.explanation
        forecasts = (ranking.predicted, ranking.spread, explanation.places_without_images)
        predicted, spread, places = forecasts if ranking.supported else (None, None, None)
        added = explanation.image_effect
        return Suggestion(
            row,
            self._config(row),
            None if predicted is None else float(predicted[row]),
            None if predicted is None or spread is None else float(spread[row]),
            tuple(self.reasons(row)),
            None if places is None else int(places[row]),
            None if added is None else float(added[row]),
        )

    def _config(self, row: int) -> Config:
        return self.meta.configs[self._places[self.ranking.past.config_ids[row]]]

    @cached_property
    def _places(self) -> dict[int, int]:
        """Where each configuration id stands in the meta-dataset."""
        return {config_id: place for place, config_id in enumerate(self.meta.config_ids)}

    @cached_property
    def explanation(self) -> Explanation:
        """What is said about the ranking."""
        from foretune.recommenders.explanation import Explanation

        return Explanation(self.ranking)

    @property
    def order(self) -> np.ndarray:
        """Rows in the order to try them, (n,): the recommender's.

        On images that are a past task, by what was measured on them (what an own study has not
        tried, by the forecast from what it has), equal values in the recommender's order.
        """
        advice = self.ranking.advice
        if self.known_as is None:
            return advice
        return advice[np.argsort(-self.known_scores[advice], kind="stable")]

    @property
    def known_scores(self) -> np.ndarray:
        """Normalised scores (n,) of the past task with the very same images.

        In the unit of a recommender's scores.
        """
        assert self.known_as is not None
        past = self.ranking.past
        return past.normalised[past.tasks.index(self.known_as)]

    @property
    def shares(self) -> dict[str, float] | None:
        """What the order leans on, past task -> share.

        The very images' own task where there is one, else as the ranking has it.
        """
        return self.explanation.shares if self.known_as is None else {self.known_as: 1.0}

    @property
    def tells_tasks_apart(self) -> bool:
        """Whether the recommender tells past tasks apart for these images."""
        nearest = self.ranking.nearest
        return len(nearest) < len(self.ranking.past.tasks) or len(set(nearest.values())) > 1

    def reasons(self, row: int) -> list[Reason]:
        """The past runs behind a suggestion, as `Explanation.reasons` has them.

        None that is only a forecast, and none at random. On images that are a past task it is the
        run there, where it was measured.
        """
        from foretune.recommenders.explanation import Reason

        past, config_id = self.ranking.past, self.ranking.past.config_ids[row]
        if self.known_as is not None:
            if not self.own.was_measured(self.known_as, config_id):
                return []
            t = past.tasks.index(self.known_as)
            better = int((past.filled[t] > past.filled[t, row]).sum())
            value = float(past.best[t, row] * past.sign)
            return [Reason(self.known_as, better, value, 1.0, "measured")]
        if self.recommender == "random":
            return []
        forecast = [task for task in past.tasks if not self.own.was_measured(task, config_id)]
        return self.explanation.reasons(row, REASONS, forecast)

    def worked_on(self, past_task: str, k: int = 3) -> list[tuple[Config, float]]:
        """The `k` best configurations that were trained on a past task, and their best values.

        Values are in the metric's unit.
        """
        past = self.ranking.past
        measured = [self.own.was_measured(past_task, config_id) for config_id in past.config_ids]
        best = np.where(measured, past.best[past.tasks.index(past_task)], np.nan)
        first = np.argsort(np.where(np.isnan(best), np.inf, -best), kind="stable")[:k]
        return [
            (self._config(int(row)), float(best[row] * past.sign))
            for row in first
            if not np.isnan(best[row])
        ]

    @property
    def scores(self) -> list[float]:
        """Scores in the order to try them, falling.

        A portfolio has an order and no scores, so the place gives them.
        """
        if self.known_as is not None:
            return [float(self.known_scores[r.row]) for r in self.rows]
        if self.ranking.supported:
            return [float(self.ranking.scores[r.row]) for r in self.rows]
        return [1.0 - k / len(self.rows) for k in range(len(self.rows))]

    def in_pool(self, pool: Sequence[Config]) -> RankingNote:
        """The same for a study's pool.

        `leans` and `images` are what its suggestions say that they lean on, as `reasons` and
        `from_images` say here.

        A configuration that the ranking does not know scores as far below the last as that is below
        the first, and its images add nothing.
        """
        ids = {config_key(c): i for i, c in reversed(list(enumerate(pool)))}
        scores = self.scores
        in_both = [
            (ids[key], row, score)
            for row, score in zip(self.rows, scores, strict=True)
            if (key := config_key(row.config)) in ids
        ]
        unknown = 2 * min(scores) - max(scores)
        known = {i: score for i, _, score in in_both}
        images = None
        if self.explanation.image_effect is not None and self.known_as is None:
            added = {i: row.from_images or 0.0 for i, row, _ in in_both}
            images = tuple(round(added.get(i, 0.0), 5) for i in range(len(pool)))
        return RankingNote(
            recommender=self.recommender,
            supported=self.ranking.supported or self.known_as is not None,
            known_as=self.known_as,
            own_studies=tuple(self.own.measured),
            nearest={k: round(float(v), 4) for k, v in self.ranking.nearest.items()},
            leans={k: round(float(v), 4) for k, v in (self.shares or {}).items()},
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
    without: Sequence[str] = (),
) -> Recommendation:
    """Rank the configurations of a meta-dataset for `images` without training any.

    Images are anything that `foretune tune` takes. Raises `BadInput`.

    With `own`, a recommender fitted on the user's own studies too comes before the shipped one,
    where it is there and fits the meta-dataset. Past tasks in `without` are left out, which only a
    recommender can that looks at no images: the others were fitted on them.
    """
    from foretune.recommenders.registry import offered

    if seed < 0:
        raise BadInput(f"--seed {seed} must be at least 0")
    data = Path(data)
    offered(recommender)
    history = MetaDataset.load(shipped.need("meta", meta, data))
    # before what takes seconds to load; at the size that trials see, so that a study of the same
    # images is known by their content
    seen = history.about.get("settings", {}).get("image_size", SIZE)
    task = images if isinstance(images, Task) else load_task(images, data, seen)
    find = own_recommender if own else shipped_recommender
    if without:
        fitted, from_studies, passed_over = fitted_without(recommender, history, without), Own(), ""
    else:
        fitted, from_studies, passed_over = find(recommender, data, history)
    hashes = {**history.about.get("hashes", {}), **from_studies.hashes}
    same = next((name for name in fitted.past.tasks if hashes.get(name) == task.hash), None)
    # large pictures are shown as the past tasks' were
    shown = task.resized(SIZE) if task.origin and task.images.shape[1] > SIZE else task
    ranking = fitted.rank(shown, seed)
    return Recommendation(task, history, ranking, recommender, same, from_studies, passed_over)


def fitted_without(name: str, meta: MetaDataset, without: Sequence[str]) -> Recommender:
    """The recommender, fitted on the other past tasks than those. Raises `BadInput` for a task that
    there is not, or where none is left, and for a recommender that reads images.
    """
    from foretune.recommenders.registry import entry, recommender

    for task in without:
        if task not in meta.tasks:
            raise BadInput(
                f"--without {task!r} is no past task of {meta.name}{near(task, meta.tasks)}"
            )
    if entry(name).reads_images:
        raise BadInput(
            f"recommender {name!r} was fitted on {', '.join(without)} too: --without goes with one "
            "that looks at no images, such as --recommender portfolio"
        )
    rest = [task for task in meta.tasks if task not in without]
    if not rest:
        raise BadInput("--without leaves no past task")
    return recommender(name).fit(meta.select(rest), {})


def own_recommender(name: str, data: Path, meta: MetaDataset) -> tuple[Recommender, Own, str]:
    """The recommender that knows the own studies if one fits `meta`, else the shipped one.

    With the latter comes the reason. Raises `BadInput` as that does.
    """
    from foretune.recommenders.registry import offered

    offered(name)
    if not (folder := data / FOLDER / name).is_dir():
        return shipped_recommender(name, data, meta)
    try:
        return *load_own(name, data, meta), ""
    except BadInput as error:
        fitted, none, _ = shipped_recommender(name, data, meta)
        remedy = "fit it again with: python -m foretune.running.meta_train"
        return fitted, none, f"{folder} is not used: {error}; {remedy}"


def shipped_recommender(name: str, data: Path, meta: MetaDataset) -> tuple[Recommender, Own, str]:
    """The fitted recommender of `data/models/NAME` or of the package.

    One that needs no images is made now. Raises `BadInput` where it is missing or does not fit
    `meta`.
    """
    from foretune.recommenders.registry import entry, load, offered, recommender

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
    if entry(name).reads_images:
        raise BadInput(
            f"recommender {name!r} is not fitted yet: {shipped.missing('models', name, data)}; "
            "add it to recommenders.names in params.yaml, then "
            "python -m foretune.pipeline.recommenders fits it in minutes"
        )
    return recommender(name).fit(meta, {}), Own(), ""
