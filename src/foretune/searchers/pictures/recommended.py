"""A recommender's ranking inside a searcher: task-aware Hyperband (HyperSTAR, section 3.6) and
initial points for any other searcher.

The ranking is read from the study's notes, which a recommender wrote before the study began:

    notes["recommended"] = {
        "order": [configuration ids, best first],
        "scores": [score of configuration 0, 1, ...],
        "leans": {past task: share in the list},
        "images": [what the images add to the list's forecast of configuration 0, 1, ..., in the metric's unit],
    }

Without notes the past tasks' mean rank is the ranking, and suggestions say so. With an order but no
scores, minus the place in the order is the score. What a suggestion leans on is what the
recommender noted, the same as `foretune recommend` says; a note without `leans` does not know, and
names no past task. So a resumed study needs no images, and the searcher stays a function of the
history.
"""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from foretune.errors import BadInput
from foretune.history.ranks import equal_support, mean_rank
from foretune.searchers.base import Searcher, adopt_past, draw
from foretune.searchers.gray_box.hyperband import Bracket, Hyperband
from foretune.searchers.transfer.portfolio import past_best
from foretune.study.study import Step, Study


@dataclass(frozen=True)
class Ranked:
    """Configurations best first, the standardised score of each configuration (n,), where it comes
    from, each past task's share in it as it was noted.

    `images` is what the images add to the list's forecast (n,), where that was noted; `best` is
    `past_best` where the past tasks' mean rank is the ranking.
    """

    order: list[int]
    scores: np.ndarray
    why: str
    leans: dict[str, float]
    images: np.ndarray | None = None
    best: np.ndarray | None = None

    def because(self, study: Study, config_id: int) -> dict[str, Any]:
        """Why a suggestion is made, and what it leans on: past tasks by their share in the list,
        and the images apart.
        """
        why = f"{self.why}: place {self.order.index(config_id) + 1}"
        if self.images is not None:
            why += (
                f", where the images add {self.images[config_id]:+.3g} to the past tasks' "
                f"forecast of {study.plan.metric}"
            )
        leans = self.leans
        if self.best is not None and study.past is not None:
            leans = equal_support(self.best, study.past.tasks, config_id)
        return {"why": why, "past": leans}


def ranking_of(study: Study) -> Ranked:
    """The study's ranking: its notes', else the past tasks' mean rank. Raises `BadInput` where
    there is neither, or notes that do not fit.
    """
    noted = study.plan.notes.get("recommended") or {}
    n = len(study.configs)
    if "order" not in noted:
        best = past_best(study)
        rank = mean_rank(best)
        order = [int(c) for c in np.argsort(rank, kind="stable") if np.isfinite(rank[c])]
        why = "mean rank over past tasks (the study has no recommendation)"
        return Ranked(order, standardised(-rank), why, {}, best=best)
    order = [int(c) for c in noted["order"]]
    if wrong := [c for c in order if not 0 <= c < n]:
        raise BadInput(
            f"the study's recommendation names configuration {wrong[0]}, but the study has {n}"
        )
    scores = np.full(n, -np.inf)
    given = noted.get("scores")
    if given is None:
        scores[order] = -np.arange(len(order), dtype=float)
    else:
        scores[: len(given)] = given[:n]
    leans = {str(task): float(share) for task, share in (noted.get("leans") or {}).items()}
    if not noted.get("supported", True):
        return Ranked(
            order,
            standardised(scores),
            "its pictures are unlike any past task's: the portfolio instead",
            leans,
        )
    if (same := noted.get("known_as")) is not None:
        return Ranked(
            order,
            standardised(scores),
            f"measured on these very images, the past task {same}",
            leans,
        )
    images = None
    if noted.get("images") is not None:
        images = np.zeros(n)
        images[: len(noted["images"])] = noted["images"][:n]
    return Ranked(order, standardised(scores), "recommended for this task", leans, images)


class Remembered:
    """`ranking_of`, worked out once for each study as long as its notes and its pool stay the
    same.
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Study, tuple[Any, int, Ranked]] = WeakKeyDictionary()

    def __call__(self, study: Study) -> Ranked:
        """The study's ranking."""
        known = self._known.get(study)
        if known is None or known[0] is not study.plan.notes or known[1] != len(study.configs):
            known = self._known[study] = study.plan.notes, len(study.configs), ranking_of(study)
        return known[2]


def standardised(scores: np.ndarray) -> np.ndarray:
    """Scores at mean 0 and deviation 1 over the finite ones; -inf stays."""
    finite = np.isfinite(scores)
    if not finite.any():
        return scores
    spread = float(scores[finite].std())
    return np.where(
        finite, (np.where(finite, scores, 0.0) - scores[finite].mean()) / (spread or 1.0), -np.inf
    )


class TaskAwareHyperband(Hyperband):
    """Hyperband that starts, in each bracket, the best of the ranking that were not started yet,
    instead of random configurations.

    `random_share` of the starts are random all the same; with `proportional`, a start is drawn with
    probability in proportion to exp(score / temperature), scores standardised over the pool,
    instead of taken from the top. `eta` and `R` as in Hyperband.
    """

    name = "task-aware-hyperband"

    def __init__(
        self,
        eta: float = 3.0,
        R: int | None = None,
        random_share: float = 0.0,
        proportional: bool = False,
        temperature: float = 0.5,
    ):
        super().__init__(eta=eta, R=R)
        if not 0 <= random_share <= 1:
            raise BadInput(f"random_share={random_share:g} must be from 0 to 1")
        if not temperature > 0:
            raise BadInput(f"temperature={temperature:g} must be positive")
        self.random_share, self.proportional, self.temperature = (
            random_share,
            proportional,
            temperature,
        )
        self.ranked = Remembered()

    def suggest(self, study: Study, rng: np.random.Generator) -> Step | None:
        """As Hyperband, with the ranking's configurations."""
        adopt_past(study)
        ranking_of(
            study
            # refuses a study that has neither a recommendation nor past tasks, before anything is
            # trained
        )
        return super().suggest(study, rng)

    def sample(self, study: Study, rng: np.random.Generator) -> int | None:
        """A configuration to start next."""
        return self.choose(study, rng)[0]

    def choose(self, study: Study, rng: np.random.Generator) -> tuple[int | None, dict[str, Any]]:
        """The configuration to start next, and why."""
        at_random = self.random_share > 0 and rng.random() < self.random_share
        ranked = self.ranked(study)
        free = study.available & (study.epoch == 0)
        fresh = [c for c in ranked.order if free[c]]
        if at_random or not fresh:
            return draw(study, rng), {
                "why": "random" if at_random else "the ranking is used up: random"
            }
        c = fresh[0]
        if self.proportional:
            logits = ranked.scores[fresh] / self.temperature
            logits = np.where(
                np.isfinite(logits), logits, logits[np.isfinite(logits)].min(initial=0.0)
            )
            share = np.exp(logits - logits.max())
            c = int(rng.choice(fresh, p=share / share.sum()))
        return c, ranked.because(study, c)

    def start(
        self, study: Study, rng: np.random.Generator, bracket: Bracket, waiting: bool
    ) -> Step | None:
        """Start the chosen configuration in `bracket`, as Hyperband does with a random one."""
        config_id, because = self.choose(study, rng)
        if config_id is None:
            return super().start(study, rng, bracket, waiting)
        where = f"bracket of {bracket.sizes[0]} from {bracket.epochs[0]} epochs"
        return Step(
            config_id, 0, bracket.epochs[0], {**because, "why": f"{where}; {because['why']}"}
        )


class Recommended(Searcher):
    """The first `points` of the ranking, then as the method `then` says, which finds them in the
    history like any trial.

    `epochs` is how far the first points are trained, at most to the end; None: to the end.
    """

    name = "recommended"

    def __init__(self, then: str = "bohb", points: int = 3, epochs: int | None = None):
        from foretune.searchers.registry import searcher

        if then == self.name:
            raise BadInput(f"then={then!r} is this method itself: name the method that follows it")
        if points < 1:
            raise BadInput(
                f"points={points} must be at least 1; without any, take the method {then!r} itself"
            )
        if epochs is not None and (not isinstance(epochs, int) or epochs < 1):
            raise BadInput(f"epochs={epochs} must be a whole number of at least 1")
        self.searcher, self.points, self.epochs = searcher(then), points, epochs
        self.ranked = Remembered()

    def suggest(self, study: Study, rng: np.random.Generator) -> Step | None:
        """The first of the ranking's points that lacks epochs, else the searcher's suggestion.
        Raises `BadInput` for more epochs than the study's.
        """
        if self.epochs is not None and self.epochs > study.max_epoch:
            raise BadInput(
                f"epochs={self.epochs} must be at most the {study.max_epoch} epochs of a full "
                "training"
            )
        adopt_past(study)
        ranked = self.ranked(study)
        stop = self.epochs or study.max_epoch
        for c in ranked.order[: self.points]:
            if study.available[c] and study.epoch[c] < stop:
                return Step(c, int(study.epoch[c]), stop, ranked.because(study, c))
        return self.searcher.suggest(study, rng)

    def recommend(self, study: Study) -> int | None:
        """As the searcher recommends."""
        return self.searcher.recommend(study)
