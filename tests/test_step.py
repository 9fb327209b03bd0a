"""The training step with every codec and loss, on a network of two convolutions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hrnet_jax.codecs import DarkCodec, HIHCodec, MsraCodec, OfficialCodec, UnbiasedCodec
from hrnet_jax.codecs.hih import HIHMaps, decimal_size
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import get_scheme
from hrnet_jax.training.losses import get_loss
from hrnet_jax.training.state import create_state
from hrnet_jax.training.step import make_train_step

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
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (4, SIZE, SIZE, 3), np.uint8),
        "points": rng.uniform(0, SIZE // 4, (4, SCHEME.num_landmarks, 2)).astype(np.float32),
        "weights": rng.integers(0, 2, (4, SCHEME.num_landmarks)).astype(np.float32),
    }
    model = TwoConvolutions(isinstance(codec, HIHCodec))
    optimiser = optax.adam(1e-2)
    step = make_train_step(model, codec, optimiser, get_loss(loss, codec))
    variables = model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))
    state, losses = create_state(variables, optimiser), []
    for _ in range(10):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert np.isfinite(losses).all() and losses[-1] < 0.9 * losses[0]

    forward = make_forward(model, Protocol("float", codec, SIZE), SCHEME)
    points, scores = forward(state.variables, batch["image"])
    assert points.shape == (4, SCHEME.num_landmarks, 2) and scores.shape == points.shape[:2]
    assert np.isfinite(points).all()
