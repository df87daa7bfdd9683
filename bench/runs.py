"""What a decision costs with a store of runs: fit, first forecast, decisions, peak memory, by size.

    python bench/runs.py [--runs 2000 100000] [--tasks 40 1000] [--candidates 1000] [--trainings 10]

Synthetic runs of 32 columns (12 names, 20 numbers, a tenth of the cells empty) of so many tasks;
the study has a pool of `--candidates` and 9 epochs. CPU seconds of the process, since on a busy
machine wall-clock says little. One line a size.
"""

import argparse
import resource
import time

import numpy as np
import pandas as pd

from foretune.searchers.transfer.run_transfer import RunTransfer
from foretune.space.space import Space
from foretune.study.plan import Plan
from foretune.study.study import Study

NAMES, NUMBERS, EPOCHS = 12, 20, 9


def space_of_32() -> Space:
    """Twelve categorical and twenty numeric hyperparameters."""
    names = [
        {
            "type": "categorical",
            "name": f"name_{k}",
            "choices": [f"option{c}" for c in range(3 + k)],
            "default_value": "option0",
            "weights": None,
            "meta": None,
        }
        for k in range(NAMES)
    ]
    numbers = [
        {
            "type": "uniform_float",
            "name": f"number_{k}",
            "lower": 1e-5 if k % 2 else 0.0,
            "upper": 1.0,
            "default_value": 0.01,
            "log": bool(k % 2),
            "meta": None,
        }
        for k in range(NUMBERS)
    ]
    described = {"name": "wide", "hyperparameters": names + numbers, "conditions": []}
    return Space({**described, "forbiddens": [], "format_version": 0.4})


def columns(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """So many configurations as columns."""
    out: dict[str, np.ndarray] = {}
    for k in range(NAMES):
        out[f"name_{k}"] = np.array([f"option{c}" for c in range(3 + k)])[
            rng.integers(3 + k, size=n)
        ]
    for k in range(NUMBERS):
        out[f"number_{k}"] = 10 ** rng.uniform(-5, 0, n) if k % 2 else rng.uniform(0, 1, n)
    return pd.DataFrame(out)


def score(frame: pd.DataFrame, shift: np.ndarray) -> np.ndarray:
    """Values after a full training; `shift` moves the best rate, (n,)."""
    rate = np.log10(frame["number_1"].to_numpy()) + 2.5 + shift
    named = (frame["name_3"] == "option1").to_numpy()
    return 0.7 - 0.05 * rate**2 + 0.1 * named - 0.1 * (frame["number_0"].to_numpy() - 0.3) ** 2


def store(runs: int, tasks: int, rng: np.random.Generator) -> pd.DataFrame:
    """So many past runs."""
    frame = columns(runs, rng)
    task = rng.integers(tasks, size=runs)
    values = score(frame, rng.normal(0, 0.3, tasks)[task]) + rng.normal(0, 0.02, runs)
    holes = rng.uniform(size=frame.shape) < 0.1
    frame = frame.mask(holes)
    return frame.assign(task=[f"task{t}" for t in task], score=values)


def measure(runs: int, tasks: int, candidates: int, trainings: int) -> dict[str, float]:
    """Seconds of the parts, and the peak in GiB."""
    rng = np.random.default_rng(0)
    past = store(runs, tasks, rng)
    pool = columns(candidates, rng)
    plan = Plan(
        task="new",
        metric="accuracy",
        goal="maximize",
        max_epoch=EPOCHS,
        budget=trainings * EPOCHS,
        method="curve-transfer",
    )
    study = Study(space_of_32(), pool.to_dict("records"), plan, runs=past)
    final, searcher = score(pool, np.zeros(candidates)), RunTransfer()
    out = {}
    began = time.process_time()
    known = searcher.knowledge(study)
    assert known is not None
    out["fit"] = time.process_time() - began
    began = time.process_time()
    searcher.pool(study, known)
    out["first forecast"] = time.process_time() - began
    took = []
    while not study.done:
        began = time.process_time()
        step = study.ask(searcher)
        took.append(time.process_time() - began)
        if step is None:
            break
        epochs = np.arange(step.start + 1, step.stop + 1)
        study.tell(step, list(final[step.config_id] * (1 - 0.5**epochs)))
    out["decision, median"], out["decision, 95 %"] = np.quantile(took, [0.5, 0.95])
    out["peak GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return out


def main() -> None:
    """One line a size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, nargs="+", default=[2_000, 20_000, 100_000])
    parser.add_argument("--tasks", type=int, nargs="+", default=[40, 200, 1_000])
    parser.add_argument("--candidates", type=int, default=1_000)
    parser.add_argument("--trainings", type=int, default=10)
    given = parser.parse_args()
    for runs, tasks in zip(given.runs, given.tasks, strict=True):
        found = measure(runs, tasks, given.candidates, given.trainings)
        parts = ", ".join(
            f"{name} {value:.2f}" if "GiB" in name else f"{name} {1000 * value:.0f} ms"
            for name, value in found.items()
        )
        print(f"{runs} runs of {tasks} tasks, {given.candidates} candidates: {parts}", flush=True)


if __name__ == "__main__":
    main()
