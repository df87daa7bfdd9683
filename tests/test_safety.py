"""What nobody may do: run text as code, load objects that run code, hand a line to a shell, let a
password out.
"""

import ast
import json
import os
from pathlib import Path

import pytest
import toy

from foretune.errors import BadInput
from foretune.params import load
from foretune.views.tracking import Tracker

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "flows").rglob("*.py")])
SECRET = "hunter2-correct-horse"


def called(node):
    """The dotted name of what a call calls."""
    parts, at = [], node.func
    while isinstance(at, ast.Attribute):
        parts.append(at.attr)
        at = at.value
    return ".".join(reversed([*parts, at.id if isinstance(at, ast.Name) else "?"]))


def forbidden(source):
    """Calls that could run what a file says: (line, call)."""
    out = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = called(node)
        given = {
            k.arg: k.value.value
            for k in node.keywords
            if k.arg and isinstance(k.value, ast.Constant)
        }
        bad = name in {
            "eval",
            "exec",
            "os.system",
            "os.popen",
            "yaml.load",
            "yaml.unsafe_load",
            "yaml.full_load",
        }
        bad |= name in {
            "pickle.load",
            "pickle.loads",
            "joblib.load",
            "pd.read_pickle",
            "pandas.read_pickle",
        }
        bad |= name == "torch.load" and given.get("weights_only") is not True
        bad |= name in {"np.load", "numpy.load"} and given.get("allow_pickle") is not False
        bad |= given.get("shell") is True
        out += [(node.lineno, name)] if bad else []
    return out


def test_nothing_that_is_read_can_run():
    assert FILES
    assert [
        f"{path.relative_to(ROOT)}:{line}: {call}"
        for path in FILES
        for line, call in forbidden(path.read_text())
    ] == []


def test_the_rule_sees_what_it_forbids():
    lines = [
        "eval(x)",
        "exec(x)",
        "yaml.load(f)",
        "pickle.loads(b)",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "np.load(f)",
        "np.load(f, allow_pickle=True)",
        "subprocess.run(x, shell=True)",
    ]
    assert [line for line in lines if len(forbidden(line)) != 1] == []
    allowed = "torch.load(f, weights_only=True); np.load(f, allow_pickle=False); yaml.safe_load(f)"
    assert forbidden(allowed) == []


def test_parameters_with_a_python_tag_make_nothing(tmp_path):
    marker = tmp_path / "made"
    (tmp_path / "params.yaml").write_text(
        f"training: !!python/object/apply:os.mkdir [{str(marker)!r}]\n"
    )
    with pytest.raises(BadInput):
        load(tmp_path / "params.yaml")
    assert not marker.exists()


def test_no_password_reaches_mlflow_or_its_warnings(tmp_path, monkeypatch):
    """Of the environment, and of the address itself."""
    from mlflow import MlflowClient

    for name in (
        "PREFECT_API_AUTH_STRING",
        "PREFECT_SERVER_API_AUTH_STRING",
        "MLFLOW_TRACKING_PASSWORD",
        "AWS_SECRET_ACCESS_KEY",
    ):
        monkeypatch.setenv(name, SECRET)
    study = toy.toy_study(tmp_path / "s", toy.toy_pool(2), 4)
    for _ in range(2):
        study.tell(study.pending_steps()[0] if study.pending.any() else step(study), [0.5, 0.6])
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert Tracker(uri).sync(study)
    client = MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name.endswith("/toy")]
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 3
    told = json.dumps([dict(experiment.tags), *(run.to_dictionary() for run in runs)])
    assert "score" in told
    assert SECRET not in told
    warned = []
    tracker = Tracker(f"http://user:{SECRET}@127.0.0.1:9", warn=warned.append)
    assert not tracker.sync(study)
    assert not tracker.close(study)
    assert len(warned) == 2
    assert not any(SECRET in line for line in warned)
    files = [path for path in (tmp_path / "s").rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in path.read_bytes() for path in files)


def step(study):
    """The next step of a study, two epochs of the next configuration."""
    from foretune.study.study import Step

    return Step(len(study.started), 0, 2)


def test_a_service_writes_down_no_password(tmp_path, monkeypatch):
    from service import Process, Service

    monkeypatch.setenv("PREFECT_API_AUTH_STRING", f"admin:{SECRET}")
    service = Service(tmp_path, token="t", processes=(Process("prefect", os.getpid(), 0.0),)).save()
    assert SECRET in service.environment()["PREFECT_API_AUTH_STRING"]  # handed on to what it starts
    assert SECRET not in (tmp_path / "service.json").read_text()
