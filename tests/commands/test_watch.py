"""`foretune watch` and `foretune compare`."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
import toy

from foretune.commands.cli import main
from foretune.commands.watch import newest
from foretune.errors import BadInput
from foretune.running.presence import Presence
from foretune.study.study import Step


def make(data, name, values=(), seed=0):
    """A study in a data folder that was told one trial."""
    study = toy.toy_study(data / "studies" / name, toy.toy_pool(20), 30, seed=seed)
    if values:
        study.tell(Step(4, 0, len(values)), values, elapsed=7.0)
    study.close()
    return study.folder


def test_the_study_at_work_is_shown_else_the_last_one(tmp_path):
    with pytest.raises(BadInput, match="no studies"):
        newest(tmp_path)
    first, second = make(tmp_path, "first", [0.1]), make(tmp_path, "second", [0.1])
    os.utime(first / "journal.jsonl", (1e9, 1e9))
    assert newest(tmp_path) == second
    with Presence(first) as presence:
        presence({})
        assert newest(tmp_path) == first


def test_the_printed_address_shows_the_page_until_ctrl_c(tmp_path):
    make(tmp_path, "cats", [0.25, 0.5])
    command = [sys.executable, "-u", "-m", "foretune", "watch", "cats", "--data", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        name, _, address = process.stdout.readline().strip().partition(": ")
        assert name == "study cats" and address.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert "<h1>cats</h1>" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_compare_prints_a_table_and_writes_a_page(tmp_path, capsys):
    make(tmp_path, "a", [0.1, 0.6])
    make(tmp_path, "b", [0.2, 0.4, 0.7], seed=1)
    page = tmp_path / "page.html"
    names = ["compare", "a", "b", "--data", str(tmp_path)]
    assert main([*names, "--out", str(page)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["study", "a", "b", "page:"]
    assert lines[1].split()[-1] == "2" and lines[2].split()[-1] == "3"  # epochs to 0.6
    assert "<h1>2 studies</h1>" in page.read_text(encoding="utf-8")
    assert main([*names, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["name"], r["value"], r["epochs"]) for r in rows] == [("a", 0.6, 2), ("b", 0.7, 3)]


@pytest.mark.parametrize(("names", "message"), [(["a", "a"], "twice"), (["a", "no"], "no study")])
def test_compare_refuses_in_one_line(tmp_path, capsys, names, message):
    make(tmp_path, "a", [0.1])
    assert main(["compare", *names, "--data", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
