"""A sheet of thumbnails of a task, for reports."""

import io

import numpy as np
from PIL import Image, ImageDraw

from foretune.tasks.pixels import square
from foretune.tasks.task import Task


def sheet(task: Task, per_class: int = 8, px: int = 48, max_classes: int = 24) -> Image.Image:
    """A sheet of thumbnails of the training part: a row per class, its name on the left."""
    images, labels = task.part("train")
    names = task.class_names[:max_classes]
    margin, gap = 8 + 7 * max(len(name[:24]) for name in names), 2
    page = Image.new("RGB", (margin + per_class * (px + gap), len(names) * (px + gap)), "white")
    draw = ImageDraw.Draw(page)
    for index, name in enumerate(names):
        top = index * (px + gap)
        draw.text((4, top + px // 2 - 6), name[:24], fill="black")
        found = np.flatnonzero(labels == index)
        spread = np.unique(
            np.linspace(0, len(found) - 1, per_class).round().astype(int)
        )  # files next to each other are alike
        for column, image in enumerate(images[found[spread]]):
            page.paste(
                Image.fromarray(square(Image.fromarray(image), px)),
                (margin + column * (px + gap), top),
            )
    return page


def sheet_png(task: Task, per_class: int = 8, px: int = 48, max_classes: int = 24) -> bytes:
    """`sheet` as the bytes of a PNG file, for reports."""
    stream = io.BytesIO()
    sheet(task, per_class, px, max_classes).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
