"""The folder of a trial that somebody else's code trains.

| name             | what it is                                                                     |
|------------------|--------------------------------------------------------------------------------|
| `files/`         | the code's own: what `{trial_folder}` and `trial.folder` name                   |
| `log.txt`        | what it printed, bounded                                                       |
| `state.json`     | results so far, and which checkpoint the next step goes on from                |
| `last*`, `best*` | copies of its checkpoint, after the last step and after the best epoch         |
| `lock`           | held as long as a process of the trial may live                                |
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Signature = tuple[int, int]  # newest change (ns) and bytes


@dataclass(frozen=True)
class TrialFolder:
    """The folder of trial `config_id` below `root`."""

    root: Path
    config_id: int

    @property
    def path(self) -> Path:
        """The folder."""
        return self.root / f"trial-{self.config_id}"

    @property
    def files(self) -> Path:
        """What belongs to the code that trains."""
        return self.path / "files"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """Held as long as a process of the trial may live."""
        return self.path / "lock"

    def make(self) -> None:
        """Make the folder where it is not there."""
        self.files.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Make the folder anew, without what an earlier run left but its log."""
        remove(self.files)
        for kept in (self.copy("last"), self.copy("best"), self.path / "state.json"):
            if kept is not None:
                remove(kept)
        self.make()

    def state(self) -> dict[str, Any]:
        """What was noted last; empty where nothing was, or a machine's crash cut it."""
        try:
            found = json.loads((self.path / "state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def note(self, **facts: Any) -> None:
        """Change facts of the state, by rename."""
        temporary = self.path / f".state.{os.getpid()}"
        temporary.write_text(json.dumps({**self.state(), **facts}), encoding="utf-8")
        os.replace(temporary, self.path / "state.json")

    def copy(self, name: str) -> Path | None:
        """The copy of a checkpoint, `last` or `best`; None where there is none."""
        return next((p for p in self.path.glob(f"{name}*") if not p.name.startswith(".")), None)

    def keep(self, name: str, source: Path) -> bool:
        """Copy a checkpoint to `last` or `best`; False where it changed meanwhile, or is gone: then
        the copy before stays.
        """
        target = self.path / f"{name}{''.join(source.suffixes[-2:])}"
        temporary = self.path / f".{target.name}.{os.getpid()}"
        remove(temporary)
        before = signature(source)
        try:
            if source.is_dir():
                shutil.copytree(source, temporary)
            else:
                shutil.copy2(source, temporary)
        except (FileNotFoundError, shutil.Error):
            remove(temporary)
            return False
        if before is None or signature(source) != before:
            remove(temporary)
            return False
        if (old := self.copy(name)) is not None:
            remove(old)
        os.replace(temporary, target)
        return True


def forget(trial: TrialFolder, pattern: str | None) -> None:
    """Delete the checkpoints of a trial that no step can need: our copies, and its own files of
    `pattern`.
    """
    own = list(trial.files.glob(pattern)) if pattern else []
    for one in (*own, trial.copy("last"), trial.copy("best")):
        if one is not None:
            remove(one)


def remove(path: Path) -> None:
    """Delete a file, or a folder with all in it; nothing where it is not there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def newest(folder: Path, pattern: str) -> Path | None:
    """The file or folder of this pattern that changed last; None where there is none."""
    found = [(signed[0], path) for path in folder.glob(pattern) if (signed := signature(path))]
    return max(found, key=lambda one: (one[0], str(one[1])))[1] if found else None


def signature(path: Path) -> Signature | None:
    """When a file, or the newest in a folder, changed, and bytes in all; None where there is
    none.
    """
    try:
        inside = [path, *path.rglob("*")] if path.is_dir() else [path]
        known = [one.stat() for one in inside]
    except OSError:
        return None
    return max(k.st_mtime_ns for k in known), sum(k.st_size for k in known)
