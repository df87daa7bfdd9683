"""Collect the meta-dataset: train every configuration of a pool on every task, and keep the curves.

A cell is one trial: (task, configuration, seed), trained to `max_epoch`. Only missing cells are trained, and what is finished is in the
files a few seconds later, so a collection can be stopped at any point and goes on from there. Configurations come in a fixed shuffled order,
the same for all tasks, a few for every task before the next few: any prefix is a full grid over tasks.

The loop in `collect` needs only a `submit` that returns futures: a process pool here, a Prefect task runner in `flows/meta_dataset.py`.

    python -m foretune.collect [--tasks A,B] [--configurations N] [--minutes M]
"""

import argparse
import math
import multiprocessing
import os
import platform
import queue
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.meta import KEYS, MetaDataset
from foretune.params import Params
from foretune.params import load as load_params
from foretune.space import Config, Space
from foretune.spaces import Settings

METRIC = "valid_accuracy"
COLUMNS = [METRIC, "valid_loss", "valid_top5", "train_loss", "learning_rate", "seconds"]
BLOCK = (
    12  # configurations that every task gets before the next ones: neighbours share the activations that a worker holds
)
MIXTURE = {
    "head": 8,
    "last_blocks": 2,
    "all": 2,
}  # of a block: a trial of the whole network costs 50 times one of the head alone
PACE = {"head": 2.5}  # trials of the head alone cost a fiftieth of others: all are done after 40 % of the way
SECONDS = 20.0  # a worker hands in what it has after so long, and once more after the trial under way
SAVE_EVERY = 5.0  # seconds between two writes
MACHINE_ONLY = ("device", "threads")  # settings that do not decide what a curve is

Row = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """Cells for one worker: some configurations of one task."""

    task: str
    config_ids: tuple[int, ...]


class Done(Protocol):
    """A future, of concurrent.futures or of Prefect."""

    def result(self) -> Any: ...

    def add_done_callback(self, fn: Callable[[Any], None]) -> Any: ...


def order(configs: Sequence[Config], seed: int = 0) -> list[int]:
    """The fixed order of configurations: shuffled, the depths of fine-tuning evenly mixed, cheap ones at a quicker pace (`PACE`)."""
    depths: dict[Any, list[int]] = {}
    for i in np.random.default_rng(seed).permutation(len(configs)):
        depths.setdefault(configs[i].get("finetune"), []).append(int(i))
    place = {i: (k + 0.5) / len(own) / PACE.get(depth, 1) for depth, own in depths.items() for k, i in enumerate(own)}
    return sorted(place, key=lambda i: (place[i], i))


class Collection:
    """The table as it grows: which cells are there, and a meta-dataset folder that holds them.

    Raises:
        BadInput: the folder was collected with other settings, or with another pool of configurations.
    """

    def __init__(
        self,
        folder: Path | str,
        space: Space,
        pool: Sequence[Config],
        settings: Settings,
        *,
        seed: int = 0,
        source: str = "",
    ):
        self.folder, self.space, self.pool, self.settings, self.seed = Path(folder), space, list(pool), settings, seed
        self.about: dict[str, Any] = {
            "name": self.folder.name,
            "source": source or "trained by foretune (flows/meta_dataset.py)",
            "metric": METRIC,
            "goal": "maximize",
            "settings": {k: v for k, v in asdict(settings).items() if k not in MACHINE_ONLY},
            "images": {},
            "cost": {"epochs": 0, "seconds": 0.0},
            "machines": [],
        }
        self.table = pd.DataFrame(columns=[*KEYS, *COLUMNS])
        self._fresh: list[Row] = []
        if (self.folder / "about.json").exists():
            self._take_up(MetaDataset.load(self.folder))

    def _take_up(self, have: MetaDataset) -> None:
        for name, value in self.about["settings"].items():
            if have.about["settings"].get(name) != value:
                raise BadInput(
                    f"{self.folder} was collected with {name}={have.about['settings'].get(name)!r}, but training.{name} is {value!r}: "
                    "curves of different settings cannot be mixed; restore the setting, or name another meta_dataset.folder"
                )
        if have.configs != self.pool or have.config_ids != list(range(len(self.pool))):
            raise BadInput(
                f"{self.folder} was collected from another pool of configurations; name another meta_dataset.folder"
            )
        self.table = have.table
        self.about |= {key: have.about[key] for key in ("images", "cost", "machines")}

    def finished(self) -> set[tuple[str, int]]:
        """Cells (task, config_id) that are trained to the end, or diverged."""
        table = self.table[self.table["seed"] == self.seed]
        over = table[(table["epoch"] >= self.settings.max_epoch) | table[METRIC].isna()]
        return {(str(t), int(c)) for t, c in zip(over["task"], over["config_id"], strict=True)}

    def missing(self, tasks: Sequence[str], configurations: int) -> list[Block]:
        """Blocks of cells still to train: the first `configurations` of the order, a block of each task in turn."""
        have, chosen = self.finished(), order(self.pool, seed=0)[:configurations]
        blocks = []
        for start in range(0, len(chosen), BLOCK):
            for task in tasks:
                if lacking := tuple(i for i in chosen[start : start + BLOCK] if (task, i) not in have):
                    blocks.append(Block(task, lacking))
        return blocks

    def describe(self, task: str, content_hash: str, source: str, licence: str) -> str:
        """Note what a task's images are; returns a warning where the curves so far come from images with another hash."""
        known = self.about["images"].get(task)
        if known is not None and known["hash"] != content_hash:
            return f"{task}: its curves were trained on images {known['hash'][:12]}, here they are {content_hash[:12]} (decoded or drawn differently)"
        self.about["images"][task] = {"hash": content_hash, "source": source, "licence": licence}
        return ""

    def add(self, rows: Sequence[Row]) -> None:
        """Take rows of finished cells."""
        self._fresh += rows

    def save(self) -> None:
        """Write the folder, each file by rename, if there is anything new."""
        if not self._fresh:
            return
        new = pd.DataFrame(self._fresh)[[*KEYS, *COLUMNS]].astype(dict.fromkeys(COLUMNS, "float32"))
        cost = self.about["cost"]
        cost["epochs"] += int(new[METRIC].notna().sum())
        cost["seconds"] = round(cost["seconds"] + float(new["seconds"].sum()), 1)
        if (machine := describe_machine()) not in self.about["machines"]:
            self.about["machines"] = [*self.about["machines"], machine]
        self.table = pd.concat([self.table, new], ignore_index=True) if len(self.table) else new
        self._fresh = []
        tasks = sorted(self.table["task"].unique())
        about = {**self.about, "images": {t: self.about["images"][t] for t in tasks if t in self.about["images"]}}
        configs = dict(enumerate(self.pool))
        MetaDataset.build(
            self.space, configs, self.table, **about, max_epoch=self.settings.max_epoch, tasks=tasks
        ).save(self.folder)

    def seconds_left(self, blocks: Sequence[Block], workers: int) -> float:
        """Estimate of the time for `blocks`, from the mean seconds of each configuration so far; NaN before the first cell."""
        if not len(self.table):
            return math.nan
        per_cell = self.table.groupby(["config_id", "task"])["seconds"].sum()
        per_config = per_cell.groupby("config_id").mean()
        groups = pd.Series({i: str(c.get("finetune")) for i, c in enumerate(self.pool)})
        per_group = per_config.groupby(groups.reindex(per_config.index)).mean()
        typical = [per_config.get(i, per_group.get(groups[i], per_config.mean())) for i in range(len(self.pool))]
        return float(sum(typical[i] for block in blocks for i in block.config_ids) / workers)


def describe_machine() -> str:
    """The kind of machine, without its name."""
    return f"{os.cpu_count()} CPU cores ({platform.machine()})"


def train_cells(
    task_file: str, block: Block, configs: Mapping[int, Config], settings: Settings, seed: int
) -> list[Row]:
    """Train cells of a block until `SECONDS` are over, at least one; rows of the cells that were finished. Runs in a worker.

    A diverged trial ends with a row whose metrics are NaN. A lack of memory is the machine's fault and is raised.
    """
    from foretune.images import Task
    from foretune.training import Diverged, train

    task, began, out = Task.load(task_file), time.monotonic(), []
    for i in block.config_ids:
        started = time.perf_counter()
        try:
            rows = train(task, configs[i], 0, settings.max_epoch, settings=settings, seed=seed)
        except Diverged as failure:
            lost = time.perf_counter() - started - sum(row["seconds"] for row in failure.rows)
            rows = [*failure.rows, {"epoch": failure.epoch, "seconds": max(0.0, lost)}]
        for row in rows:
            out.append(
                {"task": block.task, "config_id": i, "seed": seed, "epoch": row["epoch"]}
                | {c: row.get(c, math.nan) for c in COLUMNS}
            )
        if time.monotonic() - began > SECONDS:
            break
    return out


def _put(done: "queue.SimpleQueue[tuple[Block, Done]]", block: Block, future: Done) -> None:
    done.put((block, future))


def collect(
    collection: Collection,
    blocks: Sequence[Block],
    files: Mapping[str, Path],
    submit: Callable[..., Done],
    *,
    workers: int,
    seconds: float = math.inf,
    say: Callable[[str], None] = print,
) -> int:
    """Train `blocks` on `workers` futures at a time, saving as results come in; the number of cells trained.

    After `seconds` no new work is submitted. What is finished is saved also when this is interrupted.
    """
    waiting, running = deque(blocks), 0
    done: queue.SimpleQueue[tuple[Block, Done]] = queue.SimpleQueue()
    total, cells = sum(len(block.config_ids) for block in blocks), 0
    began = saved = told = time.monotonic()
    try:
        while (waiting and time.monotonic() - began < seconds) or running:
            while waiting and running < workers and time.monotonic() - began < seconds:
                block = waiting.popleft()
                configs = {i: collection.pool[i] for i in block.config_ids}
                future = submit(
                    train_cells, str(files[block.task]), block, configs, collection.settings, collection.seed
                )
                future.add_done_callback(partial(_put, done, block))
                running += 1
            block, future = done.get()
            running -= 1
            rows = future.result()
            collection.add(rows)
            trained = {row["config_id"] for row in rows}
            cells += len(trained)
            if left := tuple(i for i in block.config_ids if i not in trained):
                waiting.appendleft(Block(block.task, left))
            if time.monotonic() - saved > SAVE_EVERY:
                collection.save()
                saved = time.monotonic()
            if time.monotonic() - told > 30 or not (waiting or running):
                told = time.monotonic()
                collection.save()
                left_over = collection.seconds_left(list(waiting), workers)
                say(
                    f"{cells} of {total} cells, {(told - began) / 60:.1f} min, about {left_over / 60:.0f} min left ({block.task})"
                )
    finally:
        collection.save()
    return cells


def open_collection(params: Params, folder: Path | str | None = None) -> Collection:
    """The collection that `params.yaml` describes."""
    from foretune.spaces import transfer_pool, transfer_space

    plan = params.meta_dataset
    return Collection(folder or plan.folder, Space(transfer_space()), transfer_pool(), params.training, seed=plan.seed)


def find_tasks(
    collection: Collection, wanted: Sequence[str], held_out: Sequence[str], data: Path, say: Callable[[str], None]
) -> dict[str, Path]:
    """Files of the prepared tasks to collect, described in the collection; raises `BadInput` for a name that is not there or held out."""
    from foretune.images import Task, prepared

    names = prepared(data)
    for name in wanted:
        if name in held_out:
            raise BadInput(
                f"{name} is held out (meta_dataset.held_out): its curves must not be in the shipped meta-dataset"
            )
        if name not in names:
            raise BadInput(f"{name} is not prepared in {data / 'images'}; there are {', '.join(names) or 'none'}")
    files = {name: data / "images" / f"{name}.npz" for name in (wanted or names) if name not in held_out}
    if not files:
        raise BadInput(f"no tasks are prepared in {data / 'images'}; run: python -m foretune.sources")
    for name, file in files.items():
        task = Task.load(file)
        if warning := collection.describe(name, task.hash, task.source, task.licence):
            say(f"warning: {warning}")
    return files


def arguments(argv: Sequence[str] | None, prog: str) -> argparse.ArgumentParser:
    """The command line that this module shares with the flow."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Train the missing cells of the meta-dataset; stop it at any point, and it goes on."
    )
    parser.add_argument(
        "--tasks", default="", help="names, separated by commas; default: all prepared ones that are not held out"
    )
    parser.add_argument(
        "--configurations", type=int, help="how many of the pool, in the collector's order (default: params.yaml)"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="submit no new work after so long")
    parser.add_argument("--workers", type=int, help="processes (default: params.yaml)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with images/ (default: data)")
    parser.add_argument("--out", type=Path, help="folder of the meta-dataset (default: params.yaml)")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    return parser


@dataclass(frozen=True)
class Job:
    """What is to be collected, checked."""

    collection: Collection
    files: Mapping[str, Path]
    blocks: Sequence[Block]
    workers: int
    seconds: float


def prepare_job(given: argparse.Namespace, say: Callable[[str], None]) -> Job:
    """Read parameters, tasks and what is already collected. Raises `BadInput`."""
    params = load_params(given.params)
    plan = params.meta_dataset
    collection = open_collection(params, given.out)
    wanted = [name for name in given.tasks.split(",") if name]
    files = find_tasks(collection, wanted, plan.held_out, given.data, say)
    blocks = collection.missing(list(files), given.configurations or plan.configurations)
    cells = sum(len(block.config_ids) for block in blocks)
    say(f"{collection.folder}: {len(collection.finished())} cells there, {cells} missing on {len(files)} tasks")
    return Job(collection, files, blocks, given.workers or plan.workers, given.minutes * 60)


def ignore_interrupts() -> None:
    """Ctrl-C is for the parent process, which ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def stop_children() -> None:
    """End worker processes at once; the trials under way are trained again another time."""
    for child in multiprocessing.active_children():
        child.terminate()


def stops_on_sigterm() -> None:
    """Let SIGTERM stop a collection just as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)


def main(argv: Sequence[str] | None = None) -> int:
    """Collect on a process pool, without Prefect."""

    def say(line: str) -> None:
        print(line, flush=True)

    try:
        job = prepare_job(arguments(argv, "python -m foretune.collect").parse_args(argv), say)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not job.blocks:
        return 0
    stops_on_sigterm()
    os.environ["OMP_NUM_THREADS"] = str(job.collection.settings.threads)  # read by torch as a worker starts
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(job.workers, mp_context=context, initializer=ignore_interrupts) as pool:
        try:
            collect(
                job.collection, job.blocks, job.files, pool.submit, workers=job.workers, seconds=job.seconds, say=say
            )
        except KeyboardInterrupt:
            stop_children()
            say("stopped; the same command goes on from here")
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
