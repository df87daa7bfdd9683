"""Unpack an archive that nobody vouches for.

Inside its folder, files only, within limits of size, number, memory and time.

    unpack(archive, folder)  # in a process of its own, whose memory and time are limited
    python -m foretune.service.unpacking ARCHIVE FOLDER  # that process

What is written is counted as it is written: sizes that an archive states about itself are not
believed. A limited process also holds what the formats' own readers would take for a header, a list
of files or a dictionary made to exhaust memory.
"""

import errno
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from foretune.errors import BadInput

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
CLUTTER = ("__macosx", "thumbs.db", "desktop.ini")  # what other systems put beside the images
CHUNK = 2**18
DISK_FAULT = 3  # exit status of the limited process
DAMAGED = (OSError, EOFError, ValueError, RuntimeError, tarfile.TarError, zipfile.BadZipFile)
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)  # no fault of the archive
# of a file's name, and of an entry's whole path, that every file system takes
NAME_BYTES, PATH_BYTES = 255, 2000
# OSError: gzip and bzip2; RuntimeError: encrypted, or compressed in a way that is not read here;
# zlib's and lzma's own errors are added in `main`


@dataclass(frozen=True)
class Limits:
    """What an archive may cost."""

    unpacked_bytes: int = 8 * 2**30
    entries: int = 300_000
    memory_bytes: int = 2 * 2**30  # address space of the process
    cpu_seconds: int = 1800
    spare_bytes: int = 2**30  # of the disk, to be left free

    def __post_init__(self) -> None:
        if min(self.unpacked_bytes, self.entries, self.memory_bytes, self.cpu_seconds) < 1:
            raise BadInput(f"limits must be positive, but got {self}")


LIMITS = Limits()


def is_archive(path: Path | str) -> bool:
    """Whether a file's name is that of an archive read here."""
    return str(path).lower().endswith(SUFFIXES)


def stem(path: Path | str) -> str:
    """A file's name without the archive's suffix."""
    name = Path(path).name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def unpack(archive: Path | str, folder: Path | str, limits: Limits = LIMITS) -> None:
    """Unpack `archive` into `folder`, which must not exist, in a process of limited memory.

    Raises `BadInput`, or `OSError` where the disk is at fault; then the folder is gone again.
    """
    archive, folder = Path(archive), Path(folder)
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "foretune.service.unpacking", str(archive), str(folder)]
    command += [str(number) for number in astuple(limits)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        check=False,
    )
    if done.returncode == 0:
        return
    shutil.rmtree(folder, ignore_errors=True)
    reason = f"{archive.name}: unpacking it was killed, since it takes too much time or memory"
    for line in done.stderr.splitlines():
        if line.startswith("error: "):
            reason = line.removeprefix("error: ")
    if done.returncode == DISK_FAULT:
        raise OSError(reason)
    raise BadInput(reason)


def extract(archive: Path, folder: Path, limits: Limits = LIMITS) -> None:
    """Write the files of `archive` below `folder`.

    In the calling process, so that only sizes and numbers are limited. Raises `BadInput`.
    """
    entries = _zip if archive.suffix.lower() == ".zip" else _tar
    written, count = 0, 0
    free = shutil.disk_usage(folder).free - limits.spare_bytes
    room, why = limits.unpacked_bytes, f"the limit is {_size(limits.unpacked_bytes)}"
    if free < room:
        room, why = max(free, 0), f"only {_size(max(free, 0))} of the disk may still be used"
    for name, open_entry in entries(archive, limits.entries):
        count += 1
        path = safe(name, archive.name)
        if path is None:
            continue
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with open_entry() as source, open(target, "xb") as out:
                while chunk := source.read(CHUNK):
                    written += len(chunk)
                    if written > room:
                        raise BadInput(f"{archive.name}: unpacks to more than it may: {why}")
                    out.write(chunk)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise BadInput(
                f"{archive.name}: holds {name!r} twice, or as a file and a folder"
            ) from error


def safe(name: str, archive: str) -> PurePosixPath | None:
    """An entry's path inside the folder; None for clutter.

    Raises `BadInput` for one that would leave it.
    """
    path = PurePosixPath(name)
    bad = path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name or "\0" in name
    if bad or (len(name) > 1 and name[1] == ":"):
        raise BadInput(f"{archive}: holds {name!r}, which would be written outside its folder")
    # control characters, and bytes that are no text
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise BadInput(f"{archive}: holds {name!r}, whose name has characters that are no text")
    if len(name.encode()) > PATH_BYTES or any(
        len(part.encode()) > NAME_BYTES for part in path.parts
    ):
        raise BadInput(f"{archive}: holds a name that is too long ({name[:40]!r}...)")
    if any(part.lower() in CLUTTER or part.startswith(".") for part in path.parts):
        return None
    return path


def _zip(archive: Path, most: int) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        if len(infos) > most:
            raise BadInput(f"{archive.name}: holds {len(infos):,} entries, the limit is {most:,}")
        for info in infos:
            mode = info.external_attr >> 16
            if info.is_dir():
                continue
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
                raise BadInput(
                    f"{archive.name}: holds {info.filename!r}, which is a link or a device, "
                    "not a file"
                )
            if info.flag_bits & 1:
                raise BadInput(f"{archive.name}: is encrypted; pack it without a password")
            yield info.filename, lambda info=info: opened.open(info)  # type: ignore[misc]


def _tar(archive: Path, most: int) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    with tarfile.open(archive, "r|*") as opened:  # a stream: one entry in memory at a time
        for count, info in enumerate(opened):
            if count >= most:
                raise BadInput(f"{archive.name}: holds more than {most:,} entries")
            if info.isdir():
                continue
            if not info.isfile() or info.issparse():
                raise BadInput(
                    f"{archive.name}: holds {info.name!r}, which is a link or a device, not a file"
                )
            source = opened.extractfile(info)
            assert source is not None
            yield info.name, lambda source=source: source  # type: ignore[misc]


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.1f} MiB"


def main(argv: list[str]) -> int:
    """The limited process: ARCHIVE FOLDER and the five numbers of `Limits`.

    Writes one line `error: ...` and returns 2 where it refuses, `DISK_FAULT` where the disk is at
    fault.
    """
    import lzma
    import resource
    import zlib

    archive, folder = Path(argv[0]), Path(argv[1])
    limits = Limits(*map(int, argv[2:]))
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
    ):
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(
            what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
        )
    try:
        extract(archive, folder, limits)
    except BadInput as error:
        print(f"error: {error}", file=sys.stderr)
    except MemoryError:
        print(
            f"error: {archive.name}: takes more than {_size(limits.memory_bytes)} of memory "
            "to unpack",
            file=sys.stderr,
        )
    except (*DAMAGED, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno in DISK:
            print(
                f"error: {archive.name}: cannot be unpacked here ({error.strerror})",
                file=sys.stderr,
            )
            return DISK_FAULT
        reason = f"is damaged, or no archive of a kind read here ({error})".splitlines()[0]
        print(f"error: {archive.name}: {reason}", file=sys.stderr)
    else:
        return 0
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
