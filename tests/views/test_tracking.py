"""What MLflow holds after a study: everything, once, whatever was killed or down meanwhile."""

import json
import math
import os
import shutil
import sqlite3
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

import pytest
from ConfigSpace import ConfigurationSpace
from killed import as_killed
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.searchers.registry import searcher
from foretune.space.space import Space
from foretune.study.study import Plan, Step, Study
from foretune.views import database, tracking

mlflow = pytest.importorskip("mlflow")
META = synthetic_meta()


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One database for the module: making one takes seconds. In memory where there is such a
    folder: SQLite waits for the disk at every call.
    """
    memory = Path("/dev/shm")
    with TemporaryDirectory(
        dir=memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("mlflow")
    ) as folder:
        yield f"sqlite:///{folder}/db/mlflow.db"


def empty_study(folder=None, method="hyperband", budget=60, task="t0", meta=META):
    study, objective = replay_study(meta, task, budget=budget, method=method)
    if folder is not None:
        study = Study(study.space, study.configs, study.plan, past=study.past, folder=folder)
    return study, objective


def advance(study, objective, steps=10**6):
    maker = searcher(study.plan.method)
    for _ in range(steps):
        step = study.ask(maker)
        if step is None:
            return
        study.tell(
            step,
            objective.run(
                step.config_id, study.configs[step.config_id], step.start, step.stop
            ).rows,
        )
        if study.pending[step.config_id]:
            study.fail(step, int(study.epoch[step.config_id]), "out of memory")


def runs_of(uri, study):
    """(parent, {trial: run}) as MLflow has them."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(f"foretune/{study.plan.task}")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    name = study.folder.name
    (parent,) = [r for r in runs if r.info.run_name.startswith(f"{name} · ")]
    trials = [r for r in runs if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert max(Counter(r.data.tags["foretune.trial"] for r in trials).values()) == 1
    return parent, {int(r.data.tags["foretune.trial"]): r for r in trials}


def points(uri, run, key):
    return [
        (m.step, m.value) for m in mlflow.MlflowClient(uri).get_metric_history(run.info.run_id, key)
    ]


def check_complete(uri, study):
    """Every finite number of the study's rows is in MLflow once, and the incumbent at every epoch
    spent.
    """
    parent, trials = runs_of(uri, study)
    assert sorted(trials) == sorted(study.started)
    for i, run in trials.items():
        metric = study.plan.metric
        expected = [(r["epoch"], r[metric]) for r in study.rows[i] if math.isfinite(r[metric])]
        assert sorted(points(uri, run, metric)) == expected
        assert [s for s, _ in sorted(points(uri, run, "epochs"))] == [
            r["epoch"] for r in study.rows[i]
        ]
        assert run.data.params == {k: str(v) for k, v in study.configs[i].items()}
    incumbent = sorted(points(uri, parent, "incumbent"))
    assert [s for s, _ in incumbent] == list(range(incumbent[0][0], study.spent + 1))
    assert incumbent[-1][1] == pytest.approx(study.incumbent[2] * study.plan.sign)
    return parent, trials


def test_a_study_is_logged_whole(uri, tmp_path):
    study, objective = empty_study(tmp_path / "whole")
    tracker = tracking.Tracker(uri)
    failing = study.ask(searcher("hyperband"))
    study.fail(failing, 1, "out of memory")
    while not study.done:
        advance(study, objective, 3)
        assert tracker.sync(study)
    parent, trials = check_complete(uri, study)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["budget"] == 60
    assert parent.data.metrics["spent"] == study.spent
    assert parent.data.params["method"] == "hyperband"
    assert parent.data.tags["past_tasks"] == "t1, t2, t3, t4"
    best = study.incumbent[0]
    assert parent.data.tags["best_trial"] == str(best)
    assert parent.data.tags["best.optimizer"] == study.configs[best]["optimizer"]
    assert [i for i, r in trials.items() if r.data.tags["incumbent"] == "yes"] == [best]
    assert trials[best].data.metrics["best"] == pytest.approx(study.incumbent[2])
    assert trials[failing.config_id].data.tags["failure"] == "epoch 1: out of memory"
    diverged = [i for i, (_, reason) in study.failures.items() if "nan" in reason]
    assert diverged
    assert {trials[i].info.status for i in study.failures} == {"FAILED"}
    assert all(math.isfinite(v) for i in diverged for _, v in points(uri, trials[i], "best"))
    short = [
        i for i in study.started if study.epoch[i] < study.max_epoch and i not in study.failures
    ]
    assert short
    assert {(trials[i].info.status, trials[i].data.tags["status"]) for i in short} == {
        ("FINISHED", "stopped")
    }


def test_paused_and_training_trials_say_so(uri, tmp_path):
    study, objective = empty_study(tmp_path / "paused")
    advance(study, objective, 4)
    step = study.ask(searcher("hyperband"))
    assert tracking.Tracker(uri).sync(study)
    parent, trials = runs_of(uri, study)
    assert parent.info.status == "RUNNING"
    assert trials[step.config_id].data.tags["status"] == "training"
    paused = next(
        i
        for i in study.started
        if i != step.config_id and not study.failed[i] and study.epoch[i] < study.max_epoch
    )
    assert (trials[paused].data.tags["status"], trials[paused].info.status) == (
        "paused",
        "SCHEDULED",
    )


class Cut(BaseException):
    """Stands for kill -9: nothing catches it."""


class Flaky:
    """A client that ends at its k-th writing call, before or after MLflow carried it out."""

    WRITES = (
        "log_batch",
        "create_run",
        "create_experiment",
        "set_terminated",
        "update_run",
        "log_artifact",
    )

    def __init__(self, client, k, after, error):
        self.client, self.left, self.after, self.error = client, k, after, error

    def __getattr__(self, name):
        call = getattr(self.client, name)
        if name not in self.WRITES:
            return call

        def guarded(*args, **kwargs):
            self.left -= 1
            if self.left == 0:
                if self.after:
                    call(*args, **kwargs)
                raise self.error
            return call(*args, **kwargs)

        return guarded


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("kind", ["killed", "down"])
def test_cut_at_every_call_nothing_is_lost_or_doubled(uri, tmp_path, kind, after):
    from mlflow.exceptions import MlflowException

    study, objective = empty_study(tmp_path / f"cut-{kind}-{after}", task="t1", budget=14)
    cuts = 0
    warned: list[str] = []
    tracker = tracking.Tracker(uri, warn=warned.append)
    for k in range(1, 30):
        advance(study, objective, 1)
        if kind == "killed":
            tracker = tracking.Tracker(uri)
        error = Cut() if kind == "killed" else MlflowException("the server is gone")
        tracker._made = Flaky(mlflow.MlflowClient(uri), 1 + k % 7, after, error)
        tracker._retry_at = 0.0
        try:
            cuts += not tracker.sync(
                Study.load(study.folder, past=study.past) if kind == "killed" else study
            )
        except Cut:
            cuts += 1
    assert cuts > 10
    assert len(warned) <= cuts
    fresh = tracking.Tracker(uri)
    assert fresh.sync(study)
    check_complete(uri, study)
    before = [(r.info.run_id, dict(r.data.metrics)) for r in runs_of(uri, study)[1].values()]
    assert tracking.Tracker(uri).sync(study)
    assert before == [
        (r.info.run_id, dict(r.data.metrics)) for r in runs_of(uri, study)[1].values()
    ]


def test_a_long_curve_goes_in_batches(uri, tmp_path):
    meta = synthetic_meta(tasks=2, configs=3, epochs=700)
    study, objective = empty_study(tmp_path / "long", method="random", budget=1400, meta=meta)
    advance(study, objective)
    assert tracking.Tracker(uri).sync(study)
    check_complete(uri, study)


def test_a_server_that_is_down_is_told_once_and_waits(tmp_path):
    warned: list[str] = []
    study, objective = empty_study(tmp_path / "down")
    advance(study, objective, 2)
    tracker = tracking.Tracker("http://user:secret@127.0.0.1:9", warn=warned.append)
    assert not tracker.sync(study)
    assert not tracker.sync(study)  # not tried again so soon
    assert len(warned) == 1
    assert "training goes on" in warned[0]
    assert "secret" not in warned[0]


def test_a_damaged_database_is_told_and_stops_nothing(tmp_path):
    (tmp_path / "mlflow.db").write_text("no database" * 1000)
    warned: list[str] = []
    study, objective = empty_study(tmp_path / "damaged")
    advance(study, objective, 1)
    assert not tracking.Tracker(f"sqlite:///{tmp_path}/mlflow.db", warn=warned.append).sync(study)
    assert "not a database" in warned[0]


def test_database_and_artifacts_lie_in_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking.Tracker().uri == "sqlite:///data/mlflow.db"
    data = tmp_path / "elsewhere"
    tracker = tracking.Tracker(None, data)
    page = tmp_path / "page.html"
    page.write_text("a page")
    assert tracker.log_report("lines", {"a": [("regret", 0.5, 10)]}, [page])
    assert {path.name for path in tmp_path.iterdir()} == {"elsewhere", "page.html"}
    assert (data / "mlflow.db").is_file()
    assert [path.read_text() for path in data.glob("mlartifacts/**/page.html")] == ["a page"]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.invalid:1")
    assert tracking.Tracker(None, data).uri == "http://example.invalid:1"


def test_an_address_that_cannot_work_is_refused():
    for address in ("mlruns", "file:///tmp/mlruns", "sqlte:///a.db"):
        with pytest.raises(BadInput, match="sqlite:///data/mlflow.db"):
            tracking.Tracker(address)


def test_submit_writes_from_a_thread_and_close_finishes(uri, tmp_path):
    study, objective = empty_study(tmp_path / "thread", task="t2")
    tracker = tracking.Tracker(uri, every=0.0)
    for _ in range(6):
        advance(study, objective, 1)
        tracker.submit(study)
    report = tmp_path / "report.html"
    report.write_text("<p>report</p>")
    tracker.attach(study, report)
    assert tracker.close(study)
    parent, _ = check_complete(uri, study)
    assert parent.info.status == "KILLED"
    assert [a.path for a in mlflow.MlflowClient(uri).list_artifacts(parent.info.run_id)] == [
        "report.html"
    ]
    advance(study, objective)
    study.note(test_accuracy=0.75)
    assert tracking.Tracker(uri).sync(study)  # another process goes on
    parent, _ = check_complete(uri, study)
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["test_accuracy"] == 0.75


def test_a_deleted_experiment_comes_back(uri, tmp_path):
    study, objective = empty_study(tmp_path / "deleted", task="t3")
    advance(study, objective, 2)
    tracking.Tracker(uri).sync(study)
    client = mlflow.MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("foretune/t3").experiment_id)
    advance(study, objective, 2)
    assert tracking.Tracker(uri).sync(study)
    check_complete(uri, study)


def test_ui_command_names_the_store():
    assert tracking.Tracker("sqlite:///x.db").ui_command.endswith(
        "mlflow ui --workers 1 --backend-store-uri sqlite:///x.db"
    )
    assert tracking.Tracker("http://127.0.0.1:5000").ui_command.endswith(
        "-m webbrowser http://127.0.0.1:5000"
    )


def test_a_report_is_logged_once_with_its_lines_and_files(uri, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<p>")
    lines = {"a": [("regret", 0.5, 10), ("regret", 0.25, 20)], "b": [("regret", 0.75, 10)]}
    tracker = tracking.Tracker(uri)
    assert tracker.log_report("light", lines, [page]) and tracking.Tracker(uri).log_report(
        "light", lines, [page]
    )
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("foretune/reports").experiment_id
    runs = client.search_runs([experiment])
    assert sorted(r.info.run_name for r in runs) == ["a", "b", "light"]
    assert all(r.info.status == "FINISHED" for r in runs)
    a = next(r for r in runs if r.info.run_name == "a")
    assert [(m.step, m.value) for m in client.get_metric_history(a.info.run_id, "regret")] == [
        (10, 0.5),
        (20, 0.25),
    ]
    parent = next(r for r in runs if r.info.run_name == "light")
    assert a.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert [f.path for f in client.list_artifacts(parent.info.run_id)] == ["page.html"]
    assert tracker.log_report("light", {**lines, "b": [("regret", 0.5, 10)]})
    assert len(client.search_runs([experiment])) == 6


def test_weights_are_registered_once_and_no_later_version_changes_them(uri, tmp_path):
    study, objective = empty_study(tmp_path / "registered", task="t1")
    advance(study, objective, 3)
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"first")
    tracker = tracking.Tracker(uri)
    assert tracker.register(study, "pets", [weights]) and tracker.register(study, "pets", [weights])
    advance(study, objective)
    weights.write_bytes(b"second")
    assert tracking.Tracker(uri).register(study, "pets", [weights])
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    versions = sorted(client.search_model_versions("name = 'pets'"), key=lambda v: int(v.version))
    assert [Path(v.source.removeprefix("file://"), "best.pt").read_bytes() for v in versions] == [
        b"first",
        b"second",
    ]
    parent, trials = runs_of(uri, study)
    assert {v.run_id for v in versions} == {parent.info.run_id} and len(trials) == len(
        study.started
    )
    assert versions[1].tags["incumbent"] == f"{study.incumbent[2]:.6g}"


@pytest.mark.parametrize("name", ["bob's cats", 'the "best" one', """both ' and " in it""", "50 %"])
def test_a_model_may_have_any_name_that_mlflow_takes(uri, tmp_path, name):
    study, objective = empty_study(tmp_path / "named", task="t1")
    advance(study, objective)
    weights = tmp_path / "best.pt"
    weights.write_bytes(name.encode())
    tracker = tracking.Tracker(uri, warn=pytest.fail)
    assert tracker.register(study, name, [weights]) and tracker.register(study, name, [weights])
    client = mlflow.MlflowClient(uri, registry_uri=uri)
    assert [v.version for v in client.get_latest_versions(name)] in ([1], ["1"])


def test_a_name_that_mlflow_never_takes_is_told_from_an_outage(uri, tmp_path):
    study, objective = empty_study(tmp_path / "never", task="t1")
    advance(study, objective)
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"x")
    told = []
    assert not tracking.Tracker(uri, warn=told.append).register(study, "a/b", [weights])
    assert len(told) == 1 and told[0].endswith("; it never will")


def test_names_that_mlflow_would_refuse_are_logged_all_the_same(uri, tmp_path):
    space = Space(ConfigurationSpace({"../lr": (0.0, 1.0)}))
    task = "t" * 600
    plan = Plan(task=task, metric="/acc", goal="maximize", max_epoch=2, budget=2)
    study = Study(space, [{"../lr": 0.5}], plan, folder=tmp_path / "named")
    study.tell(study.ask(searcher("random")), [0.1, 0.2])
    tracker = tracking.Tracker(uri, warn=pytest.fail)
    assert tracker.close(study)
    assert tracking.Tracker(uri, warn=pytest.fail).sync(Study.load(study.folder))
    client = mlflow.MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name.startswith("foretune/ttt")]
    assert len(experiment.name) <= 500
    (run,) = client.search_runs([experiment.experiment_id], "tags.`foretune.trial` = '0'")
    assert [p.value for p in client.get_metric_history(run.info.run_id, "_/acc")] == [0.1, 0.2]
    assert run.data.params == {"_/lr": "0.5"}


def test_a_registry_that_is_down_is_told_and_nothing_more(tmp_path):
    study, _ = empty_study(tmp_path / "s")
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"x")
    told = []
    assert not tracking.Tracker("http://127.0.0.1:9", warn=told.append).register(
        study, "pets", [weights]
    )
    assert len(told) == 1 and "does not register 'pets'" in told[0]


def tell(study, trial, values):
    """Tell the next epochs of a trial."""
    start = int(study.epoch[trial])
    step = Step(trial, start, start + len(values))
    study.tell(step, values)


def values_of(uri, study, trial):
    """The curve of a trial as MLflow has it, by epoch."""
    return [v for _, v in sorted(points(uri, runs_of(uri, study)[1][trial], study.plan.metric))]


@pytest.mark.parametrize("known", ["place", "values"])
def test_a_copied_folder_is_a_study_of_its_own(uri, tmp_path, known):
    """Both go on, in turn; each has its own curves in MLflow, and A's runs are its old ones."""
    a, _ = empty_study(tmp_path / f"a-{known}", task="t4")
    tell(a, 0, [0.21, 0.22])
    assert tracking.Tracker(uri).sync(a)
    run = runs_of(uri, a)[0].info.run_id
    if known == "values":  # as it was kept before folders' places were
        kept = json.loads((a.folder / "mlflow.json").read_text())
        (a.folder / "mlflow.json").write_text(json.dumps({"study": kept["study"]}))
    shutil.copytree(a.folder, tmp_path / f"b-{known}")
    b = Study.load(tmp_path / f"b-{known}", past=a.past)
    tell(a, 0, [0.33, 0.34, 0.35])
    tell(b, 0, [0.73])
    tell(b, 1, [0.61])
    warned = []
    assert tracking.Tracker(uri).sync(a)
    tracker = tracking.Tracker(uri, warn=warned.append)
    assert tracker.sync(b)
    if known == "place":
        assert warned == [
            f"study 'b-{known}' is a copy of {a.folder}: MLflow gets runs of its own for it"
        ]
    else:
        assert len(warned) == 1 and "are left alone, and it is logged to new ones" in warned[0]
    tell(a, 1, [0.41])
    tell(b, 0, [0.74])
    tell(b, 2, [0.71])
    assert tracker.sync(b) and tracking.Tracker(uri).sync(a)
    assert tracking.Tracker(uri, warn=pytest.fail).sync(Study.load(b.folder, past=b.past))
    for study in (a, b):
        check_complete(uri, study)
    assert values_of(uri, a, 0) == [0.21, 0.22, 0.33, 0.34, 0.35] and values_of(uri, a, 1) == [0.41]
    assert values_of(uri, b, 0) == [0.21, 0.22, 0.73, 0.74] and values_of(uri, b, 1) == [0.61]
    assert runs_of(uri, a)[0].info.run_id == run


def test_a_moved_folder_keeps_its_runs(uri, tmp_path):
    study, _ = empty_study(tmp_path / "before-move", task="t4")
    tell(study, 0, [0.5])
    assert tracking.Tracker(uri).sync(study)
    parent = runs_of(uri, study)[0]
    os.rename(study.folder, tmp_path / "after-move")
    moved = Study.load(tmp_path / "after-move", past=study.past)
    tell(moved, 0, [0.6])
    assert tracking.Tracker(uri, warn=pytest.fail).sync(moved)
    assert [step for step, _ in points(uri, parent, "incumbent")] == [1, 2]


@pytest.mark.parametrize("more", [[], [0.9]], ids=["shorter", "another value"])
def test_a_study_set_back_does_not_go_on_in_the_runs_of_what_it_lost(uri, tmp_path, more):
    study, _ = empty_study(tmp_path / f"set-back-{len(more)}", task="t4")
    tell(study, 0, [0.5, 0.6])
    assert tracking.Tracker(uri).sync(study)
    old = runs_of(uri, study)[0].info.run_id
    journal = study.folder / "journal.jsonl"
    as_killed(study.folder, b"".join(journal.read_bytes().splitlines(keepends=True)[:1]))
    again, warned = Study.load(study.folder, past=study.past), []
    if more:
        tell(again, 0, more)
    assert tracking.Tracker(uri, warn=warned.append).sync(again)
    found, metric = "epoch 2 of trial 0", study.plan.metric
    want = f"{metric} 0.6 in {found}, and its journal 0.9" if more else found
    assert len(warned) == 1 and want in warned[0]
    client = mlflow.MlflowClient(uri)
    client.delete_run(old)
    assert values_of(uri, again, 0) == [0.5, *more]


def test_a_reader_of_a_study_that_goes_on_elsewhere_claims_nothing(uri, tmp_path):
    study, _ = empty_study(tmp_path / "read", task="t4")
    tell(study, 0, [0.5])
    reader = Study.load(study.folder, past=study.past)
    tell(study, 0, [0.6])
    assert tracking.Tracker(uri).sync(study)
    assert tracking.Tracker(uri, warn=pytest.fail).sync(reader)
    check_complete(uri, study)


HALF_MADE = {
    "empty": [],
    "tables": ["CREATE TABLE experiments (id INTEGER)", "CREATE TABLE runs (id INTEGER)"],
    "migrated": [
        "CREATE TABLE runs (id INTEGER)",
        "CREATE TABLE alembic_version (version_num VARCHAR(32))",
        "INSERT INTO alembic_version VALUES ('451aebb31d03')",
    ],
}


@pytest.mark.parametrize("kind", HALF_MADE)
def test_a_database_whose_making_was_broken_off_is_made_anew(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(database, "STILL", 0.01)
    path = tmp_path / "db" / "mlflow.db"
    path.parent.mkdir()
    with sqlite3.connect(path) as half:
        for statement in HALF_MADE[kind]:
            half.execute(statement)
    half.close()
    path.touch()
    study, objective = empty_study(tmp_path / "half")
    advance(study, objective, 2)
    assert tracking.Tracker(f"sqlite:///{path}", warn=pytest.fail).close(study)
    check_complete(f"sqlite:///{path}", study)
    assert path.with_name("mlflow.db.half-made").exists()


def test_a_database_of_another_version_that_holds_runs_is_left_alone_and_said_so(uri, tmp_path):
    study, objective = empty_study(tmp_path / "older")
    advance(study, objective, 1)
    assert tracking.Tracker(uri).sync(study)
    path = tmp_path / "older.db"
    with sqlite3.connect(tracking._file(uri)) as source, sqlite3.connect(path) as target:
        source.backup(target)
        target.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    target.close()
    warned = []
    tracker = tracking.Tracker(f"sqlite:///{path}", warn=warned.append)
    assert tracker.complete and not tracker.close(study) and not tracker.complete
    assert "out-of-date database schema" in warned[0] and "lacks the end of this study" in warned[1]
    assert not path.with_name("older.db.half-made").exists()


def test_a_killed_making_of_the_database_leaves_none(tmp_path):
    path = tmp_path / "mlflow.db"

    def killed(file):
        with sqlite3.connect(file) as half:
            half.execute("CREATE TABLE runs (id INTEGER)")
        raise Cut

    def made(file):
        with sqlite3.connect(file) as whole:
            whole.execute("CREATE TABLE alembic_version (version_num)")
            whole.execute("INSERT INTO alembic_version VALUES ('head')")

    with pytest.raises(Cut):
        database.ensure_whole(path, killed, lambda: "head")
    assert not path.exists()
    (tmp_path / ".mlflow.db.abc.db").touch()  # what kill -9 leaves
    (tmp_path / ".mlflow.db.abc.db-wal").touch()
    database.ensure_whole(path, made, lambda: "head")
    assert {p.name for p in tmp_path.iterdir()} <= {"mlflow.db", ".mlflow.db.lock"}
    database.ensure_whole(path, pytest.fail, lambda: "head")  # it is whole


def test_directions_lead_to_the_studys_own_trials(uri, tmp_path):
    """Not to MLflow's first page, nor to another study's runs: the filter of the table finds the
    trials of this one, the comparison its best ones, best first.
    """
    first, objective = empty_study(tmp_path / "first", task="t1")
    second, other = empty_study(tmp_path / "second", task="t1")
    tracker = tracking.Tracker(uri)
    assert [what for what, _ in tracker.directions(first)] == ["MLflow UI"]  # nothing is logged yet
    advance(first, objective, 6)
    advance(second, other, 2)
    assert tracker.sync(first) and tracker.sync(second)
    shown = dict(tracker.directions(first))
    assert list(shown) == ["MLflow UI", "MLflow, trials", "MLflow, compared"]
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("foretune/t1").experiment_id
    table = urlsplit(shown["MLflow, trials"])
    assert (table.scheme, table.netloc) == ("http", "127.0.0.1:5000")
    path, _, query = table.fragment.partition("?")
    assert path == f"/experiments/{experiment}/runs"
    wanted = parse_qs(query)
    found = client.search_runs([experiment], wanted["searchFilter"][0])
    assert sorted(int(run.data.tags["foretune.trial"]) for run in found) == sorted(first.started)
    assert wanted["orderByKey"] == ["metrics.`best`"]
    path, _, query = urlsplit(shown["MLflow, compared"]).fragment.partition("?")
    asked = parse_qs(query)
    assert path == "/compare-runs" and json.loads(asked["experiments"][0]) == [experiment]
    trials = [
        int(client.get_run(run).data.tags["foretune.trial"]) for run in json.loads(asked["runs"][0])
    ]
    assert trials == sorted(first.started, key=lambda i: (-first.best[i], i))[:5]
