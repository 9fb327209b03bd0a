"""Gaussian heatmaps at continuous positions and their sub-cell decoding."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hrnet_jax.codecs.gaussians import continuous_gaussians
from hrnet_jax.codecs.peaks import cell_values, check_sigma, check_width, peak_cells

# Cells below this fraction of the peak say nothing about its position, and have no logarithm when
# they are negative.
_FLOOR = 1e-3
# Added to the fit's normal equations: terms that too few cells leave open become 0.
_RIDGE = 1e-7
# TPUs and some GPUs otherwise round the factors of a product to fewer bits.
_EXACT = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class UnbiasedCodec:
    """Encodes without rounding and decodes to a fraction of a cell, up to the border.

    The logarithm of a Gaussian is a paraboloid. DARK (Zhang et al., CVPR 2020) blurs the heatmap
    and takes differences of its logarithm at the highest cell; the blur smooths noise but is wrong
    near the border. This decoder fits the paraboloid to a window by least squares, each cell
    weighted by its squared value (Guo, "A simple algorithm for fitting a Gaussian function", 2011).

    Measured on 64 x 64 Gaussians of sigma 1.5 with white noise of 0.01: a root-mean-square error of
    0.013 cells, against 0.037 for differences of 3 x 3 cells and 0.014 for those after the best
    blur. Without noise it is right to 1e-4 cells even beside the border, where blurs err by half a
    cell.

    Attributes:
      sigma: of the Gaussian, heatmap cells.
      window: odd width of the window that is fitted, cells; at least 5, so that 3 x 3 cells are
        left in a corner.
    """

    whole_cells: ClassVar[bool] = False

    sigma: float = 1.5
    window: int = 5

    def __post_init__(self):
        check_sigma(self.sigma)
        check_width("window", self.window, 5)

    def encode(self, points, weights, size):
        """A Gaussian with its top at each point, over the whole grid.

        Args:
          points: (N, L, 2), heatmap pixels.
          weights: (N, L), 1 or 0; 0 leaves the map empty, whatever the point.
          size: side of the maps, cells.

        Returns:
          (N, size, size, L), of the points' dtype; 1 where a point is a cell's centre.
        """
        shown = jnp.asarray(weights) > 0
        return continuous_gaussians(jnp.asarray(points), shown, size, self.sigma)

    def decode(self, heatmaps):
        """The top of the Gaussian through the cells about the highest one.

        Where they do not curve down in every direction it is their centroid. It lies at most one
        cell from the highest cell's centre along each axis. A map without a positive value gives
        that centre; so does one that is not finite. Of equal maxima the first one counts.

        Args:
          heatmaps: (N, H, W, L), float32 or float64.

        Returns:
          points: (N, L, 2), heatmap pixels, always finite.
          scores: (N, L), the highest values.
        """
        height, width = heatmaps.shape[1:3]
        x, y, scores = peak_cells(heatmaps)
        found = jnp.isfinite(scores) & (scores > 0)
        reach = self.window // 2
        dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1, 1)
        cx, cy = x[:, None] + dx, y[:, None] + dy  # (N, window^2, L)
        inside = (cx >= 0) & (cx < width) & (cy >= 0) & (cy < height)
        # In units of the peak, so that neither the fit nor its limits depend on the scale.
        values = cell_values(heatmaps, cx, cy) / jnp.where(found, scores, 1)[:, None]
        values = jnp.where(inside & (values > _FLOOR), values, 0)

        offset = np.concatenate([dx, dy], axis=1) / reach
        fit, concave = _paraboloid_top(values, offset)
        total = jnp.maximum(values.sum(axis=1), 1)  # the peak itself counts 1
        centroid = jnp.einsum("nkl,ka->nla", values, offset, precision=_EXACT) / total[..., None]
        step = jnp.clip(reach * jnp.where(concave[..., None], fit, centroid), -1, 1)
        step = jnp.where(found[..., None] & jnp.isfinite(step), step, 0)
        return (jnp.stack([x, y], axis=-1) + 0.5 + step).astype(scores.dtype), scores


def _paraboloid_top(values, offset):
    """Weighted least-squares fit of a + b x + c y + d x^2 + e x y + f y^2 to log(values).

    Args:
      values: (N, K, L), 0 for cells that do not count.
      offset: (K, 2) NumPy, their (x, y) within -1 … 1.

    Returns:
      top: (N, L, 2), the top of the paraboloid, in the frame of `offset`.
      concave: (N, L) bool, whether it has one.
    """
    u, v = offset.T
    basis = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)
    products = basis[:, :, None] * basis[:, None, :]
    weights = values**2
    logs = jnp.log(jnp.where(values > 0, values, 1))
    normal = jnp.einsum("nkl,kpq->nlpq", weights, products.astype(values.dtype), precision=_EXACT)
    right = jnp.einsum("nkl,kp->nlp", weights * logs, basis.astype(values.dtype), precision=_EXACT)
    normal = normal + _RIDGE * jnp.eye(6, dtype=values.dtype)
    solved = jnp.linalg.solve(normal, right[..., None])[..., 0]
    _, gx, gy, d, gxy, f = jnp.moveaxis(solved, -1, 0)
    gxx, gyy = 2 * d, 2 * f
    determinant = gxx * gyy - gxy**2
    concave = (gxx < 0) & (gyy < 0) & (determinant > 0)
    determinant = jnp.where(concave, determinant, 1)
    top = jnp.stack([gxy * gy - gyy * gx, gxy * gx - gxx * gy], axis=-1) / determinant[..., None]
    return top, concave
