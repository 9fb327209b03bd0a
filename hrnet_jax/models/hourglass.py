"""The stacked hourglass (Newell et al. 2016), as in Heatmap in Heatmap (Lan et al. 2021).

    stem (1/4 resolution) -> per stack: hourglass -> features -> heatmaps -> back into the features

The decimal head of HIH is in `hrnet_jax.models.heads`.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from hrnet_jax.errors import HRNetError
from hrnet_jax.models.features import Features
from hrnet_jax.models.layers import ConvNorm, residual_sum, torch_bias, upsample_aligned
from hrnet_jax.models.variants import HourglassVariant


class Residual(nn.Module):
    """1x1, 3x3, 1x1 convolutions, half as wide inside, with a skip connection."""

    features: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        half = self.features // 2
        y = ConvNorm(half, self.conv, self.norm, name="conv1")(x)
        y = ConvNorm(half, self.conv, self.norm, kernel=3, name="conv2")(y)
        y = ConvNorm(self.features, self.conv, self.norm, relu=False, name="conv3")(y)
        if x.shape[-1] != self.features:
            x = ConvNorm(self.features, self.conv, self.norm, relu=False, name="skip")(x)
        return residual_sum(y + x)


class Hourglass(nn.Module):
    """Halves its input `depth` times and comes back up, with a skip connection at every size."""

    depth: int
    conv: Callable
    norm: Callable
    block: Callable = Residual
    upsample: Callable = upsample_aligned

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        def block(x, name):
            return self.block(x.shape[-1], self.conv, self.norm, name=name)(x)

        skips = []
        for d in range(self.depth, 0, -1):
            skips.append(block(x, f"res{d}_1"))
            x = block(nn.max_pool(x, (2, 2), (2, 2)), f"res{d}_2")
        x = block(x, "res_center")
        for d in range(1, self.depth + 1):
            skip = skips.pop()
            x = skip + self.upsample(block(x, f"res{d}_3"), skip.shape[1:3])
        return x


class StackedHourglass(nn.Module):
    """Backbone: images (N, H, W, 3) to one branch (N, H/4, W/4, width) and S stacks of heatmaps.

    H and W: at least 64 with four halvings; published for 256. Every stack predicts heatmaps,
    which go back into its features, also in the last one. `conv`, `norm` and `remat` as in
    `hrnet_jax.models.hrnet.HRNet`; `upsample` is that of the hourglasses.
    """

    variant: HourglassVariant
    num_landmarks: int
    conv: Callable
    norm: Callable
    remat: bool = False
    upsample: Callable = upsample_aligned

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Features:
        conv, variant, width = self.conv, self.variant, self.variant.width
        if min(x.shape[1:3]) < 4 * 2**variant.depth:
            raise HRNetError(
                f"images of {x.shape[1]} x {x.shape[2]} pixels are too small for a stacked "
                f"hourglass: it needs {4 * 2**variant.depth} each way"
            )

        def norm(**kwargs):
            return self.norm(use_running_average=not train, **kwargs)

        residual = nn.remat(Residual) if self.remat else Residual

        def unit(x, name, **kwargs):
            return ConvNorm(width, conv, norm, name=name, **kwargs)(x)

        x = ConvNorm(width // 4, conv, norm, kernel=7, stride=2, name="stem_conv")(x)
        x = residual(width // 2, conv, norm, name="stem_res1")(x)
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = residual(width // 2, conv, norm, name="stem_res2")(x)
        x = residual(width, conv, norm, name="stem_res3")(x)
        heatmaps = []
        for s in range(variant.stacks):
            parts = (variant.depth, conv, norm, residual, self.upsample)
            y = Hourglass(*parts, name=f"stack{s}_hourglass")(x)
            y = unit(residual(width, conv, norm, name=f"stack{s}_res")(y), f"stack{s}_features")
            bias = {"use_bias": True, "bias_init": torch_bias(width)}
            heatmaps.append(conv(self.num_landmarks, (1, 1), name=f"stack{s}_heatmaps", **bias)(y))
            x = x + unit(y, f"stack{s}_merge_features", relu=True)
            x = x + unit(heatmaps[-1], f"stack{s}_merge_heatmaps", relu=True)
        return Features([x], jnp.stack(heatmaps, axis=1))
