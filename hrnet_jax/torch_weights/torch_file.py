"""Reads PyTorch weight files (.pth, .pth.tar, .pt, .safetensors) without PyTorch, safely.

    tensors = read_torch_file("HR18-WFLW.pth")          # {"conv1.weight": float32 (64, 3, 3, 3), …}

The content decides how a file is read, not its name. Nothing that a file names is imported or
called (see `unpickle.py` here), and sizes are checked against the size of the file, so a
damaged or hostile file gives an `HRNetError`, whatever it holds.
"""

import contextlib
import dataclasses
import io
import math
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path
from hrnet_jax.tensors import number_type, one_line_errors, open_file, read_safetensors, widen
from hrnet_jax.torch_weights.unpickle import RefusedNameError, Stub, Tensor, load_pickle

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
    path = as_path(path)
    with one_line_errors(path), _refusals(path):
        with open_file(path) as file:
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


@contextlib.contextmanager
def _refusals(path):
    try:
        yield
    except RefusedNameError as error:
        raise HRNetError(f"{path}: {error}: refused") from error


def _read_zip(path):
    with open_file(path) as file, zipfile.ZipFile(file) as archive:
        size = file.seek(0, os.SEEK_END)
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
    with open_file(path) as file:
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
        size = length * np.dtype(number_type(storages[key].kind)).itemsize
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
        view = _view(np.frombuffer(storages[key], number_type(kind)), tensor)
        arrays[name] = widen(view, kind)
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
