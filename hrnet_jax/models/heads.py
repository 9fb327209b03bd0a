"""Heads: from backbone features to landmark outputs."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from hrnet_jax.models.layers import upsample


class HeatmapHead(nn.Module):
    """The official facial-landmark head (HRNetV2).

    All branches are upsampled to the highest resolution and concatenated (15 C channels), then
    1x1 convolution with bias, batch normalisation, ReLU, 1x1 convolution with bias. Returns
    heatmaps (N, H/4, W/4, num_landmarks) without activation.
    """

    num_landmarks: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, branches: list[jax.Array], train: bool = False) -> jax.Array:
        size = branches[0].shape[1:3]
        x = jnp.concatenate([branches[0], *(upsample(b, size) for b in branches[1:])], axis=-1)
        channels = x.shape[-1]
        x = self.conv(
            channels, (1, 1), use_bias=True, bias_init=torch_bias(channels), name="conv1"
        )(x)
        x = nn.relu(self.norm(use_running_average=not train, name="bn1")(x))
        return self.conv(
            self.num_landmarks, (1, 1), use_bias=True, bias_init=torch_bias(channels), name="conv2"
        )(x)


def torch_bias(fan_in: int) -> Callable:
    """PyTorch's default bias initialiser: uniform within +-1 / sqrt(fan_in)."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
