"""The file that carries a trial from one step to the next.

Layout: 8 bytes `FORETUNE`, the sha256 of the rest (32 bytes), then a PyTorch archive of plain
containers and tensors, which is read with `weights_only=True`. The digest tells a whole file from a
damaged one, which a bit flipped inside a tensor would not by itself. Files are replaced by rename:
a killed run leaves the one before.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from foretune.files import write_atomic

MAGIC = b"FORETUNE"
_HEADER = len(MAGIC) + 32


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (containers, numbers, texts, tensors) to `path`."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getvalue()
    write_atomic(path, MAGIC + hashlib.sha256(payload).digest() + payload)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The content of `path`, or None where the file is missing or damaged.

    The trial then starts again, with the same numbers.
    """
    try:
        whole = path.read_bytes()
    except FileNotFoundError:
        return None
    payload = whole[_HEADER:]
    if (
        whole[: len(MAGIC)] != MAGIC
        or whole[len(MAGIC) : _HEADER] != hashlib.sha256(payload).digest()
    ):
        return None
    try:
        content = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError):
        return None
    return content if isinstance(content, dict) else None
