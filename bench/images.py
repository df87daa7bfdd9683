"""Reading images: seconds against torchvision's ImageFolder and DataLoader, and private memory.

    python bench/images.py --pictures data/images/chess_photos.npz [--count 2500]
        [--sizes 64,128,224]
        [--repeats 3] [--many 50000] [--keep FOLDER]

`--count` JPEG files of 500 x 375 pixels are made from the pictures of a stored task, scaled up and
with noise, so that their files are as large as a camera's. Then, by turns and with as many workers
as there are processors,

* foretune decodes the folder into a task (pixels, content hashes, split), in a process of its own
  that has imported what it needs;
* torchvision's `ImageFolder` with `Resize`, `CenterCrop` and `PILToTensor` is read once through a
  `DataLoader`.

Prints the median of the repeats and its range, in seconds of wall-clock and of all processors
together (the figure to trust on a machine that does other things too), and the ratios, whose aim is
at most 1.2. JPEGs of which less than a quarter is needed are decoded smaller by foretune, which is
why small sizes cost less.

With `--many`, as many images (hard links to the same files) are decoded at 224 px and read once as
a trial reads them, in batches at random; prints the peak of the private memory (USS) of the process
that decodes and of the one that reads, whose aim is 2 GiB. Both need `--many` x 147 KiB of disk.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from foretune.tasks.loading import load_task
from foretune.tasks.reading import processors

PICTURE = (500, 375)
BATCH = 64


def make_photographs(pictures: Path, folder: Path, count: int) -> None:
    """Write `count` JPEG files into class folders."""
    with np.load(pictures, allow_pickle=False) as stored:
        images, labels = stored["images"], stored["labels"]
    rng = np.random.default_rng(0)
    for number in range(count):
        row = number % len(images)
        place = folder / f"class{int(labels[row])}"
        place.mkdir(parents=True, exist_ok=True)
        shape = PICTURE if number % 2 else PICTURE[::-1]
        scaled = np.asarray(Image.fromarray(images[row]).resize(shape, Image.Resampling.BICUBIC))
        noisy = scaled + rng.normal(0, 6, scaled.shape)
        photo = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        photo.save(place / f"{number:05}.jpg", quality=90)


def peak_private(work: Callable[[], object]) -> tuple[float, int]:
    """Seconds that `work` takes, and the most private memory (USS, bytes) during it."""
    process, done, peak = psutil.Process(), threading.Event(), [0]

    def watch() -> None:
        while not done.wait(0.1):
            peak[0] = max(peak[0], process.memory_full_info().uss)

    thread = threading.Thread(target=watch)
    thread.start()
    began = time.perf_counter()
    try:
        work()
    finally:
        seconds = time.perf_counter() - began
        done.set()
        thread.join()
    return seconds, peak[0]


def busy() -> float:
    """Seconds of all processors that this process and its children have spent."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def read_ours(folder: Path, size: int) -> None:
    """Read into a task."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as data:
        task = load_task(folder, data, size)
        _ = task.hash


def read_theirs(folder: Path, size: int) -> None:
    """One pass over ImageFolder by a DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    seen = transforms.Compose(
        [transforms.Resize(size), transforms.CenterCrop(size), transforms.PILToTensor()]
    )
    loader = DataLoader(ImageFolder(str(folder), seen), BATCH, num_workers=processors())
    count = sum(len(labels) for _, labels in loader)
    assert count == len(list(folder.glob("*/*")))


def decode_many(folder: Path, data: Path) -> None:
    """Decode into a file, and keep the task as a study does."""
    task = load_task(folder, data, 224, memory=0)
    task.save(data / "task.npz")


def read_many(data: Path) -> None:
    """Read the training part as a trial does: a random order, `BATCH` images at a time."""
    import torch

    from foretune.tasks.task import Task
    from foretune.training.activations import Part, shared
    from foretune.training.augmentation import to_float

    task = Task.load(data / "task.npz")
    part = Part(task, "train", limit=0, size=224, device=torch.device("cpu"), cache=shared())
    for batch in torch.randperm(len(part)).split(BATCH):
        to_float(part.images[batch])


def apart(*arguments: str) -> dict[str, float]:
    """This file in a process of its own; what it prints last."""
    run = subprocess.run(
        [sys.executable, __file__, "--only", *arguments], stdout=subprocess.PIPE, check=True
    )
    return dict(json.loads(run.stdout.splitlines()[-1]))


def only(what: str, folder: Path, argument: str) -> None:
    """One measurement, printed as JSON."""
    warnings.simplefilter("ignore")
    match what:
        case "ours" | "theirs":
            read = read_ours
            if what == "theirs":
                import torchvision.datasets  # noqa: F401  loaded before the clock starts

                read = read_theirs
            began, before = time.perf_counter(), busy()
            read(folder, int(argument))
            found = {"wall": time.perf_counter() - began, "cpu": busy() - before}
        case "decode":
            seconds, peak = peak_private(lambda: decode_many(folder, Path(argument)))
            found = {"seconds": seconds, "peak": peak}
        case _:
            seconds, peak = peak_private(lambda: read_many(Path(argument)))
            found = {"seconds": seconds, "peak": peak}
    print(json.dumps(found))


def compare(folder: Path, sizes: list[int], repeats: int) -> None:
    """Print seconds of both, by size."""
    apart("theirs", str(folder), str(sizes[0]))  # the files are in the system's cache now
    print(f"{'px':>5} {'seconds of':>10} {'foretune':>20} {'ImageFolder':>20} {'ratio':>7}")
    for size in sizes:
        taken = [
            (apart("ours", str(folder), str(size)), apart("theirs", str(folder), str(size)))
            for _ in range(repeats)
        ]
        for clock in ("wall", "cpu"):
            columns = [[both[k][clock] for both in taken] for k in (0, 1)]
            middle = [statistics.median(column) for column in columns]
            shown = [
                f"{m:.1f} ({min(column):.1f} to {max(column):.1f})"
                for m, column in zip(middle, columns, strict=True)
            ]
            ratio = middle[0] / middle[1]
            print(f"{size:>5} {clock:>10} {shown[0]:>20} {shown[1]:>20} {ratio:>7.2f}", flush=True)


def measure_memory(folder: Path, many: int, scratch: Path) -> None:
    """Print the peak private memory of `many` images at 224 px."""
    photos, linked, data = sorted(folder.glob("*/*.jpg")), scratch / "many", scratch / "data"
    for number in range(many):
        photo = photos[number % len(photos)]
        place = linked / photo.parent.name / f"{number:06}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            os.link(photo, place)
    for what in ("decode", "read"):
        found = apart(what, str(linked), str(data))
        print(
            f"{what} {many:,} images at 224 px: {found['seconds']:.0f} s, "
            f"{found['peak'] / 2**30:.2f} GiB of private memory "
            f"({many * 224 * 224 * 3 / 2**30:.1f} GiB of pixels)"
        )


def main() -> None:
    """Print what was asked for."""
    if sys.argv[1:2] == ["--only"]:
        only(sys.argv[2], Path(sys.argv[3]), sys.argv[4])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=Path, required=True, help="a stored task (.npz)")
    parser.add_argument("--count", type=int, default=2500)
    parser.add_argument("--sizes", default="64,128,224", help="pixels (default: 64,128,224)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--many", type=int, default=0, help="images of the memory's measurement")
    parser.add_argument("--keep", type=Path, help="folder of the photographs, kept for next time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (given.keep or Path(scratch)) / "photographs"
        if not folder.exists():
            make_photographs(given.pictures, folder, given.count)
        sizes = [int(size) for size in given.sizes.split(",") if size]
        count = len(list(folder.glob("*/*.jpg")))
        print(f"{count} photographs of {PICTURE[0]} x {PICTURE[1]}, {processors()} workers")
        if sizes and given.repeats:
            compare(folder, sizes, given.repeats)
        if given.many:
            measure_memory(folder, given.many, Path(scratch))


if __name__ == "__main__":
    main()
