"""Hugging Face `Trainer`: `trainer_state.json` (log_history, trial_params) in a run's folder or its
checkpoints.

`best_metric` is of `metric_for_best_model`, often a loss; the curve is read from log_history.
Epochs are fractions as the trainer counts them. `training_args.bin` is a pickle and stays closed:
settings come from the state, from the model's `config.json` and from the card `README.md`, whose
list of hyperparameters the trainer itself writes.
"""

import re
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.stores.record import Record, Source, files_named, finite, read_json, read_text

CARD = re.compile(
    r"^- (learning_rate|train_batch_size|seed|optimizer|lr_scheduler_type|"
    r"lr_scheduler_warmup_ratio|lr_scheduler_warmup_steps|num_epochs|"
    r"gradient_accumulation_steps|label_smoothing_factor|weight_decay): (.+)$",
    re.M,
)
RENAMED = {"lr_scheduler_warmup_ratio": "warmup_ratio", "lr_scheduler_warmup_steps": "warmup_steps"}
# names of a model's config.json
CONFIG = {"_name_or_path": "model", "model_type": "model_family", "image_size": "image_size"}
SILENT = {"epoch", "step", "total_flos", "learning_rate", "grad_norm"}


def read(path: Path) -> Source:
    """Read all runs under a folder, or one state. Raises `BadInput`."""
    files = [path] if path.is_file() else list(files_named(path, "trainer_state.json"))
    if not files:
        raise BadInput(f"{path} holds no trainer_state.json of the Hugging Face Trainer")
    source = Source("huggingface", path.parent.name if path.is_file() else path.resolve().name)
    source.axis, source.first, source.trainer = "epoch", 1, "huggingface"
    # checkpoints of one run: the last holds the whole history
    newest: dict[Path, tuple[float, Path, Any]] = {}
    for file in files:
        state = read_json(file)
        if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
            raise BadInput(f"{file} is no state of the Trainer: it has no log_history")
        folder = file.parent
        run = folder.parent if folder.name.startswith("checkpoint-") and folder != path else folder
        step = finite(state.get("global_step")) or 0.0
        if run not in newest or step > newest[run][0]:
            newest[run] = (step, file, state)
    for run, (_, _, state) in sorted(newest.items()):
        source.records.append(_record(run, state))
    return source


def _record(run: Path, state: dict[str, Any]) -> Record:
    record = Record(run.name)
    record.planned = finite(state.get("num_train_epochs"))
    record.last_epoch = finite(state.get("epoch"))
    rates = []
    for row in state["log_history"]:
        if not isinstance(row, dict):
            continue
        epoch = finite(row.get("epoch"))
        for name, value in row.items():
            if epoch is not None and name not in SILENT and isinstance(value, int | float):
                record.add("train_loss_step" if name == "loss" else name, epoch, value)
        if (rate := finite(row.get("learning_rate"))) is not None:
            rates.append(rate)
        if (seconds := finite(row.get("train_runtime"))) is not None:
            record.seconds = seconds
    trial = state.get("trial_params") or {}
    record.params = {"num_train_epochs": record.planned} if record.planned else {}
    if rates:
        record.params["learning_rate"] = max(rates)  # the schedule's highest logged value
    if state.get("train_batch_size"):
        record.params["train_batch_size"] = state["train_batch_size"]
    if (run / "config.json").is_file():
        config = read_json(run / "config.json")
        for theirs, ours in CONFIG.items():
            if isinstance(config, dict) and config.get(theirs):
                record.params[ours] = config[theirs]
    if (run / "README.md").is_file():
        for told in CARD.finditer(read_text(run / "README.md")):
            name = str(told[1])
            record.params[RENAMED.get(name, name)] = _plain(name, str(told[2]))
    record.params |= {k: v for k, v in trial.items() if v is not None}
    return record


def _plain(name: str, value: str) -> str:
    """The optimizer's line begins with its name: `Use adamw_torch with betas=...`, `Adam with ...`."""
    if name != "optimizer":
        return value.strip()
    words = value.removeprefix("Use ").split()
    return words[0].removeprefix("OptimizerNames.").lower() if words else ""
