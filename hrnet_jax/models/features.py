"""What a backbone hands to a head."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from hrnet_jax.models.layers import upsample


class Features(NamedTuple):
    """The output of a backbone: any head takes that of any backbone.

    Attributes:
      branches: feature maps (N, h, w, C), highest resolution (H/4, W/4) first: four of an HRNet,
        one of a stacked hourglass.
      heatmaps: (N, S, H/4, W/4, L), where a backbone predicts heatmaps on its way (a stacked
        hourglass, after each of its S stacks); else None.
    """

    branches: list[jax.Array]
    heatmaps: jax.Array | None = None

    def merged(self, upsample: Callable = upsample) -> jax.Array:
        """All branches at the highest resolution, side by side: (N, H/4, W/4, sum of C).

        `upsample` brings (N, h, w, C) up to a size (height, width).
        """
        first, *others = self.branches
        size = first.shape[1:3]
        return jnp.concatenate([first, *(upsample(b, size) for b in others)], axis=-1)
