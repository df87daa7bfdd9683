"""`foretune import`: what it prints, writes, and refuses."""

from pathlib import Path

import pytest

from foretune.commands.cli import main
from foretune.history.runs import RunStore

ROWS = "id,dataset,model,lr,val_acc\na,flowers,resnet18,0.1,61\nb,flowers,vit,0.01,72.5\n"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def test_runs_are_told_and_kept_once(table: Path, tmp_path: Path, capsys):
    data = tmp_path / "data"
    assert main(["import", "csv", str(table), "--data", str(data)]) == 0
    out = capsys.readouterr().out
    assert "2 with the metric" in out and "networks 2: " in out and "best     0.725 (72.5 %)" in out
    assert "percent turned into shares" in out and "2 new runs" in out
    assert main(["import", str(table), "--data", str(data)]) == 0  # the format shows
    assert "nothing new" in capsys.readouterr().out
    table.write_text(ROWS + "c,birds,vit,0.2,50\n", encoding="utf-8")
    assert main(["import", str(table), "--data", str(data)]) == 0
    assert "1 new run " in capsys.readouterr().out
    store = RunStore.load(data / "history" / "imported")
    assert len(store) == 3 and store.tasks == ["birds", "flowers"]


def test_a_dry_run_writes_nothing(table: Path, tmp_path: Path, capsys):
    data = tmp_path / "data"
    assert main(["import", str(table), "--dry-run", "--data", str(data)]) == 0
    assert "nothing was written" in capsys.readouterr().out and not data.exists()


def test_an_edited_mapping_changes_what_is_stored(table: Path, tmp_path: Path, capsys):
    into = tmp_path / "store"
    assert main(["import", str(table), "--into", str(into)]) == 0
    (part,) = into.iterdir()
    mapping = tmp_path / "mapping.yaml"
    text = (part / "mapping.yaml").read_text(encoding="utf-8")
    mapping.write_text(text.replace("task: dataset", "task: =roses"), encoding="utf-8")
    assert main(["import", str(table), "--into", str(into), "--mapping", str(mapping)]) == 0
    assert RunStore.load(into).tasks == ["roses"] and len(RunStore.load(into)) == 2
    capsys.readouterr()
    assert main(["import", str(table), "--into", str(into), "--task", "tulips"]) == 0
    assert "2 new runs" in capsys.readouterr().out and RunStore.load(into).tasks == ["tulips"]


@pytest.mark.parametrize(
    ("text", "arguments", "word"),
    [
        ("lr,quality\n0.1,3\n", [], "metric"),
        ("lr,train_acc\n0.1,3\n", [], "--metric"),
        (ROWS, ["--metric", "val_auc"], "val_acc"),
        (ROWS, ["--into", "{table}"], "is a file"),
        (ROWS, ["--mapping", "{table}.yaml"], ".yaml"),
    ],
)
def test_what_cannot_be_told_is_asked_for_in_one_line(
    tmp_path: Path, text: str, arguments: list[str], word: str, capsys
):
    path = tmp_path / "runs.csv"
    path.write_text(text, encoding="utf-8")
    given = [a.format(table=path) for a in arguments]
    assert main(["import", str(path), *given, "--data", str(tmp_path / "data")]) == 2
    err = capsys.readouterr().err
    assert word in err and err.count("\n") == 1
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["csv"], "SRC"), (["hyperrec", "x"], "DEST"), (["csv", "x", "y"], "--into")],
)
def test_missing_and_superfluous_places_are_told(tmp_path, monkeypatch, arguments, word, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["import", *arguments]) == 2
    assert word in capsys.readouterr().err


def test_the_goal_of_an_unknown_metric_is_taken_from_the_command_line(tmp_path: Path, capsys):
    path = tmp_path / "runs.csv"
    path.write_text("lr,val_acc,val_psnr\n0.1,0.5,30\n0.2,0.6,20\n", encoding="utf-8")
    told = ["--metric", "val_psnr", "--goal", "minimize", "--into", str(tmp_path / "s")]
    assert main(["import", str(path), *told]) == 0
    assert set(RunStore.load(tmp_path / "s").runs["goal"]) == {"minimize"}
    assert "best     20 " in capsys.readouterr().out
