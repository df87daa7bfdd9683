"""A trial of `foretune.tune` inside the Trainer of Hugging Face's transformers (extra
`huggingface`).

    def train(config, trial):
        arguments = TrainingArguments(
            trial.folder, num_train_epochs=trial.epochs, eval_strategy="epoch", **config
        )
        trainer = Trainer(model(), arguments, ..., callbacks=[TrialCallback(trial)])
        trainer.train(resume_from_checkpoint=str(trial.resume) if trial.resume else None)

    foretune.tune(train, space, metric="eval_accuracy", budget=50, max_epoch=5)
"""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretune.errors import BadInput, extra

with extra("huggingface", "the Hugging Face callback"):
    from transformers import TrainerCallback

if TYPE_CHECKING:
    from foretune.running.objectives.function import Trial


class TrialCallback(TrainerCallback):
    """After each evaluation, which must be once an epoch: has the Trainer save its checkpoint,
    keeps that as `trial.checkpoint`, reports all numbers of the evaluation, and stops the training
    where the trial's step ends. With `save` False nothing is saved.

    Raises `BadInput` in the first epoch for evaluations that are not at its end.
    """

    def __init__(self, trial: "Trial", *, save: bool = True):
        self.trial, self.save = trial, save
        self._told: dict[str, float] | None = None

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **rest: Any
    ) -> None:
        """Take the numbers; they are reported once the checkpoint is saved."""
        epoch = round(state.epoch or 0)
        if epoch < 1 or abs(state.epoch - epoch) > 0.01:
            raise BadInput(
                f"an evaluation after {state.epoch:.3g} epochs: give the TrainingArguments "
                "eval_strategy='epoch'"
            )
        numbers = {k: float(v) for k, v in (metrics or {}).items() if isinstance(v, (int, float))}
        self._told = {**numbers, "epoch": epoch}
        if self.save:
            control.should_save = True
        else:
            self._report(control)

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Keep the checkpoint, report, stop."""
        if self._told is None or not self.save:
            return
        keep(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.trial.checkpoint)
        self._report(control)

    def _report(self, control: Any) -> None:
        told, self._told = self._told or {}, None
        epoch = int(told.pop("epoch"))
        self.trial.report(epoch, told)
        control.should_training_stop = control.should_training_stop or self.trial.should_stop


def keep(source: Path, target: Path) -> None:
    """Move the folder of a checkpoint to where the trial has its last one, which is replaced."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(source, target)
    shutil.rmtree(old, ignore_errors=True)
