"""Deterministic weights for a PyTorch state dict by key name: those of the reference outputs."""

import zlib

import numpy as np


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


def seeded_state_dict(spec, salt="a"):
    """Returns {key: array} for a spec [[key, shape, dtype], ...]."""
    return {key: seeded_array(key, tuple(shape), salt) for key, shape, _ in spec}


def seeded_image(shape, salt="a"):
    """Returns a float32 standard-normal array: the network input, PyTorch NCHW."""
    rng = np.random.default_rng(zlib.crc32(f"{salt}/input".encode()))
    return rng.standard_normal(shape).astype(np.float32)
