"""Tensors by name in safetensors files; and what damaged files of tensors raise."""

import contextlib
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, describe_error, open_atomically, open_binary

# What the standard library, NumPy and safetensors raise on damaged bytes.
_DAMAGE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    safetensors.SafetensorError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

# Number types as safetensors and PyTorch's storage classes name them -> NumPy dtypes of the bytes.
# NumPy has no bfloat16, which is the upper half of a float32: see `widen`.
NUMBER_TYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "?"},
    **{"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2"},
    **{"BFloat16Storage": "<u2", "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2"},
    **{"CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "?"},
}


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors (float16 and bfloat16 as float32) and the metadata of the file.

    Raises:
      HRNetError: unreadable, damaged, or no safetensors file.
    """
    path = as_path(path)
    with one_line_errors(path):
        with open_file(path) as file:
            data = file.read()
        entries = safetensors.deserialize(data)  # checks the header and every offset
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        del data
        tensors = {}
        for name, entry in sorted(entries, key=lambda item: header[item[0]]["data_offsets"]):
            array = np.frombuffer(entry.pop("data"), number_type(entry["dtype"]))
            tensors[name] = widen(array, entry["dtype"]).reshape(entry["shape"])
    return tensors, header.get("__metadata__", {})


_WRITTEN = {"float64": "F64", "float32": "F32", "float16": "F16", "int64": "I64", "uint8": "U8"}


def write_safetensors(
    path: str | Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, str]
) -> None:
    """Writes NumPy arrays by name; the file appears whole or not at all.

    One tensor after the other: a network whose kernels are transposed views of a file is not in
    memory once more. The library's own writer takes contiguous arrays only, all at once.

    Raises:
      HRNetError: cannot be written.
      KeyError: an array is neither float64, float32, float16, int64 nor uint8.
    """
    # Wide numbers first, so that all are aligned, which PyTorch's reader needs.
    tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
    entries: dict[str, dict] = {"__metadata__": dict(header)}
    position = 0
    for name, array in tensors.items():
        offsets = [position, position + array.nbytes]
        kind = _WRITTEN[array.dtype.name]
        entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": offsets}
        position = offsets[1]
    head = json.dumps(entries).encode()
    head += b" " * (-len(head) % 8)  # as safetensors does: the tensors are aligned
    with open_atomically(path, binary=True) as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for array in tensors.values():
            file.write(np.ascontiguousarray(array).data)


@contextlib.contextmanager
def one_line_errors(path):
    """Turns what damaged bytes raise into an HRNetError that names the file."""
    try:
        yield
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HRNetError(
            f"{path} is damaged or incomplete, or not a file of torch.save or safetensors "
            f"({reason})"
        ) from error


def open_file(path):
    """Opens a file to read bytes; HRNetError for what is none."""
    if not path.is_file():  # also keeps a pipe or a device from blocking
        raise HRNetError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        return open_binary(path)
    except OSError as error:
        raise HRNetError(f"cannot read {path}: {describe_error(error)}") from error


def number_type(kind):
    """The NumPy dtype of the bytes of a number type of safetensors or PyTorch."""
    if kind not in NUMBER_TYPES:
        raise ValueError(f"unknown number type {ascii(kind)[:40]}")
    return NUMBER_TYPES[kind]


def widen(array, kind):
    """float16 and bfloat16 to float32; others as they are."""
    if kind in ("BF16", "BFloat16Storage"):
        return (array.astype("<u4") << 16).view("<f4")
    return array.astype("<f4") if array.dtype == np.float16 else array
