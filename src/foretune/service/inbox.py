"""The inbox: datasets dropped into a folder to be tuned, each once, whatever is killed.

| path below `data/inbox` | holds                                                                  |
|-------------------------|------------------------------------------------------------------------|
| `NAME/`, `NAME.zip`     | dropped: a folder of class folders, or an archive of one; taken when   |
|                         | its copy has ended (below)                                             |
| `NAME/foretune.yaml`    | its own settings, beside the class folders, in an archive too; they    |
|                         | come before those of the watch                                         |
| `NAME/READY`,           | the copy has ended: taken at once                                      |
| `NAME.zip.READY`        |                                                                        |
| `.work/ID/`             | taken: what was dropped, and `.job.json`, what is to be done with it   |
| `done/ID/`, `ID.txt`    | the same, tuned, and where the results are                             |
| `failed/ID/`, `ID.txt`  | the same, set aside, and why                                           |

A dataset changes its state by one rename, so that after a kill it is in exactly one of these
places, and the next watch goes on from there. `ID` is NAME in plain characters, numbered where
there has been one of that name; it names the study too.
"""

import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.files import write_atomic, write_json
from foretune.service.unpacking import LIMITS, SUFFIXES, Limits, is_archive, stem, unpack

WORK, DONE, FAILED = ".work", "done", "failed"
SETTINGS, READY = "foretune.yaml", "READY"
LONGEST = 30.0  # times `quiet`: without a change for that long, any copy has ended
# hidden names are never taken, so that no dataset can have one
JOB, UNPACKED = ".job.json", ".unpacked"
TRIES = 4  # starts in a row that get nowhere, before a dataset is taken for the reason
# names of copies under way
UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".tmp", ".filepart", ".swp")
DEEPEST = 8  # folders in folders around the class folders of an archive


@dataclass(frozen=True)
class Job:
    """A dataset that was taken.

    Its folder in `.work`, the name that was dropped, what was asked for, starts in a row without
    progress.
    """

    folder: Path
    name: str
    request: Mapping[str, Any] = field(default_factory=dict)
    tries: int = 0
    spent: int = 0  # epochs at the last start: more of them is progress

    @property
    def id(self) -> str:
        """The study's name."""
        return self.folder.name

    def save(self) -> None:
        """Write what is known of it."""
        content = {"dropped": self.name, "request": self.request}
        write_json(self.folder / JOB, {**content, "tries": self.tries, "spent": self.spent})


class Inbox:
    """The inbox at `folder` of the studies in `studies`.

    `quiet` is the number of seconds after which a dataset counts as complete.
    """

    def __init__(
        self, folder: Path | str, studies: Path | str, quiet: float = 20.0, limits: Limits = LIMITS
    ):
        self.folder, self.studies = Path(folder), Path(studies)
        self.quiet, self.limits = quiet, limits

    @contextmanager
    def watching(self) -> Iterator[bool]:
        """Hold the inbox; False if another watch holds it.

        Makes the folders, and sweeps what a kill left of taking and unpacking.
        """
        from filelock import FileLock, Timeout

        for name in (WORK, DONE, FAILED):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / ".lock", timeout=0):
                for folder in (self.folder / WORK).iterdir():
                    shutil.rmtree(folder / ".unpacking", ignore_errors=True)
                    # killed before anything was moved here
                    if all(entry.name == JOB for entry in folder.iterdir()):
                        shutil.rmtree(folder)
                yield True
        except Timeout:
            yield False

    def dropped(self) -> list[Path]:
        """What was dropped and is complete, oldest first.

        All but hidden names, markers, unfinished copies, and what is still being copied.
        """
        now, out = time.time(), []
        for entry in self.folder.iterdir():
            ours = entry.name.startswith(".") or entry.name in (DONE, FAILED)
            if ours or entry.suffix.lower() in UNFINISHED or entry.suffix == f".{READY}":
                continue
            with suppress(FileNotFoundError):  # it changes right now
                newest, pause = changed(entry)
                quiet = max(self.quiet, min(2 * pause, LONGEST * self.quiet))
                # a clock that was set back must not hide it for hours
                if marker(entry) or abs(now - newest) >= quiet:
                    out.append((newest, entry))
        return [entry for _, entry in sorted(out)]

    def take(self, entry: Path, request: Mapping[str, Any]) -> Job:
        """Move what was dropped to `.work`, to be tuned as `request` says."""
        job = Job(self.folder / WORK / self._new_id(entry), entry.name, dict(request))
        job.folder.mkdir()
        job.save()
        beside = entry.with_name(f"{entry.name}.{READY}")
        os.rename(entry, job.folder / entry.name)  # the moment at which it is taken
        beside.unlink(missing_ok=True)  # or the next of that name would be taken half copied
        return job

    def settings(self, job: Job) -> dict[str, Any]:
        """What a dataset's own `foretune.yaml` says, unpacked if it is not yet; empty without one.
        Raises `BadInput` for what is no YAML mapping of texts.
        """
        import yaml

        path = self.images(job) / SETTINGS
        if path.is_symlink():
            raise BadInput(f"{path}: is a link; write the settings into the file itself")
        try:
            text = path.read_text(encoding="utf-8-sig")
            # a text of a kilobyte can name itself until it fills the memory
            if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
                raise BadInput(f"{path}: has aliases (*name), which settings do not need")
            found = yaml.safe_load(text)
        except FileNotFoundError:
            return {}
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise BadInput(f"{path}: is no YAML text: {' '.join(str(error).split())}") from error
        if found is None:
            return {}
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            raise BadInput(f"{path}: must say `name: value` for each setting, such as budget: 20")
        return found

    def jobs(self) -> list[Job]:
        """What was taken and is not finished, fewest tries first.

        One that kills its machine must not keep the others waiting.
        """
        jobs = []
        for folder in sorted((self.folder / WORK).iterdir()):
            try:
                kept = json.loads((folder / JOB).read_text(encoding="utf-8"))
                tries, spent = int(kept["tries"]), int(kept["spent"])
                jobs.append(Job(folder, kept["dropped"], kept["request"], tries, spent))
            # a lost file system: what was dropped is still there
            except (OSError, ValueError, KeyError, TypeError):
                names = [e.name for e in folder.iterdir() if not e.name.startswith(".")]
                jobs.append(Job(folder, names[0] if names else "", {}))
        return sorted(jobs, key=lambda job: job.tries)

    def start(self, job: Job, spent: int) -> Job:
        """Count a start; `spent` epochs of its study are done.

        Raises `BadInput` after `TRIES` of them that got nowhere.
        """
        tries = 0 if spent > job.spent else job.tries
        if tries >= TRIES:
            raise BadInput(
                f"tuning {job.name} was started {tries} times and never got further: it was killed "
                "each time (too little memory?), or the machine failed; the worker's log has more. "
                "To try again, move it back into the inbox"
            )
        job = replace(job, tries=tries + 1, spent=spent)
        job.save()
        return job

    def check(self, job: Job) -> Path:
        """What was dropped.

        Raises `BadInput` for what a look tells to be no dataset: neither folder nor archive, or a
        folder without class folders.
        """
        source = job.folder / job.name
        if source.is_symlink():
            raise BadInput(f"{job.name}: is a link; drop the folder or archive itself")
        if source.is_dir():
            if not any(entry.is_dir() for entry in source.iterdir()):
                raise BadInput(
                    f"{job.name}: holds no class folders: put the images into one folder per class"
                )
            return source
        if not source.is_file():
            raise BadInput(f"{job.name}: is neither a file nor a folder")
        if not is_archive(source):
            raise BadInput(
                f"{job.name}: drop a folder of class folders, or an archive of one "
                f"({', '.join(SUFFIXES)})"
            )
        return source

    def images(self, job: Job) -> Path:
        """The folder of class folders of a job, unpacked if it is not yet.

        Raises `BadInput` for what cannot be used.
        """
        source = self.check(job)
        if source.is_dir():
            check_plain(source)
            return source
        out = job.folder / UNPACKED / job.id
        if not out.exists():
            temporary = job.folder / ".unpacking"
            shutil.rmtree(temporary, ignore_errors=True)
            unpack(source, temporary, self.limits)
            out.parent.mkdir(exist_ok=True)
            os.rename(inner(temporary), out)
            shutil.rmtree(temporary, ignore_errors=True)
        return out

    def finish(self, job: Job, results: str) -> Path:
        """Move a tuned dataset to `done` and write the results beside it; the file with them.

        What was unpacked is deleted, the archive kept.
        """
        return self._move(job, DONE, f"{job.name} was tuned:\n\n{results}\n")

    def set_aside(self, job: Job, reason: str) -> Path:
        """Move a dataset that cannot be used to `failed` and write why; the file that says so."""
        shown = reason.replace(f"{job.folder}{os.sep}", "")
        where = f"It is in {FAILED}/{job.id}. Mend it and drop it into the inbox again."
        return self._move(job, FAILED, f"{job.name} was not tuned:\n\n{shown}\n\n{where}\n")

    def _move(self, job: Job, to: str, text: str) -> Path:
        shutil.rmtree(job.folder / UNPACKED, ignore_errors=True)
        note = self.folder / to / f"{job.id}.txt"
        write_atomic(note, text)  # before the rename: a kill between them only writes it again
        os.rename(job.folder, self.folder / to / job.id)
        return note

    def _new_id(self, entry: Path) -> str:
        """A study's name for what was dropped that no dataset and no study has had."""
        name = re.sub(r"[^\w.-]+", "_", entry.name if entry.is_dir() else stem(entry))[:80]
        # ID.txt is the note on ID
        name = re.sub(r"(\.txt|[._-])+$", "", name, flags=re.IGNORECASE).lstrip("._-")
        taken = [self.folder / place for place in (WORK, DONE, FAILED)] + [self.studies]
        name, number = name or "dataset", 1
        while True:
            numbered = name if number == 1 else f"{name}-{number}"
            if not any(os.path.lexists(place / numbered) for place in taken):
                return numbered
            number += 1


def changed(entry: Path) -> tuple[float, float]:
    """When anything of `entry` last changed, and its longest pause between two changes, in seconds.

    By change times, which copies cannot set to the original's as they do with modification times.
    A folder that was moved here whole has paused since its last file: that is no pause of a copy.
    """
    own, inside = entry.lstat().st_ctime, []
    if entry.is_dir() and not entry.is_symlink():
        for folder, folders, names in os.walk(entry):
            for name in (*folders, *names):
                inside.append(os.lstat(os.path.join(folder, name)).st_ctime)
    if not inside:
        return own, 0.0
    inside.sort()
    moved = own - inside[-1] > 1  # a copy changes the folder itself before what is inside
    pauses = [later - earlier for earlier, later in itertools.pairwise(inside)]
    return max(own, inside[-1]), 0.0 if moved else max(pauses, default=0.0)


def marker(entry: Path) -> bool:
    """Whether the one who copies says that the copy has ended."""
    return (entry / READY).is_file() or entry.with_name(f"{entry.name}.{READY}").is_file()


def check_plain(folder: Path) -> None:
    """Raise `BadInput` where a folder holds something that is no file.

    A pipe with the name of an image would be waited for.
    """
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if not path.is_file():
                raise BadInput(f"{path}: is a pipe, a device or a broken link, not a file")


def inner(folder: Path) -> Path:
    """The folder of class folders in what was unpacked, however deep alone in folders."""
    for _ in range(DEEPEST):
        entries = list(folder.iterdir())
        if len(entries) != 1 or not entries[0].is_dir():
            break
        folder = entries[0]
    return folder
