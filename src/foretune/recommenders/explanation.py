"""What is said about a ranking: what it leans on, what images change, which past runs back it."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from foretune.recommenders.past import equal_shares
from foretune.recommenders.ranking import Ranking


@dataclass(frozen=True)
class Reason:
    """One past run of a suggested configuration.

    The task, its place there (0 = best), its best value in the metric's unit, the task's share in
    the score.

    `kind` is why this run is named: `leans` (its task counts more than others), `best` or `worst`
    (among tasks that count alike, and of which all count), or `measured` (on the very images that
    the suggestion is for).
    """

    task: str
    rank: int
    value: float
    weight: float
    kind: str = "leans"


@dataclass(frozen=True, eq=False)
class Explanation:
    """What is said about `ranking`; arrays are (n,) by row, as the ranking's."""

    ranking: Ranking

    @property
    def shares(self) -> dict[str, float] | None:
        """What the advice leans on: past task -> its share in the list, heaviest first.

        None where no past task has a share.

        It is the same for all configurations, what images add apart (`image_effect`): a list in
        which all past tasks count alike leans on those where a configuration did badly as much as
        on those where it did well.
        """
        ranking = self.ranking
        if not ranking.supported:
            return equal_shares(ranking.past.tasks)
        if ranking.counts is None:
            return None
        return dict(sorted(ranking.counts.items(), key=lambda item: -item[1]))

    @property
    def equal(self) -> bool:
        """Whether all past tasks have the same share in the advice."""
        shares = self.shares or {}
        return len(shares) == len(self.ranking.past.tasks) and np.ptp(list(shares.values())) < 1e-9

    @property
    def places_without_images(self) -> np.ndarray | None:
        """The place of each row, 0 = first, had the images not been looked at.

        None where nothing but they decides.
        """
        if self.ranking.base is None:
            return None
        return np.argsort(np.argsort(-self.ranking.base, kind="stable"), kind="stable")

    @property
    def image_effect(self) -> np.ndarray | None:
        """What the images add to `base`, signed and in the metric's own unit.

        At the range of the nearest past tasks, as in `in_unit`. None where there is no such list,
        or the past does not support the ranking.
        """
        ranking, past = self.ranking, self.ranking.past
        if ranking.base is None or not ranking.supported:
            return None
        weight = np.array([ranking.nearest.get(task, 0.0) for task in past.tasks])
        width = float(weight @ past.level[1] / weight.sum())
        return past.sign * width * (ranking.scores - ranking.base)

    def reasons(self, row: int, k: int = 4, skip: Collection[str] = ()) -> list[Reason]:
        """`k` past runs behind the place of `row`, without the tasks in `skip`.

        Where past tasks count differently: those that count most, heaviest first. Where all count
        alike, or none has a share of its own: where the configuration did best and where it did
        worst, half each (the best first; one more of them for an odd `k`).
        """
        past, shares = self.ranking.past, self.shares or {}
        ranks = past.ranks[:, row]

        def reason(t: int, kind: str) -> Reason:
            task = past.tasks[t]
            value = float(past.best[t, row] * past.sign)
            return Reason(task, int(ranks[t]), value, float(shares.get(task, 0.0)), kind)

        if shares and not self.equal:
            heaviest = [task for task in shares if task not in skip][:k]
            return [reason(past.tasks.index(task), "leans") for task in heaviest]
        order = [int(t) for t in np.argsort(ranks, kind="stable") if past.tasks[t] not in skip]
        best = order[: min((k + 1) // 2, (len(order) + 1) // 2)]
        worst = order[len(best) :][max(0, len(order) - len(best) - k // 2) :]
        return [reason(t, "best") for t in best] + [reason(t, "worst") for t in worst]
