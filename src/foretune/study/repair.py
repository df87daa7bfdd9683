"""Mending a study: what its journal proves is kept, and its tables are made from that."""

import json
from dataclasses import dataclass
from pathlib import Path

from foretune.errors import BadInput
from foretune.files import write_atomic
from foretune.study.journal import CutShort, Journal, journal_in
from foretune.study.lock import StudyLock
from foretune.study.study import Study
from foretune.study.tables import need_cells, refuse_beyond


@dataclass(frozen=True)
class Repair:
    """What was done to a study: the lines of its journal that were `kept`, `cut` off (damaged
    ones, and those behind them), and `missing` at its end before. `accepted`: a whole journal that
    is not the one that was written counts from now on. `journal` and `table` are the files as they
    were, where other ones took their places.
    """

    kept: int
    cut: int = 0
    missing: int = 0
    accepted: bool = False
    journal: Path | None = None
    table: Path | None = None


def repair(folder: Path | str) -> Repair | None:
    """Put the lines of a study's journal in the order of their numbers, cut it back to its longest
    part, from the first line on, that is whole, and take that for what was written; make its tables anew where they hold anything else, or cannot
    be read. What was there before stays beside it.

    None if nothing had to be done (a torn last line never counted). Raises `BadInput` if there is
    no study, if it lacks its journal, or if another process works on it.
    """
    folder = Path(folder)
    with StudyLock(folder):
        journal = journal_in(folder)
        path, written = journal.path, journal.written()
        kept, size, fault = provable(folder, journal)
        before = path.read_bytes()
        damaged = fault is not None and not isinstance(fault, CutShort)
        aside = set_aside(path, before) if damaged else None
        if damaged:
            content = before
            sorted_path = path.with_name("journal.sorted.jsonl")
            write_atomic(sorted_path, in_order(before))
            if (better := provable(folder, Journal(sorted_path)))[0] > kept:
                content, (kept, size, _) = sorted_path.read_bytes(), better
            sorted_path.unlink()
            write_atomic(path, content[:size])
        accept(path)
        table = remade_table(folder)
    cut = sum(bool(line.strip()) for line in before.split(b"\n")) - kept if damaged else 0
    missing = max(0, (written.line if written else 0) - kept - cut)
    accepted = isinstance(fault, CutShort) and not missing
    if fault is None and table is None:
        return None
    return Repair(kept, cut, missing, accepted, aside, table)


def provable(folder: Path, journal: Journal) -> tuple[int, int, BadInput | None]:
    """The lines of a study's unread journal that can have been written so, from the first one on,
    their bytes, and what is wrong with what follows.
    """
    study = Study.begun(folder)
    kept = size = 0
    try:
        for line, event in journal.read():
            study.replay(journal.path, line, event)
            kept, size = line, journal.size
    except BadInput as fault:
        return kept, size, fault
    return kept, size, None


def in_order(content: bytes) -> bytes:
    """The lines of a journal by their numbers, each once: a checksum goes on from that of the line
    before it, so that the order is proved as well. Lines without a number are left out.
    """
    lines: dict[int, bytes] = {}
    for line in content.split(b"\n"):
        try:
            number = json.loads(line)["n"]
        except (ValueError, LookupError, TypeError):
            continue
        if isinstance(number, int):
            lines.setdefault(number, line)
    return b"".join(lines[number] + b"\n" for number in sorted(lines))


def accept(path: Path) -> None:
    """Take a whole journal, as it is, for what was written."""
    journal = Journal(path)
    journal.end_path.unlink(missing_ok=True)
    for _ in journal.read():
        pass
    journal.mark_end()


def remade_table(folder: Path) -> Path | None:
    """Make a study's tables anew, if they hold what its journal does not, or cannot be read: where
    the older curves are now.
    """
    path = folder / "curves.parquet"
    if not path.is_file():
        return None
    before = path.read_bytes()
    study, journal = Study.begun(folder), journal_in(folder)
    for line, event in journal.read():
        study.replay(journal.path, line, event)
    metric = study.plan.metric
    try:
        refuse_beyond(need_cells(folder, metric), study.rows, metric, folder)
        return None
    except BadInput:
        aside = set_aside(path, before)
    study.save_tables()
    if not study.rows:
        path.unlink()
    return aside


def set_aside(path: Path, content: bytes) -> Path:
    """Write the content that a file had under a free name beside it."""
    k = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{k}{path.suffix}")).exists():
        k += 1
    write_atomic(aside, content)
    return aside
