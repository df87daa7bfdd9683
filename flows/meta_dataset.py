"""Collect the meta-dataset as a Prefect flow: blocks of trials fan out over processes, Ray or Dask;
only missing cells are trained.

    python flows/meta_dataset.py [--tasks A,B] [--configurations N] [--minutes M] [--runner
    processes|ray|dask]

It can be stopped at any point and goes on from there. What is trained, in which order and where it
is kept: `foretune.running.collector`.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

if __name__ == "__main__":
    # what follows takes seconds to import
    print("starting the collection", file=sys.stderr, flush=True)

from parameters import present, takes
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect_api import RUNNERS, leased, machine_fault, prefect_api, task_runner

from foretune.errors import BadInput
from foretune.pipeline.meta_dataset import ABOUT
from foretune.running import collector as collect
from foretune.running.collection import Block
from foretune.running.options import add_options, filled, given
from foretune.running.request import CollectionRequest
from foretune.space.space import Config
from foretune.study.outcome import Row
from foretune.training.recipe import Settings


@task(
    name="train-cells",
    task_run_name="{block.task}",
    cache_policy=NO_CACHE,  # the meta-dataset is the cache
    persist_result=False,
    retries=2,
    retry_delay_seconds=5,
    retry_condition_fn=machine_fault,
)
def train_cells(
    task_file: str,
    block: Block,
    configs: Mapping[int, Config],
    settings: Settings,
    seed: int,
    rank: bool = False,
) -> list[Row]:
    """Train some cells of one task; their rows."""
    return collect.train_cells(task_file, block, configs, settings, seed, rank)


@flow(name="meta-dataset", persist_result=False)
@leased
@takes(CollectionRequest)
def meta_dataset(**asked: Any) -> int:
    """Train the missing cells; the number of cells trained.

    Args:
    """
    job = collect.prepare_job(filled(CollectionRequest, present(asked)), say)
    if not job.blocks:
        return 0

    def submit(function: Any, *args: Any) -> Any:
        return train_cells.submit(*args)

    try:
        return collect.collect(
            job.collection,
            job.blocks,
            job.files,
            submit,
            workers=job.workers,
            seconds=job.seconds,
            say=say,
        )
    except KeyboardInterrupt:
        collect.stop_children()
        raise


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the flow as a script."""
    parser = argparse.ArgumentParser(prog="python flows/meta_dataset.py", description=ABOUT)
    add_options(parser, CollectionRequest)
    parser.add_argument(
        "--runner",
        choices=RUNNERS,
        default="processes",
        help="what runs the trials (default: processes)",
    )
    args = parser.parse_args(argv)
    asked = given(CollectionRequest, args)
    try:
        job = collect.prepare_job(
            CollectionRequest(**asked), say
        )  # what is wrong is said before a server starts
        runner = task_runner(args.runner, job.workers)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not job.blocks:
        return 0
    collect.stops_on_sigterm()
    # read by torch as a worker starts
    os.environ["OMP_NUM_THREADS"] = str(job.collection.settings.threads)
    try:
        with prefect_api():
            meta_dataset.with_options(task_runner=runner)(
                **present({**asked, "workers": job.workers})
            )
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130
    except BrokenProcessPool:
        print(
            "error: a worker process was killed (out of memory?); the same command goes on from "
            "here",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
