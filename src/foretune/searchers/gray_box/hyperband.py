"""Successive halving and Hyperband (Li et al., JMLR 2018, Algorithm 1).

Notation: R = most epochs of a configuration, eta = share that survives a rung is 1 / eta, s =
bracket, s_max = floor(log_eta R).

    bracket s starts n = ceil((s_max + 1) / (s + 1) * eta^s) configurations at r = R eta^-s epochs;
    rung i = 0..s trains the n_i = floor(n eta^-i) best of the rung before to r_i = r eta^i epochs.

The brackets run s = s_max, ..., 0 and begin again. Nothing is stored: the k-th configuration that
the study started belongs to the bracket whose slot k is, so rungs and promotions are read off the
history. With several workers, the next bracket starts while a rung waits for its last results.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.searchers.base import Searcher, draw
from foretune.study.plan import Choice
from foretune.study.study import Study, Suggestion


@dataclass(frozen=True)
class Bracket:
    """Rungs of one successive halving: `sizes[i]` configurations are trained to `epochs[i]`."""

    sizes: tuple[int, ...]
    epochs: tuple[int, ...]


def brackets(most_epochs: int, eta: float) -> list[Bracket]:
    """The brackets of one round of Hyperband, s = s_max first. Raises `BadInput` for eta not above
    1 or R below 1.
    """
    if not 1 < eta < math.inf:
        raise BadInput(f"eta={eta:g} must be above 1")
    if not isinstance(most_epochs, int) or most_epochs < 1:
        raise BadInput(f"R={most_epochs} must be a whole number of at least 1 epoch")
    s_max = math.floor(math.log(most_epochs) / math.log(eta) + 1e-9)
    out = []
    for s in range(s_max, -1, -1):
        n = math.ceil((s_max + 1) / (s + 1) * eta**s - 1e-9)
        sizes = [max(1, math.floor(n * eta**-i + 1e-9)) for i in range(s + 1)]
        epochs = [
            min(most_epochs, max(1, round(most_epochs * eta ** (i - s)))) for i in range(s + 1)
        ]
        out.append(Bracket(tuple(sizes), tuple(epochs)))
    return out


class Hyperband(Searcher):
    """Hyperband over random configurations.

    `eta` and `R` as in the paper (R defaults to the study's epochs). `first` lists configuration
    ids to start before any random one.
    """

    name = "hyperband"

    def __init__(self, eta: float = 3.0, R: int | None = None, first: Sequence[int] = ()):
        brackets(1 if R is None else R, eta)  # refuse bad options before any study starts
        if wrong := [c for c in first if not isinstance(c, int)]:
            raise BadInput(f"first={wrong[0]!r} must be the id of a configuration")
        self.eta, self.most_epochs, self.first = eta, R, list(first)

    def plan(self, study: Study) -> Iterator[Bracket]:
        """The brackets in the order they run, without end."""
        round_ = brackets(min(self.most_epochs or study.max_epoch, study.max_epoch), self.eta)
        return (round_[k % len(round_)] for k in count())

    def sample(self, study: Study, rng: np.random.Generator) -> Choice | None:
        """A configuration to start next."""
        for config_id in self.first:
            if not 0 <= config_id < len(study.configs):
                raise BadInput(
                    f"first={config_id} is no configuration of this study, which has "
                    f"{len(study.configs)}"
                )
            if study.available[config_id] and study.epoch[config_id] == 0:
                return config_id
        return draw(study, rng)

    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The first promotion that is due, else the next configuration of a bracket with free
        slots; None while all rungs wait.
        """
        at = 0
        for bracket in self.plan(study):
            members = study.started[at : at + bracket.sizes[0]]
            step = self.promotion(study, bracket, members)
            if step is not None:
                return step
            if len(members) < bracket.sizes[0]:
                return self.start(study, rng, bracket, waiting=bool(study.pending.any()))
            at += bracket.sizes[0]
        return None

    def start(
        self, study: Study, rng: np.random.Generator, bracket: Bracket, waiting: bool
    ) -> Suggestion | None:
        """Start a configuration in `bracket`; with the pool used up, go on with the best paused
        trial instead.
        """
        fresh = self.sample(study, rng)
        if fresh is not None:
            because = {"why": f"bracket of {bracket.sizes[0]} from {bracket.epochs[0]} epochs"}
            return Suggestion(fresh, 0, bracket.epochs[0], because)
        if waiting:
            return None
        return best_paused(study, "the pool is used up: best paused trial")

    def promotion(
        self, study: Study, bracket: Bracket, members: Sequence[int]
    ) -> Suggestion | None:
        """The next step that the rungs of a bracket ask for, or None if it is finished, still
        filling or waiting.
        """
        # a short bracket still finishes interrupted first-rung steps
        if len(members) < bracket.sizes[0]:
            return unfinished(study, members, bracket.epochs[0])
        survivors = list(members)
        for i, epochs in enumerate(bracket.epochs):
            if i:
                survivors = top(study, survivors, bracket.epochs[i - 1], bracket.sizes[i])
            step = unfinished(study, survivors, epochs)
            if step is not None:
                return step
            if any(study.pending[c] for c in survivors if study.epoch[c] < epochs):
                return None
        return None


class SuccessiveHalving(Hyperband):
    """Hyperband's most exploring bracket, repeated (Jamieson and Talwalkar, AISTATS 2016)."""

    name = "sha"

    def plan(self, study: Study) -> Iterator[Bracket]:
        """Bracket s_max without end."""
        first = next(super().plan(study))
        return (first for _ in count())


def top(study: Study, members: Sequence[int], epoch: int, size: int) -> list[int]:
    """The `size` best of `members` by their best value up to `epoch`; failed trials last, ties by
    start order.
    """
    seen = study.Y[list(members), :epoch]
    score = np.where(np.isnan(seen), -np.inf, seen).max(axis=1, initial=-np.inf)
    score[study.failed[list(members)]] = -np.inf
    order = np.argsort(-score, kind="stable")[:size]
    return [members[k] for k in order if np.isfinite(score[k])]


def unfinished(study: Study, members: Sequence[int], epochs: int) -> Suggestion | None:
    """A step that brings the first member that can take one to `epochs`."""
    for c in members:
        if study.available[c] and study.epoch[c] < epochs:
            return Suggestion(
                int(c), int(study.epoch[c]), epochs, {"why": f"promoted to {epochs} epochs"}
            )
    return None


def best_paused(study: Study, why: str, **because: Any) -> Suggestion | None:
    """Finish the paused trial with the best value so far; None if there is none."""
    paused = np.flatnonzero(study.available & (study.epoch > 0))
    if not len(paused):
        return None
    best = int(paused[np.argmax(study.best[paused])])
    return Suggestion(best, int(study.epoch[best]), study.max_epoch, {"why": why, **because})
