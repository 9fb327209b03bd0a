"""The compiled way from crops to landmarks, shared by evaluation and `Predictor`."""

from collections.abc import Callable

import jax
import numpy as np

from hrnet_jax.models import normalise_images
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import Scheme


def make_forward(model, protocol: Protocol, scheme: Scheme) -> Callable:
    """Returns the jitted `forward(variables, images) -> (points, scores)`.

    `images` is uint8 (N, S, S, 3) RGB, crops of `protocol`; `points` (N, L, 2) in heatmap pixels
    and `scores` (N, L), the heatmap maxima. With the protocol's flip test the heatmaps are the mean
    of those of the crop and those of its mirror image, mirrored back.
    """
    permutation = np.asarray(scheme.flip_permutation)

    @jax.jit
    def forward(variables, images):
        images = normalise_images(images)
        heatmaps = model.apply(variables, images)
        if protocol.flip_test:
            mirrored = model.apply(variables, images[:, :, ::-1])
            heatmaps = (heatmaps + mirrored[:, :, ::-1, permutation]) / 2
        return protocol.codec.decode(heatmaps)

    return forward
