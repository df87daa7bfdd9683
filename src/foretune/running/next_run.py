"""The run to make next after whatever was logged: of any tool, with any columns.

    store = open_store("mlruns", Path("data"))
    found = next_run(store, "flowers")
    found.config, found.expected, found.spread, found.why

The task's own runs are observations, the runs of all other tasks its history, as for a study of
foretune's (`foretune.searchers.transfer.run_prior`). Candidates are runs that were made, with one
or two columns as other runs had them or, of numbers, between and a little beyond these; so only what
somebody varied is varied. The next run is the candidate of the largest expected improvement, before
the first run of a task that of the best forecast.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foretune.errors import BadInput, few, near, plural
from foretune.gaussian.acquisition import expected_improvement
from foretune.history.alignment import normal_deviate
from foretune.history.columns import COLUMNS
from foretune.history.runs import FACTS, RunStore
from foretune.history.scoring import scored
from foretune.history.trainers import DEFAULTS
from foretune.history.vocabulary import EXTRA
from foretune.running.first_runs import data_arguments, trainer_named
from foretune.running.forecast_widening import USUAL, moments, widened, widening
from foretune.running.history import FOLDER, KIND, OF, Source, in_one_unit
from foretune.running.scripts.template import spelled
from foretune.running.scripts.wording import WORDINGS, Said, network_of, said
from foretune.searchers.transfer.run_columns import SCORE, TASK
from foretune.searchers.transfer.run_history import stacked
from foretune.searchers.transfer.run_prior import RunPrior, past_unit
from foretune.searchers.transfer.run_surrogate import Forecast, RunSurrogate, squared
from foretune.stores.mapping import plain_name
from foretune.stores.metrics import understood
from foretune.tasks.folder import PART_NAMES
from foretune.tasks.split import TRAIN

if TYPE_CHECKING:
    import pandas as pd

CANDIDATES = 400
PARENTS = 20  # best runs of the task, and of the others, that candidates are made from
MOST_SEEN = 300  # own runs that are conditioned on: the best and a draw of the others
CHANGES = (1, 1, 2, 3)  # columns in which a candidate differs from its parent
LITTLE = 0.05  # chance of an improvement, below which it is said that there is little left
REACH = 0.25  # how far beyond the numbers that were tried, as a share of their range
# of the task or of the training's length and luck, not of what is searched
FIXED = {
    "num_classes", "train_images", "epochs", "seed", "parameters", "gmacs", "network_family",
}  # fmt: skip
IMAGES = "images"
PLAIN = re.compile(r"[\w.=+-]+")  # what a setting of Ultralytics is written with


@dataclass(frozen=True)
class NextRun:
    """What to run, and why. `config` has what was varied, `held` what the run that it comes from
    had besides, by the vocabulary's names; `expected` and `spread` (standard deviation) are of the
    metric in its own unit, `chance` of beating `best` (None before the first run).

    `changed`: column -> (its value in the run that it comes from, now); `parent` is that run's name
    in its source, of the task `parent_task`. `trust` weighs the hypotheses of `run_prior`; `past` is
    task -> what it adds.
    """

    task: str
    metric: str
    goal: str
    config: Mapping[str, Any]
    held: Mapping[str, Any]
    expected: float
    spread: float
    best: float | None
    best_run: str | None
    chance: float | None
    parent: str
    parent_task: str
    changed: Mapping[str, tuple[Any, Any]]
    runs: int  # of the task
    past_runs: int
    past_tasks: int
    trust: Mapping[str, float] = field(default_factory=dict)
    past: Mapping[str, float] = field(default_factory=dict)
    epochs: int | None = None
    minutes: float | None = None
    notes: tuple[str, ...] = ()
    trainer: str = ""  # whose runs they are, where that is known


# -- what was logged


def open_store(address: str, data: Path, format_: str = "auto") -> RunStore:
    """The runs of a store under DATA/history by its name, of a store's folder, or of anything that
    `foretune import` reads. Writes nothing. Raises `BadInput`.
    """
    from foretune.stores.importing import import_runs
    from foretune.stores.mapping import propose
    from foretune.stores.metrics import choose
    from foretune.stores.registry import read_source

    if not address.strip():
        raise BadInput("the store's name is empty: give a file or folder of runs, or a name")
    for folder in named_folders(address, data):
        if (folder / "runs.parquet").is_file() or any(folder.glob("*/runs.parquet")):
            return RunStore.load(folder)
    study = data / "studies" / address
    if Path(address).name == address and not Path(address).exists() and study.is_dir():
        address = str(study)
    if "://" not in address and not Path(address).exists():
        known = sorted(p.name for p in (data / FOLDER).glob("[!.]*/")) if data.is_dir() else []
        there = near(address, known) or (f"; stores there are {few(known, ', ')}" if known else "")
        raise BadInput(
            f"{address} is no file or folder, and no run store in {data / FOLDER}{there}"
        )
    source = read_source(address, format_)
    return import_runs(source, propose(source, choose(source), {}))[0]


def named_folders(address: str, data: Path) -> list[Path]:
    """Where a run store of this name or path may lie."""
    named = [data / FOLDER / address] if Path(address).name == address else []
    return [folder for folder in (Path(address), *named) if folder.is_dir()]


def task_named(store: RunStore, task: str | None, new: bool = False) -> str:
    """The task that is meant: the only one where none is named. Raises `BadInput` for one that has
    no run, unless it is to be a `new` one.
    """
    known = store.tasks
    if task is not None:
        if not task.strip():
            raise BadInput("--task is empty: give the task's name")
        if task in known or new:
            return task
        ends = [name for name in known if name.rpartition("/")[2] == task]
        if len(ends) == 1:
            return ends[0]
        there = near(task, known) or (f"; there are {few(known, ', ', 8)}" if known else "")
        raise BadInput(f"--task {task!r} has no run with a value{there}; --new begins it")
    if not known:
        raise BadInput("no run has a value: there is nothing to go by")
    if len(known) > 1:
        raise BadInput(f"--task must say which of {len(known)} tasks: {few(known, ', ', 8)}")
    return known[0]


# -- the next run


def classes_in(folder: Path) -> int:
    """Class folders of a folder of images, or of the training part of one; 0 where there are none."""
    if not folder.is_dir():
        return 0
    names = {entry.name.lower(): entry for entry in folder.iterdir() if entry.is_dir()}
    train = next((names[n] for n, part in PART_NAMES.items() if part == TRAIN and n in names), None)
    return sum(e.is_dir() for e in train.iterdir()) if train is not None else len(names)


def is_classifier(store: RunStore) -> bool:
    """Whether the runs seem to train image classifiers by accuracy: whether foretune's own table is
    of their kind.
    """
    runs = store.runs
    kinds = {str(understood(metric).kind) for metric in runs["metric"].dropna().astype(str)}
    return "accuracy" in kinds and ("network" in runs or bool(runs["trainer"].astype(bool).any()))


def in_words(found: NextRun, trainer: str, images: str = "") -> tuple[Said, list[str]]:
    """The next run as a command line of `trainer`, and what must be known of it. Raises
    `BadInput`.
    """
    wording = WORDINGS[trainer_named(trainer)]
    data, notes = data_arguments(trainer, images) if images else (
        {"data": wording.data.whole, "images": "IMAGES"}, []
    )  # fmt: skip
    begin = wording.begin.replace("{data}", data.pop("data"))
    values = {k: v for k, v in {**found.held, **found.config}.items() if k not in FIXED}
    if found.trainer == trainer == "ultralytics":  # all of its settings are NAME=VALUE
        begin += "".join(
            f" {name.removeprefix(EXTRA)}={spelled(value)}"
            for name, value in sorted(values.items())
            if name.startswith(EXTRA) and PLAIN.fullmatch(f"{name}={spelled(value)}")
        )
        values = {name: value for name, value in values.items() if not name.startswith(EXTRA)}
    if values.pop("pretrained", True) is False:
        begin = begin.replace(" --pretrained", "")
    if "{network}" in begin and not values.get("network"):
        values["network"] = network_of(trainer, None) or "NETWORK"
        notes.append(f"the runs name no network: put yours in the place of {values['network']}")
    classes = classes_in(Path(images)) if images else 0
    if "{classes}" in begin and not classes:
        begin = begin.replace("{classes}", "CLASSES")
        notes.append("put the number of classes in the place of CLASSES")
    if "{batch_size}" in begin:
        values.setdefault("batch_size", DEFAULTS.get(trainer, {}).get("batch_size", 16))
    own: dict[str, Any] = {
        "epochs": found.epochs or 10,
        "seed": 0,
        "trial_folder": f"runs/{plain_name(found.task)}-{found.runs + 1}",
    }
    data["classes"] = str(classes)
    same = ("optimizer", "scheduler") if found.trainer == trainer == "timm" else ()
    how = said(trainer, values, begin, same, **own, **data)
    usual = {
        f"{name}={value}" for name, value in values.items() if at_default(trainer, name, value)
    }
    unsaid = tuple(text for text in how.unsaid if text.partition(":")[0] not in usual)
    return Said(how.words, unsaid, how.nearly), [*notes, *wording.about]


def at_default(trainer: str, name: str, value: Any) -> bool:
    """Whether a trainer does that anyway: it is its default, or off where it says nothing of it."""
    defaults = DEFAULTS.get(trainer, {})
    off = COLUMNS[name].off if name in COLUMNS else None
    return bool(defaults.get(name, off) == value) and value is not None


def next_run(
    store: RunStore,
    task: str,
    *,
    sources: Sequence[Source] = (),
    vary: Sequence[str] = (),
    seed: int = 0,
) -> NextRun:
    """The run to make next on `task`; `sources` are other histories (`running.history.sources_of`),
    `vary` the columns to search in (default: all that the store's runs varied). Raises `BadInput`.
    """
    table = scored(store)
    own = table[table[TASK] == task].reset_index(drop=True)
    other = table[(table[TASK] != task) & (table[IMAGES] != task)].reset_index(drop=True)
    if not len(own) and not len(other):
        raise BadInput(
            "no run has a score: all failed, or were stopped with nothing to say what they would "
            "have come to"
        )
    named = dict(zip(store.runs["run_id"], rows_of(store), strict=True))
    pool = Pool(own, other, named, vary)
    rng = np.random.default_rng([seed, len(own), zlib.crc32(task.encode())])
    candidates, parents = pool.candidates(rng)
    if not candidates:
        raise BadInput(
            f"all that can be made of the columns {few(sorted(pool.varied), ', ', 6)} was tried "
            "already: vary something else, too"
        )
    history = history_of(other, sources, task, pool.kind)
    if history is None:
        pool.rank()
    seen = pool.seen(rng)
    frame = stacked([framed([*seen.configs, *candidates])])
    surrogate, forecast = taught(history, pool.own, frame)
    prior = RunPrior(
        forecast,
        past_unit(surrogate.location, surrogate.scale, surrogate.laws.level),
        surrogate.columns.encode(frame),
        1,
        variance=surrogate.variance,
        new=len(pool.varied - set(surrogate.columns.names)) if history is not None else 0,
    )
    belief = prior.believe(
        seen.at, np.zeros(len(seen.at), dtype=int), seen.scores, np.zeros(1, int)
    )
    first = len(seen.configs)
    mean, std = belief.mean[:, first:, 0], belief.std[:, first:, 0]
    weight, best = belief.weight, float(seen.scores.max(initial=-math.inf))
    expected = weight @ mean
    if math.isfinite(best):
        value = weight @ expected_improvement(mean, std, best)
    else:
        value = expected
    k = int(value.argmax())
    # a pick is made for its forecast, which flatters it
    wider = USUAL if history is None else widening(history, surrogate, len(seen.scores), seed)
    laws = widened(weight, mean[:, k], std[:, k], wider)
    return pool.described(
        task,
        candidates[k],
        parents[k],
        (float(expected[k]), float(moments(weight, *laws)[1]), chance_of(weight, *laws, best)),
        history,
        {name: round(float(w), 3) for name, w in belief.trust.items()},
        leaning(belief.lean, surrogate.tasks) if history is not None else {},
    )


def chance_of(weight: np.ndarray, mean: np.ndarray, std: np.ndarray, best: float) -> float | None:
    """The chance that a value is above `best`, under normal laws with these weights."""
    from scipy.special import ndtr

    return float(weight @ ndtr((mean - best) / std)) if math.isfinite(best) else None


def leaning(lean: np.ndarray, tasks: Sequence[str]) -> dict[str, float]:
    """The past tasks that the choice leans on most, with their parts of the forecast."""
    if not len(lean):
        return {}
    first = np.argsort(-lean)[:3]
    return {tasks[t]: round(float(lean[t]), 3) for t in first if lean[t] > 0.01}


def history_of(
    other: "pd.DataFrame", sources: Sequence[Source], task: str, kind: str
) -> "pd.DataFrame | None":
    """Runs of other tasks: of the same store and of other sources, in one unit; None where nothing
    can be learned from them.
    """
    from foretune.searchers.transfer.run_surrogate import usable

    tables = [with_kind(other)] if len(other) else []
    for source in sources:
        if len(source.table):
            tables.append(source.table[(source.table[IMAGES] != task)])
    if not tables:
        return None
    table = in_one_unit(stacked(tables), kind)
    try:
        usable(table)
    except BadInput:
        return None
    return table.drop(columns=[c for c in (*FACTS, IMAGES, KIND, OF) if c in table and c != TASK])


def with_kind(table: "pd.DataFrame") -> "pd.DataFrame":
    """A scored table with each run's kind of metric."""
    return table.assign(
        **{KIND: [str(understood(metric).kind) for metric in table["metric"].astype(str)]}
    )


def taught(
    history: "pd.DataFrame | None", own: "pd.DataFrame", frame: "pd.DataFrame"
) -> tuple[RunSurrogate, Forecast]:
    """The process that the past teaches, and its forecast of `frame`'s rows. Without a past, the
    task's own runs teach which columns matter, and the forecast knows no value.
    """
    if history is not None:
        surrogate = RunSurrogate(history)
        return surrogate, surrogate.forecast(frame)
    facts = [c for c in (*FACTS, IMAGES) if c in own and c != TASK]
    try:
        surrogate = RunSurrogate(own.drop(columns=facts))
    except BadInput as error:
        raise BadInput(
            f"the {len(own)} {plural('run', len(own))} that have a score differ in nothing that "
            "could be learned from: two of different score are needed"
        ) from error
    laws, Z = surrogate.laws, surrogate.stretched(surrogate.columns.encode(frame))
    cov = (laws.shared + laws.own) * np.exp(-squared(Z, Z))
    n = len(frame)
    return surrogate, Forecast(np.zeros(n), cov, laws.noise, np.zeros((1, n)))


def framed(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """Rows as a table; of what a row lacks the cell is empty."""
    import pandas as pd

    return pd.DataFrame([dict(row) for row in rows])


def rows_of(store: RunStore) -> list[dict[str, Any]]:
    """The columns that each run names, without its empty cells; numbers of a column that has whole
    ones alone, and no unit that is a share, as whole numbers.
    """
    table = store.runs[store.columns]
    whole = {str(c) for c in table if all_whole(str(c), table[c].dropna())}
    return [
        {
            str(name): int(value) if name in whole else plain(value)
            for name, value in row.items()
            if not empty(value)
        }
        for row in table.to_dict("records")
    ]


def all_whole(name: str, cells: "pd.Series") -> bool:
    """Whether a column holds whole numbers: as its kind says, or, of an unknown one, its cells."""
    if name in COLUMNS:
        return COLUMNS[name].kind == "integer"
    numbers = [v for v in cells if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return bool(numbers) and len(numbers) == len(cells) and all(v == round(v) for v in numbers)


def empty(value: Any) -> bool:
    """Whether a cell says nothing."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def plain(value: Any) -> Any:
    """A cell as Python has it."""
    return value.item() if isinstance(value, np.generic) else value


@dataclass(frozen=True)
class Seen:
    """The task's runs as observations: distinct `configs`, of each run its place among them (`at`)
    and its score.
    """

    configs: list[dict[str, Any]]
    at: np.ndarray
    scores: np.ndarray


class Pool:
    """The runs of a task (`own`) and of others, and what can be made of them. `named` are the
    columns that each run names, by its id.
    """

    def __init__(
        self,
        own: "pd.DataFrame",
        other: "pd.DataFrame",
        named: Mapping[str, dict[str, Any]],
        vary: Sequence[str] = (),
    ):
        self.own, self.other, self.named = own, other, named
        some = own if len(own) else other
        self.metric, self.goal = (Counter(some[c].astype(str)).most_common(1)[0][0] for c in
                                  ("metric", "goal"))  # fmt: skip
        self.sign = -1.0 if self.goal == "minimize" else 1.0
        self.kind = str(understood(self.metric).kind)
        self.mine = [named[i] for i in own["run_id"]]
        self.theirs = [named[i] for i in other["run_id"]]
        self.varied = self._varied(vary)

    def _varied(self, vary: Sequence[str]) -> set[str]:
        """The columns in which the task's runs differ, or, where they do in none, those of all."""
        for rows in (self.mine, [*self.mine, *self.theirs]):
            values: dict[str, set[str]] = {}
            for row in rows:
                for name, value in row.items():
                    values.setdefault(name, set()).add(repr(value))
            found = {n for n, seen in values.items() if len(seen) > 1} - FIXED
            unknown = [name for name in vary if name not in values]
            if vary and not unknown:
                if any(len(values[name]) > 1 for name in vary):
                    return set(vary)
                continue
            if found and not vary and len(rows) > 1:
                return found
        if vary and not unknown:
            raise BadInput(
                f"--vary {', '.join(vary)}: all runs have one value of it, which leaves no choice"
            )
        if vary:
            raise BadInput(
                f"--vary {unknown[0]!r} is in no run{near(unknown[0], values)}; there are "
                f"{few(sorted(values), ', ', 12)}"
            )
        raise BadInput(
            "the runs differ in no setting that could be chosen: log the learning rate and the "
            "like with each run, and vary them"
        )

    def seen(self, rng: np.random.Generator) -> Seen:
        """The task's runs, at most `MOST_SEEN` of them."""
        scores = self.own[SCORE].to_numpy(dtype=float)
        order = np.argsort(-scores, kind="stable")
        if len(order) > MOST_SEEN:
            best = order[: MOST_SEEN // 3]
            rest = rng.permutation(order[MOST_SEEN // 3 :])[: MOST_SEEN - len(best)]
            order = np.sort(np.r_[best, rest])
        places: dict[str, int] = {}
        configs: list[dict[str, Any]] = []
        at = []
        for row in order:
            key = key_of(self.mine[row])
            if key not in places:
                places[key] = len(configs)
                configs.append(self.filled(self.mine[row], row, self.own))
            at.append(places[key])
        return Seen(configs, np.array(at, dtype=int), scores[order])

    @staticmethod
    def filled(row: Mapping[str, Any], place: int, table: "pd.DataFrame") -> dict[str, Any]:
        """A run's columns with its trainer's defaults for those that it does not name."""
        cells = table.iloc[int(place)]
        known = {c: plain(cells[c]) for c in table if c in COLUMNS or c == "trainer"}
        return {k: v for k, v in known.items() if not empty(v)} | dict(row)

    def rank(self) -> None:
        """Let the runs' scores be their ranks as normal deviates: without a past to say what unit
        is usual, one absurd value must not set the scale of all.
        """
        scores = self.own[SCORE]
        deviates = normal_deviate(scores.rank(method="average"), scores.map(lambda _: len(scores)))
        self.own = self.own.assign(**{SCORE: deviates})

    # -- candidates
    def candidates(
        self, rng: np.random.Generator
    ) -> tuple[list[dict[str, Any]], list[tuple[str, int]]]:
        """Configurations that nobody has run on the task, with all columns, and of each the run
        that it comes from: whether of the task's (`own`) or another's, and its row.
        """
        tried = {key_of(row) for row in self.mine}
        parents = [("own", int(r)) for r in best_rows(self.own, PARENTS)]
        if len(parents) < PARENTS:
            parents += [("other", int(r)) for r in best_rows(self.other, PARENTS)]
        donors = self.donors()
        found: dict[str, tuple[dict[str, Any], tuple[str, int]]] = {}

        def take(config: dict[str, Any], parent: tuple[str, int]) -> None:
            if (key := key_of(config)) not in tried:
                found.setdefault(key, (config, parent))

        settings = self.settings()
        for parent in parents:
            if parent[0] == "other":  # what worked elsewhere, as it was
                take(self.row(parent) | settings, parent)
        for _ in range(6 * CANDIDATES):
            if len(found) >= CANDIDATES:
                break
            # the better a run, the more often something is made of it
            parent = parents[int(len(parents) * rng.random() ** 2)]
            config = self.row(parent) | (settings if parent[0] == "other" else {})
            names = sorted(self.varied & {n for donor in donors for n in donor})
            count = min(int(rng.choice(CHANGES)), len(names))
            for name in rng.choice(names, count, replace=False):
                config = changed(config, str(name), donors, self.varied, rng)
            take(config, parent)
        rows = [self.filled(config, at, getattr(self, of)) for config, (of, at) in found.values()]
        return rows, [parent for _, parent in found.values()]

    def row(self, parent: tuple[str, int]) -> dict[str, Any]:
        """The columns that a run names."""
        return dict((self.mine if parent[0] == "own" else self.theirs)[parent[1]])

    def settings(self) -> dict[str, Any]:
        """What all runs of the task have in common: it holds for whatever comes from elsewhere."""
        if not self.mine:
            return {}
        return {
            name: value
            for name, value in self.mine[0].items()
            if name not in self.varied and all(row.get(name) == value for row in self.mine)
        }

    def donors(self) -> list[dict[str, Any]]:
        """The runs whose values a candidate may take: the task's, and, where these are few, all."""
        return self.mine if len(self.mine) >= PARENTS else [*self.mine, *self.theirs]

    # -- what is said
    def described(
        self,
        task: str,
        config: Mapping[str, Any],
        parent: tuple[str, int],
        forecast: tuple[float, float, float | None],
        history: "pd.DataFrame | None",
        trust: Mapping[str, float],
        past: Mapping[str, float],
    ) -> NextRun:
        """The candidate that was chosen, in the metric's own unit and direction."""
        before = self.row(parent)
        table = self.own if parent[0] == "own" else self.other
        shown = {k: v for k, v in config.items() if k in before or k in self.varied}
        score, spread, chance = forecast
        chance = 0.0 if self.perfect else chance
        expected = self.value(score)
        spread = abs(self.value(score + spread) - self.value(score - spread)) / 2
        best = int((self.sign * self.own["value"]).argmax()) if len(self.own) else None
        names = {n for n in shown if n in self.varied}
        return NextRun(
            task=task,
            metric=self.metric,
            goal=self.goal,
            config={n: shown[n] for n in shown if n in names},
            held={n: shown[n] for n in shown if n not in names and n not in FIXED},
            expected=expected,
            spread=spread,
            best=None if best is None else float(self.own["value"].iloc[best]),
            best_run=None if best is None else str(self.own["source_id"].iloc[best]),
            chance=chance,
            parent=str(table["source_id"].iloc[parent[1]]),
            parent_task=str(table[TASK].iloc[parent[1]]),
            changed={n: (before.get(n), shown[n]) for n in shown if before.get(n) != shown[n]},
            runs=len(self.own),
            past_runs=0 if history is None else len(history),
            past_tasks=0 if history is None else int(history[TASK].nunique()),
            trust=trust if history is not None else {},
            past=past,
            epochs=int(before["epochs"])
            if "epochs" in before
            else usual_epochs(self.own if len(self.own) else self.other),
            minutes=self.minutes(shown.get("network")),
            notes=self.notes(chance),
            trainer=usual_name(table["trainer"]),
        )

    def minutes(self, network: Any) -> float | None:
        """What complete runs of that network took, in the middle."""
        for table in (self.own, self.other):
            whole = table[(table["state"] == "complete") & table["seconds"].notna()]
            if network is not None and "network" in whole:
                whole = whole[whole["network"] == network]
            if len(whole):
                return float(whole["seconds"].median()) / 60
        return None

    def value(self, score: float) -> float:
        """A score in the metric's own unit: the score itself, turned where less is better, where it
        is one; else by the runs, which have both: the task's, and on along their line beyond the
        best, or, before its first, those of all.
        """
        runs = self.own if len(self.own) else self.other
        found, values = score, self.sign * runs["value"]
        if not np.allclose(runs[SCORE], values):
            pairs = runs.assign(value=values).groupby("value")[SCORE].mean().sort_index()
            at, known = np.maximum.accumulate(pairs.to_numpy()), pairs.index.to_numpy(dtype=float)
            found = float(np.interp(score, at, known))
            if score > at[-1] and len(at) > 2 and len(self.own):
                middle = len(at) // 2
                slope = (known[-1] - known[middle]) / max(at[-1] - at[middle], 1e-12)
                found += slope * (score - at[-1])
        found *= self.sign
        return min(max(found, 0.0), 1.0) if bool(runs["unit"].eq("share").all()) else found

    @property
    def perfect(self) -> bool:
        """Whether the best run has the whole of a share."""
        shares = self.own[self.own["unit"] == "share"]
        return self.sign > 0 and bool(len(shares) and shares["value"].max() >= 1.0)

    def notes(self, chance: float | None) -> tuple[str, ...]:
        """What should be known of the runs that the forecast goes by."""
        out = []
        if self.perfect:
            out.append("the best run has all that this metric can give: nothing is left to gain")
        elif chance is not None and chance < LITTLE:
            out.append(
                "little is left to gain in what was varied: vary something else, or stop here"
            )
        if len(self.own) and set(self.own["split"].astype(str)) == {"test"}:
            out.append("the runs were judged on test images: what is chosen by them looks too good")
        if (count := int((self.own["state"] == "diverged").sum())) > 0:
            out.append(f"{count} of the task's runs diverged and count as its worst")
        if 0 < len(self.own) < 3:
            out.append(f"{len(self.own)} {plural('run', len(self.own))} of the task says little")
        return tuple(out)


def usual_epochs(table: "pd.DataFrame") -> int | None:
    """The planned epochs that most runs have, or those that they did; None where none has any."""
    planned = table["epochs_planned"].dropna()
    values = planned if len(planned) else table["epochs_done"].dropna()
    return max(1, round(float(values.mode().iloc[0]))) if len(values) else None


def usual_name(cells: "pd.Series") -> str:
    """The text that most cells have."""
    return str(Counter(cells.fillna("").astype(str)).most_common(1)[0][0])


def best_rows(table: "pd.DataFrame", count: int) -> list[int]:
    """Rows by their place within their task, the best of each first."""
    if not len(table):
        return []
    rank = table.groupby(TASK)[SCORE].rank(ascending=False, method="first")
    return [int(i) for i in np.argsort(rank.to_numpy(), kind="stable")[:count]]


def key_of(config: Mapping[str, Any]) -> str:
    """Equal for configurations that say the same; luck and length apart."""
    return repr(sorted((k, v) for k, v in config.items() if k not in ("seed", "trainer")))


def changed(
    config: dict[str, Any],
    name: str,
    donors: Sequence[Mapping[str, Any]],
    varied: set[str],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """`config` with another value of a column: that of some run, or, of a number of which many
    values were tried, one near those. With a name (an optimizer) come and go the columns that only
    such runs have.
    """
    having = [donor for donor in donors if name in donor]
    donor = having[int(rng.integers(len(having)))]
    value = donor[name]
    out = dict(config)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        if out.get(name) != value:
            alike = [d for d in having if d[name] == value]
            always = set.intersection(*(set(d) for d in alike))
            ever = {n for d in alike for n in d}
            out = {n: v for n, v in out.items() if n in ever or n not in varied}
            out |= {n: donor[n] for n in always & varied if n not in out}
        out[name] = value
        return out
    numbers = sorted({d[name] for d in having if isinstance(d[name], (int, float))})
    out[name] = near_number(name, value, numbers, rng)
    return out


def near_number(
    name: str, value: float, numbers: Sequence[int | float], rng: np.random.Generator
) -> Any:
    """A number like those tried: one of them where these are choices, else one between them or a
    little beyond, in two digits, on a log scale where they span more than a factor of ten.
    """
    column = COLUMNS.get(name)
    whole = all(isinstance(n, int) for n in numbers)
    integer = column is not None and column.kind == "integer"
    # of whole numbers, and beside 0, which is off, a few values are choices
    if integer or len(numbers) < 2 or (len(numbers) < 5 and (whole or 0 in numbers)):
        return value
    low, high = numbers[0], numbers[-1]
    log = low > 0 and high / low > 10
    a, b = (math.log(low), math.log(high)) if log else (low, high)
    # of a share the ends mean something of their own, and 0 is off
    share = column is not None and column.high == 1.0
    beyond = 0.0 if share or (low == 0 and not log) else REACH * (b - a)
    place = rng.uniform(a - beyond, b + beyond)
    found = float(f"{math.exp(place) if log else place:.2g}")
    if column is not None:
        found = min(max(found, column.low), column.high)
    found = max(found, min(low, low / 2)) if low >= 0 else found
    return round(found) if whole else found
