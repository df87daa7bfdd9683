"""AT2's figures 1, 4 and 15 (and 5 and 14) on the paper's own train-test pairs; resumable.

    python -m papers.at2.pairs META [META ...] [--methods at2,rgpe] [--out data/reports/at2]

Each META names its pairs in `about.json` (`paper_pairs`: a test task and its four training tasks).
A method runs 100 iterations (epochs) on each; steps are kept per method in OUT/traces, finished
runs are not repeated. Mean and standard error are over pairs; the ranking is also smoothed by a
Hamming window of 10 as in the paper.

| file         | paper               | rows                                                        |
|--------------|---------------------|-------------------------------------------------------------|
| pairs.csv    | figures 1, 4 and 15 | database, method, iteration: simple regret (metric's unit), |
|              |                     | final performance ranking; means, errors                    |
| summary.csv  |                     | the same at iterations 10, 25, 50 and 100, with             |
|              |                     | milliseconds per decision and seconds per run               |
| forecast.csv | figures 5 and 14    | AT2's mean and standard deviation beside the observed       |
|              |                     | curve, 10 configurations of the first pair                  |
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.benchmark import run_all
from foretune.evaluation.replay import replay_study
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from papers.command import command

METHODS = (
    "at2",
    "ablr",
    "ablr-hb",
    "box-bo",
    "box-bohb",
    "bohamiann",
    "pmf",
    "rgpe",
    "portfolio",
    "curve-transfer",
)

# AT2 as published, with fewer inducing rows than its 1,000: at those a pair takes about 80 minutes
PUBLISHED = {"inference": "variational", "distance": "centred"}
OPTIONS: dict[str, dict[str, Any]] = {
    "at2:centred": {"distance": "centred"},
    "at2:variational": PUBLISHED | {"inducing": 100},
    "at2:published": PUBLISHED,
}

ITERATIONS = 100
SHOWN = (10, 25, 50, 100)
WINDOW = 10  # of the paper's smoothing


def paper_pairs(meta: MetaDataset) -> dict[str, list[str]]:
    """Test task -> its training tasks. Raises `BadInput` if the meta-dataset names none."""
    pairs = {pair["test"]: list(pair["train"]) for pair in meta.about.get("paper_pairs", [])}
    if not pairs:
        raise BadInput(
            f"{meta.name} names no paper_pairs in its about.json (HyperRec and LCBench as "
            "AT2's authors cut them do)"
        )
    return pairs


def by_iteration(
    steps: pd.DataFrame, meta: MetaDataset, iterations: int = ITERATIONS
) -> pd.DataFrame:
    """Simple regret and final performance ranking after each epoch of one run's steps.

    Before the first recommendation the ranking is that of the first one; a step of several epochs
    recommends at its end.
    """
    curves = meta.curves(steps["task"].iloc[0])
    row_of = {c: k for k, c in enumerate(meta.config_ids)}
    values, rank, done = [], [], dict.fromkeys(steps["config_id"], 0)
    ordered = steps.sort_values("step")
    for c, epoch, place in zip(
        ordered["config_id"], ordered["epoch"], ordered["recommended_rank"], strict=True
    ):
        fresh = curves[row_of[c], done[c] : int(epoch)]
        values += fresh.tolist()
        rank += [np.nan] * (len(fresh) - 1) + [float(place)]
        done[c] = int(epoch)
    found = np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values))[:iterations]
    table = pd.DataFrame(
        {"iteration": np.arange(1, len(found) + 1), "regret": np.nanmax(curves) - found}
    )
    table["rank"] = pd.Series(rank[:iterations], dtype=float).ffill().bfill()
    return table


def smoothed(values: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """A Hamming-weighted mean of each value and its neighbours; fewer of them at the ends."""
    kernel = np.hamming(min(window, len(values)))
    weight = np.convolve(np.ones(len(values)), kernel, mode="same")
    return np.asarray(np.convolve(values, kernel, mode="same") / weight)


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard error over pairs of `by_iteration`s.

    They come with `database, method, task` in front.
    """
    grouped = runs.groupby(["database", "method", "iteration"])[["regret", "rank"]]
    out = pd.concat([grouped.mean(), grouped.sem().add_suffix("_se")], axis=1)
    out["rank_smoothed"] = out.groupby(["database", "method"])["rank"].transform(
        lambda r: smoothed(r.to_numpy())
    )
    return out[["regret", "regret_se", "rank", "rank_se", "rank_smoothed"]].round(5).reset_index()


def forecasts(
    meta: MetaDataset, iterations: Sequence[int] = (1, 10, 25, 50, 100), configs: int = 10
) -> pd.DataFrame:
    """AT2 on the first pair: forecasts of some configurations after given iterations.

    Of every fifth epoch.
    """
    from foretune.searchers.transfer.at2 import AT2

    test, train = next(iter(paper_pairs(meta).items()))
    study, objective = replay_study(meta, test, budget=max(iterations), sources=train, method="at2")
    chosen, curves = AT2(), meta.curves(test)
    some = np.sort(
        np.random.default_rng(0).choice(len(meta), min(configs, len(meta)), replace=False)
    )
    epochs = np.unique(np.r_[0, np.arange(4, meta.max_epoch, 5), meta.max_epoch - 1])
    tables = []
    for iteration in range(1, max(iterations) + 1):
        step = study.ask(chosen)
        if step is None:
            break
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
        if iteration in iterations:
            mean, std = chosen.predicted(study)
            cells = [
                (
                    iteration,
                    meta.config_ids[c],
                    e + 1,
                    curves[c, e],
                    mean[c, e],
                    std[c, e],
                    e < study.epoch[c],
                )
                for c in some
                for e in epochs
            ]
            columns = ["iteration", "config_id", "epoch", "observed", "mean", "std", "queried"]
            tables.append(pd.DataFrame(cells, columns=columns))
    return pd.concat(tables, ignore_index=True).round(4).assign(task=test)


def pairs(
    folders: Sequence[Path], methods: Sequence[str], out: Path, jobs: int = 1
) -> pd.DataFrame:
    """Run what is missing and write the tables; returns `summary.csv`."""
    runs, seconds, forecast = [], [], []
    for folder in folders:
        meta = MetaDataset.load(folder)
        sources = paper_pairs(meta)
        for method in methods:
            steps = run_all(
                folder,
                out / "traces" / meta.name,
                [method],
                budget=ITERATIONS,
                seeds=1,
                tasks=list(sources),
                sources=sources,
                options=OPTIONS,
                jobs=jobs,
            )
            for task, run in steps.groupby("task"):
                runs.append(
                    by_iteration(run, meta).assign(database=meta.name, method=method, task=task)
                )
            key = {"database": meta.name, "method": method}
            ms = 1000 * steps["seconds"]
            total = steps.groupby("task")["seconds"].sum()
            seconds.append(
                {
                    **key,
                    "ms_median": ms.median(),
                    "ms_p95": ms.quantile(0.95),
                    "seconds_a_run": total.mean(),
                }
            )
        forecast.append(forecasts(meta).assign(database=meta.name))
    write_atomic(out / "forecast.csv", pd.concat(forecast).to_csv(index=False))
    table = summary(pd.concat(runs, ignore_index=True))
    write_atomic(out / "pairs.csv", table.to_csv(index=False))
    wide = table[table["iteration"].isin(SHOWN)].pivot(
        index=["database", "method"], columns="iteration"
    )
    wide = wide[["regret", "regret_se", "rank", "rank_se"]]
    wide = wide.set_axis([f"{pair[0]}@{pair[1]}" for pair in wide.columns], axis=1)
    wide = wide.join(pd.DataFrame(seconds).set_index(["database", "method"]).round(3)).reset_index()
    write_atomic(out / "summary.csv", wide.to_csv(index=False))
    return wide


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m papers.at2.pairs", description=main.__doc__)
    parser.add_argument(
        "meta", nargs="+", type=Path, help="meta-dataset folders that name paper_pairs"
    )
    parser.add_argument("--methods", default=",".join(METHODS), help="names, separated by commas")
    parser.add_argument("--out", type=Path, default=Path("data/reports/at2"))
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args(argv)
    table = pairs(given.meta, given.methods.split(","), given.out, given.jobs)
    print(table.to_string())


if __name__ == "__main__":
    sys.exit(main())
