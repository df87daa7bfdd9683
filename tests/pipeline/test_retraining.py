"""The trainer against the table: equal bit for bit on the kind of machine that made it, within the
spread between seeds elsewhere.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.params import load
from foretune.pipeline import retraining
from foretune.pipeline.meta_dataset import main
from foretune.pipeline.retraining import (
    EPOCHS,
    FIGURES,
    HEAD_TOLERANCE,
    TOLERANCE,
    Cell,
    cells,
    check,
)
from foretune.running import collection as collected
from foretune.running.collection import Block, Collection, kind_of_machine, order, processor
from foretune.running.collector import train_cells
from foretune.space.catalogue import DEPTHS, OPTIMIZERS, transfer_pool, transfer_space
from foretune.space.space import Space
from foretune.tasks.task import Task
from foretune.training.recipe import TRAINING_VERSION, Settings

ROOT = Path(__file__).resolve().parents[2]
TASKS = ("a", "b", "c")


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """Three tasks with all cells, epoch e of configuration i at 0.3 + 0.001 i + 0.01 e."""
    out = Collection(
        tmp_path / "light", Space(transfer_space()), transfer_pool(), Settings(max_epoch=3)
    )
    out.add(
        [
            {"task": task, "config_id": i, "seed": 0, "epoch": e, "seconds": 1.0}
            | dict.fromkeys(FIGURES, 0.3 + 0.001 * i + 0.01 * e)
            for task in TASKS
            for i in range(len(out.pool))
            for e in (1, 2, 3)
        ]
    )
    out.save()
    return out


def trains(
    monkeypatch: pytest.MonkeyPatch, shift: float, diverges: bool = False, head: float = 0.0
) -> list[Cell]:
    """A trainer that gives what the table has plus `shift`, or `head` where the head alone is
    trained; the cells that it was asked for.
    """
    asked = []

    def again(collection: Collection, cell: Cell, file: Path) -> np.ndarray:
        asked.append(cell)
        out = retraining.kept(collection, cell)
        if collection.pool[cell.config_id]["finetune"] == DEPTHS[0]:
            return out + np.float32(head)
        out += np.float32(shift)
        out[1:] = np.nan if diverges else out[1:]
        return out

    monkeypatch.setattr(retraining, "trained_again", again)
    return asked


def files() -> dict[str, Path]:
    return {task: Path(f"{task}.npz") for task in TASKS}


def test_a_cell_of_each_optimizer_on_another_task_each(collection: Collection) -> None:
    chosen = cells(collection, TASKS)
    assert [cell.task for cell in chosen] == ["a", "b", "c"]
    pool = collection.pool
    assert [pool[cell.config_id]["optimizer"] for cell in chosen] == list(OPTIMIZERS)
    assert {pool[cell.config_id]["finetune"] for cell in chosen} == {DEPTHS[-1]}
    place = {i: k for k, i in enumerate(order(pool))}
    sgd = [i for i in place if pool[i]["optimizer"] == "sgd" and pool[i]["finetune"] == DEPTHS[-1]]
    assert chosen[0].config_id == min(sgd, key=place.get)  # type: ignore[arg-type]
    assert cells(collection, ["nothing"]) == []


def test_a_cell_is_trained_again_to_the_end_of_its_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The learning rate after the first epoch depends on where a trial ends."""
    made = Collection(
        tmp_path / "m", Space(transfer_space()), transfer_pool(), Settings(), epochs={"a": 4}
    )
    ends = []
    monkeypatch.setattr(Task, "load", lambda path: None)
    monkeypatch.setattr(
        "foretune.training.trial.train",
        lambda task, config, start, stop, settings, seed: ends.append(settings.max_epoch) or [],
    )
    for task in ("a", "b"):
        retraining.trained_again(made, Cell(task, 0), Path())
    assert ends == [4, 10]


def test_bit_for_bit_where_the_table_was_made(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert collection.about["kinds"] == [kind_of_machine(collection.settings)]
    lines: list[str] = []
    assert len(trains(monkeypatch, 0.0)) == 0 and check(collection, files(), say=lines.append) == ""
    assert "bit for bit" in lines[0]
    for changed in ({"shift": 1e-7}, {"shift": 0.0, "head": 1e-7}):
        trains(monkeypatch, **changed)
        wrong = check(collection, files())
        assert "valid_accuracy of epoch 1 is 0.3" in wrong and "raise TRAINING_VERSION" in wrong
    # other pixels here: nothing can be equal
    assert check(collection, files(), ["a"], say=lines.append) == ""


def test_within_the_spread_between_seeds_elsewhere(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.about["kinds"] = [{"processor": "another"}]
    lines: list[str] = []
    trains(monkeypatch, TOLERANCE - 0.01)
    assert check(collection, files(), say=lines.append) == ""
    assert "differs by 0.150 on average" in lines[0]
    # a head that learns otherwise is found on any machine
    trains(monkeypatch, 0.0, head=HEAD_TOLERANCE / 2)
    assert check(collection, files(), say=lines.append) == ""
    trains(monkeypatch, 0.0, head=HEAD_TOLERANCE * 2)
    wrong = check(collection, files())
    assert "valid_loss of epoch 1 is" in wrong and "rounding makes less than 0.001" in wrong
    # from other pixels it learns something else anyway
    asked = trains(monkeypatch, 0.0, head=1.0)
    assert check(collection, files(), list(TASKS), say=lines.append) == "" and len(asked) == 3
    trains(monkeypatch, TOLERANCE + 0.01)
    assert "differs by 0.170 on average" in check(collection, files())
    trains(monkeypatch, 0.0, diverges=True)
    assert "differs by 0.500 on average" in check(collection, files())


def test_the_tolerance_is_what_three_cells_of_two_seeds_exceed_once_in_a_thousand() -> None:
    one = MetaDataset.load(load(ROOT / "params.yaml").meta_dataset.folder)
    two = MetaDataset.load(ROOT / "data" / "meta" / "light_seed1")
    gaps = np.concatenate(
        [np.abs(one.curves(t, 0)[one.rows_of(two.configs)] - two.curves(t, 1)) for t in two.tasks]
    )[:, :EPOCHS]
    gaps = gaps[np.isfinite(gaps).all(axis=1)].mean(axis=1)
    assert len(gaps) == 96
    draws = np.random.default_rng(0).integers(len(gaps), size=(100_000, len(OPTIMIZERS)))
    assert np.quantile(gaps[draws].mean(axis=1), 0.999) == pytest.approx(TOLERANCE, abs=0.005)


@pytest.mark.slow
def test_the_trainer_itself_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that were just trained are equal; with another momentum the one of SGD is not, and the
    stage fails and says so.
    """
    rng, labels = np.random.default_rng(0), np.arange(30) % 2
    images = rng.integers(0, 100, (30, 16, 16, 3)) + labels[:, None, None, None] * 100
    split = np.tile([0, 0, 0, 1, 2], 6).astype(np.uint8)
    task = Task("a", images.astype(np.uint8), labels, ("dark", "bright"), split)
    task.save(tmp_path / "images" / "a.npz")
    file = tmp_path / "images" / "a.npz"
    settings = Settings("shufflenet_v2_x05", 16, pretrained=False, batch_size=4, max_epoch=EPOCHS)
    out = Collection(tmp_path / "tiny", Space(transfer_space()), transfer_pool(), settings)
    for optimizer in OPTIMIZERS:
        i = next(
            i
            for i in order(out.pool)
            if out.pool[i]["optimizer"] == optimizer and out.pool[i]["finetune"] == DEPTHS[-1]
        )
        out.add(train_cells(str(file), Block("a", (i,)), {i: out.pool[i]}, settings, 0))
    out.describe("a", task.hash, "", "")
    out.save()
    given = {f"{k}": getattr(settings, k) for k in ("network", "image_size", "pretrained")}
    given |= {"batch_size": 4, "max_epoch": EPOCHS}
    plan = {"folder": str(tmp_path / "tiny"), "tasks": ["a"], "configurations": 1}
    text = json.dumps({"training": given, "meta_dataset": plan})
    (tmp_path / "params.yaml").write_text(text)
    arguments = [f"--params={tmp_path / 'params.yaml'}", f"--data={tmp_path}"]
    lines: list[str] = []
    assert check(out, {"a": file}, say=lines.append) == "" and "bit for bit" in lines[0]

    real = torch.optim.SGD
    monkeypatch.setattr(
        torch.optim, "SGD", lambda *args, momentum, **kw: real(*args, momentum=0.5, **kw)
    )
    assert main(arguments) == 1
    assert main([*arguments, f"--out={tmp_path / 'new'}"]) == 0  # nothing there to compare with


def test_curves_of_two_trainers_are_not_mixed(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MetaDataset.load(collection.folder).about["training_version"] == TRAINING_VERSION
    monkeypatch.setattr(collected, "TRAINING_VERSION", TRAINING_VERSION + 1)
    with pytest.raises(BadInput, match="version 1 of the trainer, but this is version 2"):
        Collection(collection.folder, collection.space, collection.pool, collection.settings)


def test_kinds_of_machines_add_up(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collected, "kind_of_machine", lambda settings: {"processor": "another"})
    collection.add([{"task": "d", "config_id": 0, "seed": 0, "epoch": 1}])
    collection.save()
    again = Collection(collection.folder, collection.space, collection.pool, collection.settings)
    assert len(again.about["kinds"]) == 2 and again.about["kinds"][1] == {"processor": "another"}


def test_the_processor_is_told_from_what_linux_says(tmp_path: Path) -> None:
    said = "processor : 0\nvendor_id : V\ncpu family : 6\nmodel : 85\nmodel name : X @ 2 GHz\n"
    (tmp_path / "cpuinfo").write_text(said + said.replace("85", "99"))
    assert processor(tmp_path / "cpuinfo").endswith(" / V / 6 / 85 / X @ 2 GHz")
    assert processor(tmp_path / "nothing")
