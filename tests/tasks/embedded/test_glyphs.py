"""Rendered characters, with a font that matplotlib ships in place of the packaged ones."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFont

from foretune.errors import BadInput
from foretune.tasks.embedded import glyphs


def font_bytes() -> bytes:
    from matplotlib import get_data_path

    return (Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf").read_bytes()


@pytest.fixture(scope="module")
def archive() -> zipfile.ZipFile:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name in (*(f"{glyphs.LATIN}/{face}.ttf" for face in glyphs.FACES), glyphs.SOURCE_HAN):
            made.writestr(name, font_bytes())
    return zipfile.ZipFile(stream)


def test_ink_is_a_function_of_its_key_and_shows_the_mask():
    mask = Image.new("L", (40, 20), 255)
    first, again, other = (glyphs.ink(mask, glyphs.generator(key), 32) for key in ("a", "a", "b"))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (32, 32, 3)
    assert first.std() > 20  # ink stands out from paper


def test_stamp_is_tight_and_refuses_nothing():
    font = ImageFont.truetype(io.BytesIO(font_bytes()), 64)
    mask = glyphs.stamp("A", font)
    left, top, right, bottom = mask.getbbox()
    assert (left, top) == (0, 0)
    assert mask.width - right <= 1
    assert mask.height - bottom <= 1
    with pytest.raises(BadInput, match="draws nothing"):
        glyphs.stamp(" ", font)


def test_letters_join_both_cases_and_group_by_family(archive: zipfile.ZipFile):
    album = glyphs.letters(archive, 16)
    assert len(album.labels) == len(glyphs.FACES) * 52
    assert np.bincount(album.labels).tolist() == [32] * 26
    assert album.groups is not None
    assert (
        glyphs.family("trdg/fonts/latin/RobotoCondensed-Bold.ttf")
        == glyphs.family("Roboto-Thin.ttf")
        == "Roboto"
    )
    assert len(set(album.groups)) == 15  # Roboto and its condensed cut are one family
    assert album.read(0).shape == (16, 16, 3)


def test_faces_and_scripts_have_equal_classes(archive: zipfile.ZipFile):
    faces = glyphs.faces(archive, 16, per_class=4)
    assert np.bincount(faces.labels).tolist() == [4] * 16
    assert faces.read(63).shape == (16, 16, 3)
    scripts = glyphs.scripts(archive, 16, per_class=3)
    assert scripts.class_names[7] == "latin"
    assert np.array_equal(scripts.read(23), glyphs.scripts(archive, 16, per_class=3).read(23))


def test_hangul_classes_follow_the_composition_of_unicode(archive: zipfile.ZipFile):
    album = glyphs.hangul(archive, 16)
    label = dict(zip(album.keys, album.labels, strict=True))
    assert len(label) == 11_172
    assert [album.class_names[label[syllable]] for syllable in "가나하한아"] == [
        "g",
        "n",
        "h",
        "h",
        "silent",
    ]


def test_radicals_follow_the_order_of_unicode(archive: zipfile.ZipFile):
    album = glyphs.radicals(archive, 16)
    label = dict(zip(album.keys, album.labels, strict=True))
    assert [album.class_names[label[character]] for character in "休唱桜海鉄語"] == [
        "person",
        "mouth",
        "tree",
        "water",
        "metal",
        "speech",
    ]
    assert "馬" not in label
