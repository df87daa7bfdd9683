"""Images a second of the trainer against a bare loop over the same network, in one run.

    python bench/training.py [--network timm:resnet18] [--size 224] [--batch 16] [--images 64]

The bare loop is what everybody writes: the library's network (timm or torchvision), channels last,
a batch of ready, normalised images that are in memory, forward, cross-entropy, backward, AdamW. It
neither augments nor evaluates nor writes a checkpoint. The trainer's figure is of
`Trial.train_epoch` without the look at the validation part (`pass`) and with it (`epoch`). Seconds
are of the process on a CPU (one thread), so that a busy machine counts little, and of the clock on
a GPU; runs alternate, and the ratio is of the medians.
"""

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from foretune.tasks.task import Task
from foretune.training.architectures import architecture
from foretune.training.library import create
from foretune.training.optimizers import of_recipe
from foretune.training.recipe import recipe
from foretune.training.settings import Settings
from foretune.training.trial import Trial

clock = time.perf_counter if torch.cuda.is_available() else time.process_time


def task_of(images: int, size: int) -> Task:
    """Noise in ten classes, as many images again to validate."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2 * images + 10, size, size, 3), dtype=np.uint8)
    split = np.repeat(np.array([0, 1, 2], dtype=np.uint8), [images, images, 10])
    labels = np.arange(len(pixels)) % 10
    return Task("noise", pixels, labels, tuple("abcdefghij"), split)


def bare(network: str, size: int, batch: int, images: int, config: dict[str, Any]) -> Any:
    """A function that trains one epoch of the bare loop, in seconds."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = create(network, 10, size).to(device).to(memory_format=torch.channels_last).train()
    optimizer = of_recipe(model, recipe(config, Settings(network=network)))
    x = torch.randn(images, 3, size, size, device=device)
    x, y = x.contiguous(memory_format=torch.channels_last), torch.arange(images, device=device) % 10

    def epoch() -> float:
        began = clock()
        for first in range(0, images, batch):
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits = model(x[first : first + batch])
            loss = F.cross_entropy(logits.float(), y[first : first + batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        loss.item()
        return clock() - began

    return epoch


def main() -> None:
    """Print a line for each depth and augmentation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="timm:resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    architecture(given.network)
    task = task_of(given.images, given.size)
    settings = Settings(
        network=given.network, image_size=given.size, pretrained=False, batch_size=given.batch,
        train_limit=0, valid_limit=0, max_epoch=100,
    )  # fmt: skip
    torch.set_num_threads(settings.threads)
    plain = {"learning_rate": 1e-3, "optimizer": "adamw", "weight_decay": 0.05}
    loop = bare(given.network, given.size, given.batch, given.images, plain)
    loop()
    print(
        f"{given.network} at {given.size} px, batches of {given.batch}, {settings.threads} thread"
    )
    print("finetune     augmentation       bare img/s   pass img/s   ratio   epoch s (with a look)")
    for finetune, policy in (
        ("all", "none"), ("all", "crop_flip_colour"), ("most", "none"), ("last_blocks", "none"),
        ("head", "none"),
    ):  # fmt: skip
        config = {**plain, "finetune": finetune, "augmentation": policy}
        trial = Trial(task, config, settings, seed=0)
        trial.train_epoch()
        theirs, ours, whole = [], [], []
        for _ in range(given.runs):
            theirs.append(loop())
            began = clock()
            trial._pass(trial.epoch + 1)
            ours.append(clock() - began)
            began = clock()
            trial.train_epoch()
            whole.append(clock() - began)
        slow, quick = statistics.median(theirs), statistics.median(ours)
        print(
            f"{finetune:<12} {policy:<18} {given.images / slow:10.1f} {given.images / quick:12.1f} "
            f"{slow / quick:7.2f} {statistics.median(whole):10.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
