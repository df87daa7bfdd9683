"""Functions that train, as a user of `foretune.tune(function, space)` writes them."""

import json
import os
import signal
import time


def curve(rate, epochs):
    """What `train` reports for a learning rate, when nothing interrupts it."""
    w, out = 0.0, []
    for _ in range(epochs):
        w = 0.5 * w + rate
        out.append(w)
    return out


def train(config, trial):
    """Goes on from its checkpoint."""
    w, first = 0.0, 1
    if trial.resume:
        state = json.loads(trial.resume.read_text(encoding="utf-8"))
        w, first = state["w"], state["epoch"] + 1
    for epoch in range(first, trial.epochs + 1):
        w = 0.5 * w + config["learning_rate"]
        trial.checkpoint.write_text(json.dumps({"epoch": epoch, "w": w}), encoding="utf-8")
        trial.report(epoch, {"acc": w, "loss": 1 - w})
        if trial.should_stop:
            break


def train_on_and_on(config, trial):
    """Never asks whether it should stop, and keeps no checkpoint."""
    for epoch, value in enumerate(curve(config["learning_rate"], trial.epochs), 1):
        trial.report(epoch, {"acc": value})


def fail(config, trial):
    """Reports an epoch, then fails."""
    trial.report(1, {"acc": 0.5})
    raise KeyError("label")


def run_out(config, trial):
    """Has too little memory."""
    raise MemoryError


def return_early(config, trial):
    """Ends before it was asked to."""
    trial.report(1, {"acc": 0.5})


def leave_out(config, trial):
    """Reports no second epoch."""
    trial.report(1, {"acc": 0.5})
    trial.report(3, {"acc": 0.5})


def report_words(config, trial):
    """Reports what is no number."""
    trial.report(1, {"acc": "high"})


def die(config, trial):
    """Is killed in the middle of epoch 2 of its first run."""
    mark = trial.folder / "mark"
    for epoch, value in enumerate(curve(config["learning_rate"], trial.epochs), 1):
        if epoch == 2 and not mark.exists():
            mark.touch()
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGKILL)
        trial.report(epoch, {"acc": value})
