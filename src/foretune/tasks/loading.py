"""A task from what the user named: a folder, a table, a prepared task, an .npz file, torchvision's."""

import difflib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foretune.errors import BadInput
from foretune.tasks import manifest
from foretune.tasks.folder import list_folder
from foretune.tasks.reading import Reading, origin, read
from foretune.tasks.sources import Source
from foretune.tasks.task import Task

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


@dataclass(frozen=True, eq=False)
class SavedTask:
    """A task that `Task.save` wrote. Its pixels stay as they are stored, whatever the size asked
    for: the pictures that they were made from are not there, and the trainer scales."""

    task: Task

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name


Found = Source | SavedTask


def prepared_tasks(data: Path | str) -> list[str]:
    """Names of the tasks in `data`/images."""
    return sorted(file.stem for file in (Path(data) / "images").glob("*.npz"))


def load_task(
    spec: str | Path,
    data: Path | str = "data",
    size: int = 64,
    progress: Callable[[int, int], None] | None = None,
    *,
    crop: str = "center",
    skip_bad: bool = False,
    memory: float | None = None,
) -> Task:
    """Load a task at `size` pixels from what the user named.

    `spec` is, in this order: `torchvision:NAME` (see `foretune.tasks.torchvision`), the name of a
    task prepared in `data`/images (write `./NAME` for a folder of the same name), a folder of class
    folders or of train, valid and test folders, a .csv, .tsv or .parquet of
    `path,label[,split][,group]`, or an .npz that `Task.save` wrote. `crop`, `skip_bad` and `memory`
    (GiB) as in `foretune.tasks.reading.Reading`. A task that is stored comes as it is stored.

    Raises:
        BadInput: nothing of that name, or it cannot be used.
    """
    how = Reading(size, crop, skip_bad, memory)
    return task_of(find_source(spec, data), how, data, progress=progress)


def find_source(spec: str | Path, data: Path | str = "data") -> Found:
    """What `spec` names (see `load_task`), with everything known but the pixels: no image is
    decoded.

    Raises:
        BadInput: nothing of that name, or it cannot be used.
    """
    spec, data = str(spec), Path(data)
    if not spec:
        raise BadInput("the images' name is empty; the folder you are in is .")
    if spec.startswith("torchvision:"):
        from foretune.tasks.torchvision import list_torchvision  # imports torch

        return list_torchvision(spec.removeprefix("torchvision:"), data / "torchvision")
    stored = data / "images" / f"{spec}.npz"
    path = Path(spec).expanduser()
    if "/" not in spec and stored.is_file():
        return SavedTask(Task.load(stored))
    if path.is_dir():
        return list_folder(path)
    if path.is_file():
        suffix = path.suffix.lower()
        if suffix == ".npz":
            return SavedTask(Task.load(path))
        if suffix in manifest.SUFFIXES:
            return manifest.read_manifest(path)
        if suffix in ARCHIVES:
            raise BadInput(
                f"{spec}: is an archive; unpack it and give the folder that holds the class folders"
            )
        raise BadInput(
            f"{spec}: is a file; give a folder of class folders, a table of images "
            f"({', '.join(manifest.SUFFIXES)}), an .npz of foretune, or the name of a prepared task"
        )
    raise BadInput(_unknown(spec, data))


def task_of(
    found: Found,
    how: Reading,
    data: Path | str,
    *,
    kept: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Task:
    """The task of what was found: from the file `kept`, where that was read from the same images in
    the same way; else its images are decoded.

    Raises:
        BadInput: images cannot be read, or there are too few of a class.
    """
    if isinstance(found, SavedTask):
        if (edge := found.task.images.shape[1]) < how.size:
            warnings.warn(
                f"{found.name}: is stored at {edge} px and scaled up to {how.size} px; its images' "
                "own detail needs the pictures that it was made from",
                stacklevel=2,
            )
        return found.task
    if kept is not None and kept.exists():
        task = Task.load(kept)
        if task.origin == origin(found, how):
            return task
    return read(found, how, data, progress)


def _unknown(spec: str, data: Path) -> str:
    from foretune.tasks.embedded.prepare import EMBEDDED

    if spec in EMBEDDED:
        out = data / "images"
        return (
            f"{spec}: is not prepared in {out} yet; run: python -m foretune.pipeline.tasks "
            f"{spec} --out {out}"
        )
    names = prepared_tasks(data)
    near = difflib.get_close_matches(spec, sorted({*names, *EMBEDDED}), n=3, cutoff=0.5)
    hint = f"prepared tasks: {', '.join(names) if names else 'none'}"
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    return (
        f"{spec}: there is no such folder, .npz file or prepared task in {data / 'images'}; {hint}"
    )
