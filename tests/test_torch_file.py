"""The reader of PyTorch files: every container, damaged files, hostile files."""

import io
import os
import pickle
import resource
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from hrnet_jax.errors import HRNetError
from hrnet_jax.tensors import NUMBER_TYPES, number_type
from hrnet_jax.torch_weights.names import Entry
from hrnet_jax.torch_weights.torch_file import read_torch_file, read_weight_file
from hrnet_jax.torch_weights.unpickle import load_pickle
from tests.torch_writer import (
    MAGIC,
    Object,
    Raw,
    View,
    legacy_bytes,
    module,
    torch_bytes,
    zip_bytes,
)

DATA = Path(__file__).parent / "data"


def small_state():
    """A few tensors with names as in the official network, in an order that no sort gives."""
    rng = np.random.default_rng(0)
    state = {
        "conv1.weight": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "bn1.weight": rng.normal(size=4).astype(np.float32),
        "bn1.running_var": rng.normal(size=4).astype(np.float32),
        "bn1.num_batches_tracked": np.array(7, np.int64),
        "stage2.0.fuse_layers.1.0.0.0.weight": rng.normal(size=(2, 2, 3, 3)).astype(np.float32),
        "head.3.bias": rng.normal(size=5).astype(np.float32),
    }
    return state


def check_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape, name
        assert found[name].tobytes() == array.tobytes(), name


def wrapped(state):
    """The containers of FACTS 7, by name."""
    prefixed = {f"module.{name}": array for name, array in state.items()}
    network = module(state)
    parallel = module({}, "torch.nn.parallel.data_parallel.DataParallel")
    parallel.state["_modules"] = {"module": network}
    numpy_scalar = Raw(
        b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNtb"
        b"c_codecs\nencode\n(X\x02\x00\x00\x00abX\x06\x00\x00\x00latin1tRtR"
    )
    history = Object("mmengine.logging.history_buffer.HistoryBuffer", {"_log": numpy_scalar})
    getattr_method = Raw(
        b"c__builtin__\ngetattr\n(cmmengine.logging.history_buffer\nHistoryBuffer\nU\x04meantR"
    )
    old_set = Raw(b"c__builtin__\nset\n((lp1\nK\x01atR")
    config = Object("yacs.config.CfgNode", {"WIDTH": 18})
    return {
        "plain": state,
        **{key: {key: state} for key in ("state_dict", "model_state_dict", "model", "net")},
        "module prefix": prefixed,
        "before June 2019": {"state_dict": prefixed, "epoch": 60, "best_nme": 3.4},
        "module": network,
        "DataParallel": parallel,
        "checkpoint with a DataParallel": {"state_dict": parallel, "epoch": 1, "config": config},
        "mmengine": {
            "meta": {"dataset_meta": numpy_scalar, "set": old_set, "methods": getattr_method},
            "message_hub": {"log": history},
            "state_dict": state,
            "optimizer": {"state": {0: {"exp_avg": np.ones(3, np.float32)}}},
        },
        "a loss beside the weights": {"state_dict": state, "best_nme": np.array([3.4], np.float32)},
        "__main__": {"state_dict": state, "arguments": Object("__main__.Config", {})},
        "argparse": {"state_dict": state, "arguments": Object("argparse.Namespace", {"lr": 1.0})},
    }


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


# Hostile files


class Attack:
    """Unpickling it the usual way runs a command."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("kind", ["zip", "legacy", "bare", "beside the weights"])
def test_commands_are_not_run(tmp_path, kind, protocol):
    marker, path = tmp_path / "marker", tmp_path / "w.pth"
    code = pickle.dumps(Attack(marker), protocol)
    path.write_bytes(
        {
            "zip": zip_bytes(code, {}),
            "legacy": legacy_bytes(code),
            "bare": code,
            "beside the weights": torch_bytes(
                {"state_dict": small_state(), "extra": Raw(b"cposix\nsystem\n(S'x'\ntR")}
            ),
        }[kind]
    )
    with pytest.raises(HRNetError, match=r"w\.pth: names posix\.system, which no weight file"):
        read_torch_file(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "nt.system",
        "builtins.eval",
        "builtins.exec",
        "__builtin__.execfile",
        "builtins.getattr.__self__",
        "builtins.__import__",
        "subprocess.Popen",
        "socket.socket",
        "functools.reduce",
        "pickle.loads",
        "types.FunctionType",
        "logging.config.dictConfig",
        "importlib.import_module",
        "os.path\x1b[31m.join",
    ],
)
def test_refused_names(tmp_path, name):
    path = tmp_path / "w.pth"
    module_name, _, function = name.rpartition(".")
    code = Raw(f"c{module_name}\n{function}\n(tR".encode())
    path.write_bytes(torch_bytes({"state_dict": small_state(), "x": code}))
    with pytest.raises(HRNetError, match="which no weight file needs: refused") as error:
        read_torch_file(path)
    assert str(error.value).isprintable()


def test_unknown_classes_are_not_imported(tmp_path, monkeypatch):
    """A package of the network's author becomes a stub, even where it is installed."""
    (tmp_path / "authors_package.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "w.pth"
    extra = Object("authors_package.Config", {})
    path.write_bytes(torch_bytes({"state_dict": small_state(), "x": extra}))
    check_same(read_torch_file(path), small_state())


DEEP = 200_000
BOMBS = {
    "long integer": b"\x8b\xff\xff\xff\x7f",
    "huge memo": b"Nr\xff\xff\xff\xff0",
    "huge text": b"\x8d" + struct.pack("<Q", 2**40),
    "huge bytes": b"\x8e" + struct.pack("<Q", 2**62),
    "huge bytearray": b"\x96" + struct.pack("<Q", 2**40),
    "huge frame": b"\x95" + struct.pack("<Q", 2**60),
    "deep list": b"]" * DEEP + b"a" * (DEEP - 1),
    "deep tuple": b")" + b"\x85" * DEEP,
    "deep tuple as a key": b"}" + b")" + b"\x85" * DEEP + b"Ns",
    "deep tuple in a set": b"\x8f(" + b")" + b"\x85" * DEEP + b"\x90",
    "deep marks": b"(" * DEEP,
    "deep objects": b"caa\nb\n)\x81q\x00" + b"caa\nb\n)\x81h\x00bq\x00" * 20_000,
    "many lists": b"]" * 1_100_000,
    "copies": b"]("
    + b"NN\x86" * 3000
    + b"eq\x000"
    + b"ccollections\nOrderedDict\n(h\x00tR0" * 3000,
    "itself": b"}q\x00X\x0a\x00\x00\x00state_dicth\x00s",
    "decimal": b"I" + b"9" * 100_000 + b"\n",
    "extension": b"\x82\x01",
    "buffer": b"\x97",
    "outside": b"Pfile\n",
    "empty stack": b"0",
    "no mark": b"t",
    "memo missing": b"h\x07",
}


@pytest.mark.parametrize("kind", ["zip", "legacy"])
@pytest.mark.parametrize("name", BOMBS)
def test_bombs(tmp_path, name, kind):
    path = tmp_path / "w.pth"
    code = b"\x80\x02" + BOMBS[name] + b"."
    path.write_bytes(zip_bytes(code, {}) if kind == "zip" else legacy_bytes(code))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises(HRNetError, match=r"w\.pth"):
        read_torch_file(path)
    assert time.process_time() - start < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # KiB


@pytest.mark.parametrize("kind", ["keys", "memo", "negative memo"])
def test_numbers_of_equal_hash_take_no_time(kind):
    numbers = [i * (2**61 - 1) for i in range(1, 20_000)]  # Python hashes each of them to 0
    if kind == "keys":
        data = b"}(" + b"".join(b"L%dL\nN" % n for n in numbers) + b"u."
    else:
        sign = b"-" if kind.startswith("negative") else b""
        data = b"N" + b"".join(b"p%b%d\n" % (sign, n) for n in numbers) + b"."
    start = time.perf_counter()
    try:
        assert load_pickle(io.BytesIO(data)) == {}
    except ValueError as error:
        assert "counts beyond its length" in str(error)
    assert time.perf_counter() - start < 2  # 0.1 s; each compared with all before: 10 s


def test_modules_that_contain_themselves(tmp_path):
    """Two children that are the same module, 60 times over, would be 2**60 modules."""
    path = tmp_path / "w.pth"
    leaf = b"clib\nLeaf\n)\x81}X\x08\x00\x00\x00_modules}sbq\x00"
    level = (
        b"clib\nNode\n)\x81}X\x08\x00\x00\x00_modules}(X\x01\x00\x00\x00ah\x00X\x01\x00\x00\x00b"
        b"h\x00usbq\x00"
    )
    for code in (leaf + level * 60, b"clib\nNode\n)\x81q\x00}X\x08\x00\x00\x00_modules}"
                 b"X\x01\x00\x00\x00ah\x00ssb"):  # fmt: skip
        path.write_bytes(zip_bytes(b"\x80\x02" + code + b".", {}))
        with pytest.raises(HRNetError, match="nested without end"):
            read_torch_file(path)


def test_zip_bombs(tmp_path):
    path = tmp_path / "w.pth"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 50_000_000)
    path.write_bytes(out.getvalue())
    with pytest.raises(HRNetError, match="compressed or overlap"):
        read_torch_file(path)


def test_many_views_of_one_storage(tmp_path):
    path = tmp_path / "w.pth"
    base = np.zeros(10_000, np.float32)
    views = {str(i): View(base, 0, (100, 100), (1, 100)) for i in range(1000)}
    path.write_bytes(torch_bytes(views))
    with pytest.raises(HRNetError, match="larger than the file"):
        read_torch_file(path)


# Other files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged or incomplete, or not a file of torch.save or safetensors"),
        (b"<!DOCTYPE html><html>", "is damaged or incomplete, or not a file"),
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


# Random damage


def damaged(rng, data: bytes) -> bytes:
    """One to three of: flipped bytes, cut end, inserted bytes, repeated or swapped pieces."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        a, b = sorted(rng.integers(0, len(data) + 1, 2))
        b = min(b, a + int(rng.integers(1, 200)))
        match rng.integers(0, 6):
            case 0:
                for position in rng.integers(0, len(data), rng.integers(1, 6)):
                    data[position] ^= 1 << rng.integers(0, 8)
            case 1:
                data[a : a + 1] = rng.bytes(1)
            case 2:
                data = data[: max(a, 1)]
            case 3:
                data[a:a] = rng.bytes(int(rng.integers(1, 20)))
            case 4:
                data[a:a] = data[a:b] * int(rng.integers(1, 4))
            case 5:
                data[a:b] = rng.choice([b"", b"\xff" * 8, b"\0" * (b - a)])
    return bytes(data)


def fuzz_table():
    return [
        Entry(name, None if array.ndim == 0 else ("params", name), array.shape, "vector")
        for name, array in small_state().items()
    ]


FUZZED = {
    "zip": lambda: torch_bytes({"state_dict": small_state(), "epoch": 3}),
    "zip module": lambda: torch_bytes(wrapped(small_state())["DataParallel"]),
    "legacy": lambda: torch_bytes(wrapped(small_state())["mmengine"], legacy=True),
    "legacy module": lambda: torch_bytes(wrapped(small_state())["DataParallel"], legacy=True),
    "safetensors": lambda: safetensors.numpy.save(small_state(), {"format": "pt"}),
}


@pytest.mark.parametrize("kind", FUZZED)
def test_random_damage(tmp_path, kind):
    """400 damaged files of each kind: an error in one line, or tensors within their bounds."""
    from hrnet_jax.torch_weights.convert import to_flax

    original = FUZZED[kind]()
    path = tmp_path / "w.pth"
    rng = np.random.default_rng(list(FUZZED).index(kind))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = 0
    for case in range(400):
        content = damaged(rng, original)
        path.write_bytes(content)
        start = time.process_time()
        try:
            found = read_torch_file(path)
            read += 1
        except HRNetError as error:
            assert str(path) in str(error) and "\n" not in str(error), case
        else:
            assert sum(array.nbytes for array in found.values()) <= 8 * len(content), case
            if kind.startswith("zip"):  # every entry has a checksum
                check_same(found, small_state())
            try:
                to_flax(found, fuzz_table(), source=path)
            except HRNetError as error:
                assert str(path) in str(error) and "\n" not in str(error), case
        assert time.process_time() - start < 5, case
    assert read < 400
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


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
