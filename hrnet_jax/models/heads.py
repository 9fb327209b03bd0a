"""Heads: from a backbone's `Features` to the output of a network.

A head is a Flax module, `head(features, train) -> output`, for the features of any backbone. Its
constructor is given what its signature names of `num_landmarks` (of a classifier `num_classes`),
`conv`, `norm` and `upsample`. `norm` is made with `use_running_average=not train`.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from hrnet_jax.models.features import Features
from hrnet_jax.models.layers import Bottleneck, ConvNorm, torch_bias, upsample


class HIHOutput(NamedTuple):
    """What a network with the HIH head returns.

    Attributes:
      heatmaps: (N, S, H/4, W/4, L), of the integer position: the last stack's are the prediction,
        the others are there to be trained (S = 1 on an HRNet).
      decimal_heatmaps: (N, h, w, L), of the position within a heatmap cell; h = H/32 and w = W/32
        at sizes that are multiples of 32.
    """

    heatmaps: jax.Array
    decimal_heatmaps: jax.Array


class HeatmapHead(nn.Module):
    """The official facial-landmark head (HRNetV2).

    All branches are upsampled to the highest resolution and concatenated (15 C channels), then
    1x1 convolution with bias, batch normalisation, ReLU, 1x1 convolution with bias. Returns
    heatmaps (N, H/4, W/4, num_landmarks) without activation.
    """

    num_landmarks: int
    conv: Callable
    norm: Callable
    upsample: Callable = upsample

    @nn.compact
    def __call__(self, features: Features, train: bool = False) -> jax.Array:
        x = features.merged(self.upsample)
        channels = x.shape[-1]
        x = self.conv(
            channels, (1, 1), use_bias=True, bias_init=torch_bias(channels), name="conv1"
        )(x)
        x = nn.relu(self.norm(use_running_average=not train, name="bn1")(x))
        return self.conv(
            self.num_landmarks, (1, 1), use_bias=True, bias_init=torch_bias(channels), name="conv2"
        )(x)


class HIHHead(nn.Module):
    """Heatmap in Heatmap (Lan et al. 2021): heatmaps, and small heatmaps of their cells' inside.

    The heatmaps are those that the backbone predicted (a stacked hourglass); on another backbone
    those of a `HeatmapHead`.
    """

    num_landmarks: int
    conv: Callable
    norm: Callable
    upsample: Callable = upsample

    @nn.compact
    def __call__(self, features: Features, train: bool = False) -> HIHOutput:
        heatmaps = features.heatmaps
        if heatmaps is None:
            parts = (self.num_landmarks, self.conv, self.norm, self.upsample)
            head = HeatmapHead(*parts, name="heatmap")
            heatmaps = head(features, train)[:, None]
        decimal = DecimalHead(self.num_landmarks, self.conv, self.norm, name="decimal")
        return HIHOutput(heatmaps, decimal(features.merged(self.upsample), train))


class DecimalHead(nn.Module):
    """The decimal map of HIH: (N, H/4, W/4, C) to (N, H/32, W/32, L), logits of a softmax.

    1x1 convolution, 3x3 max pooling of stride 2 without padding (64 -> 31), two residual blocks of
    stride 2 (31 -> 16 -> 8), 1x1 convolution, 1x1 convolution with bias.
    """

    num_landmarks: int
    conv: Callable
    norm: Callable
    width: int = 384

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        def norm(**kwargs):
            return self.norm(use_running_average=not train, **kwargs)

        def unit(x, name, **kwargs):
            return ConvNorm(self.width, self.conv, norm, name=name, **kwargs)(x)

        x = nn.max_pool(unit(x, "conv1"), (3, 3), (2, 2))
        for i in range(2):
            y = unit(x, f"down{i}_conv1", kernel=3, stride=2)
            y = unit(y, f"down{i}_conv2", kernel=3, relu=False)
            x = nn.relu(y + unit(x, f"down{i}_downsample", stride=2, relu=False))
        x = unit(x, "conv2")
        return self.conv(
            self.num_landmarks,
            (1, 1),
            use_bias=True,
            bias_init=torch_bias(self.width),
            name="conv3",
        )(x)


class ClassificationHead(nn.Module):
    """The ImageNet head of HRNet (Wang et al. 2019): four branches to logits (N, num_classes).

    A Bottleneck widens each branch (128, 256, 512, 1024 channels); from the highest resolution down
    they are added up through 3x3 convolutions of stride 2; a 1x1 convolution to 2048 channels,
    global average pooling and a linear layer follow.
    """

    num_classes: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, features: Features, train: bool = False) -> jax.Array:
        def norm(**kwargs):
            return self.norm(use_running_average=not train, **kwargs)

        def unit(channels, name, **kwargs):
            return ConvNorm(channels, self.conv, norm, use_bias=True, name=name, **kwargs)

        x = jnp.zeros(())
        for i, branch in enumerate(features.branches):
            y = Bottleneck(32 * 2**i, self.conv, norm, name=f"increase{i}")(branch)
            if i > 0:
                y = y + unit(128 * 2**i, f"downsample{i - 1}", kernel=3, stride=2)(x)
            x = y
        x = unit(2048, "final")(x).mean((1, 2))
        return nn.Dense(
            self.num_classes,
            dtype=x.dtype,
            param_dtype=jnp.promote_types(x.dtype, jnp.float32),
            kernel_init=torch_bias(2048),  # PyTorch's default of a linear layer
            bias_init=torch_bias(2048),
            name="classifier",
        )(x)
