"""What the codecs share: where a heatmap is highest, and its values there."""

import math

import jax.numpy as jnp

from hrnet_jax.errors import HRNetError


def check_sigma(sigma):
    """HRNetError where sigma is not a positive number of heatmap cells."""
    number = isinstance(sigma, (int, float)) and not isinstance(sigma, bool)
    if not number or not math.isfinite(sigma) or sigma <= 0:
        raise HRNetError(f"codec sigma {sigma!r} is not a positive number of heatmap cells")


def peak_cells(heatmaps):
    """The highest cell of each map; of equal ones the first, row by row.

    Args:
      heatmaps: (N, H, W, L).

    Returns:
      x, y: (N, L) int32, cell indices.
      scores: (N, L), the values there.
    """
    n, height, width, landmarks = heatmaps.shape
    index = jnp.argmax(heatmaps.reshape(n, height * width, landmarks), axis=1).astype(jnp.int32)
    x, y = index % width, index // width
    return x, y, cell_values(heatmaps, x[:, None], y[:, None])[:, 0]


def cell_values(heatmaps, x, y):
    """Values (N, K, L) of maps (N, H, W, L) at cells x, y (N, K, L); border cells repeat."""
    n, height, width, landmarks = heatmaps.shape
    flat = heatmaps.reshape(n, height * width, landmarks)
    index = jnp.clip(y, 0, height - 1) * width + jnp.clip(x, 0, width - 1)
    return jnp.take_along_axis(flat, index, axis=1)
