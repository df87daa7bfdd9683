"""What own studies are worth as history.

The default searcher on the shipped meta-dataset, with few full tasks behind it and short studies
beside them.

    python -m papers.transfer.own_studies [--full 5] [--trainings 3]
    python -m papers.transfer.own_studies --recommender hyperstar

Every task in turn is the new one. Its past are the first `--full` tasks of other sources with all
their curves; and, in the second row, the others too, as studies of `--trainings` full trainings
that the searcher itself ran on them. The third row has all of them in full. Mean normalized regret
after 1, 2 and 5 full trainings.

With `--recommender`, what they are worth to one that is fitted on them
(`foretune.recommenders.own`): AP@10 of its ranking before anything is trained, and the regret after
its first 1, 2 and 5 configurations, with standard errors over tasks. Here a study has learned only
from the full tasks that the new one has too. The recommender's own choices (`settled`) are those of
the shipped one in all three rows.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from foretune.evaluation.replay import Score, replay, replay_study
from foretune.history.average_precision import ap_at_k, regret_after
from foretune.history.grid import full_grid, past_of
from foretune.history.join import join
from foretune.history.meta_dataset import MetaDataset
from foretune.recommenders.registry import load, recommender
from foretune.running.meta_train import with_studies
from foretune.searchers.registry import DEFAULT, searcher
from foretune.shipped import LIGHT, find
from foretune.study.study import Study
from foretune.tasks.task import Task

TRAININGS = (1, 2, 5)


def short_study(meta: MetaDataset, task: str, sources: list[str], trainings: int) -> MetaDataset:
    """What the default searcher learns about a task in so many full trainings.

    As a meta-dataset of that task.
    """
    study, objective = replay_study(
        meta, task, budget=trainings * meta.max_epoch, sources=sources, method=DEFAULT
    )
    for _ in replay(study, objective, searcher(DEFAULT), Score(meta, task)):
        pass
    return study.to_meta()


def regret(
    meta: MetaDataset, sources: dict[str, list[str]], past: Callable[[str], MetaDataset]
) -> np.ndarray:
    """Mean over tasks of the regret after `TRAININGS`, with `past(task)` as history, (3,)."""
    rows = []
    for task in meta.tasks:
        plain, objective = replay_study(
            meta,
            task,
            budget=max(TRAININGS) * meta.max_epoch,
            sources=sources[task],
            method=DEFAULT,
        )
        study = Study(meta.space, meta.configs, plain.plan, past=past(task))
        found = dict.fromkeys(TRAININGS, 1.0)
        for step in replay(study, objective, searcher(DEFAULT), Score(meta, task)):
            for k in TRAININGS:
                if step["spent"] <= k * meta.max_epoch:
                    found[k] = step["normalized_regret"]
        rows.append(list(found.values()))
    return np.mean(rows, axis=0)


def ranked(
    meta: MetaDataset, sources: dict[str, list[str]], name: str, full: int, trainings: int
) -> None:
    """Print a recommender's three rows."""
    images = {task: Task.load(Path("data/images") / f"{task}.npz") for task in meta.tasks}
    chosen = load(fitted).settled() if (fitted := find("models", name, Path("data"))) else {}
    rows: dict[str, list[list[float]]] = {"full": [], "own": [], "all": []}
    for task in meta.tasks:
        first, others = sources[task][:full], sources[task][full:]
        short = [
            short_study(meta, t, [s for s in first if s in sources[t]], trainings) for t in others
        ]
        with_own, _ = with_studies(full_grid(meta.select(first)), short)
        pasts = {"full": meta.select(first), "own": with_own, "all": meta.select(sources[task])}
        values = meta.best([task])[0]
        for kind, past in pasts.items():
            scores = recommender(name, **chosen).fit(past, images).rank(images[task]).scores
            regrets = regret_after(scores, values)
            rows[kind].append([ap_at_k(scores, values), *(regrets[k - 1] for k in TRAININGS)])
        print(
            f"# {task}: " + ", ".join(f"{kind} {found[-1][1]:.3f}" for kind, found in rows.items()),
            flush=True,
        )
    titles = (
        f"{full} tasks in full",
        f"and the others as studies of {trainings} trainings",
        "all in full",
    )
    print(f"{name:<42}{'AP@10':>16}" + "".join(f"{f'regret after {k}':>18}" for k in TRAININGS))
    for title, found in zip(titles, rows.values(), strict=True):
        values = np.array(found)
        error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
        print(
            f"{title:<42}"
            + "".join(
                f"  {m:7.4f} ± {e:.4f}" for m, e in zip(values.mean(axis=0), error, strict=True)
            )
        )


def main() -> None:
    """Print the three rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--meta", type=Path, default=LIGHT)
    parser.add_argument(
        "--full", type=int, default=5, help="past tasks with all their curves (default: 5)"
    )
    parser.add_argument(
        "--trainings", type=int, default=3, help="full trainings of a short study (default: 3)"
    )
    parser.add_argument(
        "--recommender",
        metavar="NAME",
        help="fit this one on them, instead of replaying the searcher",
    )
    given = parser.parse_args()
    meta = full_grid(MetaDataset.load(given.meta))
    sources = past_of(meta)
    if given.recommender:
        ranked(meta, sources, given.recommender, given.full, given.trainings)
        return
    short = {task: short_study(meta, task, sources[task], given.trainings) for task in meta.tasks}
    pasts: dict[str, Callable[[str], MetaDataset]] = {
        f"{given.full} tasks in full": lambda task: meta.select(sources[task][: given.full]),
        f"and the others as studies of {given.trainings} trainings": lambda task: join(
            [
                meta.select(sources[task][: given.full]),
                *(short[t] for t in sources[task][given.full :]),
            ],
            "past",
        ),
        "all in full": lambda task: meta.select(sources[task]),
    }
    print(f"{'past':<42}" + "".join(f"{k:>8}" for k in TRAININGS))
    for name, past in pasts.items():
        print(f"{name:<42}" + "".join(f"{v:8.4f}" for v in regret(meta, sources, past)), flush=True)


if __name__ == "__main__":
    main()
