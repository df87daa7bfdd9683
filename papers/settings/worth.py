"""What history of other settings is worth: regret at one training, on the runs of
`papers.settings.collect`.

    python -m papers.settings.worth [data/meta/settings] [--out data/reports/settings.csv]

Every task in turn is new, under each of the eight settings (network, image size, training images);
its pool are its own runs under that setting, and each pick is a whole training. Past are the runs of
the other tasks

| past          | under                                                                            |
|---------------|----------------------------------------------------------------------------------|
| same          | the same setting                                                                 |
| other         | the seven other settings only: not one run of the new one                        |
| other network | the settings with the other network only                                         |
| other size    | the other image size only, the network and the number of images being the same   |
| other images  | the other number of images only, the network and the size being the same         |
| all           | all settings                                                                     |
| none          | there is none: the first pick is by chance                                       |

with the surrogate of the default searcher. Normalized regret after one training, the mean over tasks
and settings with a standard error over tasks, paired differences to the past of the same setting and
Wilcoxon's p over tasks. Only configurations that every task and setting has are taken, so that a
collection under way can be read.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import sem, wilcoxon

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.transfer.run_columns import SCORE, TASK
from foretune.searchers.transfer.run_history import runs_of
from foretune.searchers.transfer.run_surrogate import RunSurrogate

SETTING = ["network", "image_size", "train_limit"]
SPACE = ["learning_rate", "optimizer", "finetune"]
PASTS = ("same", "other", "other network", "other size", "other images", "all")


def all_runs(folder: Path) -> pd.DataFrame:
    """The runs of all settings, of configurations that every task has under every one of them."""
    tables = [runs_of(MetaDataset.load(one.parent)) for one in sorted(folder.glob("*/about.json"))]
    if len(tables) < 2:
        raise BadInput(f"{folder} holds {len(tables)} settings: python -m papers.settings.collect")
    runs = pd.concat(tables, ignore_index=True)
    runs = runs[[TASK, SCORE, *SPACE, *SETTING]]
    cells = runs[TASK].nunique() * len(runs[SETTING].drop_duplicates())
    count = runs.groupby(SPACE)[TASK].transform("size")
    return runs[count == cells].reset_index(drop=True)


def chosen(past: str, runs: pd.DataFrame, setting: pd.Series) -> pd.Series:
    """Which runs are the past of a study under `setting`."""
    same = {name: runs[name] == setting[name] for name in SETTING}
    network, size, images = same.values()
    match past:
        case "same":
            return network & size & images
        case "other":
            return ~(network & size & images)
        case "other network":
            return ~network
        case "other size":
            return network & ~size & images
        case "other images":
            return network & size & ~images
        case _:
            return network | ~network


def regret_of_first(runs: pd.DataFrame, past: pd.DataFrame, pool: pd.DataFrame) -> float:
    """Normalized regret of the pool's run that the past's forecast puts first; NaN without a past."""
    if not len(past):
        return np.nan
    scores = pool[SCORE].to_numpy(dtype=float)
    best = scores[int(RunSurrogate(past).forecast(pool).mean.argmax())]
    return float(scores.max() - best) / (float(np.ptp(scores)) or 1.0)


def regrets(runs: pd.DataFrame) -> pd.DataFrame:
    """Regret after one training, a row a task and setting, a column a past."""
    rows = []
    for setting in (row for _, row in runs[SETTING].drop_duplicates().iterrows()):
        here = runs[chosen("same", runs, setting)]
        for task, pool in here.groupby(TASK):
            scores = pool[SCORE].to_numpy(dtype=float)
            chance = float((scores.max() - scores.mean()) / (np.ptp(scores) or 1.0))
            row = {TASK: task, **setting, "configurations": len(pool), "none": chance}
            for past in PASTS:
                others = runs[chosen(past, runs, setting) & (runs[TASK] != task)]
                row[past] = regret_of_first(runs, others, pool)
            rows.append(row)
    return pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Write and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("data/meta/settings"))
    parser.add_argument("--out", type=Path, default=Path("data/reports/settings.csv"))
    given = parser.parse_args(argv)
    runs = all_runs(given.folder)
    table = regrets(runs)
    write_atomic(given.out, table.round(4).to_csv(index=False))
    by_task = table.groupby(TASK)[["none", *PASTS]].mean()
    print(
        f"{len(runs)} runs: {len(by_task)} tasks x {len(runs[SETTING].drop_duplicates())} settings "
        f"x {table['configurations'].iloc[0]} configurations"
    )
    for past in map(str, by_task.dropna(axis=1)):
        values = by_task[past].to_numpy(float)
        apart = values - by_task["same"].to_numpy(float)
        p = float(wilcoxon(apart, zero_method="pratt").pvalue) if apart.any() else 1.0
        print(
            f"{past:13s} {values.mean():.3f} ± {sem(values):.3f}   less same {apart.mean():+.3f} ± "
            f"{sem(apart):.3f} (p {p:.2f})"
        )


if __name__ == "__main__":
    main()
