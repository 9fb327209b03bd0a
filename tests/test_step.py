"""The training step with every codec and loss, on a network of two convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hrnet_jax.codecs import DarkCodec, HIHCodec, MsraCodec, OfficialCodec, UnbiasedCodec
from hrnet_jax.codecs.hih import HIHMaps, decimal_size
from hrnet_jax.devices import Devices
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import get_scheme
from hrnet_jax.training.losses import get_loss
from hrnet_jax.training.parallel import call_counts, several_steps
from hrnet_jax.training.state import create_state
from tests.steps import landmark_step, pure_step, resident_feed

SIZE = 32  # pixels
SCHEME = get_scheme("aflw")


class TwoConvolutions(nn.Module):
    """Images (N, H, W, 3) to heatmaps (N, H/4, W/4, L), or to two stacks of them and decimals."""

    hih: bool

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(16, (4, 4), 4)(images)
        x = nn.relu(nn.BatchNorm(not train)(x))
        heatmaps = nn.Conv(SCHEME.num_landmarks, (1, 1))(x)
        if not self.hih:
            return heatmaps
        side = decimal_size(heatmaps.shape[1])
        decimals = jax.image.resize(heatmaps, (len(x), side, side, heatmaps.shape[-1]), "linear")
        return HIHMaps(jnp.stack([heatmaps, 2 * heatmaps], axis=1), decimals)


def random_batch(rng, size=4):
    return {
        "image": rng.integers(0, 256, (size, SIZE, SIZE, 3), np.uint8),
        "points": rng.uniform(0, SIZE // 4, (size, SCHEME.num_landmarks, 2)).astype(np.float32),
        "weights": rng.integers(0, 2, (size, SCHEME.num_landmarks)).astype(np.float32),
    }


@pytest.mark.parametrize(
    ("codec", "loss"),
    [
        (OfficialCodec(1.0), "mse"),
        (UnbiasedCodec(), "mse"),
        (MsraCodec(), "masked_mse"),
        (DarkCodec(), "adaptive_wing"),
        (HIHCodec(), "hih"),
    ],
)
def test_ten_steps_reduce_the_loss_and_give_points(codec, loss):
    batch = random_batch(np.random.default_rng(0))
    model = TwoConvolutions(isinstance(codec, HIHCodec))
    optimiser = optax.adam(1e-2)
    step = landmark_step(model, codec, optimiser, get_loss(loss, codec))
    variables = model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    state, losses = create_state(variables, optimiser), []
    for _ in range(10):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0]

    protocol = "official" if isinstance(codec, OfficialCodec) else "float"
    forward = make_forward(model, Protocol(protocol, codec, SIZE), SCHEME)
    points, scores = forward(state.variables, batch["image"])
    assert points.shape == (4, SCHEME.num_landmarks, 2) and scores.shape == points.shape[:2]
    assert np.isfinite(points).all()


def network_and_state(optimiser, ema=False):
    model = TwoConvolutions(False)
    variables = model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    return model, create_state(variables, optimiser, ema)


def assert_close(a, b, **tolerance):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, **tolerance)


def test_batches_made_in_the_step():
    """Data on the device, one step or several a call: as with batches given."""
    rng = np.random.default_rng(0)
    data = jax.tree.map(lambda *rows: np.stack(rows), *(random_batch(rng) for _ in range(5)))
    optimiser = optax.sgd(1e-2)  # Adam would amplify the rounding of gradients that are zero
    model, state = network_and_state(optimiser)
    step = landmark_step(model, UnbiasedCodec(), optimiser)
    for k in range(5):
        state, _ = step(state, jax.tree.map(lambda x, k=k: x[k], data))

    def prepare(data, step):
        return jax.tree.map(lambda x: x[step], data)

    resident = pure_step(model, UnbiasedCodec(), optimiser)
    for steps_per_call in (1, 3):
        call = several_steps(resident, resident_feed(prepare, Devices()), steps_per_call)
        _, other = network_and_state(optimiser)
        for count in call_counts(0, 5, 5, steps_per_call):
            other, metrics = call(other, jax.device_put(data), None, np.uint32(0), count)
        assert int(other.step) == 5
        assert_close(state, other, rtol=1e-5, atol=1e-6)
    assert metrics["loss"].shape == (2,)


def test_accumulated_gradients_and_moving_average():
    """Two halves in turn: the mean of their gradients, statistics of one after the other."""
    batch = random_batch(np.random.default_rng(0))
    optimiser = optax.sgd(0.1)
    model, state = network_and_state(optimiser, ema=True)
    start = jax.device_get(state)
    codec = UnbiasedCodec()
    options = {"accumulate": 2, "ema_decay": 0.5}
    state, metrics = landmark_step(model, codec, optimiser, **options)(state, batch)

    one = landmark_step(model, codec, optimiser)
    halves, batch_stats = [], start.batch_stats
    for part in (0, 1):
        half = jax.tree.map(lambda x, part=part: x[part::2], batch)
        given = start.replace(batch_stats=batch_stats, ema=None)
        moved, its_metrics = one(jax.device_put(given), half)
        batch_stats = jax.device_get(moved.batch_stats)
        halves.append((jax.device_get(moved.params), its_metrics["loss"]))
    params, loss = jax.tree.map(lambda a, b: (a + b) / 2, *halves)
    assert_close(state.params, params, rtol=1e-5, atol=1e-7)
    assert_close(state.batch_stats, batch_stats, rtol=1e-5, atol=1e-7)
    assert_close(metrics["loss"], loss, rtol=1e-5)
    # The decay of the first update is (1 + 0) / (10 + 0).
    now = {"params": state.params, "batch_stats": state.batch_stats}
    expected = jax.tree.map(lambda old, new: 0.1 * old + 0.9 * new, start.ema, now)
    assert_close(state.variables, expected, rtol=1e-5, atol=1e-7)
