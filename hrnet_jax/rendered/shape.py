"""The 3-D shape behind a synthetic face: identity, expression, head pose, silhouette.

Head frame: x to the image's right on a frontal face, y down, z towards the viewer; the unit is
about 10 cm (the outer eye corners are 0.9 apart). Image frame: continuous pixels, pixel k covers
[k, k + 1). The proportions are those of an adult face, set by hand.
"""

import dataclasses
import functools

import numpy as np

from hrnet_jax.schemes import W300

JAW, BROWS, EYES, MOUTH = slice(0, 17), slice(17, 27), slice(36, 48), slice(48, 68)
NOSE_BASE, NOSE = slice(31, 36), slice(27, 36)
UPPER_OUTER, LOWER_OUTER = [48, 49, 50, 51, 52, 53, 54], [48, 59, 58, 57, 56, 55, 54]
UPPER_INNER, LOWER_INNER = [60, 61, 62, 63, 64], [60, 67, 66, 65, 64]

# The points of the image-left half and of the midline; the others are their mirror images.
_HALF = {
    0: (-0.72, -0.02, -0.70),
    1: (-0.715, 0.18, -0.66),
    2: (-0.69, 0.38, -0.60),
    3: (-0.645, 0.57, -0.50),
    4: (-0.55, 0.745, -0.36),
    5: (-0.435, 0.90, -0.20),
    6: (-0.295, 1.01, -0.06),
    7: (-0.15, 1.085, 0.04),
    8: (0, 1.11, 0.07),
    17: (-0.59, -0.20, -0.20),
    18: (-0.50, -0.275, -0.07),
    19: (-0.38, -0.305, 0.04),
    20: (-0.25, -0.285, 0.10),
    21: (-0.135, -0.245, 0.13),
    27: (0, -0.03, 0.12),
    28: (0, 0.12, 0.20),
    29: (0, 0.26, 0.29),
    30: (0, 0.39, 0.36),
    31: (-0.135, 0.485, 0.14),
    32: (-0.07, 0.515, 0.20),
    33: (0, 0.535, 0.23),
    36: (-0.445, 0.0, -0.10),
    37: (-0.365, -0.068, -0.02),
    38: (-0.255, -0.070, 0.02),
    39: (-0.175, 0.018, 0.00),
    40: (-0.26, 0.052, 0.01),
    41: (-0.36, 0.054, -0.03),
    48: (-0.265, 0.745, 0.03),
    49: (-0.165, 0.695, 0.105),
    50: (-0.058, 0.666, 0.155),
    51: (0, 0.680, 0.16),
    57: (0, 0.842, 0.145),
    58: (-0.085, 0.834, 0.135),
    59: (-0.18, 0.798, 0.09),
    60: (-0.235, 0.746, 0.04),
    61: (-0.09, 0.740, 0.12),
    62: (0, 0.745, 0.135),
    66: (0, 0.747, 0.135),
    67: (-0.09, 0.744, 0.12),
}
# How far the face reaches at the height of jaw points 0 … 8, and how boxy that section is.
_SECTION_FRONT = np.array([0.03, 0.05, 0.06, 0.07, 0.09, 0.09, 0.09, 0.08, 0.07])
_SECTION_POWER = np.array([2.8, 2.7, 2.5, 2.4, 2.3, 2.2, 2.0, 2.0, 2.0])
_SKULL_CENTRE, _SKULL_RADII = np.array([0.0, -0.28, -0.72]), np.array([0.74, 0.82, 0.90])
# (x, y) on the skull from the temple above jaw point 0 to the middle of the hairline.
_HAIRLINE = np.array(
    [(-0.72, -0.12), (-0.67, -0.27), (-0.61, -0.43), (-0.46, -0.60), (-0.24, -0.68)]
)
# The sections of jaw points 0 … 16 as superellipses: (17, 24) factors from the jaw to the front.
_BOTH_SIDES = [0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 5, 4, 3, 2, 1, 0]
_ANGLES = np.linspace(0, np.pi / 2, 24)
_FORWARD = np.sin(_ANGLES) ** (2 / _SECTION_POWER[_BOTH_SIDES, None])
_SIDEWAYS = np.cos(_ANGLES) ** (2 / _SECTION_POWER[_BOTH_SIDES, None])
_TO_MIDDLE = np.linspace(1, 0, 24)
_FRONT = _SECTION_FRONT[_BOTH_SIDES, None]


def _mean_points():
    points = np.zeros((W300.num_landmarks, 3))
    mirror = W300.flip_permutation
    for index, position in _HALF.items():
        points[mirror[index]] = np.array(position) * (-1, 1, 1)
        points[index] = position
    return points


_MEAN = _mean_points()
_SIDE = np.sign(_MEAN[:, :1])


@dataclasses.dataclass(frozen=True)
class Head:
    """One person with one expression, in the head frame.

    Attributes:
      points: (68, 3) float64.
      skull_centre, skull_radii: (3,) float64, the ellipsoid under the hair.
      hairline: how far the hairline lies above the average.
    """

    points: np.ndarray
    skull_centre: np.ndarray
    skull_radii: np.ndarray
    hairline: float


@dataclasses.dataclass(frozen=True)
class Camera:
    """Head pose and a camera at a finite distance.

    Attributes:
      yaw, pitch, roll: radians; positive turns the nose to the image's right, down, and the head
        clockwise.
      distance: of the camera, head units.
      unit: image pixels per head unit.
      centre: (2,), where the head's pivot falls, image pixels.
    """

    yaw: float
    pitch: float
    roll: float
    distance: float = 9.0
    unit: float = 1.0
    centre: tuple[float, float] = (0.0, 0.0)

    @functools.cached_property
    def rotation(self) -> np.ndarray:
        """(3, 3) float64: roll after pitch after yaw."""
        cos, sin = np.cos, np.sin
        y, p, r = self.yaw, self.pitch, self.roll
        about_y = np.array([[cos(y), 0, sin(y)], [0, 1, 0], [-sin(y), 0, cos(y)]])
        about_x = np.array([[1, 0, 0], [0, cos(p), sin(p)], [0, -sin(p), cos(p)]])
        about_z = np.array([[cos(r), -sin(r), 0], [sin(r), cos(r), 0], [0, 0, 1]])
        return about_z @ about_x @ about_y

    @functools.cached_property
    def _turned_pivot(self):
        return self.rotation @ PIVOT

    def __call__(self, points) -> np.ndarray:
        """Head frame (…, 3) -> image pixels (…, 2)."""
        turned = np.asarray(points) @ self.rotation.T - self._turned_pivot
        zoom = self.unit * self.distance / (self.distance - turned[..., 2:])
        return turned[..., :2] * zoom + self.centre


PIVOT = np.array([0.0, 0.35, -0.45])


def _vary(rng, count):
    """`count` normal deviates without tails."""
    return np.clip(rng.normal(size=count), -2.2, 2.2)


def sample_head(rng: np.random.Generator) -> Head:
    """Draws a person and an expression."""
    points = _MEAN.copy()
    width, square, length, spacing, size, round_, tilt, brow, arch, nose, wings, tip = _vary(
        rng, 12
    )
    mouth, wide, upper, lower, high, skull = _vary(rng, 6)

    jaw = points[JAW]
    down = np.clip(jaw[:, 1:2] / 1.11, 0, 1)
    jaw[:, :1] *= (1 + 0.04 * width) * (1 + 0.07 * square * 4 * down * (1 - down * 0.75))
    jaw[:, 1:2] += 0.05 * length * down

    for eye in (points[36:42], points[42:48]):
        side = np.sign(eye[0, 0])
        middle = (eye[[0, 3]]).mean(axis=0)
        offset = eye - middle
        offset *= [1 + 0.07 * size, 1 + 0.07 * size + 0.09 * round_, 1]
        offset[:, 1] -= side * offset[:, 0] * 0.07 * tilt
        eye[:] = middle + offset + [side * 0.016 * spacing, 0, 0]

    brows = points[BROWS]
    bow = np.tile(1 - (np.arange(5) / 2 - 1) ** 2, 2)
    brows[:, 1] += -0.018 * brow - 0.016 * arch * bow - 0.01 * size

    points[NOSE, 1] += 0.035 * nose * np.clip(points[NOSE, 1] / 0.53, 0, 1)
    points[NOSE_BASE, 0] *= 1 + 0.11 * wings
    points[28:31, 2] += 0.03 * tip * np.array([0.5, 0.8, 1.0])

    lips = points[MOUTH]
    lips[:, 0] *= 1 + 0.07 * wide
    above = lips[:, 1] < 0.7455
    thick = np.where(above, 1 + 0.22 * upper, 1 + 0.22 * lower)
    lips[:, 1] = 0.746 + (lips[:, 1] - 0.746) * thick + 0.018 * mouth + 0.022 * nose + 0.02 * length

    _express(points, rng)
    points[BROWS] += np.repeat(rng.normal(0, 0.007, (2, 3)), 5, axis=0)
    points[EYES] += np.repeat(rng.normal(0, 0.004, (2, 3)), 6, axis=0)
    points[MOUTH] += rng.normal(0, 0.006, 3)
    radii = _SKULL_RADII * [1 + 0.04 * width, 1 + 0.03 * skull, 1]
    return Head(points, _SKULL_CENTRE, radii, 0.035 * high)


def _express(points, rng):
    """Moves the points to a random expression, in place."""
    mood = rng.random()
    opening = rng.uniform(0.25, 1.0) if mood > 0.7 else max(0.0, rng.normal(0.0, 0.12))
    smile = np.clip(rng.normal(0.6, 0.45), -0.4, 1.4)
    lids = 0.03 if rng.random() < 0.04 else np.clip(rng.normal(1.0, 0.17) - 0.1 * smile, 0.4, 1.4)
    raised = np.clip(rng.normal(0, 0.7) + 0.5 * (opening > 0.5), -1.2, 1.8)

    lips = points[MOUTH]
    corner = (np.abs(lips[:, 0]) / np.abs(lips[:, 0]).max()) ** 2
    lips[:, 0] *= 1 + 0.15 * smile - 0.12 * opening
    lips[:, 1] -= 0.06 * smile * corner - 0.012 * smile
    lips[:, 2] -= 0.03 * max(smile, 0) * corner
    bottom = np.zeros(20)
    bottom[[7, 8, 9, 10, 11, 17, 18, 19]] = 1.0
    gap = 0.24 * opening * (1 - corner) ** 0.6
    lips[:, 1] += gap * bottom - 0.12 * gap * (1 - bottom) + 0.11 * opening * corner
    lips[:, 2] -= 0.12 * gap * bottom
    jaw = points[JAW]
    jaw[:, 1] += 0.19 * opening * np.clip((jaw[:, 1] - 0.3) / 0.8, 0, 1.1)

    for outer, inner, tops, bottoms in ((36, 39, (37, 38), (41, 40)), (45, 42, (44, 43), (46, 47))):
        for top, low in zip(tops, bottoms, strict=True):
            closed = 0.75 * points[low] + 0.25 * (points[outer] + points[inner]) / 2 + [0, 0.012, 0]
            points[top] = closed + lids * (points[top] - closed)
            points[low, 1] += 0.6 * (1 - min(lids, 1)) * (closed[1] - points[low, 1])
            points[low, 1] -= 0.012 * max(smile, 0) * min(lids, 1)
    points[BROWS, 1] -= 0.035 * raised
    points[[20, 21, 22, 23], 1] -= 0.012 * rng.normal()


def _slide(sections, camera):
    """The point of every section (…, T, 3) that stands out furthest sideways when the head turns.

    300W annotates the far side of a turned face on the visible silhouette, the near side in front
    of the ear: there the first point of a section stands out furthest already.
    """
    side = np.sign(sections[..., 0, 0])[..., None]
    across = sections[..., 0] * np.cos(camera.yaw) + sections[..., 2] * np.sin(camera.yaw)
    best = np.argmax(side * across, axis=-1)
    return np.take_along_axis(sections, best[..., None, None], axis=-2)[..., 0, :]


def face_outline(head: Head, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """The outline of the face's skin as the camera sees it, in the head frame.

    Returns:
      contour: (17, 3) float64, landmarks 0 … 16 slid to the silhouette.
      hairline: (11, 3) float64, from above landmark 16 over the forehead to above landmark 0.
    """
    jaw = head.points[JAW]
    across = jaw[:, :1] * _SIDEWAYS
    depth = jaw[:, 2:] + (_FRONT - jaw[:, 2:]) * _FORWARD
    contour = _slide(np.stack([across, across * 0 + jaw[:, 1:2], depth], axis=-1), camera)
    contour[8] = jaw[8]

    centre, radii = head.skull_centre, head.skull_radii
    left = _HAIRLINE * [radii[0] / _SKULL_RADII[0], 1]
    left[:, 1] -= head.hairline * np.linspace(0, 1, len(left))
    right = left[:, :] * [-1, 1]
    edge = np.concatenate([right, [[0.0, -0.70 - head.hairline]], left[::-1]])
    across = edge[:, :1] * _TO_MIDDLE
    radius = 1 - ((edge[:, 1:2] - centre[1]) / radii[1]) ** 2
    depth = centre[2] + radii[2] * np.sqrt(np.clip(radius - (across / radii[0]) ** 2, 0, None))
    hairline = _slide(np.stack([across, across * 0 + edge[:, 1:2], depth], axis=-1), camera)
    return contour, hairline


def ellipsoid_outline(centre, radii, camera: Camera, angles) -> np.ndarray:
    """The silhouette of a head-frame ellipsoid, image pixels (len(angles), 2), clockwise from +x.

    The perspective inside the ellipsoid is left out: its centre sets the zoom.
    """
    turned = camera.rotation * np.asarray(radii)
    # The shadow of the ellipsoid is an ellipse; angle 0 … 2 pi runs right, down, left, up.
    spread = np.linalg.eigh((turned @ turned.T)[:2, :2])
    root = spread.eigenvectors * np.sqrt(spread.eigenvalues) @ spread.eigenvectors.T
    zoom = camera.unit * camera.distance
    zoom /= camera.distance - (camera.rotation @ (np.asarray(centre) - PIVOT))[2]
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return camera(centre) + zoom * circle @ root
