"""The fault campaign's own arithmetic: what it writes it reads, and nothing bad is summed away."""

import random
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def faults(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCH))
    yield __import__("faults")
    for name in ("faults", "victim"):
        sys.modules.pop(name, None)


def test_lines_are_read_as_they_were_written_and_summed_by_kind(faults, tmp_path):
    out = tmp_path / "reports" / "faults.csv"
    lines = [
        faults.Count("worker", 0, 0, kills=3, survived=3, epochs=216, repeated=1),
        faults.Count(
            "worker", 0, 1, kills=2, survived=0, trouble="TimeoutExpired: after\n300 s, it said"
        ),
        faults.Count("disk", 0, 0, kills=4, survived=4, epochs=216, lost=1, twice=2, missing=3),
    ]
    for line in lines:
        faults.append(out, line)
    found = faults.read(out)
    lines[1].trouble = "TimeoutExpired: after 300 s, it said"
    assert found == lines
    assert [line.bad for line in found] == [False, True, True]
    rows = faults.table(found).splitlines()[2:]
    assert rows == [
        "| worker | 5 | 3 | 2 | 216 | 1 | 0 | 0 | 0 |",
        "| disk | 4 | 4 | 1 | 216 | 0 | 1 | 2 | 3 |",
        "| all | 9 | 7 | 3 | 432 | 1 | 1 | 2 | 3 |",
    ]
    assert faults.read(tmp_path / "none.csv") == []


def test_damage_is_always_seen_by_the_digest(faults, tmp_path):
    from foretune.training import checkpoints

    path = tmp_path / "trial.ckpt"
    for seed in range(20):
        checkpoints.save(path, {"rows": [{"epoch": 1}]})
        faults.damage(path, random.Random(seed))
        assert checkpoints.load(path) is None


def test_every_kind_is_told_in_the_scripts_head(faults):
    assert [kind for kind in faults.KINDS if f"| `{kind}` " not in faults.__doc__] == []
