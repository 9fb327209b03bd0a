"""The tf.data input pipeline. The only module that imports TensorFlow, with its GPUs hidden."""

import os
from collections.abc import Callable, Iterator

import numpy as np

from hrnet_jax.errors import HRNetError

# Its greetings on stderr; the second one also keeps its results free of oneDNN's rounding.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

try:
    import tensorflow as tf
except ImportError as error:
    raise HRNetError(
        "TensorFlow is not installed: pip install 'hrnet-jax[data]', or set "
        "--config.data.loader=auto (the same batches without it)"
    ) from error

tf.config.set_visible_devices([], "GPU")  # they are JAX's


def decode_window(data: bytes, x0: int, y0: int, x1: int, y1: int) -> np.ndarray | None:
    """The part [x0, x1) x [y0, y1) of a JPEG file, as `images.Encoded` wants it.

    The rows below are not read, the columns beside it not transformed.
    """
    try:
        return tf.io.decode_and_crop_jpeg(
            data, [y0, x0, y1 - y0, x1 - x0], channels=3, dct_method="INTEGER_ACCURATE"
        ).numpy()
    except tf.errors.InvalidArgumentError:
        return None


def iterate(
    batch: Callable[[int], dict[str, np.ndarray]], start: int, stop: int, workers: int
) -> Iterator[dict[str, np.ndarray]]:
    """Yields batch(start), …, batch(stop - 1), `workers` of them computed at once.

    The arrays stay outside of TensorFlow, which would copy them: the pipeline's elements are the
    numbers of the steps whose batches are ready.
    """
    failures, made = [], {}

    def load(step):
        try:
            made[int(step)] = batch(int(step))
        except HRNetError as error:  # tf.data would bury it in a message of its own
            failures.append(error)
            raise
        return step

    dataset = (
        tf.data.Dataset.range(start, stop)
        .map(
            lambda step: tf.numpy_function(load, [step], tf.int64),
            num_parallel_calls=workers,
            deterministic=True,
        )
        .prefetch(2)
    )
    iterator = dataset.as_numpy_iterator()
    while True:
        try:
            step = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError:
            if failures:
                raise failures[0] from None
            raise
        yield made.pop(int(step))
