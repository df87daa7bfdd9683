"""Fixtures that several tests share."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from foretune.history.meta_dataset import MetaDataset
from foretune.space.space import Space

if TYPE_CHECKING:
    from picture_world import World

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a shell's background job ignores Ctrl-C, and so would what it starts
# spawned workers inherit it, and find the toy objective there
sys.path.insert(0, str(Path(__file__).parent / "toys"))

# CPU seconds, children included, that a test may take without the mark `slow`: 5 is the rule. It
# fails at three times that, since cores that many share are two times slower. The test that is the
# first to import a large library pays for all that follow, and is not judged.
CEILING = 5.0
FAILS = 3 * CEILING
LARGE = ("torch", "mlflow", "prefect", "ray", "distributed")
CPU = "cpu_seconds"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Count the CPU seconds of a test, and fail it far above the ceiling. CPU and not wall-clock
    seconds: a busy machine must not change the result.
    """
    before, known = sum(os.times()[:4]), [name for name in LARGE if name in sys.modules]
    try:
        result = yield
    finally:
        seconds = sum(os.times()[:4]) - before
        first = known != [name for name in LARGE if name in sys.modules]
        item.user_properties.append((CPU, 0.0 if first else seconds))
    if not first and seconds > FAILS and item.get_closest_marker("slow") is None:
        pytest.fail(
            f"{seconds:.1f} CPU seconds without the mark `slow`: at most {CEILING:g} are the rule "
            f"(this check allows {FAILS:g}); make it smaller or mark it",
            pytrace=False,
        )
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the tests above the ceiling, dearest first."""
    seconds = {
        report.nodeid: value
        for category in ("passed", "failed")
        for report in terminalreporter.getreports(category)
        if report.when == "call" and "slow" not in report.keywords
        for key, value in report.user_properties
        if key == CPU and value > CEILING
    }
    if seconds:
        terminalreporter.section(f"above {CEILING:g} CPU seconds without the mark `slow`")
        for nodeid in sorted(seconds, key=lambda nodeid: -seconds[nodeid]):
            terminalreporter.write_line(f"{seconds[nodeid]:6.1f}  {nodeid}")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Published tables and images beside the checkout, for those who have them; tests that need
    them skip otherwise.
    """
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data" / "curves").is_dir():
        pytest.skip("the published tables (../shared/data) are not on this machine")
    return folder


@pytest.fixture(scope="session")
def meta() -> MetaDataset:
    """Five synthetic tasks, 40 configurations (one hyperparameter conditional, some diverge), 9
    epochs and epoch 0.
    """
    from synthetic import synthetic_meta

    return synthetic_meta()


@pytest.fixture(scope="session")
def meta_folder(meta: MetaDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`meta` as a folder."""
    folder = tmp_path_factory.mktemp("meta") / "synthetic"
    meta.save(folder)
    return folder


@pytest.fixture(scope="session")
def table() -> Callable[..., MetaDataset]:
    """Make a meta-dataset from values (tasks, configurations, epochs) given as an array; NaN is a
    diverged cell.
    """

    def make(values: np.ndarray, goal: str = "maximize") -> MetaDataset:
        tasks, n, epochs = values.shape
        x = {
            "type": "uniform_float",
            "name": "x",
            "lower": 0.0,
            "upper": 1.0,
            "default_value": 0.5,
            "log": False,
            "meta": None,
        }
        space = Space(
            {
                "name": "line",
                "hyperparameters": [x],
                "conditions": [],
                "forbiddens": [],
                "format_version": 0.4,
            }
        )
        configs = {10 * i: {"x": i / max(1, n - 1)} for i in range(n)}
        rows = [
            {
                "task": f"t{t}",
                "config_id": 10 * i,
                "seed": 0,
                "epoch": e + 1,
                "score": float(values[t, i, e]),
            }
            for t in range(tasks)
            for i in range(n)
            for e in range(epochs)
        ]
        names = [f"t{t}" for t in range(tasks)]
        return MetaDataset.build(
            space,
            configs,
            rows,
            metric="score",
            goal=goal,
            name="line",
            max_epoch=epochs,
            tasks=names,
        )

    return make


@dataclass(frozen=True)
class Ran:
    """How a command ended: exit code, what it wrote, CPU seconds it took."""

    code: int
    out: str
    err: str
    cpu: float


@pytest.fixture(scope="session")
def cli() -> Callable[..., Ran]:
    """Run `python -m foretune.commands.cli ARGUMENTS` in a process of its own."""

    def run(*arguments: object, cwd: Path | None = None, **environment: str) -> Ran:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "foretune.commands.cli", *map(str, arguments)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**os.environ, **environment},
            timeout=120,
            check=False,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return Ran(done.returncode, done.stdout, done.stderr, cpu)

    return run


@pytest.fixture(scope="session")
def tiny_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image task of three colours that a network learns in seconds, as a file: 90 images of 32 x
    32.
    """
    from foretune.tasks.task import Task, split_by_content

    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = rng.integers(0, 90, (90, 32, 32, 3), dtype=np.uint8)
    images[np.arange(90), :, :, labels] += 120
    task = Task(
        "tiny",
        images,
        labels.astype(np.int64),
        ("red", "green", "blue"),
        split_by_content(images, labels),
        "made here",
        "none",
    )
    path = tmp_path_factory.mktemp("task") / "tiny.npz"
    task.save(path)
    return path


@pytest.fixture(scope="session")
def world(table: Callable[..., MetaDataset]) -> "World":
    """14 past tasks and 6 new ones; of 30 configurations on a line, the best is where the task's
    hue is.
    """
    from picture_world import make_world

    return make_world(table)
