"""Figure 2 of Siamese-BHO: regret against evaluations of four variants, on unseen tasks.

    python -m papers.siamese_bho.siamese [--params params.yaml] [--minutes M] [--leave source,task]
        [--compare N]

Beside the four variants stand what they must beat: random search, the greedy portfolio of past
tasks, and the last variant with past tasks drawn by chance in the neighbours' place, which says
what the pictures are worth.

Every source in turn is held out (and once more every task alone): the network is trained on the
tasks of all others, ranks the past tasks for each held-out task, and each variant tunes that task
by replay, one evaluation = one full training. A network is trained once a source; a repetition
draws other images of the target and other random configurations (so variants with neighbours differ
between repetitions only as far as other images give other neighbours, ties aside).

Writes `data/reports/siamese.csv` (variant, evaluations, normalized regret: mean and standard error
over tasks), `siamese_tasks.csv` (the same by task: mean over repetitions) and
`siamese_distances.csv` (by held-out task: rank correlation of predicted and true distances to the
past tasks, and the true distance of the neighbours that were chosen, as a share of the mean one: 1
= no better than any). Tasks held out alone have the same files in
`data/reports/leave_one_task_out`. Runs are kept in `.cache/siamese` and not repeated while data,
options and code are the same; tables all of whose sources were made so stand as they are
(`foretune.pipeline.made`). `--compare N` makes N sources again, and lets the tables stand if what
they say of them is equal (`foretune.pipeline.comparison`); else all of it is made again, which
takes minutes: no difference is rounding here, though another processor's rounding makes some.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.files import replace, write_atomic
from foretune.history.grid import content_hash, folder_of, full_grid, held_out_together
from foretune.history.meta_dataset import MetaDataset
from foretune.params import SiamesePlan, load
from foretune.pipeline.comparison import Pair, drawn, in_words, verdicts
from foretune.pipeline.digests import digest_of
from foretune.pipeline.made import Made
from foretune.pipeline.threads import on_one_thread
from foretune.recommenders.past import Past
from foretune.recommenders.siamese.recommender import SiameseNearest, mapping_distance
from foretune.searchers.registry import searcher
from foretune.study.notes import RankingNote
from foretune.tasks.loading import load_task
from foretune.tasks.task import Task
from papers.command import command, resumable


@dataclass(frozen=True)
class Variant:
    """A searcher with its options, and which neighbours its study has.

    Those by pictures, tasks drawn by chance, or none.
    """

    method: str = "siamese-bo"
    options: Mapping[str, Any] = field(default_factory=dict)
    neighbours: str = "pictures"


VARIANTS: dict[str, Variant] = {
    "random, EI": Variant(options={"init": "random", "prior_mean": False}),
    "random, UCB": Variant(options={"init": "random", "prior_mean": False, "acquisition": "ucb"}),
    "nearest, EI": Variant(options={"prior_mean": False}),
    "nearest, EI, prior mean": Variant(),
    "any tasks, EI, prior mean": Variant(neighbours="chance"),
    "random search": Variant("random", neighbours="none"),
    "portfolio": Variant("portfolio", neighbours="none"),
}


TABLES = ("siamese.csv", "siamese_tasks.csv", "siamese_distances.csv")
RUNS = "papers.siamese_bho.siamese:run_source"  # what decides runs and distances


def fingerprint(
    grid: MetaDataset, plan: SiamesePlan, past: Sequence[str], options: Mapping[str, Any]
) -> str:
    """A hash of what decides a source's runs.

    The curves, the plan but for its number of repetitions, the tasks trained on, the network's
    options, and the code.
    """
    network = SiameseNearest(**{**options, "k": plan.k})
    chosen = {"evaluations": plan.evaluations, "seed": plan.seed, "recommender": network.options}
    code = digest_of(RUNS)
    return hashlib.sha256(f"{content_hash(grid)}{chosen}{sorted(past)}{code}".encode()).hexdigest()


def tune(
    grid: MetaDataset,
    task: str,
    past: Sequence[str],
    nearest: Mapping[str, float],
    *,
    k: int,
    seed: int,
    evaluations: int,
) -> list[dict[str, Any]]:
    """One repetition of all variants.

    Rows (variant, task, seed, evaluation, normalized_regret).
    """
    rows = []
    chance = [past[i] for i in np.random.default_rng(seed).permutation(len(past))[:k]]
    told = {
        "pictures": dict(nearest),
        "chance": {name: 1.0 - 0.01 * i for i, name in enumerate(chance)},
        "none": {},
    }
    for name, variant in VARIANTS.items():
        study, objective = replay_study(
            grid,
            task,
            budget=evaluations * grid.max_epoch,
            sources=past,
            seed=seed,
            method=variant.method,
        )
        study.note(recommended=RankingNote(nearest=told[variant.neighbours]))
        own = {"k": k} if variant.method == "siamese-bo" else {}
        steps = replay(
            study, objective, searcher(variant.method, **own, **variant.options), Score(grid, task)
        )
        found = [1.0 if s["normalized_regret"] is None else s["normalized_regret"] for s in steps]
        # the pool ended before the evaluations did
        found += found[-1:] * (evaluations - len(found))
        rows += [
            {
                "variant": name,
                "task": task,
                "seed": seed,
                "evaluation": i + 1,
                "normalized_regret": r,
            }
            for i, r in enumerate(found[:evaluations])
        ]
    return rows


def judged(
    fitted: SiameseNearest, grid: MetaDataset, task: str, distance: np.ndarray
) -> dict[str, Any]:
    """How well predicted distances (T,) of a held-out task agree with the true ones.

    By the target that the network learned.
    """
    every = Past.of(grid)
    mapping = every.normalised if fitted.options["target"] == "normalised" else every.best
    rows = [grid.tasks.index(name) for name in fitted.past.tasks]
    true = mapping_distance(mapping)[grid.tasks.index(task), rows]
    nearest = np.argsort(distance, kind="stable")[: fitted.options["k"]]
    return {
        "task": task,
        "rank_correlation": float(pd.Series(distance).corr(pd.Series(true), method="spearman")),
        "neighbours": float(true[nearest].mean() / true.mean()),
        "nearest": ", ".join(fitted.past.tasks[i] for i in nearest),
    }


def run_source(
    grid: MetaDataset,
    tasks: Mapping[str, Task],
    held: Sequence[str],
    past: Sequence[str],
    plan: SiamesePlan,
    options: Mapping[str, Any],
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """All runs of tasks that are held out together, and the judgement of their distances."""
    fitted = SiameseNearest(**{**options, "k": plan.k}).fit(
        grid.select(past), tasks, seed=plan.seed
    )
    rows: list[dict[str, Any]] = []
    notes = []
    for task in held:
        for seed in range(plan.repetitions):
            nearest = fitted.rank(tasks[task], seed).nearest
            rows += tune(
                grid, task, past, nearest, k=plan.k, seed=seed, evaluations=plan.evaluations
            )
        notes.append(judged(fitted, grid, task, fitted.distances(tasks[task])))
    return pd.DataFrame(rows), notes


def evaluate(
    grid: MetaDataset,
    tasks: Mapping[str, Task],
    plan: SiamesePlan,
    reports: Path | str,
    say: Callable[[str], None] = print,
    seconds: float = float("inf"),
    options: Mapping[str, Any] | None = None,
    work: Path | None = None,
    leave: str = "source",
    compare: int = 0,
) -> pd.DataFrame:
    """Run what is missing, source by source, for at most `seconds`, and write the tables.

    A source that was begun is finished. Returns the summary. Tables that stand are left alone; with
    `compare` they do if so many sources are equal when they are made again.

    `options` are the network's (`SiameseNearest`), where they are not its defaults; `work` is where
    runs are kept (default: `runs` in `reports`).
    """
    made, began = Made(Path(reports), "siamese"), time.monotonic()
    reports = folder_of(Path(reports), leave)
    traces = work or reports / "runs"
    traces.mkdir(parents=True, exist_ok=True)
    folds = held_out_together(grid, leave)
    wanted = {
        f"{leave}: {'+'.join(held)}": f"{fingerprint(grid, plan, past, options or {})}"
        f" x {plan.repetitions}"
        for held, past in folds.items()
    }
    if all((reports / name).is_file() for name in TABLES):
        if compare and not made.stands(wanted):
            by = next(iter(wanted.values()))
            chosen = drawn(list(folds), compare, by)
            pairs = made_again(grid, tasks, plan, options or {}, reports, chosen, folds)
            (verdict,) = verdicts({leave: pairs}).values()
            said = f"{in_words(compare, len(folds), 'sources', by)}: {verdict.said}"
            say(f"leave one {leave} out: {said}")
            if verdict.stands:
                made.write(wanted, dict.fromkeys(wanted, said))
        if made.stands(wanted):
            say(f"leave one {leave} out: the tables stand")
            summary = pd.read_csv(reports / "siamese.csv")
            summary["variant"] = pd.Categorical(summary["variant"], list(VARIANTS))
            return summary
    tables, notes = [], []
    missing: list[str] = []
    for held_out, past in folds.items():
        held = list(held_out)
        path, about = (traces / f"{'+'.join(held)}.{suffix}" for suffix in ("parquet", "json"))
        want = {
            "fingerprint": fingerprint(grid, plan, past, options or {}),
            "tasks": list(held),
            "repetitions": plan.repetitions,
        }
        known = (
            json.loads(about.read_text(encoding="utf-8"))
            if about.is_file() and path.is_file()
            else {}
        )
        if {key: known.get(key) for key in want} != want:
            if time.monotonic() - began > seconds:
                missing += held
                continue
            table, found = run_source(grid, tasks, held, past, plan, options or {})
            with replace(path) as temporary:
                table.astype({"normalized_regret": "float32"}).to_parquet(
                    temporary, index=False, compression="zstd"
                )
            known = want | {"distances": found}
            write_atomic(about, json.dumps(known, indent=1) + "\n")
            say(f"{', '.join(held)}: {time.monotonic() - began:.0f} s")
        tables.append(pd.read_parquet(path))
        notes += known["distances"]
    if missing:
        say(f"time is up; still to do: {', '.join(missing)} (the same command goes on)")
    if not tables:
        raise BadInput(f"no source was finished in {seconds:.0f} seconds")
    runs = pd.concat(tables, ignore_index=True)
    summary = summarised(runs)
    write_atomic(reports / "siamese.csv", summary.to_csv(index=False))
    write_atomic(reports / "siamese_tasks.csv", task_by_task(runs).to_csv(index=False))
    write_atomic(reports / "siamese_distances.csv", distances(notes).to_csv(index=False))
    if not missing:
        made.write(wanted)
    return summary


def made_again(
    grid: MetaDataset,
    tasks: Mapping[str, Task],
    plan: SiamesePlan,
    options: Mapping[str, Any],
    reports: Path,
    chosen: Sequence[tuple[str, ...]],
    folds: Mapping[tuple[str, ...], Sequence[str]],
) -> list[Pair]:
    """What the tables say of the `chosen` folds, as it is written and made again."""
    written = [pd.read_csv(reports / name) for name in TABLES[1:]]
    pairs = []
    for held in chosen:
        runs, notes = run_source(grid, tasks, held, folds[held], plan, options)
        new = [task_by_task(runs.astype({"normalized_regret": "float32"})), distances(notes)]
        for name, old, table in zip(TABLES[1:], written, new, strict=True):
            made = pd.read_csv(StringIO(table.to_csv(index=False)))
            kept = old[old["task"].isin(held)]
            unit = f"{'+'.join(held)} in {name}"
            pairs.append(Pair(unit, _numbers(kept, grid), _numbers(made, grid)))
    return pairs


def _numbers(table: pd.DataFrame, grid: MetaDataset) -> np.ndarray:
    """A table as numbers: variants and tasks by their place, `nearest` a column a task."""
    out = table.select_dtypes("number").copy()
    out["task"] = table["task"].map(grid.tasks.index)
    if "variant" in table:
        out["variant"] = table["variant"].map(list(VARIANTS).index)
    if "nearest" in table:
        places = table["nearest"].str.split(", ", expand=True)
        out = pd.concat([out, places.map(grid.tasks.index)], axis=1)
    return out.to_numpy(dtype=float)


def task_by_task(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows (variant, task, evaluation, normalized_regret): means over repetitions."""
    keys = ["variant", "task", "evaluation"]
    return runs.groupby(keys)["normalized_regret"].mean().round(5).reset_index()


def distances(notes: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What `judged` says of every held-out task, as a table."""
    return pd.DataFrame(notes).sort_values("task", ignore_index=True).round(3)


def summarised(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean over tasks of the mean over repetitions, and its standard error over tasks.

    Rows (variant, evaluations, mean, se, tasks).
    """
    by_task = runs.groupby(["variant", "evaluation", "task"])["normalized_regret"].mean()
    grouped = by_task.groupby(["variant", "evaluation"])
    out = (
        pd.DataFrame({"mean": grouped.mean(), "se": grouped.sem(), "tasks": grouped.size()})
        .round(5)
        .reset_index()
    )
    out["variant"] = pd.Categorical(out["variant"], list(VARIANTS))
    out = out.sort_values(["variant", "evaluation"], ignore_index=True)
    return out.rename(columns={"evaluation": "evaluations"})


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command of the DVC stage `siamese`."""
    work = Path(".cache/siamese")
    parser = resumable(
        "papers.siamese_bho.siamese",
        main.__doc__,
        work,
        "stop beginning new sources after so long",
        "let tables that other code made stand if N sources are equal when made again",
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    given = parser.parse_args(argv)
    on_one_thread()
    params = load(given.params)
    grid = full_grid(MetaDataset.load(params.meta_dataset.folder))
    tasks = {name: load_task(name, given.data, params.tasks.size) for name in grid.tasks}
    for leave in given.leave.split(","):
        plan, seconds = params.siamese, 60 * given.minutes
        summary = evaluate(
            grid,
            tasks,
            plan,
            given.reports,
            seconds=seconds,
            work=given.work,
            leave=leave,
            compare=given.compare,
        )
        shown = summary[summary["evaluations"].isin([1, 3, 5, 10, 20, 30])]
        print(f"leave one {leave} out")
        print(shown.pivot(index="variant", columns="evaluations", values="mean").to_string())


if __name__ == "__main__":
    sys.exit(main())
