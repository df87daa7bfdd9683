"""What `foretune tune --command` is asked about the script. Nothing is imported here that takes
time.
"""

from dataclasses import dataclass, field
from typing import Any


def asked(help_: str, metavar: str, **more: Any) -> Any:
    """A field that may be left out."""
    return field(default=None, metadata={"help": help_, "metavar": metavar, **more})


@dataclass(frozen=True)
class Script:
    """The user's script. `None` means: as the trainer has it, or the default."""

    command: str | None = asked(
        "the command that trains, with {learning_rate} and the like in place of values, and "
        "{trial_folder}, {epochs}, {seed}, {device}; no IMAGES are needed then",
        "'python train.py ...'",
    )
    read: str | None = asked(
        "where its results are: results.csv:val_acc, log.jsonl:eval.acc, tensorboard:TAG, "
        "mlflow:METRIC, or 'stdout:acc=([0-9.]+)'; files lie in {trial_folder}",
        "FILE:COLUMN",
    )
    goal: str | None = asked(
        "maximize or minimize (default: minimize what is called loss or error, else maximize)",
        "GOAL",
    )
    epochs: int | None = asked("epochs of a full training (default: 10)", "N", least=1)
    checkpoint: str | None = asked(
        "the checkpoint that it writes into {trial_folder} after each epoch, such as last.pt",
        "FILE",
    )
    resume: str | None = asked(
        "arguments that let it go on, such as '--resume {checkpoint}'; without, trials are "
        "whole trainings",
        "'--resume {checkpoint}'",
    )
    trainer: str | None = asked(
        "flags, results, space and resume of a known script: timm, huggingface, lightning, "
        "ultralytics",
        "NAME",
    )
    task: str | None = asked(
        "what is trained on, for the studies that learn from this one (default: the script's "
        "folder)",
        "NAME",
    )
    timeout: float | None = asked(
        "give a trial up that brings no result for so long (default: never)", "SECONDS", above=0
    )
    silence: float | None = asked(
        "give a trial up that neither prints nor brings a result for so long (default: 1800)",
        "SECONDS",
        above=0,
    )
    grace: float | None = asked(
        "between the signal that asks the script to stop and SIGKILL (default: 10)",
        "SECONDS",
        least=0,
    )
    stop_signal: str | None = asked("TERM or INT (default: TERM)", "NAME")
