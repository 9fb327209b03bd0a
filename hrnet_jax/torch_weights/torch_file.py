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
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path
from hrnet_jax.tensors import number_type, one_line_errors, open_file, read_safetensors, widen
from hrnet_jax.torch_weights.networks import Group, choose
from hrnet_jax.torch_weights.unpickle import RefusedNameError, Stub, Tensor, load_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_MODULE_PARTS = ("_parameters", "_buffers", "_modules")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_ENDINGS = (".pth", ".pt", ".pth.tar", ".bin", ".ckpt", ".safetensors")
_DEPTH = 4  # of dictionaries in dictionaries
_OTHER_FILES = {
    b"<!doctype html": "is a web page: download the file itself, perhaps after signing in",
    b"<html": "is a web page: download the file itself, perhaps after signing in",
    b"version https://git-lfs": "is a pointer of Git LFS: fetch it with `git lfs pull`",
    b"\x1f\x8b": "is compressed with gzip: unpack it with gunzip, or with tar if it is a .tar.gz",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it",
    b"rar!": "is a RAR archive: unpack it",
    b"\x89hdf": "is an HDF5 file, of Keras perhaps: PyTorch's weights are wanted",
}


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """The tensors of a network by their PyTorch name, and where they lay in the file, in words.

    `beside` counts the tensors that lay among them and are of no network, or of another one.
    """

    tensors: dict[str, np.ndarray]
    container: str
    beside: int = 0


def read_torch_file(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a PyTorch or safetensors file by name, in the file's order.

    float16 and bfloat16 become float32; other dtypes stay. See `read_weight_file`.
    """
    return read_weight_file(path).tensors


def read_weight_file(path: str | Path, key: str | None = None) -> WeightFile:
    """Reads the state dict of a weight file, out of whatever it is wrapped in.

    Files: `torch.save` (zip, and the pickles of PyTorch before 1.6) and safetensors. A network of
    the HRNet family is found below any keys, in any pickled module object and behind any prefix of
    its names (`hrnet_jax.torch_weights.networks`). Of a file without one: a plain state dict, or
    that below "state_dict", "model_state_dict", "model" or "net", or the first; without "module."
    where all names start so. Anything else in the file (optimiser, epoch, log) is left alone.

    Args:
      key: which of several networks: the key that it lies under, or the prefix of its names. None:
        the only one, else the one averaged by EMA.

    Raises:
      HRNetError: unreadable, damaged, or no weight file; or it names a function that no weight file
        needs, such as `os.system`; or it has several networks and it is not clear which is meant.
    """
    path = as_path(path)
    with one_line_errors(path), _refusals(path):
        with open_file(path) as file:
            start = file.read(64)
        _refuse_other_files(path, start)
        if start.startswith(b"PK\x03\x04"):
            file = _read_zip(path, key)
        elif start[8:9] == b"{":
            group = Group((), (), read_safetensors(path)[0])
            tensors, about, beside = _choose(path, [group], key)
            file = WeightFile(dict(tensors), ", ".join(["safetensors", *about]), beside)
        else:
            file = _read_legacy(path, key)
        if not file.tensors:
            raise HRNetError(f"{path} holds no tensors")
    return file


def _refuse_other_files(path, start):
    """HRNetError for files that are often taken for weights, by their first bytes."""
    for magic, what in _OTHER_FILES.items():
        if start.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(magic):
            raise HRNetError(f"{path} {what}")


@contextlib.contextmanager
def _refusals(path):
    try:
        yield
    except RefusedNameError as error:
        raise HRNetError(f"{path}: {error}: refused") from error


def _read_zip(path, key):
    with open_file(path) as file, zipfile.ZipFile(file) as archive:
        size = file.seek(0, os.SEEK_END)
        entries = archive.infolist()
        _refuse_other_zips(path, archive.namelist())
        stored = all(e.compress_type == 0 and e.compress_size == e.file_size for e in entries)
        if not stored or sum(entry.file_size for entry in entries) > size:
            raise ValueError("its zip entries are compressed or overlap")
        pickles = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("a zip archive without one data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}byteorder" in archive.namelist():
            _check_little_endian(archive.read(f"{root}byteorder") == b"little")
        content = load_pickle(io.BytesIO(archive.read(pickles[0])))

        def read_storage(key):
            return archive.read(f"{root}data/{key}")

        tensors, about, beside = _choose(path, _groups(content), key, content)
        tensors = _load(tensors, read_storage, size)
        return WeightFile(tensors, ", ".join(["zip", *about]), beside)


def _refuse_other_zips(path, names):
    """HRNetError for zip archives that are often taken for what `torch.save` writes."""
    if any(PurePosixPath(name).match("*/code/*.py") for name in names) or any(
        name.endswith("/constants.pkl") for name in names
    ):
        raise HRNetError(
            f"{path} is a TorchScript program: save torch.jit.load(…).state_dict() instead"
        )
    if any(name.endswith(".npy") for name in names):
        raise HRNetError(f"{path} is an archive of NumPy arrays: PyTorch's weights are wanted")
    inside = [name for name in names if name.lower().endswith(_ENDINGS)]
    if inside and not any(name.endswith("data.pkl") for name in names):
        raise HRNetError(f"{path} is a zip archive with {ascii(inside[0])[:100]} in it: unpack it")


def _read_legacy(path, key):
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
    for name in keys:
        (length,) = struct.unpack_from("<q", view, position)
        size = length * np.dtype(number_type(storages[name].kind)).itemsize
        position += 8
        if not 0 <= size <= len(data) - position:
            raise ValueError("it ends within its tensors")
        found[name] = view[position : position + size]
        position += size
    tensors, about, beside = _choose(path, _groups(content), key, content)
    tensors = _load(tensors, found.__getitem__, len(data))
    return WeightFile(tensors, ", ".join(["before PyTorch 1.6", *about]), beside)


def _check_little_endian(little):
    if not little:
        raise ValueError("written on a big-endian machine")


def _groups(content) -> list[Group]:
    """All tensors of a checkpoint's content that have names, by the dictionaries they lie in."""
    groups, seen, budget = [], set(), _Budget()

    def visit(value, keys, about):
        if id(value) in seen or len(keys) > _DEPTH:
            return
        seen.add(id(value))
        if isinstance(value, Stub) and _parts(value, "_modules") is not None:
            tensors = _module_tensors(value, budget)
            groups.append(Group(keys, (*about, f"a pickled {value.name}"), tensors))
        elif isinstance(value, dict):
            budget.spend(len(value))
            named = [(name, part) for name, part in value.items() if isinstance(name, str)]
            tensors = {name: part for name, part in named if isinstance(part, Tensor)}
            if tensors:
                groups.append(Group(keys, about, tensors))
            for name, part in named:
                visit(part, (*keys, name), (*about, f'"{ascii(name)[1:-1][:80]}"'))

    visit(content, (), ())
    return groups


def _choose(path, groups, key, content=None):
    """(tensors, where they lay in words, number of others beside them) of what is meant."""
    network = choose(path, groups, key)
    if network is not None:
        return network.tensors, network.about or ("a state dict",), network.beside
    # No network of the family: the reader of the tensors will say what they are instead.
    orders = {keys: order for order, keys in enumerate([(), *((w,) for w in _WRAPPERS)])}
    groups = sorted(groups, key=lambda group: orders.get(group.keys, len(orders)))
    named = [group for group in groups if group.keys[:1] and group.keys[0] in _WRAPPERS]
    if not groups:
        raise HRNetError(f"{path} holds no state dict: it is {_describe(content)}")
    group = (named or groups)[0]
    tensors, about = group.tensors, group.about
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): part for name, part in tensors.items()}
        about = (*about, 'names start with "module."')
    return tensors, about or ("a state dict",), 0


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


class _Budget:
    """Bounds the work on a file whose objects contain each other."""

    def __init__(self, visits=300_000):  # an HRNet-W64 has 5000 parts; a cycle has no end
        self.left = visits

    def spend(self, visits):
        self.left -= visits
        if self.left < 0:
            raise ValueError("its modules are nested without end")


def _module_tensors(root: Stub, budget: _Budget) -> dict[str, Tensor]:
    """What `state_dict()` of a pickled module would give, names and order."""
    tensors = {}

    def visit(module, prefix):
        groups = {name: _parts(module, name) or {} for name in _MODULE_PARTS}
        budget.spend(1 + sum(map(len, groups.values())))
        if len(prefix) > 500:
            raise ValueError("its modules are nested without end")
        for name, value in (groups["_parameters"] | groups["_buffers"]).items():
            if isinstance(value, Tensor):  # None: a convolution without bias
                tensors[f"{prefix}{name}"] = value
        for name, child in groups["_modules"].items():
            if isinstance(child, Stub):  # None: a branch that a transition passes on
                visit(child, f"{prefix}{name}.")

    visit(root, "")
    return tensors


def _load(tensors: Mapping[str, Tensor], read_storage: Callable, file_size: int):
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
