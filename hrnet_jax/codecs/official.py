"""The heatmaps of the official HRNet facial-landmark code, its truncations included."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from hrnet_jax.codecs.gaussians import official_gaussians
from hrnet_jax.codecs.peaks import cell_values, check_sigma, peak_cells


@dataclasses.dataclass(frozen=True)
class OfficialCodec:
    """Encodes and decodes exactly as the models of the official repository were trained and scored.

    Attributes:
      sigma: of the Gaussian, heatmap cells: 1.0 for 300W, 1.5 for WFLW, COFW and AFLW.
    """

    whole_cells: ClassVar[bool] = True

    sigma: float = 1.5

    def __post_init__(self):
        check_sigma(self.sigma)

    def encode(self, points, weights, size):
        """Paints a windowed Gaussian about the cell that holds each point (`official_gaussians`).

        Args:
          points: (N, L, 2), heatmap pixels; whole cells, as `Protocol.to_heatmap` gives them. Of
            others the window's corner is truncated, as the official function would.
          weights: (N, L), 1 or 0; 0 leaves the map empty.
          size: side of the maps, cells.

        Returns:
          (N, size, size, L), of the points' dtype, peak value 1.
        """
        points = jnp.asarray(points)
        return official_gaussians(points, jnp.asarray(weights) > 0, size, self.sigma)

    def decode(self, heatmaps):
        """The centre of the highest cell, a quarter cell toward its higher neighbours.

        The quarter shift is left out where the cell lies on the border. A map without a positive
        value gives (-0.5, -0.5), as in the official code. Of equal maxima the first one counts.

        Args:
          heatmaps: (N, H, W, L).

        Returns:
          points: (N, L, 2), heatmap pixels.
          scores: (N, L), the highest values.
        """
        return quarter_shift(heatmaps, first=1)


def quarter_shift(heatmaps, first):
    """Centres of the highest cells, moved a quarter cell along each axis toward higher neighbours.

    Args:
      heatmaps: (N, H, W, L).
      first: row and column from which on a cell is moved; in the last ones it never is.

    Returns:
      points (N, L, 2), heatmap pixels, -0.5 without a positive value; scores (N, L).
    """
    height, width = heatmaps.shape[1:3]
    x, y, scores = peak_cells(heatmaps)
    inner = (x >= first) & (x <= width - 2) & (y >= first) & (y <= height - 2)

    near_x = x[:, None] + np.array([1, -1, 0, 0])[:, None]
    near_y = y[:, None] + np.array([0, 0, 1, -1])[:, None]
    right, left, below, above = jnp.moveaxis(cell_values(heatmaps, near_x, near_y), 1, 0)
    shift = jnp.stack([jnp.sign(right - left), jnp.sign(below - above)], axis=-1)
    points = jnp.stack([x, y], axis=-1) + 0.5 + jnp.where(inner[..., None], 0.25 * shift, 0)
    return jnp.where(scores[..., None] > 0, points, -0.5).astype(scores.dtype), scores
