"""Random numbers of one purpose in one epoch of a trial, and no others."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_for(seed: int, purpose: str, epoch: int = 0) -> int:
    """A 63-bit seed for one purpose in one epoch of a trial."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def drawing(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Let libraries draw from `seed` inside, whichever global generator they use (PyTorch's,
    NumPy's, Python's), and leave all three as they were.
    """
    python, numpy = random.getstate(), np.random.get_state()
    on_cuda = device is not None and device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
