"""`foretune doctor`: is everything here that foretune needs, and what would mend what is not."""

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from foretune.errors import BadInput, plural

LEAST_PYTHON = (3, 11)
# GiB: checkpoints and the images' packages; a network, its gradients and a batch
LEAST_DISK, LEAST_MEMORY = 2.0, 4.0
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "gpytorch",
    "botorch",
    "pandas",
    "ConfigSpace",
    "mlflow",
    "prefect",
    "dvc",
)

Finding = tuple[str, str, str]  # what, how it is (ok, note, wrong), the detail


def run(args: argparse.Namespace) -> int:
    """Print a line per finding; exit code 1 if something is wrong."""
    wrong = 0
    for what, state, detail in findings(args.data):
        mark = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}[state]
        print(f"{mark} {what}: {detail}")
        wrong += state == "wrong"
    if not wrong:
        print("everything that foretune needs is here")
        return 0
    print(f"{wrong} {plural('thing', wrong)} to mend")
    return 1


def findings(data: Path) -> Iterator[Finding]:
    """All findings, cheapest first."""
    version = sys.version_info[:2]
    yield (
        "Python",
        "ok" if version >= LEAST_PYTHON else "wrong",
        f"{platform.python_version()} (3.11 or newer is needed)",
    )
    yield from packages()
    yield from machine(data)
    yield from contents(data)
    yield from services()


def packages() -> Iterator[Finding]:
    """Installed versions, and whether torch and torchvision fit together."""
    found: list[str] = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield name, "wrong", "not installed; `make env` installs everything"
    yield "packages", "ok", ", ".join(found)
    try:
        # loads its compiled operators, which fail beside a torch of another build
        import torchvision.ops  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        yield (
            "torchvision",
            "wrong",
            f"does not load beside this torch ({str(error).splitlines()[0]}); `make env` "
            "installs the two that fit",
        )


def machine(data: Path) -> Iterator[Finding]:
    """Processor, GPU, memory, disk."""
    import psutil
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "processor", "ok", f"{cores} cores; --workers {max(1, cores or 1)} keeps them busy"
    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
        yield "GPU", "ok", ", ".join(f"{g.name} ({g.total_memory / 2**30:.0f} GiB)" for g in gpus)
    else:
        yield "GPU", "note", "none that torch can use; training runs on the processor"
    memory = psutil.virtual_memory().available / 2**30
    yield (
        "memory",
        "ok" if memory >= LEAST_MEMORY else "wrong",
        f"{memory:.1f} GiB free ({LEAST_MEMORY:.0f} are needed)",
    )
    place = next(p for p in (data, *data.absolute().parents) if p.exists())
    free = shutil.disk_usage(place).free / 2**30
    yield (
        "disk",
        "ok" if free >= LEAST_DISK else "wrong",
        f"{free:.1f} GiB free at {place} ({LEAST_DISK:.0f} are needed)",
    )
    yield (
        "data folder",
        "ok" if os.access(place, os.W_OK) else "wrong",
        f"{data} {'can' if os.access(place, os.W_OK) else 'cannot'} be written to",
    )


def contents(data: Path) -> Iterator[Finding]:
    """Prepared tasks, meta-datasets, studies."""
    from foretune.history.meta_dataset import MetaDataset
    from foretune.running.tuning import all_studies
    from foretune.study.study import Study
    from foretune.tasks.loading import prepared_tasks

    tasks = prepared_tasks(data)
    hint = "" if tasks else "; prepare the embedded ones with: foretune tasks --prepare"
    yield (
        "image tasks",
        "ok" if tasks else "note",
        f"{len(tasks)} prepared in {data / 'images'}{hint}",
    )
    folders = sorted(p.parent for p in (data / "meta").glob("*/about.json"))
    if not folders:
        yield "meta-dataset", "note", f"none in {data / 'meta'}: studies start from nothing"
    for folder in folders:
        try:
            meta = MetaDataset.load(folder)
            yield (
                f"meta-dataset {folder.name}",
                "ok",
                f"{len(meta.tasks)} tasks, {len(meta)} configurations, {len(meta.table)} epochs",
            )
        except BadInput as error:
            yield f"meta-dataset {folder.name}", "wrong", str(error)
    for folder in all_studies(data):
        try:
            Study.load(folder)
        except BadInput as error:
            yield f"study {folder.name}", "wrong", str(error)


def services() -> Iterator[Finding]:
    """Where MLflow and Prefect would be spoken to, without speaking to them."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    yield (
        "MLflow",
        "ok",
        f"logs to {uri}" if uri else "logs to sqlite:///mlflow.db in the current folder",
    )
    api = os.environ.get("PREFECT_API_URL")
    yield (
        "Prefect",
        "ok",
        f"flows run against {api}" if api else "flows start a server of their own",
    )
