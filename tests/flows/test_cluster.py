"""Trials on Ray and Dask: a node or a worker that is lost costs the steps in flight, which are done
again elsewhere.
"""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import psutil
import pytest
import toy
from prefect_api import find_flows, lost_task, resources, task_runner
from tune import PrefectWorkers, tune

from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.running.runner import run_study
from foretune.running.workers import Died, Ended
from foretune.searchers.registry import searcher
from foretune.study.outcome import Outcome
from foretune.study.plan import Step
from foretune.study.study import Study

from .conftest import TINY

needs = {
    kind: pytest.mark.skipif(
        importlib.util.find_spec(module) is None,
        reason=f"{module} is not installed: pip install 'foretune[serve]'",
    )
    for kind, module in (("ray", "prefect_ray"), ("dask", "prefect_dask"))
}
EPOCHS = toy.EPOCHS


@pytest.fixture
def on_path(prefect_server: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of any kind can import the flows and the toy, and find the server."""
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join((str(Path(toy.__file__).parent), os.environ.get("PYTHONPATH", ""))),
    )
    find_flows()


@pytest.fixture
def two_nodes(on_path: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Ray cluster of a head without a core to spare and two nodes of one core and one GPU (by
    name) each.
    """
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.wait_for_nodes()
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    cluster.shutdown()


class Watched(PrefectWorkers):
    """Remembers all events."""

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.seen: list[Any] = []

    def events(self, timeout: float) -> list[Any]:
        """What happened."""
        out = super().events(timeout)
        self.seen += out
        return out


def lose(cluster: Any) -> None:
    """Kill all processes of a node at once, as a power cut does: left alone, a worker outlives its
    node and ends its step.
    """
    node = next(iter(cluster.worker_nodes))
    (raylet,) = node.all_processes["raylet"]
    processes = psutil.Process(raylet.process.pid).children(recursive=True)
    cluster.remove_node(node, allow_graceful=False)
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def check(study: Any, folder: Path, lost: int) -> None:
    """Every cell is there once, no trial has failed, and at most `lost` epochs were executed
    again.
    """
    cells = {(i, e) for i in range(len(study.configs)) for e in range(1, EPOCHS + 1)}
    assert sorted(study.order) == sorted(cells)
    assert not study.failures
    done = Counter(
        tuple(map(int, line.split())) for line in (folder / "executed").read_text().splitlines()
    )
    assert set(done) == cells
    assert sum(done.values()) - len(cells) <= lost


@needs["ray"]
@pytest.mark.slow
def test_a_ray_node_killed_in_the_middle_of_a_study_costs_the_steps_in_flight(
    two_nodes: Any, tmp_path: Path
) -> None:
    study = toy.toy_study(tmp_path, toy.toy_pool(4), 4 * EPOCHS)
    killed: list[float] = []

    both_busy: list[float] = []

    def kill_a_node(study: Any) -> None:
        if (
            study.spent >= EPOCHS and workers.free == 0 and not killed
        ):  # each node has a step: whichever is lost, one is in flight
            both_busy.append(time.monotonic())
            if both_busy[-1] - both_busy[0] > 0.5:
                killed.append(time.monotonic())
                lose(two_nodes)

    workers = Watched(toy.Toy(tmp_path, 0.3), 2, "ray", gpus=1)
    run_study(study, searcher("random"), workers, on_change=kill_a_node, every=0.1)
    assert killed
    # none where Ray itself has done the step again
    assert [type(event) for event in workers.seen].count(Died) <= 1
    check(study, tmp_path, lost=1)


@needs["dask"]
@pytest.mark.slow
def test_dask_workers_killed_in_the_middle_of_a_study_cost_the_steps_in_flight(
    on_path: None, tmp_path: Path
) -> None:
    study = toy.toy_study(tmp_path, toy.toy_pool(4), 4 * EPOCHS)
    killed: list[int] = []

    def kill_a_worker(study: Any) -> None:
        if study.spent >= EPOCHS * (1 + len(killed)) and len(killed) < 2:
            mine = [
                p
                for p in psutil.Process().children(recursive=True)
                if "spawn_main" in " ".join(p.cmdline())
            ]
            killed.append(mine[len(killed)].pid)
            os.kill(killed[-1], signal.SIGKILL)

    workers = PrefectWorkers(toy.Toy(tmp_path, 0.2), 2, "dask")
    run_study(study, searcher("random"), workers, on_change=kill_a_worker, every=0.1)
    assert len(killed) == 2
    check(study, tmp_path, lost=2)


@needs["dask"]
@pytest.mark.slow
def test_steps_on_a_cluster_that_stays_end_with_the_study_that_an_error_ends(
    on_path: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster is others' too, so that it does not end with the study: within an epoch its
    workers are free, and nothing more is executed.
    """
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        study = toy.toy_study(tmp_path, toy.toy_pool(4), 4 * EPOCHS)

        def fail(study: Any) -> None:
            if (tmp_path / "executed").exists():
                raise RuntimeError("something else went wrong")

        workers = PrefectWorkers(toy.Toy(tmp_path, 1.0), 2, "dask")
        with pytest.raises(RuntimeError, match="something else"):
            run_study(study, searcher("random"), workers, on_change=fail, every=0.1)
        time.sleep(3.0)
        done = (tmp_path / "executed").read_text()
        time.sleep(4.0)
        assert (tmp_path / "executed").read_text() == done


class Seen:
    """An objective that says when and with which GPUs it ran, or kills its process."""

    def run(
        self, config_id: int, config: dict[str, Any], start: int, stop: int, on_epoch: Any = None
    ) -> Outcome:
        if config["x"] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        began = time.time()
        time.sleep(config["x"])
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return Outcome([{"epoch": stop, "began": began, "ended": time.time(), "gpu": gpu}])


def over(workers: PrefectWorkers, count: int) -> list[Any]:
    """The events of `count` steps."""
    out: list[Any] = []
    until = time.monotonic() + 120
    while len(out) < count:
        assert time.monotonic() < until
        out += workers.events(1.0)
    return out


def together(events: list[Any]) -> bool:
    """Whether two steps ran at the same time."""
    first, second = sorted((e.outcome.rows[0] for e in events), key=lambda row: row["began"])
    return bool(second["began"] < first["ended"])


@needs["ray"]
@pytest.mark.slow
def test_half_a_gpu_lets_two_trials_share_it_and_a_killed_process_is_a_death(
    on_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.init(
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
    )
    try:
        for share, side_by_side in ((0.5, True), (1.0, False)):
            workers = PrefectWorkers(Seen(), 2, "ray", gpus=share)
            if side_by_side:  # both processes have started
                workers.submit(Step(0, 0, 1), {"x": 0.1})
                workers.submit(Step(1, 0, 1), {"x": 0.1})
                over(workers, 2)
            workers.submit(Step(0, 0, 1), {"x": 1.5})
            workers.submit(Step(1, 0, 1), {"x": 1.5})
            ended = over(workers, 2)
            assert together(ended) is side_by_side
            assert all(e.outcome.rows[0]["gpu"] == "0" for e in ended)
        workers.submit(Step(2, 0, 1), {"x": -1.0})
        (died,) = over(workers, 1)
        assert isinstance(died, Died)
        assert died.step == Step(2, 0, 1)
        workers.submit(Step(3, 0, 1), {"x": 0.0})
        assert isinstance(over(workers, 1)[0], Ended)  # the cluster takes more work
        workers.close()
    finally:
        ray.shutdown()


@needs["dask"]
@pytest.mark.slow
def test_half_a_gpu_on_dask_and_a_trial_that_always_kills_its_worker(on_path: None) -> None:
    workers = PrefectWorkers(Seen(), 2, "dask", gpus=0.5)
    try:
        for step in (Step(0, 0, 1), Step(1, 0, 1)):
            workers.submit(step, {"x": 0.1})
        assert all(isinstance(event, Ended) for event in over(workers, 2))
        workers.submit(Step(2, 0, 1), {"x": -1.0})
        (died,) = over(workers, 1)
        assert isinstance(died, Died)
        workers.submit(Step(3, 0, 1), {"x": 0.0})
        assert isinstance(over(workers, 1)[0], Ended)
    finally:
        workers.close()


LISTENING = """
import psutil, sys
from prefect_api import task_runner
if __name__ == "__main__":
    with task_runner(sys.argv[1], 1) as runner:
        getattr(runner, "client", None)
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    print("listens on", connection.laddr.ip)
"""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[mark, pytest.mark.slow]) for kind, mark in needs.items()]
)
def test_a_cluster_of_this_machine_listens_on_loopback(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "DASK_SCHEDULER_ADDRESS", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.delenv(name, raising=False)
    find_flows()
    (tmp_path / "listening.py").write_text(LISTENING)
    command = [sys.executable, str(tmp_path / "listening.py"), kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = {
        line.rpartition(" ")[2]
        for line in done.stdout.splitlines()
        if line.startswith("listens on")
    }
    assert found
    assert found <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


@needs["dask"]
@pytest.mark.slow
def test_a_study_on_dask_with_stored_checkpoints_is_continued_and_handed_over(
    on_path: None, data: Path
) -> None:
    """Real trainings; between the two runs this machine loses its checkpoints, and nothing is
    trained again.
    """
    given: dict[str, Any] = {
        "data": str(data),
        "meta": "none",
        "settings": TINY,
        "tracking": "none",
        "study": "s",
    }
    given |= {
        "method": "hyperband",
        "workers": 2,
        "runner": "dask",
        "storage": f"file://{data}/shared",
    }
    tune("a", budget=3, **given)
    folder, shared = data / "studies" / "s", data / "shared" / "s"
    rmtree(folder / "checkpoints")
    tuned = tune("a", budget=5, **given)
    study = Study.load(folder)
    assert study.spent == 5
    assert tuned.best == study.configs[study.incumbent[0]]
    there = MetaDataset.load(shared)
    assert len(there.table) == 5
    assert (shared / "best.pt").read_bytes() == (folder / "best.pt").read_bytes()
    left = {path.name for path in shared.glob("*.ckpt")}
    assert left == {path.name for path in (folder / "checkpoints").glob("*.ckpt")}
    assert f"trial-{study.incumbent[0]}.best.ckpt" in left


@pytest.mark.parametrize("share", [-0.5, 1.5])
def test_a_share_that_means_nothing_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match="share of a GPU"):
        task_runner("ray", 2, share)


def test_processes_take_no_share() -> None:
    with pytest.raises(BadInput, match="share of a GPU on Ray or Dask"):
        task_runner("processes", 2, 0.5)


def test_processes_need_nothing_and_are_lost_with_their_pool() -> None:
    from concurrent.futures.process import BrokenProcessPool

    with resources("processes", None):
        assert issubclass(BrokenProcessPool, lost_task("processes"))
