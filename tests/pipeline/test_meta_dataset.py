"""The command that collects a meta-dataset."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from foretune.history.meta_dataset import MetaDataset
from foretune.pipeline.meta_dataset import main
from foretune.space.catalogue import transfer_pool
from foretune.tasks.task import Task
from foretune.training.recipe import Settings
from foretune.training.trial import train

TINY = {
    "network": "shufflenet_v2_x05",
    "image_size": 16,
    "pretrained": False,
    "batch_size": 8,
    "max_epoch": 2,
}


POOL = transfer_pool()


def tiny_task(name: str, seed: int = 0) -> Task:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], 15)
    images = (rng.integers(0, 100, (30, 16, 16, 3)) + labels[:, None, None, None] * 100).astype(
        np.uint8
    )
    return Task(
        name,
        images,
        labels,
        ("dark", "bright"),
        np.tile([0, 0, 0, 1, 2], 6).astype(np.uint8),
        source=f"source of {name}",
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two tiny tasks to collect, one held out, and their params.yaml."""
    for k, name in enumerate(("a", "b", "held")):
        tiny_task(name, k).save(tmp_path / "images" / f"{name}.npz")
    settings = ", ".join(f"{k}: {str(v).lower()}" for k, v in TINY.items())
    (tmp_path / "params.yaml").write_text(
        f"training: {{{settings}}}\nmeta_dataset: {{folder: {tmp_path}/meta/tiny, "
        f"configurations: 3, held_out: [held]}}\n"
    )
    return tmp_path


def arguments(data: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--params", str(data / "params.yaml"), *more]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--tasks", "held"], "held is held out"),
        (["--tasks", "a,nothing"], "nothing is not prepared in"),
        (["--data", "nowhere"], "no tasks are prepared in nowhere/images"),
        (["--params", "nowhere.yaml"], "there is no such file"),
    ],
)
def test_bad_input_is_one_line(
    data: Path, more: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(data, *more)) == 2
    found = capsys.readouterr().err
    assert says in found
    assert found.count("\n") == 1
    assert not (data / "meta").exists()


@pytest.mark.slow
def test_interrupted_and_continued_from_the_command_line(data: Path) -> None:
    """Ctrl-C after the first cells, then the same command: every cell is there once, with the
    numbers of an undisturbed run.
    """
    command = [sys.executable, "-m", "foretune.pipeline.meta_dataset", *arguments(data)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wait_for((data / "meta" / "tiny" / "about.json").exists, process)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode in (0, 130), output
    assert "Traceback" not in output
    before = MetaDataset.load(data / "meta" / "tiny").table

    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    found = MetaDataset.load(data / "meta" / "tiny")
    assert found.tasks == ["a", "b"]
    assert not found.table.duplicated(["task", "config_id", "seed", "epoch"]).any()
    assert len(found.table) == 2 * 3 * 2
    assert len(found.table.merge(before)) == len(before)  # what was there has not changed
    config_id = int(found.table["config_id"].iloc[0])
    settings = Settings(**TINY)
    expected = train(tiny_task("a"), POOL[config_id], 0, 2, settings=settings, seed=0)
    np.testing.assert_allclose(
        found.curves("a")[config_id], [row["valid_accuracy"] for row in expected], rtol=1e-6
    )
    assert main(arguments(data)) == 0  # nothing is missing


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 200.0
) -> None:
    stop = time.monotonic() + seconds
    while not condition() and time.monotonic() < stop and process.poll() is None:
        time.sleep(0.05)
    assert condition()


@pytest.mark.slow
def test_cells_hold_the_rank_where_it_is_asked_for(data: Path) -> None:
    assert (
        main(arguments(data, "--workers", "1", "--configurations", "3", "--tasks", "a", "--rank"))
        == 0
    )
    have = MetaDataset.load(data / "meta" / "tiny")
    trained = have.table["config_id"].map(lambda i: POOL[i]["finetune"] != "head")
    assert trained.any()
    assert have.table.loc[trained, "zero_share"].between(0, 1).all()
    assert have.table.loc[~trained, "zero_share"].isna().all()
