"""Normalisations by name, each a constructor that stands wherever `BatchNorm` does."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from hrnet_jax.models.layers import BatchNorm


class GroupNorm(nn.Module):
    """`flax.linen.GroupNorm` where a BatchNorm stood: `use_running_average` means nothing to it.

    As many groups as asked for, or as divide the channels: the largest such number below it.
    """

    use_running_average: bool
    num_groups: int = 8
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        groups = max(g for g in range(1, self.num_groups + 1) if x.shape[-1] % g == 0)
        return nn.GroupNorm(
            groups,
            epsilon=self.epsilon,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            use_fast_variance=False,
            name="group",
        )(x)


class NoNorm(nn.Module):
    """A gain and a bias for each channel, and no normalisation."""

    use_running_average: bool
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        return (x * scale + bias).astype(self.dtype)


def frozen_batch_norm(use_running_average: bool, **kwargs) -> BatchNorm:
    """Batch normalisation by the running statistics, which never change."""
    return BatchNorm(use_running_average=True, **kwargs)


NORMS = {"batch": BatchNorm, "group": GroupNorm, "none": NoNorm, "frozen": frozen_batch_norm}
