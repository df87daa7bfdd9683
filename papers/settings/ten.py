"""What the shipped history is worth in a space of ten hyperparameters, of which it knows three.

    python -m papers.settings.ten IMAGES.npz [IMAGES.npz ...] --data FOLDER [--seeds 3]
        [--out data/reports/ten.csv]

Whole studies of trainings: each task and seed once with the history that comes with foretune and
once without (`--meta none`: the history-free method), at equal epochs; own studies are not history,
so that no study learns from another. Learning rate, optimizer and depth were varied in that history,
the other seven were not. A row a study and budget in full trainings: `task, seed, history, method,
trainings, valid_accuracy` (best so far), and `test_accuracy` of the winner, at the last budget. What
is finished is in the file; the same command goes on where it was stopped.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from scipy.stats import wilcoxon

from foretune import shipped
from foretune.files import write_atomic
from foretune.running.preparation import prepared
from foretune.running.request import Request
from foretune.running.tuning import finish, run
from foretune.study.study import Study
from foretune.views.summary import incumbent_trace

SPACE: dict[str, Any] = {
    "learning_rate": {"low": 1e-5, "high": 1e-1, "log": True, "default": 1e-3},
    "optimizer": ["sgd", "adam", "adagrad"],
    "finetune": {"order": ["head", "last_blocks"], "default": "last_blocks"},
    "weight_decay": {"low": 1e-6, "high": 1e-1, "log": True, "default": 1e-4},
    "batch_size": {"order": [16, 32, 64], "default": 32},
    "warmup_epochs": {"order": [0, 1, 2], "default": 0},
    "label_smoothing": {"low": 0.0, "high": 0.3, "default": 0.0},
    "dropout": {"low": 0.0, "high": 0.6, "default": 0.2},
    "mixup": {"order": [0.0, 0.2, 0.8], "default": 0.0},
    "clip_grad": {"order": [0.0, 1.0, 5.0], "default": 0.0},
}
SETTINGS = {"max_epoch": 5, "train_limit": 200, "valid_limit": 300, "device": "cpu"}
TRAININGS = (1, 2, 5, 10)
KEYS = ["task", "seed", "history"]


def request(images: Path, data: Path, seed: int, history: bool) -> Request:
    """The study of one task and seed."""
    space = data / "ten.yaml"
    write_atomic(space, yaml.safe_dump(SPACE, sort_keys=False))
    return Request(
        images=str(images),
        budget=max(TRAININGS) * SETTINGS["max_epoch"],  # type: ignore[operator]
        workers=1,
        study=f"{images.stem}-{'with' if history else 'without'}-{seed}",
        seed=seed,
        final=False,
        default=False,
        meta=shipped.HISTORY if history else "none",
        own_studies=False,
        space=str(space),
        settings=dict(SETTINGS),
        data=data,
    )


def best_after(study: Study) -> list[float]:
    """The best value so far after `TRAININGS`."""
    best = incumbent_trace(study)
    return [float(best[min(k * study.max_epoch, len(best)) - 1]) for k in TRAININGS]


def rows_of(images: Path, data: Path, seed: int, history: bool) -> list[dict[str, Any]]:
    """Run one study to its end."""
    with prepared(request(images, data, seed, history)) as ready:
        run(ready)
        done = finish(ready)
        values = best_after(ready.study)
        method = ready.study.plan.method
    return [
        {
            "task": images.stem,
            "seed": seed,
            "history": history,
            "method": method,
            "trainings": k,
            "valid_accuracy": round(value, 4),
            "test_accuracy": round(done.test_accuracy, 4) if k == max(TRAININGS) else np.nan,
        }
        for k, value in zip(TRAININGS, values, strict=True)
    ]


def differences(table: pd.DataFrame) -> list[str]:
    """With less without history at equal epochs, over (task, seed), and a paired Wilcoxon test."""
    out = []
    for column in ("valid_accuracy", "test_accuracy"):
        wide = table.pivot_table(
            index=["trainings", "task", "seed"], columns="history", values=column
        ).dropna()
        for k, pair in wide.groupby("trainings"):
            apart = (pair[True] - pair[False]).to_numpy()
            p = wilcoxon(apart, zero_method="pratt").pvalue if apart.any() else 1.0
            error = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else np.nan
            out.append(
                f"{column} after {k}: {pair[True].mean():.3f} with, {pair[False].mean():.3f} "
                f"without, {apart.mean():+.3f} ± {error:.3f} (n {len(apart)}, p {p:.3f})"
            )
    return out


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing and print the differences."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="folder for the studies")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("data/reports/ten.csv"))
    given = parser.parse_args(argv)
    table = pd.read_csv(given.out) if given.out.is_file() else pd.DataFrame(columns=KEYS)
    for seed in range(given.seeds):
        for images in given.images:
            for history in (True, False):
                if (table[KEYS] == [images.stem, seed, history]).all(axis=1).any():
                    continue
                new = pd.DataFrame(rows_of(images, given.data, seed, history))
                table = pd.concat([table, new], ignore_index=True) if len(table) else new
                write_atomic(given.out, table.to_csv(index=False))
                print(new.to_string(index=False, header=False), flush=True)
    print("\n".join(differences(table)))


if __name__ == "__main__":
    main()
