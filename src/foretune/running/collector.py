"""Collect the meta-dataset: train every configuration of a pool on every task, and keep the curves.

Only missing cells are trained (`foretune.running.collection`), and what is finished is in the files
a few seconds later, so a collection can be stopped at any point and goes on from there. The loop in
`collect` needs only a `submit` that returns futures: a process pool here, a Prefect task runner in
`flows/meta_dataset.py`.

    python -m foretune.pipeline.meta_dataset [--tasks A,B] [--configurations N] [--minutes M]
"""

import argparse
import math
import multiprocessing
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from foretune.errors import BadInput
from foretune.params import Params
from foretune.params import load as load_params
from foretune.running.collection import COLUMNS, RANK, Block, Collection, Row
from foretune.running.workers import end_with_parent
from foretune.space.space import Config, Space
from foretune.training.recipe import Settings

# a worker hands in what it has after so long, and once more after the trial under way
SECONDS = 20.0
SAVE_EVERY = 5.0  # seconds between two writes


class Done(Protocol):
    """A future, of concurrent.futures or of Prefect."""

    def result(self) -> Any: ...

    def add_done_callback(self, fn: Callable[[Any], None]) -> Any: ...


def train_cells(
    task_file: str,
    block: Block,
    configs: Mapping[int, Config],
    settings: Settings,
    seed: int,
    rank: bool = False,
) -> list[Row]:
    """Train cells of a block until `SECONDS` are over, at least one; rows of the cells that were
    finished. Runs in a worker.

    With `rank`, rows hold `zero_share` as well. A diverged trial ends with a row whose metrics are
    NaN. A lack of memory is the machine's fault and is raised.
    """
    from foretune.tasks.task import Task
    from foretune.training.trial import Diverged, train

    task, began, out = Task.load(task_file), time.monotonic(), []
    for i in block.config_ids:
        started = time.perf_counter()
        try:
            rows = train(
                task, configs[i], 0, settings.max_epoch, settings=settings, seed=seed, rank=rank
            )
        except Diverged as failure:
            lost = time.perf_counter() - started - sum(row["seconds"] for row in failure.rows)
            rows = [*failure.rows, {"epoch": failure.epoch, "seconds": max(0.0, lost)}]
        for row in rows:
            out.append(
                {"task": block.task, "config_id": i, "seed": seed, "epoch": row["epoch"]}
                | {c: row.get(c, math.nan) for c in [*COLUMNS, *[RANK] * rank]}
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
    """Train `blocks` on `workers` futures at a time, saving as results come in; the number of cells
    trained.

    After `seconds` no new work is submitted. What is finished is saved also when this is
    interrupted.
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
                settings = collection.settings_of(block.task)
                facts = settings, collection.seed, collection.rank
                future = submit(train_cells, str(files[block.task]), block, configs, *facts)
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
                    f"{cells} of {total} cells, {(told - began) / 60:.1f} min, about "
                    f"{left_over / 60:.0f} min left ({block.task})"
                )
    finally:
        collection.save()
    return cells


def open_collection(
    params: Params, folder: Path | str | None = None, seed: int | None = None, rank: bool = False
) -> Collection:
    """The collection that `params.yaml` describes; `folder` and `seed` replace what it says, `rank`
    asks for `zero_share`.
    """
    from foretune.space.catalogue import transfer_pool, transfer_space

    plan = params.meta_dataset
    return Collection(
        folder or plan.folder,
        Space(transfer_space()),
        transfer_pool(),
        params.training,
        seed=plan.seed if seed is None else seed,
        rank=rank,
    )


def find_tasks(
    collection: Collection,
    wanted: Sequence[str],
    held_out: Sequence[str],
    data: Path,
    say: Callable[[str], None],
) -> dict[str, Path]:
    """Files of the prepared tasks to collect, described in the collection; raises `BadInput` for a
    name that is not there or held out.
    """
    from foretune.tasks.loading import prepared
    from foretune.tasks.task import Task

    names = prepared(data)
    for name in wanted:
        if name in held_out:
            raise BadInput(
                f"{name} is held out (meta_dataset.held_out): its curves must not be in the "
                "shipped meta-dataset"
            )
        if name not in names:
            raise BadInput(
                f"{name} is not prepared in {data / 'images'}; there are "
                f"{', '.join(names) or 'none'}"
            )
    files = {
        name: data / "images" / f"{name}.npz" for name in (wanted or names) if name not in held_out
    }
    if not files:
        raise BadInput(
            f"no tasks are prepared in {data / 'images'}; run: python -m foretune.pipeline.tasks"
        )
    for name, file in files.items():
        task = Task.load(file)
        if warning := collection.describe(name, task.hash, task.source, task.licence):
            say(f"warning: {warning}")
    return files


@dataclass(frozen=True)
class Wish:
    """What the user asked to be collected; `None` means: as `params` has it (`minutes`: no
    limit).
    """

    tasks: tuple[str, ...] = ()
    configurations: int | None = None
    minutes: float | None = None
    workers: int | None = None
    data: Path = Path("data")
    out: Path | None = None
    params: Path = Path("params.yaml")
    seed: int | None = None
    rank: bool = False


def arguments(prog: str) -> argparse.ArgumentParser:
    """The command line that this module shares with the flow."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train the missing cells of the meta-dataset; stop it at any point, and "
        "it goes on.",
    )
    parser.add_argument(
        "--tasks", default="", help="names, separated by commas; default: those of params.yaml"
    )
    parser.add_argument(
        "--configurations",
        type=int,
        help="how many of the pool, in the collector's order (default: params.yaml)",
    )
    parser.add_argument("--minutes", type=float, help="submit no new work after so long")
    parser.add_argument("--workers", type=int, help="processes (default: params.yaml)")
    parser.add_argument(
        "--data", type=Path, default=Path("data"), help="folder with images/ (default: data)"
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the meta-dataset (default: params.yaml)"
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument(
        "--seed",
        type=int,
        help="of the trials: another one adds curves beside those there (default: params.yaml)",
    )
    parser.add_argument(
        "--rank",
        action="store_true",
        help="keep zero_share, the share of layers still noise (docs/notes/autohyper.md)",
    )
    return parser


def wish(given: argparse.Namespace) -> Wish:
    """A parsed command line as a wish."""
    named = {field.name: getattr(given, field.name) for field in fields(Wish)}
    return Wish(**named | {"tasks": tuple(name for name in given.tasks.split(",") if name)})


@dataclass(frozen=True)
class Job:
    """What is to be collected, checked."""

    collection: Collection
    files: Mapping[str, Path]
    blocks: Sequence[Block]
    workers: int
    seconds: float


def prepare_job(wish: Wish, say: Callable[[str], None]) -> Job:
    """Read parameters, tasks and what is already collected. Raises `BadInput`."""
    params = load_params(wish.params)
    plan = params.meta_dataset
    collection = open_collection(params, wish.out, wish.seed, wish.rank)
    files = find_tasks(collection, wish.tasks or plan.tasks, plan.held_out, wish.data, say)
    collection.save()  # nothing, unless the last run was stopped in the middle of a write
    blocks = collection.missing(list(files), wish.configurations or plan.configurations)
    cells = sum(len(block.config_ids) for block in blocks)
    say(
        f"{collection.folder}: {len(collection.finished())} cells there, {cells} missing on "
        f"{len(files)} tasks"
    )
    return Job(
        collection,
        files,
        blocks,
        wish.workers or plan.workers,
        math.inf if wish.minutes is None else wish.minutes * 60,
    )


def worker_started() -> None:
    """What a worker process does first: leave Ctrl-C to its parent, and end when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def stop_children() -> None:
    """End worker processes at once; the trials under way are trained again another time."""
    for child in multiprocessing.active_children():
        child.terminate()


def stops_on_sigterm() -> None:
    """Let SIGTERM stop a collection just as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
