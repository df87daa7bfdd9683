"""The import of a team's MLflow as a Prefect flow."""

from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from foretune.errors import BadInput
from foretune.history.runs import RunStore

ROOT = Path(__file__).resolve().parents[2]


def log(address: str, name: str, rate: float, values: list[float]) -> None:
    """One run with a curve."""
    client = MlflowClient(address)
    found = client.get_experiment_by_name("roses")
    experiment = found.experiment_id if found else client.create_experiment("roses")
    run = client.create_run(experiment, run_name=name).info.run_id
    client.log_param(run, "lr", rate)
    client.log_param(run, "epochs", len(values))
    for epoch, value in enumerate(values, 1):
        client.log_metric(run, "val_accuracy", value, step=epoch)
    client.set_terminated(run)


@pytest.mark.slow
def test_what_is_new_is_imported_and_nothing_twice(prefect_server: None, tmp_path: Path) -> None:
    from import_runs import import_runs

    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for k, rate in enumerate((0.1, 0.01)):
        log(address, f"run {k}", rate, [0.3, 0.5 + k / 10])
    given = {"source": address, "data": str(tmp_path)}
    assert import_runs(**given) == 2
    assert import_runs(**given) == 0
    log(address, "run 2", 0.001, [0.2, 0.4])
    assert import_runs(**given) == 1
    found = RunStore.load(tmp_path / "history" / "team")
    assert sorted(found.runs["learning_rate"]) == [0.001, 0.01, 0.1]
    assert sorted(found.runs["value"]) == pytest.approx([0.4, 0.5, 0.6])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"source": None}, "source must be given"),
        ({"into": "../elsewhere"}, "must be a plain name"),
        ({"source": "https://me:secret@example.org"}, "source holds a login"),
        ({"source": "sqlite:////nowhere.db"}, "does not exist"),
    ],
)
def test_what_cannot_be_imported_is_refused_and_writes_nothing(
    tmp_path: Path, given: dict[str, str | None], line: str
) -> None:
    from import_runs import import_new

    asked = {
        "source": "x",
        "into": "team",
        "task": None,
        "mapping": None,
        "data": tmp_path,
        **given,
    }
    with pytest.raises(BadInput, match=line) as refused:
        import_new(**asked)  # type: ignore[arg-type]
    assert "secret" not in str(refused.value) and not (tmp_path / "history").exists()


def test_the_deployment_waits_for_its_source() -> None:
    entries = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    (entry,) = [one for one in entries if one["name"] == "import-runs"]
    assert entry["entrypoint"] == "flows/import_runs.py:import_runs"
    assert entry["schedules"][0]["active"] is False
