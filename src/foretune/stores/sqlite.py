"""Reading other tools' SQLite files: read-only, never locked, never written, never code."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from foretune.errors import BadInput

MAGIC = b"SQLite format 3\x00"


def is_sqlite(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def tables(path: Path) -> set[str]:
    """Names of the tables in a database."""
    with connect(path) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}


@contextmanager
def connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A read-only connection.

    Raises `BadInput` where the file is no database or a query fails. A write-ahead log beside it is
    read too where the folder may be written to; elsewhere the file is taken as it stands.
    """
    if not is_sqlite(path):
        raise BadInput(f"{path} is no SQLite database")
    log = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.resolve().as_uri()}?mode=ro{'' if log else '&immutable=1'}"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            connection.text_factory = lambda raw: raw.decode("utf-8", errors="replace")
            yield connection
    except sqlite3.Error as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
