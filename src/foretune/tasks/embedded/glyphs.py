"""Rendered characters: letters, typefaces and scripts, drawn from the fonts that a package carries.

Each image is a function of its key alone (a generator seeded by the key's SHA-256), so any subset
shows the same pictures. Ink, paper, place, scale and angle vary, and a little noise is added:
without them every image of a class would be the same.
"""

import hashlib
import io
import zipfile
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from foretune.errors import BadInput
from foretune.packages import member
from foretune.tasks.embedded.photos import Album

POINTS = 64  # fonts are drawn at this size and scaled down
MAX_TILT_DEGREES = 5.0
LATIN = "trdg/fonts/latin"
SOURCE_HAN = "trdg/fonts/cn/SourceHanSans-Normal.ttf"

# One upright text face of each family; DroidSans and OpenSans are by one designer and hard to tell
# apart
FACES = (
    "Aller_Rg", "AmaticSC-Regular", "BEBAS___", "Capture_it", "CaviarDreams", "DroidSans",
    "FFF_Tusj", "Lato-Regular", "OpenSans-Regular", "Pacifico", "Raleway-Regular", "Roboto-Regular",
    "RobotoCondensed-Regular", "SEASRN__", "Sansation-Regular", "Walkway_Bold",
)  # fmt: skip
FONT_FAMILIES = (
    "Aller", "Amatic", "BEBAS", "Capture", "Caviar", "Droid", "FFF", "Lato", "OpenSans", "Pacifico",
    "Raleway", "Roboto", "SEASRN", "Sansation", "Walkway",
)  # fmt: skip

# Unicode ranges
SCRIPTS = {
    "bopomofo": (0x3105, 0x3129),
    "cyrillic": (0x0410, 0x044F),
    "greek": (0x0391, 0x03C9),
    "han": (0x4E00, 0x9FA5),
    "hangul": (0xAC00, 0xD7A3),
    "hiragana": (0x3041, 0x3096),
    "katakana": (0x30A1, 0x30FA),
    "latin": (0x0041, 0x007A),
}

# The first consonant of the Hangul syllables in Unicode order: one every 21 vowels x 28 finals =
# 588 syllables
INITIALS = (
    "g",
    "gg",
    "n",
    "d",
    "dd",
    "r",
    "m",
    "b",
    "bb",
    "s",
    "ss",
    "silent",
    "j",
    "jj",
    "ch",
    "k",
    "t",
    "p",
    "h",
)
SYLLABLES_PER_INITIAL = 588

# CJK Unified Ideographs are sorted by Kangxi radical: a radical's characters reach from itself to
# the next radical
RADICALS = {
    "person": "人儿", "mouth": "口囗", "earth": "土士", "woman": "女子", "heart": "心戈",
    "hand": "手支", "tree": "木欠", "water": "水火", "fire": "火爪", "bamboo": "竹米",
    "silk": "糸缶", "grass": "艸虍", "insect": "虫血", "speech": "言谷", "metal": "金長",
}  # fmt: skip


def generator(key: str) -> np.random.Generator:
    """The generator that belongs to a key."""
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    )


def ink(mask: Image.Image, rng: np.random.Generator, size: int) -> np.ndarray:
    """Lay a grey mask (255 = ink) on paper, uint8 (size, size, 3).

    Tilt, scale and place are random, the ink is darker than the paper.
    """
    mask = mask.rotate(
        rng.uniform(-MAX_TILT_DEGREES, MAX_TILT_DEGREES), Image.Resampling.BILINEAR, expand=True
    )
    mask = mask.crop(mask.getbbox())
    scale = rng.uniform(0.75, 0.95) * size / max(mask.size)
    width, height = (max(1, round(edge * scale)) for edge in mask.size)
    canvas = Image.new("L", (size, size))
    place = (int(rng.integers(0, size - width + 1)), int(rng.integers(0, size - height + 1)))
    canvas.paste(mask.resize((width, height), Image.Resampling.BILINEAR), place)
    dark, light = rng.uniform(0, 110, 3), rng.uniform(145, 255, 3)
    cover = np.asarray(canvas, dtype=np.float64)[..., None] / 255
    pixels = cover * dark + (1 - cover) * light + rng.normal(0, rng.uniform(0, 6), (size, size, 1))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def stamp(text: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """A tight grey mask of a text."""
    left, top, right, bottom = font.getbbox(text)
    mask = Image.new("L", (max(1, int(right - left)), max(1, int(bottom - top))))
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=font)
    if mask.getbbox() is None:
        raise BadInput(f"{font.getname()}: draws nothing for {text!r}")
    return mask


def _font(archive: zipfile.ZipFile | None, name: str) -> ImageFont.FreeTypeFont:
    if archive is None:
        raise BadInput("this reader needs the package with the fonts")
    return ImageFont.truetype(
        io.BytesIO(member(archive, name)), POINTS, layout_engine=ImageFont.Layout.BASIC
    )


def _album(
    names: Sequence[str],
    rows: Sequence[tuple[str, int]],
    read: Callable[[str], np.ndarray],
    groups: Sequence[str] | None = None,
) -> Album:
    """Rows of (key, class)."""
    keys = [key for key, _ in rows]
    return Album(
        tuple(names),
        np.array([label for _, label in rows], dtype=np.int64),
        keys,
        lambda row: read(keys[row]),
        groups,
    )


def letters(archive: zipfile.ZipFile | None, size: int) -> Album:
    """Which letter, capital or small, in any of the Latin fonts.

    A family of fonts is one group: the test shows unseen ones.
    """
    names = sorted(
        name
        for name in (archive.namelist() if archive else ())
        if name.startswith(LATIN) and name.endswith(".ttf")
    )
    fonts: dict[str, ImageFont.FreeTypeFont] = {}
    alphabet = "abcdefghijklmnopqrstuvwxyz"
    rows = [
        (f"{name} {case}", i)
        for name in names
        for i, letter in enumerate(alphabet)
        for case in (letter, letter.upper())
    ]

    def read(key: str) -> np.ndarray:
        name, letter = key.rsplit(" ", 1)
        if name not in fonts:
            fonts[name] = _font(archive, name)
        return ink(stamp(letter, fonts[name]), generator(key), size)

    return _album(alphabet, rows, read, [family(key.split(" ")[0]) for key, _ in rows])


def family(name: str) -> str:
    """The family of a font, by the beginning of its file name."""
    file = name.rsplit("/", 1)[-1]
    return next((prefix for prefix in FONT_FAMILIES if file.startswith(prefix)), file)


def faces(archive: zipfile.ZipFile | None, size: int, per_class: int = 90) -> Album:
    """Which of 16 typefaces: three random letters of it."""
    fonts = [_font(archive, f"{LATIN}/{name}.ttf") for name in FACES]
    rows = [
        (f"{name} {number}", label)
        for label, name in enumerate(FACES)
        for number in range(per_class)
    ]
    label_of = dict(rows)

    def read(key: str) -> np.ndarray:
        rng = generator(key)
        text = "".join(rng.choice(list("ABDEGHKMNPQRSTabdefghikmnpqrstuy"), 3))
        return ink(stamp(text, fonts[label_of[key]]), rng, size)

    return _album([name.split("-")[0].split("_")[0] for name in FACES], rows, read)


def scripts(archive: zipfile.ZipFile | None, size: int, per_class: int = 180) -> Album:
    """Which of eight scripts, in one typeface: two random characters."""
    font = _font(archive, SOURCE_HAN)
    absent = bytes(font.getmask("\U0010ffff"))  # the box that stands for a missing glyph
    points = {
        name: [
            point
            for point in range(low, high + 1)
            if chr(point).isalpha() and bytes(font.getmask(chr(point))) != absent
        ]
        for name, (low, high) in SCRIPTS.items()
        if name not in ("han", "hangul")
    }
    points |= {
        name: list(range(SCRIPTS[name][0], SCRIPTS[name][1] + 1)) for name in ("han", "hangul")
    }  # complete in this font
    rows = [
        (f"{name} {number}", label)
        for label, name in enumerate(SCRIPTS)
        for number in range(per_class)
    ]

    def read(key: str) -> np.ndarray:
        rng = generator(key)
        return ink(
            stamp(
                "".join(chr(point) for point in rng.choice(points[key.split(maxsplit=1)[0]], 2)),
                font,
            ),
            rng,
            size,
        )

    return _album(list(SCRIPTS), rows, read)


def hangul(archive: zipfile.ZipFile | None, size: int) -> Album:
    """With which of 19 consonants a Korean syllable begins; every syllable occurs once."""
    font = _font(archive, SOURCE_HAN)
    rows = [
        (chr(0xAC00 + number), number // SYLLABLES_PER_INITIAL)
        for number in range(len(INITIALS) * SYLLABLES_PER_INITIAL)
    ]
    return _album(INITIALS, rows, lambda key: ink(stamp(key, font), generator(key), size))


def radicals(archive: zipfile.ZipFile | None, size: int) -> Album:
    """Under which of 15 radicals a Chinese character is listed; every character occurs once."""
    font = _font(archive, SOURCE_HAN)
    rows = [
        (chr(point), label)
        for label, pair in enumerate(RADICALS.values())
        for point in range(ord(pair[0]), ord(pair[1]))
    ]
    return _album(list(RADICALS), rows, lambda key: ink(stamp(key, font), generator(key), size))
