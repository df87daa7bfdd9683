"""What runs a step: `Replay` looks a curve up in a meta-dataset. (`foretune.training` trains one; everything above is the same code.)"""

import math
from collections.abc import Mapping
from typing import Any

from foretune.errors import BadInput
from foretune.meta import MetaDataset
from foretune.space import config_key


class Replay:
    """One task of a meta-dataset as an objective: `run` returns the rows of the epochs asked for, at no cost.

    Raises `BadInput` for an unknown task, or a seed that the task was not trained with.
    """

    def __init__(self, meta: MetaDataset, task: str, seed: int = 0):
        if task not in meta.tasks:
            raise BadInput(f"unknown task {task!r}; {meta.name} has {', '.join(meta.tasks)}")
        if seed not in meta.seeds(task):
            raise BadInput(f"seed {seed} of {task} is not in {meta.name}; it has {', '.join(map(str, meta.seeds(task)))}")
        self.meta, self.task, self.seed = meta, task, seed
        self.values = meta.curves(task, seed) * meta.sign
        self.trained = meta.failed(task, seed) | ~(self.values != self.values)

    def run(self, config: Mapping[str, Any], start: int, stop: int) -> list[dict[str, Any]]:
        """Rows `{epoch, metric}` of epochs start + 1 .. stop, epoch 0 before the first if the table has it; ends early at a missing cell or NaN."""
        i = self.meta.row_of[config_key(config)]
        rows: list[dict[str, Any]] = []
        if start == 0 and math.isfinite(first := self.meta.start(self.task, self.seed)[i]):
            rows.append({"epoch": 0, self.meta.metric: float(first * self.meta.sign)})
        for epoch in range(start + 1, stop + 1):
            if not self.trained[i, epoch - 1]:
                break
            rows.append({"epoch": epoch, self.meta.metric: float(self.values[i, epoch - 1])})
            if not math.isfinite(rows[-1][self.meta.metric]):
                break
        return rows
