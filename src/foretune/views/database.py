"""An SQLite database that is whole or not there, for whoever makes its tables in many steps."""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from filelock import FileLock

from foretune.files import replace

STILL = 5.0  # seconds without a change, after which nobody is making the tables any more
WAIT = 120.0  # seconds for another process to make the database
BESIDE = ("", "-wal", "-shm")  # SQLite's files of one database


def ensure_whole(path: Path, make: Callable[[Path], None], head: Callable[[], str]) -> None:
    """Have the database at `path` made, if there is none, or one without runs whose making was
    broken off, which is kept as `PATH.half-made`.

    `make(file)` makes the tables in an empty file beside it and closes it; `head()` is the version
    that a whole one carries in `alembic_version`. Raises sqlite3.Error for a file that is no
    database, and filelock.Timeout, an OSError, if another process does not end making it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not half_made(path, head):
        return
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=WAIT):
        if path.exists() and not (half_made(path, head) and still(path) and half_made(path, head)):
            return
        for left in path.parent.glob(f".{path.name}.*{path.suffix}*"):
            left.unlink()  # of a making that was killed
        with replace(path) as temporary:
            make(temporary)
            for end in BESIDE:
                old = path.with_name(path.name + end)
                if old.exists():
                    os.replace(old, path.with_name(f"{path.name}.half-made{end}"))


def half_made(path: Path, head: Callable[[], str]) -> bool:
    """Whether the database holds no run and is not of the version `head()`."""
    with closing(sqlite3.connect(path)) as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master")}
        for table in tables & {"runs", "registered_models"}:
            if database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                return False
        if "alembic_version" not in tables:
            return True
        found = database.execute("SELECT version_num FROM alembic_version").fetchall()
    return found != [(head(),)]


def still(path: Path) -> bool:
    """Whether the database does not change for `STILL` seconds: nobody is making it."""

    def seen() -> list[tuple[int, int] | None]:
        files = [path.with_name(path.name + end) for end in BESIDE[:2]]
        return [(f.stat().st_size, f.stat().st_mtime_ns) if f.exists() else None for f in files]

    before = seen()
    time.sleep(STILL)
    return seen() == before
