"""The first runs to make with somebody's own trainer: a ranking of configurations
(`foretune.recommenders`) as command lines.

    first = first_runs(recommend("photos/"), "timm", images="photos/")
    first.runs[0].command

What the past was trained with and the trainer can be told is said in its flags. Configurations of
which it cannot be told all are passed over where there are others, and otherwise come with what was
left unsaid.
"""

import math
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput, at_least, near
from foretune.recommenders.recommendation import Recommendation, Suggestion
from foretune.running.scripts.wording import RECIPE, WORDINGS, Said, network_of, said
from foretune.space.space import Config
from foretune.tasks.folder import PART_NAMES
from foretune.tasks.split import TRAIN, VALID
from foretune.tasks.task import Task
from foretune.training.settings import Settings

COUNT = 3
SIDE = 224  # pixels, of pretrained networks
LEVELS = ("low", "medium", "high")


@dataclass(frozen=True)
class FirstRun:
    """A run to make. `row` is its suggestion, `place` its place in the ranking, from 1; `minutes`
    None where nothing is known of the network; `unsaid` and `nearly` as in `Said`.
    """

    place: int
    row: Suggestion
    arguments: tuple[str, ...]
    unsaid: tuple[str, ...]
    nearly: tuple[str, ...]
    minutes: float | None

    @property
    def command(self) -> str:
        """The line to type."""
        return shlex.join(self.arguments)


@dataclass(frozen=True)
class Confidence:
    """How far the advice can be trusted: one of `LEVELS`, and why."""

    level: str
    why: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """What the first runs of a list came to on past tasks whose own results, and those of their
    siblings, it did not know: how far the best of them stayed below the best of all
    configurations, in the metric's unit, in the middle and at worst.
    """

    tasks: int
    median: float
    worst: float


@dataclass(frozen=True)
class FirstRuns:
    """The runs, in the order to make them; how many better ones cannot be said (`passed_over`, with
    a reason); what must be known before.
    """

    trainer: str
    network: str | None
    image_size: int
    epochs: int
    runs: tuple[FirstRun, ...]
    confidence: Confidence
    held_out: HeldOut | None
    passed_over: int
    because_of: tuple[str, ...]
    notes: tuple[str, ...]
    like: str | None = None  # the network by whose work the minutes are reckoned
    images: int = 0  # that are trained on
    gpu: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)  # what the past was trained with


def trainer_named(name: str) -> str:
    """The trainer of this name. Raises `BadInput`."""
    if name not in WORDINGS:
        raise BadInput(
            f"--for {name!r} is no trainer that foretune knows{near(name, WORDINGS)}: "
            f"{', '.join(WORDINGS)}"
        )
    return name


def first_runs(
    answer: Recommendation,
    trainer: str,
    *,
    images: str,
    network: str | None = None,
    image_size: int | None = None,
    epochs: int | None = None,
    count: int = COUNT,
) -> FirstRuns:
    """The first `count` runs of a ranking for `images` (as the user named them) with `trainer`.

    Without a `network` it is the past's, as the trainer calls it. Raises `BadInput` for an unknown
    trainer, and one that has no such network.
    """
    import torch

    wording = WORDINGS[trainer_named(trainer)]
    settings = training_settings(answer)
    at_least(1, epochs=settings.max_epoch if epochs is None else epochs)
    at_least(8, image_size=SIDE if image_size is None else image_size)
    if image_size is not None and "image_size" in wording.why:
        raise BadInput(
            f"--image-size {image_size}: {trainer} has no flag for it, {wording.why['image_size']}"
        )
    theirs = network or network_of(trainer, settings.network)
    if theirs is None and "{network}" in wording.begin:
        raise BadInput(
            f"what {trainer} calls the network {settings.network} is not known: give --network"
        )
    epochs, side = epochs or settings.max_epoch, image_size or SIDE
    data, notes = data_arguments(trainer, images)
    begin = wording.begin.replace("{data}", data["data"])
    fixed = {**RECIPE, "batch_size": settings.batch_size, **settings.fix}
    fixed |= {"network": theirs} if "{network}" in begin else {}
    fixed |= {"image_size": side} if image_size or trainer == "ultralytics" else {}

    def worded(config: Config, number: int) -> Said:
        folder = f"runs/{answer.task.name}-{number}"
        own: dict[str, Any] = {"epochs": epochs, "seed": 0, "trial_folder": folder}
        return said(
            trainer, {**fixed, **config}, begin, **own, **data, classes=answer.task.num_classes
        )

    ours = replaced_network(network, wording.like, settings)
    took = training_minutes([row.config for row in answer.rows], ours, answer.task, side, epochs)
    chosen, skipped, lacking = choice(answer.rows, lambda config: worded(config, 1), count)
    runs = []
    for number, place in enumerate(chosen, 1):
        row = answer.rows[place]
        how = worded(row.config, number)
        minutes = took[place] if took else None
        runs.append(FirstRun(place + 1, row, how.words, how.unsaid, how.nearly, minutes))
    fitting = [answer.rows[k].row for k in sayable([worded(r.config, 1) for r in answer.rows])]
    return FirstRuns(
        trainer,
        theirs,
        side,
        epochs,
        tuple(runs),
        confidence(answer, runs, theirs, side, epochs),
        held_out(answer, fitting, count),
        skipped,
        lacking,
        (*notes, *wording.about),
        like=ours.network if took else None,
        images=trained_on(answer.task),
        gpu=torch.cuda.is_available(),
        about={
            "network": settings.network,
            "image_size": settings.image_size,
            "train_images": settings.train_limit,
            "epochs": settings.max_epoch,
        },
    )


def choice(
    rows: Sequence[Suggestion], worded: Callable[[Config], Said], count: int
) -> tuple[list[int], int, tuple[str, ...]]:
    """Places of the first `count` rows of which the least remains unsaid; how many before the last
    of them were passed over, and what these could not be told.
    """
    how = [worded(row.config) for row in rows]
    chosen = sayable(how)[:count]
    skipped = [k for k in range(chosen[-1]) if k not in chosen]
    always = set.intersection(*(set(one.unsaid) for one in how))
    lacking = dict.fromkeys(u for k in skipped for u in how[k].unsaid if u not in always)
    return chosen, len(skipped), tuple(lacking)


def sayable(how: Sequence[Said]) -> list[int]:
    """Places of the configurations of which the least remains unsaid."""
    least = min(len(one.unsaid) for one in how)
    return [k for k, one in enumerate(how) if len(one.unsaid) == least]


def data_arguments(trainer: str, images: str) -> tuple[dict[str, str], list[str]]:
    """How the images are handed over (`data`, with placeholders, and their values), and what must
    be known of it.
    """
    data, root = WORDINGS[trainer].data, Path(images)
    if not data.parted:
        return {"data": "", "images": images}, [data.note.format(images=images)]
    if not root.is_dir():
        where = {"data": data.whole, "images": "IMAGES"}
        return where, [f"{images} is no folder: put the path of one in the place of IMAGES"]
    parts = {
        PART_NAMES[entry.name.lower()]: entry.name
        for entry in sorted(root.iterdir())
        if entry.is_dir() and entry.name.lower() in PART_NAMES
    }
    where = {"images": images}
    if TRAIN in parts and VALID in parts:
        where |= {"data": data.parted, "train": parts[TRAIN], "valid": parts[VALID]}
        return where, []
    where |= {"data": data.whole}
    return where, [data.note.format(images=images)]


def training_settings(answer: Recommendation) -> Settings:
    """What tune would train with: the settings of the meta-dataset, whose curves it goes by."""
    known = {one.name for one in fields(Settings)}
    noted = answer.meta.about.get("settings", {})
    return Settings(**{k: v for k, v in noted.items() if k in known})


def replaced_network(network: str | None, like: str | None, settings: Settings) -> Settings:
    """The settings with the network whose work is known: the user's, else the past's or one that
    costs about the same.
    """
    return replace(settings, network=network or like or settings.network)


def trained_on(task: Task) -> int:
    """Images of the training part, all of which other trainers take."""
    return int((task.split == TRAIN).sum())


def training_minutes(
    configs: Sequence[Config],
    settings: Settings,
    task: Task,
    image_size: int | None = None,
    epochs: int | None = None,
) -> list[float]:
    """Minutes that a full training of each configuration takes on this machine, by the cost model
    (`foretune.training.cost`), good to a factor of `SPREAD`; none where it knows nothing of them.
    With an `image_size` and `epochs` in place of the settings', it is as other trainers do: on all
    images and all cores, and nothing that is frozen is kept.
    """
    import torch

    from foretune.training.cost import Parts, epoch_seconds, first_epoch_seconds, machine_of
    from foretune.training.recipe import recipe

    train, valid = (int((task.split == k).sum()) for k in (TRAIN, VALID))
    if image_size is not None and epochs is not None:
        cores = os.cpu_count() or 1
        settings = replace(
            settings, image_size=image_size, max_epoch=epochs, train_limit=0, valid_limit=0,
            threads=cores,
        )  # fmt: skip
    parts = Parts(
        min(train, settings.train_limit or train), min(valid, settings.valid_limit or valid)
    )
    machine = machine_of(settings, torch.cuda.is_available())
    try:
        how = [(recipe(config, settings), settings, parts, machine) for config in configs]
        if epochs is not None:
            return [epochs * first_epoch_seconds(*one) / 60 for one in how]
        return [
            (first_epoch_seconds(*one) + (settings.max_epoch - 1) * epoch_seconds(*one)) / 60
            for one in how
        ]
    except BadInput:
        return []


def confidence(
    answer: Recommendation,
    runs: Sequence[FirstRun],
    network: str | None,
    image_size: int,
    epochs: int,
) -> Confidence:
    """How far the advice can be trusted: less by what is another one than the past's."""
    why, level = [], 2
    settings, images = training_settings(answer), trained_on(answer.task)
    if answer.known_as is not None:
        why.append(f"these very images are the past task {answer.known_as}")
    elif not answer.ranking.supported:
        why.append("no past task looks like these images")
        level = 0
    elif answer.tells_tasks_apart:
        why.append(f"past tasks look like these images (support {answer.ranking.support:.0%})")
    else:
        why.append("the recommender looks at no images")
        level -= 1
    own = network is not None and network_of_ours(network) == settings.network
    if not own:
        why.append(f"the past is of {settings.network}, not of {network or 'your network'}")
        level -= 1
    if not 0.5 <= image_size / settings.image_size <= 2:
        why.append(f"the past is at {settings.image_size} px, these runs at {image_size}")
        level -= 1
    if not 0.5 <= epochs / settings.max_epoch <= 2:
        why.append(f"the past is of {settings.max_epoch} epochs, these runs of {epochs}")
        level -= 1
    seen = settings.train_limit or images
    if not 0.25 <= images / seen <= 4:
        why.append(f"the past trained on {seen:,} images, these runs on {images:,}")
    if any(run.unsaid or run.nearly for run in runs):
        why.append("the trainer cannot be told all of it")
        level -= 1
    return Confidence(LEVELS[max(level, 0)], tuple(why))


def network_of_ours(network: str) -> str:
    """Our name of a trainer's network, itself where it has no other."""
    for wording in WORDINGS.values():
        for ours, theirs in wording.networks.items():
            if theirs == network:
                return ours
    return network


def held_out(answer: Recommendation, rows: Sequence[int], count: int) -> HeldOut | None:
    """How the first `count` of `rows` would have done on the past's own tasks, ordered by the mean
    over tasks of other sources, which looks at no images; None with fewer than three tasks.
    """
    past, sources = answer.ranking.past, answer.meta.about.get("sources", {})
    if len(past.tasks) < 3:
        return None
    gaps = []
    where = [str(sources.get(task, task)) for task in past.tasks]
    for t, source in enumerate(where):
        others = [k for k, other in enumerate(where) if other != source]
        if not others or np.isnan(past.best[t]).all():
            continue
        mean = past.normalised[others].mean(axis=0)
        first = sorted(rows, key=lambda row: -mean[row])[:count]
        gaps.append(float(np.nanmax(past.best[t]) - past.filled[t, first].max()))
    if not gaps or not all(map(math.isfinite, gaps)):
        return None
    return HeldOut(len(gaps), float(np.median(gaps)), max(gaps))
