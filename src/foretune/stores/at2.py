"""What the importers of the AT2 authors' releases share: `configs.pkl` and `profiles.pkl`.

`profiles.pkl` is `{seed: {task: {config: array over epochs}}}`
(github.com/xiaoyuxin1002/amortized-auto-tuning, data/).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foretune.errors import BadInput
from foretune.stores.plain_pickle import read


def read_release(
    src: Path,
) -> tuple[dict[int, dict[str, Any]], dict[int, dict[str, dict[int, np.ndarray]]]]:
    """Configurations by number, and curves by seed, task and configuration.

    Raises `BadInput` on a missing file or another layout.
    """
    if missing := [n for n in ("configs.pkl", "profiles.pkl") if not (src / n).is_file()]:
        raise BadInput(
            f"{src} lacks {' and '.join(missing)}: give the folder as its authors ship it"
        )
    configs, profiles = read(src / "configs.pkl"), read(src / "profiles.pkl")
    if not isinstance(configs, dict) or not all(isinstance(c, dict) for c in configs.values()):
        raise BadInput(f"{src / 'configs.pkl'} is not a dict of configurations")
    try:
        arrays = [
            a for tasks in profiles.values() for curves in tasks.values() for a in curves.values()
        ]
    except AttributeError as error:
        raise BadInput(
            f"{src / 'profiles.pkl'} is not {{seed: {{task: {{config: curve}}}}}}"
        ) from error
    if not arrays or not all(isinstance(a, np.ndarray) and a.ndim == 1 for a in arrays):
        raise BadInput(
            f"{src / 'profiles.pkl'} holds no curves, or curves that are not one-dimensional"
        )
    return {int(k): c for k, c in configs.items()}, profiles


def long_table(
    profiles: dict[int, dict[str, dict[int, np.ndarray]]], metric: str, first_epoch: int
) -> pd.DataFrame:
    """The curves in long form; element 0 of a curve is epoch `first_epoch`."""
    keys = [
        (s, t, c)
        for s, tasks in sorted(profiles.items())
        for t, curves in sorted(tasks.items())
        for c in sorted(curves)
    ]
    values = [profiles[s][t][c] for s, t, c in keys]
    lengths = [len(v) for v in values]
    table = pd.DataFrame(
        {
            "task": np.repeat(np.array([t for _, t, _ in keys], dtype=object), lengths),
            "config_id": np.repeat(np.array([int(c) for _, _, c in keys], dtype=np.int32), lengths),
            "seed": np.repeat(np.array([int(s) for s, _, _ in keys], dtype=np.int16), lengths),
            "epoch": np.concatenate(
                [np.arange(first_epoch, first_epoch + n, dtype=np.int16) for n in lengths]
            ),
            metric: np.concatenate(values).astype(np.float32),
        }
    )
    return table.astype({"task": "str"})


def known_pairs(pairs: dict[str, list[str]], tasks: list[str]) -> list[dict[str, Any]]:
    """The paper's train-test pairs (test task: train tasks) of which all tasks are present."""
    return [
        {"train": train, "test": test}
        for test, train in pairs.items()
        if {test, *train} <= set(tasks)
    ]
