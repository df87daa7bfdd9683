"""Methods compared over tasks: average ranks, tests, critical-difference diagrams (Demsar, 2006).

A `blocks` table has a row per task (its mean over repetitions) and a column per method; lower is
better. A method that lacks a task is an error: the tests need complete blocks.

- `average_ranks`: rank 1 = best, ties share the mean of their ranks.
- `friedman`: do the methods differ at all?
- `wilcoxon_holm`: which pairs differ, by the Wilcoxon signed-rank test with Holm's step-down
  correction of its p-values.
- `against`: every method against one of them, with an interval of the mean difference.
- `share_needed`: how much of another's budget a method needs to be as good, with an interval.
- `cliques`: groups of methods, next to each other in rank, of which no pair differs; the bars of a
  diagram.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.benchmark import regret_at

ALPHA = 0.05


def blocks(
    steps: pd.DataFrame, budget: int, column: str = "normalized_regret", nothing: float = 1.0
) -> pd.DataFrame:
    """Tasks by methods: mean over repetitions of `column` once `budget` epochs are spent.

    Raises `BadInput` for incomplete blocks.
    """
    values = regret_at(steps, [budget], column, nothing)[budget]
    table = values.groupby(["task", "method"]).mean().unstack("method")
    missing = np.argwhere(table.isna().to_numpy())
    if len(missing):
        task, method = table.index[missing[0][0]], table.columns[missing[0][1]]
        raise BadInput(f"{method} has no run of {task}: statistics need every method on every task")
    return table


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Rank of each method within each block, 1 = lowest value, ties averaged; same shape."""
    return table.rank(axis=1, method="average")


def average_ranks(table: pd.DataFrame) -> pd.Series:
    """Mean rank of each method, best first."""
    return ranks(table).mean().sort_values(kind="stable")


def friedman(table: pd.DataFrame) -> tuple[float, float]:
    """Friedman's chi-square with its correction for ties, and its p-value.

    (0, 1) where all methods are equal in every block.

    Raises `BadInput` for fewer than three methods or two blocks.
    """
    n, k = table.shape
    if k < 3 or n < 2:
        raise BadInput(f"the Friedman test needs 3 methods and 2 tasks; there are {k} and {n}")
    from scipy.stats import friedmanchisquare

    if (table.nunique(axis=1) == 1).all():  # scipy divides by the spread of the ranks
        return 0.0, 1.0
    statistic, p = friedmanchisquare(*table.to_numpy().T)
    return float(statistic), float(p)


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p-values: the i-th smallest times (m - i), made to rise, at most 1."""
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    adjusted = np.minimum(
        1.0, np.maximum.accumulate(values[order] * (len(values) - np.arange(len(values))))
    )
    out = np.empty(len(values))
    out[order] = adjusted
    return out


def wilcoxon_holm(table: pd.DataFrame, alpha: float = ALPHA) -> pd.DataFrame:
    """Every pair of methods: median difference, p, Holm's p, whether it is below alpha.

    p is that of the two-sided signed-rank test (zeros split, Pratt).
    """
    from scipy.stats import wilcoxon

    rows = []
    for a, b in combinations(table.columns, 2):
        difference = table[a].to_numpy() - table[b].to_numpy()
        p = 1.0 if not difference.any() else float(wilcoxon(difference, zero_method="pratt").pvalue)
        rows.append({"a": a, "b": b, "mean_difference": float(difference.mean()), "p": p})
    out = pd.DataFrame(rows, columns=["a", "b", "mean_difference", "p"])
    out["p_holm"] = holm(out["p"].tolist())
    out["significant"] = out["p_holm"] < alpha
    return out


def mean_interval(values: Sequence[float], level: float = 1 - ALPHA) -> tuple[float, float]:
    """Student's interval of the mean of independent `values`; NaN for fewer than two of them."""
    from scipy.stats import t

    known = np.asarray(values, dtype=float)
    if len(known) < 2:
        return math.nan, math.nan
    half = float(t.ppf((1 + level) / 2, len(known) - 1) * known.std(ddof=1)) / math.sqrt(len(known))
    return float(known.mean()) - half, float(known.mean()) + half


def against(table: pd.DataFrame, baseline: str, alpha: float = ALPHA) -> pd.DataFrame:
    """Each method of a blocks table but `baseline` against it, indexed by method.

    Columns `difference` (mean of method minus baseline), `low` and `high` (its interval at 1 -
    `alpha`), `higher`, `equal` and `lower` (in how many blocks the method's value is so), `p`
    (two-sided signed-rank test, zeros split) and `p_holm` among the methods.
    """
    from scipy.stats import wilcoxon

    rows = {}
    for name in table.columns.drop(baseline):
        gap = (table[name] - table[baseline]).to_numpy(dtype=float)
        low, high = mean_interval(gap.tolist(), 1 - alpha)
        rows[name] = {
            "difference": gap.mean(),
            "low": low,
            "high": high,
            "higher": int((gap > 0).sum()),
            "equal": int((gap == 0).sum()),
            "lower": int((gap < 0).sum()),
            "p": float(wilcoxon(gap, zero_method="pratt").pvalue) if gap.any() else 1.0,
        }
    out = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")
    out["p_holm"] = holm(out["p"].tolist())
    return out


def share_needed(
    curves: np.ndarray, theirs: np.ndarray, alpha: float = ALPHA, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """The share of a budget after which a method's mean curve is as low as another's at the end,
    and its bootstrap interval at 1 - `alpha`; infinite for never.

    `curves` and `theirs` are (units, steps of the budget), the same units drawn again for both.
    """
    units, steps = curves.shape
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(units, np.full(units, 1 / units), size=draws) / units
    weights = np.vstack([np.full(units, 1 / units), drawn])
    reached = weights @ curves <= (weights @ theirs[:, -1])[:, None] + 1e-9
    share = np.where(reached.any(axis=1), (reached.argmax(axis=1) + 1) / steps, np.inf)
    low, high = np.quantile(share[1:], [alpha / 2, 1 - alpha / 2], method="inverted_cdf")
    return float(share[0]), float(low), float(high)


def cliques(order: Sequence[str], pairs: pd.DataFrame) -> list[list[str]]:
    """Longest runs of methods in rank `order` of which no pair is significant in `pairs`.

    Singles and parts of longer runs are left out.
    """
    differ = {
        frozenset((a, b))
        for a, b, s in zip(pairs["a"], pairs["b"], pairs["significant"], strict=True)
        if s
    }
    found: list[list[str]] = []
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and all(
            frozenset((m, order[stop])) not in differ for m in order[start:stop]
        ):
            stop += 1
        group = list(order[start:stop])
        if len(group) > 1 and not any(set(group) <= set(g) for g in found):
            found.append(group)
    return found


@dataclass(frozen=True)
class Comparison:
    """What a critical-difference diagram shows.

    Mean ranks (best first), the Friedman test, the pairs and the groups without a difference.
    """

    ranks: pd.Series
    statistic: float
    p: float
    pairs: pd.DataFrame
    groups: list[list[str]]

    @classmethod
    def of(cls, table: pd.DataFrame, alpha: float = ALPHA) -> "Comparison":
        """Compare the methods of a blocks table.

        Where Friedman's test finds no difference, no pair counts as different.
        """
        mean = average_ranks(table)
        statistic, p = friedman(table)
        pairs = wilcoxon_holm(table, alpha)
        if p >= alpha:
            pairs["significant"] = False
        return cls(mean, statistic, p, pairs, cliques(list(mean.index), pairs))


def diagram(comparison: Comparison, title: str = "") -> str:
    """The critical-difference diagram as an SVG text.

    Methods stand on the axis of mean ranks, bars join those that do not differ.
    """
    names = list(comparison.ranks.index)
    k, width, margin, row = len(names), 720, 170, 20
    half = (k + 1) // 2
    bars = 12 * len(comparison.groups)
    height = 70 + bars + row * half + 10

    def at(rank: float) -> float:
        return margin + (rank - 1) / max(1, k - 1) * (width - 2 * margin)

    def text(x: float, y: float, content: str, anchor: str = "middle") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{content}</text>'

    def line(x1: float, y1: float, x2: float, y2: float, weight: float = 1) -> str:
        return (
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="currentColor" stroke-width="{weight}"/>'
        )

    axis = 45
    parts = [
        text(width / 2, 16, f"{title} (Friedman p = {comparison.p:.2g})".strip()),
        line(at(1), axis, at(k), axis),
    ]
    parts += [
        line(at(r), axis - 5, at(r), axis) + text(at(r), axis - 9, str(r)) for r in range(1, k + 1)
    ]
    for g, group in enumerate(comparison.groups):
        y = axis + 10 + 12 * g
        parts.append(
            line(at(comparison.ranks[group[0]]) - 4, y, at(comparison.ranks[group[-1]]) + 4, y, 4)
        )
    for place, name in enumerate(names):
        left = place < half
        y = axis + 22 + bars + row * (place if left else k - 1 - place)
        x, rank = at(comparison.ranks[name]), comparison.ranks[name]
        end = margin - 10 if left else width - margin + 10
        label = f"{name} {rank:.2f}" if left else f"{rank:.2f} {name}"
        parts += [
            line(x, axis, x, y),
            line(x, y, end, y),
            text(end - 4 if left else end + 4, y + 4, label, "end" if left else "start"),
        ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12" fill="currentColor">'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"
