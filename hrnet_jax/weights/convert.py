"""Converts PyTorch state dicts to Flax variables and back.

convert_file("HR18-WFLW.pth", "runs/wflw_official")     # then hrnet_jax.load("runs/wflw_official")
export_torch("runs/wflw", "wflw.safetensors")           # for PyTorch users
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import hrnet_jax
from hrnet_jax import checkpoints
from hrnet_jax.errors import HRNetError
from hrnet_jax.models.variants import VARIANTS, HRNetVariant
from hrnet_jax.schemes import SCHEMES, get_scheme
from hrnet_jax.weights.names import Entry, backbone_table, model_table
from hrnet_jax.weights.torch_file import read_weight_file

# The parts of a whole network that a new network's backbone leaves behind.
CLASSIFICATION_HEAD = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
LANDMARK_HEAD = ("head.",)

_TO_FLAX = {"conv": (2, 3, 1, 0), "linear": (1, 0), "vector": None}
_TO_TORCH = {"conv": (3, 2, 0, 1), "linear": (1, 0), "vector": None}


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What `convert_file` recognised and wrote."""

    model: str
    num_landmarks: int
    scheme: str | None
    container: str
    used: int
    ignored: int
    destination: Path


def to_flax(
    state: Mapping[str, np.ndarray],
    table: list[Entry],
    ignored: tuple[str, ...] = (),
    source: str | Path = "the state dict",
) -> dict:
    """Returns Flax variables {"params": …, "batch_stats": …} with float32 NumPy leaves.

    Args:
      state: tensors by PyTorch name. PyTorch's batch counters may be missing.
      table: the network's tensors (`hrnet_jax.weights.names`).
      ignored: prefixes of names that may be there and are not used.
      source: what to call `state` in an error.

    Raises:
      HRNetError: tensors missing, unexpected, of a wrong shape or not finite: all in one message.
    """
    problems = {"missing": [], "unexpected": [], "of a wrong shape": [], "not finite": []}
    names = {entry.name for entry in table}
    problems["unexpected"] = [n for n in state if n not in names and not n.startswith(ignored)]
    leaves = {}
    for entry in table:
        if entry.path is None:
            continue
        if entry.name not in state:
            problems["missing"].append(entry.name)
        elif state[entry.name].shape != entry.shape:
            shapes = f"{state[entry.name].shape} instead of {entry.shape}"
            problems["of a wrong shape"].append(f"{entry.name}: {shapes}")
        else:
            with np.errstate(over="ignore"):  # float64 too large becomes inf: reported
                array = state[entry.name].astype(np.float32)
            if not np.isfinite(array).all():
                problems["not finite"].append(entry.name)
            leaves[entry.path] = _transposed(array, _TO_FLAX[entry.layout])
    checkpoints.raise_differences(f"{source} does not fit the network", problems)
    return unflatten_dict(leaves)


def to_torch(variables: Mapping, table: list[Entry]) -> dict[str, np.ndarray]:
    """Returns the PyTorch state dict, in the official order; the exact inverse of `to_flax`.

    Leaves keep their dtype. The batch counters of PyTorch's BatchNorm are int64 zeros.

    Raises:
      HRNetError: leaves missing, unexpected or of a wrong shape: all in one message.
    """
    problems = {"missing": [], "unexpected": [], "of a wrong shape": []}
    leaves = flatten_dict(dict(variables))
    paths = {entry.path for entry in table}
    problems["unexpected"] = ["/".join(path) for path in leaves if path not in paths]
    state = {}
    for entry in table:
        if entry.path is None:
            state[entry.name] = np.zeros((), np.int64)
        elif entry.path not in leaves:
            problems["missing"].append("/".join(entry.path))
        else:
            array = np.asarray(leaves[entry.path])
            axes = _TO_TORCH[entry.layout]
            if axes is None or array.ndim == len(axes):
                array = _transposed(array, axes)
            if array.shape != entry.shape:
                problems["of a wrong shape"].append("/".join(entry.path))
            state[entry.name] = array
    checkpoints.raise_differences("the variables do not fit the network", problems)
    return state


def _transposed(array, axes):
    return np.array(array if axes is None else array.transpose(axes), order="C")


def identify(
    state: Mapping[str, np.ndarray], source: str | Path = "the state dict"
) -> tuple[str, int]:
    """Returns the model name and number of landmarks of a facial-landmark state dict.

    Told by the tensors' names and shapes alone, for all published sizes.

    Raises:
      HRNetError: it is something else; the message says what it looks like.
    """
    variant = measure_backbone(state)
    if variant is None:
        first = ", ".join(ascii(name)[1:-1][:80] for name in list(state)[:3])
        raise HRNetError(
            f"{source} holds no HRNet with official names: {len(state)} tensors ({first}, …)"
        )
    name = _variant_name(variant)
    if any(key.startswith(CLASSIFICATION_HEAD) for key in state):
        raise HRNetError(
            f"{source} is an ImageNet classification HRNet ({name or variant}), not a landmark "
            "network: start training from it with init_backbone"
        )
    landmarks = _count_landmarks(state, source)
    if name is None:
        raise HRNetError(
            f"{source} is none of the published sizes ({', '.join(VARIANTS)}): it has {variant}; "
            "give the model to see which tensors differ"
        )
    return f"hrnetv2_{name}", landmarks


def measure_backbone(state: Mapping[str, np.ndarray]) -> HRNetVariant | None:
    """The sizes of an HRNet by its tensors; None if it is none."""
    first, stem = state.get("transition1.0.0.weight"), state.get("layer1.0.conv1.weight")
    if first is None or stem is None or first.ndim != 4 or stem.ndim != 4:
        return None

    def count(prefix):
        return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})

    return HRNetVariant(
        width=first.shape[0],
        layer1_blocks=count("layer1."),
        layer1_width=stem.shape[0],
        modules=(count("stage2."), count("stage3."), count("stage4.")),
        blocks=count("stage2.0.branches.0."),
    )


def _variant_name(variant):
    return next((name for name, known in VARIANTS.items() if known == variant), None)


def _count_landmarks(state, source):
    weight = state.get("head.3.weight")
    if weight is None or weight.ndim != 4:
        raise HRNetError(f"{source} has no landmark head: head.3.weight is missing")
    return weight.shape[0]


def load_backbone(path: str | Path, variant: HRNetVariant) -> tuple[dict, dict]:
    """Reads the backbone of an ImageNet or facial-landmark checkpoint, to start training from.

    Returns:
      ({"params": {"backbone": …}, "batch_stats": {"backbone": …}} with float32 NumPy leaves,
      {"source": file name, "used": tensors used, "ignored": tensors of its head, left behind}):
      1830 and 126 for an official ImageNet checkpoint of a regular width.

    Raises:
      HRNetError: unreadable, another size, or tensors that neither kind of network has.
    """
    state = read_weight_file(path).tensors
    found = measure_backbone(state)
    if found is not None and found != variant:
        sizes = [_variant_name(v) or str(v) for v in (found, variant)]
        raise HRNetError(f"{path} is an HRNet {sizes[0]}: the network to train is {sizes[1]}")
    table = backbone_table(variant)
    variables = to_flax(state, table, CLASSIFICATION_HEAD + LANDMARK_HEAD, path)
    used, ignored = _count(state, table)
    return variables, {"source": Path(path).name, "used": used, "ignored": ignored}


def _count(state: Iterable[str], table):
    names = {entry.name for entry in table}
    used = sum(name in names for name in state)
    return used, len(list(state)) - used


def convert_file(
    source: str | Path,
    destination: str | Path,
    model: str = "auto",
    scheme: str | None = None,
    protocol=None,
) -> Conversion:
    """Converts a PyTorch facial-landmark checkpoint into a model for `hrnet_jax.load`.

    Args:
      source: a file that `read_torch_file` reads.
      destination: a directory, or a path ending in .safetensors (see `checkpoints.save_model`).
      model: name of the model, or "auto" to tell it by the tensors.
      scheme: landmark scheme; by default the one with that number of landmarks, if any.
      protocol: the `Protocol` the network was trained for; by default the official one.

    Raises:
      HRNetError: unreadable, not such a network, or a scheme with another number of landmarks.
    """
    if Path(source).resolve() == Path(destination).resolve():
        raise HRNetError(f"{destination} would overwrite its source: choose another destination")
    file = read_weight_file(source)
    if model == "auto":
        model, num_landmarks = identify(file.tensors, source)
    else:
        num_landmarks = _count_landmarks(file.tensors, source)
    table = model_table(model, num_landmarks)
    variables = to_flax(file.tensors, table, source=source)

    if scheme is None:
        names = [s.name for s in SCHEMES.values() if s.num_landmarks == num_landmarks]
        scheme = names[0] if names else None
    elif get_scheme(scheme).num_landmarks != num_landmarks:
        expected = get_scheme(scheme).num_landmarks
        raise HRNetError(f"{source} has {num_landmarks} landmarks: {scheme} has {expected}")
    if protocol is None and scheme is not None:
        from hrnet_jax import protocols

        protocol = protocols.official(scheme)

    used, ignored = _count(file.tensors, table)
    with open(source, "rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    metadata = {
        "model": {"name": model, "num_landmarks": num_landmarks},
        "scheme": scheme,
        "protocol": protocol.to_dict() if protocol is not None else None,
        "provenance": {
            "source": Path(source).name,
            "sha256": sha256,
            "kind": "official HRNet facial-landmark network",
            "container": file.container,
            "tensors_used": used,
            "tensors_ignored": ignored,
            "converter": f"hrnet_jax {hrnet_jax.__version__}",
        },
    }
    written = checkpoints.save_model(destination, variables, metadata)
    return Conversion(model, num_landmarks, scheme, file.container, used, ignored, written)


def export_torch(checkpoint: str | Path, out: str | Path) -> int:
    """Writes a model's weights under their official PyTorch names; returns how many tensors.

    `network.load_state_dict(safetensors.torch.load_file(out), strict=True)` loads them into the
    official network.

    Args:
      checkpoint: what `hrnet_jax.load` takes.
      out: path ending in .safetensors.

    Raises:
      HRNetError: unreadable checkpoint, a model without PyTorch names, or another ending.
    """
    if Path(out).suffix != ".safetensors":
        raise HRNetError(f"{out}: PyTorch weights are written as a .safetensors file")
    loaded = checkpoints.load(checkpoint)
    model = loaded.metadata["model"]
    state = to_torch(loaded.variables, model_table(model["name"], model["num_landmarks"]))
    checkpoints.write_safetensors(out, state, {"format": "pt"})
    return len(state)
