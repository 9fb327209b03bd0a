"""Heatmap in Heatmap: a map of whole cells, and a small map of the position within the cell."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from hrnet_jax.codecs.gaussians import official_gaussians, windowed_gaussians
from hrnet_jax.codecs.peaks import check_sigma, peak_cells
from hrnet_jax.errors import HRNetError


class HIHMaps(NamedTuple):
    """What a HIH network gives and learns.

    Attributes:
      heatmaps: (N, S, h, w, L), one for each of S stacks; of targets S is 1.
      decimal_heatmaps: (N, d, d, L), the cell of `heatmaps` that holds the point, enlarged.
    """

    heatmaps: jax.Array
    decimal_heatmaps: jax.Array


def decimal_size(size: int) -> int:
    """Side of the decimal maps that the HIH head makes of feature maps of a side: 8 for 64.

    Its layers: a 3 x 3 maximum of stride 2 without padding, two convolutions of stride 2.
    """
    pooled = (size - 1) // 2
    return -(-pooled // 4)


@dataclasses.dataclass(frozen=True)
class HIHCodec:
    """Encodes and decodes as "HIH: Towards More Accurate Face Alignment via Heatmap in Heatmap".

    Attributes:
      sigma: of the Gaussian about the whole cell, heatmap cells.
      decimal_sigma: of the Gaussian in the decimal map, its cells: a whole number.
      masked: decode as the published figures were: without a positive value the decimal part is
        dropped, although the decimal logits, learnt through a softmax, have no meaningful zero.
    """

    whole_cells: ClassVar[bool] = False
    flip_test: ClassVar[bool] = False  # decimal maps belong to one heatmap's cell each

    sigma: float = 1.5
    decimal_sigma: float = 1.0
    masked: bool = False

    head: ClassVar[str] = "hih"  # of the network that gives what `decode` takes

    def __post_init__(self):
        check_sigma(self.sigma)
        check_sigma(self.decimal_sigma)
        if self.decimal_sigma % 1:  # the published code windows fractional ones otherwise
            raise HRNetError(
                f"codec decimal_sigma {self.decimal_sigma!r:.80} is not a whole number"
            )
        if not isinstance(self.masked, bool):
            raise HRNetError(f"codec masked {self.masked!r:.80} is neither true nor false")

    def encode(self, points, weights, size):
        """The whole cell and the rest of each point, as Gaussians.

        Both keep the published code's slips: a heatmap's peak lies one cell too far right or down
        for cells up to 4, and one at the far edge of a cell lies outside its decimal map, where
        only a flank shows. Points outside the map are moved to its border, as published crops are
        clipped.

        Args:
          points: (N, L, 2), heatmap pixels.
          weights: (N, L), 1 or 0; 0 leaves both maps empty.
          size: side of the heatmaps, cells.

        Returns:
          HIHMaps, of the points' dtype: heatmaps (N, 1, size, size, L), decimal_heatmaps
          (N, d, d, L) with d = decimal_size(size).
        """
        shown = jnp.asarray(weights) > 0
        points = jnp.where(shown[..., None], jnp.clip(jnp.asarray(points), 0, size), 0)
        cells = jnp.minimum(jnp.floor(points), size - 1)
        heatmaps = official_gaussians(cells, shown, size, self.sigma)

        side = decimal_size(size)
        decimals, reach = (points - cells) * side, 3 * self.decimal_sigma
        first = jnp.round(decimals - reach)  # halves to the even number, as NumPy does
        end = jnp.round(decimals + reach) + 1
        decimal_heatmaps = windowed_gaussians(
            first, end, first + reach, shown, side, self.decimal_sigma
        )
        return HIHMaps(heatmaps[:, None], decimal_heatmaps)

    def decode(self, outputs):
        """The highest cell of the last stack, and the highest decimal cell's edge within it.

        Decoding an encoded point is right to an eighth of a heatmap pixel, 0.008 too low on average
        (decimal maps of 8 x 8 cells, points from cell 5 on).

        Args:
          outputs: heatmaps (N, S, h, w, L) and decimal_heatmaps (N, d, d, L), as attributes.

        Returns:
          points: (N, L, 2), heatmap pixels.
          scores: (N, L), the highest values of the last stack.
        """
        x, y, scores = peak_cells(outputs.heatmaps[:, -1])
        dx, dy, decimal_scores = peak_cells(outputs.decimal_heatmaps)
        cells, decimals = jnp.stack([x, y], axis=-1), jnp.stack([dx, dy], axis=-1)
        if self.masked:
            cells = jnp.where(scores[..., None] > 0, cells, 0)
            decimals = jnp.where(decimal_scores[..., None] > 0, decimals, 0)
        points = cells + decimals / outputs.decimal_heatmaps.shape[1]
        return points.astype(scores.dtype), scores
