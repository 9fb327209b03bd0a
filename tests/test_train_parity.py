"""Training is PyTorch's training: ten float64 steps of the official network and Adam."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hrnet_jax
from hrnet_jax.models.layers import PIXEL_MEAN, PIXEL_STD
from hrnet_jax.models.variants import get_variant
from hrnet_jax.torch_weights import convert, names
from hrnet_jax.training.state import create_state
from tests.seeded import seeded_array, seeded_image
from tests.steps import landmark_step

DATA = "train_face_w18_29.npz"


class GivenTargets:
    """Stands in for a codec: the reference run had random heatmaps as targets."""

    def encode(self, points, weights, size):
        return points


def keep_gradients(optimiser):
    """The optimiser, with the last gradients kept in its state."""

    def update(gradients, state, params):
        updates, inner = optimiser.update(gradients, state[0], params)
        return updates, (inner, gradients)

    return optax.GradientTransformation(
        lambda params: (optimiser.init(params), jax.tree.map(jnp.zeros_like, params)), update
    )


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def test_ten_steps_match_pytorch(x64, data_dir):
    expected = np.load(data_dir / DATA)
    table = names.face_table(get_variant("w18"), 29)
    torch_weights = {entry.name: seeded_array(entry.name, entry.shape, "a") for entry in table}
    variables = convert.to_flax(torch_weights, table)
    variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), variables)

    network_input = seeded_image((4, 3, 64, 64), "a").astype(np.float64).transpose(0, 2, 3, 1)
    images = (network_input * np.array(PIXEL_STD) + np.array(PIXEL_MEAN)) * 255
    rng = np.random.default_rng(zlib.crc32(b"a/target"))
    targets = rng.uniform(0, 1, (4, 29, 16, 16)).astype(np.float32).astype(np.float64)
    targets = targets.transpose(0, 2, 3, 1)
    batch = {"image": jnp.asarray(images), "points": jnp.asarray(targets), "weights": None}

    model = hrnet_jax.create_model("hrnetv2_w18", 29, dtype=jnp.float64)
    optimiser = keep_gradients(optax.adam(1e-4))
    step = landmark_step(model, GivenTargets(), optimiser)
    state = create_state(variables, optimiser)
    losses = []
    for i in range(10):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
        if i == 0:
            gradients = jax.device_get(state.opt_state[1])
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-9)

    paths = {entry.name: entry.path for entry in table}
    for name, norm in zip(expected["grad_norm_names"], expected["grad_norms_step0"], strict=True):
        if name == "head.0.bias":  # batch normalisation follows: exactly zero but for rounding
            continue
        leaf = gradients
        for key in paths[str(name)][1:]:
            leaf = leaf[key]
        np.testing.assert_allclose(np.linalg.norm(leaf), norm, rtol=1e-8, err_msg=str(name))

    final = convert.to_torch(jax.device_get(state.variables), table)
    for key in expected.files:
        if key.startswith("final/"):
            np.testing.assert_allclose(final[key.removeprefix("final/")], expected[key], rtol=1e-6)
    with jax.default_matmul_precision("highest"):
        output = model.apply(state.variables, jnp.asarray(network_input))
    output = np.asarray(output).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(output, expected["eval_output_after"], rtol=0, atol=1e-4)
