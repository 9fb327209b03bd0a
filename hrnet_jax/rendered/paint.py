"""Painting a synthetic face: skin and its shading, eyes, brows, nose, mouth, ears.

All positions are continuous image pixels. OpenCV draws in index coordinates, where the centre of
pixel k is k, so `Layer` moves every position by half a pixel. Colours are RGB.
"""

import functools

import cv2
import numpy as np

from hrnet_jax.rendered import shape as shape

_SHIFT = 5  # fractional bits of OpenCV's fixed-point positions
_TURN = np.linspace(0, 2 * np.pi, 20, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)


class Layer:
    """An array to draw on: a window of the image, with more or fewer pixels than it.

    Attributes:
      pixels: (H, W) or (H, W, 3) array.
      scale: pixels of this layer per image pixel.
      origin: (2,), the window's corner, image pixels.
    """

    def __init__(self, pixels, scale, origin=(0.0, 0.0)):
        self.pixels, self.scale = pixels, scale
        self.origin = np.asarray(origin, float)
        self._zoom = scale * (1 << _SHIFT)
        self._offset = (self.origin * scale + 0.5) * (1 << _SHIFT)

    def _fixed(self, points):
        return np.rint(points * self._zoom - self._offset).astype(np.int32)

    def window(self, points, step=1):
        """The part of this layer around points (N, 2), cut at multiples of `step` pixels."""
        index = (points - self.origin) * (self.scale / step)
        x0, y0 = np.maximum(np.floor(index.min(axis=0) - 1).astype(int), 0) * step
        x1, y1 = np.maximum(np.ceil(index.max(axis=0) + 1).astype(int), 0) * step
        origin = self.origin + np.array([x0, y0]) / self.scale
        return Layer(self.pixels[y0:y1, x0:x1], self.scale, origin)

    def paste(self, texture, polygons):
        """Copies a coarser texture of this layer's extent inside the polygons' union."""
        height, width = self.pixels.shape[:2]
        mask = Layer(np.zeros((height, width), np.uint8), self.scale, self.origin)
        for polygon in polygons:
            mask.fill(polygon, 255)
        if texture.shape[:2] != (height, width):
            texture = cv2.resize(texture, (width, height))
        cv2.copyTo(texture, mask.pixels, self.pixels)

    def fill(self, points, colour):
        """Fills the polygon (N, 2)."""
        cv2.fillPoly(self.pixels, [self._fixed(points)], colour, cv2.LINE_8, _SHIFT)

    def smooth_fill(self, points, colour):
        """Fills the polygon (N, 2) with anti-aliased edges; for uint8 layers."""
        cv2.fillPoly(self.pixels, [self._fixed(points)], colour, cv2.LINE_AA, _SHIFT)

    def stroke(self, points, colour, width, closed=False, smooth=True):
        """Draws a line of `width` image pixels through (N, 2), or one through each of (K, N, 2).

        `smooth` anti-aliases; it costs time and needs a uint8 layer.
        """
        lines = self._fixed(points)
        lines = [lines] if lines.ndim == 2 else list(lines)
        width = max(1, round(width * self.scale))
        kind = cv2.LINE_AA if smooth and self.pixels.dtype == np.uint8 else cv2.LINE_8
        cv2.polylines(self.pixels, lines, closed, colour, width, kind, _SHIFT)

    def disc(self, centre, radius, colour):
        """Fills an ellipse: centre (2,), radius a number or (2,)."""
        self.smooth_fill(centre + _CIRCLE * radius, colour)


@functools.lru_cache
def _spline_matrix(count, closed, steps):
    """The Catmull-Rom spline through `count` points, as a matrix; a row per point of the curve."""
    t = np.arange(steps)[:, None] / steps
    weights = 0.5 * np.hstack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    )
    identity = np.eye(count)
    if closed:
        padded = np.concatenate([identity[-1:], identity, identity[:2]])
        segments = count
    else:
        before, after = 2 * identity[0] - identity[1], 2 * identity[-1] - identity[-2]
        padded = np.concatenate([before[None], identity, after[None]])
        segments = count - 1
    rows = [weights @ padded[i : i + 4] for i in range(segments)]
    return np.concatenate(rows if closed else [*rows, identity[-1:]])


def spline(points, closed=False, steps=5) -> np.ndarray:
    """A smooth curve that passes exactly through every point: (…, N, 2) -> (…, M, 2)."""
    return _spline_matrix(points.shape[-2], closed, steps) @ points


def ring(upper, lower) -> np.ndarray:
    """The closed curve between two curves that share their end points."""
    return np.concatenate([spline(upper), spline(lower)[-2:0:-1]])


def ramp(colour, shadow=(0.36, 0.25, 0.22), light=0.55) -> np.ndarray:
    """(256, 3) uint8: shadow … colour (at 170) … highlight of a surface, by its brightness."""
    colour = np.asarray(colour, float)
    stops = [colour * shadow, colour, colour + (255 - colour) * light]
    levels = np.arange(256)
    channels = [np.interp(levels, [0, 170, 255], [s[c] for s in stops]) for c in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def surface_light(camera, centre, radii, light, origin, extent) -> np.ndarray:
    """Brightness of a lit ellipsoid of the head frame in a window of the image.

    Args:
      origin, extent: the window's corner and size (x, y), image pixels.

    Returns:
      (32, 32) float32, about 60 … 215.
    """
    grid = (np.arange(32) + 0.5) / 32
    axes = (grid[:, None] * extent + origin - camera(centre)) / camera.unit
    x, y = axes[None, :, :1], axes[:, None, 1:]
    inverse = camera.rotation.T / np.asarray(radii)[:, None]  # camera offset -> unit sphere
    flat = x * inverse[:, 0] + y * inverse[:, 1]
    depth = inverse[:, 2]
    along = flat @ depth
    outside = along**2 - (depth @ depth) * ((flat**2).sum(axis=-1) - 1)
    z = (-along + np.sqrt(np.maximum(outside, 0))) / (depth @ depth)
    on_sphere = flat + z[..., None] * depth
    normal = on_sphere @ inverse
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    lambert = 0.5 + 0.5 * (normal @ light)
    facing = np.clip(normal[..., 2], 0, 1)
    level = (70 + 130 * lambert) * (0.80 + 0.20 * np.sqrt(facing))
    return level.astype(np.float32)


def _blurred(layer, sigma):
    return cv2.GaussianBlur(layer.pixels, (0, 0), max(sigma * layer.scale, 0.6))


def skin_light(face, base, window) -> np.ndarray:
    """Brightness of the face's skin with the forms of the features.

    Args:
      base: brightness of the bare ellipsoid in the window, any resolution.
      window: layer that gives the window, (H, W).

    Returns:
      (H, W) float32.
    """
    rows_cols = window.pixels.shape[:2]
    broad, fine = (
        Layer(np.zeros(rows_cols, np.float32), window.scale, window.origin) for _ in "12"
    )
    p, u, at = face.points, face.unit, face.camera
    light = face.light

    for points in (p[36:42], p[42:48]):
        broad.disc(points.mean(axis=0) - face.down * 0.03 * u, (0.17 * u, 0.12 * u), -30)
    for x in (-0.42, 0.42):
        broad.disc(at((x, 0.30, 0.0)), 0.15 * u, 18)
        broad.fill(at([(x * 1.6, 0.35, -0.5), (x, 0.55, -0.02), (x * 1.25, 0.85, -0.2)]), -20)
    broad.disc(at((0, -0.45, 0.16)), (0.25 * u, 0.12 * u), 16)
    broad.stroke(spline(face.hairline), -34, 0.10 * u)
    chin = (p[57] + p[8]) / 2
    broad.disc(chin - face.down * 0.05 * u, (0.16 * u, 0.05 * u), -34)
    broad.disc(chin + face.down * 0.09 * u, (0.10 * u, 0.06 * u), 18)
    broad.stroke(spline(face.contour[3:14]), -30, 0.06 * u)

    nose = face.head.points
    for wing, brow, sign in ((31, 39, -1), (35, 42, 1)):
        foot = nose[wing] + [sign * 0.03, -0.05, -0.02]
        side_plane = at([nose[27], nose[29], nose[30] + [sign * 0.05, 0.02, 0], foot])
        root = at((nose[27] + nose[brow]) / 2)
        across = face.camera.rotation @ [sign * 0.8, 0.1, 0.6]
        front = face.camera.rotation @ [0, -0.25, 0.97]
        fine.fill(
            np.vstack([side_plane, root]), float(np.clip(75 * (across - front) @ light, -48, 4))
        )
    fine.stroke(at(nose[27:30] + [0, 0, 0.02]), 16, 0.05 * u)
    fine.disc(at(nose[30] + [0, -0.02, 0.03]), 0.055 * u, 30)
    fine.fill(at(nose[[31, 30, 35, 34, 33, 32]] + [0, 0.012, 0]), -38)
    for wing, corner, sign in ((31, 48, -1), (35, 54, 1)):
        start, end = nose[wing], nose[corner]
        fold = np.array([start + [sign * 0.06, -0.03, -0.05], (start + end) / 2, end])
        fold[1:, 0] += sign * np.array([0.10, 0.07])
        fine.stroke(spline(at(fold)), -face.fold, 0.022 * u)
        fine.disc(at(foot_of_wing(nose[wing], sign)), 0.04 * u, 10)
    fine.stroke((p[33] + (p[51] - p[33]) * np.array([[0.2], [0.9]])), -13, 0.05 * u)
    level = cv2.resize(base, rows_cols[::-1], interpolation=cv2.INTER_CUBIC)
    level += _blurred(broad, 0.075 * u)
    level += _blurred(fine, 0.022 * u)
    return level


def foot_of_wing(point, sign):
    """The fullest place of the nose's wing beside landmark 31 or 35, head frame."""
    return point + [sign * 0.025, -0.045, 0.0]


def paint_eye(layer, face, outer, inner, tops, bottoms):
    """Draws one eye: white, iris, lids and lashes; the landmarks lie on the edge of the white."""
    p, u, style = face.points, face.unit, face.style
    upper, lower = spline(p[[outer, *tops, inner]]), spline(p[[outer, *bottoms, inner]])
    opening = np.concatenate([upper, lower[-2:0:-1]])
    skin_dark, deep = style.skin_line, style.lash
    window = layer.window(opening)
    if window.pixels.size:  # the iris is cut to the opening of the lids
        ball = Layer(np.empty_like(window.pixels), layer.scale, window.origin)
        ball.pixels[:] = style.eye_white
        ball.stroke(upper + face.down * 0.012 * u, style.eye_shade, 0.034 * u)
        centre = (p[[outer, inner]].mean(axis=0) + p[[*tops, *bottoms]].mean(axis=0)) / 2
        centre = centre + face.gaze * u
        narrow = np.array([max(np.cos(face.camera.yaw), 0.75), 1.0])
        radius = 0.068 * u * narrow
        ball.disc(centre, radius, style.iris_edge)
        ball.disc(centre, radius * 0.84, style.iris)
        ball.disc(centre + face.down * 0.020 * u, radius * 0.58, style.iris_light)
        ball.disc(centre, radius * 0.46, (18, 14, 14))
        glint = np.array([np.sign(face.light[0]) * 0.022, -0.024]) * u
        ball.disc(centre + glint, 0.016 * u, (255, 255, 255))
        window.paste(ball.pixels, [opening])
    layer.stroke(lower, skin_dark, 0.010 * u)
    height = np.linalg.norm(upper[len(upper) // 2] - lower[len(lower) // 2])
    # The fold above the lid follows the lid and fades into it at the corners.
    arc = np.sin(np.linspace(0.25, np.pi - 0.25, len(upper)))[:, None]
    fold = upper - face.down * (0.030 * u + 0.20 * height) * arc
    layer.stroke(fold[1:-1], skin_dark, 0.012 * u)
    layer.stroke(upper, deep, (0.020 + 0.008 * style.lashes) * u)
    if style.lashes:
        out = p[outer] - p[inner]
        wing = np.stack([upper[2], p[outer], p[outer] + out * 0.10 - face.down * 0.03 * u])
        layer.stroke(wing, deep, 0.016 * u)


def paint_brow(layer, face, points, rng):
    """Draws a brow whose middle line runs through its five landmarks, from its outer end on."""
    u, style = face.unit, face.style
    middle = spline(points, steps=4)
    along = np.gradient(middle, axis=0)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-9
    thick = np.interp(np.linspace(0, 1, len(middle)), [0, 0.35, 0.85, 1], [0.15, 0.75, 1.0, 0.55])
    across *= (thick * style.brow_width * u)[:, None]
    layer.smooth_fill(np.concatenate([middle + across, (middle - across)[::-1]]), style.brow)
    start = rng.uniform(0.1, 0.95, 9) * (len(middle) - 1)
    index = start.astype(int)
    lift = rng.uniform(-0.6, 0.6, (9, 1))
    root = middle[index] + across[index] * lift
    hairs = np.stack([root, root - along[index] * 0.9 - across[index] * 0.25], axis=1)
    layer.stroke(hairs, style.brow_dark, 0.006 * u)


def paint_nose(layer, face):
    """Draws nostrils, wings and the far edge of the bridge; its form is in the skin's shading."""
    p, u, at, nose = face.points, face.unit, face.camera, face.head.points
    line = face.style.skin_line
    open_ = 1 + 1.6 * np.clip(-face.camera.pitch, -0.2, 0.4)
    for wing, mid, sign in ((31, 32, -1), (35, 34, 1)):
        edge = at(
            nose[wing] + [[sign * 0.01, -0.12, -0.02], [sign * 0.042, -0.06, -0.03], [0, 0, 0]]
        )
        layer.stroke(spline(np.vstack([edge, p[mid]])), line, 0.010 * u)
        middle = p[wing] * 0.38 + p[mid] * 0.62 - face.down * 0.018 * u
        along = (p[mid] - p[wing]) * 0.36
        hole = middle + _CIRCLE[:, :1] * along + _CIRCLE[:, 1:] * face.down * 0.015 * u * open_
        layer.smooth_fill(hole, face.style.nostril)
    layer.stroke(spline(p[[32, 33, 34]]), line, 0.010 * u)
    if abs(face.camera.yaw) > 0.3:
        far = np.sign(face.camera.yaw) * 0.035
        bridge = at(
            nose[27:31] + [[far, 0, -0.01], [far, 0, -0.01], [far, 0, 0], [far * 1.6, 0.02, 0]]
        )
        soft = tuple(float(c) for c in face.style.skin_ramp[108])
        layer.stroke(spline(bridge)[3:-2], soft, 0.010 * u)


def paint_mouth(layer, face):
    """Draws lips, teeth and tongue; every lip landmark lies on an edge of the lips."""
    p, u, style = face.points, face.unit, face.style
    top, bottom = p[shape.UPPER_INNER], p[shape.LOWER_INNER]
    gap = np.linalg.norm(top[2] - bottom[2])
    ends = p[[48]], p[[54]]
    layer.smooth_fill(ring(p[shape.UPPER_OUTER], p[shape.LOWER_OUTER]), style.lip)
    seam = np.concatenate([ends[0], top, ends[1]])
    layer.smooth_fill(ring(p[shape.UPPER_OUTER], seam), style.lip_dark)
    shine = p[[58, 57, 56]] * 0.55 + bottom[1:4] * 0.45
    layer.stroke(spline(shine), style.lip_light, 0.022 * u)
    if gap > 0.012 * u:
        layer.smooth_fill(ring(top, bottom), (58, 20, 24))
        reach = min(1.0, 0.085 * u / gap) * 0.8
        teeth = top + (bottom - top) * reach
        layer.smooth_fill(ring(top, teeth), (240, 234, 222))
        if gap > 0.13 * u:
            tongue = top + (bottom - top) * np.array([1, 0.80, 0.66, 0.80, 1])[:, None]
            layer.smooth_fill(ring(tongue, bottom), (186, 84, 88))
    else:
        layer.stroke(spline(seam), style.lip_line, 0.012 * u)
    for end, inner in ((48, 60), (54, 64)):
        layer.stroke(p[[end, inner]], style.lip_line, 0.010 * u)


def ear_outline(side, grow=1.0) -> np.ndarray:
    """(N, 3): one ear in the head frame; side -1 or 1."""
    back, up = np.cos(_TURN) * grow, np.sin(_TURN) * grow
    taper = 1 - 0.22 * up
    y = 0.13 + 0.21 * up
    z = -0.79 - 0.11 * back * taper - 0.03 * up * -1
    x = 0.765 + 0.075 * back * taper - 0.015 * up
    return np.stack([side * x, y, z], axis=1)
