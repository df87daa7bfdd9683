"""autoHyper's tables and figures in small: accuracies of its rates against others', trials.

The others are the suggested rate, random search and Hyperband.

    python -m papers.autohyper.tables [--data data] [--out data/reports/autohyper] [--minutes M]

The paper trains ResNet-34 and others on CIFAR-10 for 250 epochs; here are three small networks
(`small_networks`) on embedded tasks at 12 px, 320 training images, batches of 16, 20 epochs,
constant rates. The trainings are lines of `runs.jsonl` (`papers.autohyper.runs`): those that are
there are not repeated, and a stopped script goes on where it was. The tables are made of the lines
that are there:

| file               | paper                  | rows                                               |
|--------------------|------------------------|----------------------------------------------------|
| learning_rates.csv | tables 1 to 4          | chosen and suggested rate, trials, Z at the        |
|                    |                        | choice, per task, network, optimizer, variant      |
| accuracy.csv       | tables 5 to 8, 9       | test accuracy after 5, 10, 15, 20 epochs with the  |
|                    |                        | chosen, suggested and random-search rate           |
| responses.csv      | figures 1, 2, 4        | Z, Z per epoch, training loss of every trial of    |
|                    |                        | every search, the running product of Z             |
| long.csv           | figures 7, 8           | Z_t over 15 epochs by rate                         |
| batch_size.csv     | figure 6               | Z and training loss over rate and batch size       |
| hyperband.csv      | (not in the paper)     | epochs and seconds that Hyperband over the rate    |
|                    |                        | alone needs for the same valid accuracy            |
| summary.json       |                        | shares within 1 % and above, mean differences,     |
|                    |                        | trials by optimizer, task and network              |
| *.svg              | figures 1 to 4, 6 to 8 | see `papers.autohyper.figures`                     |
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd

from foretune.files import replace, write_atomic, write_json
from foretune.running.learning_rate import SUGGESTED
from foretune.searchers.autohyper import EPOCHS, VARIANTS, Rules
from foretune.tasks.task import Task
from papers.autohyper.figures import pictures
from papers.autohyper.runs import (
    BATCH,
    CHECKS,
    CHOICES,
    FULL,
    OPTIMIZERS,
    SHOWN,
    Cell,
    Runs,
    as_kept,
    choices,
    make,
    missing,
    rounded,
    starts,
    together,
    walk,
)
from papers.autohyper.small_networks import NETWORKS, Data, Rule

TASKS = ("fashion_mnist", "letters", "animal_silhouettes", "emoji_vendor")
# of a mean accuracy kept in single precision; one image more or less is hundreds of times that
ROUNDING = 1e-6
SAVE_SECONDS = 1800  # between two writings of the tables while runs are made
Rows = list[dict[str, Any]]


def searches(runs: Runs, cells: Sequence[Cell]) -> tuple[Rows, Rows]:
    """Rows of `learning_rates.csv` and `responses.csv`, of the searches that have ended."""
    rates: Rows = []
    responses: Rows = []
    for cell, variant in product(cells, VARIANTS):
        decision, have = walk(runs, cell, variant), starts(runs, cell)
        if decision.chosen is None:
            continue
        where = {**asdict(cell), "variant": variant}
        trained = [have[as_kept(rate)] for rate in decision.trained]
        at = min(trained, key=lambda r: abs(math.log(r["rate"] / decision.chosen)))
        facts = {
            "chosen": decision.chosen,
            "suggested": SUGGESTED[Rule.of(cell.optimizer).optimizer],
            "trials": len(trained),
            "z": at["z"],
        }
        cost = {"epochs": EPOCHS * len(trained), "seconds": sum(r["seconds"] for r in trained)}
        rates.append(
            {**where, **facts, "converged": decision.converged, "spread": decision.spread, **cost}
        )
        product_of_z, grid = 1.0, [decision.trained[0]]
        for k, run in enumerate(trained):
            if k and run["rate"] < grid[-1]:  # a new grid starts over
                product_of_z, grid = 1.0, []
            grid.append(run["rate"])
            product_of_z *= run["z"] or 0.0
            z_t = {f"z{e + 1}": z for e, z in enumerate(run["curve"])}
            plateau = product_of_z**Rules.power
            facts = {"z": run["z"], **z_t, "train_loss": run["losses"][-1], "product": plateau}
            responses.append({**where, "trial": k, "rate": run["rate"], **facts})
    return rates, responses


def accuracies(runs: Runs, cells: Sequence[Cell]) -> Rows:
    """Rows of `accuracy.csv`: test accuracy of each choice, after 20 epochs and on the way.

    Mean and deviation over seeds.
    """
    out: Rows = []
    for cell in cells:
        row: dict[str, Any] = asdict(cell)
        for choice, rate in choices(runs, cell).items():
            mine = [r for r in runs.of("full", cell) if r["rate"] == rate]
            if not mine:
                continue
            tests = [r["test"][-1] for r in mine]
            row |= {f"{choice}_rate": rate, f"{choice}_seeds": len(mine), choice: mean(tests)}
            row[f"{choice}_std"] = stdev(tests) if len(tests) > 1 else None
            for k, epoch in enumerate(CHECKS[:-1]):
                row[f"{choice}_epoch_{epoch}"] = mean(r["test"][k] for r in mine)
        if len(row) > 3:
            out.append(row)
    return out


def bands(runs: Runs) -> Rows:
    """Rows of `hyperband.csv`: what Hyperband spends until it is as good as autoHyper.

    A trial of it must reach, on the valid part, what autoHyper's rate does after its full training.

    The mean over seeds of full trainings is what must be reached. Seconds are those of one network
    trained alone.
    """
    out: Rows = []
    for r in runs.of("hyperband"):
        cell = Cell(r["task"], r["network"], r["optimizer"])
        rate = choices(runs, cell).get("autohyper")
        full = [f["valid"] for f in runs.of("full", cell) if f["rate"] == rate]
        if not full:
            continue
        goal, trained = mean(full), len(walk(runs, cell).trained)
        reached = next((spent for spent, best in r["path"] if best >= goal), None)
        search = EPOCHS * trained
        costs = {
            "autohyper_epochs": search + FULL,
            "hyperband_epochs": reached,
            "hyperband_most": r["path"][-1][0],
        }
        one, rank = r["epoch_seconds"], r["rank_seconds"]
        costs |= {
            "autohyper_seconds": (search + FULL) * one + search * rank,
            "hyperband_seconds": reached and reached * one,
        }
        costs["epoch_seconds"] = one
        level = {
            "valid": goal,
            "valid_full_trainings": len(full),
            "hyperband_valid": r["path"][-1][1],
        }
        out.append({**asdict(cell), "seed": r["seed"], **level, **costs})
    return out


def surface(runs: Runs, tasks: Sequence[str]) -> Rows:
    """Rows of `batch_size.csv`: of the rates that were trained at every batch size."""
    of = [r for t in tasks for r in runs.of("start", Cell(t, "plain", "adam"))]
    other = {(r["task"], r["rate"]) for r in of if r["batch"] != BATCH}
    keys = ("task", "network", "optimizer", "batch", "rate", "z")
    return [
        {k: r[k] for k in keys} | {"train_loss": r["losses"][-1]}
        for r in of
        if (r["task"], r["rate"]) in other
    ]


def long(runs: Runs, tasks: Sequence[str]) -> Rows:
    """Rows of `long.csv`: Z_t of every epoch, on the first task."""
    keys = ("task", "network", "optimizer", "rate")
    first = [r for r in runs.of("long") if r["task"] == tasks[0]]
    return [
        {k: r[k] for k in keys} | {"epoch": e, "z": z}
        for r in first
        for e, z in enumerate(r["curve"], 1)
    ]


def tables(
    runs: Runs, out: Path, tasks: Sequence[str] = TASKS, optimizers: Sequence[str] = OPTIMIZERS
) -> dict[str, Any]:
    """Write the CSV files, the pictures and the summary from the runs there are.

    Returns the summary.
    """
    cells = [Cell(t, n, o) for t, n, o in product(tasks, NETWORKS, optimizers)]
    rates, responses = searches(runs, cells)
    named = {
        "learning_rates": rates,
        "accuracy": accuracies(runs, cells),
        "responses": responses,
        "long": long(runs, tasks),
        "batch_size": surface(runs, tasks[:SHOWN]),
        "hyperband": bands(runs),
    }
    frames = {name: pd.DataFrame(lines) for name, lines in named.items() if lines}
    for name, frame in frames.items():
        with replace(out / f"{name}.csv") as temporary:
            frame.to_csv(temporary, index=False, float_format="%.6g")
    for name, picture in pictures(frames).items():
        write_atomic(out / f"{name}.svg", picture)
    summary = summarise(
        named["accuracy"], [r for r in rates if r["variant"] == "paper"], named["hyperband"]
    )
    seconds = sum(r.get("seconds") or 0.0 for r in runs.by_key.values())
    summary["trainings"] = {"runs": len(runs.by_key), "processor_minutes": seconds / 60}
    write_json(out / "summary.json", rounded(summary))
    return summary


def summarise(accuracy: Rows, rates: Rows, bands: Rows) -> dict[str, Any]:
    """Shares of cases in which the chosen rate is within 1 % of the other (or above), and above it.

    Trials by optimizer, task and network.
    """
    out: dict[str, Any] = {"searches": len(rates), "converged": sum(r["converged"] for r in rates)}
    for by in ("optimizer", "task", "network"):
        groups = {r[by]: [s["trials"] for s in rates if s[by] == r[by]] for r in rates}
        out[f"trials_by_{by}"] = {
            g: {"mean": mean(n), "least": min(n), "most": max(n)} for g, n in groups.items()
        }
    for other in CHOICES[1:]:
        both = [r for r in accuracy if r.get("autohyper") is not None and r.get(other) is not None]
        if both:
            out[f"against_{other}"] = comparison(both, other)
    if bands:
        out["against_hyperband"] = against_hyperband(bands)
    return out


def comparison(both: Rows, other: str) -> dict[str, Any]:
    """The chosen rate against another over cases that have both.

    Gaps of equal rates are 0, and counted.
    """
    gaps = np.array([r["autohyper"] - r[other] for r in both])
    found: dict[str, Any] = {
        "cases": len(both),
        "seeds": min(min(r["autohyper_seeds"], r[f"{other}_seeds"]) for r in both),
        "within_1_percent_or_above": float(np.mean(gaps >= -0.01 - ROUNDING)),
        "above": float(np.mean(gaps > ROUNDING)),
        "mean_gap": float(gaps.mean()),
    }
    if len(gaps) > 1:
        found["standard_error"] = float(gaps.std(ddof=1) / math.sqrt(len(gaps)))
    for by in ("optimizer", "network", "task"):
        groups = {
            r[by]: [g for g, s in zip(gaps, both, strict=True) if s[by] == r[by]] for r in both
        }
        found[f"by_{by}"] = {
            g: {"mean_gap": float(np.mean(v)), "above": float(np.mean(np.array(v) > ROUNDING))}
            for g, v in groups.items()
        }
    return found


def against_hyperband(bands: Rows) -> dict[str, Any]:
    """Means over cases; where Hyperband never got there, all that it spent counts."""
    theirs = [b["hyperband_epochs"] or b["hyperband_most"] for b in bands]
    return {
        "cases": len(bands),
        "autohyper_epochs": mean(b["autohyper_epochs"] for b in bands),
        "hyperband_epochs": mean(theirs),
        "hyperband_epochs_median": float(np.median(theirs)),
        "hyperband_reached": mean(b["hyperband_epochs"] is not None for b in bands),
        "autohyper_seconds": mean(b["autohyper_seconds"] for b in bands),
        "hyperband_seconds": mean(
            n * b["epoch_seconds"] for n, b in zip(theirs, bands, strict=True)
        ),
        "autohyper_valid": mean(b["valid"] for b in bands),
        "hyperband_valid_at_the_end": mean(b["hyperband_valid"] for b in bands),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Make missing runs for some minutes, write tables and pictures, print the summary."""
    parser = argparse.ArgumentParser(
        prog="python -m papers.autohyper.tables", description=main.__doc__
    )
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("data/reports/autohyper"))
    parser.add_argument(
        "--tasks", default=",".join(TASKS), help="names of prepared tasks, separated by commas"
    )
    parser.add_argument(
        "--optimizers",
        default=",".join(OPTIMIZERS),
        help="NAME[:BETA][+decay][+step], separated by commas: AdaS's other betas, the paper's "
        "weight decay, StepLR (write those to an --out of their own)",
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=math.inf, help="0: only the tables")
    args = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    tasks, optimizers = args.tasks.split(","), args.optimizers.split(",")
    for label in optimizers:
        Rule.of(label)
    runs = Runs(args.out / "runs.jsonl")
    loaded: dict[str, Data] = {}

    def data(name: str) -> Data:
        if name not in loaded:
            loaded[name] = Data.of(Task.load(args.data / "images" / f"{name}.npz"))
        return loaded[name]

    began = written = time.monotonic()
    while time.monotonic() - began < 60 * args.minutes and (
        jobs := list(missing(runs, tasks, args.seeds, optimizers))
    ):
        runs.add(make(together(jobs), data))
        if time.monotonic() - written > SAVE_SECONDS:
            tables(runs, args.out, tasks, optimizers)
            written = time.monotonic()
    print(json.dumps(rounded(tables(runs, args.out, tasks, optimizers)), indent=1))


if __name__ == "__main__":
    main()
