"""Fit the recommenders again as a Prefect flow: `dvc repro` of the stages that write to
`src/foretune/shipped/models`, then the models that know the own studies too.

    python flows/meta_train.py [--stages A,B] [--upstream] [--no-own]

DVC decides what is stale: where neither curves nor code have changed, nothing runs. It runs as a
command in a process of its own, since it holds a lock; for the same reason the deployment has one
slot. Models of the user's own (`foretune.recommenders.own`) go to `data/own_models`, so that what
DVC keeps depends on nothing that is not in the repository; they are fitted with what is there even
if a stage has failed.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # what follows takes seconds to import
    print("starting the fitting", file=sys.stderr, flush=True)

import yaml
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect_api import leased, prefect_api

from foretune.errors import BadInput
from foretune.running.meta_train import fit

MODELS = "src/foretune/shipped/models"  # what a stage that fits a recommender writes to
LAST = 12  # lines of DVC's output that an error quotes


class StageFailed(RuntimeError):
    """DVC ended a stage with an error; the message has the end of its output."""


@task(
    name="dvc-repro", task_run_name="dvc repro {stage}", cache_policy=NO_CACHE, persist_result=False
)
def repro(stage: str, upstream: bool = False, folder: str = ".") -> bool:
    """Bring one stage up to date; whether anything had to run. Raises `StageFailed`."""
    command = [
        sys.executable,
        "-m",
        "dvc",
        "repro",
        *([] if upstream else ["--single-item"]),
        stage,
    ]
    tools = str(Path(sys.executable).parent)  # stages call `python`
    environment = {
        **os.environ,
        "PATH": os.pathsep.join((tools, os.environ.get("PATH", ""))),
        "DVC_NO_ANALYTICS": "1",
    }
    lines: list[str] = []
    with (
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            encoding="utf-8",
            errors="replace",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process,
        ExitStack() as broken_off,
    ):
        # DVC ends its stage, and the stage keeps what it has
        broken_off.callback(process.terminate)
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip())
        broken_off.pop_all()
    if process.returncode:
        tail = "\n".join(lines[-LAST:])
        raise StageFailed(f"dvc repro {stage} ended with exit code {process.returncode}:\n{tail}")
    return any("Running stage" in line for line in lines)


@task(name="own-models", cache_policy=NO_CACHE, persist_result=False)
def own_models(folder: str = ".") -> list[str]:
    """Fit the recommenders of `params.yaml` on the finished studies too; the studies that they
    know. Raises `BadInput`.
    """
    return fit(
        Path(folder) / "params.yaml", Path(folder) / "data", lambda line: print(line, flush=True)
    )


@flow(name="meta-train", persist_result=False, log_prints=True)
@leased
def meta_train(
    stages: str = "",
    upstream: bool = False,
    own: bool = True,
    folder: str = ".",
) -> list[str]:
    """Bring the stages that fit recommenders up to date, then fit models on your own studies too;
    the stages that had to run, and those studies.

    Args:
        stages: names in dvc.yaml, separated by commas (default: all that write to MODELS)
        upstream: bring the stages before them up to date too; this may train missing cells for
            hours
        own: fit the models in data/own_models, which know your own finished studies
        folder: folder of dvc.yaml, on the worker's machine
    """
    ran: list[str] = []
    try:
        for stage in chosen(stages, Path(folder)):
            if repro(stage, upstream, folder):
                ran.append(stage)
    finally:
        if own:
            ran += own_models(folder)
    return ran


def chosen(stages: str, folder: Path) -> list[str]:
    """The named stages, or those that write to `src/foretune/shipped/models`, in the order of
    `dvc.yaml`. Raises `BadInput`.
    """
    file = folder / "dvc.yaml"
    try:
        known: Mapping[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise BadInput(f"{file} cannot be read as a DVC pipeline: {error}") from error
    named = [name.strip() for name in stages.split(",") if name.strip()]
    if unknown := [name for name in named if name not in known]:
        raise BadInput(f"{file} has no stage {unknown[0]!r}; there are {', '.join(known)}")
    if not named:
        named = [
            name for name, stage in known.items() if any(in_models(out) for out in outs(stage))
        ]
    if not named:
        raise BadInput(
            f"{file} has no stage that writes to {MODELS}; name the stages to run: "
            f"{', '.join(known)}"
        )
    return [name for name in known if name in named]


def outs(stage: Mapping[str, Any]) -> list[str]:
    """Paths that a stage writes, with or without options behind them."""
    return [
        str(next(iter(out)) if isinstance(out, Mapping) else out) for out in stage.get("outs", [])
    ]


def in_models(path: str) -> bool:
    """Whether a path is `src/foretune/shipped/models` or below it."""
    return Path(path).is_relative_to(MODELS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the flow as a script."""
    parser = argparse.ArgumentParser(
        prog="python flows/meta_train.py", description="Fit the recommenders again."
    )
    parser.add_argument("--stages", default="", help="names in dvc.yaml, separated by commas")
    parser.add_argument(
        "--upstream", action="store_true", help="bring the stages before them up to date too"
    )
    parser.add_argument(
        "--no-own", dest="own", action="store_false", help="fit no models on your own studies"
    )
    given = parser.parse_args(argv)
    try:
        chosen(given.stages, Path())
        with prefect_api():
            ran = meta_train(**vars(given))
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StageFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"fitted again: {', '.join(ran)}" if ran else "everything is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
