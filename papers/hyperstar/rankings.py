"""The ranking table: how well each recommender ranks configurations of an unseen task.

    python -m papers.hyperstar.rankings [--params params.yaml] [--minutes M] [--leave source,task]
        [--compare N]

Every task of the meta-dataset's full grid is held out in turn, with all tasks of its source, and
once more alone; each recommender is fitted on the others. A trial draws image batches of its own;
trial i uses training i mod `trainings`, since ten trainings of every network would cost hours.
Ablations of HyperSTAR share the choice of steps and strength that the plain one makes on each past
(`Entry.choice_of`). Truth is the best value over epochs.

What is done is kept in `.cache/rankings` by recommender and past: a run that was cut short goes on
where it stopped, and `--minutes` ends one early. Kept scores belong to the curves, the images, the
plan, and the recommender's code (`foretune.pipeline.digests`). Where there is no such cache, as in
a fresh clone, a recommender's scores are taken from the tables themselves if `rankings/about.json`
says that they were made so. `--compare N` does it also for scores that other code made, if N of the
recommender's folds say so (`foretune.pipeline.comparison`). A network's training amplifies
rounding, until another processor's scores differ as much as those of another learning rate; so a
fit that is cut short before that (`short_fit`) is noted with the scores, and compared too.

`--judge` fits no network and needs no images: it judges the scores of the table that is there, adds
recommenders that read no images, and writes the same files but `about.json`.

Writes, of the recommenders that are complete: `data/reports/rankings.parquet` (recommender, task,
trial, config_id, score) and, in `data/reports/rankings`, `tasks.csv` (AP@10, AP@10 averaged over ties of the truth, precision@10,
top-1 regret by task, mean over trials), `summary.csv` (mean and standard error over tasks, and of
the difference to the task-agnostic list on the same tasks), `tests.csv` (each recommender's AP@10
over that of the task-agnostic list and of the raw-mean list, tasks of one source averaged: mean
difference, its 95 % interval, sources on which it is higher, equal, lower, the signed-rank test's
p, and Holm's among all recommenders) and `figure5a.csv` (the best value after k =
1 .. 50 configurations in recommended order, as normalized regret and in the metric's unit, mean and
standard error over tasks; Tr-AutoML's ten trial runs come first), and `evaluations.csv` (the share of the
configurations that one of the two lists is given that a recommender needs to be as good, tasks of
one source averaged, with its 95 % bootstrap interval over sources; inf: never). Tasks held out alone have the
same files in `data/reports/leave_one_task_out`.
"""

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.statistics import against, share_needed
from foretune.files import replace, write_atomic, write_json
from foretune.history.average_precision import (
    ap_at_k,
    ordered,
    precision_at_k,
    regret_after,
    tie_averaged_ap_at_k,
    top_regret,
)
from foretune.history.grid import content_hash, folder_of, full_grid, held_out_together
from foretune.history.meta_dataset import MetaDataset
from foretune.params import RankingsPlan, load
from foretune.pipeline.comparison import Pair, drawn, in_words, verdicts
from foretune.pipeline.digests import digest_of
from foretune.pipeline.threads import on_one_thread
from foretune.recommenders.base import Recommender
from foretune.recommenders.described import TrAutoML, probes
from foretune.recommenders.past import best_over_seeds
from foretune.recommenders.registry import class_of, entry, recommender
from foretune.tasks.task import Task
from papers.command import command, resumable

LONGEST = 50  # configurations of Figure 5a
BASELINE = "task-agnostic"  # to which AP@10 is compared task by task
LISTS = (BASELINE, "raw-mean")  # to which it is compared source by source, with tests
TIES = "AP@10, ties averaged"
GIVEN = (5, 10, 20, 30)  # configurations that a list is given, of which others need a share
IMAGE_SEED = 1000  # trials' image batches are drawn from seeds from here on
# The largest difference of a score (deviation 1 over configurations) that rounding alone makes, of
# a short fit and of a whole one: twice the largest that `papers.hyperstar.rounding` found. Of a
# short fit that was 2.1e-3 (hyperstar-bm; metadata-network 1.0e-3, siamese 1e-7), where twice the
# learning rate makes 2.9e-2 (2.5e-2, .7). Of a whole fit it was .09 (hyperstar-bm), and .145 with
# ten times the disturbance, which turns the inner choice from 80 steps to 40; twice the learning
# rate makes .126, no more: that is what the short fit is for.
SHORT_ROUNDING = 5e-3
ROUNDING = 0.3
RUNS = "papers.hyperstar.rankings:ranked"  # what decides scores
# what cuts a fit short: the first of these options that a recommender has
SHORT: dict[str, dict[str, float]] = {
    "steps": {"steps": 4, "strength": 1.0},
    "iterations": {"iterations": 4},
}
ABOUT = "about.json"  # in the folder `rankings`: by what the scores of a recommender were made


@dataclass(frozen=True)
class Fold:
    """Tasks that are held out together and the past that they leave."""

    held_out: tuple[str, ...]
    past: tuple[str, ...]


def folds(meta: MetaDataset, leave: str = "source") -> list[Fold]:
    """Folds by source, or one a task.

    Raises `BadInput` for another word or where a fold would have no past.
    """
    return [Fold(held, tuple(past)) for held, past in held_out_together(meta, leave).items()]


@dataclass(eq=False)
class RankingTable:
    """The work: every recommender on every fold, kept in `work` as it is done."""

    meta: MetaDataset
    tasks: Mapping[str, Task]
    plan: RankingsPlan
    work: Path
    leave: str = "source"
    truth: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.truth = dict(zip(self.meta.tasks, best_over_seeds(self.meta), strict=True))
        self.folds = folds(self.meta, self.leave)
        images = [self.tasks[name].hash for name in self.meta.tasks]
        plan = (self.plan.trials, self.plan.trainings, self.plan.seed)
        self.key = f"{content_hash(self.meta)}{images}{plan}{self.leave}"

    def fingerprint(self, name: str) -> str:
        """What decides a recommender's scores: curves, images, plan, and code.

        The code of the variant whose choice it shares is included.
        """
        names = tuple(filter(None, (name, entry(name).choice_of)))
        code = digest_of(RUNS, names=names)
        return hashlib.sha256(f"{self.key}{name}{code}".encode()).hexdigest()

    def part(self, name: str, fold: Fold) -> Path:
        """Where a finished fold is kept; its name changes with the fingerprint."""
        about = f"{self.fingerprint(name)}{fold}"
        return self.work / f"{name}-{hashlib.sha256(about.encode()).hexdigest()[:16]}.npz"

    def settled(self, name: str, fold: Fold) -> dict[str, float]:
        """What `name` chose by itself on this past (its fold is done first, if it must be)."""
        if (choice := self.kept(name, fold)[1]) is None:
            self.run(name, fold)
            choice = self.kept(name, fold)[1] or {}
        return choice

    def kept(
        self, name: str, fold: Fold
    ) -> tuple[dict[str, np.ndarray] | None, dict[str, float] | None]:
        """Scores (trials, n) by held-out task and what was chosen; None where it is not known."""
        if not (path := self.part(name, fold)).is_file():
            return None, None
        with np.load(path, allow_pickle=False) as kept:
            choice = json.loads(str(kept["settled"])) if "settled" in kept.files else None
            return {task: kept[task] for task in fold.held_out}, choice

    def keep(
        self,
        name: str,
        fold: Fold,
        scores: Mapping[str, np.ndarray],
        choice: Mapping[str, float] | None,
    ) -> None:
        """Keep a fold, its scores as precisely as the table of them has them."""
        known = {} if choice is None else {"settled": np.array(json.dumps(choice))}
        single = {task: values.astype(np.float32) for task, values in scores.items()}
        with replace(self.part(name, fold)) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **known, **single)  # type: ignore[arg-type]

    def keep_all(
        self,
        name: str,
        scores: Mapping[str, np.ndarray],
        chosen: Mapping[str, Mapping[str, float]],
    ) -> None:
        """Keep the folds that are not kept yet; `chosen` by held-out tasks, joined by +."""
        for fold in self.folds:
            if not self.part(name, fold).is_file():
                mine = {task: scores[task] for task in fold.held_out}
                self.keep(name, fold, mine, chosen.get("+".join(fold.held_out)))

    def run(self, name: str, fold: Fold) -> None:
        """Fit, rank the held-out tasks in all trials, and keep the scores."""
        shared = entry(name).choice_of
        options = self.settled(shared, fold) if shared else {}
        scores, choice = ranked(self, name, fold, options)
        self.keep(name, fold, scores, choice)

    def collect(self) -> dict[str, dict[str, np.ndarray]]:
        """Scores (trials, n) by recommender and task, of those whose folds are all done."""
        out: dict[str, dict[str, np.ndarray]] = {}
        for name in self.plan.recommenders:
            folds = [self.kept(name, fold)[0] for fold in self.folds]
            if all(scores is not None for scores in folds):
                out[name] = {task: s for scores in folds if scores for task, s in scores.items()}
        return out

    def notes(self, name: str) -> dict[str, Any]:
        """By what a recommender's scores were made, and what it chose on each past."""
        chosen = {"+".join(fold.held_out): self.kept(name, fold)[1] for fold in self.folds}
        return {
            "fingerprint": self.fingerprint(name),
            "chosen": {held: choice for held, choice in chosen.items() if choice},
        }


def ranked(
    table: RankingTable, name: str, fold: Fold, options: Mapping[str, float]
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Fit `name` with `options` on the fold's past and rank the held-out tasks in all trials.

    Returns scores (trials, n) by task, and what it chose by itself.
    """
    past, plan = table.meta.select(fold.past), table.plan
    fitted: list[Recommender] = []
    for training in range(min(plan.trainings, plan.trials)):
        made = recommender(name, **(fitted[0].settled() if fitted else options))
        fitted.append(made.fit(past, table.tasks, seed=plan.seed + training))

    def scores(task: str, trial: int) -> np.ndarray:
        of = fitted[trial % len(fitted)]
        if isinstance(of, TrAutoML):
            return of.rank_given(lambda rows: table.truth[task][rows]).scores
        return of.rank(table.tasks[task], plan.seed + IMAGE_SEED + trial).scores

    return {
        task: np.stack([scores(task, trial) for trial in range(plan.trials)])
        for task in fold.held_out
    }, fitted[0].settled()


def trains(name: str) -> bool:
    """Whether a recommender trains a network, whose fit can be cut short."""
    return any(key in recommender(name).options for key in SHORT)


def short_fit(table: RankingTable, name: str, fold: Fold | None = None) -> np.ndarray:
    """Scores (n,) of the first held-out task of a fold (default: the first) after a fit of a few
    steps, whose rounding no training has amplified.
    """
    fold, known = fold or table.folds[0], recommender(name).options
    cut = next(options for key, options in SHORT.items() if key in known)
    fitted = recommender(name, **cut).fit(
        table.meta.select(fold.past), table.tasks, seed=table.plan.seed
    )
    scores = fitted.rank(table.tasks[fold.held_out[0]], table.plan.seed + IMAGE_SEED).scores
    return np.asarray(scores, dtype=np.float32)


def take_up(
    table: RankingTable, reports: Path, compare: int = 0, say: Callable[[str], None] = print
) -> dict[str, dict[str, Any]]:
    """Put into the work folder the scores of `reports` that are valid and not there yet.

    Returns what stays noted with them, by recommender (see the module).
    """
    folder = folder_of(reports, table.leave)
    about = folder / "rankings" / ABOUT
    known = json.loads(about.read_text(encoding="utf-8"))["runs"] if about.is_file() else {}
    if not (folder / "rankings.parquet").is_file():
        return {}
    written = pd.read_parquet(folder / "rankings.parquet")
    stays: dict[str, dict[str, Any]] = {}
    samples: dict[str, list[Pair]] = {}
    doubtful: dict[str, dict[str, np.ndarray]] = {}
    for name in table.plan.recommenders:
        note = known.get(name, {})
        valid = note.get("fingerprint") == table.fingerprint(name)
        if valid:
            stays[name] = {key: note[key] for key in ("compared", "short") if key in note}
        if all(table.part(name, fold).is_file() for fold in table.folds):
            continue
        scores = scores_of(written[written["recommender"] == name], table)
        if scores is not None and valid:
            table.keep_all(name, scores, note.get("chosen", {}))
        elif scores is not None and compare:
            say(f"{name}: {in_words(compare, len(table.folds), 'folds', table.fingerprint(name))}")
            doubtful[name] = scores
            samples[name] = made_again(table, name, scores, compare, note.get("short"))
    for name, verdict in verdicts(samples, "AP@10").items():
        sample = in_words(compare, len(table.folds), "folds", table.fingerprint(name))
        say(f"{name}: {verdict.said}")
        if not verdict.stands:
            say(f"{name}: all folds are made again")
            continue
        table.keep_all(name, doubtful[name], known.get(name, {}).get("chosen", {}))
        stays[name] = {"compared": f"{sample}: {verdict.said}"}
        if not verdict.equal:  # the short fit of the machine that made the scores
            stays[name]["short"] = known[name]["short"]
    return stays


def scores_of(written: pd.DataFrame, table: RankingTable) -> dict[str, np.ndarray] | None:
    """A recommender's rows of the table as scores (trials, n) by task.

    None where they are not those of this table's tasks, configurations and trials.
    """
    out = {}
    for task in table.meta.tasks:
        rows = written[written["task"] == task]
        wide = rows.pivot(index="trial", columns="config_id", values="score")
        if sorted(wide.columns) != sorted(table.meta.config_ids) or list(wide.index) != list(
            range(table.plan.trials)
        ):
            return None
        out[task] = wide[list(table.meta.config_ids)].to_numpy()
    return out


def made_again(
    table: RankingTable,
    name: str,
    scores: Mapping[str, np.ndarray],
    count: int,
    short: Sequence[float] | None,
) -> list[Pair]:
    """The tasks of `count` of a recommender's folds: their kept `scores` and new ones; and its kept
    `short` fit and a new one. Where that is not known, no difference is taken for rounding.
    """
    rounding, k = 0.0 if short is None else ROUNDING, min(10, len(table.meta))
    pairs = []
    shared = entry(name).choice_of
    with tempfile.TemporaryDirectory() as folder:
        again = changed(table, work=Path(folder))
        # variants that share a choice are compared on the same folds, where it is known by then
        for fold in drawn(table.folds, count, table.fingerprint(shared or name)):
            new, choice = table.kept(name, fold)
            if new is None:  # else it was made again before an interruption
                options = table.kept(shared, fold)[1] if shared else {}
                if options is None:
                    options = again.settled(shared, fold)
                new, choice = ranked(again, name, fold, options)
                new = {task: values.astype(np.float32) for task, values in new.items()}
            for task, values in new.items():
                figures = [
                    float(np.mean([ap_at_k(row, table.truth[task], k) for row in both]))
                    for both in (scores[task], values)
                ]
                pairs.append(Pair(task, scores[task], values, rounding, (figures[0], figures[1])))
            if all(pair.equal for pair in pairs):  # with its choice, which the table does not hold
                table.keep(name, fold, new, choice)
    if short is not None:
        kept_short = np.array(short, dtype=np.float32)
        pairs.append(Pair("a short fit", kept_short, short_fit(table, name), SHORT_ROUNDING))
    return pairs


def fill(table: RankingTable, minutes: float = np.inf, say: Callable[[str], None] = print) -> bool:
    """Do what is missing, for at most about that many minutes; whether the table is complete."""
    started = time.monotonic()
    for name in table.plan.recommenders:
        clock, done = time.process_time(), 0
        for fold in table.folds:
            if table.part(name, fold).is_file():
                continue
            if time.monotonic() - started > 60 * minutes:
                say(f"{minutes:g} minutes are over; the next run goes on with {name}")
                return False
            table.run(name, fold)
            done += 1
        if done:
            say(f"{name}: {done} folds, {time.process_time() - clock:.1f} s of CPU")
    return True


def order_of(name: str, scores: np.ndarray, training: int) -> np.ndarray:
    """Rows in the order in which they would be trained: Tr-AutoML's trial runs come first."""
    order = ordered(scores)
    if class_of(name) is not TrAutoML:
        return order
    first = probes(len(scores), 10, training)
    return np.concatenate([first, order[~np.isin(order, first)]])


def judged(
    table: RankingTable, collected: Mapping[str, Mapping[str, np.ndarray]]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """By recommender and task, means over trials of the three figures and of the regrets.

    Regrets after k configurations are in long form.
    """
    rows, curves = [], []
    k = min(10, len(table.meta))
    for name, by_task in collected.items():
        for task in table.meta.tasks:
            truth, scores = table.truth[task], by_task[task]
            rows.append(
                {
                    "recommender": name,
                    "task": task,
                    "AP@10": np.mean([ap_at_k(s, truth, k) for s in scores]),
                    TIES: np.mean([tie_averaged_ap_at_k(s, truth, k) for s in scores]),
                    "precision@10": np.mean([precision_at_k(s, truth, k) for s in scores]),
                    "top-1 regret": np.mean([top_regret(s, truth) for s in scores]),
                }
            )
            regret = []
            for trial, s in enumerate(scores):
                order = order_of(
                    name, s, table.plan.seed + trial % min(table.plan.trainings, table.plan.trials)
                )
                rank = np.empty(len(order))
                rank[order] = -np.arange(len(order))
                regret.append(regret_after(rank, truth)[:LONGEST])
            mean, high, low = np.mean(regret, axis=0), np.nanmax(truth), np.nanmin(truth)
            curves += [
                {
                    "recommender": name,
                    "task": task,
                    "k": place + 1,
                    "regret": float(value),
                    "best value": float(reached),
                }
                for place, (value, reached) in enumerate(
                    zip(mean, (high - mean * (high - low)) * table.meta.sign, strict=True)
                )
            ]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def over_tasks(frame: pd.DataFrame, by: Sequence[str], order: Sequence[str]) -> pd.DataFrame:
    """Mean and standard error over tasks, recommenders in the given order."""
    grouped = frame.drop(columns="task").groupby(list(by))
    both = pd.concat([grouped.mean(), grouped.sem().add_suffix(" se")], axis=1)
    return both.loc[list(order)].round(4)


def by_source(by_task: pd.DataFrame, meta: MetaDataset, column: str = "AP@10") -> pd.DataFrame:
    """A column of `judged`'s table, sources by recommenders: tasks cut from one source averaged."""
    sources = meta.about.get("sources", {})
    wide = by_task.pivot(index="task", columns="recommender", values=column)
    return wide.groupby([sources.get(task, task) for task in wide.index]).mean()


def tested(by_task: pd.DataFrame, meta: MetaDataset) -> pd.DataFrame:
    """Each recommender against each of `LISTS`, by source (see the module)."""
    wide = by_source(by_task, meta)
    return pd.concat(
        {name: against(wide, name) for name in LISTS if name in wide}, names=["baseline"]
    )


def evaluations(curves: pd.DataFrame, meta: MetaDataset) -> pd.DataFrame:
    """What share of a list's configurations each recommender needs, by `judged`'s curves."""
    sources = meta.about.get("sources", {})
    by = curves["task"].map(lambda task: sources.get(task, task)).rename("source")
    wide = curves.groupby(["recommender", by, "k"])["regret"].mean().unstack("k")
    rows = []
    for base in [name for name in LISTS if name in set(wide.index.get_level_values(0))]:
        for given in [k for k in GIVEN if k in wide]:
            theirs = wide.loc[base].loc[:, :given].to_numpy()
            for name in curves["recommender"].unique():
                share, low, high = share_needed(wide.loc[name].loc[:, :given].to_numpy(), theirs)
                rows.append(
                    {"baseline": base, "given": given, "recommender": name}
                    | {"share": share, "from": low, "to": high}
                )
    return pd.DataFrame(rows).round(4)


def write_tables(
    table: RankingTable, found: Mapping[str, Mapping[str, np.ndarray]], reports: Path
) -> pd.DataFrame:
    """Write all reports but `about.json` of scores (trials, n) by recommender and task; returns the
    summary.
    """
    by_task, curves = judged(table, found)
    summary = over_tasks(by_task, ["recommender"], list(found))
    reports = folder_of(reports, table.leave)
    folder = reports / "rankings"
    if BASELINE in found:
        gap = by_task.pivot(index="task", columns="recommender", values="AP@10")
        gap = gap.sub(gap[BASELINE], axis=0)
        summary[f"over {BASELINE}"] = gap.mean().round(4)
        summary[f"over {BASELINE} se"] = gap.sem().round(4)
        write_atomic(folder / "tests.csv", tested(by_task, table.meta).round(4).to_csv())
        shares = evaluations(curves, table.meta)
        write_atomic(folder / "evaluations.csv", shares.to_csv(index=False))
    ids = np.asarray(table.meta.config_ids, dtype=np.int32)
    frames = [
        pd.DataFrame(
            {
                "recommender": name,
                "task": task,
                "trial": np.repeat(np.arange(len(scores), dtype=np.int16), len(ids)),
                "config_id": np.tile(ids, len(scores)),
                "score": scores.astype(np.float32).ravel(),
            }
        )
        for name, by_name in found.items()
        for task, scores in sorted(by_name.items())
    ]
    with replace(reports / "rankings.parquet") as temporary:
        pd.concat(frames, ignore_index=True).to_parquet(temporary, index=False, compression="zstd")
    write_atomic(folder / "tasks.csv", by_task.set_index(["recommender", "task"]).round(4).to_csv())
    write_atomic(folder / "summary.csv", summary.to_csv())
    write_atomic(
        folder / "figure5a.csv", over_tasks(curves, ["recommender", "k"], list(found)).to_csv()
    )
    return summary


def write(
    table: RankingTable, reports: Path, stays: Mapping[str, Mapping[str, Any]] | None = None
) -> pd.DataFrame:
    """Write the reports of what is complete; returns the summary.

    `stays` is what `take_up` gave; short fits that are not in it are made now. Raises `BadInput`
    where no recommender is complete.
    """
    found = table.collect()
    if not found:
        raise BadInput("no recommender is complete yet: run this again, with more --minutes")
    summary = write_tables(table, found, reports)
    notes = {name: table.notes(name) | {**(stays or {}).get(name, {})} for name in found}
    for name, note in notes.items():
        if trains(name) and "short" not in note:
            note["short"] = short_fit(table, name).tolist()
    write_json(folder_of(reports, table.leave) / "rankings" / ABOUT, {"runs": notes})
    return summary


def judge(meta: MetaDataset, plan: RankingsPlan, reports: Path, leave: str) -> pd.DataFrame:
    """Judge the scores that are there, with those of recommenders that read no images; returns the
    summary. Raises `BadInput` where there is no table of scores.
    """
    file = folder_of(reports, leave) / "rankings.parquet"
    if not file.is_file():
        raise BadInput(f"{file} is missing: run python -m papers.hyperstar.rankings first")
    written, found = pd.read_parquet(file), {}
    with tempfile.TemporaryDirectory() as work:
        table = RankingTable(
            meta, {name: blank(name) for name in meta.tasks}, plan, Path(work), leave
        )
        for name in plan.recommenders:
            scores = scores_of(written[written["recommender"] == name], table)
            if scores is None and not entry(name).reads_images:
                made = [ranked(table, name, fold, {})[0] for fold in table.folds]
                scores = {task: values for part in made for task, values in part.items()}
            if scores is not None:
                found[name] = scores
    if not found:
        raise BadInput(f"{file} holds no recommender of the plan on all tasks of {meta.name}")
    return write_tables(table, found, reports)


def blank(name: str) -> Task:
    """A task without pictures to look at, for recommenders that do not."""
    images = np.zeros((2, 1, 1, 3), dtype=np.uint8)
    return Task(name, images, np.arange(2), ("a", "b"), np.zeros(2, dtype=np.uint8))


@command
def main(argv: Sequence[str] | None = None) -> int:
    """The command of the DVC stage `rankings`."""
    work = Path(".cache/rankings")
    parser = resumable(
        "papers.hyperstar.rankings",
        main.__doc__,
        work,
        "stop after about this time; run again to go on",
        "keep a recommender's scores, made by other code, if those of N folds are the same when "
        "made again",
    )
    parser.add_argument("--images", type=Path, default=Path("data/images"))
    parser.add_argument(
        "--judge", action="store_true", help="judge the scores that are there: no fits, no images"
    )
    given = parser.parse_args(argv)
    on_one_thread()
    params = load(given.params)
    meta = full_grid(MetaDataset.load(params.meta_dataset.folder))
    if given.judge:
        for leave in given.leave.split(","):
            print(judge(meta, params.rankings, given.reports, leave).to_string())
        return 0
    tasks = {name: Task.load(given.images / f"{name}.npz") for name in meta.tasks}
    complete = True
    for leave in given.leave.split(","):
        table = RankingTable(meta, tasks, params.rankings, given.work, leave)
        print(
            f"{len(meta.tasks)} tasks x {len(meta)} configurations, leave one {leave} "
            f"out: {len(table.folds)} folds"
        )
        stays = take_up(table, given.reports, given.compare)
        complete &= fill(table, given.minutes)
        print(write(table, given.reports, stays).to_string())
    return 0 if complete else 3


if __name__ == "__main__":
    sys.exit(main())
