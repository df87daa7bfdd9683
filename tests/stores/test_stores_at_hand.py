"""Run stores that other people's trainings left behind: an import gives what the files hold.

The figures were counted in the files by hand: runs, runs with the metric, tasks, best value in the
metric's unit.
"""

from pathlib import Path
from time import process_time

import pytest

from foretune.errors import BadInput
from foretune.history.runs import RunStore
from foretune.stores.findings import Findings
from foretune.stores.importing import import_runs
from foretune.stores.mapping import propose
from foretune.stores.metrics import choose
from foretune.stores.registry import read_source

RUNS = "runs/aft-mc-00.csv"
STORES = {  # path: format, runs, with the metric, tasks, best
    "stores/timm/timm-1": ("timm", 1, 1, 1, 0.86),
    "stores/mlflow-files/mlflow-files-1": ("mlflow", 7, 7, 1, 0.88567),
    "stores/mlflow-files/mlflow-files-2": ("mlflow", 19, 1, 1, 0.985),
    "stores/mlflow-db/mlflow-db-1": ("mlflow", 2, 2, 1, 0.5),
    "stores/mlflow-db/mlflow-db-2": ("mlflow", 23, 5, 1, 1.0),
    "stores/optuna-db/optuna-db-1": ("optuna", 100, 100, 1, 0.69099),
    "stores/optuna-db/optuna-db-2": ("optuna", 98, 95, 1, 36.7212),
    "stores/optuna-journal/optuna-journal-1/optuna_journal_cnn_re.log": (
        "optuna", 50, 48, 1, 0.79340),
    "stores/optuna-journal/optuna-journal-1/optuna_journal_ga_re.log": (
        "optuna", 30, 30, 1, 0.32525),
    "stores/hf-trainer/hf-trainer-1": ("huggingface", 1, 1, 1, 0.975197),
    "stores/ultralytics/ultralytics-1": ("ultralytics", 9, 9, 1, 0.0),
    "stores/ultralytics/ultralytics-2": ("ultralytics", 23, 14, 2, 1.0),
    "stores/raytune-csv/raytune-csv-1": ("ray", 4, 4, 1, 0.73147),
    "stores/lightning/lightning-1": ("lightning", 29, 23, 1, 0.99500),
    "stores/lightning/lightning-2": ("lightning", 9, 4, 1, None),
    "stores/tensorboard/tensorboard-1": ("tensorboard", 15, 9, 1, 0.90104),
    "stores/kerastuner/kerastuner-1": ("keras-tuner", 30, 30, 1, 0.94041),
    "stores/wandb/wandb-1": ("wandb", 40, 33, 2, 0.95926),
    "stores/wandb-csv/wandb-csv-1": ("wandb", 10, 10, 1, 0.9639),
    "stores/plain-csv/plain-csv-1": ("csv", 199, 199, 1, 0.9077575),
    "stores/plain-csv/plain-csv-2": ("csv", 22, 22, 1, 0.9949),
    RUNS: ("wandb", 1000, 731, 30, 0.99375),
}  # fmt: skip


@pytest.fixture(scope="module")
def at_hand(shared: Path):
    """Import a store of those at hand, once."""
    if not (shared / "data" / "stores").is_dir():
        pytest.skip("other people's run stores (../shared/data/stores) are not on this machine")
    known: dict[str, tuple[RunStore, Findings]] = {}

    def read(name: str) -> tuple[RunStore, Findings]:
        if name not in known:
            source = read_source(str(shared / "data" / name))
            known[name] = import_runs(source, propose(source, choose(source)))
        return known[name]

    return read


@pytest.mark.parametrize("name", STORES)
def test_counts_and_best_value_are_those_of_the_files(at_hand, name: str):
    form, runs, having, tasks, best = STORES[name]
    store, found = at_hand(name)
    assert found.source.format == form
    assert (found.runs, found.with_metric, found.without) == (runs, having, runs - having)
    assert len(found.tasks) == tasks
    if best is not None:
        assert found.best == pytest.approx(best, rel=1e-5)
    assert len(store) == runs - found.copies
    assert "\n".join(found.lines()).count("\n") < 40


def test_deleted_runs_would_win_and_are_left_out(at_hand):
    _, found = at_hand("stores/mlflow-files/mlflow-files-1")
    assert found.source.aside == {"runs that were deleted in MLflow": 2}


def test_spellings_of_one_column_meet(at_hand):
    store, _ = at_hand("stores/mlflow-files/mlflow-files-1")
    assert store.runs["epochs"].notna().all() and store.runs["optimizer"].notna().all()
    assert "adadelta" in set(store.runs["optimizer"])
    best = store.runs.loc[store.runs["value"].idxmax()]
    assert best["optimizer"] == "adadelta"


def test_a_loss_of_ten_to_the_thirteen_has_diverged(at_hand):
    store, _ = at_hand("stores/mlflow-db/mlflow-db-1")
    assert sorted(store.runs["state"]) == ["complete", "diverged"]


def test_runs_with_other_metrics_only_are_told_apart(at_hand):
    _, found = at_hand("stores/mlflow-files/mlflow-files-2")
    # 13 runs log something, one of them an accuracy
    assert found.other_metrics == 12


def test_folds_are_no_learning_curves_and_choices_are_decoded(at_hand):
    store, _ = at_hand("stores/optuna-db/optuna-db-1")
    assert not len(store.curves)
    best = store.runs.loc[store.runs["value"].idxmax()]
    assert best["source_id"].endswith("/64")
    assert best["learning_rate"] == pytest.approx(0.003222, abs=1e-6)
    assert best["weight_decay"] == pytest.approx(0.000621, abs=1e-6)
    assert (best["batch_size"], best["accumulation"]) == (256, 2)
    assert (best["optimizer"], best["scheduler"]) == ("adamw", "step")


def test_a_penalty_is_a_failure(at_hand):
    store, found = at_hand("stores/optuna-db/optuna-db-2")
    assert dict(found.penalties) == {1000.0: 37}
    assert set(store.runs.loc[store.runs["value"] == 1000.0, "state"]) == {"failed"}


def test_pruned_and_running_trials(at_hand):
    journal = "stores/optuna-journal/optuna-journal-1/optuna_journal_{}_re.log"
    assert at_hand(journal.format("ga"))[1].states == {"complete": 14, "cut": 16}
    states = at_hand(journal.format("cnn"))[1].states
    assert states["complete"] == 48 and states["running"] == 1


def test_epochs_may_be_fractions(at_hand):
    store, _ = at_hand("stores/hf-trainer/hf-trainer-1")
    assert store.curves["epoch"].tolist() == [0.9, 1.8]
    assert store.curves["valid_accuracy"].tolist() == pytest.approx([0.954979, 0.975197], abs=1e-6)


def test_nothing_is_learned_where_all_values_are_equal(at_hand):
    _, found = at_hand("stores/ultralytics/ultralytics-1")
    assert any(line.startswith("best     none") for line in found.lines())


def test_copies_and_the_validation_after_training(at_hand):
    store, found = at_hand("stores/lightning/lightning-1")
    assert found.copies == 2 and store.runs["value"].notna().sum() == 21
    assert store.curves["epoch"].max() == 20  # epochs 0 to 19 in the source
    assert found.best_run == "version_24"


def test_an_accuracy_beside_test_metrics_is_of_the_test_set(at_hand):
    store, found = at_hand("stores/lightning/lightning-2")
    assert found.mapping.goal.metric == "accuracy" and set(store.runs["split"]) == {"test"}


def test_trials_of_hyperband_that_stopped_early_are_cut(at_hand):
    store, _ = at_hand("stores/kerastuner/kerastuner-1")
    runs = store.runs.set_index("source_id")
    assert runs.loc["0016", "parent"] == "0013" and runs.loc["0016", "epochs_done"] == 20
    assert (runs.loc[runs["state"] == "cut", "epochs_done"] < 20).all()
    assert runs["value"].min() == pytest.approx(0.31395, abs=1e-5)


def test_two_modes_are_two_tasks(at_hand):
    store, _ = at_hand("stores/wandb/wandb-1")
    assert store.tasks == ["ms", "rgb"]
    assert store.runs["learning_rate"].max() == 0.001 and store.runs["learning_rate"].min() == 5e-5
    assert store.runs.loc[store.runs["value"].idxmax(), "task"] == "rgb"


def test_two_names_of_the_learning_rate_differ_in_one_run(at_hand):
    _, found = at_hand("stores/plain-csv/plain-csv-2")
    assert dict(found.differing) == {"learning_rate": 1}
    store, _ = at_hand("stores/plain-csv/plain-csv-2")
    assert set(store.runs["beta1"]) == {0.9} and set(store.runs["beta2"]) == {0.999}


def test_a_thousand_runs_of_quick_tune(at_hand):
    begun = process_time()
    store, found = at_hand(RUNS)
    assert process_time() - begun < 10  # CPU seconds; the machine may be busy
    assert len(found.networks) == 24 and found.mapping.goal.unit == "percent"
    assert found.mapping.goal.goal == "maximize" and set(store.runs["trainer"]) == {"timm"}
    assert (store.runs["epochs_done"] == 50).sum() == 489


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("stores/kerastuner/kerastuner-2", "0 trials"),
        ("stores/plain-csv/plain-csv-3", "holds no runs"),
    ],
)
def test_what_holds_no_runs_is_refused_in_one_line(at_hand, shared: Path, name: str, word: str):
    with pytest.raises(BadInput, match=word) as error:
        at_hand(name)
    assert "\n" not in str(error.value)


def test_no_place_and_no_person_is_copied(at_hand, tmp_path: Path):
    for name in STORES:
        at_hand(name)[0].save(tmp_path / name.replace("/", "-"))
    private = [b"/workspaces", b"user@example", b"C:/", b"file:///", b"host-a", b"/src/machine"]
    assert not [
        (path.parent.name, word)
        for path in tmp_path.rglob("*")
        if path.is_file()
        for word in private
        if word in path.read_bytes()
    ]
