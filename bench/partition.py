"""Two machines with a worker each and a head with the servers, as network namespaces of this
machine: the machine that runs a study is cut off, and the study goes on on the other.

    sudo python bench/partition.py [--out FILE]

Prints when, in seconds after the cut: the run's process on the lost machine ended, its slot was
free, the other machine started it, and the first epoch was told there; then the machine comes back,
and the study is brought to its end. Every epoch has to be in the journal once. Needs root and `ip`;
the disk is shared, as a checkout on NFS is.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "flows")]

HEAD, MACHINES = "fthead", ("ftm1", "ftm2")
LOGIN = "foretune:a-login-of-the-test"
SETTINGS = {"network": "shufflenet_v2_x05", "image_size": 64, "pretrained": False, "max_epoch": 6}
# more than a quiet machine trains in the 70 s before the run that is cut off gives up
EPOCHS = 200
PATIENCE = 1200.0


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def inside(machine: str, command: list[str], **environment: str) -> list[str]:
    """A command in a machine's network and under its name."""
    named = f"hostname {machine}; exec env " + " ".join(f"{k}={v}" for k, v in environment.items())
    shell = f'{named} "$@"'
    return ["ip", "netns", "exec", machine, "unshare", "--uts", "sh", "-c", shell, "sh", *command]


def build() -> None:
    """A bridge with three machines on it."""
    ip("link", "add", "ftbr", "type", "bridge")
    ip("link", "set", "ftbr", "up")
    for number, machine in enumerate((HEAD, *MACHINES), start=1):
        ip("netns", "add", machine)
        ip("link", "add", f"v{machine}", "type", "veth", "peer", "name", "e0", "netns", machine)
        ip("link", "set", f"v{machine}", "master", "ftbr", "up")
        ip("-n", machine, "addr", "add", f"10.77.0.{number}/24", "dev", "e0")
        ip("-n", machine, "link", "set", "e0", "up")
        ip("-n", machine, "link", "set", "lo", "up")


def enter(network: int) -> None:
    """Move this thread into a network namespace; `os.setns` comes with Python 3.12."""
    if ctypes.CDLL(None, use_errno=True).setns(network, 0x40000000):
        raise OSError(ctypes.get_errno(), "setns")


def tear_down() -> None:
    for machine in (HEAD, *MACHINES):
        subprocess.run(["ip", "netns", "del", machine], check=False)
    subprocess.run(["ip", "link", "del", "ftbr"], check=False)


def images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for k, name in enumerate(("dark", "bright")):
        (folder / name).mkdir(parents=True)
        for i in range(250):
            pixels = rng.integers(0, 200, (64, 64, 3)) + 40 * k
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")


def wait(about: str, found: Callable[[], Any]) -> Any:
    """What `found` gives once it is true; raises SystemExit after `PATIENCE` seconds."""
    until = time.monotonic() + PATIENCE
    while not (value := found()):
        if time.monotonic() > until:
            raise SystemExit(f"{about}: not within {PATIENCE:.0f} s")
        time.sleep(0.5)
    return value


def told(study: Path) -> list[tuple[int, int]]:
    """(trial, epoch) of each line of the journal that tells an epoch."""
    from foretune.study.journal import read_journal

    events = read_journal(study / "journal.jsonl")
    return [
        (event["config_id"], event["row"]["epoch"]) for event in events if event["event"] == "epoch"
    ]


def measure(folder: Path) -> dict[str, float]:
    """Cut the machine off that runs the study; seconds to each event."""
    from orchestration import Api
    from processes import runs_flow

    images(folder / "photos")
    deployment = {"name": "tune", "entrypoint": "flows/tune.py:tune", "work_pool": {"name": "gpu"}}
    (folder / "prefect.yaml").write_text(
        yaml.safe_dump({"name": "partition", "deployments": [deployment]})
    )
    environment = {
        "PREFECT_SERVER_API_AUTH_STRING": LOGIN,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": f"{folder}/artifacts",
        "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))),
    }
    service = [sys.executable, str(ROOT / "flows/service.py")]
    options = ["--folder", f"{folder}/.service", "--deployments", f"{folder}/prefect.yaml"]
    workers: dict[str, subprocess.Popen[bytes]] = {}
    # the API is asked from this process, which belongs to the head
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        begin = [*service, "serve", "--host", "10.77.0.1", "--gpus", "0", *options]
        subprocess.run(inside(HEAD, begin, **environment), check=True)
        with open(f"/run/netns/{HEAD}") as network:
            enter(network.fileno())
        api = Api("http://10.77.0.1:4200/api", LOGIN)
        mine = {
            "PREFECT_API_URL": api.address,
            "PREFECT_API_AUTH_STRING": LOGIN,
            "PREFECT_HOME": f"{folder}/home",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_WORKER_QUERY_SECONDS": "5",
            "MLFLOW_TRACKING_URI": "http://10.77.0.1:5000",
            "MLFLOW_TRACKING_USERNAME": LOGIN.partition(":")[0],
            "MLFLOW_TRACKING_PASSWORD": LOGIN.partition(":")[2],
            "PYTHONPATH": f"{ROOT}/src:{ROOT}/flows",
            "OMP_NUM_THREADS": "1",
        }
        for machine in MACHINES:
            start = ["-m", "prefect", "worker", "start", "--pool", "gpu", "--type", "process"]
            command = [sys.executable, *start, "--name", machine, "--limit", "1"]
            with open(folder / f"{machine}.log", "wb") as log:
                workers[machine] = subprocess.Popen(
                    inside(machine, command, **mine), cwd=ROOT, stdout=log, stderr=log
                )
        parameters = {
            "images": f"{folder}/photos",
            "study": "photos",
            "data": f"{folder}/data",
            "budget": EPOCHS,
            "method": "random",
            "meta": "none",
            "workers": 1,
            "settings": SETTINGS,
            "runner": "local",
        }
        (tune,) = api.ask("/deployments/filter", {})
        run = api.ask(f"/deployments/{tune['id']}/create_flow_run", {"parameters": parameters})
        study = folder / "data/studies/photos"
        wait("the first epochs", lambda: len(told(study)) >= 4)

        def at_work() -> dict[str, psutil.Process]:
            """The process of the flow run by machine."""
            out = {}
            for machine, worker in workers.items():
                for process in psutil.Process(worker.pid).children(recursive=True):
                    if runs_flow(process):
                        out[machine] = process
            return out

        ((lost, flow),) = at_work().items()
        (other,) = set(MACHINES) - {lost}
        before = len(told(study))
        ip("-n", lost, "link", "set", "e0", "down")
        cut = time.monotonic()
        print(f"{lost} is cut off after {before} epochs", flush=True)
        seconds: dict[str, float] = {"epochs before": before}

        def mark(name: str) -> None:
            seconds[name] = round(time.monotonic() - cut, 1)
            print(f"{seconds[name]:6.1f} s  {name}", flush=True)

        def state() -> str:
            return api.ask(f"/flow_runs/{run['id']}", method="GET")["state"]["name"]

        wait("the end on the lost machine", lambda: not flow.is_running())
        mark("the lost machine's process has ended")
        seconds["epochs when it ended"] = ended = len(told(study))
        if ended >= EPOCHS:
            raise SystemExit(f"all {EPOCHS} epochs were done before that: raise EPOCHS")
        wait("a free slot", lambda: state() != "Running")
        mark("the slot is free")
        wait("a new start", lambda: other in at_work())
        mark("the other machine has started it")
        wait("a new epoch", lambda: len(told(study)) > ended)
        mark("the study goes on there")
        ip("-n", lost, "link", "set", "e0", "up")
        final = ("Completed", "Failed", "Cancelled", "Crashed")
        last = wait("the end", lambda: (now := state()) in final and now)
        mark(f"the run is {last}")
        epochs = Counter(told(study))
        seconds["epochs"], seconds["told twice"] = len(epochs), sum(epochs.values()) - len(epochs)
        if last != "Completed" or seconds["told twice"] or len(epochs) != EPOCHS:
            raise SystemExit(f"{last}, {seconds}")
        return seconds
    finally:
        enter(home)
        for worker in workers.values():
            for process in psutil.Process(worker.pid).children(recursive=True):
                process.kill()
            worker.kill()
            worker.wait()
        subprocess.run(inside(HEAD, [*service, "stop", *options], **environment), check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--folder", type=Path, help="keep everything here")
    given = parser.parse_args()
    build()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            found = measure(given.folder or Path(temporary))
    finally:
        tear_down()
    print(json.dumps(found, indent=1))
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
