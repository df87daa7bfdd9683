"""What Z costs beside its decompositions, and why depthwise convolutions are left out.

    python bench/spectral.py [cost] [NETWORK ...]     # default: resnet34 resnet18 mobilenet_v2
    python bench/spectral.py depthwise [--data data]

`cost` prints a line for each network, at random weights and with a low-rank part in every layer:
processor seconds of one Z, by part (Gram matrices with the weights in double precision,
eigenvalues, all the rest; least of five), and of the singular values of the same matrices by
`torch.linalg.svdvals`; ratios to the rest, since on a busy machine seconds alone say little; how
many matrices were decomposed, how many of them twice.

`depthwise` trains the small separable network for five epochs at 29 rates, with four optimizers on
four tasks that no table of autoHyper reports, and MobileNetV2 from random weights at six: shares of
layers without gain, depthwise and others apart, and what a search makes of Z with and without the
depthwise ones.
"""

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from foretune.searchers.autohyper import EPOCHS, search
from foretune.tasks.task import Task
from foretune.training import spectral
from foretune.training.networks import build
from foretune.training.recipe import Settings
from foretune.training.trial import Trial
from papers.autohyper.small_networks import Data, Fleet, SmallTrial

TASKS = ("hangul", "microstructures", "typefaces", "textiles")
OPTIMIZERS = ("adam", "adagrad", "rmsprop", "adabound")


def timed(function: Callable[..., Any], seconds: dict[str, float], name: str) -> Callable[..., Any]:
    """`function`, whose processor time is added up."""

    def call(*args: Any, **options: Any) -> Any:
        began = time.process_time()
        out = function(*args, **options)
        seconds[name] += time.process_time() - began
        return out

    return call


def parts(network: nn.Module) -> dict[str, float]:
    """Processor seconds of one Z: gram, eigenvalues, rest."""
    seconds: dict[str, float] = defaultdict(float)
    with (
        patch.object(spectral, "gram", timed(spectral.gram, seconds, "gram")),
        patch.object(
            torch.linalg, "eigvalsh", timed(torch.linalg.eigvalsh, seconds, "eigenvalues")
        ),
    ):
        began = time.process_time()
        spectral.network_rank(network)
        total = time.process_time() - began
    return {**seconds, "rest": total - sum(seconds.values())}


def decomposed(network: nn.Module) -> list[Tensor]:
    """The matrices that one Z decomposes, as they come."""
    seen: list[Tensor] = []

    def keep(matrix: Tensor, out: Tensor | None = None) -> Tensor:
        seen.append(matrix)
        return gram(matrix, out)

    gram = spectral.gram
    with patch.object(spectral, "gram", keep):
        spectral.network_rank(network)
    return seen


def signal(network: nn.Module) -> None:
    """Add a part of rank channels / 10 to every convolution, three times its weights."""
    generator = torch.Generator().manual_seed(1)
    for m in network.modules():
        if isinstance(m, nn.Conv2d):
            flat = m.weight.data.flatten(1)
            rank = max(1, min(flat.shape) // 10)
            low = torch.randn(len(flat), rank, generator=generator) @ torch.randn(
                rank, flat.shape[1], generator=generator
            )
            m.weight.data += 3 * (flat.std() / rank**0.5 * low).view_as(m.weight)


def cost(names: Sequence[str]) -> None:
    """Print what Z costs on each network."""
    for name in names:
        for what in ("random weights", "low-rank part"):
            network = build(name, 10, False, seed=0)
            if what == "low-rank part":
                signal(network)
            runs = [parts(network) for _ in range(5)]
            least = {part: min(run[part] for run in runs) for part in runs[0]}
            matrices = decomposed(network)
            twice = sum(
                n - 1
                for n in Counter(
                    (m.data_ptr(), tuple(m.shape), m.stride()) for m in matrices
                ).values()
            )
            began = time.process_time()
            for matrix in matrices:
                torch.linalg.svdvals(matrix.detach().double().flatten(1))
            svd, rest = time.process_time() - began, least["rest"]
            layers = sum(isinstance(m, nn.Conv2d) for m in network.modules())
            line: dict[str, Any] = {
                "network": name,
                "weights": what,
                "convolutions": layers,
                "matrices": len(matrices),
                "twice": twice,
            }
            line |= {f"{part}_seconds": round(s, 4) for part, s in least.items()} | {
                "svd_seconds": round(svd, 3)
            }
            line |= {
                "gram_and_eigenvalues_to_rest": round(
                    (least["gram"] + least["eigenvalues"]) / rest, 1
                )
            }
            print(json.dumps(line | {"svd_to_rest": round(svd / rest, 1)}), flush=True)


def shares(network: nn.Module) -> tuple[float, float]:
    """Shares of unfoldings without gain: of the depthwise convolutions, and Z of the others."""
    low = [
        len(spectral.evbmf(m.weight.flatten(1)))
        for m in network.modules()
        if isinstance(m, nn.Conv2d) and m.groups > 1
    ]
    return float(np.mean([rank == 0 for rank in low])), spectral.network_rank(network)


def small(data: Path) -> None:
    """The separable network."""
    rates = np.geomspace(1e-4, 1, 29)
    found = []  # (optimizer, task) -> rates x (depthwise, others, accuracy)
    for optimizer in OPTIMIZERS:
        for name in TASKS:
            task = Data.of(Task.load(data / "images" / f"{name}.npz"))
            trials = [
                SmallTrial(task, "separable", optimizer, float(r), seed=77, z=False) for r in rates
            ]
            fleet, z = Fleet(trials), []
            for _ in range(EPOCHS):
                fleet.train_epoch()
                z.append([(0.0, 0.0) if t.diverged else shares(t.network) for t in trials])
            found.append(
                np.column_stack([np.mean(z, axis=0), [t.accuracy("valid") for t in trials]])
            )
    print(
        f"separable, {len(found)} searches: rate, depthwise without gain, others, valid "
        f"accuracy after {EPOCHS} epochs"
    )
    for rate, row in zip(rates[::2], np.mean(found, axis=0)[::2], strict=True):
        print(f"  {rate:<8.2g} {row[0]:.2f}  {row[1]:.2f}  {row[2]:.3f}", flush=True)
    # of 10 + 8 unfoldings
    for what, own in (("without depthwise", 0), ("with, each counted twice", 8)):
        ends, gaps = [], []
        for row in found:
            z = (own * row[:, 0] + 10 * row[:, 1]) / (own + 10)

            def response(rate: float, z: np.ndarray = z) -> float:
                return float(np.interp(np.log(rate), np.log(rates), z))

            ends.append(search(response))
            gaps.append(
                row[:, 2].max()
                - np.interp(np.log(ends[-1].chosen or np.nan), np.log(rates), row[:, 2])
            )
        print(
            f"  Z {what}: {np.mean([len(e.trained) for e in ends]):.1f} trials, "
            f"{sum(e.converged for e in ends)} of {len(ends)} converged, "
            f"valid accuracy {np.mean(gaps):.3f} below that of the best rate"
        )


def large(data: Path) -> None:
    """MobileNetV2 at 32 px on 400 images."""
    task = Task.load(data / "images" / "fashion_mnist.npz")
    settings = Settings(
        network="mobilenet_v2", pretrained=False, image_size=32, train_limit=400, max_epoch=EPOCHS
    )
    print(
        "mobilenet_v2 (depthwise of 32 to 960 channels): rate, depthwise without gain, "
        f"others; mean of {EPOCHS} epochs"
    )
    for rate in (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1):
        config = {
            "optimizer": "adam",
            "learning_rate": rate,
            "scheduler": "constant",
            "augmentation": "none",
            "finetune": "all",
        }
        trial, z = Trial(task, config, settings, 0), []
        for _ in range(EPOCHS):
            trial.train_epoch()
            z.append(shares(trial.network))
        print("  {:<8.2g} {:.2f}  {:.2f}".format(rate, *np.mean(z, axis=0)), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print one of the two."""
    parser = argparse.ArgumentParser(
        prog="python bench/spectral.py", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("what", nargs="?", default="cost", choices=("cost", "depthwise"))
    parser.add_argument("networks", nargs="*", default=["resnet34", "resnet18", "mobilenet_v2"])
    parser.add_argument("--data", type=Path, default=Path("data"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.what == "cost":
        cost(args.networks)
    else:
        small(args.data)
        large(args.data)


if __name__ == "__main__":
    main()
