"""Target heatmaps: a Gaussian at a continuous position, or in a window about a whole cell."""

import jax.numpy as jnp


def continuous_gaussians(points, shown, size, sigma):
    """Gaussians with their top at each point, over the whole grid.

    Args:
      points: (N, L, 2), heatmap pixels; may hold anything where not shown.
      shown: (N, L) bool; False leaves the map empty.
      size: side of the maps, cells.
      sigma: heatmap cells.

    Returns:
      (N, size, size, L), of the points' dtype; 1 where a point is a cell's centre.
    """
    points = jnp.where(shown[..., None], points, 0)
    centres = jnp.arange(size, dtype=points.dtype)[:, None, None] + 0.5
    profile = jnp.exp(-((centres - points[:, None]) ** 2) / (2 * sigma**2))
    return _product(profile, shown)


def windowed_gaussians(first, end, peak, shown, size, sigma):
    """Gaussians about whole cells, cut to a window.

    Args:
      first, end: (N, L, 2), the window's first cell and the one past its last, (x, y).
      peak: (N, L, 2), the cell whose value is 1.
      shown, size, sigma: as for `continuous_gaussians`.

    Returns:
      (N, size, size, L), of the dtype of `peak`.
    """
    grid = jnp.arange(size, dtype=peak.dtype)[:, None, None]
    first, end, peak = (value[:, None] for value in (first, end, peak))
    inside = (grid >= first) & (grid < end)
    profile = jnp.where(inside, jnp.exp(-((grid - peak) ** 2) / (2 * sigma**2)), 0)
    return _product(profile, shown)


def official_gaussians(points, shown, size, sigma):
    """The windowed Gaussians of the official code, which HIH and mmpose have taken over.

    With sigma 1.0 the window is the 7 x 7 cells about cell k. With sigma 1.5 it is the 10 x 10
    cells k - 5 … k + 4 and, because the code truncates the negative corner toward zero, its peak
    lies one cell too far right or down for k <= 4.

    Args:
      points: (N, L, 2), whole cells; of others the window's corner is truncated.
      shown, size, sigma: as for `continuous_gaussians`.

    Returns:
      (N, size, size, L), of the points' dtype, peak value 1.
    """
    reach = 3 * sigma
    first = jnp.trunc(points - reach)
    peak = first + (2 * reach + 1) // 2
    return windowed_gaussians(first, jnp.trunc(points + reach + 1), peak, shown, size, sigma)


def _product(profile, shown):
    """Maps (N, size, size, L) from profiles (N, size, L, 2) along x and y."""
    rows = jnp.where(shown[:, None], profile[..., 1], 0)
    return rows[:, :, None, :] * profile[:, None, :, :, 0]
