"""The reader of PyTorch files: every container, other files, files of PyTorch itself."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from hrnet_jax.errors import HRNetError
from hrnet_jax.tensors import NUMBER_TYPES, number_type
from hrnet_jax.torch_weights.torch_file import read_torch_file, read_weight_file
from tests.torch_writer import (
    MAGIC,
    Object,
    View,
    check_same,
    small_state,
    torch_bytes,
    wrapped,
    zip_bytes,
)

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("container", wrapped(small_state()))
def test_containers(tmp_path, monkeypatch, container, legacy):
    for name in ("torch", "lib", "mmengine", "yacs", "numpy._core.multiarray.scalar"):
        monkeypatch.setitem(__import__("sys").modules, name, None)  # any import of it would fail
    path = tmp_path / "weights.bin"  # the ending says nothing
    path.write_bytes(torch_bytes(wrapped(small_state())[container], legacy))
    check_same(read_torch_file(path), small_state())


def test_container_in_words(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(torch_bytes(wrapped(small_state())["checkpoint with a DataParallel"]))
    container = 'zip, "state_dict", a pickled torch.nn.parallel.data_parallel.DataParallel'
    assert read_weight_file(path).container == container + ', names start with "module."'


def test_safetensors(tmp_path):
    path = tmp_path / "weights.pth"
    state = dict(sorted(small_state().items()))
    path.write_bytes(safetensors.numpy.save(state, {"format": "pt"}))
    found = read_torch_file(path)
    check_same({name: found[name] for name in state}, state)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_number_types(tmp_path, legacy):
    path = tmp_path / "w.pth"
    exact = np.array([1.0, -2.5, 0.0, 3.0e-3], np.float32)
    upper = (exact.view(np.uint32) >> 16).astype(np.uint16)
    bfloat16 = View(upper.view(np.uint8).view(np.uint16), 0, (4,), (1,), "BFloat16Storage")
    state = {"half": exact.astype(np.float16), "double": exact.astype(np.float64)}
    path.write_bytes(torch_bytes(state | {"brain": bfloat16, "long": np.array(3)}, legacy))
    found = read_torch_file(path)
    assert {name: array.dtype.name for name, array in found.items()} == {
        "half": "float32",
        "double": "float64",
        "brain": "float32",
        "long": "int64",
    }
    np.testing.assert_array_equal(found["half"], exact.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(found["brain"], (upper.astype(np.uint32) << 16).view(np.float32))
    assert found["long"].shape == () and found["long"] == 3


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_views_and_shared_storages(tmp_path, legacy):
    path = tmp_path / "w.pth"
    base = np.arange(24, dtype=np.float32)
    views = {
        "all": View(base, 0, (24,), (1,)),
        "transposed": View(base, 0, (6, 4), (1, 6)),
        "column": View(base, 3, (4,), (6,)),
        "scalar": View(base, 5, (), ()),
        "empty": View(base, 0, (0, 3), (3, 1)),
    }
    path.write_bytes(torch_bytes(views, legacy))
    found = read_torch_file(path)
    np.testing.assert_array_equal(found["all"], base)
    np.testing.assert_array_equal(found["transposed"], base.reshape(4, 6).T)
    np.testing.assert_array_equal(found["column"], base.reshape(4, 6)[:, 3])
    assert found["scalar"].shape == () and found["scalar"] == 5
    assert found["empty"].shape == (0, 3)


@pytest.mark.parametrize(
    "view",
    [
        (20, (5,), (1,)),
        (0, (5, 5), (1, 1)),  # larger than its storage: a repeated view
        (0, (2**40,), (0,)),
        (0, (2, 2), (30, 1)),
        (-1, (2,), (1,)),
        (0, (-3,), (1,)),
        (0, (2,), (-1,)),
        (0, (2,), ()),
        (0, (1,) * 40, (1,) * 40),
    ],
)
def test_views_beyond_their_storage(tmp_path, view):
    path = tmp_path / "w.pth"
    offset, shape, strides = ([v] if isinstance(v, int) else v for v in view)
    limit = [v if v < 2**31 else 2**31 - 1 for v in shape]
    path.write_bytes(
        torch_bytes({"w": View(np.zeros(24, np.float32), offset[0], tuple(limit), tuple(strides))})
    )
    with pytest.raises(HRNetError, match=r"w\.pth is damaged"):
        read_torch_file(path)


def test_old_storage_view(tmp_path):
    """Before PyTorch 0.4 a storage could be a part of another."""
    path = tmp_path / "w.pth"
    base = np.arange(6, dtype=np.float32)
    code = torch_bytes({"w": View(base, 0, (2,), (1,))}, legacy=True)
    part = b"(X\x04\x00\x00\x00viewJ\x03\x00\x00\x00J\x02\x00\x00\x00t"
    assert code.count(b"NtQ") == 1
    path.write_bytes(code.replace(b"NtQ", part + b"tQ"))
    np.testing.assert_array_equal(read_torch_file(path)["w"], base[3:5])


# Other files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged or incomplete, or not a file of torch.save or safetensors"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (MAGIC, "is damaged or incomplete, or not a file"),
        (b"PK\x03\x04" + bytes(100), "is damaged or incomplete, or not a file"),
        (pickle.dumps({"a": 1}), "without PyTorch's magic number"),
        (torch_bytes(np.zeros(3, np.float32)), "holds no state dict: it is a single tensor"),
        (torch_bytes({"epoch": 1}), r"a dictionary without tensors, with 1 entries \('epoch'\)"),
        (torch_bytes([1]), "holds no state dict: it is of type list"),
        (torch_bytes(Object("lib.core.X", {})), "holds no state dict: it is a pickled lib.core.X"),
        (zip_bytes(b"\x80\x02}.", {}, root="a").replace(b"data.pkl", b"data.txt"), "one data.pkl"),
        (zip_bytes(b"\x80\x02}.", {}).replace(b"archive/version", b"archive/constan"), "no state"),
        (zip_bytes(b"\x80\x02}.", {}).replace(b"little", b"litter"), "damaged"),
        (b"\x08\0\0\0\0\0\0\0{}      ", "holds no tensors"),
    ],
)
def test_other_files(tmp_path, content, message):
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(HRNetError, match=message) as error:
        read_torch_file(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_paths(tmp_path):
    with pytest.raises(HRNetError, match="no such file"):
        read_torch_file(tmp_path / "absent.pth")
    with pytest.raises(HRNetError, match="not a file"):
        read_torch_file(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HRNetError, match="not a file"):
        read_torch_file(tmp_path / "pipe")


def test_big_endian(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(torch_bytes(small_state(), legacy=True).replace(b"endian\x88", b"endian\x89"))
    with pytest.raises(HRNetError, match="big-endian"):
        read_torch_file(path)


# Files that PyTorch itself wrote


@pytest.mark.parametrize("name", ["module_zip.pth", "module_legacy.pth"])
def test_files_of_pytorch(name):
    """tests/data/module_*.pth: `torch.save(DataParallel(HighResolutionNet()))`, PyTorch 2.13.

    The class is a stand-in with two convolutions, named as the official one.
    """
    file = read_weight_file(DATA / name)
    expected = np.load(DATA / "module_expected.npz")
    check_same(file.tensors, dict(expected))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_agrees_with_pytorch(tmp_path, legacy):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2, bias=False)
    )
    network[0].weight.data = network[0].weight.data.to(memory_format=torch.channels_last)
    state = network.state_dict()
    expected = {name: tensor.numpy().copy(order="C") for name, tensor in state.items()}
    brain = {name: t.bfloat16() if t.is_floating_point() else t for name, t in state.items()}
    rounded = {
        n: t.float().numpy() if t.is_floating_point() else t.numpy() for n, t in brain.items()
    }
    optimiser = torch.optim.Adam(network.parameters())
    path = tmp_path / "w.pt"
    for content, result in (
        (state, expected),
        (dict(state), expected),
        (network, expected),
        (torch.nn.DataParallel(network), expected),
        (
            {"state_dict": network, "optimizer": optimiser.state_dict(), "nme": np.float64(3)},
            expected,
        ),
        ({"net": brain}, rounded),
    ):
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        check_same(read_torch_file(path), result)


def test_every_number_type_has_a_numpy_dtype():
    for kind in NUMBER_TYPES:
        np.dtype(number_type(kind))
