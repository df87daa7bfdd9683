"""MLflow, a view of studies: what is logged, and when. mlflow is imported at the first one logged.

| in MLflow  | is                                                                                  |
|------------|-------------------------------------------------------------------------------------|
| experiment | a task                                                                              |
| parent run | a study: `incumbent` against epochs spent, budget, method, seed, past tasks, best   |
|            | configuration, report                                                               |
| child run  | a trial: its hyperparameters, every column of its learning curve (step = epoch),    |
|            | `best`, epochs, why, state                                                          |

The study's journal is the record. `Tracker.sync` writes what MLflow lacks and nothing twice: runs
are found by tags that are set as they are created, and each batch of metrics, which MLflow stores
whole or not at all, ends with the count of what it holds (`epochs` of a trial, `spent` of a study),
so one question to MLflow tells where a killed process stopped. After an error nothing is assumed:
the next sync asks again. Whoever asks compares the values too: runs that hold what the journal does
not, of a folder that was copied, restored or repaired, are left alone, and the study gets new ones.
"""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode
from weakref import WeakKeyDictionary, WeakValueDictionary

from foretune.errors import BadInput
from foretune.files import write_json
from foretune.study.study import Study
from foretune.views.database import ensure_whole
from foretune.views.identity import IDENTITY, identity, place_of, renamed
from foretune.views.mlflow_runs import (
    ARTIFACTS,
    DATABASE,
    KnownRun,
    create_run,
    database_version,
    ensure_model,
    find_runs,
    make_database,
    other_values,
    refused,
    update_run,
)
from foretune.views.run_views import (
    Point,
    RunView,
    StudyView,
    Views,
    saved_views,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https", "databricks")
MOST_NAME, MOST_FOLDER = 500, 200  # bytes of an experiment's name, and of its artifacts' folder
UI = "http://127.0.0.1:5000"  # where `mlflow ui` serves
MOST_COMPARED = 5  # trials whose comparison is linked to: an address of ten fills the terminal
FIRST_WAIT, LONGEST_WAIT = 5.0, 60.0  # seconds between tries while MLflow does not answer


@dataclass(frozen=True)
class Pages:
    """Addresses in MLflow's pages (its first one shows none of these): the task's table of `runs`,
    that of the study's own `trials`, the best of them side by side, and the study's `report`.
    """

    runs: str
    trials: str
    comparison: str
    report: str


def default_uri(data: Path) -> str:
    """Where studies are logged unless another place is named."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{data / DATABASE}"


def _file(uri: str) -> Path:
    """The file of an SQLite address."""
    return Path(uri.partition(":///")[2])


class Tracker:
    """Logs studies to MLflow at `uri`.

    Default: the environment's MLFLOW_TRACKING_URI, else SQLite in the folder `data`. Artifacts of
    an SQLite database lie beside it.

    One process writes a study. No error of MLflow's leaves this class: it is told once through
    `warn` and tried again later. Raises `BadInput` for an address of a kind that MLflow cannot
    store to.
    """

    def __init__(
        self,
        uri: str | None = None,
        data: Path | str = "data",
        *,
        prefix: str = "foretune",
        warn: Callable[[str], None] | None = None,
        every: float = 2.0,
    ):
        self.uri = uri or default_uri(Path(data))
        if self.uri.partition(":")[0].partition("+")[0] not in SCHEMES:
            raise BadInput(
                f"tracking address {self.uri!r} must be a database or a server, such as "
                f"sqlite:///data/{DATABASE} or http://host:5000"
            )
        self.prefix, self.every = prefix, every
        self._warn = warn or (lambda line: warnings.warn(line, stacklevel=4))
        self._made: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._known: dict[str, tuple[KnownRun, dict[int, KnownRun]]] = {}
        self._views: WeakKeyDictionary[Study, Views] = WeakKeyDictionary()
        self._studies: WeakValueDictionary[str, Study] = WeakValueDictionary()
        self._renamed: dict[str, str] = {}  # identities whose runs hold another study's values
        self._lacking: set[str] = set()
        self._attached: dict[str, dict[Path, str]] = {}  # study -> file -> folder in the run
        self._retry_at, self._wait, self._warned = 0.0, FIRST_WAIT, False
        self._writing = threading.Lock()
        self._news = threading.Condition()
        self._slot: StudyView | None = None
        self._taken_at = -float("inf")
        self._thread: threading.Thread | None = None

    @property
    def ui_command(self) -> str:
        """The command that shows what was logged."""
        if self.uri.startswith("http"):
            return f"{_shown(sys.executable)} -m webbrowser {self.uri}"
        mlflow = "mlflow"
        if not shutil.which(mlflow):
            mlflow = _shown(str(Path(sys.executable).parent / "mlflow"))
        return f"{mlflow} ui --workers 1 --backend-store-uri {self.uri}"

    @property
    def served(self) -> bool:
        """Whether a server has the log: its pages need no command."""
        return self.uri.startswith("http")

    @property
    def complete(self) -> bool:
        """Whether MLflow has all of every study that was closed."""
        return not self._lacking

    def sync(self, study: Study, *, stopped: bool = False) -> bool:
        """Write what MLflow lacks of `study`, now; True if it then has all.

        `stopped`: nobody works on the study any more.
        """
        return self._write(self._views_of(study)(study, stopped))

    def submit(self, study: Study) -> None:
        """The same in a thread, from a view taken at most once in `every` seconds.

        Call it as often as you like, and `close` at the end.
        """
        if time.monotonic() - self._taken_at < self.every:
            return
        view = self._views_of(study)(study)
        self._taken_at = time.monotonic()
        with self._news:
            self._slot = view
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="mlflow", daemon=True)
                self._thread.start()
            self._news.notify()

    def attach(self, study: Study, path: Path | str, folder: str = "") -> None:
        """Put a file (the report, best.yaml) with the study's run at the next sync.

        A file of the same name is replaced.
        """
        self._attached.setdefault(self._views_of(study).uid, {})[Path(path)] = folder

    def close(self, study: Study, timeout: float = 60.0) -> bool:
        """Write the study as this process leaves it; True if MLflow has it all.

        Waits at most `timeout` seconds.
        """
        self._retry_at = 0.0
        view = self._views_of(study)(study, stopped=True)
        result: list[bool] = []
        with self._news:
            self._slot = None  # older than what is written now
        last = threading.Thread(
            target=lambda: result.append(self._write(view)), name="mlflow-last", daemon=True
        )
        last.start()
        last.join(timeout)
        if result == [True]:
            self._lacking.discard(view.parent.name)
        else:
            self._lacking.add(view.parent.name)
            self._warn(
                f"MLflow at {self._address} lacks the end of this study: continuing it, or "
                "writing its report again, logs the rest"
            )
        return result == [True]

    def pages(self, study: Study) -> Pages | None:
        """The addresses in MLflow's pages of what was logged of `study`; None before that, and for
        a hosted service, whose pages have other addresses.
        """
        name = shortened(f"{self.prefix}/{study.plan.task}", MOST_NAME)
        experiment = self._experiments.get(name)
        known = self._known.get(self._name_of(self._views_of(study).uid))
        if experiment is None or known is None or self.uri.startswith("databricks"):
            return None
        parent, trials = known
        top = f"{self._address if self.served else UI}/#"
        table = f"{top}/experiments/{experiment}/runs"
        # as the table's own search field and column heads write it
        shown = {
            "searchFilter": f"tags.`mlflow.parentRunId` = '{parent.run_id}'",
            "orderByKey": "metrics.`best`",
            "orderByAsc": str(study.plan.goal == "minimize").lower(),
        }
        best = sorted(trials, key=lambda i: (-study.best[i], i))[:MOST_COMPARED]
        compared = {
            "runs": json.dumps([trials[i].run_id for i in best], separators=(",", ":")),
            "experiments": json.dumps([experiment]),
        }
        return Pages(
            runs=table,
            trials=f"{table}?{urlencode(shown, quote_via=quote)}",
            comparison=f"{top}/compare-runs?{urlencode(compared, quote_via=quote)}",
            report=f"{table}/{parent.run_id}/artifacts/report.html",
        )

    def directions(self, study: Study) -> list[tuple[str, str]]:
        """How to look at `study` in MLflow: (what, command or address), in the order to follow."""
        pages = self.pages(study)
        lines = [] if self.served and pages else [("MLflow UI", self.ui_command)]
        if pages:
            lines += [("MLflow, trials", pages.trials), ("MLflow, compared", pages.comparison)]
        return lines

    def log_report(
        self, title: str, series: Mapping[str, Sequence[Point]], files: Sequence[Path] = ()
    ) -> bool:
        """Log a report as a parent run with its `files`; True if MLflow has it.

        Each of its lines is a child run (points: key, value, step).

        The same content again logs nothing: a report that is complete is found by its fingerprint.
        """
        content = json.dumps(
            [title, {k: list(v) for k, v in sorted(series.items())}], default=float
        )
        mark = hashlib.sha256(content.encode()).hexdigest()[:32]
        client_of, errors = self._connect()
        try:
            client = client_of()
            experiment = self._experiment_named(
                client, f"{self.prefix}/reports", "Benchmarks: a run for each line."
            )
            where = f"tags.`foretune.views.report` = '{mark}'"
            if client.search_runs(
                [experiment], f"{where} and attributes.status = 'FINISHED'", max_results=1
            ):
                return True
            parent = create_run(
                client,
                experiment,
                RunView(title, "RUNNING", {}, {"foretune.views.report": mark}, []),
                {},
            )
            for name, points in series.items():
                view = RunView(
                    name,
                    "FINISHED",
                    {},
                    {"foretune.line": name},
                    list(enumerate([p] for p in points)),
                )
                update_run(
                    client,
                    create_run(client, experiment, view, {"mlflow.parentRunId": parent.run_id}),
                    view,
                )
            for path in files:
                client.log_artifact(parent.run_id, str(path))
            client.set_terminated(parent.run_id, "FINISHED")
        except errors as error:
            self._warn(
                f"MLflow at {self._address} does not take the report ({_reason(error)}); "
                "writing it again logs it"
            )
            return False
        return True

    def register(self, study: Study, name: str, files: Sequence[Path]) -> bool:
        """Make `files` a version of the registered model `name`; True if MLflow has it.

        They are weights and what they are, no pickle, from the study's run. The same files again
        register nothing. Each version has a folder of its own in the run, so that no later one
        changes it.
        """
        mark = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:32]
        view = self._views_of(study)(study, True)
        client_of, errors = self._connect()
        try:
            client = client_of()
            with self._writing:
                self._write_study(client, view)
            # by tag: a filter cannot hold every name, such as one with quotes
            same = client.search_model_versions(f"tags.`foretune.files` = '{mark}'")
            if any(version.name == name for version in same):
                return True
            ensure_model(client, name, f"Networks tuned on {study.plan.task}.")
            run = client.get_run(self._known[self._name_of(view.uid)][0].run_id)
            for path in files:
                client.log_artifact(run.info.run_id, str(path), f"model-{mark[:8]}")
            tags = {"foretune.files": mark} | {k: f"{v:.6g}" for k, v in run.data.metrics.items()}
            client.create_model_version(
                name, f"{run.info.artifact_uri}/model-{mark[:8]}", run.info.run_id, tags=tags
            )
        except errors as error:
            self._known.pop(self._name_of(view.uid), None)
            later = "it never will" if refused(error) else "doing it again does"
            self._warn(
                f"MLflow at {self._address} does not register {name!r} ({_reason(error)}); {later}"
            )
            return False
        return True

    def _views_of(self, study: Study) -> Views:
        """The study's views, by an identity in its folder that later processes find too."""
        if study not in self._views:
            uid, copied_from = identity(study.folder)
            if copied_from is not None and study.folder is not None:
                self._warn(
                    f"study {study.folder.name!r} is a copy of {copied_from}: MLflow gets runs of "
                    "its own for it"
                )
            self._views[study] = Views(uid)
            self._studies[uid] = study
        return self._views[study]

    def _name_of(self, uid: str) -> str:
        """The identity by which a study's runs are found now."""
        while uid in self._renamed:
            uid = self._renamed[uid]
        return uid

    def _rename(self, view: StudyView, what: str) -> StudyView:
        """Give a study another identity, since the runs of the one that it has hold `what`."""
        new = uuid.uuid4().hex
        study = self._studies.get(view.uid)
        if study is not None:
            self._views[study].uid = new
            self._studies[new] = study
            if study.folder is not None:
                write_json(study.folder / IDENTITY, {"study": new, **place_of(study.folder)})
        self._renamed[view.uid] = new
        if view.uid in self._attached:
            self._attached[new] = self._attached.pop(view.uid)
        self._warn(
            f"MLflow's runs of study {view.parent.name!r} hold {what}: they are left alone, and it "
            "is logged to new ones"
        )
        return renamed(view, new)

    def _serve(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._slot is not None)
                view, self._slot = self._slot, None
            if view is not None:
                self._write(view)

    def _write(self, view: StudyView) -> bool:
        with self._writing:
            if time.monotonic() < self._retry_at:
                return False
            client, errors = self._connect()
            try:
                self._write_study(client(), view)
            except errors as error:
                # what got through is not known: ask again
                self._known.pop(self._name_of(view.uid), None)
                self._experiments.clear()
                self._retry_at, self._wait = (
                    time.monotonic() + self._wait,
                    min(2 * self._wait, LONGEST_WAIT),
                )
                if not self._warned:
                    self._warned = True
                    later = "the log catches up later"
                    if refused(error):
                        later = "the study is not logged: waiting does not mend this"
                    self._warn(
                        f"MLflow at {self._address} does not take the log now "
                        f"({_reason(error)}); training goes on and {later}"
                    )
                return False
            self._retry_at, self._wait, self._warned = 0.0, FIRST_WAIT, False
            return True

    @property
    def _address(self) -> str:
        return _without_password(self.uri)

    def _connect(self) -> tuple[Callable[[], "MlflowClient"], tuple[type[BaseException], ...]]:
        """How to get the client, and the errors that mean that MLflow cannot be written to now."""
        for variable, value in (
            ("DISABLE_TELEMETRY", "true"),
            ("HTTP_REQUEST_MAX_RETRIES", "1"),
            ("HTTP_REQUEST_TIMEOUT", "10"),
            # two lines a trial, in the middle of the progress
            ("SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ):
            os.environ.setdefault(
                f"MLFLOW_{variable}", value
            )  # left alone, MLflow waits minutes for a server that is down
        import logging

        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        def client() -> MlflowClient:
            if self._made is None:
                # every migration of a new database, every retry
                for noisy in ("alembic", "urllib3.connectionpool"):
                    logging.getLogger(noisy).setLevel(logging.ERROR)
                logging.getLogger("mlflow.store.db.utils").setLevel(
                    logging.CRITICAL
                )  # errors that are told here in one line
                if self.uri.startswith("sqlite:///"):
                    path = _file(self.uri)
                    ensure_whole(path, make_database, database_version)
                    with closing(sqlite3.connect(path)) as database:
                        # the UI can read while we write; a third of the waits for the disk
                        database.execute("PRAGMA journal_mode=WAL")
                self._made = MlflowClient(self.uri, registry_uri=self.uri)
            return self._made

        # UnicodeError: a text that no database can hold
        return client, (MlflowException, SQLAlchemyError, sqlite3.Error, OSError, UnicodeError)

    def _experiment(self, client: "MlflowClient", view: StudyView) -> str:
        note = (
            f"Studies of {view.plan.task}. Views, at the top right, has columns to compare "
            "studies and to rank trials."
        )
        name = f"{self.prefix}/{view.plan.task}"
        return self._experiment_named(
            client, name, note, lambda: saved_views(view, int(time.time() * 1000))
        )

    def _experiment_named(
        self,
        client: "MlflowClient",
        name: str,
        note: str,
        views: Callable[[], Mapping[str, str]] = dict,
    ) -> str:
        name = shortened(name, MOST_NAME)
        if name not in self._experiments:
            found = client.get_experiment_by_name(name)
            if found is None:
                place = None
                if self.uri.startswith("sqlite"):
                    plain = shortened(re.sub(r"[^\w.-]+", "_", name), MOST_FOLDER)
                    folder = _file(self.uri).parent / ARTIFACTS / plain
                    place = folder.absolute().as_uri()
                tags = {
                    # or the UI takes it for a language model's
                    "mlflow.experimentKind": "custom_model_development",
                    "mlflow.note.content": note,
                    **views(),
                }
                self._experiments[name] = client.create_experiment(
                    name, artifact_location=place, tags=tags
                )
            else:
                if found.lifecycle_stage == "deleted":
                    client.restore_experiment(found.experiment_id)
                self._experiments[name] = found.experiment_id
        return self._experiments[name]

    def _write_study(self, client: "MlflowClient", view: StudyView) -> None:
        experiment = self._experiment(client, view)
        view = renamed(view, self._name_of(view.uid))
        if view.uid not in self._known:
            found = find_runs(client, experiment, view)
            study = self._studies.get(view.uid)
            # where another process went on with the study, what MLflow has more is that process's
            alone = study is None or study.current
            if (what := other_values(client, found[1], view, alone)) is not None:
                view = self._rename(view, what)
                found = find_runs(client, experiment, view)
            self._known[view.uid] = found
        parent, trials = self._known[view.uid]
        for i, trial in view.trials.items():
            if i not in trials:
                trials[i] = create_run(
                    client, experiment, trial, {"mlflow.parentRunId": parent.run_id}
                )
            update_run(client, trials[i], trial)
        stale = {k: "–" for k in parent.tags if k.startswith("best.") and k not in view.parent.tags}
        facts = [
            (k, v, len(view.parent.groups))
            for k, v in view.facts.items()
            if parent.metrics.get(k) != v
        ]
        update_run(client, parent, view.parent, facts, stale)
        for path, folder in list(self._attached.get(view.uid, {}).items()):
            if path.exists():
                client.log_artifact(parent.run_id, str(path), folder or None)
            del self._attached[view.uid][path]


def shortened(name: str, most: int) -> str:
    """`name`, or of one with more than `most` bytes its beginning and its fingerprint."""
    content = name.encode()
    if len(content) <= most:
        return name
    mark = hashlib.sha256(content).hexdigest()[:12]
    return f"{content[: most - 13].decode(errors='ignore')}-{mark}"


def _reason(error: BaseException) -> str:
    return _without_password((str(error).strip() or type(error).__name__).splitlines()[0])[:200]


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


def _shown(path: str) -> str:
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path
