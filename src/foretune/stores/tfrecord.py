"""TensorBoard's event files without TensorFlow.

A file is a chain of records: length (uint64), its masked CRC, data, their masked CRC, all little
endian. Data are a protobuf message `Event` (field 1 wall time, 2 step, 5 summary); a summary's
field 1 repeats `Value` (field 1 tag, 2 simple_value, 8 tensor, 9 metadata with the plugin's name in
1.1). Only lengths and these fields are read; a record that is cut, by a run that was killed, ends
the file.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from foretune.errors import BadInput

HEADER = struct.Struct("<QI")
MAX_RECORD = 64 * 2**20
SCALAR_BYTES = {1: "f", 2: "d"}  # tensorflow.DataType: DT_FLOAT, DT_DOUBLE
Field = tuple[int, int, "int | bytes"]


def records(path: Path) -> Iterator[bytes]:
    """The data of every whole record of a file."""
    with open(path, "rb") as stream:
        while len(head := stream.read(HEADER.size)) == HEADER.size:
            length, _ = HEADER.unpack(head)
            if length > MAX_RECORD:
                raise BadInput(f"{path} is no event file: a record of {length:,} bytes")
            data = stream.read(length + 4)
            if len(data) < length + 4:
                return
            yield data[:length]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint of more than ten bytes")


def fields(data: bytes) -> Iterator[Field]:
    """(number, wire type, value) of a protobuf message's fields. Raises ValueError, IndexError."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, wire, value
            continue
        size = {1: 8, 5: 4}.get(wire)
        if wire == 2:
            size, at = _varint(data, at)
        if size is None or at + size > len(data):
            raise ValueError(f"wire type {wire} at {at}")
        yield key >> 3, wire, data[at : at + size]
        at += size


def _inside(data: bytes, number: int) -> list[bytes]:
    return [v for n, w, v in fields(data) if n == number and w == 2 and isinstance(v, bytes)]


def _tensor(data: bytes) -> float | None:
    """The number of a scalar `TensorProto` (1 dtype, 4 content, 5 floats, 6 doubles)."""
    kind = next((v for n, w, v in fields(data) if n == 1 and w == 0), 0)
    code = SCALAR_BYTES.get(kind if isinstance(kind, int) else 0)
    if code is None:
        return None
    for number in (4, 5, 6):
        for n, _, value in fields(data):
            if n == number and isinstance(value, bytes) and len(value) == struct.calcsize(code):
                return float(struct.unpack(f"<{code}", value)[0])
    return None


def scalars(path: Path) -> Iterator[tuple[float, int, str, float]]:
    """(wall time, step, tag, value) of every scalar in a file; records that are no events are
    passed over.
    """
    for data in records(path):
        try:
            yield from _event(data)
        except (ValueError, IndexError, struct.error):
            continue


def _event(data: bytes) -> Iterator[tuple[float, int, str, float]]:
    wall, step = 0.0, 0
    summaries: list[bytes] = []
    for number, wire, value in fields(data):
        if number == 1 and wire == 1 and isinstance(value, bytes):
            wall = struct.unpack("<d", value)[0]
        elif number == 2 and isinstance(value, int):
            step = value
        elif number == 5 and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for entry in _inside(summary, 1):
            tag = b"".join(_inside(entry, 1)).decode("utf-8", errors="replace")
            simple = [v for n, w, v in fields(entry) if n == 2 and w == 5]
            if simple and isinstance(simple[0], bytes):
                yield wall, step, tag, struct.unpack("<f", simple[0])[0]
            else:
                for tensor in _inside(entry, 8):
                    if (found := _tensor(tensor)) is not None:
                        yield wall, step, tag, found
