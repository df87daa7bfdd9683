"""How far the cost model is off: CPU seconds of a training step and of a forward pass, on one
thread, against what `foretune.training.cost` says.

    python bench/cost.py [--networks A,B] [--out FILE]

CPU seconds of this process, the least of three: what other processes do shows little. The ratio to
what was said has the machine's own factor in it; the spread around its median is the model's error.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from foretune.training.cost import CPU, Parts, epoch_seconds, first_epoch_seconds, forward_seconds
from foretune.training.networks import build
from foretune.training.recipe import Recipe
from foretune.training.settings import Settings

NETWORKS = (
    "mobilenet_v2", "efficientnet_lite0", "shufflenet_v2_x1", "resnet18", "resnet50",
    "timm:resnet18", "timm:convnext_atto", "timm:convnext_tiny", "timm:vit_tiny_patch16_224",
    "timm:vit_small_patch16_224", "timm:swin_tiny_patch4_window7_224", "timm:regnety_004",
)  # fmt: skip
SIZES = ((48, 32), (96, 16), (160, 8))  # pixels, images of a batch


def least(run: Callable[[], object], times: int = 3) -> float:
    """CPU seconds of the quickest run."""
    found = []
    for _ in range(times):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)


def measure(name: str, size: int, batch: int, finetune: str) -> dict[str, object]:
    """Seconds of a step and of a forward pass, and what the model says of both."""
    network = build(name, 10, False, image_size=size, finetune=finetune)
    x = torch.rand(batch, 3, size, size).to(memory_format=torch.channels_last)
    y = torch.arange(batch) % 10
    optimizer = torch.optim.Adam(network.trained_parameters(), 1e-4)

    def step() -> None:
        loss = F.cross_entropy(network(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    network.train()
    step()
    train = least(step)
    network.eval()
    with torch.no_grad():
        forward = least(lambda: network(x))
    asked = Recipe(name, batch, "adam", 1e-4, finetune=finetune)
    settings = Settings(image_size=size, device="cpu")
    return {
        "network": name,
        "size": size,
        "finetune": finetune,
        "train": train,
        "forward": forward,
        **said(asked, settings, batch),
    }


def said(asked: Recipe, settings: Settings, batch: int) -> dict[str, float]:
    """What the model says of a step, frozen layers going forward too, and of a forward pass."""
    parts, step = Parts(batch, 0), replace(CPU, epoch=0.0)
    return {
        "said_train": first_epoch_seconds(asked, settings, parts, step),
        "said_kept": epoch_seconds(asked, settings, parts, step),
        "said_forward": forward_seconds(asked, settings, batch, CPU),
    }


def main() -> None:
    """Measure, print a line each, and the errors at the end."""
    parser = argparse.ArgumentParser(prog="python bench/cost.py")
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="A,B")
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON lines")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in args.networks.split(","):
        for size, batch in SIZES:
            for finetune in ("all", "last_blocks"):
                rows.append(measure(name, size, batch, finetune))
                print(json.dumps(rows[-1]), flush=True)
    if args.out is not None:
        lines = [json.dumps(row) + "\n" for row in rows]
        args.out.write_text("".join(lines), encoding="utf-8")
    print(summary(rows))


def summary(rows: list[dict[str, object]]) -> str:
    """The machine's factor, and the ratios around it."""
    ratios = [
        float(row[kind]) / float(row[f"said_{kind}"])  # type: ignore[arg-type]
        for row in rows
        for kind in ("train", "forward")
    ]
    log = np.log(ratios)
    off = np.abs(log - np.median(log))
    middle, most, worst = np.exp(np.quantile(off, [0.5, 0.9, 1.0]))
    return (
        f"{len(rows)} cases: this machine takes {np.exp(np.median(log)):.2f} times what is said; "
        f"around that, off by a factor of {middle:.2f} in the middle, {most:.2f} for nine of ten, "
        f"{worst:.2f} at worst"
    )


if __name__ == "__main__":
    main()
