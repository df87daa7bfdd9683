"""The run to make next after whatever was logged."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.history.runs import RunStore
from foretune.running.next_run import (
    changed,
    in_words,
    near_number,
    next_run,
    open_store,
    rows_of,
    task_named,
)

BEST = -2.5  # log10 of the best learning rate of every task


def accuracy(rate: float, decay: float) -> float:
    """The law of the runs: the learning rate decides."""
    return 0.9 - 0.1 * (math.log10(rate) - BEST) ** 2 - 0.5 * decay


def table(path: Path, counts: dict[str, int], seed: int = 0, more: Sequence[str] = ()) -> Path:
    """A CSV of runs of tasks, so many of each, at random rates, logged as somebody's script would."""
    rng = np.random.default_rng(seed)
    lines = ["id,dataset,model,lr,wd,epochs,val_acc"]
    for task, count in counts.items():
        for k in range(count):
            rate, decay = 10 ** rng.uniform(-5, 0), rng.uniform(0, 0.1)
            lines.append(
                f"{task}-{k},{task},resnet18,{rate:.3g},{decay:.3g},5,{accuracy(rate, decay):.4f}"
            )
    path.write_text("\n".join([*lines, *more]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    source = table(tmp_path / "runs.csv", {"roses": 6, "cars": 15, "dogs": 15, "cats": 15})
    return open_store(str(source), tmp_path / "data")


def test_the_next_run_is_where_history_and_own_runs_say(store: RunStore):
    found = next_run(store, "roses")
    assert abs(math.log10(found.config["learning_rate"]) - BEST) < 0.8
    assert found.held["network"] == "resnet18" and found.epochs == 5
    assert (found.runs, found.past_tasks, found.past_runs) == (6, 3, 45)
    assert found.best == pytest.approx(store.runs.query("task == 'roses'")["value"].max())
    assert found.chance is not None and 0 < found.chance <= 1 and found.spread > 0
    assert found.changed and found.trust["none"] < 0.5
    assert next_run(store, "roses") == found  # the same question has the same answer


def test_a_new_task_starts_from_what_worked_elsewhere(store: RunStore):
    found = next_run(store, "boats")
    assert found.best is None and found.chance is None and found.runs == 0
    # the others' scores are ranks: the forecast is within what they reached
    assert found.expected <= store.runs["value"].max() and found.parent_task != "boats"
    assert abs(math.log10(found.config["learning_rate"]) - BEST) < 0.8


def test_without_any_other_task_the_runs_teach_themselves(tmp_path: Path):
    store = open_store(str(table(tmp_path / "runs.csv", {"roses": 25})), tmp_path)
    found = next_run(store, "roses")
    assert found.past_tasks == 0 and found.trust == {} and found.past == {}
    assert abs(math.log10(found.config["learning_rate"]) - BEST) < 1.0


def test_of_a_loss_less_is_better_and_one_absurd_value_moves_nothing(tmp_path: Path):
    rows = ["id,dataset,lr,val_loss"]
    for k, rate in enumerate(np.geomspace(1e-5, 1.0, 24)):
        rows.append(f"r{k},roses,{rate:.3g},{1 + (math.log10(rate) - BEST) ** 2:.4f}")
    rows.append("bad,roses,0.9,30000")
    (tmp_path / "runs.csv").write_text("\n".join(rows), encoding="utf-8")
    found = next_run(open_store(str(tmp_path / "runs.csv"), tmp_path), "roses")
    assert found.goal == "minimize" and found.best == pytest.approx(1.0, abs=0.05)
    assert abs(math.log10(found.config["learning_rate"]) - BEST) < 1.0
    assert 0.5 < found.expected < 3.0


def test_what_was_run_is_not_suggested_again(tmp_path: Path):
    lines = ["id,dataset,opt,val_acc", "a,roses,sgd,0.5", "b,roses,adam,0.6", "c,roses,adam,0.7"]
    (tmp_path / "runs.csv").write_text("\n".join(lines), encoding="utf-8")
    store = open_store(str(tmp_path / "runs.csv"), tmp_path)
    with pytest.raises(BadInput, match="was tried already"):
        next_run(store, "roses")


def test_after_three_rates_there_is_a_fourth(tmp_path: Path):
    lines = ["id,dataset,lr,wd,val_acc"]
    lines += [
        f"{k},roses,{r},0,{v}" for k, (r, v) in enumerate(((0.1, 0.6), (0.01, 0.8), (0.001, 0.7)))
    ]
    (tmp_path / "runs.csv").write_text("\n".join(lines), encoding="utf-8")
    found = next_run(open_store(str(tmp_path / "runs.csv"), tmp_path), "roses")
    assert set(found.changed) == {"learning_rate"}
    assert 1e-4 < found.config["learning_rate"] < 1.0


def test_columns_to_search_in_can_be_named(store: RunStore):
    found = next_run(store, "roses", vary=["weight_decay"])
    assert set(found.changed) <= {"weight_decay"} and set(found.config) == {"weight_decay"}
    with pytest.raises(BadInput, match="--vary network: all runs have one value"):
        next_run(store, "roses", vary=["network"])
    with pytest.raises(BadInput, match=r"'weight_dekay' is in no run \(did you mean weight_decay"):
        next_run(store, "roses", vary=["weight_dekay"])


def test_a_perfect_run_leaves_nothing_to_gain(tmp_path: Path):
    lines = [f"r{k},roses,{rate},{min(1.0, 0.5 + k / 8)}" for k, rate in enumerate((1, 2, 3, 4, 5))]
    (tmp_path / "runs.csv").write_text(
        "\n".join(["id,dataset,dropout_x,val_acc", *lines]), encoding="utf-8"
    )
    found = next_run(open_store(str(tmp_path / "runs.csv"), tmp_path), "roses")
    assert found.chance == 0.0 and "nothing is left to gain" in found.notes[0]


def test_tasks_are_named_or_the_only_one(store: RunStore, tmp_path: Path):
    assert task_named(store, "roses") == "roses"
    assert task_named(store, "boats", new=True) == "boats"
    with pytest.raises(BadInput, match=r"did you mean roses"):
        task_named(store, "rosess")
    with pytest.raises(BadInput, match="is empty"):
        task_named(store, " ", new=True)
    with pytest.raises(BadInput, match="which of 4 tasks"):
        task_named(store, None)
    only = open_store(str(table(tmp_path / "one.csv", {"roses": 3})), tmp_path)
    assert task_named(only, None) == "roses"


def test_a_store_is_found_by_name_by_path_and_by_study(store: RunStore, tmp_path: Path):
    data = tmp_path / "data"
    store.add_to(data / "history" / "team")
    assert open_store("team", data).tasks == store.tasks
    assert open_store(str(data / "history" / "team"), data).tasks == store.tasks
    with pytest.raises(BadInput, match=r"teem.*no run store.*did you mean team"):
        open_store("teem", data)
    with pytest.raises(BadInput, match="name is empty"):
        open_store(" ", data)


def test_names_come_and_go_with_the_columns_that_belong_to_them():
    donors = [
        {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1},
        {"optimizer": "sgd", "momentum": 0.8, "learning_rate": 0.2},
        {"optimizer": "adam", "beta1": 0.9, "learning_rate": 0.001},
    ]
    varied = {"optimizer", "momentum", "beta1", "learning_rate"}
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        config = changed(donors[0], "optimizer", donors, varied, rng)
        seen.add(config["optimizer"])
        assert ("momentum" in config) == (config["optimizer"] == "sgd")
        assert ("beta1" in config) == (config["optimizer"] == "adam")
    assert seen == {"sgd", "adam"}


@pytest.mark.parametrize(
    ("name", "numbers", "low", "high"),
    [
        ("momentum", [0.5, 0.6, 0.8, 0.9, 0.99], 0.5, 0.99),  # a share stays within what was tried
        ("extra.alpha", [0.0, 1.0, 2.0, 3.0, 4.0], 0.0, 4.0),  # 0 means off
        ("learning_rate", [1e-4, 1e-3, 1e-2, 1e-1, 1.0], 1e-5, 20.0),
        ("extra.size", [10.0, 11.0, 12.0, 13.0, 14.0], 5.0, 15.0),
    ],
)
def test_numbers_stay_near_what_was_tried(name, numbers, low, high):
    rng = np.random.default_rng(1)
    found = [near_number(name, numbers[0], numbers, rng) for _ in range(200)]
    assert low <= min(found) and max(found) <= high and len(set(found)) > 10


def test_whole_numbers_stay_whole(store: RunStore):
    row = rows_of(store)[0]
    assert row["epochs"] == 5 and isinstance(row["epochs"], int)
    assert near_number("extra.depth", 3, [1, 2, 3, 4, 5, 6], np.random.default_rng(0)) in range(8)


def test_as_a_command_line(store: RunStore, tmp_path: Path):
    found = next_run(store, "roses")
    said, notes = in_words(found, "timm")
    assert said.words[:4] == ("python", "train.py", "IMAGES", "--model")
    assert "resnet18" in said.words and f"{found.config['learning_rate']}" in said.words
    assert any("CLASSES" in note for note in notes)
    for label in ("train/a", "train/b", "train/c", "val/a"):
        (tmp_path / "photos" / label).mkdir(parents=True)
    said, notes = in_words(found, "timm", str(tmp_path / "photos"))
    assert said.words[said.words.index("--num-classes") + 1] == "3" and notes == []
    with pytest.raises(BadInput, match="did you mean timm"):
        in_words(found, "timn")
