"""A study whose journal lacks lines at its end, or is not the one of its tables: refused, and mended
by what the journal proves.
"""

import pytest
import toy

from foretune.commands.cli import main
from foretune.errors import BadInput
from foretune.history.meta_dataset import MetaDataset
from foretune.searchers.registry import searcher
from foretune.study.repair import repair
from foretune.study.study import Study


@pytest.fixture
def folder(tmp_path):
    """A study of two trials of nine epochs, with its tables: 20 lines and a note."""
    study = toy.toy_study(tmp_path / "a study", toy.toy_pool(3), 20)
    for k in (1, 2):
        study.tell(study.ask(searcher("random")), [0.1 * k + 0.01 * e for e in range(9)])
    study.save_tables()
    study.note(test=0.5)
    study.close()
    return study.folder


def cut(folder, lines):
    """Cut whole lines off the journal's end."""
    journal = folder / "journal.jsonl"
    whole = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(whole[: len(whole) - lines]))


WAYS = [Study.load, lambda folder: toy.toy_study(folder, toy.toy_pool(3), 20)]


@pytest.mark.parametrize("way", WAYS, ids=["read", "go on"])
@pytest.mark.parametrize("lines", [1, 2, 11, 21])
def test_lines_cut_off_the_end_are_missed_until_the_study_is_repaired(folder, way, lines):
    whole = (folder / "journal.jsonl").read_bytes()
    cut(folder, lines)
    with pytest.raises(BadInput, match=rf"journal.jsonl ends with line {21 - lines}, but 21 were"):
        way(folder)
    (folder / "journal.jsonl").write_bytes(whole)  # the first remedy: put it back
    way(folder).close()
    cut(folder, lines)
    done = repair(folder)
    # a note, then nine epochs and the step that asked for them, twice
    epochs = {1: 18, 2: 17, 11: 9, 21: 0}[lines]
    assert (done.kept, done.cut, done.missing) == (21 - lines, 0, lines)
    assert Study.load(folder).spent == epochs and repair(folder) is None
    assert (done.table is None) == (lines == 1)  # the tables hold no notes
    if epochs:
        assert len(MetaDataset.load(folder).rows) == epochs
    else:
        assert not (folder / "curves.parquet").exists()
    way(folder).close()


@pytest.mark.parametrize("way", WAYS, ids=["read", "go on"])
def test_tables_that_hold_more_than_the_journal_are_refused_without_its_end_too(folder, way):
    """As of a study from before the end was written down."""
    (folder / "journal.end").unlink()
    cut(folder, 3)
    with pytest.raises(
        BadInput, match=r"lacks 2 epochs that curves.parquet .* epoch 8 of .* lines of it are miss"
    ):
        way(folder)
    table = (folder / "curves.parquet").read_bytes()
    done = repair(folder)
    assert (done.kept, done.missing, done.table.name) == (18, 0, "curves.damaged-1.parquet")
    assert done.table.read_bytes() == table
    assert len(MetaDataset.load(folder).rows) == 16 and Study.load(folder).spent == 16


def test_tables_of_another_value_are_refused_and_made_anew(folder, tmp_path):
    other = toy.toy_study(tmp_path / "other", toy.toy_pool(3), 20)
    other.tell(other.ask(searcher("random")), [0.7] * 9)
    other.save_tables()
    (folder / "curves.parquet").write_bytes((tmp_path / "other" / "curves.parquet").read_bytes())
    with pytest.raises(BadInput, match=r"in epoch 1 is 0.1 in .*journal.jsonl, and 0.7 in curves"):
        Study.load(folder)
    assert repair(folder).table is not None
    assert MetaDataset.load(folder).best().max() == pytest.approx(0.28)


def test_tables_behind_the_journal_or_cut_short_are_none_of_its_faults(folder):
    study = toy.toy_study(folder, toy.toy_pool(3), 20)
    study.tell(study.ask(searcher("random")), [0.9])
    study.close()  # killed before it saved its tables
    assert Study.load(folder).spent == 19 and repair(folder) is None
    table = folder / "curves.parquet"
    table.write_bytes(table.read_bytes()[:100])
    assert Study.load(folder).spent == 19
    done = repair(folder)  # asked to, it makes them
    assert (done.kept, done.cut, done.missing) == (23, 0, 0) and done.table.stat().st_size == 100
    assert len(MetaDataset.load(folder).rows) == 19


def test_the_command_says_what_is_gone_in_a_form_that_a_shell_takes(folder, capsys):
    cut(folder, 3)
    with pytest.raises(BadInput, match=rf"doctor --repair '{folder}' goes by the 18"):
        Study.load(folder)
    assert main(["doctor", "--repair", str(folder)]) == 0
    assert capsys.readouterr().out == (
        f"{folder}/journal.jsonl: kept the first 18 lines, with 16 of 20 epochs; 3 that are missing "
        "behind them count no more; the tables are made anew; the older curves are in "
        f"{folder}/curves.damaged-1.parquet\n"
    )


def test_another_journal_counts_once_it_is_repaired(folder, tmp_path, capsys):
    other = toy.toy_study(tmp_path / "other", toy.toy_pool(3), 40)
    other.tell(other.ask(searcher("random")), [0.7] * 9)
    for _ in range(15):
        other.note(test=0.7)
    other.close()
    (folder / "journal.jsonl").write_bytes((tmp_path / "other" / "journal.jsonl").read_bytes())
    with pytest.raises(BadInput, match="line 21, is not the one that was written"):
        Study.load(folder)
    assert main(["doctor", "--repair", str(folder)]) == 0
    assert "kept all 25 lines, with 9 of 20 epochs; it counts as this" in capsys.readouterr().out
    assert Study.load(folder).incumbent[2] == 0.7


def test_a_journal_without_its_study_is_not_taken_for_a_new_one(folder):
    (folder / "study.json").unlink()
    with pytest.raises(BadInput, match="holds a journal, but no study.json"):
        toy.toy_study(folder, toy.toy_pool(3), 20)


@pytest.mark.parametrize("name", ["journal.jsonl", "study.json", "space.json"])
@pytest.mark.parametrize("way", [*WAYS, repair], ids=["read", "go on", "repair"])
def test_a_folder_in_the_place_of_a_file_is_named(folder, name, way):
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(BadInput, match=name):
        way(folder)


def test_a_missing_journal_is_not_repaired_into_an_empty_one(folder):
    (folder / "journal.jsonl").unlink()
    with pytest.raises(BadInput, match="journal.jsonl is missing"):
        repair(folder)


@pytest.mark.parametrize("place", [0, 1, 10, 21])
def test_empty_lines_of_an_editor_say_nothing(folder, place):
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:place], b"\n", b"  \r\n", *lines[place:]]))
    for way in WAYS:
        with way(folder) as study:
            assert study.spent == 18
    with Study.load(folder) as study:
        study.note(test=0.6)  # a line behind them
    assert Study.load(folder).plan.notes.to_json()["test"] == 0.6 and repair(folder) is None


@pytest.mark.parametrize(
    "mixed",
    [
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: lines[::-1],
        lambda lines: [*lines[:5], lines[4], *lines[5:]],
        lambda lines: [*lines[:5], lines[9], *lines[5:9], *lines[10:]],
        lambda lines: [*lines, *lines],
        lambda lines: [*lines[:7], b"{}\n", b"so not\n", *lines[7:]],
    ],
    ids=["swapped", "reversed", "doubled", "moved", "twice", "strange lines between"],
)
def test_lines_that_are_all_there_are_put_in_their_order(folder, mixed):
    """Numbers say which comes when, and each checksum goes on from the line before."""
    journal = folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(b"".join(mixed(whole.splitlines(keepends=True))))
    with pytest.raises(BadInput, match="is damaged"):
        Study.load(folder)
    done = repair(folder)
    assert done.kept == 21 and done.missing == 0 and done.journal is not None
    assert journal.read_bytes() == whole and Study.load(folder).spent == 18
    assert {p.name for p in folder.glob("journal*")} == {
        "journal.jsonl",
        "journal.end",
        "journal.damaged-1.jsonl",
    }


def test_a_changed_line_ends_what_is_proved_whatever_its_place(folder):
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[6] = lines[6].replace(b"0.1", b"0.2", 1)
    journal.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    assert repair(folder).kept == 6 and Study.load(folder).spent == 5
