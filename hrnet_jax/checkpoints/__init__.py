"""Released models: one safetensors file with the variables, and metadata that says what they are.

    save_model("runs/wflw", variables, {"model": {"name": "hrnetv2_w18", "num_landmarks": 98}, …})
    loaded = load("runs/wflw")          # loaded.model, loaded.variables, loaded.metadata

Tensors are named by their path: "params/backbone/conv1/kernel", "batch_stats/backbone/bn1/mean".
Metadata is JSON in the file's header: {"format": 1, "version", "model", "scheme", "protocol",
"provenance"}, and of a classifier "classes"; "model" is what `hrnet_jax.models.describe_model`
gives: {"name", "num_landmarks"} or {"name", "num_classes"}, the parts that the name does not mean,
and of a network that was changed "ablations", the texts that `hrnet_jax.ablations` reads.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import hrnet_jax
from hrnet_jax.ablations import ablate
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path
from hrnet_jax.models import build_model, normalise_images
from hrnet_jax.parts import one_line
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import Scheme, stored_scheme
from hrnet_jax.tensors import read_safetensors, write_safetensors

FILE_NAME = "model.safetensors"
FORMAT = 1

_HEADER_KEY = "hrnet_jax"
_PACKAGE = Path(__file__).resolve().parent.parent
_RELEASED_FOLDERS = (_PACKAGE / "released", _PACKAGE.parent / "weights")


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A network, its variables {"params", "batch_stats"}, and its metadata (a dictionary)."""

    model: Any
    variables: dict
    metadata: dict
    allow: Any = ()  # packages whose parts its protocol may import too

    @property
    def scheme(self) -> Scheme | None:
        """The landmark scheme; None of a classifier, or of a file that names none."""
        named = self.metadata.get("scheme")
        return None if named is None else stored_scheme(named)

    @property
    def protocol(self) -> Protocol | None:
        """That of a landmark network; None where none is named."""
        stored = self.metadata.get("protocol")
        if stored is None or "num_classes" in self.metadata["model"]:
            return None
        return Protocol.from_dict(stored, allow=self.allow)

    @property
    def flip_offset(self) -> float:
        """How far right of their mirror images the network finds landmarks, inter-ocular distances.

        HRNetError where none is stored.
        """
        offset = self.metadata.get("flip_offset")
        if offset is None:
            raise HRNetError(
                "aligned flip: the checkpoint stores no flip_offset; store it with hrnet-jax "
                "export --flip-offset (docs/evaluation.md tells how to measure it)"
            )
        if isinstance(offset, bool) or not isinstance(offset, int | float) or not abs(offset) < 1:
            raise HRNetError(f"the checkpoint's flip_offset {offset!r:.80} is no share below 1")
        return float(offset)

    @staticmethod
    def normalise(images) -> jax.Array:
        """What the network takes: uint8 RGB (N, H, W, 3) to float32 by ImageNet's statistics."""
        return normalise_images(images)


def save_model(
    path: str | Path,
    variables: Mapping,
    metadata: Mapping,
    dtype: str = "float32",
) -> Path:
    """Writes a model file and returns its path. A reader never sees half a file.

    Args:
      path: a path ending in .safetensors, or a directory that gets a `model.safetensors`.
      variables: {"params": …, "batch_stats": …}; stored in float32.
      metadata: JSON data with at least {"model": …}, the arguments of `create_model`: "name", with
        "num_landmarks" or "num_classes", and its other parts (`hrnet_jax.models.describe_model`);
        format and version are added.
      dtype: "float16" stores the kernels (nearly all of the file) in half precision; biases and
        batch statistics, which may be large or tiny, stay in float32.

    Raises:
      HRNetError: cannot be written, or a kernel does not fit float16.
    """
    path = as_path(path)
    if path.suffix != ".safetensors":
        if path.is_file():
            raise HRNetError(f"{path} is a file: give a directory or a path ending in .safetensors")
        path = path / FILE_NAME
    tensors = {}
    for name, leaf in flatten_dict(dict(variables), sep="/").items():
        array = np.asarray(leaf, np.float32)
        if dtype == "float16" and name.endswith("/kernel"):
            with np.errstate(over="ignore"):
                half = array.astype(np.float16)
            if np.isfinite(array).all() and not np.isfinite(half).all():
                raise HRNetError(f"{name} has values beyond float16: save it as float32")
            array = half
        tensors[name] = array
    content = {"format": FORMAT, "version": hrnet_jax.__version__, **metadata}
    write_safetensors(path, tensors, {_HEADER_KEY: json.dumps(content)})
    return path


def load(
    path: str | Path,
    dtype=jnp.float32,
    *,
    parts: Mapping[str, Any] | None = None,
    allow_import: Sequence[str] = (),
) -> Loaded:
    """Loads a model: weights, network and metadata.

    Args:
      path: a .safetensors file of `save_model` or `hrnet-jax convert`, a directory with one,
        a training run's working directory (its best step), or the name of a released model
        (`released_names`).
      dtype: compute dtype of the network, as in `create_model`; the variables are float32, or
        float64 with a float64 network.
      parts: the parts of one's own that the network is made of, by the text that the metadata has
        for them ("my_package.my_module:MyNorm").
      allow_import: packages that the metadata may import its parts from; a file imports nothing
        unasked.

    Raises:
      HRNetError: nothing there, damaged, another program's file, parts that neither `parts` nor
        `allow_import` covers, or weights that do not fit the network which the metadata names (all
        differences in one message).
    """
    source, leaves, metadata = _read(path)
    metadata = {"scheme": None, "protocol": None, "provenance": {}} | metadata
    if not isinstance(metadata["provenance"], dict):
        raise HRNetError(f"{source}: the provenance in its metadata is not a table")
    try:
        description, ablations = _description(metadata.get("model"))
        model = build_model(description, dtype=dtype, own=parts, allow=tuple(allow_import))
        model = ablate(model, *ablations, allow=tuple(allow_import))
        expected = _expected_leaves(model)
    except HRNetError as error:
        raise HRNetError(f"{source}: {error}") from error
    except Exception as error:  # arguments of a part that only its own code finds wrong
        raise HRNetError(
            f"{source}: the network of its metadata cannot be made ({one_line(error)})"
        ) from error
    _check_leaves(source, expected, leaves)
    param_dtype = jnp.promote_types(dtype, jnp.float32)
    leaves = {name: jnp.asarray(leaf, param_dtype) for name, leaf in leaves.items()}
    return Loaded(model, unflatten_dict(leaves, sep="/"), metadata, tuple(allow_import))


def raise_differences(subject: str, problems: Mapping[str, list[str]], shown: int = 3) -> None:
    """Raises one HRNetError with the count and the first few of every kind of wrong tensor.

    Args:
      subject: how the message starts.
      problems: names of tensors by what is wrong with them; nothing happens if all are empty.
    """
    lists = []
    for what, names in problems.items():
        if names:  # which come from a file: escaped and cut, to stay one readable line
            first = [ascii(name)[1:-1][:150] for name in names[:shown]]
            more = ["…"] if len(names) > shown else []
            lists.append(f"{len(names)} {what} ({', '.join(first + more)})")
    if lists:
        raise HRNetError(f"{subject}: tensors {'; '.join(lists)}")


def released_names() -> list[str]:
    """Names of the models that ship with the project."""
    return sorted({f.stem for folder in _RELEASED_FOLDERS for f in folder.glob("*.safetensors")})


def released_path(name: str) -> Path:
    """The file of a released model; HRNetError lists the names there are."""
    for folder in _RELEASED_FOLDERS:
        path = folder / f"{name}.safetensors"
        if name in released_names() and path.is_file():
            return path
    names = ", ".join(released_names()) or "none"
    raise HRNetError(f"{name}: no such file or directory, nor a released model ({names})")


def _read(path):
    """Returns (path of the weights, arrays by the name of their leaf, metadata)."""
    path = as_path(path)
    path = path if path.exists() else released_path(str(path))
    if path.is_dir() and (path / FILE_NAME).is_file():
        path = path / FILE_NAME
    if path.is_dir():
        if not (path / "checkpoints").is_dir():
            raise HRNetError(f"{path} holds neither {FILE_NAME} nor a training run's checkpoints")
        from hrnet_jax.checkpoints.training import load_workdir

        variables, metadata = load_workdir(path)
        return path, flatten_dict(variables, sep="/"), metadata
    hint = "convert PyTorch weights with: hrnet-jax convert SOURCE DESTINATION"
    if path.suffix != ".safetensors":
        raise HRNetError(f"{path} is no .safetensors file: {hint}")
    tensors, header = read_safetensors(path)
    if _HEADER_KEY not in header:
        raise HRNetError(f"{path} was not written by hrnet_jax: {hint}")
    try:
        metadata = json.loads(header[_HEADER_KEY])
    except (ValueError, RecursionError) as error:
        raise HRNetError(f"{path}: its metadata is damaged ({error})") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise HRNetError(f"{path}: its metadata is not of format {FORMAT}: update hrnet_jax")
    return path, tensors, metadata


def _description(data):
    """(what `build_model` takes, texts of ablations) of a file's metadata, checked."""
    if not isinstance(data, dict) or "name" not in data:
        raise HRNetError("its metadata does not name the model")
    if not isinstance(data["name"], str | dict):
        raise HRNetError(f"unknown model {data['name']!r:.80}")
    data = dict(data)
    ablations = data.pop("ablations", [])
    if not isinstance(ablations, list) or not all(isinstance(text, str) for text in ablations):
        raise HRNetError(f"its metadata has the ablations {ablations!r:.80}, which are no texts")
    counts = [key for key in ("num_landmarks", "num_classes") if key in data]
    own = not isinstance(data["name"], str) or ":" in data["name"]  # its size is its own matter
    if len(counts) != 1 and not (own and not counts):
        raise HRNetError("its metadata names neither the number of landmarks nor that of classes")
    for key in counts:
        if type(data[key]) is not int or not 0 < data[key] < 100_000:
            raise HRNetError(f"its metadata has {data[key]!r:.80} {key.removeprefix('num_')}")
    for key, value in data.items():
        if key not in counts and not isinstance(value, str | dict):
            raise HRNetError(f"its metadata has the {key} {value!r:.80}")
    return data, ablations


def _expected_leaves(model) -> dict[str, Any]:
    """The variables that the network has, by name, without their values."""
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    shapes = {key: shapes[key] for key in ("params", "batch_stats") if key in shapes}
    return flatten_dict(shapes, sep="/")


def _check_leaves(source, expected, found):
    missing = [name for name in expected if name not in found]
    extra = [name for name in found if name not in expected]
    wrong = [
        f"{name}: {found[name].shape} instead of {leaf.shape}"
        for name, leaf in expected.items()
        if name in found and found[name].shape != leaf.shape
    ]
    problems = {"missing": missing, "unexpected": extra, "of a wrong shape": wrong}
    raise_differences(f"{source} does not fit its network", problems)
