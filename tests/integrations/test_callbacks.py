"""Trials inside other trainers: each epoch is reported once, a step ends where it was asked to, and
its continuation is the training that was never interrupted. Tiny random networks on random images.
"""

import importlib
import math
import os
import sys

import pytest

from foretune.errors import BadInput
from foretune.running.objectives.function import Function

EPOCHS = 4
CONFIG = {"learning_rate": 0.05}


def images():
    """48 images (1, 8, 8) of two classes that differ in brightness, and their labels."""
    import torch

    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(48) % 2
    return torch.randn(48, 1, 8, 8, generator=draw) + labels[:, None, None, None], labels


def lightning_train(config, trial):
    """A training in Lightning."""
    import torch
    from lightning import LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    from foretune.integrations.lightning import TrialCallback

    class Net(LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(64, 2)

        def training_step(self, batch, k):
            return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

        def validation_step(self, batch, k):
            self.log("val_loss", self.training_step(batch, k))

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), config["learning_rate"], momentum=0.9)

    loader = DataLoader(TensorDataset(*images()), batch_size=16)
    trainer = Trainer(
        max_epochs=trial.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[TrialCallback(trial, config.get("monitor", "val_loss"))],
    )
    trainer.fit(Net(), loader, loader, ckpt_path=trial.resume)


def huggingface_train(config, trial):
    """A training in Hugging Face's Trainer. (Of a ViT its version 5.24 does not find the weights
    in the checkpoint that it wrote itself.)
    """
    import torch
    from transformers import Trainer, TrainingArguments

    from foretune.integrations.huggingface import TrialCallback

    pixels, labels = images()
    data = [{"pixel_values": p, "labels": int(y)} for p, y in zip(pixels, labels, strict=True)]

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.layer = torch.nn.Linear(64, 2)

        def forward(self, pixel_values, labels):
            logits = self.layer(pixel_values.flatten(1))
            return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}

    arguments = TrainingArguments(
        str(trial.folder),
        num_train_epochs=trial.epochs,
        learning_rate=config["learning_rate"],
        per_device_train_batch_size=16,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
        **config.get("arguments", {"eval_strategy": "epoch", "save_strategy": "no"}),
    )
    trainer = Trainer(
        Net(),
        arguments,
        train_dataset=data,
        eval_dataset=data,
        callbacks=[TrialCallback(trial)],
    )
    trainer.train(resume_from_checkpoint=str(trial.resume) if trial.resume else None)


def keras_train(config, trial):
    """A training in Keras."""
    import keras

    from foretune.integrations.keras import TrialCallback, resumed

    pixels, labels = images()
    model = resumed(trial)
    if model is None:
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(config["learning_rate"], momentum=0.9), loss)
    given = pixels.numpy(), labels.numpy()
    model.fit(
        *given,
        validation_data=given,
        batch_size=16,
        shuffle=False,
        verbose=0,
        initial_epoch=trial.start,
        epochs=trial.epochs,
        callbacks=[TrialCallback(trial)],
    )


TRAINERS = {
    "lightning": (lightning_train, "val_loss"),
    "transformers": (huggingface_train, "eval_loss"),
    "keras": (keras_train, "val_loss"),
}


@pytest.fixture(params=TRAINERS)
def objective(request, tmp_path, monkeypatch):
    """A trainer as an objective, skipped where its library is not installed."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    pytest.importorskip(request.param)
    train, metric = TRAINERS[request.param]
    return Function(train, tmp_path, metric, EPOCHS, maximize=False)


@pytest.mark.slow
def test_a_continued_training_is_the_uninterrupted_one(objective):
    metric = objective.metric
    told = []
    whole = objective.run(0, CONFIG, 0, EPOCHS, told.append)
    assert whole.failed is None or whole.failed == ""
    assert [row["epoch"] for row in told] == [1, 2, 3, 4] == [r["epoch"] for r in whole.rows]
    assert told[-1][metric] < told[0][metric]  # it learns
    first = objective.run(1, CONFIG, 0, 2)
    assert [row["epoch"] for row in first.rows] == [1, 2]
    assert objective.checkpoint(1) is not None
    second = objective.run(1, CONFIG, 2, EPOCHS)
    assert [row["epoch"] for row in second.rows] == [3, 4]
    parts = [row[metric] for row in (*first.rows, *second.rows)]
    assert parts == pytest.approx([row[metric] for row in whole.rows], rel=1e-5)
    assert objective.checkpoint(1, best=True) is not None


@pytest.mark.slow
def test_a_training_that_leaves_the_finite_ends_there(objective):
    outcome = objective.run(0, {"learning_rate": 1e38}, 0, EPOCHS)
    assert not math.isfinite(outcome.rows[-1][objective.metric])
    assert all(math.isfinite(row[objective.metric]) for row in outcome.rows[:-1])
    assert len(outcome.rows) < EPOCHS


def test_a_metric_that_lightning_does_not_log_is_named(tmp_path):
    pytest.importorskip("lightning")
    objective = Function(lightning_train, tmp_path, "val_loss", EPOCHS, maximize=False)
    outcome = objective.run(0, {**CONFIG, "monitor": "val_acc"}, 0, 1)
    assert "'val_acc' is not logged once an epoch; logged are val_loss" in outcome.failed


def test_evaluations_within_an_epoch_are_refused(tmp_path):
    pytest.importorskip("transformers")
    objective = Function(huggingface_train, tmp_path, "eval_loss", EPOCHS, maximize=False)
    often = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "no"}
    outcome = objective.run(0, {**CONFIG, "arguments": often}, 0, 1)
    assert "give the TrainingArguments eval_strategy='epoch'" in outcome.failed


@pytest.mark.parametrize("name", ["lightning", "huggingface", "keras"])
def test_a_library_that_is_not_there_is_named(name, monkeypatch):

    library = {"huggingface": "transformers"}.get(name, name)
    for module in [m for m in sys.modules if m.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"foretune.integrations.{name}", raising=False)
    with pytest.raises(BadInput, match=rf"pip install 'foretune\[{name}\]'"):
        importlib.import_module(f"foretune.integrations.{name}")
