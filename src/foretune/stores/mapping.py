"""How the names of one source became ours: proposed by rule, written as `mapping.yaml`, edited by
hand, used again.

What a name means is looked up in the vocabulary. Three kinds of names never become columns:
bookkeeping of the tool, results (a column that holds what the training gave must not become one
that the next choice is made by), and whatever could be a secret or tell about the user's machine:
names that speak of keys, users or places, values that look like paths, addresses or tokens.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from foretune.errors import BadInput
from foretune.history.vocabulary import (
    EXTRA,
    PAIRS,
    canonical,
    checked_column,
    extra_name,
    is_nothing,
    normal,
    parse,
    spellings,
    switches,
)
from foretune.stores.metrics import Goal
from foretune.stores.record import Record, Source, read_yaml

HEAD = """\
# How the names of this source became foretune's. Edit, and import again with --mapping FILE.
# metric, goal, unit (percent, share or ""), split: what the runs are judged by
# task: the source's column that names the task; or "=NAME" for one name; "" for the group
#   (experiment, study, project)
# curve: false where steps are no epochs (folds, say): only final values are kept
# columns: the source's name -> a column of foretune, extra.NAME for one it does not know, null: out
"""
# names that say on what a run was trained; the first that says something counts
DATASETS = [
    "dataset",
    "dataset_name",
    "data_set",
    "dataset_id",
    "data_name",
    "task_name",
    "benchmark",
    "train_dataset",
]
DATA_PLACES = [
    "data",
    "data_dir",
    "data_path",
    "data_root",
    "dataset_path",
    "dataset_dir",
    "dataroot",
    "train_dir",
    "train_data_dir",
    "root_dir",
    "data_folder",
    "dataset_root",
    "train_path",
]
# names that mean it in some projects: taken where they tell runs apart and are in all that have any
MODES = ("modality", "mode", "domain", "subset")
VERBS = {
    "train",
    "training",
    "fit",
    "test",
    "testing",
    "val",
    "validate",
    "validation",
    "predict",
    "eval",
    "evaluate",
    "online",
    "offline",
    "disabled",
    "min",
    "max",
    "auto",
    "inference",
    "debug",
}
PLAIN_PLACES = {
    "data",
    "dataset",
    "datasets",
    "train",
    "training",
    "images",
    "image",
    "img",
    "imgs",
    "input",
    "inputs",
    "root",
    "raw",
    "tmp",
}
SECRET = re.compile(
    r"(?:^|_)(?:key|keys|token|secret|secrets|password|passwd|pwd|credential|credentials|auth|"
    r"api|user|users|username|email|mail|host|hostname|ip|port|broker|url|uri|path|paths|dir|dirs|"
    r"directory|file|files|filename|folder|root|cwd|checkpoint|ckpt|resume|output|outputs|save|"
    r"saved|log|logs|logging|logger|git|commit|program|executable|command|cmd|pid|node|cluster|"
    r"account|address|home|workspace|artifact|artifacts)(?:$|_)"
)
BOOKKEEPING = re.compile(
    r"^(?:_.*|.*_id|id|name|run|run_?name|run_?id|experiment.*|project.*|entity|group|tags?|notes?|"
    r"description|stage|mode|state|status|created|updated|start_?time|end_?time|duration|runtime|"
    r"sweep|job_type|gpu.*|timestamp|datetime.*|date|time|version|trial.*|uuid|wandb.*|source.*|"
    r"device|devices|num_workers|workers|n_workers|n_jobs|threads|num_threads|pin_mem.*|"
    r"persistent_workers|prefetch.*|verbose|rank|local_rank|world_size|distributed|log_.*|"
    r"save_.*|show_.*|plots|exist_ok|cache|print_.*|eval_every|report_to|disable_tqdm|"
    r"dataloader_.*|push_to_hub|hub_.*|logging_.*|format|tracker|hardware|notebook.*|cfg|config|"
    r"tuner_.*|params?_file|user_attrs.*|system_attrs.*|number|index|unnamed.*)$"
)
RESULT = re.compile(
    r"(?:^|_)(?:train|val|valid|validation|eval|test|best|final|loss|losses|acc|accuracy|top1|top5|"
    r"f1|auc|auroc|ece|nll|precision_score|recall|score|fitness|grad_norm|latency|latency_ms|"
    r"runtime|seconds|elapsed|throughput|memory|mem|mb|kb|energy|compression_ratio)(?:$|_)"
)
PATH = re.compile(r"^(?:~|\.{0,2}[/\\]|[A-Za-z]:[/\\]|\w+://)|\\|/.*/")
TOKEN = re.compile(r"^(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_\-+=.]{24,}$")
EMAIL = re.compile(r"\S+@\S+\.\S+")
LONGEST = 60  # characters of a value that is kept
ENDS = re.compile(r"\.(?:ya?ml|json|csv|tsv|txt|py|sh|npz|npy|zip|tar|gz|pt|pth|ckpt)$")


@dataclass
class NameMapping:
    """A source's names and what they become; `columns` holds `null` (None) for what is left out."""

    format: str
    goal: Goal
    task: str = ""
    curve: bool = True
    columns: dict[str, str | None] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)  # what was left out, and why; not kept

    def text(self) -> str:
        """The content of `mapping.yaml`."""
        goal = self.goal
        body = {
            "format": self.format,
            "metric": goal.metric,
            "goal": goal.goal,
            "unit": goal.unit,
            "split": goal.split,
            "task": self.task,
            "curve": self.curve,
            "columns": self.columns,
        }
        return HEAD + yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=100)


KEYS = ("format", "metric", "goal", "unit", "split", "task", "curve", "columns")


def load(path: Path) -> dict[str, Any]:
    """The entries of a `mapping.yaml`, checked; any may be missing, and is proposed then.

    Raises `BadInput` naming the entry that cannot be.
    """
    found = read_yaml(path)
    if unknown := [key for key in found if key not in KEYS]:
        raise BadInput(f"{path}: unknown entry {unknown[0]!r}; there are {', '.join(KEYS)}")
    allowed = {
        "goal": ("maximize", "minimize"),
        "unit": ("percent", "share", ""),
        "split": ("valid", "test", "train", "unknown"),
        "curve": (True, False),
    }
    for key, values in allowed.items():
        if key in found and found[key] not in values:
            raise BadInput(
                f"{path}: {key}: {found[key]!r} must be one of {', '.join(repr(v) for v in values)}"
            )
    columns = found.get("columns") or {}
    if not isinstance(columns, dict):
        raise BadInput(f"{path}: columns must map the source's names to foretune's")
    for name, column in columns.items():
        if column is not None:
            checked_column(str(column), f"{path}: columns: {name}")
    return {**found, "columns": {str(k): v for k, v in columns.items()}}


def propose(source: Source, goal: Goal, given: Mapping[str, Any] | None = None) -> NameMapping:
    """A mapping for the names of a source; the entries of `given` (a loaded file) stay as they are."""
    given = given or {}
    values = _values(source.records)
    told: dict[str, str | None] = given.get("columns", {})
    mapping = NameMapping(source.format, goal, columns=dict(told))
    mapping.task = str(given["task"] or "") if "task" in given else task_column(source, values)
    mapping.curve = bool(given.get("curve", True))
    for name in values:
        if name in told:
            continue
        column, why = _place(name, values[name], mapping.task, source.mixed)
        mapping.columns[name] = column
        if why:
            mapping.why[name] = why
    # of several names of one column, the first that says something counts in each run
    mapping.columns = dict(
        sorted(mapping.columns.items(), key=lambda item: _preference(item[0], item[1], values))
    )
    return mapping


def _values(records: Sequence[Record]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for record in records:
        for name, value in record.params.items():
            out.setdefault(name, []).append(value)
    return out


def _place(name: str, values: list[Any], task: str, mixed: bool) -> tuple[str | None, str]:
    """Where a name goes, and why where it is left out."""
    spelled = spellings(name)[-1]
    known = [v for v in values if not is_nothing(v)]
    if name == task:
        return None, "names the task"
    if spelled in PAIRS:
        return (None, "says nothing") if not known else ("+".join(PAIRS[spelled]), "")
    if spelled in switches():
        return None, f"switches {switches()[spelled]}"
    if found := canonical(name):
        fits = [v for v in known if _fits(found[0], v, found[1])]
        if (fits or not known) and (len(fits) == len(known) or len(fits) > len(known) / 2):
            return found[0], ""
        return None, f"is no {found[0]}: {known[0]!r}"[:80]
    if spelled in DATASETS or spelled in DATA_PLACES:
        return None, "a data set"
    if SECRET.search(spelled):
        return None, "could tell of a place or a person"
    if BOOKKEEPING.match(spelled):
        return None, "bookkeeping"
    if mixed and RESULT.search(spelled):
        return None, "looks like a result"
    if not known:
        return None, "says nothing"
    if any(private(v) for v in known):
        return None, "holds paths, addresses or tokens"
    return extra_name(name), ""


def _fits(column: str, value: Any, factor: float) -> bool:
    try:
        parse(column, value, factor)
    except ValueError:
        return False
    return True


def private(value: Any) -> bool:
    """Whether a value looks like a path, an address, a token, or free text: never copied."""
    if isinstance(value, bool | int | float):
        return False
    if isinstance(value, list | tuple):
        return any(private(v) for v in value) or len(str(value)) > LONGEST
    text = str(value).strip()
    return bool(
        len(text) > LONGEST
        or PATH.search(text)
        or EMAIL.search(text)
        or TOKEN.match(text)
        or ENDS.search(text)
    )


def _preference(
    name: str, column: str | None, values: Mapping[str, list[Any]]
) -> tuple[bool, bool, int, str]:
    """The canonical name itself first, then what most runs have; what is left out last."""
    filled = sum(not is_nothing(v) for v in values.get(name, ()))
    return column is None, normal(name) != column, -filled, name


def task_column(source: Source, values: Mapping[str, list[Any]]) -> str:
    """The column that names the task; "" where none does and the group stands for it."""
    by_name = {spellings(name)[-1]: name for name in values}
    having = max((len(v) for v in values.values()), default=0)
    told: list[str] = []
    for wanted in (*DATASETS, *DATA_PLACES):
        if (name := by_name.get(wanted)) and any(task_name(v) for v in values[name]):
            told.append(name)
    for name in told:
        if sum(bool(task_name(v)) for v in values[name]) >= having:
            return name
    for wanted in MODES:
        name = by_name.get(wanted, "")
        words = {str(v).strip().lower() for v in values.get(name, ()) if not is_nothing(v)}
        if 1 < len(words) <= 50 and not words & VERBS and len(values[name]) >= having:
            return name
    return told[0] if told else ""


def task_name(value: Any) -> str | None:
    """The task that a value names: of a path its last folder that says something.

    `data/EuroSAT_RGB` is EuroSAT_RGB, `mtlbm/micro/set2/RSD` (a registry's name) stays, `./data` is
    None.
    """
    if is_nothing(value) or isinstance(value, list | dict | bool):
        return None
    text = str(value).strip().replace("\\", "/").rstrip("/")
    parts = [p for p in re.split(r"/+", text) if p not in ("", ".", "..", "~")]
    if not parts:
        return None
    rooted = text.startswith(("/", ".", "~")) or re.match(r"[A-Za-z]:|\w+://", text)
    if not rooted and len(parts) > 1 and parts[0].lower() not in PLAIN_PLACES:
        return text[:100] if not ENDS.search(text) else ENDS.sub("", parts[-1])
    while parts and parts[-1].lower() in PLAIN_PLACES:
        parts.pop()
    return ENDS.sub("", parts[-1])[:100] if parts else None


def plain_name(text: str) -> str:
    """A name of a run, an experiment or a task without places and persons: of a path or an address
    the last part, without what stands before an @.
    """
    if PATH.search(text) or EMAIL.search(text):
        parts = [p for p in re.split(r"[/\\]+", text.strip()) if p and "@" not in p]
        return parts[-1] if parts and ":" not in parts[-1] else "unnamed"
    return text


def left_out(mapping: NameMapping) -> dict[str, list[str]]:
    """The names that became no column, by reason."""
    out: dict[str, list[str]] = {}
    for name, why in mapping.why.items():
        out.setdefault(why.split(":", maxsplit=1)[0], []).append(name)
    return out


def unknown_columns(mapping: NameMapping) -> list[str]:
    """Names that the vocabulary does not know and that were kept as `extra.*`."""
    return sorted(n for n, c in mapping.columns.items() if c and c.startswith(EXTRA))
