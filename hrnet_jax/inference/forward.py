"""The compiled way from crops to landmarks or classes, shared by evaluation and `Predictor`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hrnet_jax.devices import one_at_a_time
from hrnet_jax.models import normalise_images
from hrnet_jax.models.cpu_conv import jit
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import Scheme

TOP = 5  # classes that a classifier tells of a picture


def make_forward(model, protocol: Protocol, scheme: Scheme) -> Callable:
    """Returns the compiled `forward(variables, images) -> (points, scores)`, for any thread.

    `images` is uint8 (N, S, S, 3) RGB, crops of `protocol`; `points` (N, L, 2) in heatmap pixels
    and `scores` (N, L), the heatmap maxima. With the protocol's flip test the heatmaps are the mean
    of those of the crop and those of its mirror image, mirrored back (and shifted, with
    `flip_shift`).
    """
    permutation = np.asarray(scheme.flip_permutation)

    @jit
    def forward(variables, images):
        images = normalise_images(images)
        outputs = model.apply(variables, images)  # heatmaps; with the HIH head two kinds of them
        if protocol.flip_test:
            mirrored = model.apply(variables, images[:, :, ::-1])[:, :, ::-1, permutation]
            if protocol.flip_shift:  # column j becomes that of j - 1, the first one keeps its own
                mirrored = jnp.concatenate([mirrored[:, :, :1], mirrored[:, :, :-1]], axis=2)
            outputs = (outputs + mirrored) / 2
        return protocol.codec.decode(outputs)

    return one_at_a_time(forward)


def make_classify(model) -> Callable:
    """Returns the compiled `classify(variables, images) -> (probabilities, classes)`.

    `images` is uint8 (N, S, S, 3) RGB; the results are (N, K), the likeliest first, K the lesser of
    five and the number of classes.
    """

    @jit
    def classify(variables, images):
        probabilities = jax.nn.softmax(model.apply(variables, normalise_images(images)))
        return jax.lax.top_k(probabilities, min(TOP, probabilities.shape[-1]))

    return one_at_a_time(classify)
