"""Every kind of checkpoint in every container, written by PyTorch, against the PyTorch networks.

The networks of `tests.torch_reference` are first checked against the published state dicts.
"""

import functools
import hashlib
import json
import re
from collections import OrderedDict
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnet_jax import checkpoints
from hrnet_jax.torch_weights import convert, kinds
from tests import tiny
from tests.seeded import seeded_array, seeded_image

torch = pytest.importorskip("torch", reason="pip install 'hrnet-jax[torch]' to compare")

from tests.torch_reference import network  # noqa: E402 (it needs torch)

DIGESTS = json.loads((Path(__file__).parent / "data" / "state_dict_digests.json").read_text())
FACE, IMAGENET = "hrnetv2_w18_small_v1", "hrnet_w18_small_v1_imagenet"
SIZE = 64


@pytest.mark.parametrize("name", DIGESTS)
def test_the_reference_has_the_published_names(name):
    family, _, rest = name.partition("_")
    with torch.device("meta"):
        if family == "imagenet":
            made = network(f"hrnet_{rest}_imagenet", 1000)
        else:
            size, landmarks = rest.split("_")
            model = {"stack2": "hih_s", "stack4": "hih_b"}.get(size, f"hrnetv2_{size}")
            made = network(model, int(landmarks))
    content = [[key, list(tensor.shape)] for key, tensor in made.state_dict().items()]
    assert hashlib.sha256(json.dumps(content).encode()).hexdigest() == DIGESTS[name]


# Kinds: how the names of the official code become theirs (the way back from convert's table).

MMPRETRAIN = (
    (r"incre_modules\.", "neck.0.increase_layers."),
    (r"downsamp_modules\.(\d)\.0\.", r"neck.0.downsample_layers.\1.conv."),
    (r"downsamp_modules\.(\d)\.1\.", r"neck.0.downsample_layers.\1.bn."),
    (r"final_layer\.0\.", "neck.0.final_layer.conv."),
    (r"final_layer\.1\.", "neck.0.final_layer.bn."),
    (r"classifier\.", "head.fc."),
    (r"", "backbone."),
)
MMPOSE_0 = ((r"head\.", "keypoint_head.final_layer."), (r"", "backbone."))
MMPOSE_1 = (
    (r"head\.3\.", "head.final_layer."),
    (r"head\.", "head.conv_layers."),
    (r"", "backbone."),
)
KINDS = {  # model, outputs, optional biases, names, what it is recognised as
    "face": (FACE, 68, True, (), kinds.OFFICIAL_FACE),
    "mmpose_0": (FACE, 68, True, MMPOSE_0, kinds.MMPOSE_0),
    "mmpose_1": (FACE, 68, True, MMPOSE_1, kinds.MMPOSE_1),
    "imagenet": (IMAGENET, 1000, True, (), kinds.OFFICIAL_IMAGENET),
    "ssld": (IMAGENET, 1000, False, (), kinds.OFFICIAL_IMAGENET),
    "mmpretrain": (IMAGENET, 1000, False, MMPRETRAIN, kinds.MMPRETRAIN),
    "hih": (tiny.HOURGLASS, 29, True, (), kinds.HIH),
}


@functools.cache
def seeded_network(kind):
    model, outputs, biases, _, _ = KINDS[kind]
    made = network(model, outputs, biases)
    arrays = {k: seeded_array(k, tuple(v.shape), "a") for k, v in made.state_dict().items()}
    made.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})
    return made


def published_state(kind):
    """The network's tensors under the names of that kind of file."""

    def rename(name):
        for pattern, new in KINDS[kind][3]:
            if re.match(pattern, name):
                return re.sub(pattern, new, name, count=1)
        return name

    state = seeded_network(kind).state_dict()
    return OrderedDict((rename(name), tensor) for name, tensor in state.items())


# Containers


class HistoryBuffer:
    """As mmengine's, in the training log of its checkpoints."""

    def __init__(self):
        self._log_history = np.arange(3.0)


def plain(state, path, **kwargs):
    torch.save(state, path, **kwargs)


def legacy(state, path):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def wrapped(state, path):
    torch.save({"state_dict": state, "epoch": 59, "best_nme": {"nme": 0.04}, "optimizer": {}}, path)


def parallel(state, path):
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, path)


def mmengine(state, path):
    meta = {"dataset_meta": {"ids": np.arange(4), "mean": np.float64(1.5)}, "cfg": "model = dict()"}
    extra = {"data_preprocessor.mean": torch.zeros(3, 1, 1)}
    content = {"meta": meta, "state_dict": OrderedDict(state | extra), "optimizer": {"state": {}}}
    torch.save(content | {"message_hub": {"log_scalars": {"loss": HistoryBuffer()}}}, path)


def mmcls_legacy(state, path):
    content = {"meta": {"time": "now"}, "state_dict": state}
    torch.save(content, path, _use_new_zipfile_serialization=False)


def without_counters(state, path):
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, path)


def half(state, path, dtype=torch.float16, save=plain):
    save({k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}, path)


def safetensors(state, path):
    from safetensors.torch import save_file

    save_file(dict(state), path, {"format": "pt"})


def half_safetensors(state, path):
    half(state, path, save=safetensors)


def bfloat16(state, path):
    half(state, path, torch.bfloat16)


def bfloat16_legacy(state, path):
    half(state, path, torch.bfloat16, legacy)


def bfloat16_safetensors(state, path):
    half(state, path, torch.bfloat16, safetensors)


def pickled_module(state, path):
    """The module itself, as the official training code saves its best network."""
    torch.save(seeded_network("face"), path)


def pickled_parallel_module(state, path):
    module = torch.nn.DataParallel(seeded_network("face"))
    torch.save({"state_dict": module, "epoch": 3}, path, _use_new_zipfile_serialization=False)


CASES = [
    *(("face", c) for c in (plain, legacy, wrapped, parallel, without_counters, half, bfloat16)),
    *(("face", c) for c in (bfloat16_legacy, safetensors, pickled_module, pickled_parallel_module)),
    *(("mmpose_0", container) for container in (wrapped, mmcls_legacy, half)),
    *(("mmpose_1", container) for container in (mmengine, mmcls_legacy, bfloat16)),
    *(("imagenet", container) for container in (plain, safetensors, half_safetensors)),
    *(("ssld", container) for container in (safetensors, bfloat16_safetensors)),
    *(("mmpretrain", container) for container in (mmengine, mmcls_legacy)),
    *(("hih", c) for c in (wrapped, legacy, parallel, half, bfloat16_safetensors)),
]
HALVES = {half: torch.float16, half_safetensors: torch.float16}
BFLOATS = (bfloat16, bfloat16_legacy, bfloat16_safetensors)


@functools.cache
def expected_outputs(kind, dtype):
    """The PyTorch network's outputs, with the weights as that precision keeps them."""
    made = seeded_network(kind)
    state = {k: v.clone() for k, v in made.state_dict().items()}
    rounded = {k: v.to(dtype).float() if v.is_floating_point() else v for k, v in state.items()}
    made.load_state_dict(rounded)
    with torch.no_grad():
        outputs = made(torch.from_numpy(seeded_image((2, 3, SIZE, SIZE), "a")))
    made.load_state_dict(state)
    return [part.numpy() for part in (outputs if isinstance(outputs, tuple) else (outputs,))]


@functools.cache
def compiled(model):
    return jax.jit(model.apply)


def to_theirs(output):
    """Our output in PyTorch's layout: channels before height and width."""
    if not hasattr(output, "decimal_heatmaps"):
        return [output if output.ndim == 2 else output.transpose(0, 3, 1, 2)]
    decimals = output.decimal_heatmaps.transpose(0, 3, 1, 2)[:, None]
    return [output.heatmaps.transpose(0, 1, 4, 2, 3), decimals]


@pytest.mark.parametrize(("kind", "container"), CASES, ids=lambda x: getattr(x, "__name__", x))
def test_every_kind_in_every_container(tmp_path, kind, container):
    model, outputs, biases, _, title = KINDS[kind]
    state = published_state(kind)
    source = tmp_path / "published.pth"
    container(state, source)
    done = convert.convert_file(source, tmp_path / "model.safetensors")
    assert (done.kind, done.model, done.outputs) == (title, model, outputs)
    assert done.zero_biases == (0 if biases else 4)
    unused = sum(".skip_layer." in name for name in state) - 12 * (kind == "hih")
    counters = sum(name.endswith("num_batches_tracked") for name in state)
    assert done.used == len(state) - unused - counters * (container is without_counters)

    loaded = checkpoints.load(tmp_path / "model.safetensors")
    images = seeded_image((2, 3, SIZE, SIZE), "a").transpose(0, 2, 3, 1)
    with jax.default_matmul_precision("highest"):
        made = to_theirs(compiled(loaded.model)(loaded.variables, jnp.asarray(images)))
    dtype = torch.bfloat16 if container in BFLOATS else HALVES.get(container, torch.float32)
    for ours, theirs in zip(made, expected_outputs(kind, dtype), strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def test_enough_cases():
    assert len(CASES) >= 20 and {kind for kind, _ in CASES} == set(KINDS)
