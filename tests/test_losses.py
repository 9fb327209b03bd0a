"""Losses against their formulas, element by element, and what they leave out."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnet_jax.codecs import DarkCodec, HIHCodec
from hrnet_jax.codecs.hih import HIHMaps
from hrnet_jax.errors import HRNetError
from hrnet_jax.training.losses import LOSSES, get_loss

RNG = np.random.default_rng(0)
TARGETS = RNG.uniform(0, 1, (2, 4, 5, 3)).astype(np.float32)
TARGETS[0, ..., 1] = 0  # a point without a target
OUTPUTS = (TARGETS + RNG.normal(0, 0.6, TARGETS.shape)).astype(np.float32)


def value(name, outputs, targets):
    return LOSSES[name](outputs, {"targets": targets})[0]


def test_mean_squared_errors():
    squares = (OUTPUTS - TARGETS).astype(float) ** 2
    assert value("mse", OUTPUTS, TARGETS) == pytest.approx(squares.mean(), rel=1e-5)
    squares[0, ..., 1] = 0
    assert value("masked_mse", OUTPUTS, TARGETS) == pytest.approx(squares.mean(), rel=1e-5)


def wing(distance, target, alpha=2.1, omega=14, epsilon=1, theta=0.5):
    e = alpha - target
    if distance < theta:
        return omega * math.log(1 + (distance / epsilon) ** e)
    slope = omega / (1 + (theta / epsilon) ** e) * e * (theta / epsilon) ** (e - 1) / epsilon
    offset = theta * slope - omega * math.log(1 + (theta / epsilon) ** e)
    return slope * distance - offset


def test_adaptive_wing():
    pairs = zip(np.abs(OUTPUTS - TARGETS).ravel().tolist(), TARGETS.ravel().tolist(), strict=True)
    expected = np.reshape([wing(*pair) for pair in pairs], TARGETS.shape)
    expected[0, ..., 1] = 0
    assert value("adaptive_wing", OUTPUTS, TARGETS) == pytest.approx(expected.mean(), rel=1e-5)


@pytest.mark.parametrize("distance", [0.0, 0.5, 1e3, 1e30])
def test_adaptive_wing_has_a_finite_gradient(distance):
    targets = jnp.array([0.0, 0.5, 1.0]).reshape(1, 1, 3, 1)
    gradient = jax.grad(lambda outputs: value("adaptive_wing", outputs, targets))(
        targets + distance
    )
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient) == 0).all() == (distance == 0)


def test_hih_is_the_stacks_error_and_a_soft_divergence():
    targets = HIHMaps(TARGETS[:, None], RNG.uniform(0, 1, (2, 8, 8, 3)))
    outputs = HIHMaps(np.stack([OUTPUTS, -OUTPUTS], axis=1), RNG.normal(0, 3, (2, 8, 8, 3)))
    errors = ((OUTPUTS - TARGETS) ** 2).mean() + ((-OUTPUTS - TARGETS) ** 2).mean()
    p, q = (
        np.exp(maps.decimal_heatmaps)
        / np.exp(maps.decimal_heatmaps).sum(axis=(1, 2), keepdims=True)
        for maps in (targets, outputs)
    )
    expected = errors / 2 + 0.05 * (p * np.log(p / q)).mean()
    assert value("hih", outputs, targets) == pytest.approx(expected, rel=1e-5)


def test_hih_target_distribution_is_nearly_flat():
    """The published training divides by no temperature: 0.0138 … 0.0376 over 64 cells."""
    points = jnp.full((1, 1, 2), 20.5)
    target = HIHCodec().encode(points, jnp.ones((1, 1)), 64).decimal_heatmaps
    share = jax.nn.softmax(target, axis=(1, 2))
    assert float(share.max()) == pytest.approx(0.0353, abs=0.0025)
    assert float(share.min()) == pytest.approx(0.0138, abs=0.0008)


@pytest.mark.parametrize(
    ("name", "codec", "message"),
    [
        ("wing", DarkCodec(), "unknown train.loss 'wing': choose one of mse, masked_mse"),
        ("mse", HIHCodec(), "'mse' does not go with HIHCodec"),
        ("hih", DarkCodec(), "'hih' does not go with DarkCodec"),
    ],
)
def test_unknown_and_unfit_losses(name, codec, message):
    with pytest.raises(HRNetError, match=message):
        get_loss(name, codec)
    assert get_loss("hih", HIHCodec()) is LOSSES["hih"]
