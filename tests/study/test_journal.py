"""The journal: whole lines count, a torn last one does not, and no other fault passes unnoticed."""

import json
import math
import zlib

import numpy as np
import pytest

from foretune.errors import BadInput
from foretune.study.journal import CutShort, Journal, finite, read_journal

EVENTS = [{"event": "a", "x": 1}, {"event": "b", "y": [0.1, None]}, {"event": "c", "z": math.nan}]


def append(path, events):
    """Read a journal, and append to it."""
    journal = Journal(path)
    list(journal.read())
    journal.append(events)


def names(path):
    """What happened, as the journal has it."""
    return [event["event"] for event in read_journal(path)]


@pytest.fixture
def sixty(tmp_path):
    """A journal of 60 lines, of several writes."""
    path = tmp_path / "j"
    for k in range(20):
        append(path, [{"event": "e", "k": 3 * k + j, "text": "ü\n"} for j in range(3)])
    return path


def test_events_come_back_in_order_and_numpy_numbers_as_plain_ones(tmp_path):
    path = tmp_path / "j"
    assert read_journal(path) == []
    append(path, EVENTS[:1])
    append(
        path,
        [{"event": "x", "f": np.float32(0.5), "i": np.int64(3), "b": np.bool_(True)}, EVENTS[1]],
    )
    assert read_journal(path) == [EVENTS[0], {"event": "x", "f": 0.5, "i": 3, "b": True}, EVENTS[1]]


def test_a_line_carries_its_number_and_the_checksum_of_all_up_to_it(tmp_path):
    append(tmp_path / "j", [{"event": "a"}, {"event": "b"}])
    one, two = b'{"event": "a", "n": 1', b'{"event": "b", "n": 2'
    want = b'%b, "crc": "%08x"}\n%b, "crc": "%08x"}\n' % (
        one,
        zlib.crc32(one),
        two,
        zlib.crc32(one + two),
    )
    assert (tmp_path / "j").read_bytes() == want


def test_every_truncation_keeps_exactly_the_whole_lines(tmp_path):
    path = tmp_path / "j"
    append(path, EVENTS)
    data = path.read_bytes()
    ends = [k for k in range(len(data)) if data[k : k + 1] == b"\n"]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        path.with_suffix(".end").unlink(missing_ok=True)  # killed before it was written
        whole = sum(cut >= end for end in ends)  # a line without its newline is whole too
        assert names(path) == ["a", "b", "c"][:whole]
        append(path, [{"event": "next"}])
        assert names(path) == [*["a", "b", "c"][:whole], "next"]
        assert len(path.read_bytes().splitlines()) == whole + 1  # no torn line is left within


@pytest.mark.parametrize("bit", [0x01, 0x20, 0x80])
def test_a_flipped_bit_in_any_line_is_refused_with_its_number(sixty, bit):
    lines = sixty.read_bytes().splitlines(keepends=True)
    rng = np.random.default_rng(bit)
    for k, line in enumerate(lines):
        where = int(rng.integers(len(line) - 1))
        bad = line[:where] + bytes([line[where] ^ bit]) + line[where + 1 :]
        sixty.write_bytes(b"".join([*lines[:k], bad, *lines[k + 1 :]]))
        # a line that is split in two is two lines, and a last one may end before its newline
        with pytest.raises(BadInput, match=rf"j, line {k + 1}, .*doctor --repair .*the {k} before"):
            read_journal(sixty)


def test_every_byte_of_a_line_counts(sixty):
    data = sixty.read_bytes()
    lines = data.splitlines(keepends=True)
    begin = sum(map(len, lines[:30]))
    for where in range(begin, begin + len(lines[30])):  # with its newline
        sixty.write_bytes(data[:where] + bytes([data[where] ^ 0x02]) + data[where + 1 :])
        with pytest.raises(BadInput, match="line 31"):
            read_journal(sixty)


def test_a_last_line_without_its_newline_is_torn_unless_it_is_whole(sixty):
    data = sixty.read_bytes()
    sixty.with_suffix(".end").unlink()  # the kill came before the line counted
    sixty.write_bytes(data[:-1] + b"\x0b")
    assert len(read_journal(sixty)) == 59
    sixty.write_bytes(data[:-1])
    assert len(read_journal(sixty)) == 60


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: lines[:10] + lines[11:], 11),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:11], lines[10], *lines[11:]], 12),
        (lambda lines: [*lines, lines[-1]], 61),
        (lambda lines: [*lines[:10], lines[11], lines[10], *lines[12:]], 11),
        (lambda lines: [*lines[:10], b"\n", *lines[10:]], 11),
        (lambda lines: [*lines[:10], b"\0\xff\0\n", *lines[10:]], 11),
        (lambda lines: [*lines[:10], b'{"event": "e"}\n', *lines[10:]], 11),
        (lambda lines: [*lines[:10], lines[10][:20] + b"\n", *lines[11:]], 11),
    ],
    ids=[
        "missing",
        "first",
        "doubled",
        "last-doubled",
        "swapped",
        "empty",
        "garbage",
        "unnumbered",
        "torn-within",
    ],
)
def test_lines_that_are_not_as_they_were_written_are_refused(sixty, change, line):
    lines = sixty.read_bytes().splitlines(keepends=True)
    sixty.write_bytes(b"".join(change(lines)))
    with pytest.raises(BadInput, match=f"line {line}, is damaged"):
        read_journal(sixty)


def test_a_line_of_another_journal_with_the_right_number_is_refused(tmp_path, sixty):
    other = tmp_path / "other"
    append(other, [{"event": "e", "k": 100 + k} for k in range(60)])
    lines, others = (path.read_bytes().splitlines(keepends=True) for path in (sixty, other))
    sixty.write_bytes(b"".join([*lines[:30], others[30], *lines[31:]]))
    with pytest.raises(BadInput, match="line 31, is damaged: its checksum"):
        read_journal(sixty)


def old_lines(count):
    """Lines as they were before they had numbers."""
    return [json.dumps({"event": "e", "k": k, "deep": {"x": 1.5}}) + "\n" for k in range(count)]


def test_a_journal_from_before_lines_had_numbers_is_read_and_goes_on_with_numbers(tmp_path):
    path = tmp_path / "j"
    path.write_text("".join(old_lines(3)))
    append(path, [{"event": "f"}])
    assert names(path) == ["e", "e", "e", "f"]
    assert json.loads(path.read_text().splitlines()[-1])["n"] == 4
    # its checksum covers the old lines too
    path.write_text(path.read_text().replace('"k": 1', '"k": 7'))
    with pytest.raises(BadInput, match="line 4"):
        read_journal(path)


def test_an_old_journal_may_hold_lines_that_a_kill_tore_and_the_next_write_closed(tmp_path):
    path, lines = tmp_path / "j", old_lines(3)
    for cut in range(1, len(lines[1]) - 1):
        path.write_text(lines[0] + lines[1][:cut] + "\n" + lines[2])
        assert [event["k"] for event in read_journal(path)] == [0, 2]


@pytest.mark.parametrize("line", ["", "17", '"text"', '{"no": "event"}', '{"event": "e" "k": 1}'])
def test_other_faults_of_an_old_journal_are_refused(tmp_path, line):
    path, lines = tmp_path / "j", old_lines(2)
    path.write_text(lines[0] + line + "\n" + lines[1])
    with pytest.raises(BadInput, match="line 2, is damaged"):
        read_journal(path)


def test_two_writers_cannot_mix_their_lines(tmp_path):
    one, two = Journal(tmp_path / "j"), Journal(tmp_path / "j")
    one.append(EVENTS[:1])
    assert one.current and not two.current
    with pytest.raises(BadInput, match="written to by somebody else"):
        two.append(EVENTS[1:])
    assert names(tmp_path / "j") == ["a"]


def test_what_a_full_disk_cut_off_does_not_count_and_is_gone_with_the_next_write(
    tmp_path, monkeypatch
):
    path = tmp_path / "j"
    journal = Journal(path)
    journal.append(EVENTS[:1])

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            journal.append(EVENTS[1:])
    journal.append([{"event": "next"}])
    assert names(path) == ["a", "next"]


def test_nothing_is_written_of_what_json_cannot_hold(tmp_path):
    with pytest.raises((TypeError, ValueError)):
        append(tmp_path / "j", [{"event": "a"}, {"event": "b", "x": object()}])
    assert not (tmp_path / "j").exists()


def test_finite():
    assert finite(0.0) and not finite(None) and not finite(math.nan) and not finite(-math.inf)


def test_a_second_read_yields_what_was_written_since(tmp_path):
    """A reader that follows a writer sees each event once, and a line only when it is whole."""
    path, reader = tmp_path / "j", Journal(tmp_path / "j")
    assert list(reader.read()) == []
    append(path, EVENTS[:2])
    assert [(n, e["event"]) for n, e in reader.read()] == [(1, "a"), (2, "b")]
    assert list(reader.read()) == []
    end = path.with_suffix(".end").read_bytes()
    append(path, EVENTS[2:])
    whole = path.read_bytes()
    path.with_suffix(".end").write_bytes(end)  # it follows the line
    start = whole.rindex(b'{"event": "c"')
    for cut in (start + 5, len(whole) - 2):  # the writer is in the middle of a line
        path.write_bytes(whole[:cut])
        assert list(reader.read()) == []
    path.write_bytes(whole[:-1])  # all but its newline: it counts
    assert [(n, e["event"]) for n, e in reader.read()] == [(3, "c")]
    path.write_bytes(whole)
    assert list(reader.read()) == []
    append(path, EVENTS[:1])
    assert [(n, e["event"]) for n, e in reader.read()] == [(4, "a")]
    reader.append(EVENTS[1:2])
    assert names(path) == ["a", "b", "c", "a", "b"]


def test_a_journal_that_was_cut_back_is_not_followed(tmp_path):
    path, reader = tmp_path / "j", Journal(tmp_path / "j")
    append(path, EVENTS)
    assert len(list(reader.read())) == 3
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadInput, match="shorter than when it was read"):
        list(reader.read())


@pytest.mark.parametrize("lost", [1, 2, 20, 60])
def test_whole_lines_that_are_cut_off_the_end_are_missed(sixty, lost):
    lines = sixty.read_bytes().splitlines(keepends=True)
    sixty.write_bytes(b"".join(lines[: 60 - lost]))
    count = "line 60 is" if lost == 1 else f"lines {61 - lost} to 60 are"
    with pytest.raises(CutShort, match=f"j ends with line {60 - lost}, but 60 .*: {count} missing"):
        read_journal(sixty)


def test_a_torn_last_line_is_missed_if_it_had_counted(sixty):
    lines = sixty.read_bytes().splitlines(keepends=True)
    sixty.write_bytes(b"".join(lines[:59]) + lines[59][:30])
    with pytest.raises(CutShort, match="line 60 is missing"):
        read_journal(sixty)
    sixty.write_bytes(b"".join(lines[:58]) + lines[58][:30])
    with pytest.raises(CutShort, match="lines 59 to 60 are missing"):
        read_journal(sixty)
    sixty.with_suffix(".end").unlink()
    assert len(read_journal(sixty)) == 58


def test_another_whole_journal_in_its_place_is_refused(tmp_path, sixty):
    append(tmp_path / "other", [{"event": "e", "k": 100 + k} for k in range(70)])
    sixty.write_bytes((tmp_path / "other").read_bytes())
    with pytest.raises(CutShort, match="line 60, is not the one that was written: this is another"):
        read_journal(sixty)


def test_the_end_is_written_after_each_write_and_an_older_one_holds(sixty):
    journal, end = Journal(sixty), sixty.with_suffix(".end")
    (*_, last) = sixty.read_bytes().splitlines()
    assert journal.written() == (60, int(json.loads(last)["crc"], 16))
    before = end.read_bytes()
    append(sixty, EVENTS)
    assert journal.written().line == 63 and len(end.read_bytes()) == len(before)
    end.write_bytes(before)  # a power cut came before the newer one was on the disk
    assert len(read_journal(sixty)) == 63


@pytest.mark.parametrize("spoiled", [b"", b"\0" * 62, None, b"not\xff what was written"])
def test_an_end_that_cannot_be_read_says_nothing_and_is_written_anew(sixty, spoiled):
    end = sixty.with_suffix(".end")
    whole = end.read_bytes()
    end.write_bytes(whole.replace(b"60", b"61") if spoiled is None else spoiled)
    assert len(read_journal(sixty)) == 60
    append(sixty, EVENTS)
    assert Journal(sixty).written().line == 63


def test_an_end_that_cannot_be_written_stops_nothing(sixty):
    end = sixty.with_suffix(".end")
    end.unlink()
    end.mkdir()
    append(sixty, EVENTS)
    assert len(read_journal(sixty)) == 63


def test_a_reader_beside_a_writer_misses_nothing(tmp_path):
    """The end is read before the file: what is written between the two is no fault."""
    path, reader = tmp_path / "j", Journal(tmp_path / "j")
    append(path, EVENTS)
    events = reader.read()
    assert next(events)[0] == 1
    append(path, EVENTS)
    assert [n for n, _ in events] == [2, 3]
    assert [n for n, _ in reader.read()] == [4, 5, 6]


def test_a_folder_in_its_place_is_refused(tmp_path):
    (tmp_path / "j").mkdir()
    with pytest.raises(BadInput, match="j cannot be read: Is a directory"):
        read_journal(tmp_path / "j")


def test_other_line_ends_and_a_byte_order_mark_say_nothing_else(sixty):
    """As git or an editor leaves a file; what stands in a line is still held by its checksum."""
    before = read_journal(sixty)
    data = sixty.read_bytes()
    sixty.write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    assert read_journal(sixty) == before
    sixty.write_bytes(data.replace(b"\n", b"\r\n").replace(b'"n": 30', b'"n": 31'))
    with pytest.raises(BadInput, match="line 30, is damaged"):
        read_journal(sixty)
