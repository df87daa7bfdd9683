"""The default against its rivals with whole sources held out, task by task, with tests.

    python -m papers.transfer.rivals HYPERREC LCBENCH [--out data/reports/rivals] [--jobs 1]

HYPERREC and LCBENCH are folders of meta-datasets; the shipped table comes third. Every task is new
once, and its past are the tasks of other sources: IMAGENET64SUB1 to 3 are cut from one source, and so
are PLACE365SUB1 to 3 and SUN397SUB1 to 3. Steps lie in OUT/traces and are not made again; those of the
published comparison (`--traces`) are taken where they answer the same question. Methods without
history have budgets of their own there, and their mean is over their repetitions.

| method   | what it does                                                                          |
|----------|---------------------------------------------------------------------------------------|
| probe    | the first p of the past's mean-rank list for m epochs each, then the best of them to  |
|          | the end, one after another; (p, m) of a small grid by the past's own tasks in turn     |

OUT/TABLE.csv has the normalized regret after 1, 2 and 5 trainings, mean and standard error over
tasks; OUT/TABLE-tests.csv the difference to the default, over sources (the mean of a source's tasks
counts once), with Wilcoxon's p and Holm's over all rivals and budgets of the table.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from foretune.evaluation.benchmark import error_of, regret_at, run_all
from foretune.evaluation.statistics import ALPHA, holm
from foretune.files import write_atomic
from foretune.history.grid import full_grid
from foretune.history.meta_dataset import MetaDataset
from foretune.history.ranks import mean_rank
from foretune.searchers.registry import DEFAULT
from foretune.searchers.transfer.past_policy import PROBES
from foretune.shipped import LIGHT

TRAININGS = (1, 2, 5)
WITH_PAST = (DEFAULT, "portfolio", "mean-rank", "empirical-prior", "at2")
WITHOUT = ("hyperband", "dyhpo")
SEEDS = {"hyperband": 10, "dyhpo": 1}  # of what is run here
SISTERS = re.compile(r"SUB\d+$")


def sources_of(meta: MetaDataset) -> dict[str, str]:
    """The source of each task."""
    known = meta.about.get("sources") or {}
    return {task: known.get(task) or SISTERS.sub("", task) for task in meta.tasks}


def pasts_of(source: Mapping[str, str]) -> dict[str, list[str]]:
    """The tasks of other sources than each task's."""
    return {task: [other for other in source if source[other] != source[task]] for task in source}


def probed(curves: np.ndarray, order: np.ndarray, p: int, m: int, budget: int) -> float:
    """The best value after `budget` epochs of one task's `curves` (n, E): the first `p` of `order`
    for `m` epochs, then the best of them to the end one after another.
    """
    best = np.maximum.accumulate(curves, axis=1)
    first = order[:p]
    value, left = -np.inf, budget
    for c in first:
        if left > 0:
            value, left = max(value, best[c, min(m, left) - 1]), left - m
    for c in first[np.argsort(-curves[first, m - 1], kind="stable")]:
        if left > 0:
            stop = min(curves.shape[1], m + left)
            value, left = max(value, best[c, stop - 1]), left - (stop - m)
    return float(value)


def probe_regret(curves: np.ndarray, target: int, past: Sequence[int], budget: int) -> float:
    """Normalized regret of the probing policy on task `target` of `curves` (T, n, E) with (p, m) by
    the mean regret on the tasks `past`, each in turn without itself.
    """
    n, E = curves.shape[1:]
    grid = [(p, m) for p, m in PROBES if p <= n and m <= E and p * m <= budget] or [(1, 1)]

    def regret(task: int, others: list[int], p: int, m: int) -> float:
        ends = curves[others].max(axis=2)
        order = np.argsort(mean_rank(ends), kind="stable")
        tops = curves[task].max(axis=1)
        spread = float(np.ptp(tops)) or 1.0
        return (float(tops.max()) - probed(curves[task], order, p, m, budget)) / spread

    def on_past(pair: tuple[int, int]) -> float:
        return float(np.mean([regret(t, [o for o in past if o != t], *pair) for t in past]))

    return regret(target, list(past), *min(grid, key=on_past))


def probe_rows(meta: MetaDataset, past: Mapping[str, list[str]]) -> pd.DataFrame:
    """The probing policy's regret, as `regret_at` has it."""
    place = {task: k for k, task in enumerate(meta.tasks)}
    raw = np.stack([meta.sign * meta.curves(t, meta.seeds(t)[0]) for t in meta.tasks])
    low = np.nanmin(raw, axis=(1, 2), keepdims=True)
    curves = np.where(np.isfinite(raw), raw, low)
    rows = {
        ("probe", task, 0): [
            probe_regret(curves, place[task], [place[o] for o in past[task]], k * meta.max_epoch)
            for k in TRAININGS
        ]
        for task in meta.tasks
    }
    index = pd.MultiIndex.from_tuples(list(rows), names=["method", "task", "seed"])
    columns = [k * meta.max_epoch for k in TRAININGS]
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def kept_steps(file: Path, method: str, meta: MetaDataset, past: Mapping[str, list[str]]) -> Any:
    """The steps of a file of `foretune.evaluation.benchmark` that are of the question asked here: all
    of a method without history, else those of the same budget with the same past, which in the
    shipped table's file is that of other sources, elsewhere all other tasks.
    """
    if method == DEFAULT or not file.is_file():
        return None
    steps = pd.read_parquet(file)
    if method in WITHOUT:
        return steps
    alone = [
        t for t in meta.tasks if "sources" in meta.about or len(past[t]) == len(meta.tasks) - 1
    ]
    same = steps["task"].isin(alone) & (steps["budget"] == max(TRAININGS) * meta.max_epoch)
    return steps[same & (steps["seed"] == 0)]


def regrets(name: str, folder: Path, given: argparse.Namespace) -> pd.DataFrame:
    """Normalized regret after `TRAININGS`, rows (method, task, seed)."""
    meta = MetaDataset.load(folder)
    past = pasts_of(sources_of(meta))
    parts = [probe_rows(meta, past)]
    budgets = [k * meta.max_epoch for k in TRAININGS]
    for method in given.methods.split(","):
        kept = kept_steps(given.traces / name / f"{method}.parquet", method, meta, past)
        there = set() if kept is None else set(kept["task"])
        if kept is not None and len(kept):
            parts.append(regret_at(kept, budgets))
        if left := [task for task in meta.tasks if task not in there]:
            steps = run_all(
                folder,
                given.out / "traces" / name,
                [method],
                budget=max(budgets),
                seeds=SEEDS.get(method, 1),
                tasks=left,
                sources=past,
                jobs=given.jobs,
            )
            parts.append(regret_at(steps[steps["task"].isin(left)], budgets))
        print(f"{name}: {method}", flush=True)
    return pd.concat(parts)


def tests(regret: pd.DataFrame, source: Mapping[str, str]) -> pd.DataFrame:
    """The default less each rival after each budget, over sources, with p and Holm's p."""
    tasks = regret.groupby(["method", "task"]).mean()
    by_source = tasks.groupby(
        [tasks.index.get_level_values("method"), tasks.index.get_level_values("task").map(source)]
    ).mean()
    rows = []
    for budget, k in zip(regret.columns, TRAININGS, strict=True):
        wide = by_source[budget].unstack(0)
        for rival in (m for m in wide.columns if m != DEFAULT):
            apart = (wide[DEFAULT] - wide[rival]).to_numpy()
            p = float(wilcoxon(apart, zero_method="pratt").pvalue) if apart.any() else 1.0
            rows.append(
                {
                    "rival": rival,
                    "trainings": k,
                    "difference": apart.mean(),
                    "se": apart.std(ddof=1) / np.sqrt(len(apart)),
                    "better": int((apart < 0).sum()),
                    "equal": int((apart == 0).sum()),
                    "worse": int((apart > 0).sum()),
                    "p": p,
                }
            )
    table = pd.DataFrame(rows)
    table["p_holm"] = holm(table["p"].tolist())
    table["significant"] = table["p_holm"] < ALPHA
    return table


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, write and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("hyperrec", type=Path)
    parser.add_argument("lcbench", type=Path)
    parser.add_argument("--out", type=Path, default=Path("data/reports/rivals"))
    parser.add_argument("--traces", type=Path, default=Path("data/reports/traces"))
    parser.add_argument("--methods", default=",".join([*WITH_PAST, *WITHOUT]))
    parser.add_argument("--tables", default="light,hyperrec,lcbench", help="of these only")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args(argv)
    folders = {"light": Path(LIGHT), "hyperrec": given.hyperrec, "lcbench": given.lcbench}
    for name in given.tables.split(","):
        folder = folders[name]
        meta = MetaDataset.load(folder)
        assert name != "light" or len(full_grid(meta)) == len(meta)
        found = regrets(name, folder, given)
        if DEFAULT not in found.index.get_level_values("method"):
            continue  # only steps were asked for
        tasks = found.groupby(["method", "task"]).mean()
        mean, error = tasks.groupby("method").mean(), error_of(found)
        mean.columns = [str(k) for k in TRAININGS]
        error.columns = [f"{k} se" for k in TRAININGS]
        table = mean.join(error).round(4)
        tested = tests(found, sources_of(meta)).round(4)
        write_atomic(given.out / f"{name}.csv", table.to_csv())
        write_atomic(given.out / f"{name}-tests.csv", tested.to_csv(index=False))
        print(f"{name}\n{table.to_string()}\n\n{tested.to_string(index=False)}\n", flush=True)


if __name__ == "__main__":
    main()
