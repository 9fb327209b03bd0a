"""PyTorch state dicts for tests: weights by key name, those of the reference outputs, and zeros."""

import zlib

import numpy as np

from hrnet_jax.models.variants import get_variant
from hrnet_jax.torch_weights.names import face_table


def seeded_array(key, shape, salt):
    """Returns the float32 array of `shape` for `key` (int64 zero for counters)."""
    if key.endswith("num_batches_tracked"):
        return np.zeros((), np.int64)
    rng = np.random.default_rng(zlib.crc32(f"{salt}/{key}".encode()))
    if key.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if key.endswith("running_mean"):
        return rng.normal(0.0, 0.1, shape).astype(np.float32)
    if len(shape) == 4:  # convolution: fan_in = I * H * W
        return rng.normal(0.0, (2.0 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
    if len(shape) == 2:  # linear: fan_in = I
        return rng.normal(0.0, (1.0 / shape[1]) ** 0.5, shape).astype(np.float32)
    if key.endswith("weight"):  # batch-norm scale
        return rng.uniform(0.25, 0.75, shape).astype(np.float32)
    return rng.normal(0.0, 0.1, shape).astype(np.float32)  # any bias


def seeded_image(shape, salt="a"):
    """Returns a float32 standard-normal array: the network input, PyTorch NCHW."""
    rng = np.random.default_rng(zlib.crc32(f"{salt}/input".encode()))
    return rng.standard_normal(shape).astype(np.float32)


def seeded_state(table, salt="a"):
    return {entry.name: seeded_array(entry.name, entry.shape, salt) for entry in table}


def zero_state(table):
    """Zeros without memory, for tests of names and shapes."""
    return {
        e.name: np.broadcast_to(np.float32(0), e.shape) if e.path else np.zeros((), np.int64)
        for e in table
    }


def small_table(num_landmarks=68):
    return face_table(get_variant("w18_small_v1"), num_landmarks)


def named(shape, *names):
    return {name: np.zeros(shape, np.float32) for name in names}
