"""A task of a meta-dataset as an objective: a step looks its curve up."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.study.outcome import Outcome, Row


@dataclass
class Replay:
    """One task of a meta-dataset as an objective, at no cost.

    Raises `BadInput` for an unknown task, or a seed that the task was not trained with.
    """

    meta: MetaDataset
    task: str
    seed: int = 0

    def __post_init__(self) -> None:
        self.meta.check_task(self.task)
        if self.seed not in (known := self.meta.seeds(self.task)):
            raise BadInput(
                f"curve seed {self.seed} of {self.task} is not in {self.meta.name}; it has "
                f"{', '.join(map(str, known))}"
            )
        # (n, E) in the metric's own unit
        self.values = self.meta.curves(self.task, self.seed) * self.meta.sign
        self.known = self.meta.failed(self.task, self.seed) | ~np.isnan(self.values)

    def run(
        self,
        config_id: int,
        config: Mapping[str, Any],
        start: int,
        stop: int,
        on_epoch: Callable[[Row], None] | None = None,
    ) -> Outcome:
        """Rows `{epoch, metric}` of epochs start + 1 .. stop.

        Epoch 0 comes before the first if the table has it; it ends early at NaN or a missing cell.
        """
        i, metric = config_id, self.meta.metric
        if i >= len(self.meta.configs) or self.meta.configs[i] != config:
            i = int(self.meta.rows_of([config])[0])
            if i < 0:
                return Outcome([], "the table does not have this configuration")
        rows: list[Row] = []
        report = on_epoch or (lambda row: None)
        if start == 0 and math.isfinite(first := self.meta.start(self.task, self.seed)[i]):
            rows.append({"epoch": 0, metric: float(first * self.meta.sign)})
            report(rows[-1])
        for epoch in range(start + 1, stop + 1):
            if not self.known[i, epoch - 1]:
                return Outcome(rows, f"the table has no epoch {epoch} of this configuration")
            rows.append({"epoch": epoch, metric: float(self.values[i, epoch - 1])})
            report(rows[-1])
            if not math.isfinite(rows[-1][metric]):
                break
        return Outcome(rows)
