"""The run store: trainings of any tool, task, network and space, a row each.

A store is a folder of four files, or a folder of such folders (its parts):

| file             | content                                                                       |
|------------------|-------------------------------------------------------------------------------|
| `runs.parquet`   | a row a run: the columns `FACTS`, those of the vocabulary that a run names,   |
|                  | and `extra.*` for what the vocabulary does not know                           |
| `curves.parquet` | long form: `run_id, epoch, <metric>, ...`; epochs count from 1, 0 is before   |
|                  | training, and may be fractions                                                |
| `about.json`     | `name`, `layout`, `revision`, `sources` (where the runs came from)            |
| `mapping.yaml`   | how the source's names became ours; edit it and import again                  |

Parts are only ever added, under a name that is a digest of what they hold: two people who import
the same source write the same part, and those who import different ones never touch the same file,
so that clones of a store merge without a conflict. A run that two parts hold counts once: of the
higher revision (it was imported again with another mapping), then with the most epochs (it was
imported while it still trained).

Values are in the unit of `unit` (shares between 0 and 1 where the source has percent), as logged:
`foretune.history.alignment` turns them into scores where higher is better.
"""

import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretune.errors import BadInput
from foretune.files import replace, sync_folder, write_atomic, write_json
from foretune.history.columns import COLUMNS
from foretune.history.vocabulary import EXTRA

if TYPE_CHECKING:
    import pandas as pd

LAYOUT = 1
# of every run: where it came from, on what, towards what, and how it ended
FACTS = (
    "run_id",
    "task",
    "source",  # format:name of what was imported
    "source_id",  # the run's own name there
    "trainer",  # whose defaults hold: timm, huggingface, ...; empty if not known
    "state",
    "metric",
    "goal",  # maximize or minimize
    "unit",  # share, or empty: the metric's own
    "split",  # valid, test, train or unknown: what the metric was measured on
    "value",  # the best of the run; NaN without one
    "last",  # the last of the run
    "epochs_planned",
    "epochs_done",
    "seconds",
    "parent",  # the run that it continues, or that it is a part of
)
NUMBERS = ("value", "last", "epochs_planned", "epochs_done", "seconds")
# complete: reached its planned epochs; cut: stopped before (a pruner, early stopping, by hand);
# diverged: its values left the finite or the plausible; failed: no value at all; running: not over
STATES = ("complete", "cut", "diverged", "failed", "running")
PARTS = ("runs.parquet", "curves.parquet", "about.json", "mapping.yaml")


def run_id(*parts: Any) -> str:
    """An identity of 16 hex digits from what makes a run itself; the same on every machine."""
    text = json.dumps(parts, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class RunStore:
    """Runs and their curves.

    `runs` has a row a run (`run_id` is unique), `curves` long rows; `about` and `mapping` are as
    in the files. Raises `BadInput` for tables that are none.
    """

    def __init__(
        self,
        runs: "pd.DataFrame",
        curves: "pd.DataFrame",
        about: dict[str, Any] | None = None,
        mapping: str = "",
    ):
        if lacking := [c for c in FACTS if c not in runs.columns]:
            raise BadInput(f"the runs lack the columns {', '.join(lacking)}")
        if unknown := [
            c for c in runs if c not in FACTS and c not in COLUMNS and not str(c).startswith(EXTRA)
        ]:
            raise BadInput(f"{unknown[0]!r} is no column of a run; unknown ones are {EXTRA}NAME")
        if doubled := runs["run_id"][runs["run_id"].duplicated()].tolist():
            raise BadInput(f"run {doubled[0]} stands in the table twice")
        if lacking := [c for c in ("run_id", "epoch") if c not in curves.columns]:
            raise BadInput(f"the curves lack the columns {', '.join(lacking)}")
        if wrong := sorted(set(map(str, runs["state"].dropna())) - set(STATES)):
            raise BadInput(f"state {wrong[0]!r} must be one of {', '.join(STATES)}")
        self.runs = runs.reset_index(drop=True)
        self.curves = curves.reset_index(drop=True)
        self.about = {
            "layout": LAYOUT,
            "name": "runs",
            "revision": 0,
            "sources": [],
            **(about or {}),
        }
        self.mapping = mapping

    def __len__(self) -> int:
        return len(self.runs)

    @property
    def columns(self) -> list[str]:
        """The hyperparameters and settings that some run names, `extra.*` last."""
        extra = sorted(str(c) for c in self.runs if str(c).startswith(EXTRA))
        return [*(c for c in COLUMNS if c in self.runs), *extra]

    @property
    def tasks(self) -> list[str]:
        """The tasks that some run has a value on, by name."""
        return sorted(self.runs.loc[self.runs["value"].notna(), "task"].dropna().unique())

    @classmethod
    def empty(cls) -> "RunStore":
        """A store without runs."""
        import pandas as pd

        runs = pd.DataFrame({c: pd.Series(dtype=float if c in NUMBERS else object) for c in FACTS})
        curves = pd.DataFrame({"run_id": pd.Series(dtype=object), "epoch": pd.Series(dtype=float)})
        return cls(runs, curves)

    @classmethod
    def load(cls, folder: Path | str) -> "RunStore":
        """Read a store: its own four files, or all of its parts, as one.

        Raises `BadInput` for a folder that is no store, naming the file that is missing or cannot
        be read.
        """
        folder = Path(folder)
        if (folder / "runs.parquet").is_file():
            return cls._load_part(folder)
        parts = sorted(p.parent for p in folder.glob("*/runs.parquet")) if folder.is_dir() else []
        if not parts:
            raise BadInput(
                f"{folder} is no run store: it has no runs.parquet, and no folder in it has one; "
                "foretune import writes one"
            )
        return cls.merge([cls._load_part(part) for part in parts], name=folder.name)

    @classmethod
    def _load_part(cls, folder: Path) -> "RunStore":
        import pandas as pd

        if missing := [n for n in PARTS if not (folder / n).is_file()]:
            raise BadInput(f"{folder} is no run store: it lacks {', '.join(missing)}")
        try:
            about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
            runs = pd.read_parquet(folder / "runs.parquet")
            curves = pd.read_parquet(folder / "curves.parquet")
            mapping = (folder / "mapping.yaml").read_text(encoding="utf-8")
        except (OSError, ValueError) as error:  # pyarrow's errors are both
            raise BadInput(f"{folder} cannot be read: {error}") from error
        if not isinstance(about, dict) or about.get("layout") != LAYOUT:
            raise BadInput(f"{folder / 'about.json'} must be an object with layout {LAYOUT}")
        return cls(runs, curves, about, mapping)

    def save(self, folder: Path | str) -> None:
        """Write the four files into `folder`, which appears whole or not at all.

        Raises `BadInput` where something else is there.
        """
        folder = Path(folder)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise BadInput(f"{folder} exists; a part of a store is never changed")
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            for name, table in (("runs.parquet", self.runs), ("curves.parquet", self.curves)):
                with replace(scratch / name) as path:
                    table.to_parquet(path, index=False)
            write_json(scratch / "about.json", self.about)
            write_atomic(scratch / "mapping.yaml", self.mapping)
            scratch.chmod(0o755)
            scratch.replace(folder)
            sync_folder(folder.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def part_name(self) -> str:
        """The name of this store as a part of another: its source's format and a digest of what
        it holds.
        """
        table = self.runs.sort_values("run_id")
        digest = hashlib.sha256()
        for row in zip(table["run_id"], table["state"], table["epochs_done"], strict=True):
            digest.update(repr(row).encode())
        digest.update(f"{self.about['revision']} {self.mapping}".encode())
        kinds = {str(s).partition(":")[0] for s in self.about["sources"]} or {"runs"}
        return f"{'-'.join(sorted(kinds))}-{digest.hexdigest()[:12]}"

    def add_to(self, folder: Path | str, *, revise: bool = False) -> "RunStore":
        """Add what `folder` does not hold yet as a new part of it; returns that part, maybe empty.

        A run that is there already is taken again where it has trained on; with `revise` also where
        anything of it reads otherwise now, and then counts instead.
        """
        folder = Path(folder)
        there = RunStore.load(folder) if folder.is_dir() and any(folder.iterdir()) else None
        new = self
        if there is not None:
            new = self.differing_from(there) if revise else self.newer_than(there)
            new.about["revision"] = there.about["revision"] + revise
        if len(new):
            target = folder / new.part_name()
            if not target.exists():
                new.save(target)
        return new

    def newer_than(self, other: "RunStore") -> "RunStore":
        """The runs that `other` lacks, or has with fewer epochs or as running still."""
        known = other._reached()
        mine = self._reached()
        return self.select([i for i, far in mine.items() if i not in known or far > known[i]])

    def _reached(self) -> dict[str, tuple[float, bool]]:
        """How far each run came, and whether it is over."""
        table = self.runs
        rows = zip(table["run_id"], table["epochs_done"], table["state"], strict=True)
        return {identity: _progress(done, state) for identity, done, state in rows}

    def differing_from(self, other: "RunStore") -> "RunStore":
        """The runs of which a fact or a column is not as `other` has it."""
        known = {row["run_id"]: row for row in _plain_rows(other.runs)}
        rows = _plain_rows(self.runs)
        return self.select([row["run_id"] for row in rows if known.get(row["run_id"]) != row])

    def select(self, chosen: "Iterable[str] | Callable[[pd.DataFrame], pd.Series]") -> "RunStore":
        """The runs of these ids, or those for which a function of the table says True."""
        keep = chosen(self.runs) if callable(chosen) else self.runs["run_id"].isin(list(chosen))
        runs = self.runs[keep]
        empty = [c for c in runs if c not in FACTS and runs[c].isna().all()]
        curves = self.curves[self.curves["run_id"].isin(runs["run_id"])]
        return RunStore(runs.drop(columns=empty), curves, dict(self.about), self.mapping)

    @classmethod
    def merge(cls, stores: Sequence["RunStore"], name: str = "runs") -> "RunStore":
        """All runs of the stores; of one that several hold, the row with the most epochs."""
        import pandas as pd

        if not stores:
            return cls.empty()
        best: dict[str, tuple[tuple[int, float, bool], int]] = {}
        for k, store in enumerate(stores):
            table = store.runs
            rows = zip(table["run_id"], table["epochs_done"], table["state"], strict=True)
            for identity, done, state in rows:
                rank = (store.about["revision"], *_progress(done, state))
                if identity not in best or rank > best[identity][0]:
                    best[identity] = (rank, k)
        taken: list[RunStore] = [
            store.select([str(i) for i in store.runs["run_id"] if best[str(i)][1] == k])
            for k, store in enumerate(stores)
        ]
        runs = pd.concat([_objects(s.runs) for s in taken], ignore_index=True).infer_objects()
        for column in NUMBERS:
            runs[column] = runs[column].astype(float)
        curves = pd.concat([s.curves for s in taken], ignore_index=True)
        order = [*FACTS, *(c for c in COLUMNS if c in runs)]
        order += sorted(str(c) for c in runs if c not in order)
        revision = max(s.about["revision"] for s in stores)
        sources = sorted({source for s in stores for source in s.about["sources"]})
        return cls(
            _settled(runs[order]), curves, {"name": name, "sources": sources, "revision": revision}
        )


def _progress(done: float, state: str) -> tuple[float, bool]:
    return (-1.0 if math.isnan(done) else done, state != "running")


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _plain_rows(table: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows without their empty cells."""
    return [
        {str(name): value for name, value in row.items() if not _is_empty(value)}
        for row in table.to_dict("records")
    ]


def _objects(table: "pd.DataFrame") -> "pd.DataFrame":
    return table.astype(object).where(table.notna(), None)


def _settled(table: "pd.DataFrame") -> "pd.DataFrame":
    """Columns that hold numbers in one part and texts in another as texts, so that they can be
    written.
    """
    for column in table:
        kinds = {type(v) for v in table[column].dropna()} if table[column].dtype == object else ()
        if len(kinds) > 1:
            table = table.copy()
            table[column] = [None if _is_empty(v) else str(v) for v in table[column]]
    return table
