"""From one image file to a square of pixels: `decode(file, size) -> uint8 (size, size, 3)`.

The shorter side is resized to `size` and the centre is cut out. Padding would keep the whole
picture but put a border of invented pixels, whose width differs by image, before a network that
then has to learn to ignore it; the centre crop is what the ImageNet evaluation protocol does, and
pretrained trunks have seen nothing else.
"""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from foretune.errors import BadInput

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
)
MAX_PIXELS = 64_000_000  # about 192 MB decoded; refused from the header, before a pixel is read
MIN_SIZE, MAX_SIZE = 8, 512

Pixels = np.ndarray  # uint8


def check_size(size: int) -> int:
    """Return `size`, or raise `BadInput` where it is no sensible edge length in pixels."""
    if not isinstance(size, int) or not MIN_SIZE <= size <= MAX_SIZE:
        raise BadInput(
            f"size={size!r} must be a whole number of pixels from {MIN_SIZE} to {MAX_SIZE}"
        )
    return size


def decode(file: Path | BinaryIO, size: int, name: str = "") -> Pixels:
    """Read one image as uint8 `(size, size, 3)`.

    `name` stands for it in errors (default: the path).

    Raises:
        BadInput: not one of `FORMATS`, truncated or broken, or more than `MAX_PIXELS` pixels.
    """
    name = name or str(file)
    try:
        with warnings.catch_warnings():
            # our own, lower limit follows
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                _check_pixels(image, name)
                if (
                    image.format == "JPEG"
                ):  # decode big photographs at 1/2, 1/4 or 1/8, never below twice what is needed
                    scale = 2 * size / min(image.size)
                    image.draft("RGB", (round(image.width * scale), round(image.height * scale)))
                return square(ImageOps.exif_transpose(to_rgb(image)), size)
    except BadInput:
        raise
    except Image.DecompressionBombError as error:
        raise BadInput(
            f"{name}: has more than {MAX_PIXELS:,} pixels, the limit for one image; scale it down"
        ) from error
    except UnidentifiedImageError as error:
        raise BadInput(
            f"{name}: is no image of a kind read here ({', '.join(FORMATS)}), or is damaged"
        ) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
    ) as error:  # what Pillow's decoders raise on broken files
        raise BadInput(
            f"{name}: cannot be read as an image, it is truncated or damaged ({error})"
        ) from error


def _check_pixels(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadInput(
            f"{name}: {width} x {height} = {width * height:,} pixels, the limit for one image "
            f"is {MAX_PIXELS:,}"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB.

    Transparency is laid on white, palettes and CMYK are resolved. 16-bit samples are divided by
    257, the same for every image, so that brightness stays comparable; 32-bit integers beyond 16
    bit and floats beyond [0, 1] have no common white, so each such image is stretched between its
    own least and greatest value.
    """
    orientation = image.getexif().get(0x0112)
    if image.mode.startswith(("I", "F")):
        rgb = Image.fromarray(_to_8_bit(np.asarray(image, dtype=np.float64))).convert("RGB")
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        rgb = Image.new("RGBA", layer.size, "white")
        rgb.alpha_composite(layer)
        rgb = rgb.convert("RGB")
    else:
        rgb = image.convert("RGB")
    if orientation:  # composing and `fromarray` lose the tag that `exif_transpose` needs
        rgb.getexif()[0x0112] = orientation
    return rgb


def _to_8_bit(values: np.ndarray) -> Pixels:
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    if low >= 0 and high <= 1 and not np.array_equal(values, np.rint(values)):
        scaled = values * 255
    elif low >= 0 and high <= 65535:
        scaled = values / 257
    else:
        scaled = (values - low) / max(high - low, 1e-12) * 255
    return np.rint(scaled).astype(np.uint8)


def square(image: Image.Image, size: int) -> Pixels:
    """The centre of an RGB image whose shorter side becomes `size`, uint8 `(size, size, 3)`."""
    width, height = image.size
    edge = min(width, height)
    left, top = (width - edge) / 2, (height - edge) / 2
    if (width, height) == (size, size):
        return np.array(image, dtype=np.uint8)
    # `box` crops and resizes in one step; bilinear in Pillow averages over the source area when it
    # shrinks
    return np.array(
        image.resize(
            (size, size), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge)
        ),
        dtype=np.uint8,
    )


def from_grey(values: np.ndarray, size: int) -> Pixels:
    """Grey uint8 `(H, W)` as uint8 `(size, size, 3)`."""
    return square(
        Image.fromarray(np.ascontiguousarray(values, dtype=np.uint8)).convert("RGB"), size
    )
