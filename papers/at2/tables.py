"""AT2's tables 2 and 8 to 15 in small: held-out ELBO of the 64 kernel products, beside the paper's.

Resumable.

    python -m papers.at2.tables META [--minutes M] [--size small|middle|full]
        [--products O-P-A,M-T-F] [--out data/reports/at2]

As in section 3.3.4: four tasks, 1,000 of their cells held out, the others trained on by stochastic
variational inference (`foretune.gaussian.variational`). Sizes (`SIZES`): training rows, inducing rows,
batch, epochs; "full" is the paper's. A product is named by the initials of its task (OptiLand,
MTBO, deep Linear, deep Poly), configuration (Tree, Flat, Linear, Poly) and fidelity (AccCurve,
Fabolas, Matern, RBF) kernels. A product that `elbo.csv` holds at this size is not run again.

| file          | paper              | rows                                                        |
|---------------|--------------------|-------------------------------------------------------------|
| elbo.csv      | tables 2, 8 to 15  | ELBO per held-out observation and rank, ours and the        |
|               |                    | paper's; Spearman of distances; seconds                     |
| distances.csv | figures 3, 6 to 13 | per product and decile of true distance: mean true, mean    |
|               |                    | predicted distance, and its spread                          |
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from papers.command import command

TASK = {"O": "OptiLand", "M": "MTBO", "L": "DeepLinear", "P": "DeepPoly"}
CONFIGURATION = {"T": "Tree", "F": "Flat", "L": "DeepLinear", "P": "DeepPoly"}
FIDELITY = {"A": "AccCurve", "F": "Fabolas", "M": "Matern", "R": "RBF"}

# The paper's ranking, tables 8 to 15, with its ELBOs.
_RANKING = """
O-P-A 1.4951, M-L-M 1.4296, O-L-A 1.4172, O-P-M 1.4127, M-P-A 1.4121, P-L-A 1.4017, O-L-M
1.3871, L-P-R 1.3763, P-L-M 1.3700, O-L-R 1.3590, L-L-R 1.3586, L-L-M 1.3464, P-L-R 1.3460,
P-P-R 1.3360, M-L-A 1.3350, L-L-A 1.3309, M-L-R 1.3170, O-T-A 1.3129, O-P-R 1.2934, P-P-A
1.2925, L-P-A 1.2861, L-T-A 1.2777, M-P-M 1.2763, L-P-M 1.2716, P-T-A 1.2704, M-P-R 1.2495,
O-F-A 1.2409, M-T-A 1.2121, O-T-M 1.1843, O-T-R 1.1628, P-T-M 1.1532, P-T-R 1.1431, M-T-R
1.0923, M-T-M 1.0864, L-T-M 1.0861, L-T-R 1.0850, O-F-R 1.0633, O-F-M 1.0557, O-P-F 1.0424,
P-F-A 1.0389, P-L-F 0.9881, L-P-F 0.9880, O-T-F 0.9224, O-F-F 0.9170, P-F-R 0.9100, P-F-M
0.8844, L-F-A 0.4301, L-F-R 0.3416, P-P-M 0.3053, M-F-A 0.2985, L-F-M 0.2822, M-F-R 0.1433,
M-F-M 0.1406, P-P-F 0.1350, O-L-F 0.1350, L-F-F 0.1349, L-T-F 0.1349, L-L-F 0.1349, P-F-F
0.1349, P-T-F 0.1349, M-L-F 0.1342, M-F-F 0.1342, M-P-F 0.1342, M-T-F 0.1342
"""
PAPER = {product: float(elbo) for product, elbo in (row.split() for row in _RANKING.split(","))}


@dataclass(frozen=True)
class Size:
    """Training rows (None: all), inducing rows, batch and epochs."""

    rows: int | None
    inducing: int
    batch: int
    epochs: int


SIZES = {
    "small": Size(3000, 64, 200, 40),
    "middle": Size(8000, 200, 400, 40),
    "full": Size(None, 1000, 1000, 200),
}
COLUMNS = [
    "product",
    "task",
    "configuration",
    "fidelity",
    "size",
    "elbo",
    "train_elbo",
    "distance_spearman",
    "seconds",
]


def check(products: Sequence[str]) -> list[str]:
    """Product names as given; raises `BadInput` for an unknown one."""
    for name in products:
        if name not in PAPER:
            raise BadInput(
                f"unknown kernel product {name!r}; a name is like O-P-A (OptiLand, DeepPoly, "
                "AccCurve)"
            )
    return list(products)


def kernels_of(product: str) -> tuple[str, str, str]:
    """The kernels' full names."""
    task, configuration, fidelity = product.split("-")
    return TASK[task], CONFIGURATION[configuration], FIDELITY[fidelity]


def run(
    meta: MetaDataset, product: str, size: Size, seed: int = 0
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Train one product and score it: its row of `elbo.csv` and its rows of `distances.csv`."""
    import torch

    from foretune.gaussian.kernels.configuration import Layout
    from foretune.gaussian.kernels.task import landscape_distances
    from foretune.gaussian.variational import Rows, Schedule, variational

    rng = np.random.default_rng(seed)
    tasks = sorted(rng.choice(sorted(meta.tasks), min(4, len(meta.tasks)), replace=False).tolist())
    Y = meta.Y(tasks)
    generator = torch.Generator().manual_seed(seed)
    test, rest = Rows.of(Y).split(1000, generator)
    train, _ = rest.split(size.rows or len(rest), generator)
    shown = np.full(Y.shape, np.nan)
    shown[rest.task, rest.config, rest.epoch - 1] = rest.y
    layout, X = Layout.of(meta.space), meta.space.encode(meta.configs)
    began, trace = time.perf_counter(), [np.nan]
    process = variational(
        layout,
        X,
        *landscape_distances(shown),
        train,
        meta.max_epoch,
        kernels_of(product),
        Schedule(size.inducing, size.batch, size.epochs),
        seed,
        lambda _, value: trace.append(value),
    )
    with torch.no_grad():
        elbo = float(process.elbo(test, len(train)))
        half = torch.arange(len(test) // 2)
        one, two = test.take(half), test.take(half + len(half))
        true = (one.y - two.y).abs().numpy()
        predicted = ((1 - process.similarity(one, two)) / 2).numpy()
    seconds = time.perf_counter() - began
    order = pd.Series(true).rank(), pd.Series(predicted).rank()
    spearman = float(np.corrcoef(*order)[0, 1]) if order[1].std() > 0 else 0.0
    bins = pd.DataFrame(
        {
            "true": true,
            "predicted": predicted,
            "decile": (order[0].to_numpy() - 1) * 10 // len(true),
        }
    )
    grouped = bins.groupby("decile").agg(
        true=("true", "mean"), predicted=("predicted", "mean"), spread=("predicted", "std")
    )
    names = dict(zip(("task", "configuration", "fidelity"), kernels_of(product), strict=True))
    row = {"product": product, **names, "elbo": round(elbo, 4), "train_elbo": round(trace[-1], 4)}
    row |= {"distance_spearman": round(spearman, 3), "seconds": round(seconds, 1)}
    return row, grouped.round(4).reset_index().assign(product=product)


def read(path: Path) -> pd.DataFrame:
    """A table that may not be there yet."""
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """With ranks within each size, ours and the paper's, best first.

    Only among the products that are there.
    """
    table = table.assign(paper_elbo=table["product"].map(PAPER))
    by_size = table.groupby("size")
    table["rank"] = by_size["elbo"].rank(ascending=False, method="min").astype(int)
    table["paper_rank"] = by_size["paper_elbo"].rank(ascending=False, method="min").astype(int)
    return table.sort_values(["size", "rank", "product"], ignore_index=True)


def tables(
    meta: MetaDataset,
    out: Path,
    size: str = "small",
    products: Sequence[str] | None = None,
    minutes: float = 60.0,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """Run the products that are missing, the paper's best first, until the time is up.

    Returns the table as far as it is there.
    """
    if size not in SIZES:
        raise BadInput(f"unknown size {size!r}; there are {', '.join(SIZES)}")
    wanted = check(list(PAPER) if products is None else products)
    end = time.monotonic() + 60 * minutes
    done, distances = read(out / "elbo.csv"), read(out / "distances.csv")
    for product in wanted:
        if len(done) and ((done["product"] == product) & (done["size"] == size)).any():
            continue
        if time.monotonic() > end:
            say("time is up; the same command goes on from here")
            break
        row, bins = run(meta, product, SIZES[size])
        done = ranked(pd.concat([done, pd.DataFrame([{**row, "size": size}])], ignore_index=True))
        distances = pd.concat([distances, bins.assign(size=size)], ignore_index=True)
        first = [*COLUMNS, "rank", "paper_rank", "paper_elbo"]
        write_atomic(out / "elbo.csv", done[first].to_csv(index=False))
        write_atomic(out / "distances.csv", distances.to_csv(index=False))
        say(f"{product} {size}: ELBO {row['elbo']} ({row['seconds']} s)")
    return done


@command
def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m papers.at2.tables", description=main.__doc__)
    parser.add_argument(
        "meta", help="meta-dataset folder, such as HyperRec's as `foretune import` makes it"
    )
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="stop after the product that is running then"
    )
    parser.add_argument("--size", default="small", help=", ".join(SIZES))
    parser.add_argument(
        "--products", help="names, separated by commas; default: all 64, the paper's best first"
    )
    parser.add_argument("--out", type=Path, default=Path("data/reports/at2"))
    given = parser.parse_args(argv)
    products = given.products.split(",") if given.products else None
    done = tables(MetaDataset.load(given.meta), given.out, given.size, products, given.minutes)
    own = done[done["size"] == given.size]
    if len(own) > 2:
        print(
            f"{len(own)} products; Spearman with the paper's order "
            f"{own['rank'].corr(own['paper_rank']):.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
