"""CSV: a row a run, or a row an epoch."""

import math
from pathlib import Path

import pytest

from foretune.errors import BadInput
from foretune.history.runs import RunStore
from foretune.stores.csv_table import duration, read
from foretune.stores.importing import import_runs
from foretune.stores.mapping import propose
from foretune.stores.metrics import choose


def imported(path: Path) -> RunStore:
    source = read(path)
    return import_runs(source, propose(source, choose(source)))[0]


def test_a_row_a_run_with_its_last_epoch(tmp_path: Path):
    path = tmp_path / "runs.csv"
    path.write_text(
        "id,dataset,lr,epochs,epoch,val_acc\n"
        "a,flowers,0.1,10,9,50\nb,birds,5e-05,10,4,60\nc,birds,0.01,10,,\n",
        encoding="utf-8",
    )
    runs = imported(path).runs
    assert runs["source_id"].tolist() == ["a", "b", "c"]
    assert runs["task"].tolist()[:2] == ["flowers", "birds"]
    assert runs["learning_rate"].tolist() == [0.1, 5e-5, 0.01]
    assert runs["value"].tolist()[:2] == [0.5, 0.6] and math.isnan(runs["value"][2])
    assert runs["epochs_done"].tolist()[:2] == [10, 5]  # counted from 0
    assert runs["state"].tolist() == ["complete", "cut", "failed"]


def test_a_row_an_epoch(tmp_path: Path):
    path = tmp_path / "log.csv"
    rows = [f"{run},{rate},{e},{v}" for run, rate in (("a", 0.1), ("b", 0.2)) for e, v in
            enumerate((0.3, 0.5, 0.4), start=1)]  # fmt: skip
    path.write_text("run,lr,epoch,val_acc\n" + "\n".join(rows), encoding="utf-8")
    store = imported(path)
    assert store.runs["learning_rate"].tolist() == [0.1, 0.2]
    assert store.runs["value"].tolist() == [0.5, 0.5] and store.runs["last"].tolist() == [0.4, 0.4]
    assert store.curves["epoch"].tolist() == [1, 2, 3] * 2


def test_a_folder_of_logs_one_a_run_as_keras_writes_them(tmp_path: Path):
    for k in range(3):
        (tmp_path / f"run{k}.csv").write_text(
            "epoch,accuracy,loss,val_accuracy,val_loss\n"
            f"0,0.9,1.0,0.{k}1,1.0\n1,0.95,0.9,0.{k}2,0.9\n",
            encoding="utf-8",
        )
    (tmp_path / "confusion.csv").write_text("Actual,Predicted,n\na,b,3\n", encoding="utf-8")
    store = imported(tmp_path)
    assert store.runs["source_id"].tolist() == ["run0", "run1", "run2"]
    assert store.runs["value"].tolist() == pytest.approx([0.02, 0.12, 0.22])
    assert store.curves["epoch"].tolist() == [1, 2] * 3  # counted from 0 in the files


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Actual,Predicted,n\na,b,3\n", "metric"),
        ("name,val_acc\na,0.5\n", "setting"),
        ("lr,val_acc\n", "no rows"),
        ("", "no rows"),
    ],
)
def test_tables_that_hold_no_runs_are_refused(tmp_path: Path, text: str, word: str):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=word):
        read(path)


def test_text_in_cells_may_hold_commas_lines_and_umlauts(tmp_path: Path):
    path = tmp_path / "runs.csv"
    path.write_text(
        '\ufeff"lr";"Notiz";"val_acc"\n0.1;"a;\nü";0.5\n0.2;"b";0.6\n', encoding="utf-8"
    )
    assert imported(path).runs["learning_rate"].tolist() == [0.1, 0.2]


def test_durations():
    assert duration("7.2min") == pytest.approx(432) and duration("1.5h") == 5400
    assert duration("12") == 12 and duration("soon") is None and duration(None) is None


def test_a_table_with_decimal_commas_is_read_as_one_with_points(tmp_path):
    text = "run;learning_rate;epochs;val_acc\na;0,1;3;0,91\nb;0,01;3;0,93\n"
    (tmp_path / "comma.csv").write_text(text, encoding="utf-8")
    (tmp_path / "point.csv").write_text(text.replace(",", "."), encoding="utf-8")
    comma, point = (read(tmp_path / f"{name}.csv") for name in ("comma", "point"))
    assert [r.params for r in comma.records] == [r.params for r in point.records]
    assert comma.records[0].params["learning_rate"] == "0.1"


def test_a_row_of_more_cells_than_the_head_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("run,lr,val_acc\na,0,1,0,91\n", encoding="utf-8")
    with pytest.raises(BadInput, match="line 2, has 5 cells for 3 columns"):
        read(tmp_path / "t.csv")
