"""How the methods do on the meta-dataset that foretune trained itself: every task in turn is the
new one, the tasks of other sources are the past.

    python -m foretune.pipeline.evaluate [--params params.yaml] [--compare N]

Tasks that were cut from one source show much the same images, so they are never each other's past.
Methods replay the largest full grid (tasks x configurations) of the table, since cells that were
never trained would be held against the method that asks for them.

Writes `data/reports/light/summary.csv` (mean normalized regret at 1, 2, 5, ... full trainings and
its standard error over tasks), `tasks.csv` (by task), `about.json` (what was replayed), and the
steps in `data/reports/traces/light`, from which `papers.page.report` draws.

A method's runs are kept with a fingerprint: the curves, the budget and the code of that method and
of what replays it (`foretune.pipeline.digests`). Runs whose fingerprint is still this one are not
repeated. New ones grow in `.cache/evaluate` and replace the old when they are complete, so an
interrupted run deletes nothing and goes on where it stopped.

`--compare N` is for a change of code that should change no number: of each method whose fingerprint
is another, N of the kept runs are replayed and compared, step by step, seconds aside
(`foretune.pipeline.comparison`). Where all are equal, the kept runs go on under the new
fingerprint, and `about.json` says how many were compared; where one differs, the method is replayed
whole, which takes minutes: no difference is rounding here.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.benchmark import RUN, file_name, one_run, regret_at, replaying, run_all
from foretune.files import write_atomic, write_json
from foretune.history.grid import content_hash, full_grid, past_of
from foretune.history.meta_dataset import MetaDataset
from foretune.params import Evaluate, load
from foretune.pipeline.comparison import Pair, drawn, in_words, verdicts
from foretune.pipeline.digests import digest_of

TRAININGS = (1, 2, 5, 10)
# whose code decides every run, beside the method's
REPLAYS = ("foretune.evaluation.benchmark:one_run", "foretune.history.grid:full_grid")


def fingerprint(meta: MetaDataset, plan: Evaluate, name: str) -> str:
    """What decides a method's replays: the curves, the budget, and the code."""
    code = digest_of(*REPLAYS, names=(name.partition(":")[0],))
    return hashlib.sha256(f"{content_hash(meta)}{plan.trainings}{code}".encode()).hexdigest()


def known(folder: Path) -> dict[str, Any]:
    """The notes about the runs in a folder; empty where there are none."""
    file = folder / "about.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def again(
    grid: MetaDataset, folder: str, plan: Evaluate, kept: Mapping[str, pd.DataFrame], count: int
) -> dict[str, list[Pair]]:
    """`count` of each method's `kept` runs, drawn by its fingerprint, and what they are when
    replayed on the grid saved in `folder`; by method, none where tasks are no longer there.
    """
    past, budget = past_of(grid), plan.trainings * grid.max_epoch
    jobs: list[tuple[str, str, int]] = []
    for name, table in kept.items():
        runs = sorted(set(zip(table["task"], table["seed"].map(int), strict=True)))
        chosen = drawn(runs, count, fingerprint(grid, plan, name))
        jobs += [(name, task, seed) for task, seed in chosen if {t for t, _ in runs} <= set(past)]
    pairs: dict[str, list[Pair]] = {name: [] for name in kept}
    with replaying(plan.workers) as pool:
        made = {job: pool.submit(one_run, folder, *job, budget, past[job[1]], {}) for job in jobs}
        for (name, task, seed), run in made.items():
            table = kept[name][(kept[name]["task"] == task) & (kept[name]["seed"] == seed)]
            old = table.sort_values("step")
            numbers = old.select_dtypes("number").drop(columns="seconds")
            new = pd.DataFrame(run.result()).reindex(columns=numbers.columns)
            for column, kind in numbers.dtypes.items():  # as precisely as the file has them
                new[column] = new[column].astype(kind if kind.kind == "f" else float)
            pairs[name].append(
                Pair(f"{task}, seed {seed}", numbers.to_numpy(float), new.to_numpy(float))
            )
    return pairs


def evaluate(
    meta: MetaDataset,
    plan: Evaluate,
    reports: Path | str,
    say: Callable[[str], None] = print,
    work: Path | None = None,
    compare: int = 0,
) -> pd.DataFrame:
    """Replay `plan.methods` on the full grid of `meta` and write the tables; returns the summary.
    Runs that are there and still valid are not repeated; `work` (default: `runs` in `reports`) is
    where new ones grow. With `compare`, so many kept runs of a method stand for all of them.
    """
    grid, reports = full_grid(meta), Path(reports)
    out, traces = reports / meta.name, reports / "traces" / meta.name
    work = (work or reports / "runs") / meta.name
    work.mkdir(parents=True, exist_ok=True)
    budget = plan.trainings * grid.max_epoch
    about: dict[str, Any] = {
        "title": f"{meta.name}: trained by foretune, leave-one-source-out",
        "about": f"{len(grid.tasks)} image tasks x {len(grid)} configurations x "
        f"{grid.max_epoch} epochs",
        "max_epoch": grid.max_epoch,
        "tasks": grid.tasks,
    }
    with tempfile.TemporaryDirectory() as folder:
        grid.save(folder)
        notes = _taken_up(grid, folder, plan, traces, work, say, compare)
        say(f"replaying {', '.join(plan.methods)} on {about['about']}, {plan.seeds} seeds")
        steps = run_all(
            folder,
            work,
            plan.methods,
            budget=budget,
            seeds=plan.seeds,
            sources=past_of(grid),
            jobs=plan.workers,
        )
    steps = steps[(steps["seed"] < plan.seeds) & (steps["budget"] == budget)]
    counts = [k for k in TRAININGS if k <= plan.trainings]
    regret = regret_at(steps, [k * grid.max_epoch for k in counts]).set_axis(
        [str(k) for k in counts], axis=1
    )
    by_task = regret.groupby(["method", "task"]).mean()
    mean, error = by_task.groupby("method").mean(), by_task.groupby("method").sem()
    summary = pd.concat([mean, error.add_suffix(" se")], axis=1).loc[list(plan.methods)].round(4)
    for name in plan.methods:
        file = f"{file_name(name)}.parquet"
        write_atomic(traces / file, (work / file).read_bytes())
    write_json(traces / "about.json", about | {"runs": notes})
    write_atomic(out / "summary.csv", summary.to_csv())
    write_atomic(out / "tasks.csv", by_task.round(4).to_csv())
    write_json(out / "about.json", about)
    files = {f"{file_name(name)}.parquet" for name in plan.methods}
    if more := sorted({path.name for path in traces.glob("*.parquet")} - files):
        say(f"{traces} also holds {', '.join(more)}, which evaluate.methods does not name (kept)")
    return summary


def _taken_up(
    grid: MetaDataset,
    folder: str,
    plan: Evaluate,
    traces: Path,
    work: Path,
    say: Callable[[str], None],
    compare: int,
) -> dict[str, Mapping[str, Any]]:
    """Put every method's valid runs into `work`, those of an interrupted run first, and no others;
    the note on each method.
    """
    have, begun = known(traces).get("runs", {}), known(work).get("runs", {})
    notes: dict[str, Mapping[str, Any]] = {}
    doubtful: dict[str, pd.DataFrame] = {}
    for name in plan.methods:
        want, file = fingerprint(grid, plan, name), f"{file_name(name)}.parquet"
        notes[name] = {"fingerprint": want}
        if begun.get(name, {}).get("fingerprint") == want and (work / file).is_file():
            notes[name] = begun[name]
            continue
        (work / file).unlink(missing_ok=True)
        if not (traces / file).is_file():
            continue
        if have.get(name, {}).get("fingerprint") == want:
            notes[name] = have[name]
            shutil.copyfile(traces / file, work / file)
        elif compare:
            doubtful[name] = pd.read_parquet(traces / file)
    pairs = again(grid, folder, plan, doubtful, compare) if doubtful else {}
    for name, verdict in verdicts(pairs).items():
        runs = doubtful[name][RUN].drop_duplicates()
        sample = in_words(compare, len(runs), "runs", fingerprint(grid, plan, name))
        say(f"{name}: {sample}: {verdict.said}")
        if not verdict.stands:
            say(f"{name}: all runs are made again")
            continue
        notes[name] = {**notes[name], "compared": f"{sample}: {verdict.said}"}
        shutil.copyfile(traces / f"{file_name(name)}.parquet", work / f"{file_name(name)}.parquet")
    write_json(work / "about.json", {"runs": notes})
    return notes


def main(argv: Sequence[str] | None = None) -> int:
    """The command of the DVC stage `evaluate`."""
    parser = argparse.ArgumentParser(
        prog="python -m foretune.pipeline.evaluate", description=main.__doc__
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--reports", type=Path, default=Path("data/reports"))
    parser.add_argument(
        "--work", type=Path, default=Path(".cache/evaluate"), help="where new runs grow"
    )
    parser.add_argument(
        "--compare",
        type=int,
        default=0,
        metavar="N",
        help="keep a method's runs, made by other code, if N of them are equal when made again",
    )
    given = parser.parse_args(argv)
    try:
        params = load(given.params)
        meta = MetaDataset.load(params.meta_dataset.folder)
        summary = evaluate(
            meta, params.evaluate, given.reports, work=given.work, compare=given.compare
        )
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    print(summary.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
