"""The processor's convolutions have the values and derivatives of XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnet_jax.devices import target
from hrnet_jax.models import cpu_conv
from hrnet_jax.models.layers import Conv, batch_statistics, residual_sum

TOLERANCES = {"float32": 1e-5, "float64": 1e-12}


def xla(x, kernel):
    pad = kernel.shape[0] // 2
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def arrays(dtype, size, kernel, channels, features):
    rng = np.random.default_rng(0)
    shapes = (2, *size, channels), (kernel, kernel, channels, features), (2, *size, features)
    return [jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(
    ("convolve", "channels", "features"),
    [
        (cpu_conv.conv3x3, 6, 6),
        (cpu_conv.conv3x3, 16, 3),
        (cpu_conv.conv3x3, 3, 10),
        (cpu_conv.pointwise, 16, 3),
    ],
)
def test_value_and_derivatives_are_those_of_xla(convolve, channels, features, dtype):
    kernel = 3 if convolve is cpu_conv.conv3x3 else 1
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        x, weights, cotangent = arrays(dtype, (5, 8), kernel, channels, features)

        def everything(function):
            value, vjp = jax.vjp(function, x, weights)
            tangents = jnp.cos(x), jnp.cos(weights)
            return value, *vjp(cotangent), jax.jvp(function, (x, weights), tangents)[1]

        both = jax.jit(lambda: (everything(convolve), everything(xla)))()
    for found, expected in zip(*both, strict=True):
        assert found.dtype == dtype
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCES[dtype] * largest)


def test_images_without_gradient_cost_none():
    """The first convolution of a network: one convolution forward, none backward."""
    x, weights, cotangent = arrays("float32", (6, 6), 3, 4, 4)
    gradient = jax.grad(lambda w: (cpu_conv.conv3x3(x, w) * cotangent).sum())
    assert str(jax.make_jaxpr(gradient)(weights)).count("conv_general_dilated[") == 1


def test_layer_takes_it_where_it_wins(monkeypatch):
    """Few channels on large maps, stride 1, in full precision, on a CPU."""
    taken = []
    monkeypatch.setattr(
        cpu_conv, "conv3x3", lambda x, kernel: taken.append(x.shape) or xla(x, kernel)
    )

    def use(size, features, dtype=jnp.float32, strides=1):
        pad = ((1, 1), (1, 1))
        layer = Conv(features, (3, 3), strides=strides, padding=pad, dtype=dtype)
        jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, size, size, 16)))
        return bool(taken and taken.pop())

    assert use(16, 16)
    assert use(16, 16, dtype="float32")
    assert not use(4, 16)
    assert not use(16, 16, strides=2)
    assert not use(16, 16, dtype=jnp.bfloat16)
    with target("gpu"):
        assert not use(16, 16)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not use(16, 16)
    with target("cpu"):
        assert use(16, 16)


@pytest.mark.parametrize(("platform", "barriers"), [("cpu", 1), ("tpu", 0)])
def test_sums_are_kept_on_the_target_that_is_told(platform, barriers):
    with target(platform):
        traced = jax.make_jaxpr(lambda x: residual_sum(x))(jnp.ones(3))
    assert str(traced).count("optimization_barrier") == barriers


def test_residual_sums_are_computed_once():
    """Four sums with two readers each: XLA left alone has ten, each reader its own chain.

    The pass that `jit` switches off is known to XLA by name only: of a wrong name it says nothing.
    """

    def chain(x, kernel):
        readers = []
        for _ in range(4):
            x = residual_sum(1.1 * xla(x, kernel) + x)
            readers.append(x.transpose(3, 1, 2, 0).sum(0))
        return x, readers

    x, kernel, _ = arrays("float32", (32, 32), 3, 36, 36)
    program = cpu_conv.jit(chain).lower(x, kernel).compile().as_text()
    assert program.count(" maximum(") == 4


@pytest.mark.parametrize("near", [0.0, 4.9])
def test_statistics_in_one_reading_are_those_in_two(near):
    """Values, first and second derivatives, in float64, of one mean far from 0."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x, weights, direction = rng.normal([5.0, 0.0, -1.0], size=(3, 4, 5, 6, 3))
        near = jnp.full(3, near)

        def weighed(x):
            mean, var = batch_statistics(x, near)
            return (weights * ((x - mean) * jax.lax.rsqrt(var + 1e-5))).sum()

        def outcome(platform):
            with target(platform):
                statistics = batch_statistics(jnp.asarray(x), near)
                gradient = jax.grad(lambda x: weighed(x))(x)
                along = jax.jvp(lambda x: weighed(x), (x,), (direction,))
                twice = jax.jvp(jax.grad(lambda x: weighed(x)), (x,), (direction,))
            return *statistics, gradient, *along, *twice

        expected = x.mean((0, 1, 2)), x.var((0, 1, 2))
        for name in ("cpu", "tpu"):
            np.testing.assert_allclose(outcome(name)[:2], expected, rtol=1e-12)
        for one, two in zip(outcome("tpu"), outcome("cpu"), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-11)


def test_the_variance_of_equal_values_is_not_below_zero():
    x = jnp.full((64, 3), 1234.567)
    with target("tpu"):
        _, var = batch_statistics(x, jnp.zeros(3))
    assert (var >= 0).all()
