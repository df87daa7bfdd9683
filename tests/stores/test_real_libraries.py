"""Stores that the libraries themselves wrote (`bench/run_stores.py`) give what was logged.

What is right comes from the writer's law: the same four runs in every tool, of which one stops
early and one turns to NaN.
"""

import importlib.util
import math
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from foretune.history.runs import RunStore
from foretune.stores.importing import import_runs
from foretune.stores.mapping import propose
from foretune.stores.metrics import choose
from foretune.stores.registry import read_source

FIXTURES = Path(__file__).resolve().parent / "fixtures"
WRITER = Path(__file__).resolve().parents[2] / "bench" / "run_stores.py"
spec = importlib.util.spec_from_file_location("run_stores", WRITER)
assert spec and spec.loader
writer = importlib.util.module_from_spec(spec)
spec.loader.exec_module(writer)
RATES, EPOCHS, STOPS, curve = writer.RATES, writer.EPOCHS, writer.STOPS, writer.curve


def imported(path: Path, name: str = "auto") -> RunStore:
    source = read_source(str(path), name)
    return import_runs(source, propose(source, choose(source)))[0]


def check(store: RunStore, states: tuple[str, ...], *, curves: bool = True) -> None:
    """Each run has its rate, its values over epochs 1, 2, ..., its best, and ended as it did."""
    runs = store.runs.set_index("learning_rate").sort_index()
    assert runs.index.tolist() == pytest.approx(RATES[: len(states)])
    assert runs["state"].tolist() == list(states)
    for run, (_, row) in enumerate(runs.iterrows()):
        finite = [v for v in curve(run) if not math.isnan(v)]
        assert row["value"] == pytest.approx(max(finite))
        if curves:
            part = store.curves[store.curves["run_id"] == row["run_id"]]
            assert part["epoch"].tolist() == [e + 1 for e in range(len(curve(run)))]
            assert part[row["metric"]].tolist() == pytest.approx(curve(run), nan_ok=True)
            assert row["epochs_done"] == len(finite)


FOUR = ("complete", "complete", "cut", "diverged")


@pytest.mark.parametrize("tool", ["timm", "tensorboard", "lightning", "wandb"])
def test_four_runs_with_curves_on_one_task(tool: str):
    store = imported(FIXTURES / tool)
    check(store, FOUR)
    assert store.tasks == ["flowers"]
    assert set(store.runs["epochs_planned"]) == {EPOCHS} == set(store.runs["epochs"])


def test_timm_keeps_settings_and_neither_paths_nor_the_schedule(tmp_path: Path):
    store = imported(FIXTURES / "timm")
    row = store.runs.iloc[0]
    assert (row["network"], row["optimizer"], row["scheduler"]) == ("resnet18", "adamw", "cosine")
    assert (row["label_smoothing"], row["random_erasing"], row["trainer"]) == (0.1, 0.0, "timm")
    store.save(tmp_path / "part")
    assert not [path for path in (tmp_path / "part").iterdir() if b"somebody" in path.read_bytes()]


def optuna_database(folder: Path) -> Path:
    path = folder / "study.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((FIXTURES / "optuna/study.sql").read_text(encoding="utf-8"))
        connection.commit()
    return path


def test_optuna_s_journal_and_database_hold_the_same(tmp_path: Path):
    journal = imported(FIXTURES / "optuna" / "journal.log")
    database = imported(optuna_database(tmp_path))
    for store in (journal, database):
        # how many epochs a trial was to have is not known to Optuna: pruned says that it was cut
        check(store, FOUR)
        assert set(store.runs["optimizer"]) == {"adam", "sgd"}
        assert set(store.runs["goal"]) == {"maximize"}
    assert sorted(journal.runs["run_id"]) == sorted(database.runs["run_id"])


def test_huggingface_s_states():
    store = imported(FIXTURES / "huggingface")
    check(store, ("complete", "complete"))
    assert set(store.runs["epochs_planned"]) == {EPOCHS} and set(store.runs["batch_size"]) == {4}


def test_keras_tuner_s_trials_have_values_and_no_curves():
    store = imported(FIXTURES / "keras-tuner")
    check(store, ("complete",) * 4, curves=False)
    assert not len(store.curves)


def test_ray_s_trials():
    check(imported(FIXTURES / "ray" / "flowers"), FOUR)


def test_ray_s_data_frame_has_last_values_only():
    store = imported(FIXTURES / "ray" / "dataframe.csv")
    runs = store.runs.sort_values("learning_rate")
    # of the last run the data frame has the last value, NaN, as an empty cell
    assert runs["state"].tolist() == ["complete", "complete", "cut", "failed"]
    assert runs["value"].tolist()[:3] == pytest.approx([curve(k)[-1] for k in range(3)])
    assert runs["epochs_done"].tolist() == list(STOPS)


@pytest.mark.slow
def test_mlflow_s_database(tmp_path: Path):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("flowers", artifact_location=str(tmp_path / "artifacts"))
    for k, rate in enumerate(RATES):
        run = client.create_run(experiment).info.run_id
        client.log_param(run, "learning_rate", rate)
        client.log_param(run, "epochs", EPOCHS)
        for epoch, value in enumerate(curve(k)):
            client.log_metric(run, "val_accuracy", value, step=epoch)
        client.set_terminated(run, "FAILED" if k == 3 else "FINISHED")
    gone = client.create_run(experiment).info.run_id
    client.log_metric(gone, "val_accuracy", 0.99)
    client.delete_run(gone)
    store = imported(tmp_path / "mlflow.db")
    check(store, FOUR)
    assert store.tasks == ["flowers"]
