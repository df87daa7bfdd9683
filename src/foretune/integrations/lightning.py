"""A trial of `foretune.tune` inside Lightning's Trainer (extra `lightning`).

def train(config, trial):
    trainer = Trainer(max_epochs=trial.epochs, callbacks=[TrialCallback(trial, "val_acc")])
    trainer.fit(Net(**config), data, ckpt_path=trial.resume)

foretune.tune(train, space, metric="val_acc", budget=100, max_epoch=10)
"""

from typing import TYPE_CHECKING, Any

from foretune.errors import BadInput, extra

with extra("lightning", "the Lightning callback"):
    from lightning.pytorch.callbacks import Callback

if TYPE_CHECKING:
    from foretune.running.objectives.function import Trial


class TrialCallback(Callback):
    """After each epoch: saves the trainer's checkpoint to `trial.checkpoint` (unless `save` is
    False), reports `monitor`, as the module logs it, with all other numbers, and stops the training
    where the trial's step ends.

    For a training in one process. Raises `BadInput` in the first epoch if `monitor` is not logged.
    """

    def __init__(self, trial: "Trial", monitor: str, *, save: bool = True):
        self.trial, self.monitor, self.save = trial, monitor, save

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Save, report, stop; validation of the epoch is over by now."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self.monitor not in logged:
            raise BadInput(
                f"monitor={self.monitor!r} is not logged once an epoch; logged are "
                f"{', '.join(sorted(logged)) or 'no metrics'}"
            )
        if self.save:
            trainer.save_checkpoint(self.trial.checkpoint)
        self.trial.report(trainer.current_epoch + 1, logged)
        trainer.should_stop = trainer.should_stop or self.trial.should_stop
