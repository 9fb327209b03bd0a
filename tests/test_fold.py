"""Folded networks give the same outputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hrnet_jax
from hrnet_jax.models.fold import fold
from tests import tiny


def random_variables(model, images):
    """Variables far from their initial values, where scale is 1 and every bias 0."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        low, high = (0.5, 1.5) if path[-1].key in ("scale", "var") else (-0.5, 0.5)
        return jnp.asarray(rng.uniform(low, high, leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.mark.parametrize(
    ("name", "outputs"),
    [(tiny.MODEL, {"num_landmarks": 5}), (tiny.HOURGLASS, {"num_landmarks": 5})],
)
def test_folded_network_gives_the_same_outputs(name, outputs):
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 64, 64, 3)), jnp.float32)
    model = hrnet_jax.create_model(name, **outputs)
    variables = random_variables(model, images)
    folded, folded_variables = fold(model, variables)
    assert set(folded_variables) == {"params"}
    with jax.default_matmul_precision("highest"):
        expected = jax.tree.leaves(jax.jit(model.apply)(variables, images))
        found = jax.tree.leaves(jax.jit(folded.apply)(folded_variables, images))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-5 * np.abs(a).max())


def test_another_normalisation_stays():
    norm = functools.partial(jax.tree_util.Partial)
    model = hrnet_jax.create_model(tiny.MODEL, 5, norm=norm)
    variables = {"params": {}}
    assert fold(model, variables) == (model, variables)
