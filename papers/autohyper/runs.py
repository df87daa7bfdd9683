"""The trainings behind autoHyper's tables in small: which are missing, how they are made.

A run is one line of `runs.jsonl`, a function of its key (`KEY`) up to rounding:

| kind      | what                                     | holds                                     |
|-----------|------------------------------------------|-------------------------------------------|
| start     | 5 epochs at a rate of a search           | z (None if it diverged), curve (Z_t),     |
|           |                                          | losses, seconds                           |
| random    | 5 epochs at a rate that random search    | losses (None once it diverged), seconds   |
|           | draws, without Z_t                       |                                           |
| long      | 15 epochs at a rate, with Z_t            | the same, and valid accuracy after every  |
|           |                                          | epoch                                     |
| full      | 20 epochs at a rate, without             | test after 5, 10, 15, 20 epochs, valid,   |
|           |                                          | loss, seconds                             |
| hyperband | two rounds of Hyperband (R = 20, eta =   | path: [epochs spent, best valid accuracy] |
|           | 3) over the rate                         | after every rung                          |

`seconds` is processor time, for a trial in a fleet its share. Searches keep nothing of their own: a
search is a walk over the starts that are there (`foretune.searchers.autohyper.decide`), so it asks
for one more until it ends, and both variants share what they both need.
"""

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from foretune.files import append_lines
from foretune.running.learning_rate import SUGGESTED
from foretune.searchers.autohyper import EPOCHS, RESPONSE, Decision, Rules, decide
from foretune.searchers.gray_box.hyperband import brackets
from papers.autohyper.small_networks import NETWORKS, Data, Fleet, Rule, SmallTrial, random_seed

OPTIMIZERS = ("adam", "adagrad", "rmsprop", "adabound", "adas", "sls")
FULL = 20  # epochs of a full training
LONG_EPOCHS = 15
CHECKS = (5, 10, 15, 20)  # epochs after which a full training is tested
BATCH = 16
LANES = 24  # trials of a fleet: more are hardly cheaper each
SHOWN = 2  # tasks of the batch-size surface
SIZES = (4, 8, 16, 32, 64)  # its batch sizes
# optimizers of figures 7 and 8, and of the meta-dataset with Z (`rank_forecast`)
LONG = ("adam", "adagrad", "adas", "rmsprop")
LONG_NETWORKS = ("plain", "residual")
LONG_RATES = tuple(float(f"{r:.3g}") for r in np.geomspace(1e-4, 0.1, 7))
BANDS = ("adam", "adagrad")  # optimizers whose rate Hyperband tunes as well, on the plain network
CHOICES = ("autohyper", "suggested", "random")
KEY = ("kind", "task", "network", "optimizer", "batch", "seed", "rate")
Run = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """What a learning rate is chosen for."""

    task: str
    network: str
    optimizer: str


@dataclass(frozen=True)
class RunKey:
    """The key of a run."""

    kind: str
    task: str
    network: str
    optimizer: str
    batch: int = BATCH
    seed: int = 0
    rate: float = math.nan

    @property
    def kin(self) -> tuple[Any, ...]:
        """Runs of equal kin can train in one fleet.

        Line searches stand apart, for they look at a batch several times.
        """
        return self.kind, self.network, self.batch, Rule.of(self.optimizer).optimizer == "sls"


def run_key(cell: Cell, kind: str, rate: float, seed: int = 0) -> RunKey:
    """The key of a run of a cell."""
    return RunKey(kind, cell.task, cell.network, cell.optimizer, seed=seed, rate=rate)


def as_kept(rate: float) -> float:
    """A rate as the file holds it."""
    return float(f"{rate:.9g}")


class Runs:
    """The lines of `runs.jsonl`, by key. A torn last line is left out."""

    def __init__(self, path: Path):
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.by_key: dict[tuple[Any, ...], Run] = {}
        self._by_cell: defaultdict[tuple[str, Cell], list[Run]] = defaultdict(list)
        self._keep(json.loads(line) for line in lines if line.endswith("}"))

    def _keep(self, lines: Iterator[Run]) -> None:
        for line in lines:
            self.by_key[tuple(line[k] for k in KEY)] = line
            self._by_cell[
                line["kind"], Cell(line["task"], line["network"], line["optimizer"])
            ].append(line)

    def get(self, job: RunKey) -> Run | None:
        """The run of a job, if it has been made."""
        return self.by_key.get(key(job))

    def add(self, made: Mapping[RunKey, Run]) -> None:
        """Keep what has been made."""
        lines = [
            json.dumps(rounded({**dict(zip(KEY, key(job), strict=True)), **run}))
            for job, run in made.items()
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        append_lines(self.path, lines)
        self._keep(map(json.loads, lines))

    def of(self, kind: str, cell: Cell | None = None) -> list[Run]:
        """Runs of a kind, all or those of a cell."""
        if cell is not None:
            return self._by_cell[kind, cell]
        return [r for r in self.by_key.values() if r["kind"] == kind]


def key(job: RunKey) -> tuple[Any, ...]:
    """The key of a job's line."""
    return *astuple(job)[:-1], as_kept(job.rate) if math.isfinite(job.rate) else None


def rounded(value: Any) -> Any:
    """Floats to 9 digits, NaN and infinity as None."""
    match value:
        case dict():
            return {k: rounded(v) for k, v in value.items()}
        case list() | tuple():
            return [rounded(v) for v in value]
        case float():
            return as_kept(value) if math.isfinite(value) else None
    return value


def starts(runs: Runs, cell: Cell) -> dict[float, Run]:
    """Rate -> start, of the searches' seed and batch size."""
    return {r["rate"]: r for r in runs.of("start", cell) if r["batch"] == BATCH and r["seed"] == 0}


def walk(runs: Runs, cell: Cell, variant: str = "paper") -> Decision:
    """How far a search is."""
    responses = {
        rate: math.nan if r["z"] is None else r["z"] for rate, r in starts(runs, cell).items()
    }
    return decide(responses, Rules(variant=variant))


def random_rates(cell: Cell, trials: int) -> list[float]:
    """The rates of random search (appendix D), log-uniform from 1e-4 to 0.1."""
    rng = np.random.default_rng(random_seed(*astuple(cell), "random"))
    return [as_kept(r) for r in 10 ** rng.uniform(-4, -1, size=trials)]


def choices(runs: Runs, cell: Cell) -> dict[str, float]:
    """The rates known so far: autoHyper's, its authors' suggestion, and random search's.

    Random search has as many trials; lowest training loss after 5 epochs wins.
    """
    found = {"suggested": as_kept(SUGGESTED[Rule.of(cell.optimizer).optimizer])}
    decision, have = walk(runs, cell), {r["rate"]: r for r in runs.of("random", cell)}
    if decision.chosen is None:
        return found
    found["autohyper"] = as_kept(decision.chosen)
    drawn = random_rates(cell, len(decision.trained))
    if all(rate in have for rate in drawn):
        found["random"] = min(drawn, key=lambda rate: final_loss(have[rate]))
    return found


def final_loss(run: Run) -> float:
    """Training loss after the last epoch; infinite if it diverged."""
    last = run["losses"][-1]
    return math.inf if last is None else float(last)


def missing(
    runs: Runs, tasks: Sequence[str], seeds: int, optimizers: Sequence[str] = OPTIMIZERS
) -> Iterator[RunKey]:
    """Jobs that can be made now, the most wanted first; of other `optimizers` (labels of `Rule`)
    only searches, random searches and full trainings.

    One network after another: its searches, full trainings of the first seed, random searches, long
    runs; then the other seeds, then what figure 6 and Hyperband ask for. So a script that is
    stopped leaves whole tables.
    """
    cells = [Cell(t, n, o) for n, t, o in product(NETWORKS, tasks, optimizers)]
    walks, chosen = {c: walk(runs, c) for c in cells}, {c: choices(runs, c) for c in cells}
    wanted: list[RunKey] = []
    for name in NETWORKS:
        mine = [c for c in cells if c.network == name]
        wanted += [run_key(c, "start", rate) for c in mine if (rate := walks[c].rate) is not None]
        ended = [c for c in mine if walks[c].rate is None]
        wanted += [run_key(c, "full", rate) for c in mine for rate in chosen[c].values()]
        wanted += [
            run_key(c, "random", rate)
            for c in ended
            for rate in random_rates(c, len(walks[c].trained))
        ]
        wanted += [
            RunKey("long", task, name, optimizer, rate=rate)
            for task, optimizer, rate in product(tasks, LONG, LONG_RATES)
            if name in LONG_NETWORKS and optimizer in optimizers
        ]
    wanted += [
        run_key(c, "full", rate, seed)
        for seed, c in product(range(1, seeds), cells)
        for rate in chosen[c].values()
    ]
    if "adam" not in optimizers:
        yield from (job for job in wanted if runs.get(job) is None)
        return
    for size, task, rate in product(SIZES, tasks[:SHOWN], np.geomspace(1e-4, 0.1, 13)):
        wanted.append(RunKey("start", task, "plain", "adam", batch=size, rate=as_kept(rate)))
    for optimizer, task, seed in product(BANDS, tasks, range(seeds)):
        wanted.append(RunKey("hyperband", task, "plain", optimizer, seed=seed))
    for cell in cells:
        if cell.task == tasks[0] and (rate := walk(runs, cell, "published").rate) is not None:
            wanted.append(run_key(cell, "start", rate))
    yield from (job for job in wanted if runs.get(job) is None)


def together(jobs: Sequence[RunKey]) -> list[RunKey]:
    """The first job and those best made with it: a fleet of the same kin, each once."""
    first = jobs[0]
    most = len(jobs) if first.kind == "hyperband" else LANES
    return list(
        {key(job): job for job in jobs if job.kin == first.kin and same_band(job, first)}.values()
    )[:most]


def same_band(job: RunKey, other: RunKey) -> bool:
    """Whether two jobs are seeds of one Hyperband (true for jobs of another kind)."""
    return job.kind != "hyperband" or (job.task, job.optimizer) == (other.task, other.optimizer)


def make(jobs: Sequence[RunKey], data: Callable[[str], Data]) -> dict[RunKey, Run]:
    """Train the jobs of one fleet."""
    if jobs[0].kind == "hyperband":
        return hyperband(jobs, data(jobs[0].task))
    kind = jobs[0].kind
    full, long = kind == "full", kind == "long"
    began = time.process_time()
    fleet = Fleet(
        [
            SmallTrial(
                data(j.task),
                j.network,
                j.optimizer,
                j.rate,
                seed=j.seed + 1000 * full,  # weights and order of batches that no search has seen
                batch=j.batch,
                z=kind in ("start", "long"),
                epochs=FULL,
            )
            for j in jobs
        ]
    )
    accuracies: list[list[float]] = [[] for _ in jobs]
    for epoch in range(1, {"long": LONG_EPOCHS, "full": FULL}.get(kind, EPOCHS) + 1):
        fleet.train_epoch()
        if (full and epoch in CHECKS) or long:
            for trial, row in zip(fleet.trials, accuracies, strict=True):
                row.append(trial.accuracy("valid" if long else "test"))
    seconds = round((time.process_time() - began) / len(jobs), 3)
    out: dict[RunKey, Run] = {}
    for job, trial, seen in zip(jobs, fleet.trials, accuracies, strict=True):
        losses = [row["train_loss"] for row in trial.rows]
        if full:
            out[job] = {
                "test": seen,
                "valid": trial.accuracy("valid"),
                "loss": losses[-1],
                "seconds": seconds,
            }
        elif kind == "random":
            out[job] = {"losses": losses, "seconds": seconds}
        else:
            curve = [row[RESPONSE] for row in trial.rows]
            z = math.nan if trial.diverged else mean(curve[:EPOCHS])
            out[job] = {
                "z": z,
                "curve": curve,
                "losses": losses,
                **({"valid": seen} if long else {}),
                "seconds": seconds,
            }
    return out


def hyperband(jobs: Sequence[RunKey], data: Data) -> dict[RunKey, Run]:
    """Hyperband (eta 3) over log-uniform rates from 1e-4 to 0.1, for each job's seed.

    Rungs of all seeds train together.

    `epoch_seconds` and `rank_seconds` are what an epoch of one network alone costs, and its Z_t.
    """
    first = jobs[0]
    draws = [
        np.random.default_rng(
            random_seed(first.task, first.network, first.optimizer, "hyperband", j.seed)
        )
        for j in jobs
    ]
    spent, best = [0] * len(jobs), [0.0] * len(jobs)
    paths: list[list[list[float]]] = [[] for _ in jobs]
    for bracket in brackets(FULL, 3.0) * 2:
        alive = [
            [
                SmallTrial(
                    data,
                    j.network,
                    j.optimizer,
                    as_kept(10 ** rng.uniform(-4, -1)),
                    seed=2000 + j.seed,
                    z=False,
                )
                for _ in range(bracket.sizes[0])
            ]
            for j, rng in zip(jobs, draws, strict=True)
        ]
        for size, epochs in zip(bracket.sizes, bracket.epochs, strict=True):
            alive = [sorted(trials, key=lambda t: -t.score)[:size] for trials in alive]
            fleet = Fleet([t for trials in alive for t in trials])
            before = fleet.trials[0].epoch
            while fleet.trials[0].epoch < epochs:
                fleet.train_epoch()
            for k, trials in enumerate(alive):
                for trial in trials:
                    trial.score = 0.0 if trial.diverged else trial.accuracy("valid")
                    spent[k] += sum(
                        row["epoch"] > before and math.isfinite(row["train_loss"])
                        for row in trial.rows
                    )
                    best[k] = max(best[k], trial.score)
                    paths[k].append([spent[k], best[k]])
    cost = epoch_cost(data, first)
    return {j: {"path": path, **cost} for j, path in zip(jobs, paths, strict=True)}


def epoch_cost(data: Data, job: RunKey) -> dict[str, float]:
    """Processor seconds of an epoch of one network alone, and of its Z_t; medians of five."""
    fleet = Fleet([SmallTrial(data, job.network, job.optimizer, 1e-3, z=False)])
    times: dict[str, list[float]] = {"epoch_seconds": [], "rank_seconds": []}
    for _ in range(5):
        fleet.trials[0].z = False
        began = time.process_time()
        fleet.train_epoch()
        between = time.process_time()
        fleet.trials[0].z = True
        fleet.ranks()
        times["epoch_seconds"].append(between - began)
        times["rank_seconds"].append(time.process_time() - between)
    return {name: float(np.median(t)) for name, t in times.items()}
