"""A trial of `foretune.tune` inside Keras' `fit` (extra `keras`).

def train(config, trial):
    model = resumed(trial) or build(config)
    callbacks = [TrialCallback(trial)]
    model.fit(..., epochs=trial.epochs, initial_epoch=trial.start, callbacks=callbacks)

foretune.tune(train, space, metric="val_accuracy", budget=100, max_epoch=10)
"""

import os
import shutil
from typing import TYPE_CHECKING, Any

from foretune.errors import extra

with extra("keras", "the Keras callback"):
    import keras

if TYPE_CHECKING:
    from foretune.running.objectives.function import Trial


class TrialCallback(keras.callbacks.Callback):
    """After each epoch: saves the whole model, optimizer included, to `trial.checkpoint` (unless
    `save` is False), reports all of the epoch's logs, and stops the training where the trial's step
    ends.
    """

    def __init__(self, trial: "Trial", *, save: bool = True):
        super().__init__()
        self.trial, self.save = trial, save

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save, report, stop; `epoch` counts from 0, and validation is over by now."""
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        if self.save:
            written = self.trial.folder / ".writing.keras"
            self.model.save(written)
            os.replace(written, self.trial.checkpoint)
        self.trial.report(epoch + 1, numbers)
        if self.trial.should_stop:
            self.model.stop_training = True


def resumed(trial: "Trial") -> Any:
    """The model that the trial's earlier step left, ready to go on from epoch `trial.start`; None
    for a trial that begins. What Keras takes for unsafe to load, such as a lambda, is refused.
    """
    if trial.resume is None:
        return None
    named = trial.folder / ".resume.keras"  # by its name Keras knows the format
    shutil.copyfile(trial.resume, named)
    try:
        return keras.saving.load_model(named, safe_mode=True)
    finally:
        named.unlink()
