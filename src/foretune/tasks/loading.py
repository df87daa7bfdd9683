"""A task from what the user named: a folder, a prepared task, an .npz file or torchvision's."""

import difflib
from collections.abc import Callable
from pathlib import Path

from foretune.errors import BadInput
from foretune.tasks.folder import read_folder
from foretune.tasks.pixels import check_size
from foretune.tasks.task import Task

ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def prepared_tasks(data: Path | str) -> list[str]:
    """Names of the tasks in `data`/images."""
    return sorted(file.stem for file in (Path(data) / "images").glob("*.npz"))


def load_task(
    spec: str | Path,
    data: Path | str = "data",
    size: int = 64,
    progress: Callable[[int, int], None] | None = None,
    *,
    skip_bad: bool = False,
) -> Task:
    """Load a task at `size` pixels from what the user named.

    `spec` is, in this order: `torchvision:NAME` (see `foretune.tasks.torchvision`), the name of a
    task prepared in `data`/images (write `./NAME` for a folder of the same name), a folder of class
    folders, or an .npz that `Task.save` wrote. `skip_bad` as in `read_folder`.

    Raises:
        BadInput: nothing of that name, or it cannot be used.
    """
    spec, data = str(spec), Path(data)
    if not spec:
        raise BadInput("the images' name is empty; the folder you are in is .")
    check_size(size)
    if spec.startswith("torchvision:"):
        from foretune.tasks.torchvision import read_torchvision  # imports torch

        return read_torchvision(spec.removeprefix("torchvision:"), data / "torchvision", size)
    stored = data / "images" / f"{spec}.npz"
    path = Path(spec).expanduser()
    if "/" not in spec and stored.is_file():
        return Task.load(stored).resized(size)
    if path.is_dir():
        return read_folder(path, size, progress, skip_bad=skip_bad)
    if path.is_file():
        if path.suffix.lower() == ".npz":
            return Task.load(path).resized(size)
        if path.suffix.lower() in ARCHIVES:
            raise BadInput(
                f"{spec}: is an archive; unpack it and give the folder that holds the class folders"
            )
        raise BadInput(
            f"{spec}: is a file; give a folder of class folders, an .npz of foretune, or the "
            "name of a prepared task"
        )
    raise BadInput(_unknown(spec, data))


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
