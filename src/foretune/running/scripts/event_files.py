"""Scalars of TensorBoard's event files, read without TensorBoard.

A file is a row of records (`tensorflow/core/lib/io/record_writer.h`): a length of 8 bytes, 4 bytes
that check it, the content, 4 bytes that check that. A content is an `Event` of
`tensorflow/core/util/event.proto`, in the wire format of protocol buffers, of which a few fields
matter here:

    Event.step = 2, Event.summary = 5; Summary.value = 1
    Value.tag = 1, Value.simple_value = 2, Value.tensor = 8
    Tensor.dtype = 1, Tensor.tensor_content = 4, Tensor.float_val = 5, Tensor.double_val = 6
"""

import struct
from collections.abc import Iterator
from typing import Any

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
FLOAT, DOUBLE = 1, 2  # of tensorflow/core/framework/types.proto
HEAD_BYTES, FOOT_BYTES = 12, 4

Field = tuple[int, Any]


def scalars(content: bytes, tag: str) -> Iterator[tuple[int, float]]:
    """(step, value) of the scalars named `tag`, in the order of the file; a record that is not
    whole yet ends it.
    """
    at = 0
    while at + HEAD_BYTES <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        first, at = at + HEAD_BYTES, at + HEAD_BYTES + length + FOOT_BYTES
        if at > len(content):
            return
        event = list(fields(content[first : first + length]))
        step = next((signed(value) for number, value in event if number == 2), 0)
        for number, summary in event:
            if number == 5:
                for _, one in (field for field in fields(summary) if field[0] == 1):
                    value = scalar(dict(fields(one)), tag)
                    if value is not None:
                        yield step, value


def scalar(value: dict[int, Any], tag: str) -> float | None:
    """The number of a `Summary.Value` of this tag; None for another tag, or what is no number."""
    if value.get(1, b"") != tag.encode():
        return None
    if 2 in value:
        return float(struct.unpack("<f", value[2])[0])
    if 8 not in value:
        return None
    tensor = dict(fields(value[8]))
    shape = {FLOAT: "<f", DOUBLE: "<d"}.get(tensor.get(1, 0))
    packed = tensor.get(4) or tensor.get(5) or tensor.get(6)
    if shape is None or not packed or len(packed) < struct.calcsize(shape):
        return None
    return float(struct.unpack_from(shape, packed)[0])


def fields(message: bytes) -> Iterator[Field]:
    """(number, value) of the fields of a message: an int, or bytes."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = varint(message, at)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            return  # no wire type of today
        yield number, message[at : at + length]
        at += length


def varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at `at`, seven bits a byte, and where it ends."""
    number = shift = 0
    while at < len(message):
        byte = message[at]
        at += 1
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    return number, at


def signed(number: int) -> int:
    """An int64 of its varint."""
    return number - (1 << 64) if number >= 1 << 63 else number
