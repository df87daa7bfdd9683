"""A recommender's ranking inside a searcher: task-aware Hyperband (HyperSTAR, section 3.6) and
initial points for any other searcher.

The ranking is read from the study's notes (`foretune.study.notes.RankingNote`), which a recommender
wrote before the study began.

Without notes the past tasks' mean rank is the ranking, and suggestions say so. With an order but no
scores, minus the place in the order is the score. What a suggestion leans on is what the
recommender noted, the same as `foretune recommend` says; a note without `leans` does not know, and
names no past task. So a resumed study needs no images, and the searcher stays a function of the
history.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foretune.errors import BadInput, one_of, positive, within
from foretune.history.ranks import equal_support, mean_rank
from foretune.searchers.base import PerStudy, Searcher, adopting, draw
from foretune.searchers.gray_box.hyperband import Bracket, Hyperband, brackets
from foretune.searchers.transfer.portfolio import past_best
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion


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
    noted = study.plan.notes.recommended
    n = len(study.configs)
    if noted is None or noted.order is None:
        best = past_best(study)
        rank = mean_rank(best)
        order = [int(c) for c in np.argsort(rank, kind="stable") if np.isfinite(rank[c])]
        why = "mean rank over past tasks (the study has no recommendation)"
        return Ranked(order, standardised(-rank), why, {}, best=best)
    order = list(noted.order)
    if wrong := [c for c in order if not 0 <= c < n]:
        raise BadInput(
            f"the study's recommendation names configuration {wrong[0]}, but the study has {n}"
        )
    scores = np.full(n, -np.inf)
    if noted.scores is None:
        scores[order] = -np.arange(len(order), dtype=float)
    else:
        scores[: len(noted.scores)] = noted.scores[:n]
    leans = dict(noted.leans)
    if not noted.supported:
        return Ranked(
            order,
            standardised(scores),
            "its pictures are unlike any past task's: the portfolio instead",
            leans,
        )
    if (same := noted.known_as) is not None:
        return Ranked(
            order,
            standardised(scores),
            f"measured on these very images, the past task {same}",
            leans,
        )
    images = None
    if noted.images is not None:
        images = np.zeros(n)
        images[: len(noted.images)] = noted.images[:n]
    return Ranked(order, standardised(scores), "recommended for this task", leans, images)


def remembered(rankings: PerStudy[Ranked], study: Study) -> Ranked:
    """`ranking_of`, worked out anew where the study's notes or its pool are others."""
    state = len(study.configs), study.plan.notes
    return rankings.get(study, state, lambda: ranking_of(study))


def standardised(scores: np.ndarray) -> np.ndarray:
    """Scores at mean 0 and deviation 1 over the finite ones; -inf stays."""
    finite = np.isfinite(scores)
    if not finite.any():
        return scores
    spread = float(scores[finite].std())
    return np.where(
        finite, (np.where(finite, scores, 0.0) - scores[finite].mean()) / (spread or 1.0), -np.inf
    )


STAGES = ("fresh", "top")


def starting(bracket: Bracket, because: dict[str, Any]) -> dict[str, Any]:
    """Why a configuration is started in `bracket`, beside why it is this one."""
    where = f"bracket of {bracket.sizes[0]} from {bracket.epochs[0]} epochs"
    return {**because, "why": f"{where}; {because['why']}"}


class TaskAwareHyperband(Hyperband):
    """Hyperband that evaluates, in each bracket, what a ranking puts first instead of random
    configurations.

    `stages` says what that is: "fresh", the best that were not started yet; "top", as the paper
    words it, the top n, also those that an earlier bracket has trained (what they have is not paid
    for again). Where all brackets have had their say, the next round takes the places that follow
    in the ranking, on which the paper is silent.

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
        stages: str = "fresh",
    ):
        super().__init__(eta=eta, R=R)
        within(0, 1, random_share=random_share)
        positive(temperature=temperature)
        one_of(STAGES, stages=stages)
        if stages == "top" and (random_share or proportional):
            raise BadInput(
                "stages='top' takes the ranking as it is: leave random_share and proportional out"
            )
        self.stages = stages
        self.random_share, self.proportional, self.temperature = (
            random_share,
            proportional,
            temperature,
        )
        self._rankings: PerStudy[Ranked] = PerStudy()

    @adopting
    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """As Hyperband, with the ranking's configurations. Raises `BadInput` for a study that has
        neither a recommendation nor past tasks, before anything is trained.
        """
        self.ranking(study)
        if self.stages == "top":
            return self.take_top(study, rng)
        return super().suggest(study, rng)

    def take_top(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The first step that a bracket of the first round asks for, else of the next round: each
        bracket has the ranking's places from where its round begins. What stands in no ranking
        follows in the order of its start.
        """
        ranked = self.ranking(study)
        listed = set(ranked.order)
        order = [*ranked.order, *(c for c in study.started if c not in listed)]
        round_ = brackets(min(self.most_epochs or study.max_epoch, study.max_epoch), self.eta)
        for at in range(0, len(order), max(bracket.sizes[0] for bracket in round_)):
            for bracket in round_:
                members = order[at : at + bracket.sizes[0]]
                cut = Bracket((len(members), *bracket.sizes[1:]), bracket.epochs)
                step = self.promotion(study, cut, members)
                if step is not None and step.start == 0 and step.config in listed:
                    because = ranked.because(study, int(step.config))
                    return replace(step, because=starting(bracket, because))
                if step is not None:
                    return step
        return self.start(study, rng, round_[0], waiting=bool(study.pending.any()))

    def ranking(self, study: Study) -> Ranked:
        """The study's ranking, worked out once for its notes and its pool."""
        return remembered(self._rankings, study)

    def sample(self, study: Study, rng: np.random.Generator) -> Choice | None:
        """A configuration to start next."""
        return self.choose(study, rng)[0]

    def choose(
        self, study: Study, rng: np.random.Generator
    ) -> tuple[Choice | None, dict[str, Any]]:
        """The configuration to start next, and why."""
        at_random = self.random_share > 0 and rng.random() < self.random_share
        ranked = self.ranking(study)
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
    ) -> Suggestion | None:
        """Start the chosen configuration in `bracket`, as Hyperband does with a random one."""
        choice, because = self.choose(study, rng)
        if choice is None:
            return super().start(study, rng, bracket, waiting)
        return Suggestion(choice, 0, bracket.epochs[0], starting(bracket, because))


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
        self._rankings: PerStudy[Ranked] = PerStudy()

    @adopting
    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The first of the ranking's points that lacks epochs, else the searcher's suggestion.
        Raises `BadInput` for more epochs than the study's.
        """
        if self.epochs is not None and self.epochs > study.max_epoch:
            raise BadInput(
                f"epochs={self.epochs} must be at most the {study.max_epoch} epochs of a full "
                "training"
            )
        ranked = remembered(self._rankings, study)
        stop = self.epochs or study.max_epoch
        for c in ranked.order[: self.points]:
            if study.available[c] and study.epoch[c] < stop:
                return Suggestion(c, int(study.epoch[c]), stop, ranked.because(study, c))
        return self.searcher.suggest(study, rng)

    def recommend(self, study: Study) -> int | None:
        """As the searcher recommends."""
        return self.searcher.recommend(study)
