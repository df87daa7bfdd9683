"""What `foretune import` reads: published tables (name -> module with `convert(src, dest)`) and
other tools' runs (name -> modules with `read(path)`), and which of these a path holds.
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from foretune.errors import BadInput
from foretune.stores.record import MAX_FILES, Source

if TYPE_CHECKING:
    from foretune.history.meta_dataset import MetaDataset

IMPORTERS: dict[str, str] = {
    "hyperrec": "foretune.stores.hyperrec",
    "lcbench": "foretune.stores.lcbench",
    "taskset": "foretune.stores.taskset",
    "nasbench201": "foretune.stores.nasbench201",
    "lemur": "foretune.stores.lemur",
}
READERS: dict[str, str] = {
    "csv": "foretune.stores.csv_table",
    "timm": "foretune.stores.timm",
    "mlflow": "foretune.stores.mlflow_files",
    "optuna": "foretune.stores.optuna_database",
    "wandb": "foretune.stores.wandb",
    "tensorboard": "foretune.stores.tensorboard",
    "huggingface": "foretune.stores.huggingface",
    "lightning": "foretune.stores.lightning",
    "ultralytics": "foretune.stores.ultralytics",
    "ray": "foretune.stores.ray",
    "keras-tuner": "foretune.stores.keras_tuner",
    "neptune": "foretune.stores.neptune",
    "foretune": "foretune.stores.own_runs",
}
OTHER_NAMES = {"hf": "huggingface", "keras": "keras-tuner", "kerastuner": "keras-tuner"}
DATABASE = {
    "mlflow": "foretune.stores.mlflow_database",
    "optuna": "foretune.stores.optuna_database",
}
SQLITE = (".db", ".sqlite", ".sqlite3")


def import_table(name: str, src: Path | str, dest: Path | str) -> "MetaDataset":
    """Read the published table `name` from `src` and write it as a meta-dataset to `dest`.

    Raises `BadInput`.
    """
    if name not in IMPORTERS:
        raise BadInput(f"no importer {name!r}; there are {', '.join(IMPORTERS)}")
    if not Path(src).exists():
        raise BadInput(f"{src} does not exist")
    return importlib.import_module(IMPORTERS[name]).convert(src, dest)


def format_named(name: str) -> str:
    """The format that a name means, `auto` for whichever shows. Raises `BadInput` for no format."""
    name = OTHER_NAMES.get(name, name)
    if name != "auto" and name not in READERS:
        raise BadInput(
            f"no format {name!r}; there are {', '.join(READERS)}, and of published tables "
            f"{', '.join(IMPORTERS)}"
        )
    return name


def read_source(address: str, name: str = "auto") -> Source:
    """The records of a file, a folder or an MLflow server, in the format `name` or the one that it
    seems to have.

    Raises `BadInput` for an unknown format, a source that is not there or is none of that format.
    """
    name = format_named(name)
    if address.startswith(("http://", "https://")):
        if name not in ("auto", "mlflow"):
            raise BadInput(f"{name} is read from files; export the runs and give the file")
        from foretune.stores.mlflow_server import read

        return _some(read(address), address.rsplit("@", maxsplit=1)[-1])
    path = Path(address.removeprefix("sqlite:///"))
    if not path.exists():
        raise BadInput(f"{path} does not exist")
    also: Sequence[str] = ()
    if name == "auto":
        name, *also = formats_of(path)
    place = _place(name, path)
    try:
        source: Source = importlib.import_module(_module(name, path)).read(place)
    except BadInput:
        raise
    # what a file holds may be anything: a structure that is not the format's fails in these ways
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise BadInput(
            f"{place} is damaged, or not what {name} writes: {type(error).__name__} {error}"
        ) from error
    if also:
        source.notes.append(f"it looks like {', '.join(also)} too: name the format to read that")
    return _some(source, str(path))


def _some(source: Source, where: str) -> Source:
    if not source.records:
        aside = "".join(f"; {n} {why}" for why, n in source.aside.items())
        raise BadInput(f"{where} holds no runs{aside}")
    return source


def _database(path: Path) -> Path | None:
    """The database that a path is, or the only one in it."""
    from foretune.stores.sqlite import is_sqlite

    if path.is_file():
        return path if is_sqlite(path) else None
    found = [p for p in sorted(path.iterdir()) if p.suffix in SQLITE and is_sqlite(p)]
    return found[0] if len(found) == 1 else None


def _place(name: str, path: Path) -> Path:
    """What in a folder a reader of one file reads."""
    if path.is_dir():
        if name in DATABASE and (database := _database(path)):
            return database
        if name in ("csv", "wandb", "ray", "optuna"):
            endings = {"optuna": ("*.log", "*.jsonl")}.get(name, ("*.csv",))
            files = sorted(f for ending in endings for f in path.rglob(ending))
            if len(files) == 1:
                return files[0]
            if name == "optuna":
                raise BadInput(
                    f"{path} holds {len(files)} files {' or '.join(endings)}; give one of them"
                )
    return path


def _module(name: str, path: Path) -> str:
    """The module that reads this kind of a format."""
    if name == "optuna" and _database(path) is None:
        return "foretune.stores.optuna_journal"
    if name == "mlflow" and _database(path) is not None:
        return "foretune.stores.mlflow_database"
    return READERS[name]


def formats_of(path: Path) -> list[str]:
    """The formats that a path looks like, the likeliest first. Raises `BadInput` for none."""
    found = _of_file(path) if path.is_file() else _of_folder(path)
    if not found:
        raise BadInput(
            f"what {path} holds is none of the formats {', '.join(READERS)}; name one to see why"
        )
    return found


def _of_file(path: Path) -> list[str]:
    if _database(path):
        return _of_database(path)
    name = path.name
    if "tfevents" in name:
        return ["tensorboard"]
    if name == "trainer_state.json":
        return ["huggingface"]
    if path.suffix == ".parquet":
        return _of_parquet(path)
    with open(path, "rb") as stream:
        head = stream.read(65536).decode("utf-8", errors="replace").split("\n", 1)[0]
    if head.startswith("{") and '"op_code"' in head:
        return ["optuna"]
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return []
    if ('"Name"' in head and '"State"' in head) or (head.startswith("Name,") and ",State," in head):
        return ["wandb"]
    if "config/" in head:
        return ["ray"]
    if name == "summary.csv" and head.startswith("epoch,"):
        return ["timm"]
    if name in ("results.csv", "tune_results.csv"):
        return ["ultralytics"]
    if name == "metrics.csv" and (path.parent / "hparams.yaml").is_file():
        return ["lightning"]
    return ["csv"]


def _of_database(path: Path) -> list[str]:
    from foretune.stores.sqlite import tables

    names = tables(path)
    return ["optuna"] if "trial_params" in names else ["mlflow"] if "experiments" in names else []


def _of_parquet(path: Path) -> list[str]:
    from pyarrow.parquet import read_schema

    try:
        names = set(read_schema(path).names)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    return ["neptune"] if "attribute_path" in names else ["wandb"] if "_step" in names else []


def _of_folder(path: Path) -> list[str]:
    names: set[str] = set()
    folders: set[str] = {path.name}
    parquets: list[Path] = []
    seen = 0
    for top, inner, files in os.walk(path):
        inner.sort()
        folders.update(inner)
        names.update(files)
        parquets += [Path(top, f) for f in sorted(files) if f.endswith(".parquet")][:1]
        seen += len(files)
        if seen > MAX_FILES:
            raise BadInput(f"{path} holds more than {MAX_FILES:,} files; name a folder in it")
    found: list[str] = []
    if {"about.json", "curves.parquet"} <= names and {"space.json", "runs.parquet"} & names:
        if "runs.parquet" in names and "space.json" not in names:
            raise BadInput(f"{path} is a run store already")
        found.append("foretune")
    if "meta.yaml" in names and {"params", "metrics", "mlruns"} & folders:
        found.append("mlflow")
    if database := _database(path):
        found += _of_database(database)
    if {"trial.json", "oracle.json"} & names:
        found.append("keras-tuner")
    if "trainer_state.json" in names:
        found.append("huggingface")
    if any(f.startswith(("run-20", "offline-run-20")) for f in folders):
        found.append("wandb")
    if "params.json" in names and {"result.json", "progress.csv"} & names:
        found.append("ray")
    if "tune_results.csv" in names or {"args.yaml", "results.csv"} <= names:
        found.append("ultralytics")
    if "summary.csv" in names:
        found.append("timm")
    if "metrics.csv" in names:
        found.append("lightning")
    if any("tfevents" in n for n in names):
        found.append("tensorboard")
    if not found and parquets:
        found += _of_parquet(parquets[0])
    if not found:
        found += _lone_file(path)
    return list(dict.fromkeys(found))


def _lone_file(path: Path) -> list[str]:
    """A folder with one file that can be told by itself, licences and notes apart."""
    files = [
        f
        for f in sorted(path.rglob("*"))
        if f.is_file() and f.suffix.lower() in (".csv", ".log", ".jsonl")
    ]
    kinds = {kind for f in files[:20] for kind in _of_file(f)}
    if len(kinds) == 1 and (len(files) == 1 or kinds == {"csv"}):
        return list(kinds)
    return []
