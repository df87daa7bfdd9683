"""What a request asks to be trained: settings, space and pool, and how its images are read."""

from dataclasses import asdict
from pathlib import Path

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.running.options import filled, refuse_unknown
from foretune.running.request import Request
from foretune.space.catalogue import (
    PRESETS,
    heavy_pool,
    hyperrec_space,
    preset,
    transfer_pool,
    transfer_space,
)
from foretune.space.space import Config, Space, config_key
from foretune.space.written import fixed, of_file
from foretune.tasks.reading import Reading
from foretune.tasks.task import Task
from foretune.training.settings import Settings


def reading_of(request: Request, settings: Settings) -> Reading:
    """How the request's images are read: at the size that the network sees. Raises `BadInput`."""
    return Reading(
        settings.image_size,
        request.crop,
        request.skip_bad,
        request.memory,
        processes=request.workers + 1,
    )


def limits_told(task: Task, settings: Settings) -> list[str]:
    """A line for each limit that leaves classes without an image."""
    from foretune.training.activations import classes_left_out  # loads PyTorch

    lines = []
    for part, limit, doing in (
        ("train", settings.train_limit, "training"),
        ("valid", settings.valid_limit, "validation"),
    ):
        labels = task.part(part)[1]
        if lost := classes_left_out(labels, limit):
            lines.append(
                f"{lost} of {task.num_classes} classes have no {doing} image at --{part}-limit "
                f"{limit}; --{part}-limit 0 takes all {len(labels)}"
            )
    return lines


def settings_of(request: Request, past: MetaDataset | None) -> Settings:
    """The training settings: those of the meta-dataset, so that its curves apply, with what the
    request changes. Raises `BadInput`.
    """
    known = asdict(Settings())
    for name in request.settings:
        refuse_unknown(name, known, "setting")
    noted = past.about.get("settings", {}) if past is not None else {}
    base = {k: v for k, v in noted.items() if k in known}
    asked = {k: v for k, v in request.settings.items() if v is not None}
    return filled(Settings, {**base, "device": "auto", **asked})


def space_of(request: Request, settings: Settings) -> tuple[Space, list[Config]]:
    """The search space and its pool (empty: the space is open), with what the settings fix. Raises
    `BadInput` for a name or file that is none.
    """
    space, pool = named_space(request.space)
    if not settings.fix:
        return space, pool
    space = fixed(space, settings.fix)
    values = {name: p.default for name, p in space.parameters.items() if name in settings.fix}
    changed = [space.completed({**config, **values}, {}) for config in pool]
    return space, list({config_key(config): config for config in changed}.values())


def named_space(name: str) -> tuple[Space, list[Config]]:
    """The space and the pool of a name or a file. Raises `BadInput` for one that is none."""
    match name:
        case "transfer":
            return Space(transfer_space()), transfer_pool()
        case "heavy":
            return Space(transfer_space()), heavy_pool()
        case "hyperrec":
            return Space(hyperrec_space()), []
    if name in PRESETS:
        return preset(name), []
    if Path(name).is_file():
        return of_file(name), []
    raise BadInput(
        f"space {name!r} is neither transfer, {', '.join(PRESETS)}, heavy, hyperrec nor a YAML or "
        "ConfigSpace JSON file"
    )
