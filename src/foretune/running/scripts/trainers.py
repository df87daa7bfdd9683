"""Training scripts that are widely used: how they are told what, and where their results lie.

Each trainer adds to the user's command what that does not have yet, so that `python train.py photos
--model resnet18` is enough.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from foretune.errors import BadInput


@dataclass(frozen=True)
class Trainer:
    """A script's ways: `flags` of hyperparameters by our names, `arguments` that it always gets,
    and the defaults of `--read`, `--goal`, `--resume` and `--checkpoint`. `space` is where nobody
    names one: hyperparameter -> (low, high) on the log scale, or its choices.
    """

    flags: Mapping[str, str]
    arguments: tuple[str, ...]
    read: str
    resume: str
    checkpoint: str
    space: Mapping[str, tuple[float, float] | list[Any]]
    goal: str = "maximize"
    other: str = "--{name} {{{name}}}"  # how a hyperparameter is given that `flags` lacks
    # hyperparameter -> an argument that is added where it is tuned, and the one that makes the
    # script ignore it
    beside: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    about: str = ""

    def completed(self, command: str, hyperparameters: list[str]) -> str:
        """The command with what it lacks: an argument is there where its option is, a
        hyperparameter where its placeholder is. Raises `BadInput` where the command would ignore a
        hyperparameter.
        """
        out = command
        for argument in self.arguments:
            if not has_option(command, argument):
                out += f" {argument}"
        for name in hyperparameters:
            if f"{{{name}}}" not in command:
                out += " " + (self.flags.get(name) or self.other.format(name=name))
        for name in hyperparameters:
            added, useless = self.beside.get(name, ("", ""))
            if useless and useless in out.split():
                raise BadInput(
                    f"--command has {useless}, with which the script ignores {name}: leave it out "
                    f"({added} is added), or do not tune {name}"
                )
            if added and not has_option(out, added):
                out += f" {added}"
        return out


def has_option(command: str, argument: str) -> bool:
    """Whether a command has the option of an argument such as `--epochs {epochs}` or `epochs=3`."""
    option = argument.split(maxsplit=1)[0].partition("=")[0]
    return any(word.partition("=")[0] == option for word in command.split())


TRAINERS: dict[str, Trainer] = {
    "timm": Trainer(
        flags={
            "learning_rate": "--lr {learning_rate}",
            "weight_decay": "--weight-decay {weight_decay}",
            "batch_size": "--batch-size {batch_size}",
            "optimizer": "--opt {optimizer}",
            "label_smoothing": "--smoothing {label_smoothing}",
            "drop_path": "--drop-path {drop_path}",
            "layer_decay": "--layer-decay {layer_decay}",
            "network": "--model {network}",
            "mixup": "--mixup {mixup}",
            "cutmix": "--cutmix {cutmix}",
        },
        arguments=(
            "--epochs {epochs}",
            "--output {trial_folder}",
            "--experiment run",
            "--seed {seed}",
            "--cooldown-epochs 0",
        ),
        read="run/summary.csv:eval_top1",
        resume="--resume {checkpoint}",
        checkpoint="run/last.pth.tar",
        space={
            "learning_rate": (1e-5, 1e-1),
            "weight_decay": (1e-6, 1e-1),
            "optimizer": ["adamw", "sgd"],
            "label_smoothing": [0.0, 0.1],
        },
        other="--{name} {{{name}}}",
        about="train.py of pytorch-image-models",
    ),
    "huggingface": Trainer(
        flags={
            "learning_rate": "--learning_rate {learning_rate}",
            "weight_decay": "--weight_decay {weight_decay}",
            "batch_size": "--per_device_train_batch_size {batch_size}",
            "network": "--model_name_or_path {network}",
            "optimizer": "--optim {optimizer}",
            "scheduler": "--lr_scheduler_type {scheduler}",
        },
        arguments=(
            "--num_train_epochs {epochs}",
            "--output_dir {trial_folder}",
            "--eval_strategy epoch",
            "--save_strategy epoch",
            "--save_total_limit 2",
            "--seed {seed}",
            "--do_train",
            "--do_eval",
        ),
        read="checkpoint-*/trainer_state.json:eval_accuracy",
        resume="--resume_from_checkpoint {checkpoint}",
        checkpoint="checkpoint-*",
        space={
            "learning_rate": (1e-6, 1e-3),
            "weight_decay": (1e-6, 3e-1),
            "scheduler": ["linear", "cosine"],
            "batch_size": [8, 16, 32],
        },
        about="a script on the Trainer of transformers, such as run_image_classification.py",
    ),
    "lightning": Trainer(
        flags={},
        arguments=(
            "--trainer.max_epochs {epochs}",
            "--trainer.default_root_dir {trial_folder}",
            "--trainer.logger lightning.pytorch.loggers.CSVLogger",
            "--trainer.logger.save_dir {trial_folder}",
            "--trainer.logger.flush_logs_every_n_steps 1",
            "--seed_everything {seed}",
        ),
        read="**/metrics.csv:val_acc",
        resume="--ckpt_path {checkpoint}",
        checkpoint="**/*.ckpt",
        space={"learning_rate": (1e-5, 1e-1), "weight_decay": (1e-6, 1e-1)},
        other="--model.{name} {{{name}}}",
        about="a script on LightningCLI, `python main.py fit`",
    ),
    "ultralytics": Trainer(
        flags={
            "learning_rate": "lr0={learning_rate}",
            "weight_decay": "weight_decay={weight_decay}",
            "batch_size": "batch={batch_size}",
            "network": "model={network}",
        },
        arguments=(
            "epochs={epochs}",
            "project={trial_folder}",
            "name=run",
            "exist_ok=True",
            "seed={seed}",
        ),
        read="run/results.csv:metrics/accuracy_top1",
        resume="resume={checkpoint}",
        checkpoint="run/weights/last.pt",
        space={
            "learning_rate": (1e-5, 1e-1),
            "weight_decay": (1e-6, 1e-1),
            "optimizer": ["SGD", "AdamW"],
            "dropout": [0.0, 0.1, 0.3],
        },
        other="{name}={{{name}}}",
        # by itself it chooses an optimizer with a learning rate and momentum of its own
        beside={
            "learning_rate": ("optimizer=SGD", "optimizer=auto"),
            "momentum": ("optimizer=SGD", "optimizer=auto"),
        },
        about="`yolo classify train`",
    ),
}


def trainer(name: str) -> Trainer:
    """The trainer of this name. Raises `BadInput`."""
    if name not in TRAINERS:
        raise BadInput(
            f"--trainer {name!r} is not known; one of {', '.join(TRAINERS)} would be right"
        )
    return TRAINERS[name]
