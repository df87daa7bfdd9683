"""Trials: same numbers however they are cut, failures with their epoch, evaluation."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from foretune.errors import BadInput
from foretune.tasks.task import Task
from foretune.training import networks
from foretune.training import trial as training
from foretune.training.activations import subset
from foretune.training.augmentation import normalise
from foretune.training.recipe import Settings
from foretune.training.trial import Diverged, OutOfMemory, evaluate, train

SETTINGS = Settings(
    network="shufflenet_v2_x05",
    image_size=32,
    pretrained=False,
    batch_size=8,
    train_limit=26,
    valid_limit=20,
    max_epoch=6,
    device="cpu",
)
TIMES = {"seconds", "images_per_second"}


def squares(name: str = "squares", count: int = 80, seed: int = 0) -> Task:
    """Dark and bright pictures: two classes that one look at the mean tells apart."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = rng.integers(0, 120, (count, 32, 32, 3)) + 130 * labels[:, None, None, None]
    split = np.repeat(np.array([0, 1, 2]), [count // 2, count // 4, count // 4])
    return Task(
        name,
        images.astype(np.uint8),
        labels.astype(np.int64),
        ("dark", "bright"),
        split.astype(np.uint8),
    )


def numbers(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def config(**changes: object) -> dict:
    return {
        "learning_rate": 3e-3,
        "optimizer": "adam",
        "finetune": "all",
        "augmentation": "crop_flip_colour",
        **changes,
    }


@pytest.mark.parametrize(
    ("finetune", "optimizer"),
    [("head", "adam"), ("last_blocks", "adagrad"), ("most", "sgd"), ("all", "adam")],
)
def test_three_steps_equal_one(tmp_path: Path, finetune: str, optimizer: str) -> None:
    task, chosen = (
        squares(),
        config(
            finetune=finetune,
            optimizer=optimizer,
            learning_rate=1e-4 if optimizer == "sgd" else 3e-3,
        ),
    )
    whole = train(task, chosen, 0, 3, settings=SETTINGS, seed=5, checkpoint=tmp_path / "whole")
    cut = [
        row
        for e in range(3)
        for row in train(
            task, chosen, e, e + 1, settings=SETTINGS, seed=5, checkpoint=tmp_path / "cut"
        )
    ]
    assert numbers(cut) == numbers(whole)
    assert [row["epoch"] for row in cut] == [1, 2, 3]
    one, other = (
        training.reopen(task, tmp_path / name, "cpu").network.state_dict()
        for name in ("whole", "cut")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_two_epochs_by_hand() -> None:
    settings = replace(SETTINGS, train_limit=16)
    rows = train(squares(), config(augmentation="none"), 0, 2, settings=settings, seed=3)
    network = networks.build("shufflenet_v2_x05", 2, False, seed=training.seed_for(3, "network"))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, fused=True)
    (images, labels), (valid, truth) = (squares().part(part) for part in ("train", "valid"))
    kept = subset(labels, 16)
    x, v = (
        normalise(torch.from_numpy(i).permute(0, 3, 1, 2) / 255, network.mean, network.std)
        for i in (images[kept], valid)
    )
    y, t = torch.from_numpy(labels[kept]), torch.from_numpy(truth)
    for epoch in (1, 2):
        optimizer.param_groups[0]["lr"] = rate = (
            3e-3 * (1 + math.cos(math.pi * (epoch - 1) / 6)) / 2
        )
        order = torch.randperm(
            16, generator=torch.Generator().manual_seed(training.seed_for(3, "order", epoch))
        )
        network.train()
        total = 0.0
        for batch in (order[:8], order[8:]):
            loss = torch.nn.functional.cross_entropy(
                network(x[batch].contiguous(memory_format=torch.channels_last)), y[batch]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        with torch.no_grad():
            logits = network.eval()(v.contiguous(memory_format=torch.channels_last))
        row = rows[epoch - 1]
        assert row["learning_rate"] == pytest.approx(rate)
        assert row["train_loss"] == pytest.approx(total / 16, rel=1e-3)
        assert row["valid_loss"] == pytest.approx(
            float(torch.nn.functional.cross_entropy(logits, t)), rel=1e-2
        )
        assert row["valid_accuracy"] == pytest.approx(float((logits.argmax(1) == t).float().mean()))
        assert row["valid_top5"] == 1.0  # two classes are always among the top five


def test_same_seed_same_numbers_another_seed_others() -> None:
    one, same, other = (
        train(squares(), config(finetune="head"), 0, 1, settings=SETTINGS, seed=s)
        for s in (0, 0, 1)
    )
    assert numbers(one) == numbers(same) != numbers(other)


def test_known_epochs_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "c", []
    rows = train(squares(), config(), 0, 2, settings=SETTINGS, seed=0, checkpoint=path)
    monkeypatch.setattr(training, "Trial", None)
    assert (
        train(
            squares(),
            config(),
            0,
            2,
            settings=SETTINGS,
            seed=0,
            checkpoint=path,
            on_epoch=seen.append,
        )
        == rows
        == seen
    )
    assert train(squares(), config(), 1, 2, settings=SETTINGS, seed=0, checkpoint=path) == rows[1:]


def test_damaged_checkpoint_starts_again_with_the_same_numbers(tmp_path: Path) -> None:
    path = tmp_path / "c"
    rows = train(squares(), config(), 0, 2, settings=SETTINGS, seed=0, checkpoint=path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    seen: list[dict] = []
    assert numbers(
        train(
            squares(),
            config(),
            1,
            2,
            settings=SETTINGS,
            seed=0,
            checkpoint=path,
            on_epoch=seen.append,
        )
    ) == numbers(rows[1:])
    assert [row["epoch"] for row in seen] == [2]


def test_checkpoint_of_another_trial_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    train(squares(), config(), 0, 1, settings=SETTINGS, seed=0, checkpoint=path)
    with pytest.raises(BadInput, match="another trial"):
        train(squares(), config(), 1, 2, settings=SETTINGS, seed=1, checkpoint=path)
    with pytest.raises(BadInput, match="other images"):
        evaluate(squares(seed=9), path)


def test_checkpoint_holds_what_is_trained_only(tmp_path: Path) -> None:
    for finetune in ("head", "all"):
        train(
            squares(),
            config(finetune=finetune),
            0,
            1,
            settings=SETTINGS,
            seed=0,
            checkpoint=tmp_path / finetune,
        )
    head, everything = ((tmp_path / name).stat().st_size for name in ("head", "all"))
    assert head * 20 < everything


def test_divergence_names_the_epoch_and_keeps_the_rows(tmp_path: Path) -> None:
    wild = config(optimizer="sgd", learning_rate=1e38, augmentation="none")
    with pytest.raises(Diverged) as caught:
        train(squares(), wild, 0, 3, settings=SETTINGS, seed=0, checkpoint=tmp_path / "c")
    assert caught.value.epoch == 1 and caught.value.rows == [] and "loss is" in caught.value.reason


def test_out_of_memory_is_a_failed_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: training.Trial, epoch: int) -> tuple[float, float]:
        if epoch == 3:
            raise RuntimeError(
                "DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."
            )
        return 0.1, 1.0

    monkeypatch.setattr(training.Trial, "_pass", full)
    with pytest.raises(OutOfMemory) as caught:
        train(squares(), config(), 1, 4, settings=SETTINGS, seed=0)
    assert caught.value.epoch == 3 and [row["epoch"] for row in caught.value.rows] == [2]


def test_evaluate_counts_the_whole_test_part(tmp_path: Path) -> None:
    settings = replace(SETTINGS, valid_limit=0)
    rows = train(
        squares(),
        config(finetune="last_blocks"),
        0,
        2,
        settings=settings,
        seed=0,
        checkpoint=tmp_path / "c",
    )
    valid = evaluate(squares(), tmp_path / "c", part="valid")
    assert valid["accuracy"] == rows[-1]["valid_accuracy"] and valid["loss"] == pytest.approx(
        rows[-1]["valid_loss"], rel=1e-5
    )
    assert evaluate(squares(), tmp_path / "c")["accuracy"] in {i / 20 for i in range(21)}
    with pytest.raises(BadInput, match="missing or damaged"):
        evaluate(squares(), tmp_path / "none")


@pytest.mark.parametrize("span", [(0, 0), (2, 1), (0, 7), (-1, 2)])
def test_epochs_out_of_range(span: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match="max_epoch"):
        train(squares(), config(), *span, settings=SETTINGS, seed=0)
