"""autoHyper's figures and tables in small: rates, trials, accuracies against the suggested rate, random search and Hyperband.

    python -m foretune.evaluation.autohyper_tables [--data data] [--out data/reports/autohyper] [--minutes M]

The paper trains ResNet-34 and others on CIFAR-10 for 250 epochs; here are three small networks (`small_networks`) on embedded tasks at 16 px, 320
training images, batches of 16, 20 epochs, constant rates. A run is one line of `runs.jsonl`, a function of its key (kind, task, network, optimizer,
variant, seed); runs that are there are not repeated, and a stopped script goes on where it was. The tables are made of the lines that are there:

| file                | paper                | rows                                                                                |
|---------------------|----------------------|--------------------------------------------------------------------------------------|
| learning_rates.csv  | tables 1 to 4        | chosen and suggested rate, trials, Z at the choice, per task, network, optimizer        |
| accuracy.csv        | tables 5 to 8, 9     | test accuracy after 20 epochs with the chosen, suggested and random-search rate         |
| responses.csv       | figures 1, 2, 4, 7, 8 | Z, Z per epoch, training loss of every trial of every search                            |
| batch_size.csv      | figure 6             | Z over rate and batch size                                                             |
| hyperband.csv       | (the issue's own)    | epochs and seconds that Hyperband over the rate alone needs for the same valid accuracy |
| summary.json        |                      | shares within 1 % and above, mean differences, trials by optimizer                      |
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd

from foretune.evaluation.small_networks import NETWORKS, Data, SmallTrial, draw
from foretune.files import append_lines, replace, write_json
from foretune.images import Task
from foretune.learning_rate import SUGGESTED
from foretune.searchers.autohyper import EPOCHS, RESPONSE, Rules, search
from foretune.searchers.hyperband import brackets

TASKS = ("fashion_mnist", "letters", "animal_silhouettes", "emoji_vendor")
OPTIMIZERS = ("adam", "adagrad", "rmsprop", "adabound", "adas", "sls")
FULL = 20  # epochs of a full training
KEY = ("kind", "task", "network", "optimizer", "variant", "seed")
Run = dict[str, Any]


def first_epochs(data: Data, network: str, optimizer: str, rate: float, seed: int, batch: int = 16) -> Run:
    """Five epochs at a rate: Z (NaN if it diverged), Z_t, training losses."""
    trial = SmallTrial(data, network, optimizer, rate, seed=seed, batch=batch)
    rows = []
    for _ in range(EPOCHS):
        rows.append(trial.train_epoch())
        if not math.isfinite(rows[-1]["train_loss"]):
            break
    curve = [r[RESPONSE] for r in rows]
    z = mean(curve) if len(rows) == EPOCHS and all(map(math.isfinite, curve)) else math.nan
    return {"rate": rate, "z": z, "curve": curve, "losses": [r["train_loss"] for r in rows]}


def run_search(data: Data, network: str, optimizer: str, variant: str, seed: int) -> Run:
    """autoHyper's search."""
    trials: list[Run] = []

    def response(rate: float) -> float:
        trials.append(first_epochs(data, network, optimizer, rate, seed))
        return float(trials[-1]["z"])

    found = search(response, Rules(variant=variant))
    return {
        "rate": found.chosen,
        "converged": found.converged,
        "spread": found.spread,
        "why": found.why,
        "trials": trials,
    }


def run_random(data: Data, network: str, optimizer: str, trials: int, seed: int) -> Run:
    """Random search as in appendix D: log-uniform rates from 1e-4 to 0.1, the lowest training loss after 5 epochs wins."""
    rng = np.random.default_rng(draw(data.name, network, optimizer, "random", seed))
    rates = 10 ** rng.uniform(-4, -1, size=trials)
    tried = [first_epochs(data, network, optimizer, float(rate), seed) for rate in rates]
    loss = [
        t["losses"][-1] if len(t["losses"]) == EPOCHS and math.isfinite(t["losses"][-1]) else math.inf for t in tried
    ]
    return {
        "rate": float(rates[int(np.argmin(loss))]),
        "trials": [{"rate": t["rate"], "loss": x} for t, x in zip(tried, loss, strict=True)],
    }


def run_full(data: Data, network: str, optimizer: str, rate: float, seed: int) -> Run:
    """A full training: valid and test accuracy at its end, training loss; a trial that diverges guesses."""
    trial = SmallTrial(data, network, optimizer, rate, seed=1000 + seed, z=False)
    for _ in range(FULL):
        loss = trial.train_epoch()["train_loss"]
        if not math.isfinite(loss):
            return {"rate": rate, "valid": 1 / data.classes, "test": 1 / data.classes, "loss": math.nan}
    return {"rate": rate, "valid": trial.accuracy("valid"), "test": trial.accuracy("test"), "loss": loss}


def run_hyperband(data: Data, network: str, optimizer: str, seed: int) -> Run:
    """Hyperband (eta 3) over log-uniform rates from 1e-4 to 0.1, two rounds: [epochs spent, best valid accuracy] after each step."""
    rng = np.random.default_rng(draw(data.name, network, optimizer, "hyperband", seed))
    spent, best, path = 0, 0.0, []
    for bracket in brackets(FULL, 3.0) * 2:
        alive = [
            SmallTrial(data, network, optimizer, float(10 ** rng.uniform(-4, -1)), seed=seed, z=False)
            for _ in range(bracket.sizes[0])
        ]
        score: dict[int, float] = {}
        for size, epochs in zip(bracket.sizes, bracket.epochs, strict=True):
            alive = sorted(alive, key=lambda t: -score.get(id(t), 0.0))[:size]
            for trial in alive:
                while trial.epoch < epochs and math.isfinite(trial.train_epoch()["train_loss"]):
                    spent += 1
                score[id(trial)] = trial.accuracy("valid") if trial.epoch == epochs else 0.0
                best = max(best, score[id(trial)])
                path.append([spent, best])
    return {"path": path}


def run_batch_sizes(data: Data, network: str, optimizer: str, seed: int) -> Run:
    """Z over a grid of rates and batch sizes."""
    rates, sizes = np.geomspace(1e-4, 0.1, 7), (8, 16, 32, 64)
    cells = [{"batch": b, **first_epochs(data, network, optimizer, float(r), seed, b)} for b in sizes for r in rates]
    return {"cells": [{k: c[k] for k in ("batch", "rate", "z")} | {"loss": c["losses"][-1]} for c in cells]}


class Runs:
    """The lines of `runs.jsonl`, by key."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text().splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines if line.endswith("}")]
        self.by_key: dict[tuple[Any, ...], Run] = {tuple(r[k] for k in KEY): r for r in found}

    def get(self, *key: Any) -> Run | None:
        """The run of a key, if it has been made."""
        return self.by_key.get(key)

    def make(self, key: tuple[Any, ...], run: Callable[[], Run]) -> Run:
        """The run of a key, made and kept if it is not there."""
        if key not in self.by_key:
            began = time.process_time()
            line = {**dict(zip(KEY, key, strict=True)), **run(), "seconds": round(time.process_time() - began, 3)}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            append_lines(self.path, [json.dumps(rounded(line))])
            self.by_key[key] = rounded(line)
        return self.by_key[key]


def rounded(value: Any) -> Any:
    """Floats to 6 digits, NaN and infinity as None."""
    match value:
        case dict():
            return {k: rounded(v) for k, v in value.items()}
        case list() | tuple():
            return [rounded(v) for v in value]
        case float():
            return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def jobs(runs: Runs, data: Callable[[str], Data], tasks: Sequence[str], seeds: int) -> Iterator[None]:
    """Make the runs in an order in which every prefix fills whole tables: all cells of the first seed before the next."""
    cells = [(t, n, o) for t in tasks for n in NETWORKS for o in OPTIMIZERS]
    for seed in range(seeds):
        for cell in cells:
            task, net, opt = cell
            here = data(task), net, opt
            found = runs.make(("search", *cell, "paper", 0), partial(run_search, *here, "paper", 0))
            yield
            drawn = runs.make(("random", *cell, "", 0), partial(run_random, *here, len(found["trials"]), 0))
            yield
            for choice, rate in (
                ("autohyper", found["rate"]),
                ("suggested", SUGGESTED[opt]),
                ("random", drawn["rate"]),
            ):
                runs.make(("full", *cell, choice, seed), partial(run_full, *here, rate, seed))
                yield
        if seed == 0:
            for net in NETWORKS:
                runs.make(
                    ("batch", tasks[0], net, "adam", "", 0), partial(run_batch_sizes, data(tasks[0]), net, "adam", 0)
                )
                yield
            for task, net, opt in cells:
                if opt in ("adam", "adagrad"):
                    runs.make(("hyperband", task, net, opt, "", 0), partial(run_hyperband, data(task), net, opt, 0))
                    yield
            for task, net, opt in cells:
                if task == tasks[0]:
                    key = ("search", task, net, opt, "published", 0)
                    runs.make(key, partial(run_search, data(task), net, opt, "published", 0))
                    yield


def tables(runs: Runs, out: Path) -> dict[str, Any]:
    """Write the CSV files and the summary from the runs there are; returns the summary."""
    every = list(runs.by_key.values())
    kinds: dict[str, list[Run]] = {
        kind: [r for r in every if r["kind"] == kind] for kind in ("search", "random", "full", "batch", "hyperband")
    }
    rates, responses, accuracy, bands = [], [], [], []
    for r in kinds["search"]:
        where = {k: r[k] for k in ("task", "network", "optimizer", "variant")}
        at = next((t["z"] for t in r["trials"] if math.isclose(t["rate"], r["rate"], rel_tol=1e-4)), None)
        facts = {"chosen": r["rate"], "suggested": SUGGESTED[r["optimizer"]], "trials": len(r["trials"]), "z": at}
        cost = {"epochs": sum(len(t["losses"]) for t in r["trials"]), "seconds": r["seconds"]}
        rates.append({**where, **facts, "converged": r["converged"], "spread": r["spread"], **cost})
        for k, t in enumerate(r["trials"]):
            facts = {"z": t["z"], **{f"z{e + 1}": z for e, z in enumerate(t["curve"])}, "train_loss": t["losses"][-1]}
            responses.append({**where, "trial": k, "rate": t["rate"], **facts})
    cells = sorted({(r["task"], r["network"], r["optimizer"]) for r in kinds["full"]})
    for cell in cells:
        line: Run = dict(zip(("task", "network", "optimizer"), cell, strict=True))
        mine = [r for r in kinds["full"] if (r["task"], r["network"], r["optimizer"]) == cell]
        for choice in ("autohyper", "suggested", "random"):
            tests = [r["test"] for r in mine if r["variant"] == choice]
            line |= {
                f"{choice}_rate": next((r["rate"] for r in mine if r["variant"] == choice), None),
                f"{choice}_seeds": len(tests),
            }
            line |= {choice: mean(tests) if tests else None, f"{choice}_std": stdev(tests) if len(tests) > 1 else None}
        accuracy.append(line)
    for r in kinds["hyperband"]:
        cell = (r["task"], r["network"], r["optimizer"])
        found, full = runs.get("search", *cell, "paper", 0), runs.get("full", *cell, "autohyper", 0)
        if found is None or full is None:
            continue
        reached = next((spent for spent, best in r["path"] if best >= full["valid"]), None)
        per_epoch = r["seconds"] / r["path"][-1][0]
        facts = {"valid": full["valid"], "autohyper_epochs": sum(len(t["losses"]) for t in found["trials"]) + FULL}
        facts |= {
            "autohyper_seconds": found["seconds"] + full["seconds"],
            "hyperband_epochs": reached,
            "hyperband_most": r["path"][-1][0],
        }
        bands.append(
            {
                **dict(zip(("task", "network", "optimizer"), cell, strict=True)),
                **facts,
                "hyperband_seconds": reached and reached * per_epoch,
            }
        )
    surface = [{k: r[k] for k in ("task", "network", "optimizer")} | c for r in kinds["batch"] for c in r["cells"]]
    named = {
        "learning_rates": rates,
        "accuracy": accuracy,
        "responses": responses,
        "batch_size": surface,
        "hyperband": bands,
    }
    for name, lines in named.items():
        if lines:
            with replace(out / f"{name}.csv") as temporary:
                pd.DataFrame(lines).to_csv(temporary, index=False, float_format="%.6g")
    summary = summarise(accuracy, [r for r in rates if r["variant"] == "paper"], bands)
    write_json(out / "summary.json", rounded(summary))
    return summary


def summarise(accuracy: Sequence[Run], rates: Sequence[Run], bands: Sequence[Run]) -> dict[str, Any]:
    """Shares of cases in which the chosen rate is within 1 % of the other (or above), and above it; trials by optimizer."""
    out: dict[str, Any] = {"searches": len(rates), "converged": sum(r["converged"] for r in rates)}
    out["trials"] = {
        o: {"mean": mean(n), "least": min(n), "most": max(n)}
        for o in OPTIMIZERS
        if (n := [r["trials"] for r in rates if r["optimizer"] == o])
    }
    for other in ("suggested", "random"):
        gaps = [
            (r["optimizer"], r["autohyper"] - r[other])
            for r in accuracy
            if r["autohyper"] is not None and r[other] is not None
        ]
        seeds = [
            min(r["autohyper_seeds"], r[f"{other}_seeds"])
            for r in accuracy
            if r["autohyper"] is not None and r[other] is not None
        ]
        if gaps:
            of = {
                "cases": len(gaps),
                "seeds": min(seeds),
                "within_1_percent_or_above": mean(g >= -0.01 - 1e-9 for _, g in gaps),
            }
            by = {o: mean(g for p, g in gaps if p == o) for o in OPTIMIZERS if any(p == o for p, _ in gaps)}
            out[f"against_{other}"] = {
                **of,
                "above": mean(g > 0 for _, g in gaps),
                "mean_gap": mean(g for _, g in gaps),
                "gap_by_optimizer": by,
            }
    if bands:
        pairs = [(b["autohyper_epochs"], b["hyperband_epochs"] or b["hyperband_most"]) for b in bands]
        mine, theirs = map(mean, zip(*pairs, strict=True))
        out["against_hyperband"] = {"cases": len(pairs), "autohyper_epochs": mine, "hyperband_epochs": theirs}
        out["against_hyperband"]["hyperband_reached"] = mean(b["hyperband_epochs"] is not None for b in bands)
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Make missing runs for some minutes, then write the tables and print the summary."""
    parser = argparse.ArgumentParser(prog="python -m foretune.evaluation.autohyper_tables", description=main.__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--out", type=Path, default=Path("data/reports/autohyper"))
    parser.add_argument("--tasks", default=",".join(TASKS), help="names of prepared tasks, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=math.inf, help="0: only the tables")
    args = parser.parse_args(argv)
    import torch

    torch.set_num_threads(1)
    runs, loaded, began, made = Runs(args.out / "runs.jsonl"), {}, time.monotonic(), 0

    def data(name: str) -> Data:
        if name not in loaded:
            loaded[name] = Data.of(Task.load(args.data / "images" / f"{name}.npz"))
        return loaded[name]

    steps = jobs(runs, data, args.tasks.split(","), args.seeds)
    while time.monotonic() - began < 60 * args.minutes and next(steps, "end") is None:
        if len(runs.by_key) - made >= 25:
            made = len(runs.by_key)
            tables(runs, args.out)
    print(json.dumps(rounded(tables(runs, args.out)), indent=1))


if __name__ == "__main__":
    main()
