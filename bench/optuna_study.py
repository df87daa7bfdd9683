"""Optuna studies with and without a past, through Optuna's own interface, on published tables.

    python bench/optuna_study.py sampler --table FOLDER [--tasks 25] [--seeds 10]
    python bench/optuna_study.py pruner --table FOLDER [--tasks 25] [--seeds 10]
    python bench/optuna_study.py report [--seeds 10] [--out data/reports/optuna]

`sampler`: studies of 60 whole trainings by TPE, by random search, by our sampler with the table of
the other tasks as its past (`table`), and with the same as runs of any space (`runs`: as an imported
run store is used, nothing says that the pool is the same). `pruner`: TPE alone, with Optuna's
MedianPruner and SuccessiveHalvingPruner, and with ours, until as many epochs are spent as 20 full
trainings have. Every suggestion, from all samplers, is the nearest configuration that the table has.

The past is all other tasks but those of the same source (names that differ by their last digits
only). Studies that were made are kept in .cache/bench/optuna and not repeated. `report` gives mean
normalized regret, and paired differences to TPE or MedianPruner over tasks with intervals of 95 %
(bootstrap over sources, means over seeds), over all tasks and over those that have `--seeds` of
both arms; the CSVs are in `--out`.
"""

import argparse
import json
import re
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd

from foretune.evaluation.replay import Score
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.integrations.optuna import Pruner, Sampler, distributions
from foretune.integrations.past_runs import PastRuns

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "bench" / "optuna"
TRIALS, TRAININGS = 60, 20
AFTER = {"sampler": (1, 2, 5, 10, 20, 40, 60), "pruner": (2, 5, 10, 20)}
ARMS = {
    "sampler": ("tpe", "random", "table", "runs"),
    "pruner": ("none", "median", "halving", "past"),
}
AGAINST = {"sampler": "tpe", "pruner": "median"}


def source_of(task: str) -> str:
    """The source of a task, by its name."""
    return re.sub(r"\d+$", "", task)


@lru_cache(maxsize=1)
def past_of(table: Path, task: str) -> MetaDataset:
    """All tasks of other sources."""
    meta = MetaDataset.load(table)
    return meta.select([t for t in meta.tasks if source_of(t) != source_of(task)])


@lru_cache(maxsize=1)
def past_runs(table: Path, task: str) -> PastRuns:
    """The same as runs of any space, learned once for all seeds."""
    return PastRuns(past_of(table, task))


class Target:
    """A task as an objective of Optuna's."""

    def __init__(self, meta: MetaDataset, task: str):
        self.space, self.asked = meta.space, distributions(meta)
        self.X = meta.space.encode(meta.configs)
        self.curves = meta.sign * meta.curves(task)  # in the metric's own unit
        self.sign = meta.sign
        self.score = Score(meta, task)

    def suggested(self, trial: optuna.Trial) -> int:
        """The table's configuration nearest to what a trial suggests; what its parents switch off is
        not asked for.
        """
        config: dict[str, Any] = {}
        while more := [n for n in self.space.completed(config, {}) if n not in config]:
            free = [n for n in more if n not in self.space.conditional] or more
            for name in free:
                config[name] = trial._suggest(name, self.asked[name])
        place = self.space.encode([self.space.typed(config)])
        return int(np.square(self.X - place).sum(axis=1).argmin())

    def regret(self, value: float) -> float:
        """Normalized regret of a best value, higher is better."""
        if not np.isfinite(value):
            return 1.0
        return min(1.0, self.score.normalized(max(0.0, self.score.best - value)))


def sampler_of(arm: str, table: Path, task: str, seed: int) -> "optuna.samplers.BaseSampler":
    """The sampler of an arm."""
    if arm in ("table", "runs"):
        sampler = Sampler(past_of(table, task), seed=seed)
        if arm == "runs":
            sampler._table, sampler._runs = None, past_runs(table, task)
        return sampler
    if arm == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed)


def pruner_of(arm: str, table: Path, task: str) -> "optuna.pruners.BasePruner":
    """The pruner of an arm."""
    match arm:
        case "median":
            return optuna.pruners.MedianPruner()
        case "halving":
            return optuna.pruners.SuccessiveHalvingPruner()
        case "past":
            return Pruner(past_of(table, task))
    return optuna.pruners.NopPruner()


def run_sampler(table: Path, task: str, arm: str, seed: int) -> list[float]:
    """Normalized regret after each of 60 trainings."""
    target = Target(MetaDataset.load(table), task)
    best = np.where(np.isnan(target.curves), -np.inf, target.sign * target.curves).max(axis=1)

    def objective(trial: optuna.Trial) -> float:
        value = best[target.suggested(trial)]
        return float(target.sign * value) if np.isfinite(value) else float("nan")

    study = optuna.create_study(
        sampler=sampler_of(arm, table, task, seed),
        direction="maximize" if target.sign > 0 else "minimize",
        study_name=task,
    )
    study.optimize(objective, n_trials=TRIALS)
    values = [target.sign * t.value if t.value is not None else -np.inf for t in study.trials]
    return [target.regret(v) for v in np.maximum.accumulate(values)]


def run_pruner(table: Path, task: str, arm: str, seed: int) -> list[float]:
    """Normalized regret after each epoch of 20 full trainings' worth."""
    target = Target(MetaDataset.load(table), task)
    regret: list[float] = []
    best, budget = -np.inf, TRAININGS * target.curves.shape[1]

    def objective(trial: optuna.Trial) -> float:
        nonlocal best
        curve = target.curves[target.suggested(trial)]
        reached = -np.inf
        for epoch, value in enumerate(curve, 1):
            if np.isnan(value):
                raise optuna.TrialPruned
            reached = max(reached, target.sign * value)
            best = max(best, reached)
            regret.append(target.regret(best))
            if len(regret) >= budget:
                study.stop()
                break
            trial.report(float(value), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(target.sign * reached)

    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=pruner_of(arm, table, task),
        direction="maximize" if target.sign > 0 else "minimize",
    )
    study.optimize(objective, n_trials=100 * TRAININGS)
    return regret[target.curves.shape[1] - 1 :: target.curves.shape[1]]


def made(what: str, table: Path, task: str, arm: str, seed: int) -> Path:
    """Where a study's regrets are kept."""
    return CACHE / what / table.name / f"{task}-{arm}-{seed}.json"


def run(what: str, table: Path, tasks: int, seeds: int, arms: list[str]) -> None:
    """Make the studies that are not there."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = sorted(MetaDataset.load(table).tasks)
    at = np.linspace(0, len(names) - 1, min(tasks, len(names))).astype(int)
    for task in [names[k] for k in at]:  # its past is learned once for all seeds
        for seed in range(seeds):
            for arm in arms:
                path = made(what, table, task, arm, seed)
                if path.exists():
                    continue
                began = time.monotonic()
                one = run_sampler if what == "sampler" else run_pruner
                found = {"regret": one(table, task, arm, seed)}
                found["seconds"] = round(time.monotonic() - began, 2)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(path, json.dumps(found))
                print(table.name, task, arm, seed, found["seconds"], flush=True)


def report(what: str, table: str, least: int) -> pd.DataFrame:
    """A row an arm: mean normalized regret, and the difference to what it is held against with its
    interval, over the tasks with at least so many seeds that both have.
    """
    rows = []
    for path in sorted((CACHE / what / table).glob("*.json")):
        task, arm, seed = path.stem.rsplit("-", 2)
        regret = json.loads(path.read_text(encoding="utf-8"))["regret"]
        rows += [
            {"task": task, "arm": arm, "seed": int(seed), "after": k, "regret": regret[k - 1]}
            for k in AFTER[what]
        ]
    frame = pd.DataFrame(rows)
    out = []
    for arm in [a for a in ARMS[what] if a in set(frame["arm"])]:
        wide = frame[frame["arm"].isin([arm, AGAINST[what]])]
        wide = wide.pivot_table(index=["after", "task", "seed"], columns="arm", values="regret")
        wide = wide.dropna()
        enough = wide.groupby(["after", "task"]).transform("size") >= least
        wide = wide[enough]
        for after, part in wide.groupby("after"):
            per_task = part.groupby("task").mean()
            gap = per_task[arm] - per_task[AGAINST[what]]
            low, high = interval(gap)
            out.append(
                {
                    "table": table,
                    "arm": arm,
                    "after": after,
                    "regret": per_task[arm].mean(),
                    "against": AGAINST[what],
                    "difference": gap.mean(),
                    "low": low,
                    "high": high,
                    "tasks": len(per_task),
                    "seeds": round(len(part) / len(per_task), 1),
                    "least_seeds": least,
                }
            )
    return pd.DataFrame(out).round(5)


def interval(gap: pd.Series, draws: int = 4000) -> tuple[float, float]:
    """95 % of the mean of a value per task, resampling sources."""
    groups = [one.to_numpy() for _, one in gap.groupby([source_of(t) for t in gap.index])]
    sums, sizes = np.array([g.sum() for g in groups]), np.array([len(g) for g in groups])
    at = np.random.default_rng(0).integers(len(groups), size=(draws, len(groups)))
    low, high = np.quantile(sums[at].sum(axis=1) / sizes[at].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Run, or report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["sampler", "pruner", "report"])
    parser.add_argument("--table", type=Path)
    parser.add_argument("--tasks", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--arms", type=lambda text: text.split(","))
    parser.add_argument("--out", type=Path, default=ROOT / "data" / "reports" / "optuna")
    asked = parser.parse_args()
    if asked.what != "report":
        arms = asked.arms or ARMS[asked.what]
        run(asked.what, asked.table, asked.tasks, asked.seeds, list(arms))
        return
    for what in AFTER:
        tables = sorted(path.name for path in (CACHE / what).glob("*") if path.is_dir())
        if tables:
            both = [report(what, table, n) for table in tables for n in (1, asked.seeds)]
            found = pd.concat([one for one in both if len(one)])
            asked.out.mkdir(parents=True, exist_ok=True)
            write_atomic(asked.out / f"{what}.csv", found.to_csv(index=False))
            print(found.to_string(index=False))


if __name__ == "__main__":
    main()
