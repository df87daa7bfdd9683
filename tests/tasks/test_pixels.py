"""One image file of any kind to a square of RGB pixels."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from foretune.errors import BadInput
from foretune.tasks.pixels import (
    CROPS,
    MAX_PIXELS,
    MEAN_COLOUR,
    check_crop,
    check_size,
    decode,
    from_grey,
)


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
    for size in (0, 7, 1025, 8.0):
        with pytest.raises(BadInput, match="from 8 to 1024"):
            check_size(size)


SHAPES = [(301, 200), (200, 301), (224, 224), (37, 91), (640, 479), (65, 64), (128, 300)]


def picture(shape: tuple[int, int], seed: int = 0) -> Image.Image:
    """A smooth picture of that width and height with some noise, as a photograph has."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(shape, Image.Resampling.BICUBIC)).astype(int)
    return Image.fromarray((smooth + rng.integers(-9, 9, smooth.shape)).clip(0, 255).astype("u1"))


@pytest.mark.parametrize("size", [64, 128, 224])
@pytest.mark.parametrize("shape", SHAPES)
def test_pixels_are_those_of_torchvisions_resize_and_center_crop(shape: tuple[int, int], size: int):
    from torchvision import transforms

    image = picture(shape)
    for kind in ("PNG", "JPEG"):
        file = stored(image, kind)
        seen = transforms.Compose([transforms.Resize(size), transforms.CenterCrop(size)])
        want = np.asarray(seen(Image.open(file).convert("RGB")))
        # a JPEG of four times the size or more is decoded smaller, which rounds otherwise
        if kind == "PNG" or min(shape) < 4 * size:
            assert np.array_equal(decode(file, size), want)


def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same():
    from torchvision import transforms

    file = stored(picture((2000, 1500)), "JPEG", quality=90)
    seen = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(64)])
    want = np.asarray(seen(Image.open(file).convert("RGB"))).astype(int)
    error = np.abs(decode(file, 64).astype(int) - want)
    assert error.mean() < 1 and error.max() < 16


@pytest.mark.parametrize("shape", [(40, 20), (20, 40)])
def test_squash_keeps_all_of_a_picture_and_pad_its_shape(shape: tuple[int, int]):
    from torchvision import transforms

    image = picture(shape)
    squashed = decode(stored(image, "PNG"), 16, crop=CROPS["squash"])
    assert np.array_equal(squashed, np.asarray(transforms.Resize((16, 16))(image)))
    padded = decode(stored(image, "PNG"), 16, crop=CROPS["pad"])
    if shape[0] < shape[1]:
        padded = padded.transpose(1, 0, 2)
    # half as high as wide: 8 of 16 rows are picture, the four above and below are border
    border = np.concatenate([padded[:4], padded[12:]])
    assert (border == MEAN_COLOUR).all()
    small = np.asarray(image.resize([s * 16 // 40 for s in shape], Image.Resampling.BILINEAR))
    assert np.array_equal(padded[4:12], small if shape[0] > shape[1] else small.transpose(1, 0, 2))


def test_a_crop_that_there_is_not_is_refused():
    with pytest.raises(BadInput, match="crop='centre' must be one of center, squash, pad"):
        check_crop("centre")


def test_a_strip_is_scaled_only_where_it_is_seen():
    """Scaled as a whole, it would be 224 x 8,960,000 pixels."""
    strip = stored(Image.new("1", (320_000, 8), 1), "PNG")
    assert decode(strip, 224).min() == 255


def test_avif_is_read():
    pixels = decode(stored(halves("RGB", (200, 10, 10), (10, 10, 200)), "AVIF"), 8)
    assert np.abs(pixels[4, 1].astype(int) - (200, 10, 10)).max() < 30


HEIC = b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic"


@pytest.mark.parametrize("name", ["a.heic", "phone.jpg"])
def test_heic_names_the_extra_that_reads_it(tmp_path: Path, name: str, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / name).write_bytes(HEIC)
    with pytest.raises(BadInput, match=rf"{name}.* HEIC or HEIF needs .*foretune\[heif\]"):
        decode(tmp_path / name, 8)


def test_heic_is_read_with_the_extra(tmp_path: Path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    image = halves("RGB", (200, 10, 10), (10, 10, 200), (64, 64))
    pillow_heif.from_pillow(image).save(tmp_path / "a.heic", quality=90)
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.heic").read_bytes())
    for name in ("a.heic", "a.jpg"):
        pixels = decode(tmp_path / name, 8)
        assert np.abs(pixels[4, 1].astype(int) - (200, 10, 10)).max() < 30
    (tmp_path / "b.heic").write_bytes(HEIC)
    with pytest.raises(BadInput, match=r"b\.heic"):
        decode(tmp_path / "b.heic", 8)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("BMP", {}), ("GIF", {}),
        ("WEBP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
    ],
)  # fmt: skip
def test_a_file_and_a_stream_give_the_same_pixels(kind: str, how: dict, tmp_path: Path):
    """Larger than what is read in one piece, turned where the format can say so."""
    noise = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6 if kind in ("JPEG", "WEBP") else 1
    file = tmp_path / "picture"
    Image.fromarray(noise).save(file, kind, exif=exif, **how)
    stream = io.BytesIO(file.read_bytes())
    found = decode(file, 100)
    assert np.array_equal(found, decode(stream, 100)) and found.std() > 5
