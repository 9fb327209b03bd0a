"""Landmarks drawn on pictures."""

import cv2
import numpy as np

from hrnet_jax.schemes import Scheme

# By the first word of a scheme's line names. Light colours on a dark outline show on every skin.
_COLOURS = {
    "contour": (120, 205, 255),
    "brow": (255, 190, 70),
    "eye": (110, 245, 150),
    "nose": (255, 240, 130),
    "outer": (255, 105, 135),
    "inner": (255, 160, 180),
    "mouth": (255, 105, 135),
}
_OUTLINE = (12, 16, 24)
_SHADE_OPACITY = 0.6
_DOT = np.array((255, 255, 255))
_UNSURE = np.array((255, 60, 40))
_BOX = (245, 245, 245)
_UNSURE_BELOW = 0.4  # scores (heatmap maxima) from here down to 0 turn a dot from white to red

_SHIFT = 6  # OpenCV draws at 1/64 pixel
# The part of the image that is drawn on is enlarged so many times, as long as it stays below so
# many pixels a side: lines can then be a fraction of an image pixel wide.
_CANVAS = 1600
_ENLARGE = 8


def draw_landmarks(
    image: np.ndarray, landmarks, scheme: Scheme, scores=None, box=None, colour=None
) -> np.ndarray:
    """Draws one face's contours and points, sized to the face, on a copy of the image.

    Args:
      image: uint8 (H, W, 3), RGB.
      landmarks: (L, 2), continuous image pixels; may lie outside the image. Points that are not
        finite are left out, with the lines to them.
      scheme: its `lines` say which points to join.
      scores: (L,), optional; dots of low scores turn red.
      box: (4,), optional, finite x0, y0, x1, y1 in image pixels: its corners are marked.
      colour: (3,), optional, RGB of all lines and dots, to tell one face from another on it.

    Returns:
      uint8 (H, W, 3), RGB.
    """
    landmarks = np.asarray(landmarks, np.float64)
    finite = np.asarray(np.isfinite(landmarks).all(axis=1))
    if not finite.any():
        return image.copy()
    # What lies farther out than the image is wide is drawn from there: out of sight all the same,
    # and within OpenCV's integers.
    extent = np.array([image.shape[1], image.shape[0]])
    landmarks = np.clip(landmarks, -extent, 2 * extent)
    size = float(np.ptp(landmarks[finite], axis=0).max())
    line = min(0.6 + size / 170, 9)
    dot = np.clip(size / 110, 0.3, 13)
    marks, corners = landmarks[finite], None
    if box is not None:
        corners = np.clip(np.asarray(box, np.float64).reshape(2, 2), -extent, 2 * extent)
        marks = np.concatenate([marks, corners])
    canvas = _Canvas(image, marks, margin=2 * dot + 2 * line)
    if canvas.empty:  # all of the face lies outside the picture
        return image.copy()
    for part in scheme.lines:
        first_word = part.name.replace(",", " ").split()[0]
        stroke = colour or _COLOURS.get(first_word, _COLOURS["contour"])
        indices = part.points + part.points[:1] * part.closed
        for a, b in zip(indices, indices[1:], strict=False):
            if finite[a] and finite[b]:
                canvas.line(landmarks[[a, b]], line, stroke)
    if corners is not None:
        for bracket in _brackets(corners):
            canvas.line(bracket, line, _BOX)
    for index in np.flatnonzero(finite):
        if colour is not None:
            canvas.dot(landmarks[index], dot, colour)
            continue
        sure = 1.0 if scores is None else np.clip(scores[index] / _UNSURE_BELOW, 0, 1)
        canvas.dot(landmarks[index], dot, sure * _DOT + (1 - sure) * _UNSURE)
    return canvas.blend()


def contact_sheet(images, columns: int, cell: int = 256, gap: int = 6) -> np.ndarray:
    """Puts pictures in a grid, each shrunk or enlarged to fit its cell.

    Args:
      images: uint8 (H, W, 3) arrays, RGB, of any sizes; at least one.
      columns: cells in a row.
      cell: side of the square cells, pixels.
      gap: white space about them, pixels.

    Returns:
      uint8 (H, W, 3), RGB.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    pitch = cell + gap
    sheet = np.full((rows * pitch + gap, columns * pitch + gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        zoom = cell / max(image.shape[:2])
        size = max(1, round(image.shape[1] * zoom)), max(1, round(image.shape[0] * zoom))
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
        small = cv2.resize(image, size, interpolation=how)
        y = gap + index // columns * pitch + (cell - size[1]) // 2
        x = gap + index % columns * pitch + (cell - size[0]) // 2
        sheet[y : y + size[1], x : x + size[0]] = small
    return sheet


class _Canvas:
    """Lines and dots over a part of an image, drawn enlarged and averaged down.

    OpenCV's lines are whole pixels wide; on the enlarged canvas they are fractions of the image's.
    """

    def __init__(self, image, marks, margin):
        self._image = image
        limits = np.array([image.shape[1], image.shape[0]])
        low = np.clip(np.floor(marks.min(axis=0) - margin), 0, limits).astype(int)
        high = np.clip(np.ceil(marks.max(axis=0) + margin), 0, limits).astype(int)
        self._low, self._size = low, np.maximum(high - low, 0)
        self.empty = not self._size.all()
        self._zoom = int(np.clip(_CANVAS // max(*self._size, 1), 1, _ENLARGE))
        width, height = self._size * self._zoom
        self._shade = np.zeros((height, width), np.uint8)  # dark outline beneath everything
        self._ink = np.zeros((height, width, 3), np.uint8)
        self._cover = np.zeros((height, width), np.uint8)  # where there is ink

    def line(self, points, width, colour):
        """A line through points (N, 2), image pixels."""
        path = [np.stack([self._fixed(point) for point in points])]
        for layer, value, thickness in (
            (self._shade, 255, 1.6 * width + 0.6),
            (self._ink, colour, width),
            (self._cover, 255, width),
        ):
            thickness = max(1, round(thickness * self._zoom))
            cv2.polylines(layer, path, False, value, thickness, cv2.LINE_AA, _SHIFT)

    def dot(self, point, radius, colour):
        """A disc about a point, image pixels, with a dark rim if there is room for one."""
        centre = self._fixed(point).tolist()
        rim = radius + 0.35 * max(radius - 1, 0)
        for layer, value, extent in (
            (self._ink, _OUTLINE, rim),
            (self._cover, 255, rim),
            (self._ink, tuple(float(c) for c in colour), radius),
        ):
            extent = round(extent * self._zoom * 2**_SHIFT)
            cv2.circle(layer, centre, extent, value, cv2.FILLED, cv2.LINE_AA, _SHIFT)

    def blend(self):
        """The image with the drawing on it."""
        result = self._image.copy()
        if not self._size.all():
            return result
        x, y = self._low
        width, height = self._size
        window = result[y : y + height, x : x + width]
        shade, ink, cover = (
            cv2.resize(layer, (int(width), int(height)), interpolation=cv2.INTER_AREA)
            for layer in (self._shade, self._ink, self._cover)
        )
        drawn = (shade > 0) | (cover > 0)
        shade = shade[drawn, None] * np.float32(_SHADE_OPACITY / 255)
        below = window[drawn] * (1 - shade) + np.array(_OUTLINE, np.float32) * shade
        below *= 1 - cover[drawn, None] / np.float32(255)
        window[drawn] = np.clip(np.rint(below + ink[drawn]), 0, 255)
        return result

    def _fixed(self, point):
        # The centre of a pixel is k + 0.5 in this project and k in OpenCV.
        index = (np.asarray(point) - self._low) * self._zoom - 0.5
        return np.rint(index * 2**_SHIFT).astype(np.int32)


def _brackets(corners):
    """The four corners of a box ((x0, y0), (x1, y1)), as three points each."""
    (x0, y0), (x1, y1) = corners
    reach = 0.12 * min(x1 - x0, y1 - y0)
    for x, inward_x in ((x0, reach), (x1, -reach)):
        for y, inward_y in ((y0, reach), (y1, -reach)):
            yield np.array([[x + inward_x, y], [x, y], [x, y + inward_y]])
