"""`foretune lr`: refusals, results of a search that tells something and of one that does not,
resuming.
"""

import numpy as np
import pytest
import yaml

from foretune.commands.cli import main
from foretune.commands.lr import rules_of
from foretune.errors import BadInput
from foretune.running import learning_rate
from foretune.space.space import Space
from foretune.study.outcome import Outcome
from foretune.tasks.task import Task


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 255, size=(60, 32, 32, 3)).astype(np.uint8)
    (tmp_path / "images").mkdir()
    Task(
        "toy",
        images,
        labels.astype(np.int64),
        ("a", "b", "c"),
        (np.arange(60) // 3 % 3).astype(np.uint8),
    ).save(tmp_path / "images" / "toy.npz")
    return tmp_path


def responding(monkeypatch, z):
    """Training whose Z is `z(rate)`; counts its runs."""
    runs = []

    def run(self, config_id, config, start, stop, on_epoch=None):
        runs.append(config["learning_rate"])
        rows = [
            {
                "epoch": e,
                "valid_accuracy": 0.5,
                "train_loss": 1 / e,
                "zero_share": z(config["learning_rate"]),
            }
            for e in range(start + 1, stop + 1)
        ]
        for row in rows if on_epoch else []:
            on_epoch(row)
        return Outcome(rows)

    monkeypatch.setattr(learning_rate.Training, "run", run)
    return runs


def falling(rate):
    return round(20 / (1 + (rate / 3e-3) ** 2)) / 20


def test_rate_is_printed_and_kept_with_a_space_around_it(data, monkeypatch, capsys):
    runs = responding(monkeypatch, falling)
    assert (
        main(["lr", "toy", "--optimizer", "adagrad", "--data", str(data), "--tracking", "none"])
        == 0
    )
    out = capsys.readouterr().out
    folder = data / "studies" / "toy-lr-adagrad"
    found = yaml.safe_load((folder / "learning_rate.yaml").read_text())
    assert found["converged"] and found["trials"] == len(runs) and found["epochs"] == 5 * len(runs)
    assert f"learning rate {found['learning_rate']:.3g} for adagrad" in out
    (first,) = (line for line in out.splitlines() if line.strip().startswith("1."))
    assert "(at most " in first and first.endswith(" to go)") and out.count(" to go)") == 1
    space = Space.load(folder / "narrowed.json").config_space["learning_rate"]
    assert space.lower == pytest.approx(found["learning_rate"] / 10, rel=1e-4)
    assert space.upper == pytest.approx(found["learning_rate"] * 10, rel=1e-4)
    assert (folder / "report.html").exists()
    assert (
        main(["lr", "toy", "--optimizer", "adagrad", "--data", str(data), "--tracking", "none"])
        == 0
    )
    assert len(runs) == found["trials"]  # the second call trained nothing
    assert f"{found['epochs']} epochs are there" in capsys.readouterr().out


def test_weights_that_do_not_respond_give_no_rate_and_exit_code_1(data, monkeypatch, capsys):
    responding(monkeypatch, lambda rate: 0.7)
    command = ["lr", "toy", "--data", str(data), "--tracking", "none", "--option", "trials=3"]
    assert main(command) == 1
    assert "no learning rate" in capsys.readouterr().out
    folder = data / "studies" / "toy-lr-adam"
    assert yaml.safe_load((folder / "learning_rate.yaml").read_text())["learning_rate"] is None
    assert not (folder / "narrowed.json").exists()


def test_images_and_steps_are_told_and_too_few_steps_warned_of(data, monkeypatch, capsys):
    responding(monkeypatch, falling)
    command = ["lr", "toy", "--data", str(data), "--tracking", "none", "--train-limit", "9"]
    assert main(command) == 0
    told = capsys.readouterr()
    assert (
        "9 of 21 training images, 1 step an epoch" in told.out
        and "fewer than 100 steps an epoch" in told.err
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--optimizer", "lion"], "adam, adagrad"),
        (["--option", "speed=3"], "speed"),
        (["--option", "trials=0"], "trials=0 must be 1 or more"),
        (["--option", "trials=abc"], "trials=abc must be a whole number"),
        (["--option", "low=abc"], "low=abc must be a number"),
        (["--network", "alexnet"], "alexnet"),
        (["--device", "cuda:99"], "no CUDA device"),
        (["--study", "a/b"], "a/b"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(data, options, said, capsys):
    assert main(["lr", "toy", "--data", str(data), "--tracking", "none", *options]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not list(data.glob("studies/*"))


def test_rules_take_the_published_variant():
    assert rules_of({"variant": "published"}).variant == "published"
    with pytest.raises(BadInput, match="variant"):
        rules_of({"variant": "x"})
