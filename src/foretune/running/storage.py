"""Checkpoints on storage that every machine reaches, for trials on machines that share no disk: any
address that fsspec knows.

    objective = Stored.of(training, "s3://bucket/foretune/photos")
    objective.prepare(new=True)  # where the study is run: the task's images, once
    objective.run(...)  # on any machine: fetches the trial's checkpoints, trains, stores them
    objective.fetch(needed)  # where the study is run: those still needed come home, the rest goes
    objective.publish(folder)  # and its tables and results are copied there

No rename is asked of the storage: a checkpoint carries a digest (`foretune.training.checkpoints`),
so that one whose transfer was cut counts as none and its trial starts again. The journal stays with
the process that runs the study, since object storage cannot append. Of fsspec's kinds, the tests
use local folders and memory; s3, gs and abfs need the packages that fsspec names (s3fs, gcsfs,
adlfs).
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foretune.errors import BadInput, extra
from foretune.running.objectives.training import Training
from foretune.study.outcome import Outcome, Row
from foretune.tasks.task import images_beside

# a study as a meta-dataset
TABLES = ("space.json", "configs.parquet", "curves.parquet", "about.json")
RESULTS = (
    *("study.json", "journal.jsonl", "report.html"),
    *(f"{model}.{kind}" for model in ("best", "final") for kind in ("yaml", "pt", "json")),
)


@dataclass(frozen=True)
class Stored:
    """`objective`, with its checkpoints and its task at `url`. Can be sent to another machine.
    Raises `BadInput` for an address that cannot be used.
    """

    objective: Training
    url: str
    task: str = "task.npz"  # its name there

    @classmethod
    def of(cls, objective: Training, url: str) -> "Stored":
        """With the task under a name of its content, so that no machine takes images that it has
        from an earlier study.
        """
        return cls(objective, url, f"task-{objective.task.hash[:16]}.npz")

    def __post_init__(self) -> None:
        self._files()

    def run(
        self,
        config_id: int,
        config: Mapping[str, Any],
        start: int,
        stop: int,
        on_epoch: Callable[[Row], None] | None = None,
    ) -> Outcome:
        """Train where this process is, from the stored checkpoint on. Raises OSError where the
        storage fails: the machine's fault, not the trial's.
        """
        scratch = self._scratch()
        task_file = scratch / self.task
        if not task_file.exists():
            self._get_task(task_file)
        local = replace(self.objective, task_file=task_file, folder=scratch)
        last, best = local.checkpoint(config_id), local.checkpoint(config_id, best=True)
        for path in (last, best):
            if not self._get(path):
                path.unlink(missing_ok=True)  # of an earlier study, or a transfer that failed

        def store(row: Row) -> None:
            if best.exists() and os.path.samefile(last, best):
                self._put(
                    best
                    # before the last one: cut in between, the epoch is trained again and no best
                    # network is missed
                )
            self._put(last)
            if on_epoch:
                on_epoch(row)

        return local.run(config_id, config, start, stop, on_epoch=store)

    def prepare(self, new: bool) -> None:
        """Store the task's images; with `new`, delete what an earlier study of this address
        left.
        """
        files, root = self._files()
        if new and files.exists(root):
            files.rm(root, recursive=True)
        files.makedirs(root, exist_ok=True)
        if (images := images_beside(self.objective.task_file)) is not None:
            self._put(images)
        self._put(self.objective.task_file, self.task)

    def fetch(self, keep: Iterable[Path]) -> None:
        """Bring the checkpoints `keep` of the objective home, and delete the others from the
        storage.
        """
        files, root = self._files()
        kept = {path.name for path in keep}
        for name in sorted(kept):
            self._get(self.objective.folder / name)
        for found in files.glob(f"{root}/trial-*.ckpt"):
            if (name := str(found).rpartition("/")[2]) not in kept:
                files.rm_file(f"{root}/{name}")

    def publish(self, folder: Path) -> None:
        """Copy the study's tables and results there."""
        for name in (*TABLES, *RESULTS):
            if (folder / name).exists():
                self._put(folder / name, name)

    def _files(self) -> tuple[Any, str]:
        """The file system of the address, and the path in it."""
        with extra("serve", f"storage {self.url!r}"):
            import fsspec

        try:
            files, root = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise BadInput(f"storage {self.url!r} cannot be used: {error}") from error
        return files, root.rstrip("/")

    def _scratch(self) -> Path:
        """This machine's own folder for the address."""
        mark = hashlib.sha256(self.url.encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"foretune-{os.getuid()}-{mark}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _get_task(self, path: Path) -> None:
        """Fetch the task, and the file of its images first where they are in one of their own: a
        task that is here can be trained on.
        """
        arriving = path.with_name(f"arriving-{path.name}")
        if not self._get_as(path.name, arriving):
            raise BadInput(
                f"storage {self.url!r} has no {self.task}: the study that uses it has not "
                "stored one"
            )
        if (images := images_beside(arriving)) is not None and not images.exists():
            self._get(images)
        os.replace(arriving, path)

    def _get(self, path: Path) -> bool:
        """Fetch a file of this name; False if the storage has none."""
        return self._get_as(path.name, path)

    def _get_as(self, name: str, path: Path) -> bool:
        files, root = self._files()
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            files.get_file(f"{root}/{name}", str(temporary))
        except FileNotFoundError:
            temporary.unlink(missing_ok=True)
            return False
        os.replace(temporary, path)
        return True

    def _put(self, path: Path, name: str | None = None) -> None:
        files, root = self._files()
        files.put_file(str(path), f"{root}/{name or path.name}")
