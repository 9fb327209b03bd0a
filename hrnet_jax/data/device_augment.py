"""`Augmentation` in jax.numpy: one face from its loose crop to a training sample, jittable.

The counterpart of `Protocol.sample` and `hrnet_jax.images.augment.Augmentation`, with the same
distributions but draws of its own: JAX's generators are not NumPy's. A face is given by its box:
offsets from the box's centre in sides of the padded box, so that no image size is needed to flip.
"""

import functools
from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jax.scipy.special import ndtri

from hrnet_jax.images.augment import Augmentation, Draw

_NUMBERS = 7 + 16  # of `draw_geometry` and `draw_pixels`
_EXACT = jax.lax.Precision.HIGHEST  # else TPUs and some GPUs round the factors of a product


class PixelDraw(NamedTuple):
    """One draw of what happens to a crop's pixels; None where the augmentation has it off.

    Attributes:
      contrast: factor on the distances from the mean grey value.
      brightness: added to every pixel, grey values of 0 … 255.
      colour: (3,), factor on each channel.
      grey: bool, take the colour away.
      blur: sigma of the Gaussian, crop pixels; 0 for none.
      rectangle: (4,), whole x0, y0, x1, y1: the crop pixels that are hidden; all 0 for none.
      paint: (3,), whole grey values of the rectangle's colour.
    """

    contrast: jax.Array | None
    brightness: jax.Array | None
    colour: jax.Array | None
    grey: jax.Array | None
    blur: jax.Array | None
    rectangle: jax.Array | None
    paint: jax.Array | None


def draw_sample(augmentation: Augmentation, key, size: int) -> tuple[Draw, PixelDraw]:
    """One draw of everything, for a crop of `size` pixels."""
    # All numbers at once: a generator for each would take longer to compile and to run.
    numbers = iter(jax.random.uniform(key, (_NUMBERS,), jnp.float32))
    geometry = draw_geometry(augmentation, numbers)
    return geometry, draw_pixels(augmentation, numbers, size)


def _between(number, low, high):
    return low + (high - low) * number


def _spread(distribution, number, center, width, limit):
    """`augment.DISTRIBUTIONS` from a uniform number, by the inverse of what they sum to."""
    if distribution == "uniform":
        return _between(number, center - width, center + width)
    if distribution == "clipped_normal":
        return center + width * jnp.clip(ndtri(number), -limit, limit)
    return center + width * ndtri(_between(number, *(NormalDist().cdf(end) for end in (-1, 1))))


def draw_geometry(augmentation: Augmentation, numbers: Iterator) -> Draw:
    """What `Augmentation.draw` draws, as float32 scalars (translation: (2,), flip: bool).

    Takes 7 uniform numbers of [0, 1).
    """
    a, u = augmentation, numbers
    rotation = _spread(a.distribution, next(u), 0.0, a.rotation, limit=2)
    shift = jnp.stack([_between(next(u), -a.translation, a.translation) for _ in "xy"])
    return Draw(
        scale=_spread(a.distribution, next(u), 1.0, a.scale, limit=1),
        rotation=jnp.where(next(u) < a.rotation_probability, rotation, 0.0),
        flip=next(u) < a.flip_probability,
        translation=jnp.where(next(u) < a.translation_probability, shift, 0.0),
    )


def draw_pixels(augmentation: Augmentation, numbers: Iterator, size: int) -> PixelDraw:
    """What `Augmentation.apply_pixels` draws for a crop of `size` pixels.

    Takes 16 uniform numbers of [0, 1).
    """
    a, u = augmentation, numbers
    contrast = _between(next(u), 1 - a.contrast, 1 + a.contrast)
    brightness = _between(next(u), -255 * a.brightness, 255 * a.brightness)
    colour = jnp.stack([_between(next(u), 1 - a.colour, 1 + a.colour) for _ in "rgb"])
    grey = next(u) < a.grey_probability
    blur = jnp.where(next(u) < a.blur_probability, _between(next(u), *a.blur_sigma), 0.0)

    occluded = next(u) < a.occlusion_probability
    low, high = a.occlusion_size
    half = size * jnp.stack([_between(next(u), low / 2, high / 2) for _ in "xy"])
    center = size * jnp.stack([next(u) for _ in "xy"])
    if a.occlusion_inside:
        center = half + center * (1 - 2 * half / size)
    corners = jnp.round(jnp.concatenate([center - half, center + half]))
    paint = jnp.floor(256 * jnp.stack([next(u) for _ in "rgb"]))
    return PixelDraw(
        contrast=contrast if a.contrast else None,
        brightness=brightness if a.brightness else None,
        colour=colour if a.colour else None,
        grey=grey if a.grey_probability else None,
        blur=blur if a.blur_probability else None,
        rectangle=jnp.where(occluded, corners, 0.0) if a.occlusion_probability else None,
        paint=paint if a.occlusion_probability else None,
    )


def reach(augmentation: Augmentation, padding: float) -> float:
    """Side of the upright square about the box's centre that every draw stays in, in box sides.

    The box is the padded one; `flip_offset`, in image pixels, is not in it.
    """
    a = augmentation
    turn = 0.0
    if a.rotation_probability:
        limit = 2 if a.distribution == "clipped_normal" else 1
        turn = np.deg2rad(min(limit * a.rotation, 45.0))  # a square turned by 45 reaches farthest
    return (1 + a.scale) * (np.cos(turn) + np.sin(turn)) + 2 * a.translation / padding


def place_points(offsets, draw: Draw, permutation, padding: float, size: int):
    """Landmarks of the face as drawn.

    Args:
      offsets: float32 (L, 2), from the box's centre, in padded box sides.
      draw: as `draw_geometry` gives it.
      permutation: int (L,), `Scheme.flip_permutation`.
      padding: of the box, in whose unpadded sides the draw's translation is.
      size: side of the frame that the points are wanted in (the heatmap's, the crop's).

    Returns:
      float32 (L, 2), that frame's pixels, continuous.
    """
    mirrored = (offsets * jnp.array([-1.0, 1.0], jnp.float32))[permutation]
    offsets = jnp.where(draw.flip, mirrored, offsets) - draw.translation / padding
    x, y = offsets[:, 0], offsets[:, 1]
    angle = jnp.deg2rad(draw.rotation)
    cos, sin = jnp.cos(angle), jnp.sin(angle)  # written out: a product may round on accelerators
    turned = jnp.stack([cos * x + sin * y, cos * y - sin * x], axis=-1)
    return (turned / draw.scale + 0.5) * size


def warp(image, anchor, side, draw: Draw, padding: float, size: int, flip_shift, center: float):
    """The crop that the draw makes of a stored picture: one bilinear warp.

    A gather of four pixels for each; measured on CPUs only, and TPUs are known to gather slowly.

    Args:
      image: uint8 (3, R, R).
      anchor: float32 (2,), (x, y) of the box's centre in it; its pixel k lies at k.
      side: float32, of the padded box, in pixels of `image`.
      draw: as `draw_geometry` gives it.
      padding: as for `place_points`.
      size: side of the crop.
      flip_shift: float32; a mirrored picture is that of the box that many pixels of `image` to the
        left.
      center: where pixel k's centre lies in the crop, less k: 0.5, or 0 in index coordinates.

    Returns:
      uint8 (size, size, 3); black beyond the stored picture.
    """
    steps = ((jnp.arange(size, dtype=jnp.float32) + center) / size - 0.5) * draw.scale
    x, y = steps[None, :], steps[:, None]
    angle = jnp.deg2rad(draw.rotation)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    shift = draw.translation / padding
    across = side * (cos * x - sin * y + shift[0])
    down = side * (sin * x + cos * y + shift[1])
    across = jnp.where(draw.flip, -across - flip_shift, across)
    places = [anchor[1] + down, anchor[0] + across]
    warp_plane = functools.partial(map_coordinates, coordinates=places, order=1)
    return jax.vmap(warp_plane, out_axes=-1)(image)


def apply_pixels(image, draw: PixelDraw):
    """Changes the pixels of a crop as `Augmentation.apply_pixels` does, in its order.

    Args:
      image: uint8 (S, S, 3), RGB.
      draw: of `draw_pixels`.

    Returns:
      uint8 (S, S, 3).
    """
    image = _tones(image.astype(jnp.float32), draw)
    if draw.grey is not None:
        weights = jnp.array([0.299, 0.587, 0.114], jnp.float32)
        grey = jnp.round((image * weights).sum(axis=-1, keepdims=True))
        image = jnp.where(draw.grey, grey, image)
    if draw.blur is not None:
        image = _blur(image, draw.blur)
    if draw.rectangle is not None and draw.paint is not None:
        x0, y0, x1, y1 = draw.rectangle
        k = jnp.arange(image.shape[0])
        rows, columns = (k >= y0) & (k < y1), (k >= x0) & (k < x1)
        hidden = (rows[:, None] & columns[None, :])[..., None]
        image = jnp.where(hidden, draw.paint, image)
    return image.astype(jnp.uint8)


def _tones(image, draw):
    """Contrast, brightness and channel gains of a float32 image; whole grey values."""
    changed = image
    if draw.contrast is not None:
        mean = image.mean()
        changed = (changed - mean) * draw.contrast + mean
    if draw.brightness is not None:
        changed = changed + draw.brightness
    if draw.colour is not None:
        changed = changed * draw.colour
    return jnp.round(jnp.clip(changed, 0, 255))


def _blur(image, sigma):
    """OpenCV's Gaussian blur: its kernel's width, its border mirrored about the last pixel.

    Both passes are products with a band matrix, since the kernel differs from face to face.
    """
    size = image.shape[0]
    half = jnp.round(6 * sigma + 1).astype(jnp.int32) // 2

    def weight(distance):
        near = jnp.abs(distance) <= half
        return jnp.where(near, jnp.exp(-0.5 * (distance / jnp.maximum(sigma, 1e-3)) ** 2), 0.0)

    to, source = np.mgrid[:size, :size].astype(np.float32)
    band = weight(to - source)
    band += jnp.where(source > 0, weight(to + source), 0.0)
    band += jnp.where(source < size - 1, weight(2 * (size - 1) - to - source), 0.0)
    band /= band.sum(axis=1, keepdims=True)
    rows = jnp.einsum("ij,jkc->ikc", band, image, precision=_EXACT)
    return jnp.round(jnp.einsum("ij,kjc->kic", band, rows, precision=_EXACT))
