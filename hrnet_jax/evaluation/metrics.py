"""Normalised mean error, failure rate and area under the error curve, as papers define them.

Pure functions on NumPy arrays. NME is a fraction everywhere but in `summarise`, whose numbers are
printed the way papers print them: NME and failure rate in percent, AUC in 0..1.
"""

import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.schemes import Scheme

THRESHOLDS = (0.08, 0.10)
MEASURES = ("nme", "fr@0.08", "fr@0.10", "auc@0.08", "auc@0.10")


def normaliser(
    points: np.ndarray, scheme: Scheme, box_sizes: np.ndarray | None = None
) -> np.ndarray:
    """The length that divides each face's errors.

    Args:
      points: annotated landmarks, (N, L, 2), image pixels.
      scheme: names the two outer eye corners; their distance is the inter-ocular distance.
      box_sizes: (N,), image pixels, used where the scheme has no such pair (AFLW).

    Returns:
      float64 (N,), image pixels. It can be zero where the annotation is degenerate: the caller,
      who knows the image names, reports that. HRNetError if box sizes are needed and not there.
    """
    if scheme.normaliser is None:
        if box_sizes is None:
            raise HRNetError(
                f"errors of the {scheme.name} scheme are divided by the box size: "
                "the annotation file needs its box_size column, between scale and center_w"
            )
        return np.asarray(box_sizes, np.float64)
    first, second = scheme.normaliser
    points = np.asarray(points, np.float64)
    return np.linalg.norm(points[:, first] - points[:, second], axis=-1)


def point_errors(predicted: np.ndarray, truth: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Distance of every point to its annotation over its face's length: float64 (N, L).

    Points are (N, L, 2) and lengths (N,), in one frame and unit.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if predicted.shape != truth.shape:
        raise ValueError(f"predictions {predicted.shape} and truth {truth.shape} differ in shape")
    return np.linalg.norm(predicted - truth, axis=-1) / np.asarray(lengths, np.float64)[:, None]


def nme_per_image(predicted: np.ndarray, truth: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Mean of `point_errors` over a face's points, all of them, hidden or not: float64 (N,)."""
    return point_errors(predicted, truth, lengths).mean(axis=1)


def failure_rate(nme: np.ndarray, threshold: float) -> float:
    """Fraction of faces whose NME is strictly above the threshold (both fractions)."""
    return float(np.mean(np.asarray(nme) > threshold))


def ced(nme: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Cumulative error distribution: the fraction of faces with NME <= each threshold."""
    nme = np.sort(nme)
    return np.searchsorted(nme, thresholds, side="right") / nme.size


def auc(nme: np.ndarray, threshold: float) -> float:
    """Area under the empirical CED from 0 to the threshold, over the threshold: 0..1.

    The CED is a step function, so its integral is exact: a face of error e adds threshold - e, or
    nothing beyond the threshold. The trapezoid rule on a fine grid converges to this value.
    """
    return float(np.mean(np.maximum(0.0, 1.0 - np.asarray(nme) / threshold)))


def auc_simpson(nme: np.ndarray, threshold: float = 0.1, intervals: int = 1000) -> float:
    """The AUC that HIH prints: Simpson's rule on the CED at 1001 thresholds, 1e-4 apart.

    It is within a grid step (1/intervals) of `auc`; kept to compare with HIH's logs.
    """
    weights = np.where(np.arange(intervals + 1) % 2, 4.0, 2.0)
    weights[[0, -1]] = 1.0
    return float(weights @ ced(nme, np.linspace(0.0, threshold, intervals + 1)) / (3 * intervals))


def summarise(nme: np.ndarray, subsets: dict[str, np.ndarray] | None = None) -> dict:
    """The fields of metrics.json that follow from the NME of every face.

    Args:
      nme: (N,), fraction. HRNetError if it is empty.
      subsets: named boolean masks (N,); without a face in it, a subset's values are None.

    Returns:
      {"nme", "fr@0.08", "fr@0.10", "auc@0.08", "auc@0.10", "count", "subsets": {name: the same
      without "subsets"}}: NME and failure rates in percent, AUC in 0..1.
    """
    nme = np.asarray(nme, np.float64)
    if not nme.size:
        raise HRNetError("there are no faces to evaluate")
    parts = {name: _values(nme[mask]) for name, mask in (subsets or {}).items()}
    return _values(nme) | {"subsets": parts}


def _values(nme):
    if not nme.size:
        return dict.fromkeys(MEASURES) | {"count": 0}
    values = [100 * float(nme.mean())]
    values += [100 * failure_rate(nme, threshold) for threshold in THRESHOLDS]
    values += [auc(nme, threshold) for threshold in THRESHOLDS]
    return dict(zip(MEASURES, values, strict=True)) | {"count": nme.size}
