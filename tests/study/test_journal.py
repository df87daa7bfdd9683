"""The journal: whole lines count, torn ones do not."""

import math

import numpy as np
import pytest

from foretune.study.journal import append, finite, read_journal

EVENTS = [{"event": "a", "x": 1}, {"event": "b", "y": [0.1, None]}, {"event": "c", "z": math.nan}]


def test_events_come_back_in_order_and_numpy_numbers_as_plain_ones(tmp_path):
    path = tmp_path / "j"
    assert read_journal(path) == []
    append(path, EVENTS[:1])
    append(
        path,
        [{"event": "n", "f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True)}, EVENTS[1]],
    )
    assert read_journal(path) == [EVENTS[0], {"event": "n", "f": 0.5, "i": 3, "b": True}, EVENTS[1]]


def test_every_truncation_keeps_exactly_the_whole_lines(tmp_path):
    path = tmp_path / "j"
    append(path, EVENTS)
    data = path.read_bytes()
    ends = [k for k in range(len(data)) if data[k : k + 1] == b"\n"]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = sum(cut >= end for end in ends)  # a line without its newline is whole too
        events = read_journal(path)
        assert [e["event"] for e in events] == ["a", "b", "c"][:whole]
        append(path, [{"event": "next"}])
        assert [e["event"] for e in read_journal(path)] == [*["a", "b", "c"][:whole], "next"]


def test_garbage_between_lines_is_passed_over(tmp_path):
    path = tmp_path / "j"
    path.write_bytes(b'{"event": "a"}\n\x00\xff\x00\n17\n"text"\n{"no": "event"}\n{"event": "b"}\n')
    assert [e["event"] for e in read_journal(path)] == ["a", "b"]


def test_nothing_is_written_of_what_json_cannot_hold(tmp_path):
    with pytest.raises((TypeError, ValueError)):
        append(tmp_path / "j", [{"event": "a"}, {"event": "b", "x": object()}])
    assert not (tmp_path / "j").exists()


def test_finite():
    assert finite(0.0) and not finite(None) and not finite(math.nan) and not finite(-math.inf)
