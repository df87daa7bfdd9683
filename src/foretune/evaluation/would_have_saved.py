"""What history would have saved: own past studies replayed, each with and without the others.

For each task of a meta-dataset: the epochs that the searcher with history needs until its incumbent
is as good as what history-free search has after its whole budget, against the epochs that the
latter needed for that. Saved = needed without minus needed with; negative where history cost. The
mean over tasks comes with a bootstrap interval over tasks. Tasks cut from the same source
(`sources` in about.json) do not count as each other's history.

A study has trained few configurations, and few of them to the end. A replay chooses among those
alone, and its budget is at most what the table holds of the task: nobody knows what the others
would have done. A trial whose curve ends early ends there. With `shipped`, the meta-dataset that
`foretune tune` learns from beside the own studies, its tasks are history too (`shipped_for`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from foretune.errors import BadInput
from foretune.evaluation.replay import Score, replay
from foretune.history.curve_table import CurveTable
from foretune.history.grid import past_of
from foretune.history.join import join, joinable
from foretune.history.meta_dataset import MetaDataset
from foretune.running.objectives.replay import Replay
from foretune.searchers.registry import DEFAULT, DEFAULT_WITHOUT_PAST, searcher
from foretune.study.study import Plan, Study

DRAWS = 2000  # bootstrap samples of the tasks


@dataclass(frozen=True)
class Savings:
    """Epochs saved by task (averaged over seeds), their mean with a 90 % interval over tasks.

    By task also the budget of each run and the configurations that it chose among; how many of the
    tasks are history from `shipped`.

    A task on which history never got as far counts the whole budget as needed: its saving is a
    lower bound of the loss.
    """

    by_task: Mapping[str, float]
    mean: float
    low: float
    high: float
    budgets: Mapping[str, int]
    configurations: Mapping[str, int]
    with_history: str
    without: str
    shipped: int = 0

    @property
    def sentence(self) -> str:
        """The result in a sentence."""
        what = "saved" if self.mean >= 0 else "cost"
        helped = sum(v > 0 for v in self.by_task.values())
        budgets = list(self.budgets.values())
        budget = f"{budgets[0]}" if len(set(budgets)) == 1 else f"{np.mean(budgets):.1f}"
        return (
            f"Tuning with history ({self.with_history}) would have {what} "
            f"{abs(self.mean):.1f} of {budget} epochs a study on "
            f"average (90 % interval {self.low:.1f} to {self.high:.1f}), and helped on "
            f"{helped} of {len(self.by_task)} tasks."
        )


def trained(meta: MetaDataset, task: str) -> MetaDataset:
    """One task of a meta-dataset, with the configurations alone of which it has an epoch."""
    one = meta.select([task])
    rows = np.flatnonzero(Replay(one, task).known.any(axis=1))
    ids = [one.config_ids[i] for i in rows]
    keep = np.isin(one.rows.columns["config_id"], ids)
    table = CurveTable(
        one.rows.tasks, one.rows.task[keep], {c: v[keep] for c, v in one.rows.columns.items()}
    )
    return MetaDataset(one.space, ids, [one.configs[i] for i in rows], table, one.about)


def shipped_for(meta: MetaDataset, folder: Path) -> MetaDataset | None:
    """The meta-dataset in `folder` if it can stand beside these studies, else None.

    As `foretune tune` asks, it must have been trained with their settings.
    """
    from foretune.recommenders.own import settings_of

    if not (folder / "about.json").is_file():
        return None
    shipped = MetaDataset.load(folder)
    if not joinable(shipped, meta) or settings_of(shipped) != settings_of(meta):
        return None
    return shipped


def incumbents(
    own: MetaDataset, past: MetaDataset | None, name: str, budget: int, seed: int
) -> np.ndarray:
    """Incumbent after each epoch spent on the only task of `own`, higher is better, (epochs,)."""
    (task,) = own.tasks
    objective = Replay(own, task)
    plan = Plan(
        task=task,
        metric=own.metric,
        goal=own.goal,
        max_epoch=own.max_epoch,
        budget=budget,
        method=name,
        seed=seed,
    )
    study = Study(own.space, own.configs, plan, past=past)
    for _ in replay(study, objective, searcher(name), Score(own, task)):
        pass
    values = [study.Y[c, e - 1] for c, e in study.order]
    return np.maximum.accumulate(np.where(np.isnan(values), -np.inf, values))


def epochs_needed(trace: np.ndarray, target: float, budget: int) -> int:
    """Epochs until `trace` reaches `target`; the budget if it never does."""
    reached = np.flatnonzero(trace >= target - 1e-12)
    return int(reached[0]) + 1 if len(reached) else budget


def would_have_saved(
    meta: MetaDataset,
    budget: int | None = None,
    seeds: int = 3,
    method: str = DEFAULT,
    without: str = DEFAULT_WITHOUT_PAST,
    shipped: MetaDataset | None = None,
) -> Savings:
    """Replay every task of `meta` with history and without.

    History is the others and the tasks of `shipped`, except those of the very same images.

    `budget` defaults to five full trainings, and is never more than the epochs that `meta` holds of
    a task. Raises `BadInput` for fewer than two tasks and no `shipped`: there would be no history.
    """
    if len(meta.tasks) < 2 and shipped is None:
        raise BadInput(f"{meta.name} has {len(meta.tasks)} task(s); leave-one-out needs at least 2")
    budget = 5 * meta.max_epoch if budget is None else budget
    every = meta if shipped is None else join([shipped, meta], meta.name)
    by_task: dict[str, float] = {}
    budgets, configurations = {}, {}
    past = past_of(meta)
    for task in meta.tasks:
        names = shipped_tasks(shipped, meta, task) + past[task]
        if not names:
            continue
        own, history = trained(meta, task), every.select(names)
        most = min(budget, int(Replay(own, task).known.sum()))
        differences = []
        for seed in range(seeds):
            plain = incumbents(own, None, without, most, seed)
            helped = incumbents(own, history, method, most, seed)
            if len(plain) and np.isfinite(plain[-1]):
                differences.append(
                    epochs_needed(plain, plain[-1], most) - epochs_needed(helped, plain[-1], most)
                )
        if differences:
            by_task[task] = float(np.mean(differences))
            budgets[task], configurations[task] = most, len(own)
    if not by_task:
        raise BadInput(
            f"{meta.name} has no task with finite values and with tasks of another source to "
            "learn from"
        )
    values = np.array(list(by_task.values()))
    means = np.random.default_rng(0).choice(values, (DRAWS, len(values))).mean(axis=1)
    low, high = np.percentile(means, [5, 95])
    of_shipped = 0 if shipped is None else len(shipped.tasks)
    return Savings(
        by_task,
        float(values.mean()),
        float(low),
        float(high),
        budgets,
        configurations,
        method,
        without,
        of_shipped,
    )


def shipped_tasks(shipped: MetaDataset | None, meta: MetaDataset, task: str) -> list[str]:
    """The shipped tasks that may be history of `task`: all of other names and images."""
    if shipped is None:
        return []
    images, hashes = meta.about.get("hashes", {}).get(task), shipped.about.get("hashes", {})
    return [
        name
        for name in shipped.tasks
        if name != task and (images is None or hashes.get(name) != images)
    ]
