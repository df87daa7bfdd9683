"""The past that a request has: curves of past tasks that know its space, and runs of any space and
settings where none does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from foretune import shipped
from foretune.errors import BadInput, few, plural
from foretune.history.join import PREFIX, confined, join, joinable, learning_settings
from foretune.history.meta_dataset import MetaDataset
from foretune.running.continuing import (
    Earlier,
)
from foretune.running.history import (
    BY_RUNS,
    Lessons,
    Question,
    Source,
    lessons,
    sources_of,
)
from foretune.running.request import Request
from foretune.space.space import Space
from foretune.study.own_studies import other_settings, with_own_studies
from foretune.tasks.task import Task
from foretune.training.metrics import column
from foretune.training.settings import Settings


def past_of(request: Request) -> MetaDataset | None:
    """The meta-dataset that the request names, or None where it wants none, or where the one that
    comes with foretune is gone, which `missing_history` says.
    """
    if request.space == "hyperrec" or request.meta == "none":
        if request.sources is not None:
            raise BadInput(
                "--sources names past tasks, but this study has none (--meta none, or "
                "--space hyperrec)"
            )
        return None
    if missing_history(request) and request.sources is None:
        return None
    return MetaDataset.load(shipped.need("meta", request.meta, request.data))


def history_of(
    request: Request, shown: MetaDataset | None, settings: Settings, space: Space
) -> tuple[MetaDataset | None, list[str], Mapping[str, str]]:
    """The past tasks that know `space`, of the meta-dataset `shown` and of the user's own studies
    (None: none does), a line for each part of the former that is left out or was trained otherwise,
    and why own studies are left out, by name.
    Raises `BadInput` for past tasks that the request names and that do not know the space.
    """
    told = [line] if (line := missing_history(request)) else []
    left_out: Mapping[str, str] = {}
    metric = column(request.metric)
    if shown is not None and shown.metric != metric:
        line = (
            f"the curves of {request.meta} are left out: they are of {shown.metric}, which says little of "
            f"{metric}"
        )
        if request.sources is not None:
            raise BadInput(f"--sources names past tasks, but {line}")
        told.append(line)
        shown = None
    past, wanted = shown, asdict(settings)
    if shown is not None:
        past, count = (
            confined(shown, space),
            f"{len(shown.tasks)} past {plural('task', len(shown.tasks))}",
        )
        if past is None:
            line = f"the curves of the {count} of {request.meta} are left out, having tuned another space: {few(shown.space.differences(space), '; ')}"
            if request.sources is not None:
                raise BadInput(f"--sources names past tasks, but {line}")
            told.append(line)
        else:
            if len(past) < len(shown):
                told.append(
                    f"{len(shown) - len(past)} of the {len(shown)} past configurations lie outside "
                    "the space and are left out"
                )
            if differ := other_settings(
                {**asdict(Settings()), **shown.about.get("settings", {})}, wanted
            ):
                told.append(f"past curves were trained otherwise ({differ}): a guide, no more")
    if request.own_studies and request.meta != "none" and request.sources is None:
        folder = request.data / "studies"
        past, left_out = with_own_studies(past, folder, wanted, space, metric)
    return past, told, left_out


def with_earlier(past: MetaDataset | None, earlier: Earlier, space: Space) -> MetaDataset | None:
    """`past` and the study that is continued as one more past task, where it can stand beside it."""
    part = confined(earlier.as_past(), space)
    if past is None or part is None or not joinable(part, past):
        return past
    return join([past, part], past.name)


def past_runs_of(request: Request) -> list[Source]:
    """The past runs of any space and settings, none where the request wants none."""
    if request.space == "hyperrec" or request.method not in (None, *BY_RUNS):
        return []
    return sources_of(request.data, request.meta, request.own_studies)


def question_of(
    request: Request,
    settings: Settings,
    space: Space,
    past: MetaDataset | None,
    task: Task | None = None,
) -> Question:
    """What the study that is asked for asks of past runs, beside the curves of `past`."""
    return Question(
        space,
        learning_settings(asdict(settings)),
        column(request.metric),
        None if task is None else task.name,
        None if task is None else task.hash,
        request.sources,
        (*(request.without or ()), *(() if past is None else past.tasks)),
    )


def lessons_of(
    sources: Sequence[Source],
    request: Request,
    settings: Settings,
    space: Space,
    past: MetaDataset | None,
    task: Task | None = None,
    judged: bool = False,
) -> tuple[Lessons | None, list[str]]:
    """The past runs that the study can learn from beside the curves of `past`; as
    `foretune.running.history.lessons`.
    """
    found, lines = lessons(sources, question_of(request, settings, space, past, task), judged)
    # curves of past tasks in this space say enough for a study to begin
    return found, lines if past is None or found is not None else []


def past_for(
    past: MetaDataset, task: Task, epochs: int, sources: tuple[str, ...] | None
) -> tuple[MetaDataset | None, list[str]]:
    """The past tasks that a study of `task` can learn from: other images, and two values or more in
    the first `epochs` epochs (None: there are none). And a line for each kind that is left out.
    """
    others, told = without_target(past, task, sources), []
    mine = [t.removeprefix(PREFIX) for t in past.tasks if t not in others.tasks]
    if sources is None and (own := [t for t in mine if PREFIX + t in past.tasks]):
        told.append(
            f"own {'study' if len(own) == 1 else 'studies'} of these very images left out: {few(own, ', ')}"
        )
    usable = [t for t in others.tasks if values(others, t, epochs) > 1]
    if not usable:
        told.append(
            f"none of the {len(others.tasks)} past tasks that are left has two values in the first "
            f"{epochs} epochs"
            if others.tasks
            else "no past task is left"
        )
        return None, told
    return others.select(usable), told


def values(past: MetaDataset, task: str, epochs: int) -> int:
    """How many finite values a past task has in the first `epochs` epochs."""
    seeds = past.seeds(task)
    return int(np.isfinite(past.curves(task, seeds[0])[:, :epochs]).sum()) if seeds else 0


def missing_history(request: Request) -> str | None:
    """What to say before a study that starts without the history that comes with foretune, though
    nobody asked for that; None where the history is there, or not wanted.
    """
    if request.space == "hyperrec" or request.meta != shipped.HISTORY:
        return None
    if shipped.find("meta", request.meta, request.data) is not None:
        return None
    return f"no history: {shipped.missing('meta', request.meta, request.data)}"


def without_target(past: MetaDataset, task: Task, sources: tuple[str, ...] | None) -> MetaDataset:
    """The past tasks (or those named), without the task itself, by name and by content; own studies
    of other images count, whatever their name.
    """
    hashes = past.about.get("hashes", {})
    if sources is not None and task.name in sources:
        raise BadInput(f"--sources names {task.name!r}, which is the task to tune")
    names = [t for t in (sources or past.tasks) if t != task.name and hashes.get(t) != task.hash]
    return past.select(names)
