"""The heatmaps of the official HRNet facial-landmark code, its truncations included."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from hrnet_jax.codecs.peaks import cell_values, check_sigma, peak_cells


@dataclasses.dataclass(frozen=True)
class OfficialCodec:
    """Encodes and decodes exactly as the models of the official repository were trained and scored.

    Attributes:
      sigma: of the Gaussian, heatmap cells: 1.0 for 300W, 1.5 for WFLW, COFW and AFLW.
    """

    sigma: float = 1.5

    def __post_init__(self):
        check_sigma(self.sigma)

    def encode(self, points, weights, size):
        """Paints a windowed Gaussian about the cell that holds each point.

        The window is the official one. With sigma 1.0 it is the 7 x 7 cells about cell k. With
        sigma 1.5 it is the 10 x 10 cells k - 5 … k + 4 and, because the code truncates the negative
        corner toward zero, its peak lies one cell too far right or down for k <= 4.

        Args:
          points: (N, L, 2), heatmap pixels; whole cells, as `Protocol.to_heatmap` gives them. Of
            others the window's corner is truncated, as the official function would.
          weights: (N, L), 1 or 0; 0 leaves the map empty.
          size: side of the maps, cells.

        Returns:
          (N, size, size, L), of the points' dtype, peak value 1.
        """
        points = jnp.asarray(points)
        reach = 3 * self.sigma
        first = jnp.trunc(points - reach)
        end = jnp.trunc(points + reach + 1)
        peak = first + (2 * reach + 1) // 2
        grid = jnp.arange(size, dtype=points.dtype)[:, None, None]
        # profile[n, k, l, axis]: the window and the Gaussian are products of an x and a y profile.
        first, end, peak = (value[:, None] for value in (first, end, peak))
        distance = grid - peak
        inside = (grid >= first) & (grid < end)
        profile = jnp.where(inside, jnp.exp(-(distance**2) / (2 * self.sigma**2)), 0)
        rows = jnp.where(weights[:, None, :] > 0, profile[..., 1], 0)
        return rows[:, :, None, :] * profile[:, None, :, :, 0]

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
        height, width = heatmaps.shape[1:3]
        x, y, scores = peak_cells(heatmaps)
        inner = (x >= 1) & (x <= width - 2) & (y >= 1) & (y <= height - 2)

        near_x = x[:, None] + np.array([1, -1, 0, 0])[:, None]
        near_y = y[:, None] + np.array([0, 0, 1, -1])[:, None]
        right, left, below, above = jnp.moveaxis(cell_values(heatmaps, near_x, near_y), 1, 0)
        shift = jnp.stack([jnp.sign(right - left), jnp.sign(below - above)], axis=-1)
        points = jnp.stack([x, y], axis=-1) + 0.5 + jnp.where(inner[..., None], 0.25 * shift, 0)
        return jnp.where(scores[..., None] > 0, points, -0.5).astype(scores.dtype), scores
