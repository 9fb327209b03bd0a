"""The building blocks every network here is made of.

Arrays are NHWC. `conv` and `norm` are passed down from the network (`hrnet_jax.create_model`), with
dtypes, initialisers and train / evaluation mode already bound: the whole ablation surface.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.linear import canonicalize_padding

from hrnet_jax.devices import backend
from hrnet_jax.models import cpu_conv

PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)


def normalise_images(images: jax.Array) -> jax.Array:
    """RGB (…, 3) in 0 … 255 to (x / 255 - mean) / std of ImageNet: float32, float64 if it was."""
    dtype = (
        jnp.promote_types(images.dtype, jnp.float32) if images.dtype.kind == "f" else jnp.float32
    )
    mean, std = jnp.asarray(PIXEL_MEAN, dtype), jnp.asarray(PIXEL_STD, dtype)
    return (images.astype(dtype) / 255 - mean) / std


def upsample(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear resize of (N, h, w, C) to `size`, as PyTorch with align_corners=False."""
    return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "linear")


def upsample_nearest(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Nearest-neighbour resize of (N, h, w, C) to `size`, as PyTorch for whole factors."""
    return jax.image.resize(x, (x.shape[0], *size, x.shape[-1]), "nearest")


def upsample_aligned(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear resize of (N, h, w, C) to `size`, as PyTorch with align_corners=True.

    The centres of the corner cells stay corners, which `jax.image.resize` cannot do; so one matrix
    product along each axis.
    """
    rows, columns = (
        _aligned_weights(before, after, x.dtype)
        for before, after in zip(x.shape[1:3], size, strict=True)
    )
    return jnp.einsum("ah,bw,nhwc->nabc", rows, columns, x)


def _aligned_weights(before, after, dtype):
    """(after, before) interpolation weights: cell i looks at i * (before - 1) / (after - 1)."""
    position = np.arange(after) * ((before - 1) / max(after - 1, 1))
    distance = np.abs(position[:, None] - np.arange(before))
    return jnp.asarray(np.maximum(0, 1 - distance), dtype)


UPSAMPLES = {"bilinear": upsample, "nearest": upsample_nearest, "aligned": upsample_aligned}


def torch_bias(fan_in: int) -> Callable:
    """PyTorch's default bias initialiser: uniform within +-1 / sqrt(fan_in)."""
    bound = fan_in**-0.5

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Conv(nn.Conv):
    """`flax.linen.Conv`, written for each backend so that it and its gradients compile well.

    The same parameters, values and gradients for every argument of it. 1x1 convolutions are matrix
    products; on CPUs some 3x3 convolutions have a weight gradient of products
    (`hrnet_jax.models.cpu_conv`). Other backends and other convolutions get XLA's.
    """

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        convolve = self._lowering(inputs)
        if convolve is None:
            return super().__call__(inputs)
        shape = (*np.atleast_1d(self.kernel_size).tolist(), inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        y = convolve(inputs.astype(self.dtype), kernel.astype(self.dtype))
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            y = y + bias.astype(self.dtype)
        return y

    def _lowering(self, x):
        """The function (x, kernel) -> y to use in place of XLA's convolution, or None."""
        others = [field for field in dataclasses.fields(nn.Conv) if field.name not in _LOWERED]
        plain = all(getattr(self, field.name) is field.default for field in others)
        steps = (self.strides, self.input_dilation, self.kernel_dilation)
        single = all(n is None or np.all(np.equal(n, 1)) for n in steps)
        if x.ndim != 4 or self.dtype is None or not plain or not single:
            return None
        size = tuple(np.atleast_1d(self.kernel_size).tolist())
        if size == (1, 1) and _pads(self.padding, 0):
            return cpu_conv.pointwise
        if size == (3, 3) and _pads(self.padding, 1):
            suits = cpu_conv.suits(x.shape, self.features, size, self.dtype)
            return cpu_conv.conv3x3 if suits else None
        return None


# The fields that the lowerings of `Conv` know: with another one it is Flax's own.
_LOWERED = (
    *("features", "kernel_size", "strides", "padding", "input_dilation", "kernel_dilation"),
    *("use_bias", "dtype", "param_dtype", "kernel_init", "bias_init", "parent", "name"),
)


def _pads(padding, cells: int) -> bool:
    """Whether Flax's `padding` adds so many cells on every side of a 2-D image, at stride 1."""
    if isinstance(padding, str):
        return padding == "SAME" or (padding == "VALID" and cells == 0)
    return canonicalize_padding(padding, 2) == [(cells, cells)] * 2


class BatchNorm(nn.Module):
    """Batch normalisation with PyTorch's statistics.

    As `flax.linen.BatchNorm` with `use_fast_variance=False`, but the running variance is updated
    with the unbiased batch variance (n / (n - 1)), as PyTorch does; the batch itself is normalised
    with the biased one in both. Statistics are computed and kept in `param_dtype` at least.

    `momentum` is Flax's: 1 - PyTorch's (0.99 in the official face networks). Under `jit` with a
    sharded batch the statistics are those of the global batch.
    """

    use_running_average: bool
    momentum: float = 0.99
    epsilon: float = 1e-5
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, self.param_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, self.param_dtype)

        if self.use_running_average:
            mean, var = running_mean.value, running_var.value
        else:
            mean, var = batch_statistics(x.astype(self.param_dtype), running_mean.value)
            if not self.is_initializing():
                n = x.size // x.shape[-1]
                keep = self.momentum
                unbiased = var * (n / max(n - 1, 1))
                running_mean.value = keep * running_mean.value + (1 - keep) * mean
                running_var.value = keep * running_var.value + (1 - keep) * unbiased

        gain = scale * jax.lax.rsqrt(var + self.epsilon)
        y = (x.astype(self.param_dtype) - mean) * gain + bias
        return y.astype(self.dtype)


def batch_statistics(x: jax.Array, near: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance (C,) of x (…, C) over all its other axes.

    On CPUs the mean first, then the squared distances from it. Accelerators read x once, where it
    is made, and sum over devices once: the variance is the mean square about `near` (C,) less the
    square of what the mean is away from it. The closer `near` is to the mean, a running mean say,
    the less rounding that costs; with 0 it is the usual one-pass formula.
    """
    axes = tuple(range(x.ndim - 1))
    if backend() == "cpu":
        mean = x.mean(axes)
        return mean, jnp.square(x - mean).mean(axes)
    distance = x - jax.lax.stop_gradient(near)
    away, square = distance.mean(axes), jnp.square(distance).mean(axes)
    return near + away, jnp.maximum(square - jnp.square(away), 0)


def residual_sum(x: jax.Array) -> jax.Array:
    """ReLU of a sum of branches, or of a block and its skip connection, computed once.

    Every reader of such a sum reads its summands too, back to the network's start, and on CPUs XLA
    would rather compute the whole chain again in each of them than keep the sum. The barrier
    forbids it, in functions compiled by `cpu_conv.jit`.
    """
    x = nn.relu(x)
    return jax.lax.optimization_barrier(x) if backend() == "cpu" else x


class ConvNorm(nn.Module):
    """Convolution (without bias, unless told), batch normalisation, and ReLU unless told.

    A 3x3 kernel pads 1 on every side (a 7x7 kernel 3), also at stride 2, as PyTorch does ("SAME"
    would not).
    """

    features: int
    conv: Callable
    norm: Callable
    kernel: int = 1
    stride: int = 1
    relu: bool = True
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pad = self.kernel // 2
        bias = {"bias_init": torch_bias(x.shape[-1] * self.kernel**2)} if self.use_bias else {}
        x = self.conv(
            self.features,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=((pad, pad), (pad, pad)),
            use_bias=self.use_bias,
            name="conv",
            **bias,
        )(x)
        x = self.norm(name="bn")(x)
        return nn.relu(x) if self.relu else x


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection (He et al. 2016): `features` in and out."""

    features: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        pad = ((1, 1), (1, 1))
        y = self.conv(self.features, (3, 3), padding=pad, use_bias=False, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = self.conv(self.features, (3, 3), padding=pad, use_bias=False, name="conv2")(y)
        y = self.norm(name="bn2")(y)
        return residual_sum(y + x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a skip connection: `width` inside, 4 * `width` out."""

    width: int
    conv: Callable
    norm: Callable

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        features = 4 * self.width
        y = self.conv(self.width, (1, 1), use_bias=False, name="conv1")(x)
        y = nn.relu(self.norm(name="bn1")(y))
        y = self.conv(self.width, (3, 3), padding=((1, 1), (1, 1)), use_bias=False, name="conv2")(y)
        y = nn.relu(self.norm(name="bn2")(y))
        y = self.conv(features, (1, 1), use_bias=False, name="conv3")(y)
        y = self.norm(name="bn3")(y)
        if x.shape[-1] != features:
            x = ConvNorm(features, self.conv, self.norm, relu=False, name="downsample")(x)
        return residual_sum(y + x)
