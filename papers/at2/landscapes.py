"""AT2's figure 2 (b): do tasks of near landscapes share their best configurations?

    python -m papers.at2.landscapes META [META ...] [--out data/reports/at2]

For every pair of tasks that are not of one source: the distance of their zero-mean values over all
configurations and epochs (root mean square: L2 in units of a cell), and how many of their five best
configurations they share. As in the paper, the nearest and the farthest tenth of the pairs are
compared; since a task is in many pairs, the p is that of a permutation of tasks (Mantel), and the
interval that of a bootstrap over tasks.

Written are `landscapes.csv` (database, pair: distance, shared) and `figure2.csv` (database: mean
number shared by the nearest tenth, the farthest tenth and all, rank correlation of distance and
shared, p, interval of the difference).
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from papers.command import command

TOP, TENTH = 5, 0.1
PERMUTATIONS, DRAWS = 999, 500


def matrices(meta: MetaDataset) -> tuple[np.ndarray, np.ndarray]:
    """Distances (T, T) of landscapes, by the cells that both tasks have, and numbers (T, T) of
    configurations that are among the `TOP` of both.
    """
    Y = meta.Y()
    flat = Y.reshape(len(Y), -1)
    flat = flat - np.nanmean(flat, axis=1, keepdims=True)
    distance = np.sqrt(np.nanmean((flat[:, None] - flat[None]) ** 2, axis=2))
    best = np.nanmax(Y, axis=2)
    among = np.zeros(best.shape, dtype=int)
    np.put_along_axis(among, np.argsort(-best, axis=1, kind="stable")[:, :TOP], 1, axis=1)
    return distance, among @ among.T


def pairs(meta: MetaDataset) -> pd.DataFrame:
    """One row a pair of tasks of different sources: their places, distance and number shared.

    Raises `BadInput` for fewer than ten pairs.
    """
    distance, shared = matrices(meta)
    sources = meta.about.get("sources", {})
    # HyperRec names its parts of one data set NAMESUB1, NAMESUB2, ... and no sources
    of = [sources.get(task, re.sub(r"SUB\d$", "", task)) for task in meta.tasks]
    rows = [(i, j) for i in range(len(of)) for j in range(i) if of[i] != of[j]]
    if len(rows) < 10:
        raise BadInput(f"{meta.name} has {len(rows)} pairs of tasks of different sources, not ten")
    i, j = np.array(rows).T
    return pd.DataFrame({"i": i, "j": j, "distance": distance[i, j], "shared": shared[i, j]})


def contrast(distance: np.ndarray, shared: np.ndarray) -> tuple[float, float]:
    """Mean number shared by the nearest and by the farthest tenth of pairs, (P,) each."""
    order = np.argsort(distance, kind="stable")
    tenth = max(1, round(TENTH * len(order)))
    return float(shared[order[:tenth]].mean()), float(shared[order[-tenth:]].mean())


def compared(meta: MetaDataset, table: pd.DataFrame, seed: int = 0) -> dict[str, float]:
    """The row of `figure2.csv` of one database."""
    rng = np.random.default_rng(seed)
    distance, shared = matrices(meta)
    i, j = table["i"].to_numpy(), table["j"].to_numpy()
    near, far = contrast(distance[i, j], shared[i, j])
    beyond = 0
    for _ in range(PERMUTATIONS):
        place = rng.permutation(len(distance))
        one, other = contrast(distance[i, j], shared[place[i], place[j]])
        beyond += one - other >= near - far
    drawn = []
    for _ in range(DRAWS):
        weight = np.bincount(
            rng.integers(len(distance), size=len(distance)), minlength=len(distance)
        )
        rows = np.repeat(np.arange(len(i)), weight[i] * weight[j])
        if len(rows):
            one, other = contrast(distance[i[rows], j[rows]], shared[i[rows], j[rows]])
            drawn.append(one - other)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {
        "pairs": len(table),
        "nearest": near,
        "farthest": far,
        "all": float(table["shared"].mean()),
        "rank_correlation": float(table["distance"].corr(table["shared"], method="spearman")),
        "difference": near - far,
        "low": float(low),
        "high": float(high),
        "p": (1 + beyond) / (1 + PERMUTATIONS),
    }


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Compare near and far pairs of tasks."""
    parser = argparse.ArgumentParser(
        prog="python -m papers.at2.landscapes", description=main.__doc__
    )
    parser.add_argument("meta", nargs="+", type=Path, help="meta-dataset folders")
    parser.add_argument("--out", type=Path, default=Path("data/reports/at2"))
    given = parser.parse_args(argv)
    tables, rows = [], []
    for folder in given.meta:
        meta = MetaDataset.load(folder)
        table = pairs(meta)
        rows.append({"database": meta.name, **compared(meta, table)})
        names = {column: table[column].map(meta.tasks.__getitem__) for column in ("i", "j")}
        tables.append(table.assign(database=meta.name, **names))
    write_atomic(given.out / "landscapes.csv", pd.concat(tables).round(5).to_csv(index=False))
    found = pd.DataFrame(rows).round(4)
    write_atomic(given.out / "figure2.csv", found.to_csv(index=False))
    print(found.to_string())


if __name__ == "__main__":
    sys.exit(main())
