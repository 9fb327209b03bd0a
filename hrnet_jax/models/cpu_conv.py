"""What XLA's CPU compiler needs help with: `jit`, and 3x3 convolutions. The same values everywhere.

XLA turns the weight gradient of a convolution into a convolution of the transposed image by the
transposed gradient, with a kernel as large as the picture. On CPUs the same sums written as matrix
products over all pixels take less time (`benchmarks/conv_lowering.py`; RESULTS.md has the table).
Only derivatives with respect to the kernel differ; the forward pass and the gradient of the input
are XLA's own.
"""

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax

from hrnet_jax.devices import backend

# Cautious limits: above them little of a network's time is at stake, and the program grows.
MAX_CHANNELS = 64
MIN_PIXELS = 256


def jit(function, **options):
    """`jax.jit` for a training step or forward pass; not to be called within another `jax.jit`.

    On CPUs XLA takes the barriers of `layers.residual_sum` out before it fuses: without that pass
    they do what they are for, and a training step takes 0.5 to 0.6 of the time.
    """
    if backend() == "cpu":
        options["compiler_options"] = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return jax.jit(function, **options)


def pointwise(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """1x1 convolution of (N, H, W, C) by (1, 1, C, D): a product of matrices, of all pixels.

    Flattened first, so that the weight gradient is a plain product too: contracted over three axes
    XLA would transpose the image.
    """
    y = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
    return y.reshape(*x.shape[:-1], -1)


def suits(shape, features: int, kernel_size, dtype) -> bool:
    """Whether `conv3x3` is the faster way for images of `shape` (N, H, W, C) on this backend."""
    _, height, width, channels = shape
    return (
        backend() == "cpu"
        and tuple(kernel_size) == (3, 3)
        and min(channels, features) <= MAX_CHANNELS
        and height * width >= MIN_PIXELS
        and jnp.dtype(dtype) in (jnp.float32, jnp.float64)
    )


@jax.custom_jvp
def conv3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """3x3 convolution of (N, H, W, C) by (3, 3, C, D), padded by 1: (N, H, W, D)."""
    return lax.conv_general_dilated(
        x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@functools.partial(conv3x3.defjvp, symbolic_zeros=True)
def _conv3x3_jvp(primals, tangents):
    x, kernel = primals
    dx, dkernel = tangents
    zero = jax.custom_derivatives.SymbolicZero
    y = conv3x3(x, kernel)
    parts = []
    if not isinstance(dx, zero):
        parts.append(conv3x3(dx, kernel))
    if not isinstance(dkernel, zero):
        parts.append(_as_products(x, dkernel))
    return y, _total(parts) if parts else jnp.zeros_like(y)


def _as_products(x, kernel):
    """The convolution as matrix products; what counts is its transpose, the weight gradient.

    Every shift of one side against the other is a copy, so the side with fewer channels is shifted
    along W and its copies lie side by side. Transposed, for features <= channels: g3 are three
    shifted copies of the gradient, x_i the image shifted by i rows, and dkernel[i] = x_i^T g3.
    """
    channels, features = kernel.shape[2:]
    size = x.shape[1:3]
    if features <= channels:
        rows = kernel.transpose(0, 2, 1, 3).reshape(3, channels, 3 * features)
        y = _total(_flat(_shift(x, i - 1, axis=1)) @ rows[i] for i in range(3))
        thirds = lax.split(y.reshape(-1, *size, 3 * features), [features] * 3, axis=3)
        return _total(_shift(third, j - 1, axis=2) for j, third in enumerate(thirds))
    rows = kernel.reshape(3, 3 * channels, features)
    beside = _flat(jnp.concatenate([_shift(x, j - 1, axis=2) for j in range(3)], axis=3))
    products = [(beside @ rows[i]).reshape(-1, *size, features) for i in range(3)]
    return _total(_shift(y, i - 1, axis=1) for i, y in enumerate(products))


def _total(arrays):
    return functools.reduce(operator.add, arrays)


def _flat(x):
    return x.reshape(-1, x.shape[-1])


def _shift(x, offset, axis):
    """x at index + offset along the axis, 0 outside: one padding, of negative width at one end."""
    widths = [(0, 0, 0)] * x.ndim
    widths[axis] = (-offset, offset, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), widths)
