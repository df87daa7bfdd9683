"""One image file of any kind to a square of RGB pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foretune.errors import BadInput
from foretune.tasks.pixels import MAX_PIXELS, check_size, decode, from_grey


def stored(image: Image.Image, kind: str, **options) -> io.BytesIO:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    stream.seek(0)
    return stream


def halves(mode: str, left, right, size: tuple[int, int] = (16, 16)) -> Image.Image:
    """An image whose left half is one colour and whose right half is another."""
    image = Image.new(mode, size, right)
    image.paste(left, (0, 0, size[0] // 2, size[1]))
    return image


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "JPEG", "GIF"])
def test_every_kind_is_read(kind: str):
    pixels = decode(stored(halves("RGB", (200, 10, 10), (10, 10, 200)), kind), 8)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels[4, 1].astype(int) - (200, 10, 10)).max() < 30
    assert np.abs(pixels[4, 6].astype(int) - (10, 10, 200)).max() < 30


def test_shorter_side_is_scaled_and_the_centre_cut_out():
    wide = Image.new("RGB", (40, 10), "black")
    wide.paste("white", (15, 0, 25, 10))  # the central square
    assert decode(stored(wide, "PNG"), 10).min() == 255


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    pixels = decode(
        stored(halves("RGB", (255, 255, 255), (0, 0, 0), (32, 32)), "JPEG", exif=exif, quality=95),
        16,
    )
    assert pixels[2].mean() > 240  # what was left is on top
    assert pixels[13].mean() < 15


def test_exif_orientation_survives_transparency():
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = decode(
        stored(halves("RGBA", (9, 9, 9, 255), (250, 250, 250, 255)), "PNG", exif=exif), 16
    )
    assert pixels[8, 1, 0] == 250


def test_transparency_lies_on_white():
    assert decode(stored(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), "PNG"), 9).min() == 255
    palette = Image.new("P", (9, 9), 0)
    palette.putpalette([200, 0, 0] + [0] * 765)
    assert decode(stored(palette, "PNG", transparency=0), 9).min() == 255
    assert decode(stored(palette, "PNG"), 9)[0, 0].tolist() == [200, 0, 0]
    assert decode(stored(Image.new("LA", (9, 9), (100, 255)), "PNG"), 9)[0, 0].tolist() == [100] * 3


@pytest.mark.parametrize(
    ("values", "left", "right"),
    [
        (np.array([[0, 65535]], np.uint16), 0, 255),
        (np.array([[257, 514]], np.uint16), 1, 2),
        (np.array([[0.0, 0.5]], np.float32), 0, 128),
        (np.array([[-10.0, 30.0]], np.float32), 0, 255),
        (np.array([[0, 1_000_000]], np.int32), 0, 255),
    ],
)
def test_deep_samples_are_scaled_to_8_bit(values: np.ndarray, left: int, right: int):
    image = Image.fromarray(np.repeat(np.repeat(values, 16, 0), 8, 1))
    pixels = decode(stored(image, "TIFF"), 16)
    assert (pixels[0, 0].tolist(), pixels[0, 15].tolist()) == ([left] * 3, [right] * 3)


def test_sixteen_bit_png_grey_one_bit_and_cmyk():
    assert (
        decode(stored(Image.fromarray(np.full((9, 9), 25_700, np.uint16)), "PNG"), 9)[0, 0].tolist()
        == [100] * 3
    )
    assert decode(stored(Image.new("1", (9, 9), 1), "PNG"), 9).min() == 255
    assert decode(stored(Image.new("CMYK", (9, 9), (0, 0, 0, 255)), "JPEG"), 9).max() < 40


def test_animations_give_their_first_frame():
    stream = stored(
        Image.new("RGB", (9, 9), "white"),
        "GIF",
        save_all=True,
        append_images=[Image.new("RGB", (9, 9), "black")],
    )
    assert decode(stream, 9).min() == 255


def test_broken_files_are_refused_by_name(tmp_path: Path):
    whole = stored(Image.effect_noise((64, 64), 80).convert("RGB"), "JPEG").getvalue()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut.jpg", "text.jpg", "empty.png"):
        with pytest.raises(BadInput, match=name):
            decode(tmp_path / name, 8)


def test_kinds_that_are_not_listed_are_refused():
    with pytest.raises(BadInput, match="no image of a kind read here"):
        decode(stored(Image.new("RGB", (9, 9)), "PPM"), 8)


@pytest.mark.parametrize("edge", [8_001, 20_000])
def test_bombs_are_refused_from_the_header(edge: int):
    """A 1-bit image of that many pixels is a few kilobytes on disk."""
    bomb = stored(Image.new("1", (edge, edge)), "PNG")
    assert len(bomb.getvalue()) < 200_000
    with pytest.raises(BadInput, match=f"{MAX_PIXELS:,}"):
        decode(bomb, 8, "bomb.png")


def test_from_grey_and_sizes():
    assert from_grey(np.full((8, 8), 7), 16).tolist() == np.full((16, 16, 3), 7).tolist()
    for size in (0, 7, 513, 8.0):
        with pytest.raises(BadInput, match="from 8 to 512"):
            check_size(size)
