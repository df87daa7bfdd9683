"""Collect runs of one space under eight settings: 6 tasks x 24 configurations x 2 networks x 2 image
sizes x 2 numbers of training images, 4 epochs each.

    python -m papers.settings.collect --data DATA [--out data/meta/settings] [--minutes M]

The question is what runs of other settings are worth (`papers.settings.worth`), so every setting is
a meta-dataset of its own in a folder of `--out`, with the same tasks and configurations. The network
is frozen up to its last blocks at least, which makes the 1,152 trainings cheap. What is finished is
in the files within seconds; the same command goes on where it was stopped. The first half of the
configurations is trained under all settings before the second.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from foretune.errors import BadInput
from foretune.running.collection import Block, Collection
from foretune.space.catalogue import OPTIMIZERS, transfer_space
from foretune.space.space import Config, Space
from foretune.tasks.task import Task
from foretune.training.recipe import Settings
from papers.command import collect, collecting, command

# of six sources
TASKS = (
    "chess_photos",
    "emoji_vendor",
    "letters",
    "radio_galaxies",
    "solar_grade",
    "textiles",
)
NETWORKS = ("mobilenet_v2", "efficientnet_lite0")
SIZES = (32, 48)
IMAGES = (100, 300)
RATES = (1e-4, 1e-3, 1e-2, 1e-1)
EPOCHS = 4
STAGES = (12, 24)  # configurations that all settings have before the next


def configurations() -> list[Config]:
    """The 24 configurations of every setting: rate, optimizer and depth, without augmentation."""
    return [
        {"learning_rate": r, "optimizer": o, "finetune": d, "augmentation": "none"}
        for r, o, d in product(RATES, OPTIMIZERS, ("head", "last_blocks"))
    ]


def all_settings() -> dict[str, Settings]:
    """The eight settings by the name of their folder."""
    return {
        f"{network}-{size}px-{images}": Settings(
            network=network,
            image_size=size,
            train_limit=images,
            max_epoch=EPOCHS,
            device="cpu",
        )
        for network, size, images in product(NETWORKS, SIZES, IMAGES)
    }


def open_collection(out: Path, settings: Settings, tasks: Sequence[Task]) -> Collection:
    """The collection of one setting. Raises `BadInput` where its folder has curves of other images
    or of another trainer.
    """
    source = "trained by papers.settings.collect"
    found = Collection(out, Space(transfer_space()), configurations(), settings, source=source)
    for task in tasks:
        if different := found.describe(task.name, task.hash, task.source, task.licence):
            raise BadInput(f"{different}; name another folder")
    return found


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Collect what is missing; exit code 0 when all is there, 130 when stopped, 2 on bad input."""
    out = Path("data/meta/settings")
    given = collecting("papers.settings.collect", "folder of prepared tasks", out).parse_args(argv)
    end = time.monotonic() + given.minutes * 60
    files = {name: given.data / f"{name}.npz" for name in TASKS}
    if lacking := [name for name, file in files.items() if not file.is_file()]:
        raise BadInput(
            f"{given.data} lacks {', '.join(lacking)}: python -m foretune.pipeline.tasks "
            "prepares them"
        )
    tasks = [Task.load(file) for file in files.values()]

    def tables() -> Iterator[tuple[str, Collection, list[Block]]]:
        for stage, (name, settings) in product(STAGES, all_settings().items()):
            table = open_collection(given.out / name, settings, tasks)
            yield f"{name}, {stage} configurations", table, table.missing(list(TASKS), stage)

    return collect(tables(), files, given.workers, end)


if __name__ == "__main__":
    sys.exit(main())
