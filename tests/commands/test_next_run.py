"""`foretune next`: what it prints, and what it refuses."""

import json
from pathlib import Path

import pytest

from foretune.commands.cli import main

ROWS = "id,dataset,model,lr,val_acc\n" + "".join(
    f"{task}{k},{task},resnet18,{rate},{60 + 8 * k - 2 * k * k}\n"
    for task in ("flowers", "birds")
    for k, rate in enumerate((0.3, 0.1, 0.03, 0.01, 0.003))
)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    path = tmp_path / "runs.csv"
    path.write_text(ROWS, encoding="utf-8")
    return path


def test_it_says_what_to_run_and_why_and_writes_nothing(runs: Path, tmp_path: Path, capsys):
    command = ["next", str(runs), "--task", "birds", "--data", str(tmp_path / "data")]
    assert main([*command, "--meta", "none"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("birds: 5 runs of it, 5 runs of 1 other task\n")
    assert "next:     learning_rate " in out and "a chance of" in out and "68.00 %" in out
    assert "held:     network resnet18" in out and "python" not in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["runs.csv"]


def test_programs_get_json_and_a_command_line(runs: Path, tmp_path: Path, capsys):
    command = ["next", str(runs), "--task", "birds", "--data", str(tmp_path / "data")]
    assert main([*command, "--meta", "none", "--for", "ultralytics", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["command"].startswith("yolo classify train data=IMAGES model=resnet18 ")
    assert f"lr0={found['config']['learning_rate']}" in found["arguments"]
    assert found["past"]["tasks"] == 1 and found["best"] == pytest.approx(0.68)
    assert 0 <= found["chance"] <= 1 and "learning_rate" in found["why"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["nowhere.csv"], "is no file or folder, and no run store in"),
        (["runs.csv"], "--task must say which of 2 tasks: birds, flowers"),
        (["runs.csv", "--task", "bird"], "did you mean birds"),
        (["runs.csv", "--task", "birds", "--for", "tim"], "did you mean timm"),
        (["runs.csv", "--task", "birds", "--images", "photos"], "give --for too"),
        (["runs.csv", "--task", "birds", "--for", "timm", "--images", "x"], "no such folder"),
        (["runs.csv", "--task", "birds", "--vary", "lrr"], "'lrr' is in no run"),
        (["runs.csv", "--task", "birds", "--format", "mlfow"], "no format 'mlfow'"),
        (["runs.csv", "--task", "birds", "--seed", "-1"], "--seed -1 must be at least 0"),
        (["runs.csv", "--task", "birds", "--meta", "nonsense"], "nonsense"),
        (["empty.csv"], "has no rows"),
        (["same.csv"], "differ in no setting"),
        (["binary.csv"], "binary.csv"),
    ],
)
def test_wrong_input_is_one_line(runs: Path, tmp_path: Path, monkeypatch, more, said, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").write_text("id,lr,val_acc\n", encoding="utf-8")
    (tmp_path / "same.csv").write_text("id,lr,val_acc\na,1,0.5\nb,1,0.6\n", encoding="utf-8")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 40)
    assert main(["next", "--data", "data", "--meta", "none", *more]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
