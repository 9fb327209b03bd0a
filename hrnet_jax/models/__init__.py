"""Networks by name: `create_model`."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from hrnet_jax.errors import HRNetError
from hrnet_jax.models.heads import HeatmapHead
from hrnet_jax.models.hrnet import HRNet
from hrnet_jax.models.layers import BatchNorm, Conv, normalise_images
from hrnet_jax.models.variants import VARIANTS, get_variant

__all__ = ["INITIALISERS", "LandmarkNetwork", "create_model", "model_names", "normalise_images"]

INITIALISERS = {
    "official": nn.initializers.normal(0.001),  # every convolution of the official face code
    "kaiming": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
}


class LandmarkNetwork(nn.Module):
    """A backbone and a head: images (N, H, W, 3) to the head's output, in float32 at least.

    `apply(variables, images, train=True, mutable=["batch_stats"])` normalises with batch
    statistics and returns the updated running ones.
    """

    backbone: nn.Module
    head: nn.Module

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        output = self.head(self.backbone(images, train), train)
        return output.astype(jnp.promote_types(output.dtype, jnp.float32))


def model_names() -> tuple[str, ...]:
    """The names that `create_model` knows."""
    return tuple(f"hrnetv2_{name}" for name in VARIANTS)


def create_model(
    name: str,
    num_landmarks: int = 98,
    *,
    dtype=jnp.float32,
    conv: Callable = Conv,
    norm: Callable = BatchNorm,
    init: str = "official",
    remat: bool = False,
) -> LandmarkNetwork:
    """Returns the Flax module of that name; its `apply` gives heatmaps (N, H/4, W/4, L).

    Args:
      name: one of `model_names()`, e.g. "hrnetv2_w18".
      num_landmarks: number of heatmaps L.
      dtype: compute dtype. float32 and bfloat16 keep parameters, batch statistics and the output
        in float32; float64 (with `jax_enable_x64`) makes all of them float64.
      conv: constructor used for every convolution (as `hrnet_jax.models.layers.Conv`).
      norm: constructor used for every normalisation (as `hrnet_jax.models.layers.BatchNorm`).
      init: "official" (every kernel N(0, 0.001^2)) or "kaiming" (normal, fan out); head biases are
        PyTorch's default in both.
      remat: recompute residual blocks in the backward pass, to save memory.

    Raises:
      HRNetError: unknown name or initialiser.
    """
    if name not in model_names():
        raise HRNetError(f"unknown model {name!r}: choose one of {', '.join(model_names())}")
    if init not in INITIALISERS:
        raise HRNetError(f"unknown init {init!r}: choose one of {', '.join(INITIALISERS)}")
    param_dtype = jnp.promote_types(dtype, jnp.float32)
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    conv = functools.partial(conv, kernel_init=INITIALISERS[init], **dtypes)
    norm = functools.partial(norm, **dtypes)
    variant = get_variant(name.removeprefix("hrnetv2_"))
    return LandmarkNetwork(
        backbone=HRNet(variant, conv, norm, remat), head=HeatmapHead(num_landmarks, conv, norm)
    )
