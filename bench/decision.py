"""Seconds per decision of a method as its study grows: median and 95th percentile, and peak memory.

    python bench/decision.py [METHOD ...] [--candidates 1000] [--observations 1000]

The study is a table of rising noisy curves in the synthetic space; a method that needs past tasks
replays tasks of `--table` instead, each with the others as its past, until `--observations` epochs
or the table are used up. Steps are what the method itself asks for. CPU seconds of the process are
counted, since on a busy machine wall-clock says little. One line per method, for the decisions of
the last tenth and for all of them.
"""

import argparse
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foretune.evaluation.replay import replay_study
from foretune.history.grid import full_grid, past_of
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import method, searcher
from foretune.shipped import LIGHT
from foretune.study.study import Plan, Study

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "toys"))

from synthetic import synthetic_space


def decisions(
    method: str, candidates: int, observations: int, epochs: int, seed: int = 0
) -> np.ndarray:
    """CPU seconds of every decision until `observations` epochs are told."""
    rng = np.random.default_rng(seed)
    space = synthetic_space()
    configs = space.sample(candidates, rng)
    x = space.encode(configs)
    top = 0.9 - 0.5 * ((x - x.mean(axis=0)) ** 2).sum(axis=1) + rng.normal(0, 0.02, candidates)
    rate = rng.uniform(0.05, 0.5, (candidates, 1))
    curves = top[:, None] * (1 - np.exp(-rate * np.arange(1, epochs + 1))) + rng.normal(
        0, 0.003, (candidates, epochs)
    )
    plan = Plan(
        task="growing",
        metric="accuracy",
        goal="maximize",
        max_epoch=epochs,
        budget=2 * observations,
        method=method,
        seed=seed,
    )
    study, chosen, took = Study(space, configs, plan), searcher(method), []
    while study.spent < observations:
        began = time.process_time()
        step = study.ask(chosen)
        took.append(time.process_time() - began)
        if step is None:
            break
        study.tell(step, curves[step.config_id, step.start : step.stop].tolist())
    return np.array(took)


def replayed(name: str, table: Path, observations: int, tasks: int = 3) -> np.ndarray:
    """CPU seconds of every decision on the first `tasks` tasks of a meta-dataset's full grid.

    Each task has its past; its first decision, which learns from that past, is not among them.
    """
    grid = full_grid(MetaDataset.load(table))
    past, took = past_of(grid), []
    for task in grid.tasks[:tasks]:
        budget = min(observations, len(grid) * grid.max_epoch)
        study, objective = replay_study(grid, task, budget=budget, sources=past[task], method=name)
        chosen, asked = searcher(name), 0
        while True:
            began = time.process_time()
            step = study.ask(chosen)
            if step is None:
                break
            if asked:
                took.append(time.process_time() - began)
            asked += 1
            done = objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            )
            study.tell(step, done.rows)
            if done.failed:
                study.fail(step, int(study.epoch[step.config_id]), done.failed)
    return np.array(took)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="bench/decision.py", description=main.__doc__)
    parser.add_argument("methods", nargs="*", default=["dyhpo"])
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--observations", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=50, help="of a full training")
    parser.add_argument("--table", type=Path, default=LIGHT)
    args = parser.parse_args(argv)
    print(
        f"CPU milliseconds per decision; {args.candidates} candidates, {args.observations} "
        "observations at the end"
    )
    for name in args.methods:
        if method(name).needs_past:
            took = 1000 * replayed(name, args.table, args.observations)
        else:
            took = 1000 * decisions(name, args.candidates, args.observations, args.epochs)
        late = took[-max(1, len(took) // 10) :]
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{name:14s} last tenth: median {np.median(late):6.1f}, p95 "
            f"{np.quantile(late, 0.95):6.1f};  "
            f"all {len(took)}: median {np.median(took):6.1f}, p95 "
            f"{np.quantile(took, 0.95):6.1f}, longest {took.max():7.1f};  peak {memory:.0f} "
            "MiB"
        )


if __name__ == "__main__":
    main()
