"""Results as scripts write them."""

import json
import math
import sqlite3
import struct

import pytest

from foretune.errors import BadInput
from foretune.running.scripts.results import BadResult, Curve, Gap, number, reader, source


def results(folder, read):
    """All results of a source."""
    return reader(source(read), folder).results()


def told(pairs, **state):
    """Epochs that a curve makes of (key, value) texts."""
    return Curve([], [], **state).take([(k, v) for k, v in pairs])


# -- where they are


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("results.csv", "must be FILE:COLUMN"),
        ("results.xlsx:acc", "is none of .csv"),
        ("/tmp/results.csv:acc", "must lie in the trial's folder"),
        ("../results.csv:acc", "must lie in the trial's folder"),
        ("stdout:acc=[0-9]+", "has no group"),
        ("stdout:acc=(", "is no regular expression"),
        ("stdout:(?P<epoch>[0-9]+)", "has no group for the value"),
    ],
)
def test_what_is_no_source_is_refused(text, line):
    with pytest.raises(BadInput, match=line):
        source(text)


def test_a_metric_has_the_name_of_its_column_or_the_word_before_its_group():
    assert source("{trial_folder}/a/results.csv:metrics/top1").metric == "metrics/top1"
    assert source("{trial_folder}/a/results.csv:x").pattern == "a/results.csv"
    assert source("stdout:acc=([0-9.]+)").metric == "acc"
    assert source(r"stdout:epoch (?P<epoch>\d+).*top-1: (?P<value>\S+)").metric == "top-1"
    assert source(r"stdout:([0-9.]+) %").metric == "value"


# -- tables


def test_csv_with_blanks_gaps_and_a_header_that_comes_again(tmp_path):
    """As Ultralytics pads, Lightning leaves cells empty, and timm begins anew when it resumes."""
    (tmp_path / "log.csv").write_text(
        "epoch,   loss,  acc\n0, 1.5,\n0,,0.25\n1,,0.5\nepoch,lr,acc\n2,0.1,0.75\n3,0.1,0.8",
        encoding="utf-8",
    )
    found = results(tmp_path, "log.csv:acc")
    assert found == [("0", "0.25"), ("1", "0.5"), ("2", "0.75")]  # the last line is not whole
    assert told(found) == [(1, 0.25), (2, 0.5), (3, 0.75)]


def test_files_that_match_are_read_in_natural_order(tmp_path):
    for k in (10, 9):
        (tmp_path / f"version_{k}").mkdir()
        text = f"step,acc\n{k},{k / 100}\n"
        (tmp_path / f"version_{k}" / "metrics.csv").write_text(text, encoding="utf-8")
    assert results(tmp_path, "**/metrics.csv:acc") == [("9", "0.09"), ("10", "0.1")]


def test_json_lines_objects_and_log_history(tmp_path):
    lines = [
        '{"epoch": 1, "eval": {"acc": 0.5}}',
        "not json",
        '{"epoch": 2, "eval": {"acc": null}}',
    ]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"epo']), encoding="utf-8")
    assert results(tmp_path, "log.jsonl:eval.acc") == [("1", "0.5"), ("2", "nan")]
    history = [{"epoch": 0.5, "loss": 2}, {"epoch": 1.0, "eval_accuracy": 0.25, "step": 7}]
    (tmp_path / "state.json").write_text(json.dumps({"log_history": history}), encoding="utf-8")
    assert results(tmp_path, "state.json:eval_accuracy") == [("1.0", "0.25")]


def test_nothing_is_read_again_where_nothing_changed(tmp_path):
    read = reader(source("a.csv:acc"), tmp_path)
    assert read.results() in ([], None)
    (tmp_path / "a.csv").write_text("epoch,acc\n1,0.5\n", encoding="utf-8")
    assert read.results(last=True) == [("1", "0.5")]
    assert read.results(last=True) is None


def test_mlflows_database_is_read_without_mlflow(tmp_path):
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute(
            "create table metrics (key text, value real, timestamp int, run_uuid text, step int, "
            "is_nan bool)"
        )
        rows = [("acc", 0.5, 1, "r", 0, False), ("loss", 9, 1, "r", 0, False)]
        rows += [("acc", 0, 2, "r", 1, True)]
        database.executemany("insert into metrics values (?, ?, ?, ?, ?, ?)", rows)
    database.close()
    assert results(tmp_path, "mlflow:acc") == [("0", "0.5"), ("1", "nan")]


def test_event_files_as_tensorboards_own_writer_makes_them(tmp_path):
    summary = pytest.importorskip("tensorboard.compat.proto.summary_pb2")
    event = pytest.importorskip("tensorboard.compat.proto.event_pb2")
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path))
    for step, value in ((0, 0.25), (1, 0.5)):
        values = [
            summary.Summary.Value(tag="val/acc", simple_value=value),
            summary.Summary.Value(tag="val/loss", simple_value=9),
        ]
        writer.add_event(event.Event(step=step, summary=summary.Summary(value=values)))
    writer.close()
    assert results(tmp_path, "tensorboard:val/acc") == [("0", "0.25"), ("1", "0.5")]


def record(content):
    """A record of an event file; its checks are not looked at."""
    return struct.pack("<Q", len(content)) + b"crc1" + content + b"crc2"


def event_bytes(step, tag, value):
    """An event by the rules of protocol buffers: fields are (number << 3 | wire type), content."""
    one = b"\x0a" + bytes([len(tag)]) + tag.encode() + b"\x15" + struct.pack("<f", value)
    summary = b"\x0a" + bytes([len(one)]) + one
    return (
        b"\x09"
        + struct.pack("<d", 1.0)
        + b"\x10"
        + step
        + b"\x2a"
        + bytes([len(summary)])
        + summary
    )


def test_event_files_by_their_format(tmp_path):
    content = record(event_bytes(b"\x03", "acc", 0.5))
    content += record(event_bytes(b"\xac\x02", "acc", 0.75))  # 300 takes two bytes
    content += record(event_bytes(b"\x05", "loss", 1.0))
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "events.out.tfevents.1.host"
    path.write_bytes(content + record(event_bytes(b"\x06", "acc", 1.0))[:-9])
    assert results(tmp_path, "tensorboard:acc") == [("3", "0.5"), ("300", "0.75")]


# -- as epochs


def test_results_are_epochs_in_the_order_of_what_the_script_counts():
    assert told([("49", "1"), ("99", "2"), ("149", "3")]) == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert told([(None, "1"), (None, "2")]) == [(1, 1.0), (2, 2.0)]


def test_a_result_that_comes_twice_counts_once():
    assert told([("1", "0.5"), ("1", "0.6"), ("2", "0.7")]) == [(1, 0.5), (2, 0.7)]


def test_a_continued_run_tells_what_is_new_from_a_file_that_grows_or_is_written_anew():
    grown = Curve([0.0, 1.0], [0.1, 0.2], told=2, before=[("0", "0.1"), ("1", "0.2")])
    assert grown.take([("0", "0.1"), ("1", "0.2"), ("2", "0.3")]) == [(3, 0.3)]
    anew = Curve([0.0, 1.0], [0.1, 0.2], told=2, before=[("0", "0.1"), ("1", "0.2")])
    assert anew.take([("2", "0.3")]) == [(3, 0.3)]


def test_an_epoch_beyond_the_last_step_counts_unless_it_is_trained_again():
    """The script had reported epoch 3 before it was stopped, where 2 were asked for."""
    kept = Curve([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], told=2)
    assert kept.take([("4", "0.4")]) == [(3, 0.3), (4, 0.4)]
    again = Curve([1.0, 2.0, 3.0], [0.1, 0.2, 0.3], told=2)
    assert again.take([("3", "0.35"), ("4", "0.4")]) == [(3, 0.35), (4, 0.4)]


@pytest.mark.parametrize(("keys", "after"), [([1.0], "3"), ([0.0], "2"), ([50.0, 100.0], "200")])
def test_a_continued_run_that_left_an_epoch_out_is_found(keys, after):
    with pytest.raises(Gap):
        Curve(keys, [0.0] * len(keys), told=len(keys)).take([(after, "0.5")])


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.5", 0.5), (" 81.2 %", 81.2), ("tensor(0.25, device='cuda:0')", 0.25), ("1e-3", 0.001)],
)
def test_numbers_as_scripts_write_them(text, value):
    assert number(text, "result") == value


def test_what_is_no_number():
    assert math.isnan(number("inf", "result"))
    with pytest.raises(BadResult, match="'high' is no number"):
        number("high", "result")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", "epoch;acc\n1;0,91\n2;0,93\n"),
        ("r.csv", "epoch;acc\n1;0.91\n2;0.93\n"),
        ("r.csv", 'epoch,acc\n1,"0,91"\n2,"0,93"\n'),
        ("r.tsv", "epoch\tacc\n1\t0,91\n2\t0,93\n"),
    ],
)
def test_tables_of_other_locales_are_read_as_they_mean(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = reader(source(f"{name}:acc"), tmp_path).results(last=True)
    assert Curve([], [], told=0).take(found) == [(1, 0.91), (2, 0.93)]


@pytest.mark.parametrize("expression", [r"acc=([0-9.]+)", r"epoch (?P<epoch>\d+).*acc=([0-9.]+)"])
def test_of_a_progress_bar_what_is_left_standing_counts(tmp_path, expression):
    printed = reader(source(f"stdout:{expression}"), tmp_path)
    values = [0.0, 0.4, 0.9]
    printed.printed([f"epoch 1 {k:3d}% acc={v}\r" for k, v in enumerate(values)])
    assert printed.results() is None  # it may be printed over yet
    printed.printed(["epoch 1 100% acc=0.91"])
    printed.printed(["epoch 2 0% acc=0.2\r", "epoch 2 100% acc=0.95\r", "", "saved"])
    printed.printed(["epoch 3 100% acc=0.3\r", "            \r", "done"])  # cleared
    assert [value for _, value in printed.results() or []] == ["0.91", "0.95"]
    printed.printed(["epoch 4 acc=0.1\r", "epoch 4 acc=0.97\r"])
    printed.ended()
    assert [value for _, value in printed.results() or []] == ["0.91", "0.95", "0.97"]


def test_a_bar_that_goes_on_over_epochs_says_them(tmp_path):
    printed = reader(source(r"stdout:epoch (?P<epoch>\d+).*acc=(?P<value>[0-9.]+)"), tmp_path)
    printed.printed([f"epoch {e} {k}% acc={e * k / 1000}\r" for e in (1, 2) for k in (0, 50, 100)])
    assert printed.results() == [("1", "0.1")]
    printed.ended()
    assert printed.results() == [("1", "0.1"), ("2", "0.2")]


def test_what_is_there_instead_is_named(tmp_path):
    log = reader(source("log.jsonl:val_acc"), tmp_path)
    assert "does the script write to {trial_folder}?" in log.missing()
    lines = ['{"epoch": 1, "val_acc": 0.5}', '{"epoch": 2, "eval": {"acc": 0.6, "loss": 1}}', "7"]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert log.missing() == "log.jsonl has the keys epoch, val_acc, eval.acc, eval.loss"


def test_a_number_that_the_comma_cuts_in_two_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("epoch,acc\n1,0,91\n", encoding="utf-8")
    with pytest.raises(BadResult, match="a row of r.csv has 3 cells for 2 columns: where cells"):
        reader(source("r.csv:acc"), tmp_path).results(last=True)
    printed = reader(source("stdout:acc=([0-9.]+)"), tmp_path)
    with pytest.raises(BadResult, match="finds '0' in '0,91': let it find commas too"):
        printed.printed(["acc=0,91 loss=0,3"])
    printed.printed(["acc=0.91,0.93", "acc=3, loss=2"])
    assert printed.results() == [(None, "0.91"), (None, "3")]
    with_commas = reader(source("stdout:acc=([0-9.,]+)"), tmp_path)
    with_commas.printed(["acc=0,91 loss=0,3"])
    assert Curve([], [], told=0).take(with_commas.results()) == [(1, 0.91)]
