"""Normalised mean error, failure rate and area under the error curve, as papers define them.

Pure functions on NumPy arrays. NME is a fraction everywhere but in `summarise`, whose numbers are
printed the way papers print them: NME and failure rate in percent, AUC in 0..1.

A landmark that is not annotated is NaN in the truth: it is left out of its face's mean. A face
without the landmarks that its errors are divided by has no length: its NME is NaN, and it is left
out of every figure.
"""

import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.schemes import Scheme

THRESHOLDS = (0.08, 0.10)
MEASURES = ("nme", "fr@0.08", "fr@0.10", "auc@0.08", "auc@0.10")
NORMALISERS = ("inter-ocular", "inter-pupil", "box", "diagonal")


def default_normaliser(scheme: Scheme) -> str:
    """What the data set's papers divide by: "box" for AFLW, else "inter-ocular"."""
    return "box" if scheme.normaliser is None else "inter-ocular"


def normaliser(
    points: np.ndarray,
    scheme: Scheme,
    box_sizes: np.ndarray | None = None,
    kind: str | None = None,
) -> np.ndarray:
    """The length that divides each face's errors.

    Args:
      points: annotated landmarks, (N, L, 2), image pixels; NaN where not annotated.
      scheme: tells which landmarks are eye corners and pupils.
      box_sizes: (N,), image pixels: the size that the data set itself gives (AFLW).
      kind: one of `NORMALISERS`; None for the scheme's own. `describe_normaliser` has the words.

    Returns:
      float64 (N,), image pixels; NaN where a landmark that it needs is not annotated. It can be
      zero where the annotation is degenerate: the caller, who knows the image names, reports that.
      HRNetError if the scheme or the data lack what the kind needs.
    """
    kind = kind or default_normaliser(scheme)
    points = np.asarray(points, np.float64)
    if kind == "box" and box_sizes is not None:
        return np.asarray(box_sizes, np.float64)
    if kind == "box" and scheme.normaliser is None:
        raise HRNetError(
            f"errors of the {scheme.name} scheme are divided by the box size: "
            "the annotation file needs its box_size column, between scale and center_w"
        )
    if kind in ("box", "diagonal"):
        sides = np.nanmax(points, axis=1) - np.nanmin(points, axis=1)
        return np.sqrt(sides.prod(axis=1)) if kind == "box" else np.linalg.norm(sides, axis=1)
    first, second = _eye_points(scheme, kind)
    ends = points[:, first].mean(axis=1), points[:, second].mean(axis=1)
    return np.linalg.norm(ends[0] - ends[1], axis=-1)


def describe_normaliser(scheme: Scheme, kind: str, has_box_sizes: bool) -> str:
    """The kind of `normaliser` in words, for results."""
    if kind == "box":
        return "box_size column" if has_box_sizes else "root of the area of the landmarks' box"
    if kind == "diagonal":
        return "diagonal of the landmarks' box"
    first, second = (", ".join(map(str, indices)) for indices in _eye_points(scheme, kind))
    if "," in first:
        return f"distance of the means of points {first} and of {second}"
    return f"distance of points {first} and {second}"


def _eye_points(scheme, kind):
    """For each eye the landmarks whose mean is its outer corner or pupil.

    Where no pupil is annotated (300W) it is the mean of all points of the eye, as usual there.
    """
    if kind == "inter-ocular" and scheme.normaliser is not None:
        return tuple([index] for index in scheme.normaliser)
    if kind == "inter-pupil" and scheme.five_points:
        eyes = [line.points for line in scheme.lines if line.name.startswith("eye")]
        pupils = scheme.five_points[:2]
        if all(len(pupil) == 1 for pupil in pupils):
            return tuple(map(list, pupils))
        if len(eyes) == 2:
            return tuple(map(list, eyes))
    raise HRNetError(
        f"the {scheme.name} scheme does not say which points an {kind} distance is between: "
        f"choose another of {', '.join(NORMALISERS)}"
    )


def point_errors(predicted: np.ndarray, truth: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Distance of every point to its annotation over its face's length: float64 (N, L).

    Points are (N, L, 2) and lengths (N,), in one frame and unit; NaN where the truth or the length
    is.
    """
    predicted, truth = np.asarray(predicted, np.float64), np.asarray(truth, np.float64)
    if predicted.shape != truth.shape:
        raise ValueError(f"predictions {predicted.shape} and truth {truth.shape} differ in shape")
    return np.linalg.norm(predicted - truth, axis=-1) / np.asarray(lengths, np.float64)[:, None]


def nme_per_image(predicted: np.ndarray, truth: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Mean of `point_errors` over a face's annotated points, hidden or not: float64 (N,)."""
    return known_mean(point_errors(predicted, truth, lengths), axis=1)


def known_mean(values: np.ndarray, axis: int | None = None):
    """The mean of the values that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis) / known.sum(axis)


def failure_rate(nme: np.ndarray, threshold: float) -> float:
    """Fraction of faces whose NME is strictly above the threshold (both fractions)."""
    return float(np.mean(np.asarray(nme) > threshold))


def ced(nme: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Cumulative error distribution: the fraction of faces with NME <= each threshold."""
    nme = np.sort(nme)
    return np.searchsorted(nme, thresholds, side="right") / nme.size


def auc(nme: np.ndarray, threshold: float) -> float:
    """Area under the empirical CED from 0 to the threshold, over the threshold: 0..1.

    The trapezoid rule over the steps of the CED, which is exact: a face of error e adds
    threshold - e, or nothing beyond the threshold. On a grid the rule converges to this value.
    """
    return float(np.mean(np.maximum(0.0, 1.0 - np.asarray(nme) / threshold)))


def auc_simpson(nme: np.ndarray, threshold: float, step: float = 1e-4) -> float:
    """The AUC that HIH prints: Simpson's rule on the CED at thresholds `step` apart.

    It is within about a step of `auc`; kept to compare with HIH's logs.
    """
    intervals = round(threshold / step)
    weights = np.where(np.arange(intervals + 1) % 2, 4.0, 2.0)
    weights[[0, -1]] = 1.0
    return float(weights @ ced(nme, np.linspace(0.0, threshold, intervals + 1)) / (3 * intervals))


AUC_RULES = {"trapezoid": auc, "simpson": auc_simpson}


def summarise(
    nme: np.ndarray, subsets: dict[str, np.ndarray] | None = None, auc_rule: str = "trapezoid"
) -> dict:
    """The fields of metrics.json that follow from the NME of every face.

    Args:
      nme: (N,), fraction, NaN for a face that cannot be measured. HRNetError if none can.
      subsets: named boolean masks (N,); without a face in it, a subset's values are None.
      auc_rule: a key of `AUC_RULES`.

    Returns:
      {"nme", "fr@0.08", "fr@0.10", "auc@0.08", "auc@0.10", "count", "subsets": {name: the same
      without "subsets"}}: NME and failure rates in percent, AUC in 0..1.
    """
    nme = np.asarray(nme, np.float64)
    if not nme.size:
        raise HRNetError("there are no faces to evaluate")
    if np.isnan(nme).all():
        raise HRNetError("no face has the landmarks annotated that its errors are divided by")
    parts = {name: _values(nme[mask], auc_rule) for name, mask in (subsets or {}).items()}
    return _values(nme, auc_rule) | {"subsets": parts}


def _values(nme, auc_rule):
    nme = nme[~np.isnan(nme)]
    if not nme.size:
        return dict.fromkeys(MEASURES) | {"count": 0}
    values = [100 * float(nme.mean())]
    values += [100 * failure_rate(nme, threshold) for threshold in THRESHOLDS]
    values += [AUC_RULES[auc_rule](nme, threshold) for threshold in THRESHOLDS]
    return dict(zip(MEASURES, values, strict=True)) | {"count": nme.size}
