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
from hrnet_jax import checkpoints, protocols, published, tensors
from hrnet_jax.data.classes import IMAGENET_1K
from hrnet_jax.data.preprocessing import PREPROCESSINGS
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import absolute, as_path, open_binary
from hrnet_jax.models.variants import HRNetVariant
from hrnet_jax.schemes import SCHEMES, describe, get_scheme
from hrnet_jax.torch_weights import kinds
from hrnet_jax.torch_weights.kinds import same_networks
from hrnet_jax.torch_weights.names import Entry, backbone_table, model_table
from hrnet_jax.torch_weights.torch_file import read_weight_file

_TO_FLAX = {"conv": (2, 3, 1, 0), "linear": (1, 0), "vector": None}
_TO_TORCH = {"conv": (3, 2, 0, 1), "linear": (1, 0), "vector": None}


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What `convert_file` recognised and wrote.

    Attributes:
      kind: what the file is, in words.
      model: name of the model.
      outputs: number of its landmarks, or of its classes.
      scheme: landmark scheme, if any.
      container: how the tensors lay in the file, in words.
      used, ignored: number of the file's tensors.
      zero_biases: number of biases that the file lacks and that became zeros.
      destination: the file written.
    """

    kind: str
    model: str
    outputs: int
    scheme: str | None
    container: str
    used: int
    ignored: int
    zero_biases: int
    destination: Path


def to_flax(
    state: Mapping[str, np.ndarray],
    table: list[Entry],
    ignored: tuple[str, ...] = (),
    source: str | Path = "the state dict",
) -> dict:
    """Returns Flax variables {"params": …, "batch_stats": …} with float32 NumPy leaves.

    The leaves are views of the state dict where its dtype and finiteness allow: no second copy of
    a large network in memory.

    Args:
      state: tensors by PyTorch name. PyTorch's batch counters may be missing.
      table: the network's tensors (`hrnet_jax.torch_weights.names`).
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
                array = state[entry.name].astype(np.float32, copy=False)
            if not np.isfinite(array).all():
                problems["not finite"].append(entry.name)
            leaves[entry.path] = _transposed(array, _TO_FLAX[entry.layout])
    checkpoints.raise_differences(f"{source} does not fit the network", problems)
    return unflatten_dict(leaves)


def to_torch(variables: Mapping, table: list[Entry]) -> dict[str, np.ndarray]:
    """Returns the PyTorch state dict, in the official order; the exact inverse of `to_flax`.

    Leaves keep their dtype. What Flax does not keep is made anew: the batch counters of PyTorch's
    BatchNorm are int64 zeros; layers that PyTorch has and never uses (skip layers of the hourglass)
    get zero kernels and the statistics of a fresh BatchNorm, mean 0 and variance 1.

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
            state[entry.name] = _fresh(entry)
        elif entry.path not in leaves:
            problems["missing"].append("/".join(entry.path))
        else:
            array = np.asarray(leaves[entry.path])
            axes = _TO_TORCH[entry.layout]
            if axes is None or array.ndim == len(axes):
                array = np.ascontiguousarray(_transposed(array, axes))
            if array.shape != entry.shape:
                problems["of a wrong shape"].append("/".join(entry.path))
            state[entry.name] = array
    checkpoints.raise_differences("the variables do not fit the network", problems)
    return state


def _transposed(array, axes):
    return array if axes is None else array.transpose(axes)


def _fresh(entry):
    """The value of a tensor that Flax does not keep, as PyTorch makes it, kernels zero."""
    if entry.name.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    one = entry.name.endswith((".bn.weight", ".running_var"))
    return np.full(entry.shape, float(one), np.float32)


def load_backbone(path: str | Path, variant: HRNetVariant) -> tuple[dict, dict]:
    """Reads the backbone of an ImageNet or facial-landmark checkpoint, to start training from.

    All kinds of `hrnet_jax.torch_weights.kinds` that have one, whatever their heads.

    Returns:
      ({"params": {"backbone": …}, "batch_stats": {"backbone": …}} with float32 NumPy leaves,
      {"source": file name, "kind": what it is, "used": tensors used, "ignored": tensors of its
      head, left behind}): 1830 and 126 for an official ImageNet checkpoint of a regular width.

    Raises:
      HRNetError: unreadable, another size, a network of another kind, or tensors that a network of
        its kind has not.
    """
    file = read_weight_file(path)
    state = file.tensors
    kind = kinds.find_kind(state)
    if kind is None or not kind.left_behind:
        what = "no network of the HRNet family" if kind is None else kind.name
        raise HRNetError(f"{path} has no backbone to start from: it is {what}")
    named = kinds.official_names(state, kind, path)
    found = kinds.measure_backbone(named)
    if found is not None and found != variant:
        sizes = [kinds.variant_name(v) or str(v) for v in (found, variant)]
        raise HRNetError(f"{path} is an HRNet {sizes[0]}: the network to train is {sizes[1]}")
    table = backbone_table(variant)
    variables = to_flax(named, table, kind.left_behind, path)
    used = _count_used(named, table)
    report = {"source": as_path(path).name, "kind": kind.name}
    return variables, {**report, "used": used, "ignored": len(state) - used + file.beside}


def _count_used(state: Iterable[str], table):
    names = {entry.name for entry in table if entry.layout != "unused"}
    return sum(name in names for name in state)


def convert_file(
    source: str | Path,
    destination: str | Path,
    model: str = "auto",
    scheme: str | None = None,
    protocol=None,
    key: str | None = None,
) -> Conversion:
    """Converts a PyTorch checkpoint of the HRNet family into a model for `hrnet_jax.load`.

    Args:
      source: a file that `read_torch_file` reads, of a kind of `hrnet_jax.torch_weights.kinds`.
      destination: a directory, or a path ending in .safetensors (see `checkpoints.save_model`).
      model: name of the model, or "auto" to tell it by the tensors.
      scheme: landmark scheme; by default the one with that number of landmarks, if any.
      protocol: the `Protocol` (or, of a classifier, the `Preprocessing`) the network was trained
        for; by default the official one for files of the official code and for all classifiers,
        else none.
      key: which network of a file with several (`read_weight_file`).

    Raises:
      HRNetError: unreadable, not such a network, or a scheme with another number of landmarks.
    """
    source, destination = as_path(source), as_path(destination)
    if absolute(source) == absolute(destination):
        raise HRNetError(f"{destination} would overwrite its source: choose another destination")
    file = read_weight_file(source, key)
    found = kinds.recognise(file.tensors, source, model)
    table = model_table(found.model, found.outputs)
    variables = to_flax(found.state, table, source=source)
    if found.kind.head == "classification":
        if scheme is not None:
            raise HRNetError(
                f"{source} has no landmark scheme: it is of the kind {found.kind.name}"
            )
        count = {"num_classes": found.outputs}
        classes = {"classes": IMAGENET_1K if found.outputs == 1000 else None}
        protocol = protocol or PREPROCESSINGS["official"]
    else:
        count, classes = {"num_landmarks": found.outputs}, {}
        scheme = _choose_scheme(scheme, found.outputs, source)
    if protocol is None and scheme is not None and found.kind.protocol is not None:
        protocol = getattr(protocols, found.kind.protocol)(scheme)

    used = _count_used(found.state, table) - found.zero_biases
    ignored = len(file.tensors) - used + file.beside
    with open_binary(source) as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    metadata = {
        "model": {"name": found.model, **count},
        "scheme": _stored(scheme),
        "protocol": protocol.to_dict() if protocol is not None else None,
        **classes,
        "provenance": {
            "source": source.name,
            "sha256": sha256,
            "kind": found.kind.name,
            "container": file.container,
            "tensors_used": used,
            "tensors_ignored": ignored,
            "biases_set_to_zero": found.zero_biases,
            "licence": found.kind.licence,
            "published": published.expected(same_networks(found.kind.name), found.model, scheme),
            "converter": f"hrnet_jax {hrnet_jax.__version__}",
        },
    }
    return Conversion(
        kind=found.kind.name,
        model=found.model,
        outputs=found.outputs,
        scheme=scheme,
        container=file.container,
        used=used,
        ignored=ignored,
        zero_biases=found.zero_biases,
        destination=checkpoints.save_model(destination, variables, metadata),
    )


def _choose_scheme(scheme, num_landmarks, source):
    if scheme is None:
        names = [s.name for s in SCHEMES.values() if s.num_landmarks == num_landmarks]
        return names[0] if names else None
    expected = get_scheme(scheme).num_landmarks
    if expected != num_landmarks:
        raise HRNetError(f"{source} has {num_landmarks} landmarks: {scheme} has {expected}")
    return scheme


def _stored(scheme):
    """A scheme as metadata has it: one of a file with its content, as paths are not followed."""
    return scheme if scheme is None or scheme in SCHEMES else describe(get_scheme(scheme))


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
    if as_path(out).suffix != ".safetensors":
        raise HRNetError(f"{out}: PyTorch weights are written as a .safetensors file")
    loaded = checkpoints.load(checkpoint)
    model = loaded.metadata["model"]
    outputs = model.get("num_landmarks") or model["num_classes"]
    state = to_torch(loaded.variables, model_table(model["name"], outputs, model.get("head")))
    tensors.write_safetensors(out, state, {"format": "pt"})
    return len(state)
