"""The DVC stage `meta_dataset`: see that the trainer still gives the curves that are there
(`foretune.pipeline.retraining`), then train the missing cells on a process pool, without Prefect.

python -m foretune.pipeline.meta_dataset [--tasks A,B] [--configurations N] [--minutes M]
"""

import argparse
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from foretune.errors import BadInput
from foretune.pipeline.retraining import check
from foretune.running.collector import (
    Job,
    collect,
    prepare_job,
    stop_children,
    stops_on_sigterm,
    worker_started,
)
from foretune.running.options import add_options, given
from foretune.running.request import CollectionRequest

ABOUT = "Train the missing cells of the meta-dataset; stop it at any point, and it goes on."


def main(argv: Sequence[str] | None = None) -> int:
    """Collect on a process pool, without Prefect."""

    def say(line: str) -> None:
        print(line, flush=True)

    parser = argparse.ArgumentParser(
        prog="python -m foretune.pipeline.meta_dataset", description=ABOUT
    )
    add_options(parser, CollectionRequest)
    args = parser.parse_args(argv)
    try:
        job = prepare_job(CollectionRequest(**given(CollectionRequest, args)), say)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        wrong = check(job.collection, job.files, job.changed_images, say)
    except KeyboardInterrupt:
        return 130
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 1
    return collect_on_processes(job, say)


def collect_on_processes(job: Job, say: Callable[[str], None]) -> int:
    """Collect a job on a process pool; the exit code: 0, 130 where it was stopped, 1 where a worker
    was killed.
    """
    if not job.blocks:
        return 0
    stops_on_sigterm()
    # read by torch as a worker starts
    os.environ["OMP_NUM_THREADS"] = str(job.collection.settings.threads)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(job.workers, mp_context=context, initializer=worker_started)
    try:  # around the pool's own shutdown too: Ctrl-C may come while it waits for its workers
        collect(
            job.collection,
            job.blocks,
            job.files,
            pool.submit,
            workers=job.workers,
            seconds=job.seconds,
            say=say,
        )
        pool.shutdown()
    except KeyboardInterrupt:
        stop_children()
        # else Python, as it ends, wakes the pool while that closes what it is woken by
        pool.shutdown(cancel_futures=True)
        say("stopped; the same command goes on from here")
        return 130
    except BrokenProcessPool:
        print(
            "error: a worker process was killed (out of memory?); the same command goes on "
            "from here",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    # all is written: a late Ctrl-C has nothing to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)
