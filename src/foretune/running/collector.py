"""Collect the meta-dataset: train every configuration of a pool on every task, and keep the curves.

Only missing cells are trained (`foretune.running.collection`), and what is finished is in the files
a few seconds later, so a collection can be stopped at any point and goes on from there. The loop in
`collect` needs only a `submit` that returns futures: a process pool here, a Prefect task runner in
`flows/meta_dataset.py`.

    python -m foretune.pipeline.meta_dataset [--tasks A,B] [--configurations N] [--minutes M]
"""

import math
import multiprocessing
import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from foretune.errors import BadInput
from foretune.params import Params
from foretune.params import load as load_params
from foretune.running.collection import COLUMNS, RANK, Block, Collection
from foretune.running.options import out_of_range
from foretune.running.request import CollectionRequest
from foretune.running.workers import end_processes, end_with_parent
from foretune.space.space import Config, Space
from foretune.study.outcome import Row
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
    from foretune.tasks.loading import prepared_tasks
    from foretune.tasks.task import Task

    names = prepared_tasks(data)
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
class Job:
    """What is to be collected, checked."""

    collection: Collection
    files: Mapping[str, Path]
    blocks: Sequence[Block]
    workers: int
    seconds: float

    @property
    def changed_images(self) -> list[str]:
        """Tasks whose images decode to other pixels here than those the curves were trained on."""
        from foretune.tasks.task import Task

        known = self.collection.about["hashes"]
        return [
            name
            for name, file in self.files.items()
            if known.get(name) not in (None, Task.load(file).hash)
        ]


def prepare_job(request: CollectionRequest, say: Callable[[str], None]) -> Job:
    """Read parameters, tasks and what is already collected. Raises `BadInput`."""
    if wrong := next(out_of_range(request), None):
        raise BadInput(wrong)
    params = load_params(request.params)
    plan = params.meta_dataset
    collection = open_collection(params, request.out, request.seed, request.rank)
    files = find_tasks(collection, request.tasks or plan.tasks, plan.held_out, request.data, say)
    collection.save()  # nothing, unless the last run was stopped in the middle of a write
    blocks = collection.missing(list(files), request.configurations or plan.configurations)
    cells = sum(len(block.config_ids) for block in blocks)
    say(
        f"{collection.folder}: {len(collection.finished())} cells there, {cells} missing on "
        f"{len(files)} tasks"
    )
    return Job(
        collection,
        files,
        blocks,
        request.workers or plan.workers,
        math.inf if request.minutes is None else request.minutes * 60,
    )


def worker_started() -> None:
    """What a worker process does first: leave Ctrl-C to its parent, and end when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt


def stop_children() -> None:
    """End worker processes at once; the trials under way are trained again another time."""
    end_processes(multiprocessing.active_children())


def stops_on_sigterm() -> None:
    """Let SIGTERM stop a collection just as Ctrl-C does."""
    signal.signal(signal.SIGTERM, _interrupt)
