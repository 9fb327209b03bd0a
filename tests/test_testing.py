"""The test-kit: what ships passes, and every kind of fault is found."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from hrnet_jax import testing
from hrnet_jax.codecs import DarkCodec, HIHCodec, MsraCodec, OfficialCodec, UnbiasedCodec
from hrnet_jax.training.losses import LOSSES

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.parametrize(
    ("codec", "cells"),
    [
        (OfficialCodec(), 1.5),  # as published: from whole cells to whole pixels, in its own frame
        (UnbiasedCodec(), 1e-3),
        (DarkCodec(), 0.15),
        (MsraCodec(), 0.75),
        (HIHCodec(), 1.5),  # its decimal maps of 16 cells have 2 x 2,
    ],
)
def test_codecs_that_ship(codec, cells):
    testing.check_codec(codec, cells=cells)


def test_a_codec_of_other_outputs_than_its_targets():
    points, weights = testing._points()
    maps = UnbiasedCodec().encode(points, weights, testing.SIZE)

    @dataclasses.dataclass(frozen=True)
    class Points:
        encode = staticmethod(lambda points, weights, size: points)
        decode = staticmethod(UnbiasedCodec().decode)

    testing.check_codec(Points(), outputs=maps, cells=1e-3, told=False)
    with pytest.raises(AssertionError, match="cells away"):
        testing.check_codec(Points(), outputs=maps[:, ::-1], told=False)


@dataclasses.dataclass(frozen=True)
class Faulty:
    """A codec with one fault."""

    fault: str = ""

    def encode(self, points, weights, size):
        if self.fault == "neighbours":
            return points - points.mean(0)
        if self.fault == "order":
            return jnp.moveaxis(points, 0, 1)
        return points / jnp.where(self.fault == "finite", weights, 1.0)[..., None]

    def decode(self, outputs):
        scores = outputs[..., 0]
        if self.fault == "scores":
            return outputs, outputs
        return (outputs + (self.fault == "far")), scores


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("neighbours", "depends on other faces"),
        ("order", "the faces come first"),
        ("finite", "not finite"),
        ("scores", "decode gives scores"),
        ("far", "cells away"),
    ],
)
def test_a_codecs_faults(fault, message):
    testing.check_codec(Faulty())
    with pytest.raises(AssertionError, match=message):
        testing.check_codec(Faulty(fault))


@dataclasses.dataclass
class Unhashable:
    def encode(self, points, weights, size): ...


def test_a_codec_that_is_no_constant():
    with pytest.raises(TypeError, match="unhashable"):
        testing.check_codec(Unhashable())


@pytest.mark.parametrize("norm", ["group", "layer", "none"])
def test_norms_that_ship(norm):
    testing.check_norm(norm)


class AcrossFaces(nn.Module):
    """No normalisation for evaluation: it takes the others' mean."""

    @nn.compact
    def __call__(self, x):
        return x - x.mean(0) + self.param("bias", nn.initializers.zeros, (1,))


def test_a_norm_across_faces():
    with pytest.raises(AssertionError, match="depends on the others"):
        testing.check_norm(AcrossFaces)


@pytest.mark.parametrize("head", ["heatmap", "hih"])
def test_heads_that_ship(head):
    testing.check_head(head)


def example():
    points, weights = testing._points()
    targets = UnbiasedCodec().encode(points, weights, testing.SIZE)
    noise = np.random.default_rng(0).normal(0, 0.1, targets.shape).astype(np.float32)
    return targets + noise, {"targets": targets, "points": points, "weights": weights}


@pytest.mark.parametrize("name", ["mse", "masked_mse", "adaptive_wing"])
def test_losses_that_ship(name):
    testing.check_loss(LOSSES[name], *example(), masked=name != "mse")
    if name == "mse":
        with pytest.raises(AssertionError, match="weight 0 has a gradient"):
            testing.check_loss(LOSSES[name], *example(), masked=True)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda o, b: (jnp.square(o - b["targets"]), {}), "it is a scalar"),
        (lambda o, b: (jnp.sqrt(0 * o).sum(), {}), "gradient is not finite"),
        (lambda o, b: (o.sum(), {"map": o}), "the metric map"),
        (lambda o, b: (jnp.log(-o.max() - 9), {}), "the loss is nan"),
    ],
)
def test_a_losss_faults(loss, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_loss(loss, *example())
