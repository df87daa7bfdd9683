"""Run a method on one task of a meta-dataset and keep account of regret, epochs and decision time.

Regret is the best value in the task's table minus the incumbent, in the metric's own unit;
normalized, it is divided by the best minus the worst of the configurations' best values. `spent`
counts new epochs from 1; epoch 0 (before training) is free.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.running.objectives.replay import Replay
from foretune.searchers.base import Searcher
from foretune.study.study import Plan, Study


def replay_study(
    meta: MetaDataset,
    task: str,
    *,
    budget: int,
    sources: Sequence[str] | None = None,
    seed: int = 0,
    curve_seed: int = 0,
    method: str = "random",
) -> tuple[Study, Replay]:
    """An empty study of `task`, past tasks beside it, and the objective that replays it.

    Past are all other tasks, or `sources`.

    Raises `BadInput` if the target is among its own sources or a name is unknown.
    """
    objective = Replay(meta, task, curve_seed)
    past = [t for t in meta.tasks if t != task] if sources is None else list(sources)
    if task in past:
        raise BadInput(
            f"--sources names the target task {task!r} itself; a method must not see the "
            "curves that it is tested on"
        )
    plan = Plan(
        task=task,
        metric=meta.metric,
        goal=meta.goal,
        max_epoch=meta.max_epoch,
        budget=budget,
        method=method,
        seed=seed,
    )
    return Study(
        meta.space, meta.configs, plan, past=meta.select(past) if past else None
    ), objective


class Score:
    """The truth of one task, against which a study is scored."""

    def __init__(self, meta: MetaDataset, task: str, seed: int = 0):
        per_config = meta.best([task], seed)[0]  # (n,)
        self.sign = meta.sign
        # none of a task whose every cell diverged: its regret is never known
        known = per_config[~np.isnan(per_config)]
        self.best = float(known.max()) if len(known) else math.nan
        self.worst = float(known.min()) if len(known) else math.nan
        self.rank = np.array(
            [np.inf if np.isnan(v) else (per_config > v).sum() for v in per_config]
        )

    def regret(self, study: Study) -> float:
        """Best value in the table minus the incumbent, never negative.

        Infinite before the first finite value.
        """
        return math.inf if (found := study.incumbent) is None else max(0.0, self.best - found[2])

    def normalized(self, regret: float) -> float:
        """Regret over the spread of the configurations' best values; 0 on a constant table."""
        return regret / (self.best - self.worst) if self.best > self.worst else 0.0


def replay(
    study: Study, objective: Replay, searcher: Searcher, score: Score
) -> Iterator[dict[str, Any]]:
    """Run the study to its end; one dict per step, as `foretune replay` writes it."""
    ids = objective.meta.config_ids
    while True:
        step = study.ask(searcher)
        if step is None:
            return
        outcome = objective.run(
            step.config_id, study.configs[step.config_id], step.start, step.stop
        )
        study.tell(step, outcome.rows)
        # the table ends before the step does: nothing to pay for, nothing more to learn
        if outcome.failed:
            study.fail(step, int(study.epoch[step.config_id]), outcome.failed)
        if study.epoch[step.config_id] == step.start:
            continue
        regret, found = score.regret(study), study.incumbent
        guess = searcher.recommend(study)
        value = outcome.rows[-1][study.plan.metric]
        yield {
            "step": study.asked,
            "config_id": ids[step.config_id],
            "epoch": int(study.epoch[step.config_id]),
            "value": value if math.isfinite(value) else None,
            "spent": study.spent,
            "incumbent": None if found is None else found[2] * score.sign,
            "regret": regret if math.isfinite(regret) else None,
            "normalized_regret": score.normalized(regret) if math.isfinite(regret) else None,
            "recommended": None if guess is None else ids[guess],
            "recommended_rank": None
            if guess is None or not math.isfinite(score.rank[guess])
            else int(score.rank[guess]),
            "seconds": study.steps[-1]["seconds"],
        }
