"""Batch normalisation folded into the convolutions before it, for inference."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hrnet_jax.models import HEADS, Network
from hrnet_jax.models.hourglass import StackedHourglass
from hrnet_jax.models.hrnet import HRNet
from hrnet_jax.models.layers import BatchNorm, Conv


class ChannelBias(nn.Module):
    """What is left of a folded normalisation: one number is added to each channel."""

    use_running_average: bool
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],), self.param_dtype)
        return x + bias.astype(self.dtype)


def fold(model, variables: dict):
    """Returns a network and its variables that give the outputs of `model` in evaluation mode.

    A normalisation with fixed statistics is y * gain + shift for each channel: the kernel before it
    is multiplied by the gain, and only a bias remains. Equal up to float rounding.

    Args:
      model: a network of `hrnet_jax.create_model`. One with parts of other kinds than the published
        networks' is returned as it is.
      variables: its {"params", "batch_stats"}.

    Returns:
      (model, {"params"}), not for training.
    """
    if not _is_published(model):
        return model, variables
    norm = model.backbone.norm
    epsilon = norm.keywords.get("epsilon", BatchNorm.epsilon)
    kept = {key: norm.keywords[key] for key in ("dtype", "param_dtype") if key in norm.keywords}
    bias = functools.partial(ChannelBias, **kept)
    folded = model.clone(backbone=model.backbone.clone(norm=bias), head=model.head.clone(norm=bias))
    return folded, {"params": _fold(variables["params"], variables["batch_stats"], epsilon)}


def _is_published(model):
    """Whether every kernel's outputs go to the batch normalisation after it, and nowhere else."""
    if type(model) is not Network or type(model.backbone) not in (HRNet, StackedHourglass):
        return False
    if type(model.head) not in HEADS.values():
        return False
    conv, norm = (getattr(model.backbone, kind, None) for kind in ("conv", "norm"))
    convs = (Conv, nn.Conv)
    return getattr(conv, "func", conv) in convs and getattr(norm, "func", norm) is BatchNorm


def _fold(params, stats, epsilon):
    """The parameters of one module; "bn2" follows "conv2" everywhere (see `layers.py`)."""
    folded = {
        name: _fold(part, stats.get(name, {}), epsilon) if isinstance(part, dict) else part
        for name, part in params.items()
    }
    for name in params:
        if name.startswith("bn"):
            norm, seen = params[name], stats[name]
            gain = norm["scale"] * jax.lax.rsqrt(seen["var"] + epsilon)
            before = name.replace("bn", "conv")
            folded[before] = {key: leaf * gain for key, leaf in params[before].items()}
            folded[name] = {"bias": norm["bias"] - seen["mean"] * gain}
    return folded
