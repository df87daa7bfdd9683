"""The binary log of a local W&B run, `run-ID.wandb`: its settings and its whole history.

The file is a LevelDB log (blocks of 32 KiB; records of CRC, length, type, data; a record that does
not fit in a block goes on in the next) after a header of seven bytes, `:W&B`, magic, version. Data
are protobuf messages `Record`; of them config (5), history (2), run (17) and exit (18) are read, of
these the key (1, or the path 2) and the value as JSON (16). Nothing else is looked at: no console
output, no code, no file. A log that is cut, by a run that was killed, gives what is whole.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foretune.errors import BadInput
from foretune.stores.record import MAX_BYTES, Record, flat, json_number
from foretune.stores.tfrecord import fields

HEADER = b":W&B"
BLOCK = 32768
FULL, FIRST, LAST = 1, 2, 4
HISTORY, CONFIG, RUN, EXIT = 2, 5, 17, 18
KEY, PATH, JSON = 1, 2, 16


def messages(path: Path) -> Iterator[bytes]:
    """The whole records of a log. Raises `BadInput` for a file that is none."""
    if (size := path.stat().st_size) > MAX_BYTES:
        raise BadInput(f"{path} has {size:,} bytes; at most {MAX_BYTES:,} are read")
    data = path.read_bytes()
    if not data.startswith(HEADER):
        raise BadInput(f"{path} is no log of a W&B run")
    at, parts = 7, b""
    while at + 7 <= len(data):
        left = BLOCK - at % BLOCK
        if left < 7:  # the rest of a block is padding
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if kind == 0 or at + 7 + length > len(data):
            return
        chunk = data[at + 7 : at + 7 + length]
        at += 7 + length
        parts = chunk if kind in (FULL, FIRST) else parts + chunk
        if kind in (FULL, LAST):
            yield parts


def _item(data: bytes) -> tuple[str, Any]:
    """Name and value of an item; nested names are joined by a dot."""
    key, path, value = "", [], None
    for number, _, content in fields(data):
        if isinstance(content, bytes):
            text = content.decode("utf-8", errors="replace")
            if number == KEY:
                key = text
            elif number == PATH:
                path.append(text)
            elif number == JSON:
                value = json.loads(text)
    return key or ".".join(path), value


def _items(data: bytes, number: int = 1) -> dict[str, Any]:
    found = (content for n, wire, content in fields(data) if n == number and wire == 2)
    return dict(_item(content) for content in found if isinstance(content, bytes))


def fill(record: Record, path: Path) -> None:
    """Add settings, curves and how it ended to a record. A message that is damaged is passed over;
    raises `BadInput` for a file that is no log.
    """
    ended = False
    for message in messages(path):
        try:
            for number, _, content in fields(message):
                if not isinstance(content, bytes):
                    continue
                if number == CONFIG:
                    _add_config(record, _items(content))
                elif number == RUN:
                    _add_run(record, content)
                elif number == HISTORY:
                    _add_history(record, _items(content))
                elif number == EXIT:
                    ended = True
                    code = next((v for n, w, v in fields(content) if n == 1 and w == 0), 0)
                    record.state = "finished" if code == 0 else "crashed"
        except (ValueError, IndexError, RecursionError):
            continue
    if not ended:
        record.state = "killed"


def _add_run(record: Record, content: bytes) -> None:
    for number, _, inner in fields(content):
        if number == 3 and isinstance(inner, bytes):
            record.group = inner.decode("utf-8", errors="replace")
        elif number == 4 and isinstance(inner, bytes):
            _add_config(record, _items(inner))


def _add_config(record: Record, items: dict[str, Any]) -> None:
    for name, value in items.items():
        if name not in ("_wandb", "wandb_version") and value is not None:
            record.params |= flat({name: value})


def _add_history(record: Record, row: dict[str, Any]) -> None:
    step = row.get("_step", float(max(map(len, record.series.values()), default=0)))
    record.seconds = row.get("_runtime", record.seconds)
    for name, logged in row.items():
        value = json_number(logged)
        if not name.startswith("_") and isinstance(value, int | float):
            record.add(name, float(step), value)
