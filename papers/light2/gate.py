"""The gate: do tasks differ enough, and is the truth clean enough, for anybody to beat the list?

    python -m papers.light2.gate [--meta data/meta/gate]

From the table alone, seconds, while it grows as well. Every sub-task is held out with all of its
source.

**Gain of the oracle**: AP@10 of the mean normalised score of the 3 past tasks whose true values
correlate most (Spearman) with the held-out task's, minus AP@10 of the list (the mean normalised
score of all past tasks). What an oracle that knows the nearest tasks cannot gain, no picture can
teach. It must be `GAIN`. But an oracle that chooses neighbours by the very values that it is judged
on also gains where tasks share nothing: on made-up tables of 24 x 24, +.22 where all is noise and
+.05 where each task has an order of its own; on `light` cut to these 24 configurations +.083 ±
.020. So it is printed, and what decides is the *crossed* oracle, which scores each configuration by
neighbours that were chosen on others: 0 to -.06 on those tables, +.021 ± .023 on that part of
`light`, and on `photos`, where tasks share what can be learnt, +.145 ± .035 (the plain one +.143 ±
.032).

**Share of noise** among the list's top 20: of what a table of values v = task + configuration +
rest leaves to the rest (two-way additive fit, SS / ((T - 1)(n - 1))), the part that another
training seed (half the mean squared difference of cells trained twice) and other validation images
(binomial, mean of v (1 - v) / images) would make. It must be `NOISE` at most. The binomial part
counts images as drawn anew for each cell, although configurations share them: the share is rather
too high than too low.

A value is the mean of the best epoch's accuracy and its neighbours'. Standard errors are over
sources, of means by source (of the share: jackknife over sources), intervals 95 % by Student's t.
In a table that has n of the 24 configurations so far, K = 10, K = 5 and the top 20 shrink in
proportion, and the verdict is open.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata, t

from foretune.errors import BadInput
from foretune.history.average_precision import ap_at_k, regret_after, tie_averaged_ap_at_k
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.base import Past

GAIN, NOISE = 0.08, 0.35
WHOLE, TOP, KS = 24, 20, (10, 5)
LIST, ORACLE, CROSSED = "list, normalised mean", "oracle, 3 nearest", "oracle, crossed"
REPEATS = 10


@dataclass(frozen=True, eq=False)
class Table:
    """What the gate looks at: values (T, n) of cells finished on every task, `again` of the second
    seed (NaN where there is none), validation images (T,) and the source of each task.
    """

    tasks: tuple[str, ...]
    sources: np.ndarray
    values: np.ndarray
    again: np.ndarray
    images: np.ndarray

    @classmethod
    def of(cls, meta: MetaDataset) -> "Table":
        """The part of a collected gate that every task has. Raises `BadInput` where there is none."""
        factors, ends = meta.about["factors"], meta.about["epochs"]
        tasks = tuple(factors)
        if lacking := [task for task in tasks if task not in meta.tasks]:
            raise BadInput(f"{meta.name} has no cell of {', '.join(lacking)} yet")

        first = np.stack([settled(meta, task, 0, ends[task]) for task in tasks])
        again = np.stack([settled(meta, task, 1, ends[task]) for task in tasks])
        # a configuration that diverged is as bad as the task's worst
        worst = np.where(np.isfinite(first), first, np.inf).min(axis=1, keepdims=True)
        values, again = (np.where(np.isneginf(v), worst, v) for v in (first, again))
        there = ~np.isnan(values).any(axis=0)
        if there.sum() < 3:
            raise BadInput(
                f"{meta.name}: {there.sum()} configurations are on every task, 3 are needed"
            )
        images = np.array([factors[task]["validation_images"] for task in tasks])
        sources = np.array([meta.about["sources"][task] for task in tasks])
        return cls(tasks, sources, values[:, there], again[:, there], images)

    def scaled(self, count: int) -> int:
        """A number of 24 configurations, in proportion to those that are there."""
        return max(1, round(count * self.values.shape[1] / WHOLE))

    def without(self, source: str) -> "Table":
        """The table without a source."""
        rows = np.flatnonzero(self.sources != source)
        parts = (self.sources, self.values, self.again, self.images)
        return Table(tuple(self.tasks[i] for i in rows), *(part[rows] for part in parts))


def settled(meta: MetaDataset, task: str, seed: int, end: int) -> np.ndarray:
    """Values of a task by configuration, (n,): NaN where not trained to epoch `end`, -inf where
    diverged.
    """
    curves = meta.curves(task, seed)
    whole = np.where(np.isnan(curves[:, end - 1]), np.nan, settled_best(curves))
    return np.where(meta.failed(task, seed).any(axis=1), -np.inf, whole)


def settled_best(curves: np.ndarray) -> np.ndarray:
    """Mean of the best epoch and its neighbours, (n,) of (n, E); NaN where no epoch is known."""
    padded = np.pad(curves, ((0, 0), (1, 1)), constant_values=np.nan)
    best = np.where(np.isnan(curves), -np.inf, curves).argmax(axis=1)
    around = np.take_along_axis(padded, best[:, None] + np.arange(3), axis=1)
    known = (~np.isnan(around)).sum(axis=1)
    # sums in another order differ in the last bits: no tie may depend on it
    value = np.round(np.nansum(around, axis=1) / np.maximum(1, known), 7)
    return np.where(known > 0, value, np.nan)


def correlations(values: np.ndarray) -> np.ndarray:
    """Spearman's correlation of tasks over configurations, (T, T); 0 with a constant task."""
    ranks = rankdata(values, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    length = np.sqrt((ranks**2).sum(axis=1, keepdims=True))
    unit = ranks / np.where(length > 0, length, 1.0)
    return unit @ unit.T


def oracle(k: int) -> Callable[[Past, np.ndarray], np.ndarray]:
    """Mean normalised score of the k past tasks that rank configurations most like the truth."""

    def scores(past: Past, truth: np.ndarray) -> np.ndarray:
        likeness = correlations(np.vstack([truth, past.best]))[0, 1:]
        return past.normalised[np.argsort(-likeness, kind="stable")[:k]].mean(axis=0)

    return scores


def crossed_oracle(k: int) -> Callable[[Past, np.ndarray], np.ndarray]:
    """The oracle without sight of what it is judged on: configurations in four parts, each scored
    by the k past tasks that are most like the truth on the other three; mean over `REPEATS`
    partitions.
    """

    def scores(past: Past, truth: np.ndarray) -> np.ndarray:
        rng, known, out = np.random.default_rng(0), past.normalised, np.zeros(len(truth))
        for _ in range(REPEATS):
            part = rng.permutation(len(truth)) % 4
            for own in (part == i for i in range(4)):
                likeness = correlations(np.vstack([truth, past.best])[:, ~own])[0, 1:]
                nearest = np.argsort(-likeness, kind="stable")[:k]
                out[own] += known[np.ix_(nearest, own)].mean(axis=0)
        return out

    return scores


def portfolio(past: Past, truth: np.ndarray) -> np.ndarray:
    """The greedy portfolio, then the mean rank, as scores."""
    return -np.argsort(past.portfolio()).astype(float)


METHODS: dict[str, Callable[[Past, np.ndarray], np.ndarray]] = {
    LIST: lambda past, truth: past.normalised.mean(axis=0),
    "list, raw mean": lambda past, truth: past.filled.mean(axis=0),
    "portfolio": portfolio,
    "oracle, 1 nearest": oracle(1),
    ORACLE: oracle(3),
    "oracle, 5 nearest": oracle(5),
    CROSSED: crossed_oracle(3),
}


def judged(table: Table) -> pd.DataFrame:
    """A row a task and method: AP@K and its tie-averaged form for both K, regret of the first in
    accuracy.
    """
    rows, n = [], table.values.shape[1]
    for i, task in enumerate(table.tasks):
        others = np.flatnonzero(table.sources != table.sources[i])
        past = Past(tuple(table.tasks[j] for j in others), tuple(range(n)), table.values[others])
        truth = table.values[i]
        for method, score in METHODS.items():
            scores = score(past, truth)
            row = {"task": task, "source": table.sources[i], "method": method}
            for k in KS:
                row |= {f"AP@{k}": ap_at_k(scores, truth, table.scaled(k))}
                row |= {f"AP@{k} ties": tie_averaged_ap_at_k(scores, truth, table.scaled(k))}
            row["regret"] = regret_after(scores, truth)[0] * np.ptp(truth)
            rows.append(row)
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error over `sources` of them."""

    value: float
    error: float
    sources: int

    def interval(self) -> tuple[float, float]:
        """95 % by Student's t."""
        reach = float(t.ppf(0.975, self.sources - 1)) * self.error
        return self.value - reach, self.value + reach

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.value:+.3f} ± {self.error:.3f} (95 % {low:+.3f} to {high:+.3f})"


def by_source(values: pd.Series, sources: Sequence[str]) -> Estimate:
    """Mean over sources of their tasks' means, and its standard error."""
    means = values.groupby(np.asarray(sources)).mean()
    return Estimate(float(means.mean()), float(means.std(ddof=1) / len(means) ** 0.5), len(means))


def gain(rows: pd.DataFrame, method: str, column: str, over: str = LIST) -> Estimate:
    """What a method has more than another, on the same tasks."""
    wide = rows.pivot(index=["task", "source"], columns="method", values=column)
    return by_source(wide[method] - wide[over], wide.index.get_level_values("source").tolist())


def noise_parts(table: Table, top: int) -> tuple[float, float, float]:
    """(variance of what is left beside task and configuration, of it by seeds, by images) among the
    list's first `top`. NaN for seeds where no cell of these was trained twice.
    """
    past = Past(table.tasks, tuple(range(table.values.shape[1])), table.values)
    first = np.argsort(-past.normalised.mean(axis=0), kind="stable")[:top]
    v, again = table.values[:, first], table.again[:, first]
    rest = v - v.mean(axis=1, keepdims=True) - v.mean(axis=0) + v.mean()
    left = float((rest**2).sum() / ((v.shape[0] - 1) * (v.shape[1] - 1)))
    twice = ~np.isnan(again)
    seeds = float(((v - again)[twice] ** 2).mean() / 2) if twice.any() else float("nan")
    return left, seeds, float((v * (1 - v) / table.images[:, None]).mean())


def noise_share(table: Table, top: int) -> Estimate:
    """Share of noise, its error by the jackknife over sources."""

    def share(part: Table) -> float:
        left, seeds, images = noise_parts(part, top)
        return (seeds + images) / left if left > 0 else float("inf")

    names = np.unique(table.sources)
    kept = np.array([share(table.without(source)) for source in names])
    spread = ((kept - kept.mean()) ** 2).sum() * (len(names) - 1) / len(names)
    return Estimate(share(table), float(np.sqrt(spread)), len(names))


def verdict(gained: Estimate, share: Estimate, whole: bool) -> str:
    """PASS if both numbers hold, else FAIL; OPEN while configurations or second seeds are missing."""
    if not whole or np.isnan(share.value):
        return "OPEN"
    return "PASS" if gained.value >= GAIN and share.value <= NOISE else "FAIL"


def report(table: Table) -> str:
    """All of it as text."""
    n, rows = table.values.shape[1], judged(table)
    twice = int((~np.isnan(table.again)).sum())
    lines = [
        f"{len(table.tasks)} tasks of {len(np.unique(table.sources))} sources x {n} of {WHOLE} "
        f"configurations, {twice} cells trained twice; K = {', '.join(str(table.scaled(k)) for k in KS)}"
    ]
    columns = [f"AP@{k}{ties}" for k in KS for ties in ("", " ties")]
    lines.append(f"{'':24}" + "".join(f"{c:>18}" for c in [*columns, "regret"]))
    for method, own in rows.groupby("method", sort=False):
        cells = [by_source(own[c], own["source"].tolist()) for c in [*columns, "regret"]]
        lines.append(f"{method:24}" + "".join(f"{e.value:10.3f} ± {e.error:.3f}" for e in cells))
    for method, over in product((ORACLE, CROSSED), (LIST, "list, raw mean")):
        for c in columns:
            lines.append(f"{method} over {over}, {c}: {gain(rows, method, c, over)}")
    for top in (TOP, TOP // 2):
        left, seeds, images = noise_parts(table, table.scaled(top))
        lines.append(
            f"top {table.scaled(top)}: variance beside task and configuration {left:.5f}, by seeds "
            f"{seeds:.5f}, by images {images:.5f}; share of noise {noise_share(table, table.scaled(top))}"
        )
    alike, same = correlations(table.values), np.equal.outer(table.sources, table.sources)
    lines.append(
        f"rank correlation of tasks of two sources {alike[~same].mean():.2f}, of the nearest "
        f"{np.where(same, -1, alike).max(axis=1).mean():.2f}"
    )
    plain, crossed = (gain(rows, method, "AP@10") for method in (ORACLE, CROSSED))
    share = noise_share(table, table.scaled(TOP))
    lines += [
        f"gain of the oracle, seeing what it is judged on: {plain}, must be {GAIN}",
        f"gain of the oracle, crossed: {crossed}, must be {GAIN}",
        f"share of noise: {share}, must be {NOISE} at most",
        f"{verdict(crossed, share, n == WHOLE)} (with the plain oracle: "
        f"{verdict(plain, share, n == WHOLE)})",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the report of a collected table."""
    parser = argparse.ArgumentParser(prog="python -m papers.light2.gate")
    parser.add_argument("--meta", type=Path, default=Path("data/meta/gate"))
    print(report(Table.of(MetaDataset.load(parser.parse_args(argv).meta))))


if __name__ == "__main__":
    main()
