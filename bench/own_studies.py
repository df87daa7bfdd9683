"""What own studies are worth as history: the default searcher on the shipped meta-dataset, with few full tasks behind it and short studies beside them.

    python bench/own_studies.py [--full 5] [--trainings 3]

Every task in turn is the new one. Its past are the first `--full` tasks of other sources with all their curves; and, in the second row, the others too, as
studies of `--trainings` full trainings that the searcher itself ran on them. The third row has all of them in full. Mean normalized regret
after 1, 2 and 5 full trainings.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from foretune.evaluation.leave_one_out import full_grid, past_of
from foretune.evaluation.replay import Score, replay, replay_study
from foretune.history import join
from foretune.meta import MetaDataset
from foretune.searchers.registry import DEFAULT, searcher
from foretune.study import Study

TRAININGS = (1, 2, 5)


def short_study(meta: MetaDataset, task: str, sources: list[str], trainings: int) -> MetaDataset:
    """What the default searcher learns about a task in so many full trainings, as a meta-dataset of that task."""
    study, objective = replay_study(meta, task, budget=trainings * meta.max_epoch, sources=sources, method=DEFAULT)
    for _ in replay(study, objective, searcher(DEFAULT), Score(meta, task)):
        pass
    return study.to_meta()


def regret(meta: MetaDataset, sources: dict[str, list[str]], past: Callable[[str], MetaDataset]) -> np.ndarray:
    """Mean over tasks of the regret after `TRAININGS`, with `past(task)` as history, (3,)."""
    rows = []
    for task in meta.tasks:
        plain, objective = replay_study(
            meta, task, budget=max(TRAININGS) * meta.max_epoch, sources=sources[task], method=DEFAULT
        )
        study = Study(meta.space, meta.configs, plain.plan, past=past(task))
        found = dict.fromkeys(TRAININGS, 1.0)
        for step in replay(study, objective, searcher(DEFAULT), Score(meta, task)):
            for k in TRAININGS:
                if step["spent"] <= k * meta.max_epoch:
                    found[k] = step["normalized_regret"]
        rows.append(list(found.values()))
    return np.mean(rows, axis=0)


def main() -> None:
    """Print the three rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meta", type=Path, default=Path("data/meta/light"))
    parser.add_argument("--full", type=int, default=5, help="past tasks with all their curves (default: 5)")
    parser.add_argument("--trainings", type=int, default=3, help="full trainings of a short study (default: 3)")
    given = parser.parse_args()
    meta = full_grid(MetaDataset.load(given.meta))
    sources = past_of(meta)
    short = {task: short_study(meta, task, sources[task], given.trainings) for task in meta.tasks}
    pasts: dict[str, Callable[[str], MetaDataset]] = {
        f"{given.full} tasks in full": lambda task: meta.select(sources[task][: given.full]),
        f"and the others as studies of {given.trainings} trainings": lambda task: join(
            [meta.select(sources[task][: given.full]), *(short[t] for t in sources[task][given.full :])], "past"
        ),
        "all in full": lambda task: meta.select(sources[task]),
    }
    print(f"{'past':<42}" + "".join(f"{k:>8}" for k in TRAININGS))
    for name, past in pasts.items():
        print(f"{name:<42}" + "".join(f"{v:8.4f}" for v in regret(meta, sources, past)), flush=True)


if __name__ == "__main__":
    main()
