"""From one image file to a square of pixels: `decode(file, size) -> uint8 (size, size, 3)`.

| crop     | what becomes of a picture that is no square                                           |
|----------|---------------------------------------------------------------------------------------|
| `center` | the shorter side is scaled to `size` and the centre cut out: the pixels of            |
|          | torchvision's `Resize(size)` and `CenterCrop(size)`                                   |
| `squash` | both sides are scaled to `size`, so that nothing is cut off but shapes change         |
| `pad`    | the longer side is scaled to `size`; the rest is ImageNet's mean colour, which is 0   |
|          | to a pretrained network                                                               |

The centre crop is the default: it is what the ImageNet evaluation protocol does, and pretrained
trunks have seen nothing else. A border has another width in every image, and a network has to learn
to ignore it.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from foretune.errors import BadInput, extra

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "AVIF")
# what iPhones write; read by the package of the extra `heif`
HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif"))
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
SUFFIXES = HEIF_SUFFIXES.union(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif")
)
MAX_PIXELS = 64_000_000  # about 192 MB decoded; refused from the header, before a pixel is read
MIN_SIZE, MAX_SIZE = 8, 1024
BUFFER = 1 << 18  # bytes of a file that are read together
LONGEST = 8  # times the shorter side: what is longer is a strip
MEAN_COLOUR = (124, 116, 104)  # of ImageNet

Pixels = np.ndarray  # uint8
Crop = Callable[[Image.Image, int], Pixels]


def check_size(size: int) -> int:
    """Return `size`, or raise `BadInput` where it is no sensible edge length in pixels."""
    if not isinstance(size, int) or not MIN_SIZE <= size <= MAX_SIZE:
        raise BadInput(
            f"size={size!r} must be a whole number of pixels from {MIN_SIZE} to {MAX_SIZE}"
        )
    return size


def square(image: Image.Image, size: int) -> Pixels:
    """The centre of an RGB image whose shorter side becomes `size`, uint8 `(size, size, 3)`.

    In one step, and so at another phase than `center_crop` by up to half a pixel: what the prepared
    tasks are made with, whose pixels their hashes hold.
    """
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


def center_crop(image: Image.Image, size: int) -> Pixels:
    """The shorter side scaled to `size` and the centre cut out, with the very roundings of
    torchvision's `Resize` and `CenterCrop`, so that both give the same pixels.

    Of a strip, only the part that is kept is scaled: a million pixels by eight would become a
    picture that no memory holds.
    """
    width, height = image.size
    edge = min(width, height)
    if max(width, height) > LONGEST * edge:
        return square(image, size)
    wide, high = (int(size * side / edge) for side in (width, height))
    if (wide, high) != (width, height):
        image = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    if (wide, high) != (size, size):
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8)


def squash(image: Image.Image, size: int) -> Pixels:
    """Both sides scaled to `size`."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)


def pad(image: Image.Image, size: int) -> Pixels:
    """The longer side scaled to `size`, centred on ImageNet's mean colour."""
    padded = ImageOps.pad(image, (size, size), method=Image.Resampling.BILINEAR, color=MEAN_COLOUR)
    return np.asarray(padded, dtype=np.uint8)


CROPS: dict[str, Crop] = {"center": center_crop, "squash": squash, "pad": pad}


def check_crop(crop: str) -> str:
    """Return `crop`, or raise `BadInput` where there is none of that name."""
    if crop not in CROPS:
        raise BadInput(f"crop={crop!r} must be one of {', '.join(CROPS)}")
    return crop


def decode(file: Path | BinaryIO, size: int, name: str = "", crop: Crop = center_crop) -> Pixels:
    """Read one image as uint8 `(size, size, 3)`.

    `name` stands for it in errors (default: the path).

    Raises:
        BadInput: not one of `FORMATS`, truncated or broken, or more than `MAX_PIXELS` pixels.
    """
    return decode_measured(file, size, name, crop)[0]


def decode_measured(file: Path | BinaryIO, size: int, name: str, crop: Crop) -> tuple[Pixels, int]:
    """The same, and the shorter side that the picture has in its file, in pixels."""
    name = name or str(file)
    try:
        if isinstance(file, Path):
            # most files in one piece: each read lets another thread run, and then waits for it
            with open(file, "rb", buffering=BUFFER) as stream:
                return _decoded(stream, size, name, crop)
        return _decoded(file, size, name, crop)
    except BadInput:
        raise
    except Image.DecompressionBombError as error:
        raise BadInput(
            f"{name}: has more than {MAX_PIXELS:,} pixels, the limit for one image; scale it down"
        ) from error
    except FileNotFoundError as error:
        raise BadInput(f"{name}: there is no such file") from error
    except UnidentifiedImageError as error:
        raise BadInput(
            f"{name}: is no image of a kind read here ({', '.join((*FORMATS, 'HEIF'))}), or is "
            "damaged"
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


def _decoded(stream: BinaryIO, size: int, name: str, crop: Crop) -> tuple[Pixels, int]:
    with warnings.catch_warnings():
        # our own, lower limit follows
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(stream, formats=_formats(stream, name)) as image:
            _check_pixels(image, name)
            shorter = min(image.size)
            if image.format == "JPEG":
                # decode big photographs at 1/2, 1/4 or 1/8, never below twice what is needed
                scale = 2 * size / shorter
                image.draft("RGB", (round(image.width * scale), round(image.height * scale)))
            rgb = to_rgb(image)
            ImageOps.exif_transpose(rgb, in_place=True)
            return crop(rgb, size), shorter


def _formats(stream: BinaryIO, name: str) -> tuple[str, ...]:
    """The formats that a file is tried as: HEIF only where it says that it is (phones also write it
    into files named .jpg), since Pillow knows it through a package of its own.
    """
    start = stream.read(40)
    stream.seek(0)
    # AVIF may carry HEIF's general brand, and its own among those that it is compatible with
    if start[4:8] != b"ftyp" or start[8:12] not in HEIF_BRANDS or b"avif" in start:
        return FORMATS
    register_heif(name)
    return (*FORMATS, "HEIF")


def register_heif(name: str) -> None:
    """Teach Pillow HEIC and HEIF. Raises `BadInput` that names the extra where it is missing."""
    with extra("heif", f"{name}: an image in HEIC or HEIF"):
        from pillow_heif import register_heif_opener
    register_heif_opener()


def _check_pixels(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BadInput(
            f"{name}: {width} x {height} = {width * height:,} pixels, the limit for one image "
            f"is {MAX_PIXELS:,}"
        )


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as RGB; what is RGB, and opaque, is the image itself.

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
    elif image.mode == "RGB":
        return image
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


def from_grey(values: np.ndarray, size: int) -> Pixels:
    """Grey uint8 `(H, W)` as uint8 `(size, size, 3)`."""
    return square(
        Image.fromarray(np.ascontiguousarray(values, dtype=np.uint8)).convert("RGB"), size
    )
