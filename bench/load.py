"""What the running parts cost and bear: workers, task runners, journals, MLflow.

    python bench/load.py [scaling] [overhead] [lengths] [tell] [mlflow]
        [--out data/reports/load.json]

| part       | measures                                                                            |
|------------|-------------------------------------------------------------------------------------|
| `scaling`  | epochs per second with 1, 2 and 4 workers; trials sleep, so that processor cores do |
|            | not limit; MLflow on                                                                |
| `overhead` | seconds to start two workers, and what a step costs beyond its work: foretune's     |
|            | processes, Prefect's, Dask, Ray                                                     |
| `lengths`  | the share of two workers' time that is training, with epochs of a second and steps  |
|            | of 1, 3 and 10 of them                                                              |
| `tell`     | 8 processes at once, each asking for and telling 10,000 steps of a study of its     |
|            | own, journal and all; then the studies are read back                                |
| `mlflow`   | 1,000 trials of 100 epochs logged to one experiment of a server, and its pages in a |
|            | browser (Chromium; playwright, in an environment of its own)                        |

Each part replaces its entry in the file. Times are of this machine as it was; the file says how
busy it was.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import faults
import victim

from foretune.files import write_json
from foretune.running.runner import run_study
from foretune.running.workers import Ended, Processes
from foretune.searchers.base import Searcher
from foretune.searchers.registry import searcher
from foretune.study.study import Plan, Step, Study
from foretune.views.tracking import Tracker

toy = victim.toy
ROOT = Path(__file__).resolve().parents[1]
EPOCH_SECONDS = 0.25
LENGTHS = {1: 16, 3: 8, 10: 4}  # epochs of a step -> steps
STEPS, TELLERS, TOLD = 40, 8, 10_000
TRIALS, EPOCHS = 1000, 100
Workers = Any


def scaling(folder: Path) -> dict[str, Any]:
    """Throughput of a study whose trials sleep, from the first epoch told to the last."""
    out = {}
    for workers in (1, 2, 4):
        place = folder / str(workers)
        study = toy.toy_study(place, toy.toy_pool(8), 8 * toy.EPOCHS)
        tracker = Tracker(f"sqlite:///{folder}/mlflow.db", prefix="load", every=0.5)
        tracker.sync(study)
        seen: list[tuple[float, int]] = []

        def changed(
            study: Study, seen: list[tuple[float, int]] = seen, tracker: Tracker = tracker
        ) -> None:
            seen.append((time.monotonic(), study.spent))
            tracker.submit(study)

        run_study(
            study,
            searcher("random"),
            Processes(toy.Toy(place, EPOCH_SECONDS), workers),
            on_change=changed,
        )
        (began, first), (ended, last) = next(s for s in seen if s[1]), seen[-1]
        tracker.close(study)
        rate = (last - first) / (ended - began)
        out[str(workers)] = {
            "epochs_per_second": rate,
            "share_of_ideal": rate * EPOCH_SECONDS / workers,
        }
    return out


class Nothing:
    """Steps that cost nothing."""

    def run(self, config_id: int, config: Any, start: int, stop: int, on_epoch: Any = None) -> Any:
        """A row."""
        from foretune.study.outcome import Outcome

        return Outcome([{"epoch": stop, "score": 0.0}])


class Seconds:
    """Epochs of a second."""

    def run(self, config_id: int, config: Any, start: int, stop: int, on_epoch: Any = None) -> Any:
        """Its rows, each told as it comes."""
        from foretune.study.outcome import Outcome

        rows = []
        for epoch in range(start + 1, stop + 1):
            time.sleep(1.0)
            rows.append({"epoch": epoch, "score": 0.0})
            if on_epoch is not None:
                on_epoch(rows[-1])
        return Outcome(rows)


def kinds(objective: Any) -> dict[str, Callable[[], Workers]]:
    """Two workers of each kind for an objective."""
    from tune import PrefectWorkers

    os.environ["PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW"] = "ignore"
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT / "bench"), os.environ.get("PYTHONPATH", "")]
    )
    return {
        "processes": lambda: Processes(objective, 2),
        "prefect processes": lambda: PrefectWorkers(objective, 2),
        "dask": lambda: PrefectWorkers(objective, 2, "dask"),
        "ray": lambda: PrefectWorkers(objective, 2, "ray"),
    }


def overhead(folder: Path) -> dict[str, Any]:
    """Steps without work on two workers of each kind, after both have started."""
    from prefect_api import prefect_api

    out = {}
    with prefect_api():
        for kind, made in kinds(Nothing()).items():
            workers = made()
            try:
                began = time.monotonic()
                drive(workers, 4)
                ready = time.monotonic()
                drive(workers, STEPS)
                ended = time.monotonic()
            finally:
                workers.close()
            out[kind] = {
                "start_seconds": ready - began,
                "milliseconds_per_step": 1000 * (ended - ready) * 2 / STEPS,
            }
    return out


def lengths(folder: Path) -> dict[str, Any]:
    """Share of the ideal time by kind and epochs in a step, once both workers have started."""
    from prefect_api import prefect_api

    out: dict[str, Any] = {}
    with prefect_api():
        for kind, made in kinds(Seconds()).items():
            workers = made()
            try:
                drive(workers, 4)
                for epochs, steps in LENGTHS.items():
                    began = time.monotonic()
                    drive(workers, steps, epochs)
                    out.setdefault(kind, {})[str(epochs)] = (
                        epochs * steps / 2 / (time.monotonic() - began)
                    )
            finally:
                workers.close()
    return out


def drive(workers: Workers, count: int, epochs: int = 1) -> None:
    """Run `count` steps of so many epochs, as many at a time as there are workers.

    Raises `RuntimeError` for one that does not end well.
    """
    asked = over = 0
    while over < count:
        while workers.free and asked < count:
            workers.submit(Step(asked, 0, epochs), {"x": 0.5})
            asked += 1
        for event in workers.events(1.0):
            if isinstance(event, Ended):
                over += 1
            elif not hasattr(event, "row"):
                raise RuntimeError(f"a step did not end well: {event}")


class InTurn(Searcher):
    """The next epoch of each configuration in turn."""

    def suggest(self, study: Study, rng: Any) -> Step | None:
        """One epoch."""
        i = study.asked % len(study.configs)
        return Step(i, int(study.epoch[i]), int(study.epoch[i]) + 1)


def big_study(folder: Path, configs: int, epochs: int) -> Study:
    """A new study of the toy's space, or the one that is there."""
    plan = Plan(
        task="toy",
        metric="score",
        goal="maximize",
        max_epoch=epochs,
        budget=configs * epochs,
        method="random",
    )
    return Study(toy.toy_space(), toy.toy_pool(configs), plan, folder=folder)


def teller(folder: Path) -> None:
    """Ask and tell one epoch at a time, in a process of its own."""
    study, chosen = big_study(folder, TOLD // 10, 10), InTurn()
    began = time.monotonic()
    while (step := study.ask(chosen)) is not None:
        study.tell(step, [toy.value(study.configs[step.config_id]["x"], step.stop)])
    (folder / "seconds").write_text(str(time.monotonic() - began))


def tell(folder: Path) -> dict[str, Any]:
    """Tellers at once; what they told has to be there when it is read back.

    Raises `RuntimeError` where it is not.
    """
    context = get_context("spawn")
    places = [folder / str(k) for k in range(TELLERS)]
    processes = [context.Process(target=teller, args=(place,)) for place in places]
    began = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    seconds = time.monotonic() - began
    loads = []
    for place in places:
        start = time.monotonic()
        order = big_study(place, TOLD // 10, 10).order
        loads.append(time.monotonic() - start)
        if len(order) != TOLD or len(set(order)) != TOLD:
            raise RuntimeError(f"{place}: {len(set(order))} of {TOLD} epochs are there")
    each = [float((place / "seconds").read_text(encoding="utf-8")) for place in places]
    return {
        "studies": TELLERS,
        "steps_each": TOLD,
        "seconds": seconds,
        "steps_per_second": TELLERS * TOLD / seconds,
        "milliseconds_per_step": 1000 * statistics.median(each) / TOLD,
        "read_back_seconds": statistics.median(loads),
    }


def mlflow(folder: Path) -> dict[str, Any]:
    """Log a big study to a server, and look at it in a browser."""
    study = big_study(folder / "study", TRIALS, EPOCHS)
    study.folder = None  # its journal is not what is measured
    for i, config in enumerate(study.configs):
        step = Step(i, 0, EPOCHS)
        study.tell(step, [toy.value(config["x"], e) for e in range(1, EPOCHS + 1)])
    server = faults.Server("mlflow", folder)
    server.start()
    try:
        study.folder = folder / "study"
        tracker = Tracker(server.uri, prefix="load")
        began = time.monotonic()
        if not tracker.sync(study):
            raise RuntimeError("MLflow did not take the study")
        logged = time.monotonic() - began
        began = time.monotonic()
        if not Tracker(server.uri, prefix="load").sync(study):
            raise RuntimeError("MLflow did not answer for the study")
        again = time.monotonic() - began
        from mlflow import MlflowClient

        experiment = MlflowClient(server.uri).get_experiment_by_name("load/toy").experiment_id
        points = TRIALS * EPOCHS
        return {
            "trials": TRIALS,
            "epochs": EPOCHS,
            "log_seconds": logged,
            "points_per_second": points / logged,
            "nothing_new_seconds": again,
            "browser": browse(f"{server.uri}/#/experiments/{experiment}"),
        }
    finally:
        server.kill()


def browse(address: str) -> dict[str, Any] | str:
    """The seconds that pages take in Chromium, or why they were not looked at."""
    chromium = (
        shutil.which("chromium")
        or shutil.which("google-chrome")
        or shutil.which("chromium-browser")
    )
    if chromium is None:
        return "there is no Chromium here"
    folder = ROOT / ".cache" / "bench" / "playwright"
    python = folder / "bin" / "python"
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    if not python.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True)
        environment = {**os.environ, "VIRTUAL_ENV": str(folder)}
        subprocess.run([uv, "pip", "install", "--quiet", "playwright"], check=True, env=environment)
    command = [str(python), str(ROOT / "bench" / "pages.py"), chromium, address]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        return f"the browser failed: {done.stderr.strip()[-500:]}"
    return dict(json.loads(done.stdout))


PARTS = {
    "scaling": scaling,
    "overhead": overhead,
    "lengths": lengths,
    "tell": tell,
    "mlflow": mlflow,
}


def main() -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python bench/load.py")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)"
    )
    parser.add_argument("--out", type=Path, default=Path("data/reports/load.json"))
    given = parser.parse_args()
    if unknown := [part for part in given.parts if part not in PARTS]:
        parser.error(f"there is no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    for part in given.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            before = os.getloadavg()[0]
            found = PARTS[part](Path(folder))
        found |= {"cores": os.cpu_count(), "load_before": round(before, 1)}
        told = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
        write_json(given.out, {**told, part: found})
        print(json.dumps({part: found}, indent=1), flush=True)
    return 0


if __name__ == "__main__":
    import load  # so that worker processes can import the objectives by their name

    sys.exit(load.main())
