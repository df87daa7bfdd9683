"""A study's folder as a kill leaves it."""

from pathlib import Path


def as_killed(folder: Path, journal: bytes) -> None:
    """Give a study the journal that it had earlier, as if it had been killed then: what was written
    down of the journal's end, and the tables that its run's end made, are of later.
    """
    (folder / "journal.jsonl").write_bytes(journal)
    for later in ("journal.end", "curves.parquet"):
        (folder / later).unlink(missing_ok=True)
