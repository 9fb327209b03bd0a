"""What the codecs share: where a heatmap is highest, and its values there."""

import jax.numpy as jnp

from hrnet_jax.errors import HRNetError
from hrnet_jax.limits import CODEC_SIGMAS, CODEC_WIDTH


def check_sigma(sigma):
    """HRNetError where sigma is not a positive number of heatmap cells."""
    number = isinstance(sigma, (int, float)) and not isinstance(sigma, bool)
    low, high = CODEC_SIGMAS
    if not number or not low <= sigma <= high:
        raise HRNetError(
            f"codec sigma {sigma!r:.80} is not a positive number of heatmap cells ({low} to {high})"
        )


def check_width(key, width, least):
    """HRNetError where the width of a codec's window is not an odd number of cells in its range."""
    if type(width) is not int or not least <= width <= CODEC_WIDTH or not width % 2:
        raise HRNetError(
            f"codec {key} {width!r:.80} is not an odd number of cells from {least} up to "
            f"{CODEC_WIDTH}"
        )


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
