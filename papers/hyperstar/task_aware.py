"""Figures 3, 4 and 5b of HyperSTAR: what Hyperband gains when a recommender says what to start.

    python -m papers.hyperstar.task_aware [--params params.yaml] [--minutes M] [--leave source,task]
        [--compare N]

Leave-one-source-out replays of task-aware Hyperband (the ranking of each held-out task is read from
`data/reports/rankings.parquet`, whose recommender was fitted without its source), the same with its
two options, the same Hyperband with the past tasks' mean rank instead of a ranking for the task,
plain Hyperband, BOHB, and two lists whose configurations are trained to the end one after the
other: Tr-AutoML's, after the ten trial runs that it compares tasks by, and the greedy portfolio.
Repetition s takes trial s of a ranking.

The paper has R = 100 epochs, budgets of 100, 200 and 450 epochs with eta = 2 and 1,600 with eta =
3. Our trainings end at R = 10, so that the same budgets in full trainings are 10, 20, 45 and 160
epochs; 100, 200 and 450 epochs are shown as well, and instead of 1,600 the 1,080 epochs that a pool
of 108 configurations holds in all (a budget beyond the pool is cut to it). A method's run at a
small budget is the beginning of its run at a larger one, so each runs once for each eta.

Runs are kept in `.cache/task_aware` and not repeated while data, budgets and code are the same;
tables all of whose methods were run so stand as they are (`foretune.pipeline.made`). `--compare N`
makes the runs of N pairs of task and eta again, of each method, and lets the tables stand if what
they say of them is equal (`foretune.pipeline.comparison`): no difference is rounding here, where a
ranking is read and no network is trained.

| file in `data/reports`   | rows                                                                  |
|--------------------------|-----------------------------------------------------------------------|
| `task_aware.csv`         | eta, budget, method: normalized regret (mean, se over tasks), best    |
|                          | value in the metric's unit                                            |
| `task_aware_tasks.csv`   | eta, budget, method, task: the same by task, mean over repetitions    |
| `task_aware_curves.csv`  | eta, method, epochs: normalized regret and best value after each of   |
|                          | so many epochs, mean over tasks                                       |
| `task_aware_by_task.csv` | task, method, epochs (eta = 2): best value after each of so many      |
|                          | epochs                                                                |
| `task_aware_share.csv`   | eta, budget, method: share of the budget after which its mean curve   |
|                          | is as good as each method's at the budget's end, empty: never         |
| `task_aware_tests.csv`   | eta, budget, method (one that takes a ranking), against (one that     |
|                          | does not): that share, tasks of one source averaged, with its 95 %    |
|                          | bootstrap interval over sources (inf: never); regret of method minus  |
|                          | against by source, 95 % interval, Wilcoxon's p, and Holm's among the  |
|                          | rows of that eta and budget                                           |
"""

import hashlib
import json
import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay_study
from foretune.evaluation.statistics import against, holm, share_needed
from foretune.files import replace, write_atomic
from foretune.history.grid import content_hash, folder_of, full_grid, past_of
from foretune.history.meta_dataset import MetaDataset
from foretune.params import RankingsPlan, TaskAwarePlan, load
from foretune.pipeline.comparison import Pair, drawn, in_words, verdicts
from foretune.pipeline.digests import digest_of
from foretune.pipeline.made import Made
from foretune.pipeline.threads import on_one_thread
from foretune.searchers.base import Searcher
from foretune.searchers.registry import searcher
from foretune.study.notes import RankingNote
from papers.command import command, resumable
from papers.hyperstar.rankings import order_of

RUN = ["eta", "task", "seed"]
TYPES = {"eta": "int8", "seed": "int16", "spent": "int32", "normalized_regret": "float32"}
POINTS = 60  # epochs at which curves are written, evenly on the log scale


@dataclass(frozen=True)
class Contender:
    """How a method of the comparison is made.

    A searcher, its options, whether it has an eta, whose ranking it reads, whether seeds matter,
    and what would follow a list, were it not trained to the end.
    """

    searcher: str
    has_eta: bool = True
    recommender: str | None = None
    random: bool = True
    then: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(self, eta: int) -> Searcher:
        """The searcher; a list is trained to the end, place by place."""
        if self.then:
            return searcher(self.searcher, then=self.then, points=10_000, **self.options)
        return searcher(
            self.searcher, **self.options, **({"eta": float(eta)} if self.has_eta else {})
        )

    @property
    def searchers(self) -> tuple[str, ...]:
        """The methods whose code runs."""
        return (self.searcher, self.then) if self.then else (self.searcher,)


def methods(plan: TaskAwarePlan) -> dict[str, Contender]:
    """The methods compared, by name."""
    own = plan.recommender
    return {
        "task-aware Hyperband": Contender("task-aware-hyperband", recommender=own),
        "task-aware Hyperband, top n": Contender(
            "task-aware-hyperband", recommender=own, options={"stages": "top"}
        ),
        "task-aware Hyperband, a third random": Contender(
            "task-aware-hyperband", recommender=own, options={"random_share": 1 / 3}
        ),
        "task-aware Hyperband, proportional": Contender(
            "task-aware-hyperband", recommender=own, options={"proportional": True}
        ),
        "mean-rank Hyperband": Contender("task-aware-hyperband", random=False),
        "mean-rank Hyperband, top n": Contender(
            "task-aware-hyperband", random=False, options={"stages": "top"}
        ),
        "Hyperband": Contender("hyperband"),
        "BOHB": Contender("bohb"),
        "Tr-AutoML list": Contender(
            "recommended", has_eta=False, recommender="tr-automl", then="mean-rank"
        ),
        "portfolio": Contender("portfolio", has_eta=False, random=False),
    }


class Rankings:
    """The table of `papers.hyperstar.rankings`, made by `plan`, as notes for studies of a grid.

    Raises `BadInput` where it lacks what is asked for.

    Tr-AutoML's ranking leans on ten trial runs of the new task: those come first in its order, so
    that they are paid for.
    """

    def __init__(self, table: pd.DataFrame, grid: MetaDataset, plan: RankingsPlan):
        self.table, self.grid, self.plan = table, grid, plan

    @classmethod
    def read(cls, path: Path, grid: MetaDataset, plan: RankingsPlan) -> "Rankings":
        """Read the file."""
        if not path.is_file():
            raise BadInput(f"{path} is missing: run python -m papers.hyperstar.rankings first")
        return cls(pd.read_parquet(path), grid, plan)

    def __contains__(self, recommender: str) -> bool:
        return bool((self.table["recommender"] == recommender).any())

    def of(self, recommender: str) -> pd.DataFrame:
        """A recommender's rows, in a fixed order."""
        mine = self.table[self.table["recommender"] == recommender]
        return mine.sort_values(["task", "trial", "config_id"], ignore_index=True)

    def notes(self, recommender: str, task: str, repetition: int) -> RankingNote:
        """The ranking of a repetition: order and scores by row of the grid."""
        mine = self.table[(self.table["recommender"] == recommender) & (self.table["task"] == task)]
        trials = sorted(mine["trial"].unique())
        if not trials:
            raise BadInput(
                f"the rankings table has no {recommender!r} for task {task!r}: run the "
                "rankings again"
            )
        trial = trials[repetition % len(trials)]
        rows = mine[mine["trial"] == trial]
        score = dict(zip(rows["config_id"], rows["score"], strict=True))
        if len(differ := set(score) ^ set(self.grid.config_ids)):
            raise BadInput(
                f"the rankings table and {self.grid.name} differ in {len(differ)} "
                f"configurations for task {task!r} "
                f"({recommender}): it was made on another table of curves; run the rankings again"
            )
        scores = np.array([float(score[c]) for c in self.grid.config_ids])
        training = self.plan.seed + int(trial) % min(self.plan.trainings, self.plan.trials)
        order = order_of(recommender, scores, training)
        return RankingNote(order=tuple(order.tolist()), scores=tuple(scores.tolist()))


def replayed(
    grid: MetaDataset,
    task: str,
    past: Sequence[str],
    chosen: Searcher,
    budget: int,
    seed: int,
    noted: RankingNote | None,
) -> pd.DataFrame:
    """One replay as the epochs at which its regret fell.

    Rows (spent, normalized_regret), from (0, 1).
    """
    study, objective = replay_study(grid, task, budget=budget, sources=past, seed=seed)
    if noted is not None:
        study.note(recommended=noted)
    while step := study.ask(chosen):
        outcome = objective.run(
            step.config_id, study.configs[step.config_id], step.start, step.stop
        )
        study.tell(step, outcome.rows)
        if outcome.failed:
            study.fail(step, int(study.epoch[step.config_id]), outcome.failed)
    score = Score(grid, task)
    values = np.array([study.Y[c, e - 1] for c, e in study.order])
    best = np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values))
    regret = np.array(
        [score.normalized(max(0.0, score.best - v)) if math.isfinite(v) else 1.0 for v in best]
    )
    falls = np.flatnonzero(np.diff(regret, prepend=np.inf) < 0)
    return pd.DataFrame({"spent": [0, *(falls + 1)], "normalized_regret": [1.0, *regret[falls]]})


SUFFIXES = ("", "_tasks", "_curves", "_by_task", "_share", "_tests")
OTHERS = ("Hyperband", "BOHB", "Tr-AutoML list", "portfolio")  # to which the others are compared
# what decides runs
HERE = "papers.hyperstar.task_aware"
RUNS = (f"{HERE}:run_task", f"{HERE}:Contender", f"{HERE}:Rankings")


def fingerprint(
    grid: MetaDataset,
    plan: TaskAwarePlan,
    how: Contender,
    rankings: Rankings,
    leave: str = "source",
) -> str:
    """What decides a method's runs: curves, budgets, the rankings it reads, and its code."""
    read = rankings.of(how.recommender).to_csv(index=False) if how.recommender else ""
    budgets = (max(plan.budgets), max(plan.large_budgets))
    code = digest_of(*RUNS, names=how.searchers)
    said = f"{content_hash(grid)}{leave}{budgets}{how}{read}{code}"
    return hashlib.sha256(said.encode()).hexdigest()


def run_task(
    grid: MetaDataset,
    how: Contender,
    rankings: Rankings,
    task: str,
    past: Sequence[str],
    eta: int,
    budget: int,
    seeds: Sequence[int],
) -> list[pd.DataFrame]:
    """A method's runs of one task with one eta, a table each."""
    out = []
    for seed in seeds:
        noted = rankings.notes(how.recommender, task, seed) if how.recommender else None
        table = replayed(grid, task, past, how.make(eta), min(budget, cells(grid)), seed, noted)
        out.append(table.assign(eta=eta, task=task, seed=seed))
    return out


def etas(plan: TaskAwarePlan) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """The two values of eta, each with its budgets."""
    return (2, plan.budgets), (3, plan.large_budgets)


def made_again(
    grid: MetaDataset,
    plan: TaskAwarePlan,
    name: str,
    rankings: Rankings,
    written: pd.DataFrame,
    count: int,
    leave: str,
) -> list[Pair]:
    """The lines of the `written` table by task on `count` pairs of task and eta, as they are and as
    a method's runs give them now.
    """
    how, past = methods(plan)[name], past_of(grid, leave)
    cases = [(task, eta, budgets) for task in grid.tasks for eta, budgets in etas(plan)]
    mine = written[written["method"] == name]
    seeds = range(plan.repetitions if how.random else 1)
    pairs = []
    for task, eta, budgets in drawn(cases, count, fingerprint(grid, plan, how, rankings, leave)):
        runs = run_task(grid, how, rankings, task, past[task], eta, max(budgets), seeds)
        allowed = sorted({min(budget, cells(grid)) for budget in budgets})
        new = by_epoch(pd.concat(runs).astype(TYPES), allowed).loc[task].round(5)
        old = mine[(mine["task"] == task) & (mine["eta"] == eta)].set_index("budget")["regret"]
        pairs.append(Pair(f"{task}, eta {eta},", old.reindex(allowed).to_numpy(), new.to_numpy()))
    return pairs


def run_method(
    grid: MetaDataset,
    plan: TaskAwarePlan,
    name: str,
    rankings: Rankings,
    traces: Path,
    until: float,
    leave: str = "source",
) -> pd.DataFrame | None:
    """All runs of a method, task by task, continued from `traces`.

    None if `until` (monotonic seconds) came first.
    """
    how = methods(plan)[name]
    path = traces / f"{re.sub('[^a-z0-9]+', '-', name.lower())}.parquet"
    about = path.with_suffix(".json")
    want = {"fingerprint": fingerprint(grid, plan, how, rankings, leave)}
    fresh = not (
        path.is_file() and about.is_file() and json.loads(about.read_text(encoding="utf-8")) == want
    )
    if fresh:
        have = pd.DataFrame(columns=[*RUN, "spent", "normalized_regret"])
    else:
        have = pd.read_parquet(path)
    past, repetitions = past_of(grid, leave), plan.repetitions if how.random else 1
    for task in grid.tasks:
        rows = []
        for eta, budgets in etas(plan):
            done = set(have.loc[(have["task"] == task) & (have["eta"] == eta), "seed"])
            seeds = [seed for seed in range(repetitions) if seed not in done]
            rows += run_task(grid, how, rankings, task, past[task], eta, max(budgets), seeds)
        if rows:
            have = pd.concat([*([have] if len(have) else []), *rows], ignore_index=True)[
                list(have.columns)
            ]
            with replace(path) as temporary:
                have.astype(TYPES).to_parquet(temporary, index=False, compression="zstd")
            write_atomic(about, json.dumps(want) + "\n")
        if time.monotonic() > until and task != grid.tasks[-1]:
            return None
    return have[have["seed"] < repetitions]


def cells(grid: MetaDataset) -> int:
    """Epochs that the whole pool takes: no budget can be larger."""
    return len(grid) * grid.max_epoch


def by_epoch(runs: pd.DataFrame, epochs: Sequence[int]) -> pd.DataFrame:
    """Normalized regret (mean over repetitions) after each of `epochs`: tasks by epochs."""
    out: dict[str, list[np.ndarray]] = {}
    for (task, _), mine in runs.groupby(["task", "seed"]):
        one = mine.sort_values("spent")
        at = np.searchsorted(one["spent"].to_numpy(), list(epochs), side="right") - 1
        out.setdefault(str(task), []).append(one["normalized_regret"].to_numpy(dtype=float)[at])
    return pd.DataFrame(
        {task: np.mean(rows, axis=0) for task, rows in out.items()}, index=list(epochs)
    ).T


def needed(curve: np.ndarray, value: float) -> int | None:
    """The first epoch (from 1) at which a curve (E,) is at most `value`; None if never."""
    reached = np.flatnonzero(curve <= value + 1e-9)
    return int(reached[0]) + 1 if len(reached) else None


def best_value(score: Score, regret: Any) -> Any:
    """Normalized regrets (a number or an array) as best values in the metric's own unit."""
    return (score.best - regret * (score.best - score.worst)) * score.sign


def tables(
    runs: dict[str, pd.DataFrame], grid: MetaDataset, plan: TaskAwarePlan
) -> dict[str, pd.DataFrame]:
    """The tables of the module's docstring, by what their names end in."""
    scores = {task: Score(grid, task) for task in grid.tasks}
    summary, curves, shares, tasks, by_task = [], [], [], [], []
    for eta, budgets in etas(plan):
        allowed = sorted({min(b, cells(grid)) for b in budgets})
        regret = {
            name: by_epoch(table[table["eta"] == eta], range(1, allowed[-1] + 1))
            for name, table in runs.items()
        }
        shown = np.unique(np.geomspace(1, allowed[-1], POINTS).round().astype(int))
        for name, table in regret.items():
            reached = {t: best_value(scores[t], table.loc[t, shown]) for t in table.index}
            value = pd.DataFrame(reached).mean(axis=1)
            curves += [
                {
                    "eta": eta,
                    "method": name,
                    "epochs": e,
                    "mean": table[e].mean(),
                    "best_value": value[e],
                }
                for e in map(int, shown)
            ]
            if eta == 2:
                by_task += [
                    {"task": t, "method": name, "epochs": int(e), "best_value": v}
                    for t, at in reached.items()
                    for e, v in at.items()
                ]
        for budget in allowed:
            for name, table in regret.items():
                at = table[budget]
                values = [best_value(scores[t], at[t]) for t in grid.tasks]
                row = {
                    "eta": eta,
                    "budget": budget,
                    "method": name,
                    "mean": at.mean(),
                    "se": at.sem(),
                }
                summary.append(row | {"best_value": np.mean(values), "tasks": len(at)})
                tasks += [
                    {
                        "eta": eta,
                        "budget": budget,
                        "method": name,
                        "task": t,
                        "regret": at[t],
                        "best_value": v,
                    }
                    for t, v in zip(grid.tasks, values, strict=True)
                ]
                curve = table[range(1, budget + 1)].mean().to_numpy()
                reached = {
                    other: needed(curve, theirs[budget].mean()) for other, theirs in regret.items()
                }
                share = {other: None if e is None else e / budget for other, e in reached.items()}
                shares.append({"eta": eta, "budget": budget, "method": name} | share)
    made = {"": summary, "_tasks": tasks, "_curves": curves, "_by_task": by_task, "_share": shares}
    out = {
        suffix: pd.DataFrame(rows).round(3 if suffix == "_share" else 5)
        for suffix, rows in made.items()
    }
    return out | {"_tests": tests(runs, grid, plan).round(5)}


def tests(runs: Mapping[str, pd.DataFrame], grid: MetaDataset, plan: TaskAwarePlan) -> pd.DataFrame:
    """Each method that takes a ranking against each of `OTHERS`, by source (see the module)."""
    sources = grid.about.get("sources", {})
    rows = []
    for eta, budgets in etas(plan):
        allowed = sorted({min(b, cells(grid)) for b in budgets})
        regret = {
            name: by_epoch(table[table["eta"] == eta], range(1, allowed[-1] + 1))
            for name, table in runs.items()
        }
        curves = {
            name: table.groupby([sources.get(t, t) for t in table.index]).mean()
            for name, table in regret.items()
        }
        own = [name for name in curves if name not in OTHERS]
        for budget in allowed:
            found: list[dict[Any, Any]] = []
            for other in [name for name in OTHERS if name in curves]:
                end = pd.DataFrame({name: curves[name][budget] for name in [*own, other]})
                tests = against(end, other)
                for name in own:
                    line = tests.loc[name]
                    mine, theirs = (curves[n].to_numpy()[:, :budget] for n in (name, other))
                    share = dict(
                        zip(("share", "from", "to"), share_needed(mine, theirs), strict=True)
                    )
                    found.append(
                        {"eta": eta, "budget": budget, "method": name, "against": other}
                        | share
                        | line.drop("p_holm").to_dict()
                    )
            for row, p in zip(found, holm([row["p"] for row in found]), strict=True):
                rows.append(row | {"p_holm": p})
    return pd.DataFrame(rows)


def evaluate(
    grid: MetaDataset,
    rankings: Rankings,
    plan: TaskAwarePlan,
    reports: Path | str,
    say: Callable[[str], None] = print,
    seconds: float = math.inf,
    work: Path | None = None,
    leave: str = "source",
    compare: int = 0,
) -> pd.DataFrame:
    """Run what is missing for at most `seconds`, write the tables of complete methods.

    Returns the summary. Tables that stand are left alone; with `compare` they do if so many of each
    method's pairs of task and eta are equal when they are made again.

    `work` is where finished runs are kept (default: `runs` in `reports`).
    """
    made, began = Made(Path(reports), "task_aware"), time.monotonic()
    reports = folder_of(Path(reports), leave)
    traces = (work or reports / "runs") / leave
    runs, wanted = {}, {}
    for name, how in methods(plan).items():
        if how.recommender and how.recommender not in rankings:
            say(f"{name}: the rankings table has no {how.recommender!r}; left out")
            continue
        want = fingerprint(grid, plan, how, rankings, leave)
        wanted[f"{leave}: {name}"] = f"{want} x {plan.repetitions}, {plan.budgets}"
    if all((reports / f"task_aware{suffix}.csv").is_file() for suffix in SUFFIXES):
        by_task = pd.read_csv(reports / "task_aware_tasks.csv")
        for part, want in wanted.items() if compare else ():
            if made.stands({part: want}):
                continue
            name = part.partition(": ")[2]
            pairs = made_again(grid, plan, name, rankings, by_task, compare, leave)
            (verdict,) = verdicts({part: pairs}).values()
            cases = len(etas(plan)) * len(grid.tasks)
            said = f"{in_words(compare, cases, 'pairs of task and eta', want)}: {verdict.said}"
            say(f"{name}: {said}")
            if verdict.stands:
                made.write({part: want}, {part: said})
        if made.stands(wanted):
            say(f"leave one {leave} out: the tables stand")
            return pd.read_csv(reports / "task_aware.csv")
    for name in [part.partition(": ")[2] for part in wanted]:
        table = run_method(grid, plan, name, rankings, traces, began + seconds, leave)
        if table is None:
            say(f"time is up in {name}; the same command goes on")
            break
        runs[name] = table
        say(f"{name}: {time.monotonic() - began:.0f} s")
    if not runs:
        raise BadInput(f"no method was finished in {seconds:.0f} seconds")
    written = tables(runs, grid, plan)
    for suffix, table in written.items():
        write_atomic(reports / f"task_aware{suffix}.csv", table.to_csv(index=False))
    if len(runs) == len(wanted):
        made.write(wanted)
    return written[""]


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command of the DVC stage `task_aware`."""
    work = Path(".cache/task_aware")
    parser = resumable(
        "papers.hyperstar.task_aware",
        main.__doc__,
        work,
        "stop after so long; the same command goes on",
        "let tables that other code made stand if N pairs of task and eta are equal when made "
        "again, for each method",
    )
    given = parser.parse_args(argv)
    on_one_thread()
    params = load(given.params)
    grid = full_grid(MetaDataset.load(params.meta_dataset.folder))
    for leave in given.leave.split(","):
        file = folder_of(given.reports, leave) / "rankings.parquet"
        rankings, seconds = Rankings.read(file, grid, params.rankings), 60 * given.minutes
        summary = evaluate(
            grid,
            rankings,
            params.task_aware,
            given.reports,
            seconds=seconds,
            work=given.work,
            leave=leave,
            compare=given.compare,
        )
        print(f"leave one {leave} out")
        print(summary.pivot(index="method", columns=["eta", "budget"], values="mean").to_string())


if __name__ == "__main__":
    sys.exit(main())
