"""Writes files as `torch.save` does, instruction by instruction, without PyTorch."""

import dataclasses
import io
import struct
import zipfile

import numpy as np

KINDS = {
    **{"float64": "DoubleStorage", "float32": "FloatStorage", "float16": "HalfStorage"},
    **{"int64": "LongStorage", "uint8": "ByteStorage", "bool": "BoolStorage"},
}
MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


@dataclasses.dataclass
class Object:
    """An object of the class `name` ("package.module.Class"), with the state `state`."""

    name: str
    state: object


@dataclasses.dataclass
class Raw:
    """Pickle instructions that leave one value on the stack."""

    code: bytes


@dataclasses.dataclass
class View:
    """A tensor that views the elements of `base`; equal bases share one storage."""

    base: np.ndarray
    offset: int
    shape: tuple
    strides: tuple
    kind: str | None = None


class _Pickler:
    def __init__(self, legacy):
        self.legacy, self.storages, self.keys, self.alive = legacy, {}, {}, []

    def key(self, base):
        if id(base) not in self.keys:
            self.keys[id(base)] = str(len(self.keys))
            self.storages[self.keys[id(base)]] = base
        return self.keys[id(base)]

    def code(self, value):
        match value:
            case None:
                return b"N"
            case bool():
                return b"\x88" if value else b"\x89"
            case int():
                return b"J" + struct.pack("<i", value)
            case float():
                return b"G" + struct.pack(">d", value)
            case str():
                return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
            case tuple():
                return b"(" + b"".join(map(self.code, value)) + b"t"
            case list():
                return b"(" + b"".join(map(self.code, value)) + b"l"
            case dict():
                items = b"".join(self.code(k) + self.code(v) for k, v in value.items())
                return _name("collections.OrderedDict") + b")R(" + items + b"u"
            case np.ndarray():
                base = np.ascontiguousarray(value).reshape(-1)
                self.alive.append(base)  # or its id would be used again
                strides = np.empty(value.shape, np.uint8).strides
                return self.code(View(base, 0, value.shape, strides))
            case View():
                return self.tensor(value)
            case Object():
                return _name(value.name) + b")\x81" + self.code(value.state) + b"b"
            case Raw():
                return value.code
        raise TypeError(type(value))

    def tensor(self, view):
        kind = view.kind or KINDS[view.base.dtype.name]
        key = self.key(view.base)
        identity = b"(" + self.code("storage") + _name(f"torch.{kind}")
        identity += b"".join(map(self.code, (key, "cpu", view.base.size)))
        identity += (b"N" if self.legacy else b"") + b"tQ"
        rest = b"".join(map(self.code, (view.offset, view.shape, view.strides, False)))
        hooks = _name("collections.OrderedDict") + b")R"
        return _name("torch._utils._rebuild_tensor_v2") + b"(" + identity + rest + hooks + b"tR"


def _name(full):
    module, _, name = full.rpartition(".")
    return f"c{module}\n{name}\n".encode()


def torch_bytes(value, legacy=False, root="archive") -> bytes:
    """The bytes of `torch.save(value)`; `legacy` for the format before PyTorch 1.6."""
    pickler = _Pickler(legacy)
    body = b"\x80\x02" + pickler.code(value) + b"."
    if legacy:
        return legacy_bytes(body, pickler)
    return zip_bytes(body, {k: v.tobytes() for k, v in pickler.storages.items()}, root)


def zip_bytes(body: bytes, storages: dict[str, bytes], root="archive") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{root}/data.pkl", body)
        archive.writestr(f"{root}/byteorder", b"little")
        for key, data in storages.items():
            archive.writestr(f"{root}/data/{key}", data)
        archive.writestr(f"{root}/version", b"3\n")
    return out.getvalue()


def legacy_bytes(body: bytes, pickler=None) -> bytes:
    pickler = pickler or _Pickler(legacy=True)

    def simple(value):
        return b"\x80\x02" + pickler.code(value) + b"."

    system = {"protocol_version": 1001, "little_endian": True}
    parts = [MAGIC, simple(1001), simple(system), body, simple(sorted(pickler.storages))]
    for key in sorted(pickler.storages):
        array = pickler.storages[key]
        parts += [struct.pack("<q", array.size), array.tobytes()]
    return b"".join(parts)


def module(tensors: dict, name="lib.models.hrnet.HighResolutionNet") -> Object:
    """A pickled `torch.nn.Module` whose `state_dict()` has these tensors."""
    own, children = {}, {}
    for key, value in tensors.items():
        head, _, rest = key.partition(".")
        if rest:
            children.setdefault(head, {})[rest] = value
        else:
            own[head] = value
    buffers = {k: v for k, v in own.items() if k.startswith(("running", "num"))}
    parameters = {k: v for k, v in own.items() if k not in buffers} | {"absent": None}
    modules = {k: module(v, "torch.nn.modules.container.Sequential") for k, v in children.items()}
    state = {"training": True, "_parameters": parameters, "_buffers": buffers}
    return Object(name, state | {"_modules": modules | {"missing_branch": None}})


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
