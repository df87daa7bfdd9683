"""`foretune evaluate`: how well a model does on labelled pictures, and how sure that is."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from foretune.errors import BadInput
from foretune.tasks.loading import find_source, task_of
from foretune.tasks.reading import Reading
from foretune.tasks.split import PARTS
from foretune.tasks.task import Task
from foretune.views.progress import Decoding
from foretune.views.summary import plus_minus

if TYPE_CHECKING:
    from foretune.training.assessment import Assessment
    from foretune.training.model_file import Model

MOST_CLASSES = 20  # of a confusion matrix on a screen; of more, the pairs that are confused most
PAIRS = 15
ALL = "all"
CHUNK = 1024  # pictures that are taken from a file at once


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    from foretune.training.model_file import Model
    from foretune.training.trial import device_of

    if args.part not in (*PARTS, ALL):
        raise BadInput(f"--part {args.part!r} must be one of {', '.join((*PARTS, ALL))}")
    model = Model.load(args.model, str(device_of(args.device)))
    how = Reading(model.read_size, model.crop, args.skip_bad, processes=1)
    source = find_source(args.images, args.data)
    names = getattr(source, "class_names", None) or source.task.class_names  # type: ignore[union-attr]
    order_of(names, model.classes, str(args.images))
    task = task_of(source, how, args.data, progress=Decoding())
    found = assessment(model, task, args.part)
    seen = args.part in model.about.get("trained_on", ["train"]) or args.part == ALL
    if args.json:
        print(json.dumps(as_json(found, args.part), indent=1))
    else:
        print(f"{task.name}, {args.part}: {len(found.labels):,} images, {task.num_classes} classes")
        for line in [*table(found), "", *classes(found), "", *confusion(found)]:
            print(line)
    if seen and task.name == model.about.get("task"):
        print(
            "  the model was trained on images of this part: it does worse on new ones",
            file=sys.stderr,
        )
    return 0


def order_of(names: tuple[str, ...], classes: tuple[str, ...], where: str) -> np.ndarray:
    """The output of each class of the images, int64 (C,). Raises `BadInput` where the model does
    not know one of them.
    """
    unknown = [name for name in names if name not in classes]
    if unknown:
        raise BadInput(
            f"{where} has classes that the model does not know: {', '.join(unknown)}; it knows "
            f"{', '.join(classes)}"
        )
    return np.array([classes.index(name) for name in names])


def assessment(model: "Model", task: Task, part: str) -> "Assessment":
    """What the model says about a part of the task."""
    from foretune.training.assessment import Assessment

    images, labels = (task.images, task.labels) if part == ALL else task.part(part)
    if not len(labels):
        raise BadInput(f"{task.name} has no images in its {part} part")
    outputs = order_of(task.class_names, model.classes, task.name)
    rows = np.arange(len(labels))
    found = [model.probabilities(images[rows[k : k + CHUNK]]) for k in range(0, len(rows), CHUNK)]
    return Assessment(outputs[labels], np.concatenate(found), model.classes)


def table(found: "Assessment") -> list[str]:
    """A line for each metric."""
    return [
        f"  {name:<18} {plus_minus(name, one.value, one.error)}"
        for name, one in found.metrics.items()
    ]


def classes(found: "Assessment") -> list[str]:
    """A line for each class."""
    width = max(len("class"), *(len(one.name) for one in found.classes))
    lines = [f"  {'class':<{width}}  precision  recall      F1  images"]
    lines += [
        f"  {one.name:<{width}}  {one.precision:>9.3f}  {one.recall:>6.3f}  {one.f1:>6.3f}  "
        f"{one.images:>6,}"
        for one in found.classes
    ]
    return lines


def confusion(found: "Assessment") -> list[str]:
    """The confusion matrix, or of many classes the pairs that are confused most."""
    names = found.class_names
    if len(names) > MOST_CLASSES:
        pairs = found.confused(PAIRS)
        return ["  taken for another most often:"] + [
            f"  {true}, taken for {said}: {count}" for true, said, count in pairs
        ]
    width = max(len(name) for name in names) + 4
    cell = max(4, *(len(f"{count:,}") for count in found.confusion.ravel())) + 1
    heads = "".join(f"{k:>{cell}}" for k in range(1, len(names) + 1))
    lines = ["  rows: what it is; columns: what it was taken for", f"  {'':<{width}}{heads}"]
    for k, (name, row) in enumerate(zip(names, found.confusion, strict=True), 1):
        label = f"{k:>2} {name}"
        lines.append(f"  {label:<{width}}" + "".join(f"{count:>{cell},}" for count in row))
    return lines


def as_json(found: "Assessment", part: str) -> dict[str, Any]:
    """For programs."""
    return {
        "part": part,
        "images": len(found.labels),
        "metrics": {
            name: {"value": one.value, "standard_error": one.error}
            for name, one in found.metrics.items()
        },
        "classes": [vars(one) for one in found.classes],
        "confusion": found.confusion.tolist(),
    }
