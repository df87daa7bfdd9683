"""The default where past tasks exist: exact curve forecasts from a prior that past curves taught,
spent against a deadline.

Each decision conditions the prior of `foretune.searchers.transfer.curve_prior` on everything
observed and takes the configuration with the largest expected improvement that it can still reach:
epochs after the deadline do not count. Where time is the budget, it is the improvement for each
second, and a configuration reaches as many epochs as its own cost allows. The deadline is the next of 1, 2, 5, 10, 20, 50, ... full
trainings, or the end of the budget, so that a study is good at any time and spends its last epochs
on what is nearly finished. The first suggestion is the largest expected value at that deadline.

After the first full training's worth of epochs there are two ways to go on, and the past tasks,
replayed leave-one-out, say which (`foretune.searchers.transfer.past_policy`). Where looking at many
pays, as above. Where full trainings pay, because only the last epochs tell the good from the best:
the configuration that would most improve the past tasks' incumbents, had they spent the same
epochs, weighed by how much the target leans on each; it is then finished unless its expected
improvement vanishes. Not while the target's own observations speak against the history, its curves
and the order of what was tried; a configuration from the end of the past's order, tried for an
epoch, gives them the contrast to do so.

Where the study's pool or space is not the past's, `foretune.searchers.transfer.run_transfer` takes
over.

Steps under way count as if they had brought what is expected of them; a trial that failed counts as
the worst value seen, so that configurations like it are avoided.
"""

import math
from typing import Any

import numpy as np

from foretune.errors import BadInput, within
from foretune.searchers.base import USED_UP, PerStudy, Searcher, adopting, at_random, state_of
from foretune.searchers.prospect import Prospect, best_prospect
from foretune.searchers.transfer.curve_prior import Belief, CurvePrior
from foretune.searchers.transfer.deadline import (
    affordable,
    leaning,
    observations,
    until_deadline,
)
from foretune.searchers.transfer.past_curves import PastCurves, learned_from_past
from foretune.searchers.transfer.past_policy import full_trainings_pay
from foretune.study.study import Study, Suggestion

LADDER = 12  # epochs at which curves are predicted, geometrically spaced
# how many times the gain of the trial under way another must promise to take its place
PERSISTENCE = 4.0
# share of the largest expected improvement below which a configuration is not trained fully
NEGLIGIBLE = 0.02
# trust in the hypotheses against history from which the past's favourites are left alone
CONTRADICTED = 0.95
# configurations from the end of the past's order, each tried for an epoch after the first full
# training
CONTROLS = 1
CONTROL_SHARE = 8  # epochs before the next deadline that each of them takes


class CurveTransfer(Searcher):
    """Expected improvement that is reachable before the next deadline, under a prior learned from
    past curves.

    The fitted prior is a cache: it is derived again from the past tasks by a fresh searcher.
    """

    name = "curve-transfer"

    def __init__(self, growth: float = 0.25):
        # 0: one epoch per step; 10: steps of ten times the epochs so far
        within(0, 10, growth=growth)
        self.growth = growth
        self._beliefs: PerStudy[Belief] = PerStudy()
        self._beyond: Searcher | None = None

    # -- what is believed
    # ----------------------------------------------------------------------------------------------
    def prior(self, study: Study) -> CurvePrior:
        """The prior for this study's past and pool."""
        if study.past is None or not study.past.tasks:
            raise BadInput(
                "curve-transfer starts from past tasks and there are none: give a "
                "meta-dataset, or take --method hyperband"
            )
        return learned_from_past(study, self.name, CurvePrior)

    def ladder(self, study: Study) -> np.ndarray:
        """Epochs (from 0) at which curves are predicted, (G,)."""
        return np.unique(np.geomspace(1, study.max_epoch, LADDER).round().astype(int)) - 1

    def belief(self, study: Study) -> Belief:
        """The posterior on (configuration, ladder epoch), configurations first."""

        def believe() -> Belief:
            prior, ladder = self.prior(study), self.ladder(study)
            c, e, y = observations(study, ladder)
            belief = prior.believe(c, e, y, ladder)
            waiting = np.flatnonzero(study.pending)
            if not len(waiting):
                return belief
            ends = np.searchsorted(ladder, study.pending[waiting] - 1, side="right") - 1
            expected = belief.expected[waiting, ends]
            return prior.believe(
                np.r_[c, waiting], np.r_[e, ladder[ends]], np.r_[y, expected], ladder
            )

        return self._beliefs.get(study, state_of(study), believe)

    # -- what is done
    # ----------------------------------------------------------------------------------------------
    @adopting
    def suggest(self, study: Study, rng: np.random.Generator) -> Suggestion | None:
        """The step with the largest expected improvement reachable before the deadline; None while
        nothing is available.
        """
        if beyond_past(study):
            return self.by_runs().suggest(study, rng)
        free = study.available
        if not free.any():
            return at_random(study, rng, 1, USED_UP)
        left = until_deadline(study)
        reachable = affordable(study, left)
        ladder = self.ladder(study)
        belief = self.belief(study)
        control = self.control(study)
        if control is not None:
            return self.step(
                study,
                control,
                1,
                belief,
                "control: is what was poor on past tasks poor here too",
                None,
            )
        coming = ladder >= study.epoch[:, None]  # (n, G)
        reach = coming & (ladder < (study.epoch + reachable)[:, None])
        short = free & ~reach.any(axis=1)
        reach[short, coming[short].argmax(axis=1)] = True
        best = float(np.where(study.best > belief.ceiling, -np.inf, study.best).max())
        if math.isfinite(best):
            value = belief.gain(best)
        else:
            value = belief.expected
        ahead = np.where(coming & free[:, None], value, -np.inf).max(axis=1)
        value = np.where(reach & free[:, None], value, -np.inf).max(axis=1)
        if math.isfinite(best):  # improvement for each second, where epochs differ in their cost
            value = value / study.relative_costs
        gains = self.full_gains(study, belief, left)
        worth = free & (ahead > NEGLIGIBLE * ahead.max())
        if gains is not None and (gains[worth] > 1e-4).any():
            config_id = int(np.where(worth, gains, -np.inf).argmax())
            what = "largest gain on past tasks by full training"
        else:
            config_id = int(value.argmax())
            what = f"most expected improvement within {left} epochs"
        why = "continue" if study.epoch[config_id] else "start"
        left = int(reachable[config_id])
        return self.step(study, config_id, left, belief, f"{why}: {what}", float(value[config_id]))

    def by_runs(self) -> Searcher:
        """The searcher for a space or pool that the past does not share."""
        if self._beyond is None:
            from foretune.searchers.transfer.run_transfer import (
                RunTransfer,
            )  # builds on this module

            self._beyond = RunTransfer(self.growth)
        return self._beyond

    def control(self, study: Study) -> int | None:
        """After the first full training: a configuration from the middle or end of the past's
        order, until `CONTROLS` of them were tried.

        All that is tried on the past's advice alone may be equally good or equally bad: without a
        contrast, a misleading history looks like a hard task.
        """
        count = min(CONTROLS, until_deadline(study) // CONTROL_SHARE)
        if study.budget - study.remaining < study.max_epoch:
            return None
        past = self.prior(study).past
        order = np.argsort(-past.mean[: past.pool].max(axis=1), kind="stable")
        lower = order[len(order) // 3 :]
        tried = int(((study.epoch > 0) | (study.pending > 0) | study.failed)[lower].sum())
        if tried >= count or len(lower) < 2 * count:
            return None
        at = round((tried + 1) / count * (len(lower) - 1))
        fresh = [int(c) for c in lower[at::-1] if study.available[c] and study.epoch[c] == 0]
        return fresh[0] if fresh else None

    def full_gains(self, study: Study, belief: Belief, left: int) -> np.ndarray | None:
        """By how much each configuration, trained on until the deadline, would lower the past
        tasks' normalized regret, (n,).

        Their incumbents are those after the epochs that this study has spent. None in a study's
        first full training, where the past prefers probing, or where the target contradicts it.
        """
        used = study.budget - study.remaining
        if used < study.max_epoch:
            return None
        if contradicted(belief) and concordance(study, self.prior(study).past) <= 0.5:
            return None
        trainings = min(10, max(2, round((used + left) / study.max_epoch)))
        if not learned_from_past(
            study, (self.name, trainings), lambda past: full_trainings_pay(past.Z, trainings)
        ):
            return None
        best = learned_from_past(study, (self.name, "best so far"), best_so_far)  # (T, n, E)
        started = np.flatnonzero(study.epoch)
        incumbent = best[:, started, study.epoch[started] - 1].max(axis=1, initial=-np.inf)
        end = np.minimum(study.epoch + affordable(study, left), study.max_epoch) - 1
        weight = 0.5 / len(best) + 0.5 * belief.lean / max(float(belief.lean.sum()), 1e-12)
        gain = weight @ np.maximum(best[:, np.arange(len(end)), end] - incumbent[:, None], 0.0)
        if study.order:
            gain[study.order[-1][0]] *= PERSISTENCE
        return np.asarray(gain / study.relative_costs)

    def step(
        self, study: Study, config_id: int, left: int, belief: Belief, why: str, gain: float | None
    ) -> Suggestion:
        """A step of `config_id`, longer the longer it has trained, with the past tasks that speak
        for it.
        """
        start = int(study.epoch[config_id])
        length = max(1, int(start * self.growth))
        stop = min(start + min(length, left), study.max_epoch)
        prior = self.prior(study)
        because: dict[str, Any] = {"why": why, "past": leaning(belief.lean, prior.past.tasks)}
        because["trust"] = {name: round(w, 3) for name, w in belief.trust.items()}
        if gain is not None:
            because["expected_improvement"] = float(f"{gain:.4g}")
        return Suggestion(config_id, start, stop, because)

    def final(self, study: Study) -> np.ndarray:
        """Best value that each configuration has shown or is expected to show by its last epoch,
        (n,).
        """
        ladder = self.ladder(study)
        expected = self.belief(study).expected
        ahead = np.where(ladder >= study.epoch[:, None], expected, -np.inf).max(axis=1)
        ahead[study.failed] = -np.inf
        return np.maximum(ahead, study.best)

    def prospect(self, study: Study, price: float) -> Prospect | None:
        """By the forecast's expected improvement, of what the rest of the budget can reach."""
        if beyond_past(study):
            return self.by_runs().prospect(study, price)
        ladder, belief = self.ladder(study), self.belief(study)
        best = float(np.where(study.best > belief.ceiling, -np.inf, study.best).max())
        reachable = affordable(study, study.remaining)
        epochs = ladder + 1 - study.epoch[:, None]
        possible = study.available[:, None] & (epochs > 0) & (epochs <= reachable[:, None])
        return best_prospect(belief.gain(best), epochs, possible, price)

    def recommend(self, study: Study) -> int | None:
        """The configuration expected to be best when fully trained; before any observation, the
        past's.
        """
        if beyond_past(study):
            return self.by_runs().recommend(study)
        return int(self.final(study).argmax()) if len(study.configs) else None


def beyond_past(study: Study) -> bool:
    """Whether the past's curves do not apply as they are: there are none, or they are of another
    space and know none of the pool's configurations.
    """
    if study.past is None or not study.past.tasks:
        return study.runs is not None
    if (study.past_ids >= 0).any():
        return False
    return study.runs is not None or study.past.space != study.space


def contradicted(belief: Belief) -> bool:
    """Whether the target's own observations speak against the past's ranking."""
    return belief.trust.get("flat", 0.0) + belief.trust.get("opposite", 0.0) > CONTRADICTED


def concordance(study: Study, past: PastCurves) -> float:
    """Share of the pairs of tried configurations that the past's mean orders as this study does, at
    the last epoch that both reached.

    Pairs weigh by how far apart the past has them; 1 without any pair.
    """
    tried = np.flatnonzero(np.isfinite(study.Y[:, 0]) & ~study.failed)
    common = np.minimum(study.epoch[tried][:, None], study.epoch[tried][None]) - 1
    mean = past.mean
    apart = mean[tried[:, None], common] - mean[tried[None], common]
    seen = study.Y[tried[:, None], common] - study.Y[tried[None], common]
    weight = np.abs(np.where(np.isfinite(seen), apart, 0.0))
    total = float(weight.sum())
    return float(weight[apart * np.nan_to_num(seen) > 0].sum()) / total if total > 0 else 1.0


def best_so_far(past: PastCurves) -> np.ndarray:
    """Running maxima of the pool's past curves in units of each task's spread between
    configurations, (T, pool, E).
    """
    best = np.maximum.accumulate(past.Z[:, : past.pool], axis=2)
    spread = np.ptp(best[:, :, -1], axis=1)
    return np.asarray(best / np.where(spread > 0, spread, 1.0)[:, None, None])
