"""Siamese-BHO on sub-tasks that were really trained: every one has its own mapping.

    python -m papers.siamese_bho.own_mappings GATE --images FOLDER [--networks 5] [--minutes M]
        [--out data/reports/siamese_own]

GATE is the meta-dataset of `papers.light2.collect`, of which the configurations count that every
sub-task has; FOLDER holds the sub-tasks' images. The paper trains each of its 80 sub-tasks; the
product's recommender lets sub-tasks inherit the mapping of the task they are cut from, since it has
no others. Here each source in turn is held out with all of its sub-tasks, and the wing is trained
on pairs of the others' (Algorithm 1), towards the distances of

| mapping     | a sub-task's is                                                  |
|-------------|------------------------------------------------------------------|
| `own`       | what was measured on it                                          |
| `inherited` | the mean over the sub-tasks of its source                        |

Scores are standardised by sub-task, so that an easy and a hard one can be near. What a network says
of the held-out source is kept in OUT/runs.jsonl, a line each; the same command goes on.

| file          | rows                                                                          |
|---------------|-------------------------------------------------------------------------------|
| distances.csv | mapping or control, sub-task: rank correlation of predicted and true distances|
|               | to the past, the true distance of the three nearest as a share of the mean    |
|               | one, normalized regret after the nearest one's best and after all three       |
| tests.csv     | figure of merit, baseline, rule: difference by source, interval, Wilcoxon's p,|
|               | Holm's                                                                        |

Controls: `size`, the difference of the logarithms of the numbers of images; `chance`, any of the
past (mean over all); `portfolio`, the past's greedy portfolio without any distance.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.evaluation.statistics import against
from foretune.files import append_lines, write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.history.ranks import greedy_portfolio
from foretune.recommenders.siamese.recommender import mapping_distance
from foretune.recommenders.siamese.subtasks import Gallery, SubTask, gallery, images_of
from foretune.tasks.task import Task
from papers.command import command
from papers.light2.gate import Table

MAPPINGS = ("own", "inherited")
NEAREST = 3
TAU, BETA, GROUP, SIZE, MOST = 12, 66, 12, 32, 600  # the product's
RATE, DRAWS = 2e-3, 12
FIGURES = ("rank_correlation", "neighbours", "regret@1", "regret@3")


def standardised(values: np.ndarray) -> np.ndarray:
    """Each task's values (T, n) with mean 0 and deviation 1; zeros where all are equal."""
    spread = values.std(axis=1, keepdims=True)
    return np.asarray(
        (values - values.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)
    )


def mappings(values: np.ndarray, sources: np.ndarray, kind: str) -> np.ndarray:
    """Mappings (T, n) of sub-tasks by `kind` (`MAPPINGS`)."""
    z = standardised(values)
    if kind == "own":
        return z
    return np.stack([z[sources == source].mean(axis=0) for source in sources])


def whole(of: Gallery) -> SubTask:
    """A sub-task that is its gallery: nothing is cut from one that was trained as it is."""
    classes = tuple(int(c) for c in np.unique(of.labels))
    return SubTask(of.name, classes, np.arange(len(of.labels)))


def predicted(
    past: Sequence[Gallery],
    target: np.ndarray,
    new: Sequence[Gallery],
    iterations: int,
    seed: int,
) -> np.ndarray:
    """Distances that a wing trained on `past` towards `target` (T, T) predicts between `new` and
    past galleries, (m, T); meta-features are means over `DRAWS` draws of images.
    """
    import torch

    from foretune.recommenders.siamese.network import Wing, meta_features, train_wing

    rng = np.random.default_rng(seed)
    positive = target[target > 0]
    d = target / (float(positive.mean()) if len(positive) else 1.0)
    parts = [whole(one) for one in past]

    def sample() -> tuple[np.ndarray, np.ndarray]:
        chosen = rng.choice(len(past), size=min(GROUP, len(past)), replace=False)
        sets = np.stack([images_of(past[k], parts[k], TAU, rng) for k in chosen])
        return sets, d[np.ix_(chosen, chosen)]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        wing = Wing(SIZE)
        train_wing(wing, sample, rng, iterations=iterations, beta=BETA, rate=RATE)

    def meta_feature(one: Gallery) -> np.ndarray:
        sets = [images_of(one, whole(one), TAU, rng) for _ in range(DRAWS)]
        return np.asarray(meta_features(wing, sets).mean(axis=0))

    known = np.stack([meta_feature(one) for one in past])
    return np.stack([np.linalg.norm(known - meta_feature(one), axis=1) for one in new])


def figures(
    distance: np.ndarray, true: np.ndarray, past: np.ndarray, own: np.ndarray
) -> dict[str, float]:
    """What predicted distances (T,) of a sub-task are worth, given the true ones (T,), the past's
    values (T, n) and its own (n,).
    """
    nearest = np.argsort(distance, kind="stable")[:NEAREST]
    order = pd.Series(distance).corr(pd.Series(true), method="spearman")
    return {
        "rank_correlation": 0.0 if math.isnan(order) else float(order),
        "neighbours": float(true[nearest].mean() / true.mean()),
        **regrets(past[nearest].argmax(axis=1), own),
    }


def regrets(tried: np.ndarray, own: np.ndarray) -> dict[str, float]:
    """Normalized regret of the first configuration `tried`, and of the first three."""
    span = float(own.max() - own.min()) or 1.0
    return {
        "regret@1": float(own.max() - own[tried[0]]) / span,
        "regret@3": float(own.max() - own[tried[:NEAREST]].max()) / span,
    }


def controls(
    table: Table, sizes: np.ndarray, place: int, true: np.ndarray
) -> dict[str, dict[str, float]]:
    """The figures of `size`, `chance` and `portfolio` for one sub-task, by name; `sizes` (T,) are
    numbers of training images.
    """
    rest = np.flatnonzero(table.sources != table.sources[place])
    past, own = table.values[rest], table.values[place]
    size = np.abs(np.log(sizes[rest]) - np.log(sizes[place]))
    any_one = [regrets(past[[k]].argmax(axis=1), own)["regret@1"] for k in range(len(rest))]
    rng = np.random.default_rng(0)
    triples = [rng.choice(len(rest), NEAREST, replace=False) for _ in range(200)]
    any_three = [regrets(past[t].argmax(axis=1), own)["regret@3"] for t in triples]
    chance = {"rank_correlation": 0.0, "neighbours": 1.0}
    chance |= {"regret@1": float(np.mean(any_one)), "regret@3": float(np.mean(any_three))}
    first = np.array(greedy_portfolio(past, min(NEAREST, past.shape[1])))
    return {
        "size": figures(size, true, past, own),
        "chance": chance,
        "portfolio": {"rank_correlation": math.nan, "neighbours": math.nan, **regrets(first, own)},
    }


def run(
    table: Table,
    galleries: Sequence[Gallery],
    source: str,
    kind: str,
    iterations: int,
    seed: int,
) -> dict[str, list[float]]:
    """Predicted distances of the sub-tasks of a held-out source to the past's, by sub-task."""
    held = np.flatnonzero(table.sources == source)
    rest = np.flatnonzero(table.sources != source)
    target = mapping_distance(mappings(table.values[rest], table.sources[rest], kind))
    said = predicted(
        [galleries[int(k)] for k in rest],
        target,
        [galleries[int(k)] for k in held],
        iterations,
        seed,
    )
    return {table.tasks[k]: row.round(6).tolist() for k, row in zip(held, said, strict=True)}


def judged(table: Table, sizes: np.ndarray, runs: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The figures by rule and sub-task, of networks their mean; rules that lack a source are left
    out.
    """
    d = mapping_distance(standardised(table.values))
    rows = []
    for place, task in enumerate(table.tasks):
        rest = np.flatnonzero(table.sources != table.sources[place])
        true, past, own = d[place, rest], table.values[rest], table.values[place]
        for rule, judgement in controls(table, sizes, place, true).items():
            rows.append({"rule": rule, "task": task, **judgement})
        for one in runs:
            if task in one["distances"]:
                said = figures(np.array(one["distances"][task]), true, past, own)
                rows.append({"rule": one["mapping"], "task": task, **said})
    found = pd.DataFrame(rows).groupby(["rule", "task"], sort=False).mean().reset_index()
    complete = found.groupby("rule")["task"].nunique() == len(table.tasks)
    return found[found["rule"].map(complete)]


def tested(found: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Each rule against `inherited`, `chance` and `portfolio`, by source, a figure at a time."""
    source = dict(zip(table.tasks, table.sources, strict=True))
    parts = {}
    for figure in FIGURES:
        wide = found.pivot(index="task", columns="rule", values=figure).dropna(axis=1)
        wide = wide.groupby([source[task] for task in wide.index]).mean()
        for base in ("inherited", "chance", "portfolio"):
            if base in wide and wide.shape[1] > 1:
                parts[figure, base] = against(wide, base)
    return pd.concat(parts, names=["figure", "baseline"])


def read(path: Path) -> list[dict[str, Any]]:
    """The runs that are kept; a torn last line is left out."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def experiment(
    table: Table,
    sizes: np.ndarray,
    galleries: Sequence[Gallery],
    out: Path,
    networks: int,
    iterations: int,
    seconds: float = math.inf,
) -> pd.DataFrame:
    """Train what is missing, first networks of all sources first, and write the tables; returns the
    means over sub-tasks.
    """
    file, began = out / "runs.jsonl", time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    key = {"configurations": table.values.shape[1], "iterations": iterations}
    mine = [r for r in read(file) if {k: r[k] for k in key} == key]
    done = {(r["source"], r["mapping"], r["seed"]) for r in mine}
    for seed in range(networks):
        for source in dict.fromkeys(table.sources.tolist()):
            for kind in MAPPINGS:
                if (source, kind, seed) in done or time.monotonic() - began > seconds:
                    continue
                said = run(table, galleries, source, kind, iterations, seed)
                row = {"source": source, "mapping": kind, "seed": seed, **key, "distances": said}
                append_lines(file, [json.dumps(row)])
                mine.append(row)
    found = judged(table, sizes, mine)
    write_atomic(out / "distances.csv", found.round(5).to_csv(index=False))
    write_atomic(out / "tests.csv", tested(found, table).round(5).to_csv())
    return found.groupby("rule", sort=False)[list(FIGURES)].mean()


@command
def main(argv: Sequence[str] | None = None) -> None:
    """Train the wings on own and on inherited mappings, and compare what they say."""
    parser = argparse.ArgumentParser(
        prog="python -m papers.siamese_bho.own_mappings", description=main.__doc__
    )
    parser.add_argument("gate", type=Path, help="meta-dataset of papers.light2.collect")
    parser.add_argument("--images", type=Path, required=True, help="folder of its sub-tasks")
    parser.add_argument("--out", type=Path, default=Path("data/reports/siamese_own"))
    parser.add_argument("--networks", type=int, default=5, help="of each source and mapping")
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--minutes", type=float, default=math.inf)
    given = parser.parse_args(argv)
    meta = MetaDataset.load(given.gate)
    table = Table.of(meta)
    sizes = np.array([meta.about["factors"][task]["images"] for task in table.tasks])
    galleries = []
    for name in table.tasks:
        if not (path := given.images / f"{name}.npz").is_file():
            raise BadInput(f"{path} is missing: python -m papers.light2.collect prepares it")
        galleries.append(gallery(Task.load(path), SIZE, MOST, np.random.default_rng(0)))
    seconds = 60 * given.minutes
    found = experiment(
        table, sizes, galleries, given.out, given.networks, given.iterations, seconds
    )
    print(found.to_string())


if __name__ == "__main__":
    sys.exit(main())
