"""Whether a file that somebody else writes is whole, by what its format says of its own end.

| format      | files                             | whole if                                          |
|-------------|-----------------------------------|---------------------------------------------------|
| zip         | PyTorch's, Keras' and NumPy's     | its directory, which is written last, is there    |
| safetensors | `*.safetensors`                   | it has the bytes that its header speaks of        |
| HDF5        | Keras' older ones                 | it has the bytes that its superblock speaks of    |
| JSON        | `*.json`                          | it can be read                                    |
"""

import json
import zipfile
from pathlib import Path

ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
HEADER_BYTES = 10**8  # of safetensors, at most


def is_whole(path: Path) -> bool | None:
    """Whether a file is whole; None where its format does not say. A file that cannot be read now
    is not.
    """
    try:
        with open(path, "rb") as stream:
            start = stream.read(64)
        if start.startswith(ZIP):
            with zipfile.ZipFile(path):
                return True
        if start.startswith(HDF5):
            return hdf5_end(start) <= path.stat().st_size
        if path.suffix == ".safetensors":
            return safetensors_bytes(path) == path.stat().st_size
        if path.suffix == ".json":
            json.loads(path.read_bytes())
            return True
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile):
        return False
    return None


def safetensors_bytes(path: Path) -> int:
    """The size that a safetensors file should have: 8 bytes, the length of a header in JSON, the
    header, and what it says of tensors. Raises ValueError, KeyError or TypeError for no such file.
    """
    with open(path, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > HEADER_BYTES:
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(stream.read(length))
    ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    return 8 + length + max(ends, default=0)


def hdf5_end(start: bytes) -> int:
    """The end of an HDF5 file by its superblock, whose first 64 bytes are given; 0 where addresses
    do not have 8 bytes.
    """
    version = start[8]
    size, at = (start[13], 40 if version == 0 else 44) if version < 2 else (start[9], 28)
    return int.from_bytes(start[at : at + 8], "little") if size == 8 else 0


def open_for_writing(path: Path, processes: list[int]) -> bool:
    """Whether one of the processes has a file, or one below a folder, open to write to it, as far
    as the system tells (Linux).
    """
    inside = path.resolve()
    for pid in processes:
        try:
            handles = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:  # it has ended, or there is no /proc
            continue
        for handle in handles:
            try:
                target = handle.readlink()
                if target != inside and inside not in target.parents:
                    continue
                facts = Path(f"/proc/{pid}/fdinfo/{handle.name}").read_text(encoding="ascii")
            except OSError:
                continue
            flags = next(line for line in facts.splitlines() if line.startswith("flags:"))
            if int(flags.split()[1], 8) & 0o3:  # O_WRONLY or O_RDWR
                return True
    return False
