"""The tables of `data/reports/published` from the steps that are kept.

Mean normalized regret after 1, 2, 5 and 10 full trainings, its error over tasks.

    python bench/published.py [--traces data/reports/traces] [--peers data/reports/at2]
        [--out data/reports/published]

Steps are made by `python -m foretune.evaluation.benchmark` and
`python -m papers.dyhpo.field --run`, TPE's rows (`tpe_TABLE.csv`) by

    python bench/run.py --peers optuna --methods "" --table FOLDER --tasks 25 --budget EPOCHS
        --out FILE

A budget that a method's runs do not reach is left empty.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.evaluation.benchmark import RUN, error_of, regret_at
from foretune.files import write_atomic

EPOCHS = {"hyperrec": 75, "lcbench": 51, "taskset": 51}  # of a full training
METHODS = (
    "random",
    "hyperband",
    "asha",
    "dyhpo",
    "dyhpo+",
    "mean-rank",
    "portfolio",
    "empirical-prior",
    "task-weights",
    "at2",
    "curve-transfer",
)
TRAININGS = (1, 2, 5, 10)


def row(steps: pd.DataFrame, epochs: int) -> dict[str, float]:
    """A method's line: means and errors over tasks by epochs, repetitions."""
    budgets = [k * epochs for k in TRAININGS]
    regret = regret_at(steps, budgets)
    out = {str(b): float(regret[b].groupby("task").mean().mean()) for b in budgets}
    errors = error_of(regret).iloc[0]
    out |= {f"{b} se": float(errors[str(b)]) for b in budgets}
    for b in budgets:
        if b > steps["budget"].max():
            out[str(b)] = out[f"{b} se"] = np.nan
    runs = steps[RUN].drop_duplicates()
    return out | {"seeds": len(runs) / runs["task"].nunique()}


def table(name: str, traces: Path, peers: Path) -> pd.DataFrame:
    """All methods that have steps on a table, and TPE where it was run."""
    epochs = EPOCHS[name]
    rows = {
        method: row(pd.read_parquet(path), epochs)
        for method in METHODS
        if (path := traces / name / f"{method}.parquet").is_file()
    }
    if (path := peers / f"tpe_{name}.csv").is_file():
        peer = pd.read_csv(path).iloc[0]
        kept = {c: float(peer[c]) for c in peer.index if c.removesuffix(" se").isdigit()}
        rows["tpe"] = kept | {"seeds": float(peer["runs"]) / 25}
    return pd.DataFrame(rows).T.rename_axis("method").round(5)


def main() -> None:
    """Write and print the tables."""
    parser = argparse.ArgumentParser(prog="bench/published.py", description=main.__doc__)
    parser.add_argument("--traces", type=Path, default=Path("data/reports/traces"))
    parser.add_argument("--peers", type=Path, default=Path("data/reports/at2"))
    parser.add_argument("--out", type=Path, default=Path("data/reports/published"))
    args = parser.parse_args()
    for name in EPOCHS:
        found = table(name, args.traces, args.peers)
        write_atomic(args.out / f"{name}.csv", found.to_csv())
        print(f"{name}\n{found.to_string()}\n")


if __name__ == "__main__":
    main()
