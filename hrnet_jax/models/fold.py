"""Batch normalisation folded into the convolutions before it, for inference."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hrnet_jax.models.layers import BatchNorm


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
      model: a network of `hrnet_jax.create_model`. One whose normalisation is not
        `hrnet_jax.models.layers.BatchNorm` is returned as it is.
      variables: its {"params", "batch_stats"}.

    Returns:
      (model, {"params"}), not for training.
    """
    norm = model.backbone.norm
    if norm.func is not BatchNorm:
        return model, variables
    epsilon = norm.keywords.get("epsilon", BatchNorm.epsilon)
    kept = {key: norm.keywords[key] for key in ("dtype", "param_dtype") if key in norm.keywords}
    bias = functools.partial(ChannelBias, **kept)
    folded = model.clone(backbone=model.backbone.clone(norm=bias), head=model.head.clone(norm=bias))
    return folded, {"params": _fold(variables["params"], variables["batch_stats"], epsilon)}


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
