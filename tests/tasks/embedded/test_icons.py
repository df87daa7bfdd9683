"""Icons: the filling of SVG paths, and labels from names."""

import io
import zipfile

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.tasks.embedded import icons

SQUARE = '<svg viewBox="0 0 24 24"><path d="M0 0h12v12H0z"/></svg>'
# the inner square runs backwards
RING = '<svg viewBox="0 0 24 24"><path d="M2 2H22V22H2Z M8 8V16H16V8Z"/></svg>'
DISC = '<svg viewBox="0 0 20 20"><path d="M10 0a10 10 0 1 0 0 20a10 10 0 1 0 0-20z"/></svg>'


def archive(names: list[str]) -> zipfile.ZipFile:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name in names:
            made.writestr(f"{icons.FOLDER}/{name}", SQUARE)
    return zipfile.ZipFile(stream)


def test_a_square_fills_its_quarter_top_left():
    mask = np.asarray(icons.rasterise(SQUARE, 48))
    assert mask[:23, :23].min() == 255
    assert mask[25:].max() == 0
    assert mask[:, 25:].max() == 0


def test_holes_stay_open():
    mask = np.asarray(icons.rasterise(RING, 48))
    assert mask[24, 24] == 0
    assert mask[8, 8] == 255


def test_arcs_have_the_area_of_a_disc():
    assert np.asarray(icons.rasterise(DISC, 100)).mean() / 255 == pytest.approx(np.pi / 4, abs=0.01)


def test_a_wide_view_box_is_centred():
    mask = np.asarray(
        icons.rasterise('<svg viewBox="0 0 40 20"><path d="M0 0H40V20H0Z"/></svg>', 40)
    )
    assert mask[:9].max() == 0
    assert mask[11:29].min() == 255
    assert mask[31:].max() == 0


def test_what_is_not_a_filled_path_is_refused():
    with pytest.raises(BadInput, match="view box or a path"):
        icons.rasterise('<svg viewBox="0 0 9 9"><circle r="3"/></svg>')


def test_labels_come_from_folders_and_names():
    made = archive(
        [
            "material/account-plus.svg",
            "material/account-plus-outline.svg",
            "material/zebra.svg",
            "octicons/file-16.svg",
            "octicons/file-24.svg",
        ]
    )
    families = icons.families(made, 16)
    assert families.class_names == ("material", "octicons")
    assert families.labels.tolist() == [0, 0, 0, 1, 1]
    assert families.groups is not None
    assert families.groups[3] == families.groups[4] == "file"
    subjects = icons.subjects(made, 16)
    assert (subjects.class_names, subjects.groups) == (
        ("account",),
        ["account-plus", "account-plus"],
    )
    badges = icons.badges(made, 16)
    assert (badges.class_names, badges.groups) == (("plus",), ["account", "account"])
    assert badges.read(0).shape == (16, 16, 3)
