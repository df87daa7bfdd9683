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
)
EXTRAS = {"prefect": ("serve", "flows and the service"), "dvc": ("pipeline", "dvc repro")}

Finding = tuple[str, str, str]  # what, how it is (ok, note, wrong), the detail


def run(args: argparse.Namespace) -> int:
    """Print a line per finding; exit code 1 if something is wrong. With `--repair`, mend that study
    and look at nothing else.
    """
    if args.repair is not None:
        return repaired(args.repair, args.data)
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


def repaired(name: str, data: Path) -> int:
    """Take what a study's journal proves for the study, and say what was lost."""
    from foretune.running.studies import find_study
    from foretune.study.repair import repair
    from foretune.study.study import Study
    from foretune.views.summary import spent_of

    folder = find_study(name, data)
    done = repair(folder)
    journal = folder / "journal.jsonl"
    if done is None:
        print(f"{journal} is whole: nothing to repair")
        return 0
    kept = f"the first {done.kept}" if done.cut or done.missing else f"all {done.kept}"
    text = [
        f"{journal}: kept {kept} {plural('line', done.kept)}, with {spent_of(Study.load(folder))}"
    ]
    if done.cut:
        what = f"are in {done.journal} alone" if done.cut > 1 else f"is in {done.journal} alone"
        text.append(f"the {done.cut} after them {what}")
    if done.missing:
        text.append(
            f"{done.missing} that {'are' if done.missing > 1 else 'is'} missing behind them "
            f"{'count' if done.missing > 1 else 'counts'} no more"
        )
    if done.accepted:
        text.append("it counts as this study's from now on")
    if done.table:
        text.append(f"the tables are made anew; the older curves are in {done.table}")
    print("; ".join(text))
    return 0


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
    yield from services(data)


def packages() -> Iterator[Finding]:
    """Installed versions, and whether torch and torchvision fit together."""
    found: list[str] = []
    for name in (*PACKAGES, *EXTRAS):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            if name in EXTRAS:
                extra, purpose = EXTRAS[name]
                how = f"not installed; for {purpose}: pip install 'foretune[{extra}]'"
                yield name, "note", how
            else:
                yield name, "wrong", "not installed; pip install foretune brings it"
    yield "packages", "ok", ", ".join(found)
    try:
        # loads its compiled operators, which fail beside a torch of another build
        import torchvision.ops  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        yield (
            "torchvision",
            "wrong",
            f"does not load beside this torch ({str(error).splitlines()[0]}); install "
            "the two together, from one index, in the versions of requirements.lock",
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
    """Prepared tasks, meta-datasets, fitted recommenders, studies."""
    from foretune import shipped
    from foretune.history.meta_dataset import MetaDataset
    from foretune.recommenders.registry import load
    from foretune.running.studies import all_studies
    from foretune.study.study import Study
    from foretune.tasks.loading import prepared_tasks

    tasks = prepared_tasks(data)
    hint = "" if tasks else "; prepare the embedded ones with: foretune tasks --prepare"
    yield (
        "image tasks",
        "ok" if tasks else "note",
        f"{len(tasks)} prepared in {data / 'images'}{hint}",
    )
    for name in sorted({*shipped.names("meta", data), *shipped.SHIPPED["meta"]}):
        try:
            folder = shipped.need("meta", name, data)
            meta = MetaDataset.load(folder)
            yield (
                f"meta-dataset {name}",
                "ok",
                f"{len(meta.tasks)} tasks, {len(meta)} configurations, {len(meta.table)} epochs "
                f"({folder})",
            )
        except BadInput as error:
            yield f"meta-dataset {name}", "wrong", str(error)
    for name in sorted({*shipped.names("models", data), *shipped.SHIPPED["models"]}):
        try:
            folder = shipped.need("models", name, data)
            past = load(folder).past
            yield f"recommender {name}", "ok", f"fitted on {len(past.tasks)} tasks ({folder})"
        except BadInput as error:
            yield f"recommender {name}", "wrong", str(error)
    for folder in all_studies(data):
        try:
            Study.load(folder)
        except BadInput as error:
            yield f"study {folder.name}", "wrong", str(error)


def services(data: Path) -> Iterator[Finding]:
    """Where MLflow and Prefect would be spoken to, without speaking to them."""
    from foretune.views.tracking import default_uri

    yield "MLflow", "ok", f"logs to {default_uri(data)}"
    api = os.environ.get("PREFECT_API_URL")
    yield (
        "Prefect",
        "ok",
        f"flows run against {api}" if api else "flows start a server of their own",
    )
