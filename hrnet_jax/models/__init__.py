"""Networks by name: `create_model`."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from hrnet_jax.errors import HRNetError
from hrnet_jax.models.heads import ClassificationHead, HeatmapHead, HIHHead, HIHOutput
from hrnet_jax.models.hourglass import StackedHourglass
from hrnet_jax.models.hrnet import HRNet
from hrnet_jax.models.layers import (
    BatchNorm,
    Conv,
    normalise_images,
    upsample,
    upsample_nearest,
)
from hrnet_jax.models.variants import HOURGLASSES, VARIANTS

__all__ = [
    "HEADS",
    "INITIALISERS",
    "HIHOutput",
    "Network",
    "create_model",
    "model_head",
    "model_names",
    "normalise_images",
]

INITIALISERS = {
    "official": nn.initializers.normal(0.001),  # every convolution of the face and HIH code
    "kaiming": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
}
HEADS = {"heatmap": HeatmapHead, "hih": HIHHead, "classification": ClassificationHead}


class Preset(NamedTuple):
    """What the published code combines under one name."""

    backbone: Callable  # (number of landmarks, conv, norm, remat) -> module
    head: str
    momentum: float  # Flax's, of batch normalisation: 1 - PyTorch's
    init: str


def _hrnet(variant, upsample, num_landmarks, conv, norm, remat):
    return HRNet(variant, conv, norm, remat, upsample)  # the same for any number of landmarks


def _presets() -> dict[str, Preset]:
    presets = {}
    for name, variant in VARIANTS.items():
        backbone = functools.partial(_hrnet, variant, upsample)
        presets[f"hrnetv2_{name}"] = Preset(backbone, "heatmap", 0.99, "official")
    for name, variant in HOURGLASSES.items():
        backbone = functools.partial(StackedHourglass, variant)
        presets[name] = Preset(backbone, "hih", 0.9, "official")
    for name, variant in VARIANTS.items():
        backbone = functools.partial(_hrnet, variant, upsample_nearest)
        presets[f"hrnet_{name}_imagenet"] = Preset(backbone, "classification", 0.9, "kaiming")
    return presets


class Network(nn.Module):
    """A backbone and a head: images (N, H, W, 3) to the head's output, in float32 at least.

    `apply(variables, images, train=True, mutable=["batch_stats"])` normalises with batch
    statistics and returns the updated running ones. `apply(variables, images, features=True)`
    returns the backbone's branches instead, a list of (N, h, w, C), highest resolution first.
    """

    backbone: nn.Module
    head: nn.Module

    def __call__(self, images: jax.Array, train: bool = False, features: bool = False):
        made = self.backbone(images, train)
        output = made.branches if features else self.head(made, train)
        return jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), output)


def model_names() -> tuple[str, ...]:
    """The names that `create_model` knows."""
    return tuple(_presets())


def model_head(name: str) -> str:
    """The head that a model has unless told: a key of `HEADS`; HRNetError for an unknown model."""
    return _get_preset(name).head


def _get_preset(name):
    presets = _presets()
    if name not in presets:
        raise HRNetError(f"unknown model {name!r}: choose one of {', '.join(presets)}")
    return presets[name]


def create_model(
    name: str,
    num_landmarks: int | None = None,
    *,
    head: str | None = None,
    num_classes: int | None = None,
    dtype=jnp.float32,
    conv: Callable = Conv,
    norm: Callable | None = None,
    init: str | None = None,
    remat: bool = False,
) -> Network:
    """Returns the Flax module of that name.

    Its `apply` gives, by the head: "heatmap" heatmaps (N, H/4, W/4, L); "hih" an `HIHOutput`;
    "classification" logits (N, num_classes).

    Args:
      name: one of `model_names()`: "hrnetv2_w18" has the heatmap head, "hih_s" the HIH head,
        "hrnet_w18_imagenet" the classification head.
      num_landmarks: number of landmarks L, 98 unless told. Not for classification.
      head: another head (a key of `HEADS`) on the backbone of that model, for example "hih" on
        "hrnetv2_w18". On a stacked hourglass "heatmap" reads the last features, and the heatmaps
        of the stacks serve the network alone.
      num_classes: number of classes, 1000 unless told. For classification only.
      dtype: compute dtype. float32 and bfloat16 keep parameters, batch statistics and the output
        in float32; float64 (with `jax_enable_x64`) makes all of them float64.
      conv: constructor used for every convolution (as `hrnet_jax.models.layers.Conv`).
      norm: constructor used for every normalisation (as `hrnet_jax.models.layers.BatchNorm`); by
        default BatchNorm with the published momentum: 0.99 for "hrnetv2_*", else 0.9.
      init: "official" (every kernel N(0, 0.001^2)) or "kaiming" (normal, fan out); biases are
        PyTorch's default in both. By default kaiming for "*_imagenet", else official.
      remat: recompute residual blocks in the backward pass, to save memory.

    Raises:
      HRNetError: unknown name, head or initialiser; landmarks for a classifier, classes for
        another network; a classifier on a stacked hourglass.
    """
    preset = _get_preset(name)
    head, init = head or preset.head, init or preset.init
    if head not in HEADS:
        raise HRNetError(f"unknown head {head!r}: choose one of {', '.join(HEADS)}")
    if init not in INITIALISERS:
        raise HRNetError(f"unknown init {init!r}: choose one of {', '.join(INITIALISERS)}")
    if head == "classification":
        if name in HOURGLASSES:
            raise HRNetError(f"{name} has no classification head: take an HRNet")
        if num_landmarks is not None:
            raise HRNetError(f"{name} tells classes: give num_classes instead of num_landmarks")
        outputs = 1000 if num_classes is None else num_classes
    else:
        if num_classes is not None:
            raise HRNetError(f"{name} finds landmarks: give num_landmarks instead of num_classes")
        outputs = 98 if num_landmarks is None else num_landmarks
    if norm is None:
        norm = functools.partial(BatchNorm, momentum=preset.momentum)
    dtypes = {"dtype": dtype, "param_dtype": jnp.promote_types(dtype, jnp.float32)}
    conv = functools.partial(conv, kernel_init=INITIALISERS[init], **dtypes)
    norm = functools.partial(norm, **dtypes)
    return Network(
        backbone=preset.backbone(outputs, conv, norm, remat), head=HEADS[head](outputs, conv, norm)
    )
