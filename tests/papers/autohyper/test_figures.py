"""The pictures are well-formed, and show what the tables hold."""

import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest

from papers.autohyper import figures as af

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def frames():
    """Two tasks, two optimizers, two networks."""
    cells = [
        (t, n, o) for t in ("a", "b<c") for n in ("plain", "residual") for o in ("adam", "sls")
    ]
    where = [
        dict(zip(("task", "network", "optimizer"), c, strict=True)) | {"variant": "paper"}
        for c in cells
    ]
    rates = [
        {**w, "chosen": 0.01, "suggested": 0.0003, "trials": 10 + k} for k, w in enumerate(where)
    ]
    trials = [
        {**w, "rate": rate, "z": z, "train_loss": 2 * z, "product": z / 2}
        for w in where
        for rate, z in ((1e-4, 1.0), (0.01, 0.4), (0.1, float("nan")))
    ]
    surface = [
        {"task": "a", "rate": r, "batch": b, "z": z, "train_loss": 1.0}
        for r, b, z in ((1e-3, 8, 0.25), (1e-2, 8, 0.5), (1e-2, 16, 0.75))
    ]
    long = [
        {"network": "plain", "optimizer": "adam", "rate": r, "epoch": e, "z": 1 / e}
        for r in (0.1, 0.01)
        for e in (1, 2)
    ]
    named = {"learning_rates": rates, "responses": trials, "batch_size": surface, "long": long}
    return {name: pd.DataFrame(rows) for name, rows in named.items()}


def test_every_picture_is_well_formed_svg(frames):
    pictures = af.pictures(frames)
    assert set(pictures) == {
        "figure1a",
        "figure1b",
        "figure2-plain",
        "figure2-residual",
        "figure3",
        "figure4",
        "figure6",
        "figure7",
    }
    for text in pictures.values():
        assert ET.fromstring(text).tag == f"{SVG}svg"
        assert "nan" not in text.lower().replace("</", "") and "script" not in text


def test_chosen_and_suggested_rates_are_marked(frames):
    root = ET.fromstring(af.pictures(frames)["figure2-plain"])
    titles = [t.text for t in root.iter(f"{SVG}title")]
    assert titles.count("suggested rate") == 2  # one in each optimizer's panel
    assert sum("chosen rate 0.01" in t for t in titles) == 4
    panel = next(s for s in root.iter(f"{SVG}svg") if s is not root)
    dots = [c for c in panel.iter(f"{SVG}circle") if "dot" in c.get("class")]
    marks = [p for p in panel.iter(f"{SVG}path") if "dash1" in p.get("class", "")]
    assert len(dots) == 2 and len(marks) == 1
    suggested = float(re.match(r"M([\d.]+)", marks[0].get("d")).group(1))
    assert suggested < float(dots[0].get("cx"))  # 0.0003 stands left of 0.01


def test_the_map_shades_by_z(frames):
    root = ET.fromstring(af.figure_6(frames["batch_size"]))
    shades = [
        float(r.get("fill-opacity")) for r in root.iter(f"{SVG}rect") if r.get("fill-opacity")
    ]
    assert shades == pytest.approx([0.19, 0.38, 0.56], abs=0.01)


def test_only_what_is_there_is_drawn(frames):
    assert af.pictures({}) == {}
    assert set(af.pictures({"batch_size": frames["batch_size"]})) == {"figure6"}
