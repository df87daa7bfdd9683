"""What readers refuse, pass over, and never run."""

import json
import math
import os
import sqlite3
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from foretune.commands.cli import main
from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.stores import record, wandb_log
from foretune.stores.importing import import_runs
from foretune.stores.mapping import propose
from foretune.stores.metrics import choose
from foretune.stores.optuna_database import curve_like
from foretune.stores.registry import READERS, formats_of, read_source
from foretune.stores.sqlite import connect
from foretune.stores.tfrecord import scalars

FIXTURES = Path(__file__).resolve().parent / "fixtures"


@pytest.mark.parametrize("name", READERS)
def test_a_folder_of_something_else_is_refused_in_one_line(tmp_path: Path, name: str):
    (tmp_path / "note.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(BadInput) as error:
        read_source(str(tmp_path), name)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_unknown_formats_and_missing_sources(tmp_path: Path):
    with pytest.raises(BadInput, match="optuna"):
        read_source(str(tmp_path), "comet")
    with pytest.raises(BadInput, match="does not exist"):
        read_source(str(tmp_path / "nowhere"))
    with pytest.raises(BadInput, match="none of the formats"):
        read_source(str(tmp_path))


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("timm", "timm"),
        ("optuna/journal.log", "optuna"),
        ("tensorboard", "tensorboard"),
        ("lightning", "lightning"),
        ("huggingface", "huggingface"),
        ("ray/flowers", "ray"),
        ("ray/dataframe.csv", "ray"),
        ("keras-tuner", "keras-tuner"),
        ("wandb", "wandb"),
    ],
)
def test_formats_are_told_by_what_is_there(part: str, name: str):
    assert formats_of(FIXTURES / part)[0] == name


def test_yaml_makes_no_objects(tmp_path: Path):
    marker = tmp_path / "made"
    file = tmp_path / "hparams.yaml"
    file.write_text(
        f"lr: 0.1\nmodel: !!python/object/apply:os.mkdir [{str(marker)!r}]\n"
        "opt: !!python/name:torch.optim.Adam\n",
        encoding="utf-8",
    )
    assert record.read_yaml(file) == {"lr": 0.1, "model": None, "opt": None}
    assert not marker.exists()


def test_pickles_stay_closed(tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    import pickle

    folder = tmp_path / "store" / "trial"
    folder.mkdir(parents=True)
    for name in ("params.pkl", "training_args.bin", "tuner.pkl", "result.pkl"):
        (folder / name).write_bytes(pickle.dumps(Trap()))
    (folder / "params.json").write_text('{"lr": 0.1}', encoding="utf-8")
    (folder / "result.json").write_text(
        '{"val_acc": 0.5, "training_iteration": 1}\n{"val_acc": 0.6, "trai', encoding="utf-8"
    )
    source = read_source(str(tmp_path / "store"))
    assert source.records[0].series == {"val_acc": [(1.0, 0.5)]}  # the torn line is passed over
    assert not (tmp_path / "made").exists()


DAMAGED = {
    "j.log": '{"op_code": 5, "trial_id": 3, "param_name": "x"}',
    "k/trial.json": "[]",
    "h/trainer_state.json": '{"log_history": [3, {"epoch": "x"}]}',
    "l/metrics.csv": "epoch,val_acc\nx,abc\n1,abc\n",
    "r/params.json": "[1]",
    "r2/params.json": "{",
    "w/run-20260101_000000-abc/files/wandb-summary.json": "[3]",
    "o.jsonl": '{"op_code": 4, "study_id": 0}',
    "n/part.parquet": "PAR1",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_end_in_one_line(tmp_path: Path, name: str, capsys):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(DAMAGED[name], encoding="utf-8")
    if path.name == "params.json":
        (path.parent / "result.json").write_text("{", encoding="utf-8")
    where = path if path.parent == tmp_path else tmp_path / name.split("/", maxsplit=1)[0]
    assert main(["import", str(where), "--dry-run"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_torn_line_costs_a_value_and_no_run(tmp_path: Path):
    run = tmp_path / "mlruns" / "0" / "abc"
    (run / "metrics").mkdir(parents=True)
    (run.parent / "meta.yaml").write_text("name: flowers", encoding="utf-8")
    (run / "meta.yaml").write_text("run_id: abc\nstatus: 3", encoding="utf-8")
    (run / "metrics" / "val_acc").write_text("1 0.5 0\n1 0.6 1\n1 0.", encoding="utf-8")
    (found,) = read_source(str(tmp_path)).records
    assert found.series == {"val_acc": [(0.0, 0.5), (1.0, 0.6)]}


def test_files_that_are_too_large_are_refused(tmp_path: Path, monkeypatch):
    file = tmp_path / "runs.csv"
    file.write_text("lr,val_acc\n0.1,0.5\n", encoding="utf-8")
    monkeypatch.setattr(record, "MAX_BYTES", 10)
    with pytest.raises(BadInput, match="at most 10"):
        read_source(str(file))


def test_databases_are_read_and_never_written(tmp_path: Path):
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (a)")
    before = path.read_bytes()
    with pytest.raises(BadInput, match="readonly"), connect(path) as connection:
        connection.execute("INSERT INTO t VALUES (1)")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(BadInput, match="no table"):
        read_source(str(path), "mlflow")
    path.write_bytes(b"not a database")
    with pytest.raises(BadInput):
        read_source(str(path), "optuna")


def test_an_event_file_that_was_cut_gives_what_is_whole(tmp_path: Path):
    (file,) = (FIXTURES / "tensorboard" / "run0").glob("*tfevents*")
    whole = list(scalars(file))
    torn = tmp_path / "events.out.tfevents.1.x"
    torn.write_bytes(file.read_bytes()[:-5])
    assert list(scalars(torn)) == whole[:-1]
    torn.write_bytes(struct.pack("<QI", 2**40, 0) + b"x" * 100)
    with pytest.raises(BadInput, match="record of"):
        list(scalars(torn))


def test_a_wandb_log_over_several_blocks(tmp_path: Path):
    """Records that do not fit in a block of 32 KiB go on in the next."""

    def log(*contents: bytes) -> bytes:
        out = bytearray(b":W&B\x00\x00\x00")
        for content in contents:
            first, rest = True, content
            while first or rest:
                left = wandb_log.BLOCK - len(out) % wandb_log.BLOCK
                if left < 7:
                    out += bytes(left)
                    continue
                part, rest = rest[: left - 7], rest[left - 7 :]
                kind = {(True, True): 1, (True, False): 2, (False, False): 3, (False, True): 4}[
                    first, not rest
                ]
                out += struct.pack("<IHB", 0, len(part), kind) + part
                first = False
        return bytes(out)

    contents = (b"a" * 10, b"b" * 100_000, b"c" * 32_740, b"d")
    file = tmp_path / "run-x.wandb"
    file.write_bytes(log(*contents))
    assert list(wandb_log.messages(file)) == list(contents)
    file.write_bytes(log(*contents)[:-1])
    assert list(wandb_log.messages(file)) == list(contents[:-1])
    file.write_bytes(b"else")
    with pytest.raises(BadInput, match="no log"):
        list(wandb_log.messages(file))


def test_folds_are_told_from_epochs():
    import numpy as np

    rng = np.random.default_rng(0)
    level = rng.uniform(0.5, 0.7, 40)
    folds = [[(float(f), a + rng.normal(0, 0.01)) for f in range(5)] for a in level]
    epochs = [[(float(e), a * (1 - 0.5**e) + rng.normal(0, 0.01)) for e in range(5)] for a in level]
    assert not curve_like(folds) and curve_like(epochs)
    assert curve_like([*folds, folds[0][:2]])  # a pruner acted on the steps
    assert not curve_like([])


def neptune_file(folder: Path) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [
        {"attribute_path": "parameters/lr", "attribute_type": "float", "float_value": 0.1},
        {"attribute_path": "parameters/optimizer", "attribute_type": "string",
         "string_value": "Adam"},
        {"attribute_path": "sys/owner", "attribute_type": "string", "string_value": "somebody"},
        *({"attribute_path": "val/acc", "attribute_type": "float_series", "step": float(e),
           "float_value": v} for e, v in ((1, 0.6), (0, 0.5))),
    ]  # fmt: skip
    keys = {key for row in rows for key in row}
    table = [{k: row.get(k) for k in keys} | {"run_id": "F-1", "project_id": "w/flowers"}
             for row in rows]  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(table), folder / "part.parquet")
    return folder


def test_neptune_s_export(tmp_path: Path):
    source = read_source(str(neptune_file(tmp_path)))
    assert source.format == "neptune"
    store, _ = import_runs(source, propose(source, choose(source)))
    (run,) = store.runs.to_dict("records")
    assert (run["task"], run["learning_rate"], run["optimizer"]) == ("flowers", 0.1, "adam")
    assert store.curves["valid_accuracy"].tolist() == [0.5, 0.6] and "somebody" not in str(run)


def test_foretune_s_own_tables_are_runs(meta: MetaDataset, meta_folder: Path):
    source = read_source(str(meta_folder))
    store, found = import_runs(source, propose(source, choose(source)))
    seeds = len(set(meta.rows.columns["seed"]))
    assert found.runs == len(meta) * len(meta.tasks) * seeds and store.tasks == sorted(meta.tasks)
    values = meta.rows.columns[meta.metric]
    finite = values[[math.isfinite(v) for v in values]]
    assert store.runs["value"].max() == pytest.approx(float(finite.max()))


class Server(BaseHTTPRequestHandler):
    """A tracking server with one experiment and one run, in pages."""

    asked: list[tuple[str, str]] = []  # noqa: RUF012

    def answer(self, body: object) -> None:
        Server.asked.append((self.path, self.headers.get("Authorization", "")))
        data = json.dumps(body).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("experiments/search"):
            self.answer({"experiments": [{"experiment_id": "7", "name": "flowers"}]})
        elif "page_token" not in given:
            self.answer({"next_page_token": "more"})
        else:
            info = {"run_id": "r1", "status": "FINISHED", "start_time": 1000, "end_time": 3000}
            data = {
                "params": [{"key": "lr", "value": "0.1"}, {"key": "epochs", "value": "2"}],
                "metrics": [{"key": "val_acc", "value": 0.6, "step": 1}],
            }
            self.answer({"runs": [{"info": info, "data": data}]})

    def do_GET(self) -> None:
        self.answer({"metrics": [{"step": 1, "value": 0.6}, {"step": 0, "value": 0.5}]})

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    """Address of a tracking server."""
    Server.asked.clear()
    with HTTPServer(("127.0.0.1", 0), Server) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{http.server_port}"
        http.shutdown()


def test_an_mlflow_server_is_read_and_the_password_stays(server: str, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN", raising=False)
    source = read_source(f"http://me:hunter2@{server}")
    store, found = import_runs(source, propose(source, choose(source)))
    assert store.tasks == ["flowers"] and store.runs["learning_rate"].tolist() == [0.1]
    assert store.curves["valid_accuracy"].tolist() == [0.5, 0.6]
    assert store.runs["seconds"].tolist() == [2.0] and store.runs["state"].tolist() == ["complete"]
    assert all(told.startswith("Basic ") for _, told in Server.asked)
    store.save(tmp_path / "s")
    kept = [p.read_bytes() for p in (tmp_path / "s").iterdir()]
    assert not any(b"hunter2" in text for text in kept)
    assert "hunter2" not in "\n".join(found.lines())


def test_an_address_at_which_nobody_answers_is_told_without_the_password():
    with pytest.raises(BadInput, match=r"127\.0\.0\.1:9") as error:
        read_source("http://me:hunter2@127.0.0.1:9")
    assert "hunter2" not in str(error.value)
