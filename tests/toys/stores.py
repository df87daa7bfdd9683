"""A run store as an import leaves it: runs of a few columns on past tasks, with curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from foretune.history.runs import FACTS, RunStore


def store_of(
    rows: Sequence[Mapping[str, Any]], epochs: int = 10, metric: str = "valid_accuracy"
) -> RunStore:
    """A run for each of `rows` (`task`, `score` and columns of the vocabulary or `extra.*`), its
    curve rising to its score.
    """
    runs, points = [], []
    goal = "minimize" if "loss" in metric else "maximize"
    for k, row in enumerate(rows):
        score = float(row["score"])
        facts = dict.fromkeys(FACTS) | {"run_id": f"r{k:04}", "source": "csv:toy", "trainer": ""}
        facts |= {"source_id": str(k), "state": "complete", "metric": metric, "goal": goal}
        facts |= {"unit": "share", "split": "valid", "value": score, "last": score}
        facts |= {"epochs_planned": float(epochs), "epochs_done": float(epochs), "seconds": 1.0}
        runs.append({**facts, **{n: v for n, v in row.items() if n != "score"}})
        share = np.arange(1, epochs + 1) / epochs
        points += [
            {"run_id": f"r{k:04}", "epoch": float(e), metric: score * (0.5 + 0.5 * s)}
            for e, s in zip(range(1, epochs + 1), share, strict=True)
        ]
    return RunStore(pd.DataFrame(runs), pd.DataFrame(points))
