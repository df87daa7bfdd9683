"""Pictures of a model's mistakes, for reports."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from foretune.tasks.task import Images
from foretune.training.assessment import Assessment

MOST = 12  # mistakes that are shown
SIDE = 96  # of a picture, in pixels


def worst_mistakes(found: Assessment, images: Images, most: int = MOST) -> list[tuple[bytes, str]]:
    """The mistakes that were made with most confidence, as PNG and caption. `images` are those that
    were assessed, in their order.
    """
    mistakes = found.worst(most)
    pictures = images[np.array([one.row for one in mistakes], dtype=np.int64)]
    names: Sequence[str] = found.class_names
    return [
        (
            png(picture),
            f"{names[one.label]}, taken for {names[one.predicted]} ({100 * one.probability:.0f} %)",
        )
        for one, picture in zip(mistakes, pictures, strict=True)
    ]


def png(picture: np.ndarray) -> bytes:
    """A picture, uint8 (H, W, 3), as the bytes of a PNG file of at most `SIDE` pixels."""
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
