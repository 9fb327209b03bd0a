"""Looking inside a trained network: features, what a landmark looks at, how far, how sure.

    maps = features(model, variables, images, "backbone/stage4_*")
    look = integrated_gradients(model, variables, images, landmark=36)

Pure functions for every network of `create_model`, ablated or not, and for the user's own whose
output is heatmaps, `HIHOutput` or logits. `images` are normalised, float (N, H, W, 3), as the
network takes them (`hrnet_jax.models.normalise_images`); positions are pixels of that input, or
heatmap cells. `hrnet_jax.inspect.figures` draws the results; `lesions` silences parts.
"""

import fnmatch
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from hrnet_jax.errors import HRNetError


def features(model, variables, images: jax.Array, names: str = "*") -> dict[str, jax.Array]:
    """The outputs of a network's modules by their path.

    Args:
      names: which, as a pattern: "backbone/stage4_0/fuse0_*", "backbone/*/branch3_?".

    Returns:
      {"backbone/stage4_0/branch2_1": (N, h, w, C), …}; a module that puts several arrays out has
      them numbered: "backbone/stage4_0/0". HRNetError, with the nearest paths, if none fits.
    """
    return _chosen(_jitted_outputs(model, variables, images), names)


def _chosen(found, names):
    chosen = {path: leaf for path, leaf in found.items() if fnmatch.fnmatchcase(path, names)}
    if not chosen:
        known = sorted({path.rsplit("/", 1)[0] for path in found})
        raise HRNetError(f"no module {names!r}: for example {', '.join(known[:8])}")
    return chosen


def outputs(model, variables, images: jax.Array) -> dict[str, jax.Array]:
    """All of `features`, not compiled: for use within a function that is."""
    _, state = model.apply(variables, images, capture_intermediates=True, mutable="intermediates")
    flat = {}
    intermediates: dict[tuple, Any] = flatten_dict(state["intermediates"])
    for path, calls in intermediates.items():
        leaves = jax.tree.leaves(calls[-1])
        base = "/".join(path[:-1])  # the last part is the method, "__call__"
        for number, leaf in enumerate(leaves):
            flat[base if len(leaves) == 1 else f"{base}/{number}".lstrip("/")] = leaf
    flat.pop("", None)
    return flat


_jitted_outputs = jax.jit(outputs, static_argnums=0)


def _heatmaps(made):
    """(N, h, w, L), or a classifier's logits (N, K); the last stack's of an hourglass."""
    return made.heatmaps[:, -1] if hasattr(made, "heatmaps") else made


def _response(made, index):
    """What a network says of one landmark or class: heatmaps (N, h, w), or logits (N,)."""
    heatmaps = _heatmaps(made)
    if not -heatmaps.shape[-1] <= index < heatmaps.shape[-1]:
        raise HRNetError(f"there is no output {index}: the network has {heatmaps.shape[-1]}")
    return heatmaps[..., index]


def _peak(response):
    """The value to explain of each image (N,): the logit, or the heatmap's highest cell."""
    return response.reshape(len(response), -1).max(axis=1)


@functools.partial(jax.jit, static_argnums=(0, 3))
def saliency(model, variables, images: jax.Array, landmark: int) -> jax.Array:
    """How much each pixel moves the peak of a landmark's heatmap (a classifier: a class's logit).

    The largest absolute gradient of the three channels (Simonyan et al. 2013), (N, H, W).
    """

    def total(images):
        return _peak(_response(model.apply(variables, images), landmark)).sum()

    return jnp.abs(jax.grad(total)(images)).max(axis=-1)


@functools.partial(jax.jit, static_argnums=(0, 3, 5))
def integrated_gradients(
    model, variables, images: jax.Array, landmark: int, baseline=0.0, steps: int = 32
) -> jax.Array:
    """What each pixel gives to the value of a landmark's heatmap where that has its peak.

    Gradients averaged on the way from `baseline` (0 is ImageNet's mean colour) to the image, times
    the way (Sundararajan et al. 2017): they add up to the value at the image less that at the
    baseline, the better the more `steps`.

    Returns:
      (N, H, W, 3), signed.
    """
    start = jnp.broadcast_to(jnp.asarray(baseline, images.dtype), images.shape)
    response = _response(model.apply(variables, images), landmark)
    cell = response.reshape(len(images), -1).argmax(axis=1)

    def value(images):
        flat = _response(model.apply(variables, images), landmark).reshape(len(images), -1)
        return jnp.take_along_axis(flat, cell[:, None], axis=1).sum()

    def at(total, share):
        return total + jax.grad(value)(start + share * (images - start)), None

    shares = (jnp.arange(steps, dtype=images.dtype) + 0.5) / steps
    total, _ = jax.lax.scan(at, jnp.zeros_like(images), shares)
    return total / steps * (images - start)


def receptive_field(
    model, variables, images: jax.Array, name: str = "", seed: int = 0
) -> np.ndarray:
    """The effective receptive field (Luo et al. 2016): what the central cell of a feature map sees.

    The absolute gradient of that cell's features, weighted by random signs, at each pixel; the
    mean over images and signs.

    Args:
      name: path of a module as in `features`, with one spatial output; "": the heatmaps.

    Returns:
      (H, W), the largest 1. `extent` measures it.
    """
    key = jax.random.key(seed)
    field = np.asarray(_field(model, variables, images, name, key), np.float64)
    if not field.max() > 0:
        raise HRNetError(f"the centre of {name or 'the heatmaps'} does not depend on the images")
    return field / field.max()


@functools.partial(jax.jit, static_argnums=(0, 3))
def _field(model, variables, images, name, key):
    def cell(images):
        if name:
            maps = _chosen(outputs(model, variables, images), name).get(name)
        else:
            maps = _heatmaps(model.apply(variables, images))
        if maps is None or maps.ndim != 4:
            raise HRNetError(
                f"{name or 'the output'} is no feature map: name a module that has one"
            )
        centre = maps[:, maps.shape[1] // 2, maps.shape[2] // 2]
        return (centre * jax.random.rademacher(key, centre.shape, centre.dtype)).sum()

    return jnp.abs(jax.grad(cell)(images)).sum(axis=(0, 3))


def extent(field: np.ndarray, share: float = 0.95) -> int:
    """Side in pixels of the smallest square about the centre that holds `share` of a field."""
    field = np.asarray(field, np.float64)
    height, width = field.shape
    for half in range(1, max(height, width)):
        top, left = max(height // 2 - half, 0), max(width // 2 - half, 0)
        inside = field[top : height // 2 + half, left : width // 2 + half].sum()
        if inside >= share * field.sum():
            return 2 * half
    return max(height, width)


FLOOR = 0.1  # of the peak: what lies below is the noise that a network puts everywhere


def heatmap_spread(heatmaps: jax.Array) -> jax.Array:
    """How widely a heatmap spreads about its mean, in cells: an uncertainty without training.

    The root mean squared distance along one axis, of what rises above a tenth of the peak. Of a
    Gaussian of sigma s it is 0.86 s; two peaks d cells apart have 0.35 d more or less.

    Args:
      heatmaps: (N, h, w, L).

    Returns:
      (N, L); nan where nothing is positive.
    """
    _, height, width, _ = heatmaps.shape
    peak = heatmaps.max(axis=(1, 2), keepdims=True)
    weights = jnp.where(heatmaps > FLOOR * peak, heatmaps, 0) * (peak > 0)
    weights /= weights.sum(axis=(1, 2), keepdims=True)
    rows, columns = weights.sum(axis=2), weights.sum(axis=1)  # (N, h, L), (N, w, L)

    def variance(profile, size):
        place = jnp.arange(size, dtype=profile.dtype)[:, None]
        mean = (profile * place).sum(axis=1, keepdims=True)
        return (profile * jnp.square(place - mean)).sum(axis=1)

    return jnp.sqrt((variance(rows, height) + variance(columns, width)) / 2)
