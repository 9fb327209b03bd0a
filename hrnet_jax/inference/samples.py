"""Training samples drawn: crops with their landmarks, and their target heatmaps."""

import cv2
import numpy as np

from hrnet_jax.data.pipeline import TrainBatches
from hrnet_jax.inference.drawing import draw_landmarks
from hrnet_jax.protocols import STRIDE, Protocol
from hrnet_jax.schemes import Scheme

_BAND = 24  # pixels of the line of text above a face
_GAP = 8
_NUMBERED = 30  # up to so many landmarks are numbered
_INK, _PAPER, _MIRRORED = (30, 30, 30), (255, 255, 255), (200, 40, 40)
# Points of the middle; of pairs the one on the image's left of an upright face, and the other.
_SIDES = np.array([(255, 255, 255), (90, 170, 255), (255, 150, 50)])


def draw_sample(
    batches: TrainBatches, scheme: Scheme, epoch: int, row: int, cell: int
) -> np.ndarray:
    """One augmented face: its crop with the landmarks, and the crop under its heatmaps.

    Args:
      batches: where the sample comes from.
      scheme: of its landmarks.
      epoch, row: which sample.
      cell: side of either picture, pixels.

    Returns:
      uint8 (cell + 24, 2 cell, 3), RGB, with a line of text about the sample on top.
    """
    sample, draw = batches.sample(epoch, row), batches.draw(epoch, row)
    protocol = batches.protocol
    zoom = cell / protocol.input_size
    how = cv2.INTER_NEAREST if zoom >= 2 else cv2.INTER_LINEAR if zoom >= 1 else cv2.INTER_AREA
    crop = cv2.resize(sample["image"], (cell, cell), interpolation=how)
    points = np.where(
        sample["weights"][:, None] > 0, protocol.to_crop(sample["points"]) * zoom, np.nan
    )
    marked = _number(_mark_sides(draw_landmarks(crop, points, scheme), points, scheme), points)
    heated = _overlay(crop, _heat(protocol, sample), protocol)
    text = f"{batches.records.names[row]}  x {draw.scale:.2f}  {draw.rotation:+.0f} deg"
    return np.concatenate([_caption(text, 2 * cell, draw.flip), np.hstack([marked, heated])])


def tile(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size in rows, with white between and around them."""
    columns = min(columns, len(pictures))
    height, width, _ = pictures[0].shape
    rows = -(-len(pictures) // columns)
    pitch = np.array([height + _GAP, width + _GAP])
    sheet = np.full((*(pitch * (rows, columns) + _GAP), 3), _PAPER, np.uint8)
    for index, picture in enumerate(pictures):
        y, x = pitch * divmod(index, columns) + _GAP
        sheet[y : y + height, x : x + width] = picture
    return sheet


def _heat(protocol: Protocol, sample) -> np.ndarray:
    """The sample's heatmaps' maximum over the landmarks, float32 (h, w)."""
    maps = protocol.codec.encode(
        sample["points"][None], sample["weights"][None], protocol.heatmap_size
    )
    maps = getattr(maps, "heatmaps", maps)  # HIH's has decimal ones too
    return np.asarray(maps, np.float32).reshape(*(protocol.heatmap_size,) * 2, -1).max(axis=-1)


def _overlay(crop, heat, protocol):
    """The crop, darkened, under the heatmap's cells, each drawn as the square it is."""
    zoom = STRIDE * crop.shape[0] / protocol.input_size
    # A cell's centre is at its index + 0.5; this is where that lies in the crop.
    origin = protocol.to_crop(np.zeros((1, 2)))[0]
    if protocol.whole_cells:
        origin = origin - STRIDE / 2
    shift = origin * crop.shape[0] / protocol.input_size
    back = np.array([[1 / zoom, 0, 0.0], [0, 1 / zoom, 0.0]])
    back[:, 2] = (0.5 - shift) / zoom - 0.5
    heat = cv2.warpAffine(
        heat, back, crop.shape[1::-1], flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    )
    levels = (255 * heat.clip(0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    share = 0.9 * heat.clip(0, 1)[..., None]
    return np.uint8(crop * 0.7 * (1 - share) + colours * share)


def _mark_sides(picture, points, scheme):
    """Dots in the colour of the side that each landmark belongs to."""
    side = np.zeros(scheme.num_landmarks, int)
    for left, right in scheme.flip_pairs:
        side[left], side[right] = 1, 2
    picture = picture.copy()
    radius = max(2, picture.shape[0] // 130)
    for index in np.flatnonzero(np.isfinite(points).all(axis=1)):
        # OpenCV's pixel k is at k, and it draws at 1/16 pixels.
        at = np.rint((points[index].clip(-1e4, 1e4) - 0.5) * 16).astype(int).tolist()
        colour = _SIDES[side[index]].tolist()
        cv2.circle(picture, at, 16 * radius, (0, 0, 0), cv2.FILLED, cv2.LINE_AA, 4)
        cv2.circle(picture, at, 16 * radius - 12, colour, cv2.FILLED, cv2.LINE_AA, 4)
    return picture


def _number(picture, points):
    """The landmarks' indices beside them, where they are few."""
    if len(points) <= _NUMBERED:
        for index in np.flatnonzero(np.isfinite(points).all(axis=1)):
            at = np.rint(points[index].clip(-1e4, 1e4) + 4).astype(int).tolist()
            for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
                font = cv2.FONT_HERSHEY_SIMPLEX
                cv2.putText(picture, str(index), at, font, 0.4, colour, width, cv2.LINE_AA)
    return picture


def _caption(text, width, mirrored):
    band = np.full((_BAND, width, 3), _PAPER, np.uint8)
    text = text.encode("ascii", "replace").decode()  # OpenCV's font has no other letters
    end, font = "mirrored" if mirrored else "", cv2.FONT_HERSHEY_SIMPLEX
    size = 0.5
    end_width = cv2.getTextSize(end, font, size, 1)[0][0] + 8
    text_width = cv2.getTextSize(text, font, size, 1)[0][0]
    while text_width > width - end_width - 8 and len(text) > 8:  # the name's end and the numbers
        text = "..." + text[max(4, len(text) // 8) :]
        text_width = cv2.getTextSize(text, font, size, 1)[0][0]
    cv2.putText(band, text, (2, 17), font, size, _INK, 1, cv2.LINE_AA)
    cv2.putText(band, end, (width - end_width, 17), font, size, _MIRRORED, 1, cv2.LINE_AA)
    return band
