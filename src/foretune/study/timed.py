"""What a study has time for: its epochs where the budget is one of the clock."""

import math
from typing import Any

import numpy as np

from foretune.study.pace import Pace, pace_of
from foretune.study.state import State

DRAWN = 32  # configurations that stand for an open space


class TimedState(State):
    """A state that knows what may still be spent: epochs of the plan, or what fits into its time.

    Built as a `State` is.
    """

    def __init__(self, *given: Any, **named: Any):
        self._pace: tuple[object, Pace] | None = None
        self._usual: tuple[object, Pace] | None = None
        super().__init__(*given, **named)

    @property
    def budget(self) -> int:
        """Epochs that may be spent in all: the plan's, or what the time that is left has room for
        at the pace of this study.
        """
        planned = self.spent + self._promised + self._epochs_in_time()
        return planned if self.plan.budget is None else min(self.plan.budget, planned)

    @property
    def remaining(self) -> int:
        """Epochs that are neither spent nor promised to a pending step."""
        return self.budget - self.spent - self._promised

    @property
    def available(self) -> np.ndarray:
        """Configurations that can take a step now: not failed, not pending, not finished, and an
        epoch of them fits into the time that is left; (n,) bool.
        """
        return self._trainable if self.plan.seconds is None else self._trainable & (self.reach > 0)

    @property
    def done(self) -> bool:
        """Whether the budget (epochs or seconds) is spent, or nothing is left to train."""
        exhausted = not self.open_space and not self.pending.any() and not self.available.any()
        capped = self.plan.budget is not None and self.spent >= self.plan.budget
        return capped or self.out_of_time or exhausted

    @property
    def out_of_time(self) -> bool:
        """Whether the wall-clock budget is used up, but for what the end of the study needs."""
        return self.concluded or self.seconds_left <= 0

    # -- time
    # --------------------------------------------------------------------------------------------
    @property
    def pace(self) -> Pace:
        """What epochs take, by `costs` and by what was told."""
        state = (self.spent, len(self.configs), len(self.times), self.costs)
        if self._pace is None or self._pace[0] != state:
            last = next((t for t in reversed(self.times) if math.isfinite(t)), 0.0)
            active = last - self._first_began
            self._pace = state, pace_of(self.costs, self.configs, self.X, self.rows, active)
        return self._pace[1]

    @property
    def usual_pace(self) -> Pace:
        """The pace of the configurations that may come: those of the pool, and where others may be
        proposed a few of these too.
        """
        if not self.open_space:
            return self.pace
        state = (self.spent, len(self.times), self.costs)
        if self._usual is None or self._usual[0] != state:
            drawn = self.space.sample(DRAWN, np.random.default_rng(0))
            self._usual = state, self.with_configs(drawn).pace
        return self._usual[1]

    @property
    def seconds_left(self) -> float:
        """Seconds for the search: what the end of the study needs, a final training of the best
        trial so far included, is kept back; infinite without a time budget.
        """
        return max(0.0, self.seconds_to_end - self.final_seconds)

    @property
    def seconds_to_end(self) -> float:
        """Seconds for the search and the final training; infinite without a time budget."""
        if self.plan.seconds is None:
            return math.inf
        return max(0.0, self._end - self.elapsed)

    @property
    def _end(self) -> float:
        """`elapsed` when the last training has to be over."""
        assert self.plan.seconds is not None
        return self.plan.seconds - self.costs.after * self.pace.scale - self.costs.fixed

    @property
    def final_seconds(self) -> float:
        """Seconds that a final training of the best trial so far would take; before there is one,
        of a middling configuration for half of a full training's epochs, at most half of the time
        that there is; 0 where none follows, or no configuration has time for one.
        """
        if not self._finals:
            return 0.0
        if (found := self.incumbent) is None:
            pace = self.usual_pace
            half = np.full(len(pace.log), math.ceil(self.max_epoch / 2))
            middling = float(np.median(pace.final_seconds(half)))
            return min(middling, self.seconds_to_end / 2)
        i, epoch, _ = found
        return float(self.pace.final_seconds(np.full(len(self.configs), epoch))[i])

    @property
    def _finals(self) -> bool:
        """Whether a final training is planned: there was time for one of the cheapest configuration
        when the first epoch began, or an estimate alone says that there was none.
        """
        if self.costs.final is None or self.timeless:
            return False
        pace = self.usual_pace
        one = pace.final_seconds(np.ones(len(pace.log)))
        return not self.pace.timed or float(one.min()) <= self._end - self._first_began

    @property
    def timeless(self) -> bool:
        """Whether time sets no limit to the epochs: there is no such budget, or nothing is known of
        what an epoch takes.
        """
        if self.plan.seconds is None:
            return True
        return self.costs.expected is None and not self.pace.timed

    @property
    def reach(self) -> np.ndarray:
        """Epochs for which each configuration can be trained on in the time that is left, so that
        the final training that it would need as the best one still ends in time: if all goes
        quickly, where steps can be broken off, else if it goes slowly; (n,) int.
        """
        if self.timeless:
            return np.full(len(self.configs), self.max_epoch)
        doubts = -1.0 if self.costs.break_off else 1.0
        epochs = self.pace.reach(self.epoch, self.seconds_left, doubts)
        if self._finals:
            seconds = self.seconds_to_end - self.pace.final_seconds(self.epoch)
            won = self.pace.reach(self.epoch, seconds, max(0.0, doubts), final=True)
            epochs = np.minimum(epochs, won)
        if not self.pace.timed and self.seconds_left > 0:
            epochs = np.maximum(epochs, 1)  # an estimate alone refuses nothing
        return np.minimum(epochs, self.max_epoch)

    @property
    def seconds_for_an_epoch(self) -> np.ndarray:
        """Seconds in which each configuration has to end its next epoch, (n,): before the best
        trial so far begins its final training, and in time for one of its own.
        """
        left = np.full(len(self.configs), self.seconds_left)
        if self._finals:
            own = self.pace.final_seconds(self.epoch + 1)
            left = np.minimum(left, self.seconds_to_end - own)
        return left

    @property
    def relative_costs(self) -> np.ndarray:
        """Seconds of an epoch of each configuration over the pool's mean, (n,); 1 where epochs are
        the budget.
        """
        if self.timeless or not len(self.configs):
            return np.ones(len(self.configs))
        return np.asarray(self.pace.seconds / np.mean(self.pace.seconds))

    def _epochs_in_time(self) -> int:
        """Epochs of all workers together in the time that is left: at the costs of what was trained
        so far, and of the pool as far as little was.
        """
        if self.timeless:
            known = self.plan.budget is not None
            room = self.plan.budget if known else 10 * self.max_epoch
            return max(0, int(room or 0) - self.spent - self._promised)
        seconds = self.pace.seconds
        typical = float(np.mean(self.usual_pace.seconds))
        mean = (typical * self.max_epoch + float(self.epoch @ seconds)) / (
            self.max_epoch + float(self.epoch.sum())
        )
        total = self.seconds_left * self.pace.parallel / mean
        if not self.pace.timed and self.seconds_left > 0:
            total = max(total, self.costs.workers)  # an estimate alone refuses nothing
        under_way = np.minimum(
            np.maximum(self.pending - self.epoch, 0), self.seconds_left / seconds
        )
        return max(0, int(total - float(under_way.sum())))
