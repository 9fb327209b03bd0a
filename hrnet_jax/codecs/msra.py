"""Whole-cell heatmaps as mmpose makes and reads them without DARK ("MSRA")."""

import dataclasses

import jax.numpy as jnp

from hrnet_jax.codecs.gaussians import official_gaussians
from hrnet_jax.codecs.official import quarter_shift
from hrnet_jax.codecs.peaks import check_sigma


@dataclasses.dataclass(frozen=True)
class MsraCodec:
    """The official heatmaps for continuous points, decoded by mmpose 0.x's rule.

    Attributes:
      sigma: of the Gaussian, heatmap cells: in mmpose 2.0 for WFLW and AFLW, 1.5 for 300W and COFW.
    """

    sigma: float = 2.0

    def __post_init__(self):
        check_sigma(self.sigma)

    def encode(self, points, weights, size):
        """Paints a windowed Gaussian about the cell that holds each point.

        mmpose rounds its index coordinate m to int(m + 0.5); m + 0.5 is the point given here.

        Args:
          points: (N, L, 2), heatmap pixels.
          weights: (N, L), 1 or 0; 0 leaves the map empty.
          size: side of the maps, cells.

        Returns:
          (N, size, size, L), of the points' dtype, peak value 1.
        """
        cells = jnp.trunc(jnp.asarray(points))
        return official_gaussians(cells, jnp.asarray(weights) > 0, size, self.sigma)

    def decode(self, heatmaps):
        """The centre of the highest cell, a quarter cell toward its higher neighbours.

        Cells of the first two rows and columns and of the last ones keep their centre (mmpose 1.x
        decides so for each axis by itself). A map without a positive value gives (-0.5, -0.5).

        Args:
          heatmaps: (N, H, W, L).

        Returns:
          points: (N, L, 2), heatmap pixels.
          scores: (N, L), the highest values.
        """
        return quarter_shift(heatmaps, first=2)
