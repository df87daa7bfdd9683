"""A team's run store, versioned by DVC: two clones that import different runs merge without a
conflict, through a remote.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from foretune.history.runs import RunStore
from foretune.stores.importing import import_runs
from foretune.stores.mapping import propose
from foretune.stores.metrics import choose
from foretune.stores.registry import read_source

QUIET = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.org",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "DVC_NO_ANALYTICS": "1",
}


def do(folder: Path, *command: str) -> str:
    """Run a command in a folder; its output."""
    words = [sys.executable, "-m", *command] if command[0] == "dvc" else list(command)
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, env={**os.environ, **QUIET}, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def bring(clone: Path, name: str, rates: tuple[float, ...]) -> None:
    """Import runs into the clone's store, as `foretune import` does, and share them."""
    table = clone.parent / f"{name}.csv"
    lines = [f"{name},{r},{0.5 + r},valid" for r in rates]
    table.write_text("\n".join(["dataset,lr,val_accuracy,note", *lines]), encoding="utf-8")
    source = read_source(str(table), "csv")
    part, _ = import_runs(source, propose(source, choose(source)))
    store = clone / "data" / "history" / "team"
    added = part.add_to(store)
    do(clone, "dvc", "add", "-q", str((store / added.part_name()).relative_to(clone)))
    do(clone, "git", "add", "data")
    do(clone, "git", "commit", "-qm", f"Runs on {name}")


@pytest.mark.slow
def test_two_clones_merge_without_conflict(tmp_path: Path) -> None:
    origin, remote = tmp_path / "origin.git", tmp_path / "remote"
    do(tmp_path, "git", "init", "-q", "--bare", "-b", "main", str(origin))
    first, second = tmp_path / "first" / "clone", tmp_path / "second" / "clone"
    first.parent.mkdir()
    second.parent.mkdir()
    do(tmp_path, "git", "clone", "-q", str(origin), str(first))
    do(first, "git", "checkout", "-qb", "main")
    do(first, "dvc", "init", "-q")
    do(first, "dvc", "config", "core.analytics", "false")
    do(first, "dvc", "remote", "add", "-q", "-d", "team", str(remote))
    # one line for all parts, so that no import changes it
    ignore = first / "data" / "history" / "team" / ".gitignore"
    ignore.parent.mkdir(parents=True)
    ignore.write_text("/*/\n", encoding="utf-8")
    do(first, "git", "add", ".")
    do(first, "git", "commit", "-qm", "A store of the team's runs")
    do(first, "git", "push", "-q", "origin", "main")
    do(tmp_path, "git", "clone", "-q", str(origin), str(second))
    bring(first, "roses", (0.1, 0.2))
    bring(second, "tulips", (0.01, 0.02, 0.03))
    do(first, "dvc", "push", "-q")
    do(first, "git", "push", "-q", "origin", "main")
    do(second, "git", "pull", "-q", "--no-rebase", "--no-edit", "origin", "main")  # no conflict
    do(second, "dvc", "pull", "-q")
    do(second, "dvc", "push", "-q")
    do(second, "git", "push", "-q", "origin", "main")
    do(first, "git", "pull", "-q", "--no-rebase", "--no-edit", "origin", "main")
    do(first, "dvc", "pull", "-q")
    for clone in (first, second):
        found = RunStore.load(clone / "data" / "history" / "team")
        assert found.tasks == ["roses", "tulips"] and len(found) == 5
        assert do(clone, "git", "status", "--porcelain") == ""
