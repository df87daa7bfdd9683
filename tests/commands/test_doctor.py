"""`foretune doctor`."""

import importlib.metadata
import shutil

import toy

from foretune import shipped
from foretune.commands import doctor
from foretune.commands.cli import main
from foretune.searchers.registry import searcher


def test_the_exit_code_says_whether_something_is_wrong(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(
        doctor, "findings", lambda data: iter([("memory", "ok", "plenty"), ("GPU", "note", "none")])
    )
    assert main(["doctor", "--data", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok    memory: plenty",
        "note  GPU: none",
        "everything that foretune needs is here",
    ]
    monkeypatch.setattr(doctor, "findings", lambda data: iter([("disk", "wrong", "full")]))
    assert main(["doctor", "--data", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == ["WRONG disk: full", "1 thing to mend"]


def test_the_data_folder_is_looked_through(meta_folder, tmp_path):
    found = {what: (state, detail) for what, state, detail in doctor.contents(tmp_path)}
    assert (
        found["image tasks"][0] == "note" and "foretune tasks --prepare" in found["image tasks"][1]
    )
    assert found["meta-dataset light"][0] == found["recommender hyperstar"][0] == "ok"
    assert str(shipped.LIGHT) in found["meta-dataset light"][1]
    shutil.copytree(meta_folder, tmp_path / "meta" / "good")
    shutil.copytree(meta_folder, tmp_path / "meta" / "torn")
    (tmp_path / "meta" / "torn" / "curves.parquet").write_bytes(b"PAR1")
    (tmp_path / "studies" / "bad").mkdir(parents=True)
    (tmp_path / "studies" / "bad" / "study.json").write_text("{")
    found = {what: (state, detail) for what, state, detail in doctor.contents(tmp_path)}
    assert (
        found["meta-dataset good"][0] == "ok"
        and "5 tasks, 40 configurations" in found["meta-dataset good"][1]
    )
    assert found["meta-dataset torn"][0] == "wrong" and found["study bad"][0] == "wrong"


def test_history_that_is_gone_is_wrong(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    monkeypatch.setattr(doctor, "machine", lambda data: iter(()))
    assert main(["doctor", "--data", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    (history,) = [line for line in lines if "meta-dataset light" in line]
    fitted = [line for line in lines if " recommender " in line]
    assert len(fitted) == 2 and lines[-1] == "3 things to mend"
    for line in (history, *fitted):
        assert line.startswith("WRONG") and "pip install --force-reinstall" in line


def test_an_extra_that_is_not_there_is_named(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = {what: (state, detail) for what, state, detail in doctor.packages()}
    assert found["mlflow"][0] == "wrong" and found["dvc"][0] == "note"
    assert "pip install 'foretune[serve]'" in found["prefect"][1]


def test_services_are_named_and_not_spoken_to(monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://example.invalid:1")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    found = {what: detail for what, _, detail in doctor.services(tmp_path)}
    assert "example.invalid" in found["MLflow"] and "server of their own" in found["Prefect"]
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    found = {what: detail for what, _, detail in doctor.services(tmp_path)}
    assert f"{tmp_path}/mlflow.db" in found["MLflow"]


def test_a_damaged_journal_is_named_and_repaired_up_to_the_damage(tmp_path, capsys):
    folder = tmp_path / "studies" / "s"
    study = toy.toy_study(folder, toy.toy_pool(3), 20)
    study.tell(study.ask(searcher("random")), [0.1] * 9)
    study.close()
    lines = (folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == 10  # one step asked for, nine epochs told
    bad = b"".join([*lines[:5], lines[5].replace(b"0.1", b"0.9"), *lines[6:]])
    (folder / "journal.jsonl").write_bytes(bad)
    ((_, state, detail),) = [f for f in doctor.contents(tmp_path) if f[0] == "study s"]
    assert state == "wrong" and "line 6, is damaged" in detail
    assert f"foretune doctor --repair {folder}" in detail
    assert main(["doctor", "--data", str(tmp_path), "--repair", "s"]) == 0
    assert capsys.readouterr().out == (
        f"{folder}/journal.jsonl: kept the first 5 lines, with 4 of 20 epochs; the 5 after them "
        f"are in {folder}/journal.damaged-1.jsonl alone\n"
    )
    assert (folder / "journal.damaged-1.jsonl").read_bytes() == bad
    assert (folder / "journal.jsonl").read_bytes() == b"".join(lines[:5])
    assert main(["doctor", "--repair", str(folder)]) == 0
    assert "is whole: nothing to repair" in capsys.readouterr().out
    # the trial goes on from its last provable epoch
    (step,) = toy.toy_study(folder, toy.toy_pool(3), 20).pending_steps()
    assert (step.start, step.stop) == (4, 9)


def test_there_must_be_a_study_to_repair(tmp_path, capsys):
    assert main(["doctor", "--data", str(tmp_path), "--repair", "s"]) == 2
    assert "there is no study 's'" in capsys.readouterr().err
