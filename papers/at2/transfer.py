"""How the transfer searchers' cost grows: fitting, a decision, peak memory.

Each case runs in a process of its own.

    python -m papers.at2.transfer [--methods at2,curve-transfer] [--steps 100]
        [--out data/reports/at2/growth.csv]

Past tasks are full tables of rising noisy curves in the synthetic space. Cases: one pair of the AT2
paper's size (4 past tasks, 100 configurations, 75 epochs), then tasks to 100, configurations to
1,000 and epochs to 200, one at a time. CPU seconds of the process are counted beside wall-clock,
since on a busy machine wall-clock says little, and one thread is used, since waiting threads count.
The fit includes importing PyTorch where a method needs it. Cases that the file holds are not
repeated.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.files import write_atomic

CASES = [
    (4, 100, 75),
    *[(t, 100, 50) for t in (5, 25, 50, 100)],
    *[(5, n, 50) for n in (300, 1000)],
    *[(5, 100, e) for e in (100, 200)],
    (100, 1000, 50),
]


def case(method: str, tasks: int, configs: int, epochs: int, steps: int) -> dict[str, float]:
    """One method on one made-up study: the first decision, which learns, then `steps` more."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "toys"))
    from synthetic import synthetic_space

    from foretune.history.meta_dataset import MetaDataset
    from foretune.searchers.registry import searcher
    from foretune.study.study import Plan, Study

    rng = np.random.default_rng(0)
    space = synthetic_space()
    pool = space.sample(configs, rng)
    x = space.encode(pool)
    optimum = x.mean(axis=0) + rng.normal(0, 0.1, (tasks + 1, x.shape[1]))
    top = (
        0.9
        - 0.4 * ((x[None] - optimum[:, None]) ** 2).mean(axis=2)
        + rng.normal(0, 0.01, (tasks + 1, configs))
    )
    rate = rng.uniform(0.05, 0.5, (configs, 1))
    Y = top[:, :, None] * (1 - np.exp(-rate * np.arange(1, epochs + 1)))
    Y += rng.normal(0, 0.003, Y.shape)
    t, c, e = (a.ravel() for a in np.indices((tasks, configs, epochs)))
    rows = pd.DataFrame(
        {"task": t, "config_id": c, "seed": 0, "epoch": e + 1, "accuracy": Y[:-1].ravel()}
    )
    rows["task"] = rows["task"].map(lambda k: f"t{k:03d}")
    past = MetaDataset.build(
        space, dict(enumerate(pool)), rows, metric="accuracy", goal="maximize", max_epoch=epochs
    )
    plan = Plan(
        task="new",
        metric="accuracy",
        goal="maximize",
        max_epoch=epochs,
        budget=10**6,
        method=method,
    )
    study, chosen = Study(space, pool, plan, past=past), searcher(method)
    cpu, wall, took = time.process_time(), time.perf_counter(), []
    for k in range(steps + 1):
        before = time.process_time()
        step = study.ask(chosen)
        assert step is not None
        if k:
            took.append(time.process_time() - before)
        else:
            fit = time.process_time() - cpu
        study.tell(step, Y[-1, step.config_id, step.start : step.stop])
    return {
        "fit_cpu_seconds": fit,
        "decision_cpu_ms_median": 1e3 * float(np.median(took)),
        "decision_cpu_ms_p95": 1e3 * float(np.quantile(took, 0.95)),
        "total_cpu_seconds": time.process_time() - cpu,
        "total_wall_seconds": time.perf_counter() - wall,
        "peak_GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """The command; with `--case` it runs one in this process and prints it as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--methods", default="at2,curve-transfer")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("data/reports/at2/growth.csv"))
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args(argv)
    if given.case:
        tasks, configs, epochs = map(int, given.case.split(","))
        print(json.dumps(case(given.methods, tasks, configs, epochs, given.steps)))
        return 0
    done = pd.read_csv(given.out) if given.out.is_file() else pd.DataFrame()
    for shape in CASES:
        for method in given.methods.split(","):
            key = {
                "method": method,
                **dict(zip(("tasks", "configs", "epochs"), shape, strict=True)),
                "steps": given.steps,
            }
            if len(done) and (done[list(key)] == pd.Series(key)).all(axis=1).any():
                continue
            command = [
                sys.executable,
                "-m",
                "papers.at2.transfer",
                "--methods",
                method,
                "--steps",
                str(given.steps),
            ]
            command += ["--case", ",".join(map(str, shape))]
            run = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            if run.returncode:
                print(run.stderr, file=sys.stderr)
                return 1
            row = {**key, **{k: round(v, 3) for k, v in json.loads(run.stdout).items()}}
            done = pd.concat([done, pd.DataFrame([row])], ignore_index=True)
            write_atomic(given.out, done.to_csv(index=False))
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
