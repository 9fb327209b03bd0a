"""Normalisations by name, and how any other one takes their place.

A normalisation is a constructor. `norm(name=…)` makes a Flax module (or a function) that is called
with feature maps (N, …, C) and returns as many. It is given what its signature names of
`use_running_average` (False in training), `dtype` (of the result) and `param_dtype` (of parameters
and statistics). So every one of Flax fits as it comes, with its own defaults.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hrnet_jax import parts
from hrnet_jax.errors import HRNetError
from hrnet_jax.models.layers import BatchNorm


class GroupNorm(nn.Module):
    """`flax.linen.GroupNorm` for any number of channels.

    Where `num_groups` do not divide the channels, there are as many groups as divide both.
    """

    num_groups: int = 8
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        if not isinstance(self.num_groups, int) or self.num_groups < 1:
            raise HRNetError(f"norm num_groups {self.num_groups!r} is not a number from 1 up")
        groups = math.gcd(self.num_groups, x.shape[-1])
        kept = {key: getattr(self, key) for key in ("epsilon", "dtype", "param_dtype")}
        norm = nn.GroupNorm(groups, use_fast_variance=False, **kept)
        nn.share_scope(self, norm)
        return norm(x)


class NoNorm(nn.Module):
    """A gain and a bias for each channel, and no normalisation."""

    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        return (x * scale + bias).astype(self.dtype)


def frozen_batch_norm(epsilon=1e-5, dtype=jnp.float32, param_dtype=jnp.float32, name=None):
    """Batch normalisation by the running statistics, which never change."""
    return BatchNorm(True, epsilon=epsilon, dtype=dtype, param_dtype=param_dtype, name=name)


NORMS = {
    "batch": BatchNorm,
    "group": GroupNorm,
    "layer": nn.LayerNorm,
    "instance": nn.InstanceNorm,
    "none": NoNorm,
    "frozen": frozen_batch_norm,
    "flax.BatchNorm": nn.BatchNorm,
    "flax.GroupNorm": nn.GroupNorm,
    "flax.RMSNorm": nn.RMSNorm,
}


def adapt_norm(norm: Callable, **dtypes) -> Callable:
    """`norm` as networks here call it: `norm(use_running_average=…, name=…)`.

    Args:
      norm: a constructor, as the module's docstring says. `flax.linen.GroupNorm` with its own 32
        groups becomes the `GroupNorm` here, as these seldom divide an HRNet's channels.
      dtypes: `dtype` and `param_dtype`, bound where `norm` takes them.
    """
    if norm is nn.GroupNorm:
        norm = functools.partial(GroupNorm, num_groups=32, epsilon=1e-6)
    norm = functools.partial(norm, **parts.accepted(norm, dtypes))
    called = parts.accepted(norm, {"use_running_average": True, "name": ""})
    return norm if len(called) == 2 else functools.partial(_call, norm, tuple(called))


def _call(norm, taken, **given):
    return norm(**{key: value for key, value in given.items() if key in taken})
