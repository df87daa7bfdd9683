"""Tune each dataset that was dropped into the inbox, as a Prefect flow: study, report, best
configuration, registered model.

    python flows/inbox.py [--inbox data/inbox] [--budget EPOCHS] [--method M]

A run looks, works until nothing is left to do, and ends; a schedule calls it again. What is taken,
and what a kill leaves: `foretune.service.inbox`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

if __name__ == "__main__":
    # what follows takes seconds to import
    print("starting the watch", file=sys.stderr, flush=True)

from parameters import present, takes
from prefect import flow
from prefect_api import leased, prefect_api, write_artifact
from pydantic import Field
from tune import tune

from foretune.errors import BadInput
from foretune.running.continuing import NAMED
from foretune.running.options import (
    add_options,
    filled,
    given,
    options_of,
    out_of_range,
    refuse_unknown,
)
from foretune.running.request import Request
from foretune.running.space_and_settings import settings_of
from foretune.running.tuning import Tuned
from foretune.service.inbox import SETTINGS, Inbox, Job
from foretune.study.study import Study
from foretune.views.summary import spelled
from foretune.views.tracking import Tracker

MACHINE = (
    OSError,
    MemoryError,
    RuntimeError,
)  # faults of a machine, tried again by the next watch; RuntimeError: torch's, CUDA's among them

# of a request, for the inbox to say: what was dropped, and its name; a dropped file names no
# command
GIVEN = ("images", "study", "script")
# for the watch or its machine to say, not for a dataset's own settings
OURS = (*GIVEN, "data", "workers")


class Unfinished(RuntimeError):
    """Some datasets could not be finished for a fault of the machine; they wait for the next
    watch.
    """


def run_name() -> str:
    """What Prefect's pages call a run."""
    from prefect.runtime import flow_run

    return f"watch of {flow_run.parameters['inbox']}"


@flow(name="inbox", flow_run_name=run_name, persist_result=False, log_prints=True)
@leased
@takes(Request, leave=GIVEN)
def inbox(
    inbox: str = "data/inbox",
    quiet: Annotated[float, Field(ge=0)] = 20.0,
    data: str = "data",
    tracking: str | None = None,
    runner: Literal["processes", "local"] = "processes",
    **asked: Any,
) -> list[str]:
    """Tune what is complete in the inbox, one dataset after another; the names of those that were
    finished. What is asked for holds for the datasets that this watch takes.

    Args:
        inbox: folder to watch, on the worker's machine
        quiet: seconds without a change after which a dataset without a marker READY is complete
        data: folder with images, meta and studies, on the worker's machine
        tracking: MLflow's address, or none (default: the worker's own)
        runner: processes with a task run for each step, or local: without, for epochs of a second
            or less
    """
    asked = {"runner": runner, **present(asked)}
    box = Inbox(inbox, Path(data) / "studies", quiet)
    finished: list[str] = []
    shown: list[str] = []
    trouble: dict[str, str] = {}
    with box.watching() as mine:
        if not mine:
            print("another watch is at work on this inbox")
            return []
        while True:
            for entry in box.dropped():
                print(f"taken: {box.take(entry, asked).name}")
            jobs = [job for job in box.jobs() if job.id not in trouble]
            if not jobs:
                break
            job = first(box, jobs)
            try:
                told = work(box, job, data, tracking)
                finished.append(job.id)
                shown.append(f"## {job.id}: tuned\n\n```\n{told}\n```")
                print(f"done: {job.name}; {box.finish(job, told)}")
            except BadInput as error:
                shown.append(f"## {job.id}: set aside\n\n```\n{error}\n```")
                print(f"set aside: {error}; {box.set_aside(job, str(error))}")
            except MACHINE as error:
                trouble[job.id] = f"{job.name}: {type(error).__name__}: {error}"
                shown.append(f"## {job.id}: waits\n\n```\n{trouble[job.id]}\n```")
                print(f"waits for the next watch: {trouble[job.id]}")
    if shown:
        write_artifact("inbox", "\n\n".join(shown), "what became of each dataset")
    skip_late()
    if trouble:
        raise Unfinished("; ".join(trouble.values()))
    return finished


def first(box: Inbox, jobs: Sequence[Job]) -> Job:
    """The job to do next: one that a look tells to be no dataset, which shall not wait for hours of
    tuning to hear it; else the first.
    """
    for job in jobs:
        try:
            if box.check(job).is_dir():  # an archive would have to be unpacked
                own_settings(box, job)
        except (BadInput, OSError):
            return job
    return jobs[0]


def work(box: Inbox, job: Job, data: str, tracking: str | None) -> str:
    """Tune a dataset, or go on with it, and register its network; what came out, in words. Raises
    `BadInput` where it cannot be used.
    """
    folder = Path(data) / "studies" / job.id
    job = box.start(job, spent(folder))
    request = {**job.request, **own_settings(box, job)}
    tuned: Tuned = tune(
        images=str(box.images(job)), study=job.id, data=data, tracking=tracking, **request
    )
    network = model_of(tuned)
    if tracking != "none":
        told: list[str] = []
        if not Tracker(tracking, Path(data), warn=told.append).register(
            Study.load(tuned.folder), job.id, [network, network.with_suffix(".json")]
        ):
            replace(job, tries=0, spent=tuned.epochs_spent).save()  # MLflow's fault, however often
            raise ConnectionError(*told)
    return "\n".join(
        [
            f"best configuration  {spelled(tuned.best)} (epoch {tuned.epoch})",
            f"accuracy            {tuned.valid_accuracy:.4f} (valid), "
            f"{tuned.test_accuracy:.4f} (test), after {tuned.epochs_spent} epochs",
            f"report              {tuned.folder / 'report.html'}",
            f"configuration       {tuned.folder / 'best.yaml'}",
            f"network             {network}"
            + ("" if tracking == "none" else f", in MLflow the registered model {job.id}"),
        ]
    )


def model_of(tuned: Tuned) -> Path:
    """The network that is put to work: the one trained on all images, where there is one."""
    return tuned.folder / "best.pt" if tuned.final is None else tuned.final.path


def own_settings(box: Inbox, job: Job) -> dict[str, Any]:
    """What a dataset's own settings say, as parameters of `tune`. Raises `BadInput` for one that is
    not a request's, or not a dataset's to say, or whose value cannot be meant.
    """
    found = box.settings(job)
    known = [option.name for option in options_of(Request, OURS)]
    try:
        for name in found:
            refuse_unknown(name, known, "setting")
        request = filled(Request, {"images": "", **found})
        for reason in out_of_range(request):
            raise BadInput(reason)
        settings_of(request, None)
        if request.space not in NAMED:
            request = replace(request, space=str(inside(box.images(job), request.space)))
    except BadInput as error:
        raise BadInput(f"{SETTINGS}: {error}") from error
    return present({name: getattr(request, name) for name in found})


def inside(folder: Path, space: str) -> Path:
    """A dataset's own search space: a file beside its settings. Raises `BadInput` for any other,
    which is not a dataset's to name.
    """
    path = (folder / space).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        raise BadInput(
            f"space={space!r} is neither one of {', '.join(NAMED)} nor a file beside {SETTINGS}"
        )
    return path


def skip_late() -> int:
    """Cancel the scheduled watches that came due meanwhile, and waited for a slot to say that they
    find nothing; how many there were. One that somebody asked for has its turn.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
    from prefect.runtime import deployment
    from prefect.states import Cancelled

    if not deployment.id:
        return 0
    now = datetime.now(UTC)
    late = FlowRunFilter.model_validate(
        {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": now}}
    )
    of = DeploymentFilter.model_validate({"id": {"any_": [deployment.id]}})
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=late, deployment_filter=of)
        runs = [run for run in runs if run.auto_scheduled]
        for run in runs:
            client.set_flow_run_state(
                run.id, Cancelled(message="a watch before it did its work"), force=True
            )
    return len(runs)


def spent(folder: Path) -> int:
    """Epochs that a study has done, 0 where there is none yet. Raises `BadInput` for a
    damaged one.
    """
    return Study.load(folder).spent if (folder / "study.json").exists() else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the flow as a script, once."""
    parser = argparse.ArgumentParser(
        prog="python flows/inbox.py", description="Tune what was dropped into the inbox."
    )
    parser.add_argument("--inbox", default="data/inbox", metavar="FOLDER")
    parser.add_argument(
        "--quiet", type=float, default=20.0, help="seconds without a change (default: 20)"
    )
    add_options(parser, Request, leave=GIVEN)
    parser.add_argument(
        "--tracking", help="MLflow's address (default: $MLFLOW_TRACKING_URI), or none"
    )
    parser.add_argument(
        "--runner",
        choices=("processes", "local"),
        default="processes",
        help="local: without a task run for each step (default: processes)",
    )
    args = parser.parse_args(argv)
    try:
        asked = present(given(Request, args, leave=GIVEN))
        where = {k: getattr(args, k) for k in ("inbox", "quiet", "tracking", "runner")}
        with prefect_api():
            inbox(**asked, **where)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Unfinished as error:
        print(f"error: {error}; the next watch tries again", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
