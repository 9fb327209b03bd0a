"""Reads PyTorch weight files (.pth, .pth.tar, .pt, .safetensors) without PyTorch, safely.

    tensors = read_torch_file("HR18-WFLW.pth")          # {"conv1.weight": float32 (64, 3, 3, 3), …}

The content decides how a file is read, not its name. Nothing that a file names is imported or
called (`hrnet_jax.weights.unpickle`), and sizes are checked against the size of the file, so a
damaged or hostile file gives an `HRNetError`, whatever it holds.
"""

import contextlib
import dataclasses
import io
import json
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors

from hrnet_jax.errors import HRNetError
from hrnet_jax.weights.unpickle import RefusedNameError, Stub, Tensor, load_pickle

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
# NumPy has no bfloat16, which is the upper half of a float32: see `_widen`.
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "?"},
    **{"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2"},
    **{"BFloat16Storage": "<u2", "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2"},
    **{"CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "?"},
}

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MODULE_PARTS = ("_parameters", "_buffers", "_modules")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """Tensors by their PyTorch name, and where they lay in the file, in words."""

    tensors: dict[str, np.ndarray]
    container: str


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a PyTorch or safetensors file by name, in the file's order.

    float16 and bfloat16 become float32; other dtypes stay. See `read_weight_file`.
    """
    return read_weight_file(path).tensors


def read_weight_file(path: str | Path) -> WeightFile:
    """Reads the state dict of a weight file, out of whatever it is wrapped in.

    Files: `torch.save` (zip, and the pickles of PyTorch before 1.6) and safetensors. Wrappings: a
    plain state dict; a dictionary with "state_dict", "model_state_dict", "model" or "net"; a
    pickled module object (what the official training code saves), also in `DataParallel`; names
    that all start with "module.". Anything else in the file (optimiser, epoch, log) is left alone.

    Raises:
      HRNetError: unreadable, damaged, or no weight file; or it names a function that no weight file
        needs, such as `os.system`.
    """
    path = Path(path)
    with _one_line_errors(path):
        with _open(path) as file:
            start = file.read(9)
        if start.startswith(b"PK\x03\x04"):
            tensors, container = _read_zip(path)
        elif start.endswith(b"{") and len(start) == 9:
            tensors, container = read_safetensors(path)[0], ["safetensors"]
        else:
            tensors, container = _read_legacy(path)
        if not tensors:
            raise HRNetError(f"{path} holds no tensors")
        if all(name.startswith("module.") for name in tensors):
            tensors = {name.removeprefix("module."): array for name, array in tensors.items()}
            container.append('names start with "module."')
    return WeightFile(tensors, ", ".join(container))


def read_safetensors(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors (float16 and bfloat16 as float32) and the metadata of the file.

    Raises:
      HRNetError: unreadable, damaged, or no safetensors file.
    """
    path = Path(path)
    with _one_line_errors(path):
        with _open(path) as file:
            data = file.read()
        entries = safetensors.deserialize(data)  # checks the header and every offset
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        del data
        tensors = {}
        for name, entry in sorted(entries, key=lambda item: header[item[0]]["data_offsets"]):
            array = np.frombuffer(entry.pop("data"), _dtype(entry["dtype"]))
            tensors[name] = _widen(array, entry["dtype"]).reshape(entry["shape"])
    return tensors, header.get("__metadata__", {})


@contextlib.contextmanager
def _one_line_errors(path):
    try:
        yield
    except RefusedNameError as error:
        raise HRNetError(f"{path}: {error}: refused") from error
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise HRNetError(
            f"{path} is damaged or incomplete, or not a file of torch.save or safetensors "
            f"({reason})"
        ) from error


def _open(path):
    if not path.is_file():  # also keeps a pipe or a device from blocking
        raise HRNetError(f"{path}: {'not a file' if path.exists() else 'no such file'}")
    try:
        return open(path, "rb")
    except OSError as error:
        raise HRNetError(f"cannot read {path}: {error.strerror}") from error


def _read_zip(path):
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        stored = all(e.compress_type == 0 and e.compress_size == e.file_size for e in entries)
        if not stored or sum(entry.file_size for entry in entries) > size:
            raise ValueError("its zip entries are compressed or overlap")
        pickles = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("a zip archive without one data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in archive.namelist():
            raise HRNetError(f"{path} is a TorchScript program: save its state_dict() instead")
        if f"{root}byteorder" in archive.namelist():
            _check_little_endian(archive.read(f"{root}byteorder") == b"little")
        content = load_pickle(io.BytesIO(archive.read(pickles[0])))

        def read_storage(key):
            return archive.read(f"{root}data/{key}")

        tensors, container = _find_tensors(path, content)
        return _load(tensors, read_storage, size), ["zip", *container]


def _read_legacy(path):
    """PyTorch < 1.6: pickles of magic, version, system, content, keys; then the storages."""
    with _open(path) as file:
        data = file.read()
    stream = io.BytesIO(data)
    content = load_pickle(stream)
    if content != _LEGACY_MAGIC:
        raise ValueError("a pickle without PyTorch's magic number")
    load_pickle(stream)
    system = load_pickle(stream)
    _check_little_endian(isinstance(system, dict) and system.get("little_endian") is True)
    storages = {}
    content = load_pickle(stream, storages)
    view = memoryview(data)
    found = {}
    keys = load_pickle(stream)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("the list of its storages is missing")
    position = stream.tell()
    for key in keys:
        (length,) = struct.unpack_from("<q", view, position)
        size = length * np.dtype(_dtype(storages[key].kind)).itemsize
        position += 8
        if not 0 <= size <= len(data) - position:
            raise ValueError("it ends within its tensors")
        found[key] = view[position : position + size]
        position += size
    tensors, container = _find_tensors(path, content)
    return _load(tensors, found.__getitem__, len(data)), ["before PyTorch 1.6", *container]


def _check_little_endian(little):
    if not little:
        raise ValueError("written on a big-endian machine")


def _find_tensors(path, content) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the state dict in a checkpoint's content, and the wrappings on the way to it."""
    container = []
    for _ in range(4):
        if isinstance(content, Stub) and _parts(content, "_modules") is not None:
            return _module_tensors(content), [*container, f"a pickled {content.name}"]
        if not isinstance(content, dict):
            break
        inside = [key for key in _WRAPPERS if isinstance(content.get(key), dict | Stub)]
        if not inside:
            break
        container.append(f'"{inside[0]}"')
        content = content[inside[0]]
    tensors = {}
    if isinstance(content, dict):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise HRNetError(f"{path} holds no state dict: it is {_describe(content)}")
    return tensors, container or ["a state dict"]


def _describe(content):
    if isinstance(content, Tensor):
        return "a single tensor"
    if isinstance(content, Stub):
        return f"a pickled {ascii(content.name)[1:-1][:80]}"
    if isinstance(content, dict):
        names = ", ".join(ascii(key)[:40] for key in list(content)[:5])
        return f"a dictionary without tensors, with {len(content)} entries ({names})"
    return f"of type {type(content).__name__}"


def _parts(module: Stub, group):
    """A pickled module's `_parameters`, `_buffers` or `_modules`; None for another object."""
    parts = module.state.get(group) if isinstance(module.state, dict) else None
    return parts if isinstance(parts, dict) else None


def _module_tensors(root: Stub) -> dict[str, Tensor]:
    """What `state_dict()` of a pickled module would give, names and order."""
    tensors, visits = {}, 0

    def visit(module, prefix):
        nonlocal visits
        groups = {name: _parts(module, name) or {} for name in _MODULE_PARTS}
        visits += 1 + sum(map(len, groups.values()))
        if visits > 100_000 or len(prefix) > 500:  # HRNet-W64 has 5000; a cycle has no end
            raise ValueError("its modules are nested without end")
        for name, value in (groups["_parameters"] | groups["_buffers"]).items():
            if isinstance(value, Tensor):  # None: a convolution without bias
                tensors[f"{prefix}{name}"] = value
        for name, child in groups["_modules"].items():
            if isinstance(child, Stub):  # None: a branch that a transition passes on
                visit(child, f"{prefix}{name}.")

    visit(root, "")
    return tensors


def _load(tensors: dict[str, Tensor], read_storage: Callable, file_size: int):
    """Reads the tensors' storages: each once, checked against the size of the file."""
    # Tensors may share a storage, so a small file could ask for endless copies of it.
    if sum(math.prod(tensor.shape) for tensor in tensors.values()) > file_size:
        raise ValueError("its tensors are larger than the file")
    storages, arrays = {}, {}
    for name, tensor in tensors.items():
        key, kind = tensor.storage.key, tensor.storage.kind
        if key not in storages:
            storages[key] = read_storage(key)
        view = _view(np.frombuffer(storages[key], _dtype(kind)), tensor)
        arrays[name] = _widen(view, kind)
    return arrays


def _view(flat, tensor):
    storage, shape = tensor.storage, tensor.shape
    flat = flat[storage.start : storage.start + storage.length]
    count = math.prod(shape)
    if count == 0:
        return np.zeros(shape, flat.dtype)
    steps = zip(shape, tensor.strides, strict=True)
    last = tensor.offset + sum((size - 1) * stride for size, stride in steps)
    if last >= len(flat) or count > len(flat):
        raise ValueError("a tensor reaches beyond its data")
    strides = [stride * flat.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, strides)
    return np.asarray(view, order="C")


def _dtype(kind):
    if kind not in _DTYPES:
        raise ValueError(f"unknown number type {ascii(kind)[:40]}")
    return _DTYPES[kind]


def _widen(array, kind):
    """float16 and bfloat16 to float32; others as they are."""
    if kind in ("BF16", "BFloat16Storage"):
        return (array.astype("<u4") << 16).view("<f4")
    return array.astype("<f4") if array.dtype == np.float16 else array
