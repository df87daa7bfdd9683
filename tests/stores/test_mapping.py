"""Names of a source: proposed, kept away where they are private, edited and used again."""

from pathlib import Path

import pytest
import yaml

from foretune.errors import BadInput
from foretune.stores.importing import import_runs
from foretune.stores.mapping import load, plain_name, private, propose, task_name
from foretune.stores.metrics import choose
from foretune.stores.record import Record, Source


def source(*params: dict[str, object], **more) -> Source:
    records = [
        Record(f"r{k}", "study", dict(p), {"val_acc": [(1.0, 0.5 + k / 100), (2.0, 0.6)]})
        for k, p in enumerate(params)
    ]
    return Source("csv", "made", records, first=1, **more)


def columns(*params: dict[str, object], **more) -> dict[str, str | None]:
    made = source(*params, **more)
    return propose(made, choose(made)).columns


SECRETS = {
    "api_key": "abc",
    "wandb_token": "t",
    "user": "me",
    "output_dir": "runs/1",
    "checkpoint": "best",
    "git_commit": "8f26",
    "hostname": "box",
    "remark": "/home/me/notes",
    "where": "s3://bucket/x",
    "owner": "me@example.org",
    "blob": "a1b2c3d4e5f6a7b8c9d0e1f2a3b4",
    "windows": "C:\\data",
    "story": "x" * 100,
}


def test_no_secret_no_person_and_no_place_becomes_a_column(tmp_path: Path):
    assert set(columns(SECRETS).values()) == {None}
    hidden = {
        "model": "/home/me/nets/resnet18.pth",
        "pretrained": "/home/me/w.pth",
        "aug": "/home/me/policy.yaml",
        "data_dir": "/home/me/flowers",
    }
    made = source({**SECRETS, **hidden})
    made.records[0].name = made.records[0].group = "/Users/me@example.org/study"
    store, _ = import_runs(made, propose(made, choose(made)))
    store.save(tmp_path / "s")
    for file in (tmp_path / "s").iterdir():
        assert not [w for w in (b"/home", b"me@example", b"s3://") if w in file.read_bytes()], file
    row = store.runs.iloc[0]
    assert (row["network"], row["pretrained"], row["task"]) == ("resnet18", True, "flowers")
    assert row["source_id"] == "study" and "augmentation" not in store.runs


def test_unknown_settings_are_kept_and_results_are_not_where_both_stand_together():
    params = {"kernel": 3, "val_time": 12.0, "final_sparsity": 0.3}
    assert columns(params) == {
        "kernel": "extra.kernel",
        "val_time": "extra.val_time",
        "final_sparsity": "extra.final_sparsity",
    }
    mixed = columns(params, mixed=True)
    assert mixed == {"kernel": "extra.kernel", "val_time": None, "final_sparsity": None}


def test_a_learning_rate_of_thirty_is_none():
    assert columns({"lr": 30}) == {"lr": None}
    assert columns({"lr": 30}, {"lr": 0.1}, {"lr": 0.2})["lr"] == "learning_rate"


@pytest.mark.parametrize(
    ("value", "task"),
    [
        ("flowers", "flowers"),
        ("data/EuroSAT_RGB", "EuroSAT_RGB"),
        ("/home/me/data/flowers/train", "flowers"),
        ("./data", None),
        ("mtlbm/micro/set2/RSD", "mtlbm/micro/set2/RSD"),
        ("C:\\sets\\flowers\\", "flowers"),
        ("coco8.yaml", "coco8"),
        ("", None),
    ],
)
def test_tasks_by_the_place_of_the_images(value: str, task: str | None):
    assert task_name(value) == task


def test_a_mode_tells_tasks_apart_only_where_it_is_no_verb():
    made = source({"mode": "rgb"}, {"mode": "ms"})
    assert propose(made, choose(made)).task == "mode"
    made = source({"mode": "train"}, {"mode": "test"})
    assert propose(made, choose(made)).task == ""
    made = source({"mode": "rgb", "dataset": "a"}, {"mode": "ms", "dataset": "b"})
    assert propose(made, choose(made)).task == "dataset"


def test_a_mapping_is_edited_and_used_again(tmp_path: Path):
    made = source({"lr": 0.1, "odd": 2, "size": 5}, {"lr": 0.2, "odd": 3, "size": 6})
    mapping = propose(made, choose(made))
    file = tmp_path / "mapping.yaml"
    file.write_text(mapping.text(), encoding="utf-8")
    again = propose(made, choose(made), load(file))
    assert again == mapping
    edited = yaml.safe_load(file.read_text(encoding="utf-8"))
    edited["columns"] |= {"odd": "warmup_epochs", "size": None}
    edited["task"] = "=roses"
    file.write_text(yaml.safe_dump(edited), encoding="utf-8")
    store, _ = import_runs(made, propose(made, choose(made), load(file)))
    assert store.columns == ["learning_rate", "warmup_epochs"] and store.tasks == ["roses"]
    edited["curve"] = False
    file.write_text(yaml.safe_dump(edited), encoding="utf-8")
    store, _ = import_runs(made, propose(made, choose(made), load(file)))
    assert not len(store.curves) and store.runs["value"].tolist() == [0.6, 0.6]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("metrik: acc", "metrik"),
        ("goal: up", "maximize"),
        ("columns: {lr: learning_rat}", "learning_rate"),
        ("columns: [lr]", "columns"),
        ("- a", "mapping"),
        ("a: [", "YAML"),
    ],
)
def test_a_wrong_mapping_is_refused_in_one_line(tmp_path: Path, text: str, word: str):
    file = tmp_path / "mapping.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=word) as error:
        load(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_what_is_private():
    assert not any(map(private, (0.1, True, "cosine", "mtlbm/set2", "adamw", [0.9, 0.99])))
    assert all(map(private, ("~/x", "/a/b/c", "me@x.org", ["/a/b/c"], "best.pth", "gs://a")))
    assert plain_name("/Shared/me@x.org/flowers") == "flowers" and plain_name("a/0") == "a/0"
