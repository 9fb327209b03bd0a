"""Networks by name, and of parts of one's own: `create_model`."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hrnet_jax import parts
from hrnet_jax.errors import HRNetError
from hrnet_jax.models.heads import ClassificationHead, HeatmapHead, HIHHead, HIHOutput
from hrnet_jax.models.layers import UPSAMPLES, BatchNorm, Conv, normalise_images
from hrnet_jax.models.norms import NORMS, adapt_norm
from hrnet_jax.models.presets import BACKBONES, PRESETS, SHIPPED, Preset, all_presets

__all__ = [
    "BACKBONES",
    "CONVS",
    "HEADS",
    "INITIALISERS",
    "NORMS",
    "PRESETS",
    "UPSAMPLES",
    "HIHOutput",
    "Network",
    "Preset",
    "build_model",
    "create_model",
    "describe_model",
    "model_head",
    "model_names",
    "normalise_images",
]

INITIALISERS = {
    "official": nn.initializers.normal(0.001),  # every convolution of the face and HIH code
    "kaiming": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
}
HEADS = {"heatmap": HeatmapHead, "hih": HIHHead, "classification": ClassificationHead}
CONVS = {"conv": Conv, "flax": nn.Conv}
_TABLES = {
    "head": HEADS,
    "backbone": BACKBONES,
    "conv": CONVS,
    "norm": NORMS,
    "init": INITIALISERS,
    "upsample": UPSAMPLES,
}


class Network(nn.Module):
    """A backbone and a head: images (N, H, W, 3) to the head's output, in float32 at least.

    `apply(variables, images, train=True, mutable=["batch_stats"])` normalises with batch
    statistics and returns the updated running ones. `apply(variables, images, features=True)`
    returns the backbone's branches instead, a list of (N, h, w, C), highest resolution first.

    `specification` is what `describe_model` gives, as JSON text.
    """

    backbone: nn.Module
    head: nn.Module
    specification: str = dataclasses.field(default="", repr=False, compare=False)

    def __call__(self, images: jax.Array, train: bool = False, features: bool = False):
        made = self.backbone(images, train)
        output = made.branches if features else self.head(made, train)
        return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), output)


def model_names() -> tuple[str, ...]:
    """The names that `create_model` knows."""
    return tuple(all_presets())


def model_head(name: str) -> str:
    """The head that a model has unless told: a key of `HEADS`; HRNetError for an unknown model."""
    return parts.resolve(name, "model", all_presets()).head


def create_model(
    name: Any,
    num_landmarks: int | None = None,
    *,
    head: Any = None,
    num_classes: int | None = None,
    dtype=jnp.float32,
    backbone: Any = None,
    conv: Any = None,
    norm: Any = None,
    init: Any = None,
    upsample: Any = None,
    remat: bool = False,
) -> nn.Module:
    """Returns the Flax module of that name, or of these parts.

    Its `apply` gives, by the head: "heatmap" heatmaps (N, H/4, W/4, L); "hih" an `HIHOutput`;
    "classification" logits (N, num_classes).

    Every part is a name of a table here, an object, a text "package.module:Name", or a table
    {"name": one of these, **arguments} (`hrnet_jax.parts`). None is what the name means.

    Args:
      name: one of `model_names()`: "hrnetv2_w18" has the heatmap head, "hih_s" the HIH head,
        "hrnet_w18_imagenet" the classification head. With a `backbone`, whatever it is to be
        called. Or a network of one's own, which takes none of the parts: a Flax module that is
        called `(images, train=False)`.
      num_landmarks: number of landmarks L, 98 unless told. Not for classification.
      head: another head (`HEADS`; the contract is in `hrnet_jax.models.heads`), for example "hih"
        on "hrnetv2_w18". On a stacked hourglass "heatmap" reads the last features, and the
        heatmaps of the stacks serve the network alone.
      num_classes: number of classes, 1000 unless told. For a head that takes it.
      dtype: compute dtype. float32 and bfloat16 keep parameters, batch statistics and the output
        in float32; float64 (with `jax_enable_x64`) makes all of them float64.
      backbone: another backbone (`BACKBONES`: {"name": "hrnet", "width": 8} is an HRNet of any
        size), `backbone(images, train) -> Features`. Its constructor is given what its signature
        names of `num_landmarks`, `conv`, `norm`, `upsample` and `remat`.
      conv: constructor of every convolution, called as `flax.linen.Conv` is; of `kernel_init`,
        `dtype` and `param_dtype` it is given what its signature names.
      norm: constructor of every normalisation (`NORMS`; the contract is in
        `hrnet_jax.models.norms`), for example `flax.linen.GroupNorm`. By default "batch" with the
        published momentum: 0.99 for "hrnetv2_*", else 0.9. "none": a gain and a bias.
      init: initialiser of every kernel (`INITIALISERS`): "official" N(0, 0.001^2), or "kaiming"
        (normal, fan out), by default kaiming for "*_imagenet", else official. Or one of one's own,
        (key, shape, dtype) -> array; as a table, a function that returns one. Biases are PyTorch's
        default.
      upsample: how lower resolutions are brought up, in backbone and head (`UPSAMPLES`):
        (N, h, w, C) and a size (height, width) -> (N, height, width, C). A Flax module's class is
        made anew at every place.
      remat: recompute residual blocks in the backward pass, to save memory.

    Raises:
      HRNetError: an unknown name; a part that cannot be imported or lacks an argument; landmarks
        for a classifier, classes for another network; a classifier on a stacked hourglass; an
        option that the parts do not take.
    """
    description = {
        "name": name,
        "num_landmarks": num_landmarks,
        "num_classes": num_classes,
        "head": head,
        "backbone": backbone,
        "conv": conv,
        "norm": norm,
        "init": init,
        "upsample": upsample,
    }
    return build_model(description, dtype=dtype, remat=remat)


def build_model(
    description: Mapping,
    *,
    dtype=jnp.float32,
    remat: bool = False,
    own: Mapping[str, Any] | None = None,
    allow: parts.Allow = True,
) -> nn.Module:
    """`create_model` with its arguments but these two in one table, as `describe_model` gives it.

    Args:
      description: of a file, say.
      dtype, remat: as for `create_model`.
      own: parts of the user's own by the text that the description has for them.
      allow: which other texts may be imported, as for `hrnet_jax.parts.resolve`.
    """
    given = {key: value for key, value in description.items() if value is not None}
    name = given.pop("name")
    landmarks, classes = (given.pop(key, None) for key in ("num_landmarks", "num_classes"))
    unknown = given.keys() - _TABLES.keys()
    if unknown:
        raise HRNetError(f"a network has no part {min(unknown)!r:.80}: it has {', '.join(_TABLES)}")
    own = dict(own or {})
    presets = all_presets()
    if not isinstance(name, str) or ":" in name or name in own:
        return _own_network(name, landmarks, classes, dtype, remat, given, own, allow)
    if name not in presets and "backbone" not in given:
        parts.resolve(name, "model", presets)  # says what there is
    preset = presets.get(name, Preset(None))
    if _known(preset.backbone, given):
        given["backbone"] = preset.backbone  # without an import of what is here already

    def bind(kind, default):
        return parts.bind(given.get(kind, default), kind, _TABLES[kind] | own, allow=allow)

    head = bind("head", preset.head)
    counts = _outputs(name, head, landmarks, classes)
    dtypes = {"dtype": dtype, "param_dtype": jnp.promote_types(dtype, jnp.float32)}
    init = _initialiser(given.get("init", preset.init), own, allow)
    conv = bind("conv", Conv)
    conv = functools.partial(conv, **parts.accepted(conv, {"kernel_init": init, **dtypes}))
    norm = bind("norm", BatchNorm)
    if getattr(norm, "func", norm) is BatchNorm:
        momentum = parts.accepted(norm, {"momentum": preset.momentum})
        norm = functools.partial(norm, **momentum)
    norm = adapt_norm(norm, **dtypes)
    common = {"conv": conv, "norm": norm}
    if "upsample" in given:
        common["upsample"] = _upsample(bind("upsample", None))
    backbone = bind("backbone", preset.backbone)
    options = {"remat": remat} if remat else {}
    for option in (*options, *({"upsample"} & common.keys())):
        if not parts.accepted(backbone, {option: None}):
            raise HRNetError(f"backbone {_name(backbone)!r:.150} takes no {option}")
    if "num_classes" in counts and "num_landmarks" in inspect.signature(backbone).parameters:
        raise HRNetError(f"{name} has no classification head: take an HRNet")
    return Network(
        backbone=_make("backbone", backbone, counts | common | options),
        head=_make("head", head, counts | common),
        specification=json.dumps(_specify(name, preset, counts, given)),
    )


def describe_model(model: nn.Module) -> dict:
    """What `build_model` makes the network of again, as JSON data: for a checkpoint's metadata.

    The parts that its name does not mean are told with their arguments. Of a module that is not of
    `create_model` its fields are told.
    """
    if isinstance(model, Network) and model.specification:
        return json.loads(model.specification)
    return {"name": parts.describe(model)}


def _specify(name, preset, counts, given):
    told = given
    if SHIPPED.get(name) != preset:  # another process may not know the name: say all
        norm = {"name": "batch", "momentum": preset.momentum}
        told = {**preset._asdict(), "norm": norm} | given
    described = {key: parts.describe(told[key], _TABLES[key]) for key in _TABLES if key in told}
    return {"name": name} | counts | described


def _known(backbone, given):
    """Whether the backbone that a file tells is the one that the name means here."""
    if backbone is None or "backbone" not in given:
        return False
    return parts.describe(given["backbone"], BACKBONES) == parts.describe(backbone, BACKBONES)


def _own_network(name, landmarks, classes, dtype, remat, given, own, allow):
    label = f"network {_name(name)!r:.150}"
    if given:
        raise HRNetError(f"{label} is whole: it takes no {min(given)}")
    network = parts.bind(name, "network", own, allow=allow)
    if isinstance(network, nn.Module):
        return network
    counts = {"num_landmarks": landmarks, "num_classes": classes}
    counts = {key: count for key, count in counts.items() if count is not None}
    options = {"remat": remat} if remat else {}
    for option in (*counts, *options):
        if not parts.accepted(network, {option: None}) and option != "num_landmarks":
            raise HRNetError(f"{label} takes no {option}")
    return _make("network", network, {"dtype": dtype, **counts, **options})


def _outputs(name, head, landmarks, classes):
    """{"num_landmarks": L}, or {"num_classes": K} where the head takes that."""
    if isinstance(head, nn.Module):
        tells_classes = hasattr(head, "num_classes")
    else:
        tells_classes = "num_classes" in inspect.signature(head).parameters
    if tells_classes:
        if landmarks is not None:
            raise HRNetError(f"{name} tells classes: give num_classes instead of num_landmarks")
        return {"num_classes": 1000 if classes is None else classes}
    if classes is not None:
        raise HRNetError(f"{name} finds landmarks: give num_landmarks instead of num_classes")
    return {"num_landmarks": 98 if landmarks is None else landmarks}


def _initialiser(spec, own, allow):
    if isinstance(spec, str) or not hasattr(spec, "items"):
        return parts.resolve(spec, "init", INITIALISERS | own, allow=allow)
    if spec.get("name") in INITIALISERS:
        if len(spec) > 1:
            raise HRNetError(f"init {spec['name']!r} takes no settings")
        return INITIALISERS[spec["name"]]
    return parts.build(spec, "init", own, allow=allow)


def _upsample(part):
    """The function (x, size) -> y, also of a Flax module's class."""
    made = part.func if isinstance(part, functools.partial) else part
    if isinstance(made, type) and issubclass(made, nn.Module):
        return lambda x, size: part()(x, size)
    return part


def _make(kind, part, given):
    """The module of a constructor, given what it takes; a module as it is."""
    if isinstance(part, nn.Module):
        return part
    taken = parts.accepted(part, given)
    label = f"{kind} {_name(part)!r:.150}"
    parts.check_arguments(part, taken, label, complete=True)
    try:
        made = part(**taken)
    except HRNetError as error:
        raise HRNetError(f"{label}: {error}") from error
    except Exception as error:  # the user's code: anything can come out of it
        raise HRNetError(f"{label}: {parts.one_line(error)}") from error
    if not isinstance(made, nn.Module):
        raise HRNetError(f"{label} made no Flax module, but {type(made).__name__}")
    return made


def _name(part):
    described = parts.describe(part)
    return described.get("name") if isinstance(described, dict) else described
