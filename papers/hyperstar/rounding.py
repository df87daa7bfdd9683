"""How far apart rounding alone drives the scores of recommenders that train networks.

    python -m papers.hyperstar.rounding [--recommenders A,B] [--folds 4,7] [--draws 3]
        [--relative 2e-7]

Another kind of processor adds in another order, so that the output of a layer is off by about half
a unit in the last place of a float32, 1.2e-7. Here each output of a convolutional or linear layer
is off by a normal share of `--relative`, forward and in training: the features of the frozen trunk
then differ by some 1e-5, as they do between two processors (5e-6 was measured). For each fold the
largest difference of scores to the undisturbed fit is printed, of the fit cut short and of the
whole one; and, of the one cut short, that which a doubled learning rate makes. `SHORT_ROUNDING` and
`ROUNDING` of `papers.hyperstar.rankings` come from here.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from foretune.history.grid import full_grid
from foretune.history.meta_dataset import MetaDataset
from foretune.params import load
from foretune.recommenders import trunk
from foretune.tasks.task import Task
from papers.command import command
from papers.hyperstar.rankings import RankingTable, ranked, short_fit

RELATIVE = 2e-7


@contextmanager
def rounded_otherwise(seed: int, relative: float = RELATIVE) -> Iterator[None]:
    """Every output of a convolutional or linear layer is off by a normal share of `relative`."""
    generator = torch.Generator().manual_seed(seed)

    def disturb(layer: torch.nn.Module, given: Any, out: torch.Tensor) -> Any:
        if not isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
            return None
        return out * (1 + relative * torch.randn(out.shape, generator=generator))

    hook = torch.nn.modules.module.register_module_forward_hook(disturb)
    try:
        with patch.dict(trunk._KEPT, clear=True):  # activations of the undisturbed trunk
            yield
    finally:
        hook.remove()


class Faster(torch.optim.AdamW):
    """AdamW with all learning rates doubled."""

    def __init__(self, params: Any, **options: Any):
        super().__init__(params, **options)
        for group in self.param_groups:
            group["lr"] *= 2


@contextmanager
def learning_twice_as_fast() -> Iterator[None]:
    """What a comparison must find: networks are trained with twice the learning rate."""
    with patch("torch.optim.AdamW", Faster):
        yield


def largest(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> float:
    """The largest difference of scores."""
    return max(float(np.nanmax(np.abs(one[task] - other[task]))) for task in one)


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Print how far apart rounding drives scores, and what a doubled learning rate does."""
    parser = argparse.ArgumentParser(
        prog="python -m papers.hyperstar.rounding", description=main.__doc__
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--images", type=Path, default=Path("data/images"))
    parser.add_argument("--recommenders", default="hyperstar-bm,siamese")
    parser.add_argument("--folds", default="0,4", help="by their place")
    parser.add_argument("--draws", type=int, default=3, help="of the disturbance")
    parser.add_argument("--relative", type=float, default=RELATIVE)
    parser.add_argument("--short", action="store_true", help="leave the whole fits out")
    given = parser.parse_args(argv)
    params = load(given.params)
    meta = full_grid(MetaDataset.load(params.meta_dataset.folder))
    tasks = {name: Task.load(given.images / f"{name}.npz") for name in meta.tasks}
    table = RankingTable(meta, tasks, params.rankings, Path(".cache/rounding"))
    for name in given.recommenders.split(","):
        for place in map(int, given.folds.split(",")):
            fold = table.folds[place]
            plain = {"short": {"": short_fit(table, name, fold)}}
            with learning_twice_as_fast():
                faster = largest({"": short_fit(table, name, fold)}, plain["short"])
            if not given.short:
                plain["whole"] = ranked(table, name, fold, {})[0]
            found: dict[str, list[float]] = {kind: [] for kind in plain}
            for draw in range(given.draws):
                with rounded_otherwise(draw, given.relative):
                    again = {"short": {"": short_fit(table, name, fold)}}
                    if not given.short:
                        again["whole"] = ranked(table, name, fold, {})[0]
                for kind, scores in again.items():
                    found[kind].append(largest(scores, plain[kind]))
            print(
                f"{name}, {'+'.join(fold.held_out)}: "
                + "; ".join(
                    f"{kind} {' '.join(f'{x:.1e}' for x in v)}" for kind, v in found.items()
                )
                + f"; twice the learning rate, short {faster:.1e}",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
