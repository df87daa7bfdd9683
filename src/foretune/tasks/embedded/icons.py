"""Rendered icons: SVG drawings of four icon families, filled by matplotlib's Agg.

Only what these files use is read: a view box and the `d` of each path. Anything else (shapes,
strokes, transforms) is left out.
"""

import re
import zipfile
from collections.abc import Sequence

import numpy as np
from PIL import Image

from foretune.errors import BadInput, extra
from foretune.packages import member
from foretune.tasks.embedded.glyphs import generator, ink
from foretune.tasks.embedded.photos import Album

FOLDER = "material/templates/.icons"
CANVAS = 128  # pixels that an icon is drawn at, then scaled down
MAX_SVG_CHARACTERS = 8_000  # intricate brand logos are unreadable at 64 px and slow to fill
FAMILIES = {
    "fontawesome/brands": "fontawesome brands",
    "fontawesome/regular": "fontawesome regular",
    "fontawesome/solid": "fontawesome solid",
    "material": "material",
    "octicons": "octicons",
    "simple": "simple icons",
}
SUBJECTS = (
    "account", "arrow", "battery", "book", "calendar", "car", "clipboard", "cloud", "file",
    "folder", "format", "home", "message", "phone", "printer", "shield",
)  # fmt: skip
BADGES = (
    "alert",
    "check",
    "clock",
    "cog",
    "edit",
    "lock",
    "minus",
    "off",
    "plus",
    "remove",
    "search",
    "star",
)


def rasterise(svg: str, canvas: int = CANVAS) -> Image.Image:
    """The filled paths of an SVG as a grey mask (255 = filled).

    The longer side of its view box is as wide as the canvas.

    Raises:
        BadInput: no view box or no path.
    """
    with extra("pipeline", "drawing icons"):
        from fontTools.pens.basePen import BasePen  # type: ignore[import-untyped]
        from fontTools.svgLib.path import parse_path  # type: ignore[import-untyped]
        from matplotlib.backends.backend_agg import RendererAgg
        from matplotlib.path import Path
        from matplotlib.transforms import Affine2D

    class Outline(BasePen):
        """Collects what a path draws as matplotlib vertices and codes."""

        def __init__(self) -> None:
            super().__init__(None)
            self.points: list[tuple[float, float]] = []
            self.codes: list[int] = []

        def _add(self, code: int, *points: tuple[float, float]) -> None:
            self.points += points
            self.codes += [code] * len(points)

        def _moveTo(self, pt: tuple[float, float]) -> None:
            self._add(int(Path.MOVETO), pt)

        def _lineTo(self, pt: tuple[float, float]) -> None:
            self._add(int(Path.LINETO), pt)

        def _curveToOne(
            self, pt1: tuple[float, float], pt2: tuple[float, float], pt3: tuple[float, float]
        ) -> None:
            self._add(int(Path.CURVE4), pt1, pt2, pt3)

        def _closePath(self) -> None:
            self._add(int(Path.CLOSEPOLY), (0.0, 0.0))

    box = re.search(r'viewBox="([-\d.]+)[ ,]+([-\d.]+)[ ,]+([\d.]+)[ ,]+([\d.]+)"', svg)
    paths = re.findall(r'<path[^>]*?\sd="([^"]+)"', svg)
    if box is None or not paths:
        raise BadInput(f"an SVG without a view box or a path: {svg[:80]!r}")
    left, top, width, height = (float(value) for value in box.groups())
    outline = Outline()
    for path in paths:
        parse_path(path, outline)
    scale = canvas / max(width, height)
    # Agg's y axis points up inside the renderer, SVG's points down
    place = (
        Affine2D()
        .translate(-left - width / 2, -top - height / 2)
        .scale(scale, -scale)
        .translate(canvas / 2, canvas / 2)
    )
    renderer = RendererAgg(canvas, canvas, 72)
    context = renderer.new_gc()
    context.set_linewidth(0)
    renderer.draw_path(context, Path(outline.points, outline.codes), place, (1.0, 1.0, 1.0))
    return Image.fromarray(np.asarray(renderer.buffer_rgba())[..., 3].copy())


def _listing(archive: zipfile.ZipFile | None) -> list[tuple[str, str, str]]:
    """(member, family folder, icon name) of icons that are nothing but short filled paths."""
    if archive is None:
        raise BadInput("this reader needs the package with the icons")
    found = []
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        match = re.fullmatch(rf"{re.escape(FOLDER)}/(.+)/([^/]+)\.svg", info.filename)
        if match and match[1] in FAMILIES and info.file_size <= MAX_SVG_CHARACTERS:
            found.append((info.filename, match[1], match[2]))
    return found


def _album(
    archive: zipfile.ZipFile | None, rows: Sequence[tuple[str, str, str]], size: int
) -> Album:
    """Rows of (member, class, group)."""
    if archive is None:
        raise BadInput("this reader needs the package with the icons")
    names = tuple(sorted({label for _, label, _ in rows}))
    keys = [key for key, _, _ in rows]

    def read(row: int) -> np.ndarray:
        return ink(rasterise(member(archive, keys[row]).decode()), generator(keys[row]), size)

    labels = np.array([names.index(label) for _, label, _ in rows], dtype=np.int64)
    return Album(names, labels, keys, read, [group for _, _, group in rows])


def families(archive: zipfile.ZipFile | None, size: int) -> Album:
    """Whose style an icon is drawn in; icons of one name are one group."""
    rows = []
    for key, folder, name in _listing(archive):
        rows.append((key, FAMILIES[folder], re.sub(r"-\d+$", "", name)))
    return _album(archive, rows, size)


def subjects(archive: zipfile.ZipFile | None, size: int) -> Album:
    """What a Material Design icon shows: the first word of its name.

    An icon and its outline are one group.
    """
    rows = []
    for key, folder, name in _listing(archive):
        if folder == "material" and name.split("-")[0] in SUBJECTS:
            rows.append((key, name.split("-")[0], name.removesuffix("-outline")))
    return _album(archive, rows, size)


def badges(archive: zipfile.ZipFile | None, size: int) -> Album:
    """Which small badge a Material Design icon carries: the last word of its name.

    Icons of one subject are one group.
    """
    rows = []
    for key, folder, name in _listing(archive):
        words = name.removesuffix("-outline").removesuffix("-variant").split("-")
        if folder == "material" and len(words) > 1 and words[-1] in BADGES:
            rows.append((key, words[-1], words[0]))
    return _album(archive, rows, size)
