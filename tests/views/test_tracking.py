"""What MLflow holds after a study: everything, once, whatever was killed or down meanwhile."""

import math
import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from synthetic import synthetic_meta

from foretune.errors import BadInput
from foretune.evaluation.replay import replay_study
from foretune.searchers.registry import searcher
from foretune.study.study import Study
from foretune.views import tracking

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


def test_a_registry_that_is_down_is_told_and_nothing_more(tmp_path):
    study, _ = empty_study(tmp_path / "s")
    weights = tmp_path / "best.pt"
    weights.write_bytes(b"x")
    told = []
    assert not tracking.Tracker("http://127.0.0.1:9", warn=told.append).register(
        study, "pets", [weights]
    )
    assert len(told) == 1 and "does not register 'pets'" in told[0]
