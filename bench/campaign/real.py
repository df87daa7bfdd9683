"""The kinds of harm that are done to studies that train: a tiny network on tiny images, by
`foretune tune` and by a deployment of the service. What was executed nobody writes down; instead
every value has to be that of a study that nobody disturbed, bit for bit, and so have the weights
handed over.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from campaign.kinds import Case
from campaign.processes import PATIENCE, TOKEN, Victim, kill, wait_for
from campaign.records import compare, told
from foretune.study.study import Study
from foretune.tasks.task import Task

FLOWS = Path(__file__).resolve().parents[2] / "flows"
BUDGET = 12
OPTIONS = {
    "budget": BUDGET,
    "method": "random",
    "meta": "none",
    "workers": 1,
    "settings": {
        "max_epoch": 3,
        "network": "shufflenet_v2_x05",
        "pretrained": False,
        "image_size": 16,
        "train_limit": 24,
        "valid_limit": 12,
        "device": "cpu",
    },
}


def task_file(folder: Path) -> Path:
    """Images of 16 px in two classes, as a file."""
    path = folder / "tiny.npz"
    if not path.exists():
        rng = np.random.default_rng(0)
        labels = np.repeat([0, 1], 24)
        images = rng.integers(0, 100, (48, 16, 16, 3)) + labels[:, None, None, None] * 100
        split = np.tile([0, 0, 0, 1, 2, 0], 8).astype(np.uint8)
        Task("tiny", images.astype(np.uint8), labels, ("dark", "bright"), split).save(path)
    return path


class Training(Case):
    """A study that trains; its folder is that of `foretune tune` in the data folder `here`."""

    def study(self, name: str) -> Victim:
        """The study of this name, and how it is run."""
        command = tune_command(task_file(self.aside), self.here, name, self.uri)
        return Victim(
            self.here / "studies" / name, self.aside, command, self.environment, self.nursery
        )

    def finish(self, victim: Victim | None = None) -> None:
        """Let it end, and compare it with one that nobody disturbed. Raises `RuntimeError` where it
        does not end as it should.
        """
        victim = victim or self.victim
        for _ in range(2):
            code = victim.start().wait(timeout=600)
        if code:
            raise RuntimeError(f"exit code {code}: {victim.said()[-200:]}")
        self.check(victim.folder)

    def check(self, folder: Path) -> None:
        """All records against each other, and against a study that nobody disturbed."""
        self.note()
        self.add(compare(folder, self.uri, "foretune", None, None))
        other = undisturbed(self)
        values, right = told(Study.load(folder)), told(Study.load(other))
        self.count.lost += len(set(right) - set(values))
        self.blame(
            [
                f"{cell} is {value}, undisturbed {right.get(cell)}"
                for cell, value in values.items()
                if value != right.get(cell)
            ]
        )
        if weights(folder) != weights(other):
            self.blame(["other weights are handed over than undisturbed"])
        said, expected = answers(folder), answers(other)
        if said != expected:
            self.blame([f"the answer is {said}, undisturbed {expected}"])


def answers(folder: Path) -> dict[str, dict[str, Any]]:
    """What a study says of the models that it hands over, but for its name and what a machine's
    clock said.
    """
    return {
        file.name: {
            key: value
            for key, value in yaml.safe_load(file.read_text(encoding="utf-8")).items()
            if key != "study" and not key.startswith("seconds")
        }
        for file in sorted(folder.glob("*.yaml"))
    }


def tune_command(images: Path, data: Path, name: str, uri: str) -> list[str]:
    """`foretune tune` of the tiny study, as a command and, from its third word on, arguments."""
    options: dict[str, Any] = {k: v for k, v in OPTIONS.items() if k != "settings"}
    settings = dict(OPTIONS["settings"])  # type: ignore[call-overload]
    del settings["pretrained"]
    options |= {**settings, "study": name, "data": data, "tracking": uri}
    words = [f"--{k.replace('_', '-')}={v}" for k, v in options.items()]
    command = ["tune", str(images), "--from-scratch", "--no-default", *words]
    return [sys.executable, "foretune", *command]


def undisturbed(case: Case) -> Path:
    """The folder of the same study without any harm, trained once for a campaign."""
    data = case.aside / "undisturbed"
    folder = data / "studies" / "s"
    if not (folder / "best.yaml").exists():
        command = tune_command(task_file(case.aside), data, "s", "none")
        subprocess.run(
            [sys.executable, "-m", "foretune", *command[2:]], check=True, stdout=subprocess.DEVNULL
        )
    return folder


def weights(folder: Path) -> dict[str, bytes]:
    """The weights that a study hands over: of its best trial, and of its final training."""
    import torch

    return {
        f"{file.name} {name}": tensor.numpy().tobytes()
        for file in sorted(folder.glob("*.pt"))
        for name, tensor in torch.load(file, weights_only=True)["state_dict"].items()
    }


def tune(case: Case) -> None:
    """SIGKILL for `foretune tune` while a network trains"""
    case.victim.stop(signal.SIGKILL)


def export(case: Case) -> bool:
    """SIGKILL for `foretune tune` while it measures the best trial, writes weights and report"""
    process = case.victim.start()
    wait_for(lambda: case.victim.told() >= BUDGET or process.poll() is not None)
    time.sleep(2.5 * case.rng.random())
    if process.poll() is not None:
        return False
    case.victim.stop(signal.SIGKILL)
    return True


class Deployed(Training):
    """A study as a run of the service's deployment `tune`, on a server, a worker and MLflow of its
    own.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        sys.path[:0] = [str(FLOWS)]
        import service as module
        from orchestration import RETRIES

        self.module, self.retries, self.run = module, RETRIES, ""
        self.service: Any = None
        self._looked = 0.0

    def serve(self) -> None:
        """Start what does not run of the service."""
        name, ports = self.victim.folder.name, []
        for _ in range(2):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                ports.append(probe.getsockname()[1])
        given = {
            **OPTIONS,
            "images": str(task_file(self.aside)),
            "study": name,
            "data": str(self.here),
            "default": False,
            "runner": "local",
        }
        deployment = {
            "name": "tune",
            "entrypoint": "flows/tune.py:tune",
            "parameters": given,
            "work_pool": {"name": self.module.POOL},
        }
        file = self.aside / f"prefect-{name}.yaml"
        file.write_text(yaml.safe_dump({"name": "faults", "deployments": [deployment]}))
        mine = {
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{self.aside}/mlflow-{name}.db",
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.aside / "artifacts"),
            TOKEN: self.environment[TOKEN],
        }
        os.environ.update(mine)
        for variable in ("PREFECT_API_URL", "PREFECT_HOME", self.module.LOGIN):
            os.environ.pop(variable, None)
        place = self.aside / f".service-{name}"
        self.service = self.module.serve(place, "127.0.0.1", *ports, 1, file)
        self.uri = self.service.mlflow
        if not self.run:
            self.ask()

    def ask(self) -> None:
        """Ask for a run of the deployment, as somebody does who has the study go on."""
        (found,) = self.service.api.ask("/deployments/filter", {})
        made = self.service.api.ask(f"/deployments/{found['id']}/create_flow_run", {})
        self.run = made["id"]

    def told(self, count: int) -> bool:
        """Wait until so many epochs are told; False if the run ended before."""
        until = time.monotonic() + 2 * PATIENCE
        while self.victim.told() < count:
            if self.over():
                return False
            if time.monotonic() > until:
                raise TimeoutError(f"no progress for {2 * PATIENCE:.0f} s, run {self.state()}")
            time.sleep(0.1)
        return True

    def watch_over(self) -> None:
        """Start again what has ended of the service, as the supervisor does: a worker of Prefect
        3.8.8 ends where a crashed run comes back to it before it has let go of its slot. A run that
        crashed so often that Prefect does not start it again is asked for anew.
        """
        if time.monotonic() - self._looked > self.module.SUPERVISE_SECONDS:
            self._looked = time.monotonic()
            if not all(self.service.runs(p.name) for p in self.service.processes):
                self.serve()
            run = self.service.api.ask(f"/flow_runs/{self.run}", method="GET")
            if run["state"]["type"] == "CRASHED" and run["run_count"] > self.retries:
                self.ask()

    def over(self) -> bool:
        """Whether the run has ended for good."""
        self.watch_over()
        return self.state() in ("COMPLETED", "FAILED", "CANCELLED")

    def state(self) -> str:
        """What Prefect says of the run."""
        found = self.service.api.ask(f"/flow_runs/{self.run}", method="GET")
        return str(found["state"]["type"])

    def finish(self, victim: Victim | None = None) -> None:
        """Wait until Prefect says that the run is complete, compare, and end the service."""
        wait_for(self.over, 2 * PATIENCE)
        if (state := self.state()) != "COMPLETED":
            raise RuntimeError(f"Prefect has the run as {state}")
        self.check(self.victim.folder)

    def end(self) -> None:
        """End the service, and the run with it."""
        if self.service is not None:
            self.module.stop(self.service.folder)
        self.victim.end()


def deployment(case: Case) -> bool:
    """SIGKILL for a deployment's flow run, its worker, or both with all trials, at once"""
    assert isinstance(case, Deployed)
    case.serve()
    if not case.told(case.victim.told() + 1):
        return False
    flows = [p for p in case.service.own() if case.module.runs_flow(p)]
    workers = [p for p in case.service.processes if p.name == "worker-0"]
    chosen = case.rng.choice(["flow", "worker", "both"])
    doomed: list[psutil.Process] = []
    if chosen != "worker":
        doomed += [c for p in flows for c in (p, *p.children(recursive=True))]
    if chosen != "flow":
        doomed += [p.running for p in workers if p.running]
    for process in doomed:
        kill(process)
    with suppress(psutil.Error):
        psutil.wait_procs(doomed, timeout=30)
    case.serve()  # what a supervisor does
    return True
