"""Training libraries as they come, each tuned by `foretune tune --command`.

    python bench/libraries/run.py PYTHON keras|lightning|timm|transformers|ultralytics

PYTHON has the library; `--script` is timm's train.py, which its package lacks. A study of some 14
trials on the digits 0 to 4 is killed (SIGKILL) while it trains, nothing of it may be left running,
and the same command goes on. The curves of the trials that were paused are compared, epoch by epoch,
with those of the library alone, trained without a pause, and, where the library's own resume draws
anew, stopped and resumed by hand after the same epochs. A shorter study on the digits 5 to 9 then
shows whether it starts from the first. Prints JSON, and leaves it in FOLDER/LIBRARY.json. What is
there already is not done again.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import yaml

from foretune.files import write_atomic
from foretune.running.scripts.checkpoint import CheckpointWatch
from foretune.running.scripts.results import reader, source
from foretune.running.scripts.template import Template
from foretune.study.study import Study

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EPOCHS, BUDGET, KILLED_AT = 3, 30, 7
SECOND = 9  # epochs of the second study: how it starts is what counts
# what a stranger would write: the script or command, and what `tune` is told besides
LIBRARIES = {
    "lightning": (
        "{python} {here}/lightning_main.py fit --config {here}/lightning.yaml --data.task {task}",
        ["--trainer", "lightning"],
        {"learning_rate": {"low": 1e-4, "high": 0.5, "log": True}},
    ),
    "keras": (
        "{python} {here}/keras_train.py --task {task} --out {{trial_folder}} "
        "--epochs {{epochs}} --lr {{learning_rate}}",
        [
            *("--read", "log.csv:val_accuracy", "--resume", "--resume {checkpoint}"),
            *("--checkpoint", "last.keras"),
        ],
        {"learning_rate": {"low": 1e-5, "high": 0.5, "log": True}},
    ),
    "ultralytics": (
        "{yolo} classify train data={folder}/{task} model=yolov8n-cls.yaml imgsz=32 device=cpu "
        # with batches of 64 and its warm-up of three epochs it learns nothing in three
        "workers=0 batch=8 warmup_epochs=0 plots=False",
        ["--trainer", "ultralytics"],
        {"learning_rate": {"low": 1e-4, "high": 0.5, "log": True}},
    ),
    "timm": (
        "{python} {script} --data-dir {folder}/{task} --val-split val --model test_resnet "
        "--num-classes 5 --img-size 32 --batch-size 32 --workers 0 --opt sgd --warmup-epochs 0 "
        "--device cpu",
        ["--trainer", "timm"],
        {"learning_rate": {"low": 1e-4, "high": 1.0, "log": True}},
    ),
    "transformers": (
        "{python} {here}/transformers_train.py --task {task} --per_device_train_batch_size 16 "
        "--use_cpu True --report_to none --disable_tqdm True",
        ["--trainer", "huggingface"],
        {"learning_rate": {"low": 1e-5, "high": 0.1, "log": True}},
    ),
}
ON_FILES = ("timm", "ultralytics")  # images as files
ANEW = ("timm", "ultralytics")  # whose resume begins its random draws anew


def arguments(
    library: str, python: str, task: str, folder: Path, budget: int = BUDGET, script: str = ""
) -> list[str]:
    """The arguments of `foretune` for a study of `task` of `budget` epochs."""
    command, besides, space = LIBRARIES[library]
    names = {"python": python, "yolo": str(Path(python).parent / "yolo"), "here": str(HERE)}
    names["script"] = script
    line = command.format(**names, task=task, folder=folder)
    write_atomic(folder / "space.yaml", yaml.safe_dump(space))
    told = {"space": folder / "space.yaml", "epochs": EPOCHS, "budget": budget, "task": task}
    told |= {"data": folder / "data", "tracking": "none", "study": task, "workers": 1}
    pairs = [word for name, value in told.items() for word in (f"--{name}", str(value))]
    return ["tune", "--command", line, *besides, *pairs]


def environment() -> dict[str, str]:
    """Of all processes: one thread, and the checkout's foretune."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "YOLO_OFFLINE": "True"}


def told(study: Path) -> int:
    """Epochs in a study's journal."""
    journal = study / "journal.jsonl"
    return journal.read_bytes().count(b'"event": "epoch"') if journal.exists() else 0


def left_running(folder: Path) -> list[str]:
    """Command lines of processes that name the folder of the studies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"{folder}/data/studies" in line and int(path.parent.name) != os.getpid():
            found.append(line[:200])
    return found


def killed(line: list[str], study: Path, folder: Path) -> dict[str, object]:
    """Start a study, kill it once it has told `KILLED_AT` epochs, and see what is left."""
    with (folder / "killed.txt").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "foretune", *line], env=environment(), stdout=out, stderr=out
        )
        while process.poll() is None and told(study) < KILLED_AT:
            time.sleep(0.1)
        process.kill()
        process.wait()
    until = time.monotonic() + 5
    while left_running(folder) and time.monotonic() < until:
        time.sleep(0.1)
    return {"killed_at": told(study), "left_running": left_running(folder)}


def finished(line: list[str]) -> str:
    """Run a study to its end; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "foretune", *line],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def curve(read: str, folder: Path) -> list[float]:
    """A value an epoch of what a library left in a folder; of epochs that it tells in several
    files, as the Trainer does in each checkpoint, the last one.
    """
    return [
        float(value) for value in dict(reader(source(read), folder).results(True) or []).values()
    ]


def alone(study: Study, config_id: int, folder: Path, stops: Sequence[int] = ()) -> list[float]:
    """The curve that the library gives without foretune: without a pause, or killed after these
    epochs, each with its checkpoint, and resumed by its own means. The command is that of
    `best.yaml`, whose folder is called best.
    """
    assert study.folder is not None
    assert study.incumbent is not None
    told = yaml.safe_load((study.folder / "best.yaml").read_text(encoding="utf-8"))
    notes = json.loads((study.folder / "study.json").read_text(encoding="utf-8"))["notes"]
    best = study.configs[study.incumbent[0]]["learning_rate"]
    rate = study.configs[config_id]["learning_rate"]
    where = folder / "alone" / "-".join(map(str, (config_id, *stops)))
    where.mkdir(parents=True, exist_ok=True)
    words = [w.replace(repr(best), repr(rate)) for w in shlex.split(told["command"])]
    words = [w[: -len("best")] + str(where) if w in ("best", "project=best") else w for w in words]

    resume: list[str] = []
    for stop in (*stops, 0):
        before = len(curve(notes["read"], where))
        with (where / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [*words, *resume],
                env=environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        watch = CheckpointWatch(where, notes["checkpoint"], lambda p=process: [p.pid])  # type: ignore[misc]
        while stop and process.poll() is None:
            time.sleep(0.02)
            watch.look()
            if (
                len(curve(notes["read"], where)) >= stop
                and watch.versions >= stop - before
                and watch.settled
            ):
                break
        if stop:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            resume = Template(notes["resume"]).filled({"checkpoint": watch.path})
        if process.wait() and not stop:
            sys.exit((where / "log.txt").read_text(encoding="utf-8")[-3000:])
    return curve(notes["read"], where)


def compared(study: Study, library: str, folder: Path) -> dict[int, object]:
    """Of at most four trials that were paused: their steps, and how far each epoch is from that of
    the library alone.
    """
    steps = Counter(step["config_id"] for step in study.steps)
    out: dict[int, object] = {}
    for c in [c for c in study.started if steps[c] > 1][:4]:
        mine = np.array([row[study.plan.metric] for row in study.rows[c]])
        spans = [[s["start"], s["stop"]] for s in study.steps if s["config_id"] == c]
        whole = alone(study, c, folder)[: len(mine)]
        out[c] = {"steps": spans, "differences": np.abs(mine - whole).round(6).tolist()}
        if library in ANEW:
            halted = alone(study, c, folder, [stop for _, stop in spans[:-1]])[: len(mine)]
            out[c] |= {"resumed_by_hand": np.abs(mine - halted).round(6).tolist()}  # type: ignore[operator]
    return out


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("python")
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "bench" / "libraries")
    parser.add_argument("--budget", type=int, default=BUDGET, help="epochs of the first study")
    parser.add_argument("--second", type=int, default=SECOND, help="epochs of the second study")
    parser.add_argument("--script", default="train.py", help="timm's train.py")
    asked = parser.parse_args()
    folder = (asked.folder / asked.library).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for task in ("low", "high"):
        if asked.library in ON_FILES and not (folder / task).exists():
            subprocess.run(
                [sys.executable, str(HERE / "digits.py"), task, str(folder / task)], check=True
            )
    first, second = (folder / "data" / "studies" / task for task in ("low", "high"))
    out: dict[str, object] = {}
    began = time.monotonic()
    line = arguments(asked.library, asked.python, "low", folder, asked.budget, asked.script)
    if not first.exists():
        out |= killed(line, first, folder)
    finished(line)
    study = Study.load(first)
    out |= {"trials": len(study.started), "epochs": study.spent, "failed": len(study.failures)}
    out["minutes"] = round((time.monotonic() - began) / 60, 1)
    out["compared"] = compared(study, asked.library, folder)
    line = arguments(asked.library, asked.python, "high", folder, asked.second, asked.script)
    said = finished(line)
    out["said"] = [s.strip() for s in said.splitlines() if "past task" in s or "history" in s]
    after = Study.load(second)
    assert study.incumbent is not None
    starts = [after.configs[c]["learning_rate"] for c in after.started[:2]]
    out |= {
        "best_of_first": study.configs[study.incumbent[0]]["learning_rate"],
        "second_starts_with": starts,
        "trials_of_second": len(after.started),
    }
    for name, one in (("first", study), ("second", after)):
        trials = [c for c in one.started if one.rows.get(c)]
        out[f"{name}_first_trials"] = [
            (one.configs[c]["learning_rate"], [row[one.plan.metric] for row in one.rows[c]])
            for c in trials[:3]
        ]
    print(json.dumps(out, indent=1, default=float))
    write_atomic(asked.folder / f"{asked.library}.json", json.dumps(out, indent=1, default=float))


if __name__ == "__main__":
    main()
