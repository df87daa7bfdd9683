"""Read containers and numbers out of a pickle without running any code that it names.

The AT2 authors publish nested `defaultdict`s pickled with dill, whose default factories are
functions: loading them the usual way runs code out of the file. Here every name the pickle may call
is replaced: `defaultdict` by a plain dict, functions and code objects by `Inert`, which does
nothing, and arrays by a decoder that accepts numeric bytes only. Any other name is an error.
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from foretune.errors import BadInput

NUMBERS = "biuf?"  # numpy kinds and type characters without pointers: bool, signed, unsigned, float


class Inert:
    """Stands in for a function, code or module of the pickle: takes anything, does nothing."""

    def __init__(self, *args: Any, **kwargs: Any):
        del args, kwargs

    def __setstate__(self, state: Any) -> None:
        del state

    def __setitem__(self, key: Any, value: Any) -> None:
        del key, value

    def __call__(self, *args: Any, **kwargs: Any) -> "Inert":
        return self

    def __hash__(self) -> int:
        return 0


class PlainDict(dict[Any, Any]):
    """A `defaultdict` without its default: the factory is dropped."""

    def __init__(self, *args: Any):
        super().__init__(*args[1:])


class Bytes:
    """The dtype of an array in the pickle; numeric ones only."""

    def __init__(self, code: Any = "", *args: Any):
        self.code, self.order = str(code), "<"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1] if state[1] in ("<", ">", "|", "=") else "<"

    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype. Raises `BadInput` for objects, strings and records."""
        if not self.code or self.code[0] not in NUMBERS:
            raise BadInput(f"the pickle holds an array of {self.code!r}; only numbers are read")
        return np.dtype(self.order + self.code) if self.order != "|" else np.dtype(self.code)


class Array:
    """An array of the pickle while it is being read; `value` once its state is known."""

    def __init__(self, *args: Any):
        self.value = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(raw, bytes) or not isinstance(dtype, Bytes):
            raise BadInput("the pickle holds an array of objects; only numbers are read")
        self.value = np.frombuffer(raw, dtype=dtype.dtype()).reshape(
            shape, order="F" if fortran else "C"
        )


def array(*args: Any) -> Array:
    """`numpy.core.multiarray._reconstruct`: an empty array that its state will fill."""
    del args
    return Array()


def dill_array(_: Any, __: Any, state: tuple[Any, ...], *attributes: Any) -> Array:
    """`dill._dill._create_array`: an array and its state in one call.

    Attributes of subclasses are dropped.
    """
    del attributes
    out = Array()
    out.__setstate__(state)
    return out


def scalar(dtype: Bytes, raw: bytes) -> Any:
    """`numpy.core.multiarray.scalar`: one number."""
    return np.frombuffer(raw, dtype=dtype.dtype())[0].item()


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "defaultdict"): PlainDict,
    ("collections", "OrderedDict"): dict,
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("dill._dill", "_create_array"): dill_array,
    ("dill._dill", "_create_function"): Inert,
    ("dill._dill", "_create_code"): Inert,
    ("dill._dill", "_load_type"): Inert,
    ("dill._dill", "_get_attr"): Inert,
    ("dill._dill", "_import_module"): Inert,
    ("__builtin__", "__main__"): Inert,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): Bytes,
}
ALLOWED |= {(f"numpy.{c}.multiarray", "_reconstruct"): array for c in ("core", "_core")}
ALLOWED |= {(f"numpy.{c}.multiarray", "scalar"): scalar for c in ("core", "_core")}


class PlainUnpickler(pickle.Unpickler):
    """An unpickler whose every global is one of ours."""

    def __init__(self, stream: Any, where: str):
        super().__init__(stream)
        self.where = where

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a name. Raises `BadInput` for a name that is not on the list."""
        if (module, name) == ("builtins", "__main__"):
            module = "__builtin__"
        if (module, name) not in ALLOWED:
            raise BadInput(
                f"{self.where} names {module}.{name}, which is neither a container nor a "
                "number: it is not read"
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to objects outside the file."""
        raise BadInput(f"{self.where} refers to an outside object {pid!r}: it is not read")


def plain(value: Any) -> Any:
    """Dicts, lists and arrays of what was read, stand-ins resolved."""
    if isinstance(value, Array):
        return value.value
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def load(stream: Any, where: str) -> Any:
    """The content of an open pickle as dicts, lists, numbers, strings and numpy arrays.

    Raises `BadInput` on anything else or a damaged file.
    """
    try:
        return plain(PlainUnpickler(stream, where).load())
    except BadInput:
        raise
    except (
        pickle.UnpicklingError,
        EOFError,
        OSError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        KeyError,
        MemoryError,
    ) as error:
        raise BadInput(f"{where} is not a pickle of containers and arrays: {error}") from error


def read(path: Path) -> Any:
    """The content of a pickle file; see `load`."""
    with open(path, "rb") as stream:
        return load(stream, str(path))
