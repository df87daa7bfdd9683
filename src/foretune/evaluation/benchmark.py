"""Run methods over the tasks of a meta-dataset, leave-one-task-out, and keep every step.

Continued where it stopped.

    python -m foretune.evaluation.benchmark META --methods random,portfolio --budget 750
        --seeds 10 --out data/reports/traces/NAME

One parquet file per method holds the steps of `foretune replay` with `method, task, seed` in front
(`config_id` as stored in the table). A run is a function of (method, task, seed), so files are
merged by these keys; runs that are present are not repeated.
"""

import argparse
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.files import replace, write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.running.workers import end_with_parent
from foretune.searchers.registry import method, searcher

RUN = ["method", "task", "seed"]
_meta: dict[str, MetaDataset] = {}  # one table per worker process


def one_run(
    folder: str,
    name: str,
    task: str,
    seed: int,
    budget: int,
    sources: Sequence[str] | None,
    options: dict[str, Any],
) -> list[dict[str, Any]]:
    """The steps of one replay, with its keys in front."""
    if folder not in _meta:
        _meta[folder] = MetaDataset.load(folder)
    meta = _meta[folder]
    study, objective = replay_study(
        meta, task, budget=budget, sources=sources, seed=seed, method=name
    )
    steps = replay(study, objective, searcher(name.partition(":")[0], **options), Score(meta, task))
    return [
        {"method": name, "task": task, "seed": seed, "budget": budget, **step} for step in steps
    ]


def _worker_started() -> None:
    """Ctrl-C is for the parent, which decides what stops; a worker ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started meanwhile use one thread each.

    Runs are parallel already, and it must be set before numpy or torch load in the worker.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def replaying(count: int) -> Iterator[ProcessPoolExecutor]:
    """`count` processes of one thread each; on an error or Ctrl-C they end at once."""
    before = active_children()
    with one_thread_each():
        pool = ProcessPoolExecutor(
            count, mp_context=get_context("spawn"), initializer=_worker_started
        )
        finished = False
        try:
            yield pool
            finished = True
        finally:
            if not finished:
                for child in active_children():
                    if child not in before:
                        child.terminate()
            pool.shutdown(wait=finished, cancel_futures=True)


def run_all(
    folder: Path | str,
    out: Path | str,
    methods: Sequence[str],
    *,
    budget: int,
    seeds: int,
    tasks: Sequence[str] | None = None,
    sources: dict[str, list[str]] | None = None,
    options: dict[str, dict[str, Any]] | None = None,
    jobs: int = 2,
) -> pd.DataFrame:
    """Replay every method on every task and seed that `out` does not hold yet.

    Returns all steps of the methods asked for.

    A run that `out` holds with another budget is made again: a searcher that knows its budget
    spends a small one differently. `sources` restricts the past of a task (default: all others);
    `options` are a method's own. A name such as `dyhpo:no-curve` is the method before the colon
    under a label of its own. Finished runs are written every few runs, by rename, and when this is
    interrupted.
    """
    meta, out = MetaDataset.load(folder), Path(out)
    for name in methods:
        method(name.partition(":")[0])
    for task in [*(tasks or ()), *(sources or {})]:
        meta.check_task(task)
    done = {name: _read(out / f"{file_name(name)}.parquet") for name in methods}
    jobs_left = []
    for seed in range(seeds):
        for task in tasks or meta.tasks:
            for name in methods:
                have = done[name]
                same = (have["task"] == task) & (have["seed"] == seed) & (have["budget"] == budget)
                if not same.any():
                    past, own = (sources or {}).get(task), (options or {}).get(name, {})
                    jobs_left.append((str(folder), name, task, seed, budget, past, own))
    fresh: dict[str, list[dict[str, Any]]] = {name: [] for name in methods}

    def keep() -> None:
        for name in methods:
            done[name] = _append(out / f"{file_name(name)}.parquet", done[name], fresh[name])
            fresh[name] = []

    if jobs_left:
        try:
            with replaying(jobs) as pool:
                futures = {pool.submit(one_run, *job): job for job in jobs_left}
                for k, future in enumerate(as_completed(futures), 1):
                    fresh[futures[future][1]] += future.result()
                    if k % 20 == 0:
                        keep()
        finally:
            keep()
    return pd.concat([done[m] for m in methods], ignore_index=True)


def file_name(name: str) -> str:
    """The file name of a method's steps."""
    return name.replace(":", "-")


def _read(path: Path) -> pd.DataFrame:
    if path.exists():
        return pd.read_parquet(path)
    return pd.DataFrame(columns=[*RUN, "budget", "step"])


def _append(path: Path, have: pd.DataFrame, rows: list[dict[str, Any]]) -> pd.DataFrame:
    if not rows:
        return have
    new = pd.DataFrame(rows).astype(
        {"seed": "int16", "step": "int32", "epoch": "int16", "spent": "int32", "budget": "int32"}
    )
    new[["regret", "normalized_regret", "value", "incumbent"]] = new[
        ["regret", "normalized_regret", "value", "incumbent"]
    ].astype("float32")
    new["recommended_rank"] = new["recommended_rank"].astype("float32")
    new["seconds"] = new["seconds"].astype("float32")
    # runs with another budget
    stale = pd.MultiIndex.from_frame(have[RUN]).isin(pd.MultiIndex.from_frame(new[RUN]))
    table = pd.concat([have[~stale], new], ignore_index=True) if not stale.all() else new
    table = table.sort_values([*RUN, "step"], ignore_index=True)
    with replace(path) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")
    return table


def regret_at(
    steps: pd.DataFrame,
    budgets: Iterable[float],
    column: str = "normalized_regret",
    nothing: float = 1.0,
) -> pd.DataFrame:
    """`column` once each budget (epochs) is spent: rows (method, task, seed), a column each.

    A step that ends beyond a budget does not count for it; before the first finished step the value
    is `nothing`.
    """
    runs = steps.groupby(RUN, sort=True)
    out = {}
    for key, run in runs:
        spent = run["spent"].to_numpy()
        values = run[column].to_numpy(dtype=float)
        at = np.searchsorted(spent, list(budgets), side="right") - 1
        out[key] = [nothing if k < 0 or np.isnan(values[k]) else values[k] for k in at]
    return pd.DataFrame.from_dict(out, orient="index", columns=list(budgets)).set_axis(
        pd.MultiIndex.from_tuples(list(out), names=RUN), axis=0
    )


def error_of(regret: pd.DataFrame) -> pd.DataFrame:
    """Standard error over tasks of each method's mean over seeds.

    Seeds of one task are no independent evidence.
    """
    per_task = regret.groupby(["method", "task"]).mean().groupby("method")
    return per_task.std(ddof=1).div(np.sqrt(per_task.size()), axis=0).rename(columns=str)


def main(argv: Sequence[str] | None = None) -> None:
    """Run from the command line and print each method's mean normalized regret.

    It is given at 1, 2, 5 and 10 full trainings.
    """
    parser = argparse.ArgumentParser(
        prog="python -m foretune.evaluation.benchmark", description=main.__doc__
    )
    parser.add_argument("meta", help="meta-dataset folder")
    parser.add_argument("--methods", required=True, help="names, separated by commas")
    parser.add_argument("--budget", type=int, required=True, help="epochs of each run")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--tasks", help="names, separated by commas; default: all")
    parser.add_argument(
        "--out", required=True, help="folder for the steps, one parquet file per method"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--summary", type=Path, help="CSV file for the table that is printed")
    args = parser.parse_args(argv)
    tasks = args.tasks.split(",") if args.tasks else None
    steps = run_all(
        args.meta,
        args.out,
        args.methods.split(","),
        budget=args.budget,
        seeds=args.seeds,
        tasks=tasks,
        jobs=args.jobs,
    )
    epochs = MetaDataset.load(args.meta).max_epoch
    budgets = [k * epochs for k in (1, 2, 5, 10) if k * epochs <= args.budget]
    regret = regret_at(steps, budgets)
    table = (
        pd.concat([regret.groupby("method").mean(), error_of(regret).add_suffix(" se")], axis=1)
        .loc[args.methods.split(",")]
        .round(5)
    )
    print(table.to_string())
    if args.summary:
        write_atomic(args.summary, table.to_csv())


if __name__ == "__main__":
    main()
