"""The fault campaign's own arithmetic: what it writes it reads, nothing bad is summed away, and a
wrong value in any record is seen.
"""

import json
import random
import sys
from pathlib import Path

import pytest

from foretune.errors import BadInput
from foretune.study.plan import Step
from foretune.study.study import Study

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    """The scripts' modules by name."""
    monkeypatch.syspath_prepend(str(BENCH))
    before = set(sys.modules)
    yield lambda name: __import__(name, fromlist=["x"])
    for name in set(sys.modules) - before:  # what other tests have imported stays theirs
        if name in ("faults", "victim", "toy") or name.split(".")[0] == "campaign":
            del sys.modules[name]


def test_lines_are_read_as_they_were_written_and_summed_by_kind(bench, tmp_path):
    counts = bench("campaign.counts")
    out = tmp_path / "reports" / "faults.csv"
    lines = [
        counts.Count("worker", 0, 0, kills=3, survived=3, epochs=216, repeated=1, allowed=6),
        counts.Count(
            "worker", 0, 1, kills=2, survived=0, trouble="TimeoutExpired: after\n300 s, it said"
        ),
        counts.Count("disk", 0, 0, kills=4, survived=4, epochs=216, lost=1, twice=2, missing=3),
        counts.Count("study", 0, 0, kills=100, survived=100, epochs=216),
    ]
    for line in lines:
        counts.append(out, line)
    found = counts.read(out)
    lines[1].trouble = "TimeoutExpired: after 300 s, it said"
    assert found == lines
    assert [line.bad for line in found] == [False, True, True, False]
    rows = counts.table(found, ["worker", "disk", "study"]).splitlines()[2:]
    # the rates: a share p of failures gives 2 or fewer of 5 with 5 % where p is 0.81
    assert rows == [
        "| worker | 5 | 3 | 2 | 216 | 1 | 6 | 0 | 0 | 0 | 0 | 0 | 81 % |",
        "| disk | 4 | 4 | 1 | 216 | 0 | 0 | 1 | 2 | 3 | 0 | 0 | 1e+02 % |",
        "| study | 100 | 100 | 1 | 216 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 3 % |",
        "| all | 109 | 107 | 4 | 648 | 1 | 6 | 1 | 2 | 3 | 0 | 0 | 11 % |",
    ]
    assert counts.read(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    "spoiled",
    [{"wrong": 1}, {"left": 1}, {"lost": 1}, {"twice": 1}, {"missing": 1}, {"repeated": 3}],
)
def test_whatever_is_spoiled_is_bad(bench, spoiled):
    counts = bench("campaign.counts")
    fine = {"kills": 1, "survived": 1, "repeated": 2, "allowed": 2}
    assert not counts.Count("worker", **fine).bad
    assert counts.Count("worker", **{**fine, **spoiled}).bad


@pytest.mark.parametrize(
    ("failures", "times"), [(0, 1), (0, 9), (0, 300), (1, 10), (3, 10), (10, 10)]
)
def test_the_rate_that_is_excluded_makes_what_was_seen_a_rarity(bench, failures, times):
    """By the binomial distribution itself: so few failures have a probability of 5 % there."""
    from math import comb

    rate = bench("campaign.counts").excluded(failures, times)
    seen = sum(comb(times, k) * rate**k * (1 - rate) ** (times - k) for k in range(failures + 1))
    assert seen == pytest.approx(1.0 if failures == times else 0.05)


def test_damage_is_always_seen_by_the_digest(bench, tmp_path):
    from foretune.training import checkpoints

    kinds, path = bench("campaign.kinds"), tmp_path / "trial.ckpt"
    for seed in range(20):
        checkpoints.save(path, {"rows": [{"epoch": 1}]})
        kinds.damage(path, random.Random(seed))
        assert checkpoints.load(path) is None


def test_every_kind_says_what_it_is(bench):
    kinds = bench("campaign.registry").KINDS
    assert len(kinds) >= 18
    assert [name for name, kind in kinds.items() if not kind.about] == []


@pytest.fixture
def records(bench, tmp_path):
    """A study of two trials, with what a campaign compares but for MLflow."""
    victim, records = bench("victim"), bench("campaign.records")
    folder = tmp_path / "study"
    with victim.study_in(folder) as study:
        lines = []
        for i in range(2):
            values = [0.1 * i + 0.01 * e for e in (1, 2, 3)]
            study.tell(Step(i, 0, 3), values)
            lines += [f"{i} {e} {v} {study.configs[i]['x']}" for e, v in enumerate(values, 1)]
        study.save_tables()
    (tmp_path / "executed").write_text("\n".join(lines) + "\n")

    def compared(study=None):
        study, found = study or victim.Study.load(folder), records.Findings()
        want = {(i, e) for i in range(2) for e in (1, 2, 3)}
        records.tables(study, folder, want, found)
        records.execution(study, records.executions(tmp_path / "executed"), want, found)
        return found

    return folder, tmp_path / "executed", compared


def test_records_that_agree_have_nothing_wrong(records):
    found = records[2]()
    assert (found.wrong, found.lost, found.twice, found.repeated) == ([], 0, 0, 0)


def test_a_wrong_value_in_the_tables_is_found(records):
    import pandas as pd

    folder, _, compared = records
    study = Study.load(folder)
    table = pd.read_parquet(folder / "curves.parquet")
    table.loc[3, "score"] += 0.001
    table.to_parquet(folder / "curves.parquet")
    assert len(compared(study).wrong) == 1
    with pytest.raises(BadInput, match="not of one study"):
        compared()  # reading the study refuses it


def test_a_value_that_nobody_executed_is_found(records):
    _, executed, compared = records
    lines = executed.read_text().splitlines()
    i, e, value, x = lines[4].split()
    executed.write_text("\n".join([*lines[:4], f"{i} {e} {float(value) + 0.001} {x}", *lines[5:]]))
    assert len(compared().wrong) == 1


def test_a_trial_that_was_executed_with_anothers_configuration_is_found(records):
    _, executed, compared = records
    executed.write_text(executed.read_text() + "0 1 0.01 0.987\n")
    found = compared()
    assert len(found.wrong) == 1 and found.repeated == 1


def test_what_is_gone_from_a_record_is_lost(records):
    _, executed, compared = records
    executed.write_text("\n".join(executed.read_text().splitlines()[1:]))
    assert compared().lost == 1


def test_a_told_value_that_changes_is_found(bench):
    records = bench("campaign.records")
    before = {(0, 1): 0.5, (0, 2): 0.6}
    assert records.changed(before, dict(before)) == (0, [])
    gone, other = records.changed(before, {(0, 1): 0.4})
    assert gone == 1 and len(other) == 1


def test_damaged_journals_are_refused_at_the_line_that_is_said(bench, tmp_path):
    """The campaign's own damage, against the journal's reader."""
    from foretune.errors import BadInput
    from foretune.study.journal import Journal, read_journal

    kinds, path = bench("campaign.kinds"), tmp_path / "journal.jsonl"
    Journal(path).append(
        [{"event": "epoch", "config_id": k, "row": {"epoch": 1}} for k in range(9)]
    )
    content, end = path.read_bytes(), path.with_suffix(".end").read_bytes()
    torn = 0
    for seed in range(200):
        line, spoiled = kinds.damaged(content, random.Random(seed))
        path.write_bytes(spoiled)
        path.with_suffix(".end").write_bytes(end)
        if line is None:
            path.with_suffix(".end").unlink()  # a kill came before the line counted
            torn += 1
            assert len(read_journal(path)) in (8, 9)
            continue
        with pytest.raises(
            BadInput, match=rf"line {line}, is dam|ends with line {line - 1}, but 9"
        ):
            read_journal(path)
    assert 0 < torn < 100
    assert json.loads(content.splitlines()[0])["n"] == 1


def test_the_weights_of_every_model_handed_over_are_read(bench, tmp_path):
    import torch

    real = bench("campaign.real")
    for name, value in (("best", 1.0), ("final", 2.0)):
        state = {"fc.weight": torch.full((2,), value)}
        torch.save({"state_dict": state, "classes": ["a", "b"]}, tmp_path / f"{name}.pt")
    assert real.weights(tmp_path) == {
        "best.pt fc.weight": torch.full((2,), 1.0).numpy().tobytes(),
        "final.pt fc.weight": torch.full((2,), 2.0).numpy().tobytes(),
    }
