"""What is known from earlier runs: the named meta-dataset, the user's own studies of any space and
settings, and the run stores under DATA/history, as tables with one vocabulary.

    sources = sources_of(request)                     # everything that is known
    past, told = lessons(sources, question)           # what one study can learn from it
    keep(past.table, folder)                          # and goes on with, whatever comes meanwhile

A study that shares the past's space and pool learns from curves (`foretune.running.past`); these runs
are for every other one.
"""

import hashlib
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretune import shipped
from foretune.errors import BadInput, few, near, plural
from foretune.files import write_atomic
from foretune.history.alignment import normal_deviate
from foretune.history.columns import COLUMNS
from foretune.history.join import MACHINE_SETTINGS, PREFIX
from foretune.history.meta_dataset import MetaDataset
from foretune.history.runs import FACTS, RunStore
from foretune.history.scoring import MAD, scored
from foretune.history.trainers import with_defaults
from foretune.history.vocabulary import canonical, extra_name, parse
from foretune.searchers.transfer.run_columns import OUTCOMES, SCORE, TASK
from foretune.searchers.transfer.run_history import runs_of, stacked
from foretune.searchers.transfer.run_sources import hurtful
from foretune.searchers.transfer.run_surrogate import usable
from foretune.space.space import Config, Space, config_key
from foretune.stores.metrics import understood
from foretune.study.own_studies import found_studies

if TYPE_CHECKING:
    import pandas as pd

FILE = "past-runs.parquet"  # in a study's folder
FOLDER = "history"  # of run stores, in DATA
IMAGES, KIND, OF = "images", "kind", "of"  # of a run: its task's own name, its metric, its source
OWN = "own studies"  # the name of the source
HASH_DIGITS = 12  # of the images' digest in the names of imported studies
# methods that take past runs in the place of past tasks
BY_RUNS = ("curve-transfer",)
# past tasks of a study's own space from which on their curves say more than runs of other spaces
ENOUGH_TASKS = 3
LIMITS = ("train_limit", "valid_limit")  # settings whose 0 means all


@dataclass(frozen=True)
class Source:
    """Runs of one origin: `table` has a row a run, with the columns of the vocabulary, `task`, `score`
    (higher is better), `images` and `kind` of metric; `hashes` are of the tasks' images, where known.
    `fault` says why there are none, of a store that cannot be read; `same_task`: these are wanted
    though they are of the very task that is asked for.
    """

    name: str
    table: "pd.DataFrame"
    hashes: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    same_task: bool = False

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks."""
        return sorted(map(str, self.table[TASK].unique())) if len(self.table) else []


@dataclass(frozen=True)
class Question:
    """What a study asks of the past: its space, settings and metric; and its images, by name and
    content, once they are known.
    """

    space: Space
    settings: Mapping[str, Any]
    metric: str
    task: str | None = None
    task_hash: str | None = None
    only: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()

    @property
    def varied(self) -> list[str]:
        """The hyperparameters that are no constants."""
        return [n for n, p in self.space.parameters.items() if p.kind != "constant"]


@dataclass(frozen=True)
class Lessons:
    """What one study learns from: `table` in the study's own names and units, `counts` the runs and
    tasks of each source.
    """

    table: "pd.DataFrame"
    counts: Mapping[str, tuple[int, int]]


# -- what is known


def sources_of(
    data: Path, meta: str = shipped.HISTORY, own: bool = True, table: bool = True
) -> list[Source]:
    """All sources: the meta-dataset `meta` first (`none`: nothing at all is known, since nothing is
    wanted), unless without its `table`; with `own` also the user's studies and run stores. A store
    that cannot be read has no runs and says why: history must not stop a new study.
    """
    if meta == "none":
        return []
    out = []
    if table and (folder := shipped.find("meta", meta, data)) is not None:
        out.append(source_of(MetaDataset.load(folder), meta))
    if own:
        out += own_sources(data / "studies")
        seen = {h[:HASH_DIGITS] for source in out for h in source.hashes.values() if h}
        for folder in store_folders(data):
            try:
                out.append(stored(folder, seen))
            except BadInput as error:
                out.append(Source(folder.name, stacked([]), fault=str(error)))
    return [source for source in out if len(source.table) or source.fault]


def own_sources(folder: Path) -> list[Source]:
    """The user's studies as runs; one source without any stands for those of which too few trials
    were whole trainings.
    """
    found = [source_of(study, OWN) for study in found_studies(folder).studies]
    cut = [studies.hashes for studies in found if not len(studies.table)]
    if not cut:
        return found
    names = few([task.removeprefix(PREFIX) for tasks in cut for task in tasks], ", ")
    fault = f"{names}: too few trials reached the last epoch to tell what the others come to"
    return [*(s for s in found if len(s.table)), Source(OWN, stacked([]), fault=fault)]


def store_folders(data: Path) -> list[Path]:
    """The run stores under DATA/history."""
    found = sorted((data / FOLDER).glob("[!.]*/"))
    return [f for f in found if (f / "runs.parquet").is_file() or any(f.glob("*/runs.parquet"))]


def source_of(meta: MetaDataset, name: str) -> Source:
    """A meta-dataset, or own studies of one set of images, as runs."""
    runs = runs_of(meta)
    table = in_vocabulary(runs.drop(columns=[TASK, SCORE]))
    ours = "network" in (meta.about.get("settings") or {})
    table = table.assign(trainer="foretune" if ours else "")
    if "epochs" not in table:
        table["epochs"] = float(meta.max_epoch)
    table = with_defaults(table)[0]
    table[TASK], table[SCORE] = runs[TASK].to_numpy(), runs[SCORE].to_numpy(float)
    table[IMAGES], table[KIND] = runs[TASK].to_numpy(), str(understood(meta.metric).kind)
    return Source(name, table.assign(**{OF: name}), dict(meta.about.get("hashes") or {}))


def stored(folder: Path, seen: "set[str] | frozenset[str]" = frozenset()) -> Source:
    """A run store, without the runs of foretune's own studies and tables that are known by their
    images, whose digests start with `seen`.
    """
    store = RunStore.load(folder)
    again = store.runs["source"].astype(str).str.startswith("foretune:") & (
        store.runs["source_id"].astype(str).str[-HASH_DIGITS:].isin(seen)
    )
    table = scored(store.select(lambda runs: ~again) if again.any() else store)
    table[KIND] = [str(understood(metric).kind) for metric in table["metric"].astype(str)]
    of_foretune = table["source"].astype(str).str.startswith("foretune:")
    ids = table["source_id"].astype(str)
    hashes = {
        str(task): name[-HASH_DIGITS:]
        for task, name, own in zip(table[TASK], ids, of_foretune, strict=True)
        if own
    }
    facts = [c for c in FACTS if c not in (TASK, "trainer")]
    return Source(folder.name, table.drop(columns=facts).assign(**{OF: folder.name}), hashes)


def in_vocabulary(table: "pd.DataFrame") -> "pd.DataFrame":
    """Columns by the vocabulary's names, in its units and spellings; of two names for one column the
    first counts, unknown ones are `extra.NAME`.
    """
    import pandas as pd

    out: dict[str, Any] = {}
    for name in table:
        if name in MACHINE_SETTINGS:
            continue
        column, factor = column_of(str(name), table.columns)
        cells = table[name]
        if column in COLUMNS:
            known = {value: read(column, value, factor) for value in cells.dropna().unique()}
            cells = cells.map(known)
        out.setdefault(column, cells)
    return pd.DataFrame(out, index=table.index).infer_objects()


def column_of(name: str, names: Collection[str]) -> tuple[str, float]:
    """The column of the vocabulary that `name` is, and the factor of its values. One that stands beside
    the column's own name among `names` is another thing here (`auto_augment` beside `augmentation`).
    """
    column, factor = canonical(name) or (extra_name(name), 1.0)
    if column != name and column in names:
        return extra_name(name), 1.0
    return column, factor


def read(column: str, value: Any, factor: float) -> Any:
    """A cell as the vocabulary has it; None where it is not plausible."""
    try:
        return parse(column, value.item() if isinstance(value, np.generic) else value, factor)
    except ValueError:
        return None


# -- what one study learns from it


def alike(past: MetaDataset | None, pool: Sequence[Config]) -> bool:
    """Whether the curves of `past` apply as they are: they know configurations of the study's pool,
    or, where its space is open, there are `ENOUGH_TASKS` tasks of them.
    """
    if past is None or not past.tasks:
        return False
    if pool:
        known = set(map(config_key, past.configs))
        return any(config_key(config) in known for config in pool)
    return len(past.tasks) >= ENOUGH_TASKS


def leave_out(
    tasks: Sequence[str], past: MetaDataset | None, sources: Sequence[Source]
) -> MetaDataset | None:
    """`past` without these tasks, named with or without the prefix of own studies; None where nothing
    is left. Raises `BadInput` for one that is neither there nor in `sources`.
    """
    there = [] if past is None else list(past.tasks)
    check_known(tasks, [*there, *(task for source in sources for task in source.tasks)])
    if past is None:
        return None
    rest = [t for t in there if t not in tasks and t.removeprefix(PREFIX) not in tasks]
    return past.select(rest) if rest else None


def lessons(
    sources: Sequence[Source], asked: Question, judged: bool = False
) -> tuple[Lessons | None, list[str]]:
    """The runs that a study can learn from (None: the past says nothing), and a line for each kind
    that is left out; with `judged` also sources that hurt, which takes a second or two. Raises
    `BadInput` for tasks to leave out that there are not.
    """
    told = [
        f"{'' if s.name == OWN else 'run store '}{s.name} left out: {s.fault}"
        for s in sources
        if s.fault
    ]
    sources = [source for source in sources if len(source.table)]
    if not sources:
        return None, told
    table = stacked([source.table for source in sources])
    keep = np.ones(len(table), dtype=bool)
    same = of_these_images(sources, asked)
    if same:
        wanted = [source.name for source in sources if source.same_task]
        hit = (table[TASK].isin(same) & ~table[OF].isin(wanted)).to_numpy()
        told += (
            []
            if wanted
            else [
                f"{hit.sum()} {plural('run', int(hit.sum()))} of this very task left out: "
                f"{few(sorted(same), ', ')}"
            ]
        )
        keep &= ~hit
    if asked.only is not None:
        keep &= named(table, asked.only)
    if asked.without:
        keep &= ~named(table, asked.without)
    table = table[keep].reset_index(drop=True)
    table = in_names_of(in_one_unit(table, str(understood(asked.metric).kind)), asked)
    varied = [n for n in asked.varied if n in table and table[n].nunique() > 1]
    try:
        if not varied:
            raise BadInput(f"no past run varied {few(asked.varied, ' or ')}")
        usable(table)
    except BadInput as error:
        return None, [*told, f"history says nothing of this space: {error}"]
    if judged:
        table, lines = without_hurtful(table, asked.settings)
        told += lines
    counts = {
        str(name): (len(rows), int(rows[TASK].nunique()))
        for name, rows in table.groupby(OF, sort=False)
    }
    return Lessons(table.drop(columns=[IMAGES, KIND, OF]), counts), told


def without_hurtful(
    table: "pd.DataFrame", settings: Mapping[str, Any]
) -> tuple["pd.DataFrame", list[str]]:
    """The runs without those of sources that hurt the forecast of others, and a line for each such
    source. A source is judged on tasks of sources that are at least as like a study with `settings`,
    so that the one that is most like it is never left out.
    """
    if table[OF].nunique() < 2:
        return table, []
    like = {str(name): sameness(rows, settings) for name, rows in table.groupby(OF)}
    judges = {
        name: [one for one in like if one != name and like[one] >= like[name]] for name in like
    }
    runs = usable(table)
    out, _ = hurtful(runs.drop(columns=[IMAGES, KIND, OF]), runs[OF], judges)
    names = [one.name for one in out]
    lines = [
        f"the {(table[OF] == one.name).sum():,} runs of {one.name} count 0, they make forecasts "
        f"worse: {one}"
        for one in out
    ]
    return table[~table[OF].isin(names)].reset_index(drop=True), lines


def sameness(rows: "pd.DataFrame", settings: Mapping[str, Any]) -> float:
    """In how many of the `settings` that runs name they are a study's, the mean share."""
    shares = [
        float((rows[name].dropna() == value).mean())
        for name, value in settings.items()
        if name in rows and rows[name].notna().any() and isinstance(value, (bool, int, float, str))
    ]
    return float(np.mean(shares)) if shares else 0.0


def of_these_images(sources: Sequence[Source], asked: Question) -> set[str]:
    """The tasks that are the study's own, by name or by the images' content. An own study of other
    images counts, whatever its name.
    """
    out: set[str] = set()
    for source in sources:
        digests = {task: digest for task, digest in source.hashes.items() if digest}
        for task, images in source.table[[TASK, IMAGES]].drop_duplicates().itertuples(index=False):
            digest = digests.get(task)
            known = bool(digest and asked.task_hash and asked.task_hash.startswith(digest))
            if known or (asked.task is not None and images == asked.task):
                out.add(task)
    return out


def named(table: "pd.DataFrame", tasks: Sequence[str]) -> np.ndarray:
    """Which runs are of these tasks, by name, that of an own study without its prefix too, (n,)."""
    own = [PREFIX + task for task in tasks]
    return np.asarray(table[TASK].isin([*tasks, *own]) | table[IMAGES].isin([*tasks, *own]))


def check_known(tasks: Sequence[str], known: Sequence[str]) -> None:
    """Raise `BadInput` for a task to leave out that is none of those known."""
    plain = {name.removeprefix(PREFIX) for name in known} | set(known)
    for task in tasks:
        if task not in plain:
            there = near(task, plain) or f"; there are {few(sorted(plain), ', ', 8)}"
            raise BadInput(f"--without {task!r} is no past task{there}")


def in_one_unit(table: "pd.DataFrame", kind: str) -> "pd.DataFrame":
    """Scores of other kinds of metric than `kind` by their ranks, at the level and spread of the tasks
    that have it; as they are where no task has it.
    """
    alike = table[KIND] == kind
    if alike.all() or not alike.any():
        return table
    groups = table[alike].groupby(TASK)[SCORE]
    level, spread = float(groups.median().median()), float(MAD * groups.agg(deviation).median())
    others = table[~alike].groupby(TASK)[SCORE]
    rank, size = others.rank(method="average"), others.transform("size")
    score = table[SCORE].astype(float)
    score[~alike] = level + (spread or 1.0) * normal_deviate(rank, size)
    return table.assign(**{SCORE: score})


def deviation(values: "pd.Series") -> float:
    """Median deviation from the median."""
    return float((values - values.median()).abs().median())


def in_names_of(table: "pd.DataFrame", asked: Question) -> "pd.DataFrame":
    """Columns under the names, in the units and with the values that the study has for them."""
    out = table.copy()
    own = {**dict.fromkeys(asked.space.names), **asked.settings}
    for name, value in own.items():
        if name in MACHINE_SETTINGS or (name in LIMITS and not value):
            continue  # all images: how many these are is not known
        column, factor = column_of(name, own)
        if column not in table or name in (TASK, SCORE):
            continue
        cells = table[column]
        p = asked.space.parameters.get(name)
        if p is not None and not p.numeric and column in COLUMNS:
            spelled = {read(column, choice, factor): choice for choice in p.options}
            cells = cells.map(lambda v, s=spelled: s.get(v, v))
        elif factor != 1.0:
            cells = cells / factor
        out = out.drop(columns=[column], errors="ignore") if column != name else out
        out[name] = cells
    return out[[c for c in out if c not in OUTCOMES or c in (TASK, SCORE)]]


# -- what is said of it


def described(found: Lessons, asked: Question) -> list[str]:
    """Two lines: what a study leans on, and how like it is."""
    table = found.table
    parts = [f"{name} ({runs} of {tasks})" for name, (runs, tasks) in found.counts.items()]
    total = sum(tasks for _, tasks in found.counts.values())
    known = [n for n in asked.varied if n in table and table[n].nunique() > 1]
    new = [n for n in asked.varied if n not in known]
    line = (
        f"leaning on {len(table):,} runs of {total} {plural('task', total)}: {few(parts, ', ', 6)}; "
        f"they varied {few(known, ', ', 6)}"
    )
    if new:
        line += f"; new to them: {few(new, ', ', 6)}"
    return [line, f"how like: {likeness(table, asked.settings)}"]


def likeness(table: "pd.DataFrame", settings: Mapping[str, Any]) -> str:
    """For each setting that runs name, in how many of them it is the study's."""
    out = []
    for name, value in settings.items():
        if name not in table or name in MACHINE_SETTINGS or isinstance(value, (dict, list, tuple)):
            continue
        cells = table[name].dropna()
        share = float((cells == value).sum()) / len(table)
        if share == 1 or not len(cells):
            continue
        often = cells.mode().iloc[0]
        shown = f"{often:g}" if isinstance(often, float) else often
        where = f"in {100 * share:.0f} % of them" if share else f"in none (most have {shown})"
        out.append(f"{name} {value} {where}")
    return few(out, ", ", 6) or "the settings that they name are this study's"


# -- what a study that goes on keeps


def keep(table: "pd.DataFrame", folder: Path) -> str:
    """Write the runs that a study learns from into its folder; returns their digest."""
    import pandas as pd

    buffer = io.BytesIO()
    plain = table.copy()
    for column in plain:
        if len({type(v) for v in plain[column].dropna()}) > 1:
            plain[column] = [None if pd.isna(v) else str(v) for v in plain[column]]
    plain.to_parquet(buffer, index=False)
    write_atomic(folder / FILE, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()[:24]


def kept(folder: Path, digest: str | None) -> "pd.DataFrame | None":
    """The runs that the study in `folder` was started with; None where it had none. Raises `BadInput`
    where they are gone or others.
    """
    import pandas as pd

    if digest is None:
        return None
    path = folder / FILE
    if not path.is_file():
        raise BadInput(f"{path} is gone: study {folder.name!r} learns from it and cannot go on")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest()[:24] != digest:
        raise BadInput(
            f"{path} is not what study {folder.name!r} was started with: bring that back, or give "
            "another name with --study"
        )
    return pd.read_parquet(io.BytesIO(content))
