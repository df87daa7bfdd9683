"""`foretune tune` from the outside, with real training."""

import math
import re

import numpy as np
import pytest
import yaml
from inline import Inline
from PIL import Image

from foretune.commands.cli import main, parser
from foretune.commands.tune import ledger, request
from foretune.running import preparation, tuning
from foretune.study.study import Plan, Study
from foretune.tasks.task import Task

SMALL = [
    "--network",
    "shufflenet_v2_x05",
    "--image-size",
    "32",
    "--max-epoch",
    "1",
    "--train-limit",
    "32",
    "--device",
    "cpu",
]


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Train in this process, without ImageNet weights (the command line has no option to leave them
    out).
    """
    monkeypatch.setattr(tuning, "Processes", Inline)
    before = preparation.settings_of
    monkeypatch.setattr(
        preparation, "settings_of", lambda asked, past: before(asked_without_weights(asked), past)
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked_without_weights(asked):
    asked.settings["pretrained"] = False
    return asked


def test_the_command_line_becomes_a_request():
    line = [
        "tune",
        "x",
        "--budget",
        "9",
        "--option",
        "eta=2",
        "--sources",
        "a,b",
        "--minutes",
        "1",
        "--workers",
        "3",
        "--image-size",
        "32",
        "--open",
    ]
    asked = request(parser().parse_args(line))
    assert (asked.images, asked.budget, asked.options, asked.sources, asked.seconds) == (
        "x",
        9,
        {"eta": 2},
        ("a", "b"),
        60.0,
    )
    assert (
        asked.workers == 3
        and asked.open
        and asked.settings == {"image_size": 32}
        and asked.method is None
        and asked.default
    )


def test_it_prints_what_came_out_and_goes_on_where_it_stopped(here, tiny_task, capsys):
    line = [
        "tune",
        str(tiny_task),
        "--meta",
        "none",
        "--method",
        "random",
        "--tracking",
        "none",
        "--study",
        "s",
        *SMALL,
    ]
    assert main([*line, "--budget", "2", "--compare"]) == 0
    printed = capsys.readouterr().out
    folder = here / "data" / "studies" / "s"
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert "tiny: 90 images, 3 classes" in printed and "2/2 epochs" in printed
    # 18 validation and 18 test images, each value with its binomial standard error
    task = Task.load(folder / "task.npz")
    counts = [int((task.split == k).sum()) for k in (1, 2)]
    shares = best["valid_accuracy"], best["test_accuracy"]
    errors = [(p * (1 - p) / n) ** 0.5 for p, n in zip(shares, counts, strict=True)]
    row = "  ".join(f"{p:.4f} ± {e:.4f}" for p, e in zip(shares, errors, strict=True))
    assert row in printed
    # 72 images where an epoch of the search has 32 are more than half of 2 epochs
    assert "as much as 3 of the search, where it costs at most 50% of the budget" in printed
    assert "more than the 1 that a budget of 2 leaves for it" in printed
    assert f"foretune train {folder.relative_to(here) / 'best.yaml'} IMAGES" in printed
    assert not (folder / "final.pt").exists()
    assert "default configuration" in printed and "random search" in printed
    assert (
        f"report:             {folder.relative_to(here) / 'report.html'}" in printed
        and (folder / "report.html").exists()
    )
    assert main([*line, "--budget", "3"]) == 0
    printed = capsys.readouterr().out
    assert "continuing study s: 2 of 3 epochs are done" in printed and Study.load(folder).spent == 3


def test_the_final_model_is_trained_on_all_but_the_test_images(here, tiny_task, capsys):
    line = ["tune", str(tiny_task), "--meta", "none", "--method", "random", "--tracking", "none"]
    assert main([*line, "--study", "s", *SMALL, "--budget", "1", "--final"]) == 0
    printed = capsys.readouterr().out
    folder = here / "data" / "studies" / "s"
    count = int((Task.load(folder / "task.npz").split != 2).sum())
    assert f"final training: 1 epoch on {count} images, as much as 3 of the search" in printed
    said = yaml.safe_load((folder / "final.yaml").read_text())
    value, error = said["test"]["accuracy"], said["standard_errors"]["accuracy"]
    assert f"{value:.4f} ± {error:.4f}" in printed
    assert f"foretune predict {folder.relative_to(here) / 'final.pt'} FILES" in printed
    report = (folder / "report.html").read_text()
    assert "Classes, by the final model" in report and "the search&#39;s model" in report
    assert (folder / "classes.csv").exists() and (folder / "confusion.csv").exists()


def test_ctrl_c_says_how_to_go_on(here, tiny_task, capsys, monkeypatch):
    from foretune.commands import tune

    def interrupted(ready, on_change):
        raise KeyboardInterrupt

    monkeypatch.setattr(tune, "run_ready", interrupted)
    line = [
        "tune",
        str(tiny_task),
        "--meta",
        "none",
        "--method",
        "random",
        "--tracking",
        "none",
        "--study",
        "s",
        *SMALL,
    ]
    assert main(line) == 130
    assert "the same command continues it (0 of 10 epochs are done)" in capsys.readouterr().out


def test_a_log_that_lacks_something_is_said_and_seen_in_the_exit_code(here, tiny_task, capsys):
    line = ["tune", str(tiny_task), "--meta", "none", "--method", "random", "--study", "s", *SMALL]
    assert main([*line, "--budget", "1", "--tracking", "http://127.0.0.1:9"]) == 3
    said = capsys.readouterr()
    assert "MLflow at http://127.0.0.1:9 lacks the end of this study" in said.err
    assert "best.yaml, best.pt:" in said.out  # all else is there


@pytest.mark.parametrize("spoil", ["data", "study", "best.yaml"])
def test_what_cannot_be_written_is_refused_before_an_image_is_decoded(
    here, monkeypatch, capsys, spoil
):
    monkeypatch.setattr(preparation, "task_of", lambda *args, **more: pytest.fail("it was decoded"))
    make_folder_of_images(here / "photos")
    data, study = here / "place", here / "place" / "studies" / "s"
    if spoil == "data":
        data.write_text("a file")
    elif spoil == "study":
        study.parent.mkdir(parents=True)
        study.write_text("a file")
    else:
        (study / "best.yaml").mkdir(parents=True)
    asked = ["tune", "photos", "--data", str(data), "--study", "s", "--tracking", "none", *SMALL]
    assert main(asked) == 2
    want = {
        "data": f"--data {data} is a file; give a folder",
        "study": f"study {study} cannot be a folder: it is a file",
        "best.yaml": f"study {study}: best.yaml in it is a folder, and a file is needed",
    }
    assert want[spoil] in capsys.readouterr().err


def make_folder_of_images(folder):
    """Two classes of six images."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for k in range(6):
            pixels = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{k}.png")


def test_a_time_budget_says_what_it_went_into(here, tiny_task, capsys):
    line = ["tune", str(tiny_task), "--meta", "none", "--method", "random", "--tracking", "none"]
    assert main([*line, "--study", "s", *SMALL, "--budget", "1", "--minutes", "9", "--final"]) == 0
    said = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("time: of 9 min"))
    found = re.fullmatch(
        r".*, ([\d.]+) s to begin, ([\d.]+) s of search, ([\d.]+) s to end it and test, "
        r"([\d.]+) s for the final training \(([\d.]+) s were kept for it\); "
        r"([\d.]+) s are left for the report",
        said,
    )
    assert found is not None, said
    *spent, kept, left = map(float, found.groups())
    assert sum(spent) + left == pytest.approx(540, abs=0.3)  # rounded to tenths
    study = Study.load(here / "data" / "studies" / "s")
    assert min(spent) >= 0 and spent[1] == pytest.approx(study.times[-1] - spent[0], abs=0.2)
    assert 0 < kept < 540


def test_a_time_budget_that_was_overrun_says_by_how_much():
    study = Study.__new__(Study)
    study.plan = Plan("t", "score", "maximize", 9, None, seconds=60.0)
    study.steps, study.times = [{"elapsed": 5.0}], [30.0, math.nan, 40.0]
    assert ledger(study, 45.0, 12.0, 62.5) == (
        "time: of 1 min 00 s, 5.0 s to begin, 35.0 s of search, 5.0 s to end it and test, 17.5 s "
        "for the final training (12.0 s were kept for it); 2.5 s too many"
    )
