"""The reader of PyTorch files against those who mean harm, and against damage."""

import io
import os
import pickle
import resource
import struct
import time
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from hrnet_jax.errors import HRNetError
from hrnet_jax.torch_weights.names import Entry
from hrnet_jax.torch_weights.torch_file import read_torch_file
from hrnet_jax.torch_weights.unpickle import load_pickle
from tests.torch_writer import (
    Object,
    Raw,
    View,
    check_same,
    legacy_bytes,
    small_state,
    torch_bytes,
    wrapped,
    zip_bytes,
)


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
