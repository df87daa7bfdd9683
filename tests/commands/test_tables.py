"""`foretune methods`, `foretune tasks` and `foretune import`."""

import pytest

from foretune.commands.cli import main
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import DEFAULT, METHODS


def test_methods_are_listed_with_what_they_do(capsys):
    assert main(["methods"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == list(METHODS)
    for row, entry in zip(rows, METHODS.values(), strict=True):
        assert entry.about in row and ("needs past tasks" in row) == entry.needs_past
    assert [row.split()[0] for row in rows if row.endswith("<- default")] == [DEFAULT]


def test_the_default_method_alone_for_scripts(capsys):
    assert main(["methods", "--default"]) == 0 and capsys.readouterr().out == f"{DEFAULT}\n"


def test_tasks_are_listed_with_those_prepared(tmp_path, tiny_task, capsys):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "tiny.npz").write_bytes(tiny_task.read_bytes())
    assert main(["tasks", "--data", str(tmp_path)]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert (
        len(rows) > 12
        and "prepared  (your own)" in rows["tiny"]
        and "prepared" not in rows["digits"]
    )


def test_an_embedded_task_is_prepared(tmp_path, capsys):
    assert main(["tasks", "digits", "--data", str(tmp_path)]) == 0
    assert (tmp_path / "images" / "digits.npz").exists() and "digits" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["hyperrec", "lcbench"])
def test_a_published_table_is_imported(shared, tmp_path, name, capsys):
    folder = {"hyperrec": "HyperRec", "lcbench": "LCBench"}[name]
    assert (
        main(["import", name, str(shared / "data" / "originals" / folder), str(tmp_path / "new")])
        == 0
    )
    meta = MetaDataset.load(tmp_path / "new")
    assert (
        f"{len(meta.tasks)} tasks, {len(meta)} configurations, {meta.max_epoch} epochs"
        in capsys.readouterr().out
    )


def test_a_source_that_is_none_of_the_format_leaves_nothing(tmp_path, capsys):
    (tmp_path / "src").mkdir()
    assert main(["import", "hyperrec", str(tmp_path / "src"), str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "new").exists()
