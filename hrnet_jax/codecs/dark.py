"""DARK: continuous Gaussians, decoded from the derivatives of the smoothed map's logarithm."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hrnet_jax.codecs.gaussians import continuous_gaussians
from hrnet_jax.codecs.peaks import cell_values, check_sigma, check_width, peak_cells

_EXACT = jax.lax.Precision.HIGHEST  # else TPUs and some GPUs round the factors of a product
_FLOOR = 1e-10  # of the smoothed map, before its logarithm

# What OpenCV's GaussianBlur uses for sigma 0 instead of sampling a Gaussian; the one of 9 is
# OpenCV 4.14's.
_FIXED_KERNELS = {
    3: np.array([1, 2, 1]) / 4,
    5: np.array([1, 4, 6, 4, 1]) / 16,
    7: np.array([2, 7, 14, 18, 14, 7, 2]) / 64,
    9: np.array([4, 13, 30, 51, 60, 51, 30, 13, 4]) / 256,
}


@dataclasses.dataclass(frozen=True)
class DarkCodec:
    """Distribution-aware coordinates (Zhang et al., CVPR 2020) as mmpose implements them.

    mmpose counts in index coordinates: there, cell k lies at k. They are this project's heatmap
    pixels less 0.5, and the protocol "mmpose" converts; here, as in every codec, its centre is at
    k + 0.5.

    Measured without noise, sigma 2 on 64 x 64 cells: right to 0.0004 cells from six cells off the
    border on, 0.002 from five, 0.02 from four, 0.1 from three; nearer it gives the cell's centre.

    Attributes:
      sigma: of the Gaussian, heatmap cells.
      kernel: odd width of the smoothing that precedes decoding, cells; 11 goes with sigma 2, 7 with
        1.5 and 3 with 1.
    """

    whole_cells: ClassVar[bool] = False

    sigma: float = 2.0
    kernel: int = 11

    def __post_init__(self):
        check_sigma(self.sigma)
        check_width("kernel", self.kernel, 3)

    def encode(self, points, weights, size):
        """A Gaussian with its top at each point, over the whole grid.

        Args:
          points: (N, L, 2), heatmap pixels.
          weights: (N, L), 1 or 0; 0 leaves the map empty. So does a point farther than about three
            sigma outside, whose weight mmpose sets to 0.
          size: side of the maps, cells.

        Returns:
          (N, size, size, L), of the points' dtype; 1 where a point is a cell's centre.
        """
        points = jnp.asarray(points)
        index, reach = points - 0.5, 3 * self.sigma
        near = ((index - reach < size) & (index + reach + 1 >= 0)).all(axis=-1)
        shown = (jnp.asarray(weights) > 0) & near
        return continuous_gaussians(points, shown, size, self.sigma)

    def decode(self, heatmaps):
        """One Newton step from the highest cell, on the logarithm of the smoothed map.

        The step has no limit. Without one: cells less than two from the border, where the smoothed
        map is not curved, and maps without a positive value, which give (-0.5, -0.5).

        Args:
          heatmaps: (N, H, W, L), float32 or float64.

        Returns:
          points: (N, L, 2), heatmap pixels.
          scores: (N, L), the highest values.
        """
        height, width = heatmaps.shape[1:3]
        x, y, scores = peak_cells(heatmaps)
        found = jnp.isfinite(scores) & (scores > 0)
        maps = jnp.where(found[:, None, None], heatmaps, 0)
        smooth = _blur(maps, gaussian_kernel(self.kernel))
        gain = jnp.where(found, scores / smooth.max(axis=(1, 2)), 1)

        # Cells about the highest one, in rows: (N, 25, L) -> value(dx, dy).
        dy, dx = np.mgrid[-2:3, -2:3].reshape(2, -1, 1)
        values = cell_values(smooth, x[:, None] + dx, y[:, None] + dy) * gain[:, None]
        logs = jnp.log(jnp.maximum(values, _FLOOR))

        def at(dx, dy):
            return logs[:, (dy + 2) * 5 + dx + 2]

        gx, gy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
        gxx = (at(2, 0) - 2 * at(0, 0) + at(-2, 0)) / 4
        gyy = (at(0, 2) - 2 * at(0, 0) + at(0, -2)) / 4
        gxy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
        determinant = gxx * gyy - gxy**2
        step = jnp.stack([gxy * gy - gyy * gx, gxy * gx - gxx * gy], axis=-1)
        step = step / jnp.where(determinant == 0, 1, determinant)[..., None]

        inner = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
        moved = found & inner & (determinant != 0)
        step = jnp.where(moved[..., None] & jnp.isfinite(step), step, 0)
        points = jnp.stack([x, y], axis=-1) + 0.5 + step
        return jnp.where(scores[..., None] > 0, points, -0.5).astype(scores.dtype), scores


def gaussian_kernel(width: int) -> np.ndarray:
    """The smoothing weights of cv2.GaussianBlur with that odd kernel width and sigma 0, float64."""
    if width in _FIXED_KERNELS:
        return _FIXED_KERNELS[width]
    sigma = 0.3 * ((width - 1) * 0.5 - 1) + 0.8
    kernel = np.exp(-((np.arange(width) - width // 2) ** 2) / (2 * sigma**2))
    return kernel / kernel.sum()


def _blur(maps, kernel):
    """Convolves maps (N, H, W, L) with a kernel along both axes, zeros outside."""

    def band(size):  # as a matrix: two small products suit an accelerator, and zeros come for free
        shifted = [w * np.eye(size, k=i - len(kernel) // 2) for i, w in enumerate(kernel)]
        return np.sum(shifted, axis=0)

    rows, columns = (band(size).astype(maps.dtype) for size in maps.shape[1:3])
    maps = jnp.einsum("ij,njkl->nikl", rows, maps, precision=_EXACT)
    return jnp.einsum("ij,nkjl->nkil", columns, maps, precision=_EXACT)
