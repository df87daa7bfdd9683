"""Tune a network as a Prefect flow: ask -> submit steps -> tell -> log, until the budget is spent.
Stopped or killed, the same command continues.

    python flows/tune.py IMAGES [--budget EPOCHS] [--method M] [--workers N] [--study NAME]
    [--runner processes|ray|dask|local [--gpus SHARE] [--storage URL]]

The study is that of `foretune tune`: either command continues what the other began. Each step is a
task run, which costs half a second to hand over (docs/guide/service.md); `local` runs the steps on
foretune's own processes instead, for methods that go epoch by epoch where an epoch takes a second.
"""

import argparse
import os
import queue
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

if __name__ == "__main__":
    # what follows takes seconds to import
    print("starting the study", file=sys.stderr, flush=True)

from filelock import Timeout
from parameters import present, takes
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect_api import (
    AWAY_SECONDS,
    RUNNERS,
    Share,
    await_server,
    end_if_unwanted,
    leased,
    lost_task,
    machine_fault,
    prefect_api,
    resources,
    server_away,
    task_runner,
    write_artifact,
)

from foretune.commands.study_report import artifacts, write_study_report
from foretune.commands.tune_code import tune_code
from foretune.errors import BadInput
from foretune.running import tuning
from foretune.running.code_question import command_question
from foretune.running.code_study import CodeTuned
from foretune.running.collector import stop_children, stops_on_sigterm
from foretune.running.options import add_options, filled, given
from foretune.running.request import Request
from foretune.running.runner import needed_checkpoints
from foretune.running.storage import Stored
from foretune.running.workers import Died, Ended, Event, Objective, Processes, Workers
from foretune.study.outcome import Outcome
from foretune.study.plan import Step
from foretune.study.study import Study
from foretune.views.progress import progress
from foretune.views.server import served
from foretune.views.summary import spelled
from foretune.views.tracking import Pages, Tracker

LOCAL = "local"  # beside the kinds of task runners


@task(
    name="step",
    task_run_name="trial {config_id}, epochs {start} to {stop}",
    cache_policy=NO_CACHE,  # the trial's checkpoint is the cache
    persist_result=False,
    retries=2,
    retry_delay_seconds=2,
    retry_condition_fn=machine_fault,
)
def run_step(
    objective: Objective, config_id: int, config: Mapping[str, Any], start: int, stop: int
) -> Outcome:
    """Take a trial from one epoch to another. Divergence and a configuration that cannot be trained
    are outcomes, not errors.
    """
    try:
        return objective.run(config_id, config, start, stop, end_if_unwanted)
    except BadInput as error:
        return Outcome([], str(error))


@dataclass(frozen=True)
class Submitted:
    """A step under way."""

    step: Step
    config: Mapping[str, Any]
    future: Any


class PrefectWorkers:
    """Steps as task runs on a Prefect task runner (the `Workers` of `foretune.running.runner`); a
    pool that broke is replaced by a new one.
    """

    def __init__(
        self, objective: Objective, count: int, runner: str = "processes", gpus: float | None = None
    ):
        self.objective, self.count, self.kind, self.gpus = objective, count, runner, gpus
        self._runner: Any = None
        self._busy: dict[int, Submitted] = {}
        self._done: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()

    @property
    def free(self) -> int:
        """Steps that can be submitted now."""
        return self.count - len(self._busy)

    def submit(self, step: Step, config: Mapping[str, Any]) -> None:
        """Hand a step to the task runner."""
        if self._runner is None:
            self._runner = task_runner(self.kind, self.count, self.gpus).__enter__()
        parameters = {
            "objective": self.objective,
            "config_id": step.config_id,
            "config": dict(config),
            "start": step.start,
            "stop": step.stop,
        }
        with resources(self.kind, self.gpus):
            future = self._runner.submit(run_step, parameters)
        # Dask forgets a task whose future nobody holds
        self._busy[step.config_id] = Submitted(step, config, future)
        future.add_done_callback(partial(self._put, step.config_id))

    def _put(self, config_id: int, future: Any) -> None:
        self._done.put((config_id, future))

    def events(self, timeout: float) -> list[Event]:
        """Steps that ended; waits up to `timeout` seconds for the first. A step that could not
        begin because Prefect's server was away begins again.
        """
        over: list[tuple[int, Any]] = []
        with suppress(queue.Empty):
            over.append(self._done.get(timeout=timeout))
            while True:
                over.append(self._done.get_nowait())
        ended = [(self._busy.pop(config_id), future) for config_id, future in over]
        found = [(submitted, self._event(submitted.step, future)) for submitted, future in ended]
        for submitted, event in found:
            if event is None:
                await_server()
                self.submit(submitted.step, submitted.config)
        out = [event for _, event in found if event is not None]
        if (
            self.kind == "processes"
            and any(isinstance(event, Died) for event in out)
            and not self._busy
        ):
            self._leave()  # a pool that lost a process takes no more work
        return out

    def _event(self, step: Step, future: Any) -> Event | None:
        """What became of a step; None if it did not begin."""
        try:
            return Ended(step, future.result())
        except lost_task(self.kind) as error:
            if server_away(error):
                return None
            return Died(
                step,
                f"its task run ended with {type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}",
            )

    def _leave(self) -> None:
        if self._runner is not None:
            runner, self._runner = self._runner, None
            runner.__exit__(None, None, None)

    def close(self) -> None:
        """End everything at once; a step under way is taken up again from its last checkpoint
        another time.
        """
        if self._busy and self.kind == "processes":
            stop_children()
        self._leave()
        self._busy = {}


@contextmanager
def prepared(request: tuning.Request) -> Iterator[tuning.Prepared]:
    """The study, opened; a run that is started again waits for the lock of the one that was lost,
    whose process may be about to end.
    """
    from prefect.runtime import flow_run

    again = flow_run.id is not None and flow_run.run_count > 1
    until = time.monotonic() + (AWAY_SECONDS if again else 0.0)
    with ExitStack() as stack:
        while True:
            try:
                ready = stack.enter_context(tuning.prepared(request))
                break
            except BadInput as error:
                if not isinstance(error.__cause__, Timeout) or time.monotonic() > until:
                    raise
                time.sleep(2.0)
        yield ready


def summary(tuned: tuning.Tuned, report: Path, pages: Pages | None) -> str:
    """What came out of a study, as markdown for the run's page; `pages` are MLflow's,
    where a server shows them.
    """
    rows = [f"| {name} | {value} |" for name, value in tuned.best.items()]
    lines = [
        f"# {tuned.name}",
        "",
        f"accuracy {tuned.valid_accuracy:.4f} (valid), {tuned.test_accuracy:.4f} (test), "
        f"best at epoch {tuned.epoch}, after {tuned.epochs_spent} epochs in all",
        "",
        "| hyperparameter | best value |",
        "|---|---|",
        *rows,
        "",
        f"- report: `{report.absolute()}`",
        f"- configuration: `{(tuned.folder / 'best.yaml').absolute()}`",
    ]
    if pages:
        lines.append(
            f"- in MLflow: [all trials]({pages.trials}), [the best of them]({pages.comparison}), "
            f"[all studies of the task]({pages.runs}), [the report]({pages.report})"
        )
    return "\n".join(lines)


@contextmanager
def live(folder: Path) -> Iterator[None]:
    """The study's live page for as long as it runs, with a link to it beside the flow run."""
    key, about = f"live-{folder.name}", "the study while it runs"
    with ExitStack() as closing:
        try:
            server = closing.enter_context(served(folder))
        except BadInput as error:  # a study is not held up by a page
            print(f"no live page: {error}", file=sys.stderr)
            yield
            return
        write_artifact(key, watching(folder, server.address, server.server_port), about)
        yield
        write_artifact(key, f"The run of {folder.name} is over: {again(folder)}", about)


def watching(folder: Path, address: str, port: int) -> str:
    """Where a study can be watched, as markdown."""
    host = socket.gethostname()
    return "\n".join(
        [
            f"# {folder.name}",
            "",
            f"- on {host}: [incumbent, curves, what is being trained and why]({address})",
            f"- from elsewhere: `ssh -L {port}:127.0.0.1:{port} {host}`, then the same link",
            f"- or on any machine with the data folder: {again(folder)}",
        ]
    )


def again(folder: Path) -> str:
    """The command that watches a study, over or not."""
    data = shlex.quote(str(folder.parents[1].absolute()))
    return f"`foretune watch {shlex.quote(folder.name)} --data {data}`"


def run_name() -> str:
    """What Prefect's pages call a run: the study, or, where it gets its name later, the images, or
    what a script trains on.
    """
    from prefect.runtime import flow_run

    given = flow_run.parameters
    task = (given.get("script") or {}).get("task")
    return str(given.get("study") or given.get("images") or task or "a script")


@flow(name="tune", flow_run_name=run_name, persist_result=False, validate_parameters=False)
@leased
@takes(Request)
def tune(
    images: str = "",
    tracking: str | None = None,
    runner: Literal["processes", "ray", "dask", "local"] = "processes",
    gpus: Share | None = None,
    storage: str | None = None,
    **asked: Any,
) -> tuning.Tuned | CodeTuned:
    """Run or continue a study. The parameters are those of `foretune tune`, and where it runs.

    Args:
        images: a folder of class folders, a prepared task's name, an .npz file, or
            torchvision:NAME; none are needed with a script
        tracking: MLflow's address, or none (default: the worker's own)
        runner: what trials run on: processes of one machine, a Ray or Dask cluster, or local:
            processes without a task run for each step
        gpus: a trial's share of a GPU on Ray or Dask, such as 0.5 for two at a time (default on
            Ray: one, if there is any)
        storage: where checkpoints lie if machines share no disk: an address for fsspec, such as
            s3://bucket/foretune
    """
    request = filled(Request, {"images": images, **present(asked)})
    if runner not in ("processes", LOCAL):  # a cluster's processes are in other folders
        request = replace(request, data=request.data.absolute())
    place = Place(runner, gpus, storage)
    if request.script:
        return tuned_script(request, place, tracking)
    tracker = (
        None
        if tracking == "none"
        else Tracker(tracking, request.data, warn=lambda line: print(line, file=sys.stderr))
    )
    with prepared(request) as ready, ExitStack() as closing:
        for line in ready.told:
            print(line)
        with live(ready.folder):
            tuned = trained(ready, place, tracker, closing)
        final = tuning.finalise(ready)
        if isinstance(final, str):
            print(final)
        else:
            tuned = replace(tuned, final=final)
        for kind in tuning.BASELINES if request.compare else ():
            trained(tuning.baseline(ready, kind), place, tracker, closing)
        report = write_study_report(ready.folder, None)
        if stored := place.stored(ready):
            stored.publish(ready.folder)
        if tracker:
            for path in artifacts(ready.folder, report):
                tracker.attach(ready.study, path)
    pages = tracker.pages(ready.study) if tracker and tracker.served else None
    write_artifact(f"study-{tuned.name}", summary(tuned, report, pages), "the best configuration")
    print(
        f"best: {spelled(tuned.best)}; accuracy {tuned.valid_accuracy:.4f} (valid), "
        f"{tuned.test_accuracy:.4f} (test); report: {report}"
    )
    return tuned


def tuned_script(request: Request, place: "Place", tracking: str | None) -> CodeTuned:
    """Run or continue the study of a user's script. Raises `BadInput`."""
    if place.storage is not None:
        raise BadInput(
            "storage is for our own trainer's checkpoints: a script's trials run on machines that "
            "share the data folder"
        )
    done = tune_code(command_question(request), tracking, place.workers, live)
    tuned = done.tuned
    lines = [
        f"# {tuned.name}",
        "",
        f"{tuned.metric} {tuned.value:.4g} at epoch {tuned.epoch}, after {tuned.epochs_spent} "
        "epochs in all",
        "",
        f"    {tuned.command}",
        "",
        f"- report: `{done.report.absolute()}`",
    ]
    write_artifact(f"study-{tuned.name}", "\n".join(lines), "the best configuration")
    return tuned


@dataclass(frozen=True)
class Place:
    """Where steps run, and where their checkpoints lie (None: on this machine's disk)."""

    runner: str
    gpus: float | None
    storage: str | None

    def stored(self, ready: tuning.Prepared) -> Stored | None:
        """The study's objective with its checkpoints at `storage`, a baseline's below the study's
        own.
        """
        if self.storage is None:
            return None
        name = ready.folder.relative_to(ready.request.data / "studies").as_posix()
        return Stored.of(ready.objective, f"{self.storage.rstrip('/')}/{name}")

    def workers(self, objective: Objective, count: int) -> Workers:
        """What the steps run on."""
        if self.runner == LOCAL:
            return Processes(objective, count)
        return PrefectWorkers(objective, count, self.runner, self.gpus)


def trained(
    ready: tuning.Prepared, place: Place, tracker: Tracker | None, closing: ExitStack
) -> tuning.Tuned:
    """Train a study to its end, shown and logged as it goes; `closing` ends its log, also when it
    is stopped.
    """
    if tracker:
        closing.callback(tracker.close, ready.study)
    if stored := place.stored(ready):
        stored.prepare(new=not ready.study.started)
    with progress(ready.study) as show:

        def changed(study: Study) -> None:
            show(study)
            if tracker:
                tracker.submit(study)

        workers = place.workers(stored or ready.objective, ready.request.workers)
        tuning.run(ready, workers=workers, on_change=changed)
    if stored:
        stored.fetch(needed_checkpoints(ready.study, ready.objective))
    return tuning.finish(ready)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the flow as a script."""
    parser = argparse.ArgumentParser(
        prog="python flows/tune.py", description="Tune a network on IMAGES as a Prefect flow."
    )
    add_options(parser, Request, optional=("images",))
    parser.add_argument(
        "--tracking",
        help="MLflow's address (default: $MLFLOW_TRACKING_URI, else sqlite:///DATA/mlflow.db), or none",
    )
    parser.add_argument(
        "--runner",
        choices=(*RUNNERS, LOCAL),
        default="processes",
        help="what trials run on (default: processes); local: without a task run for each step",
    )
    parser.add_argument(
        "--gpus", type=float, metavar="SHARE", help="of a GPU for each trial, on Ray or Dask"
    )
    parser.add_argument(
        "--storage", metavar="URL", help="of checkpoints, for machines that share no disk"
    )
    args = parser.parse_args(argv)
    stops_on_sigterm()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by torch as a worker starts
    try:
        asked = present(given(Request, args))
        where = {k: getattr(args, k) for k in ("tracking", "runner", "gpus", "storage")}
        with prefect_api():
            tune(**asked, **where)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command continues it")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
