"""The work that is measured: one forward pass or one training step."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import hrnet_jax
from hrnet_jax.codecs import UnbiasedCodec
from hrnet_jax.models.cpu_conv import jit
from hrnet_jax.models.fold import fold
from hrnet_jax.protocols import STRIDE
from hrnet_jax.tasks.landmarks import prepare_landmarks
from hrnet_jax.training.losses import mean_squared_error
from hrnet_jax.training.state import create_state
from hrnet_jax.training.step import make_step

LANDMARKS = 98
MODES = ("forward", "folded", "train")


class Workload(NamedTuple):
    """`lowered` is ready to compile; `start(compiled)` gives the callable that does it once.

    That callable returns when the work is done.
    """

    lowered: jax.stages.Lowered
    start: Callable


def random_batch(count: int, size: int, landmarks: int) -> dict:
    """A batch as `hrnet_jax.data.pipeline.TrainBatches` makes them, of noise."""
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (count, size, size, 3), np.uint8),
        "points": rng.uniform(0, size / STRIDE, (count, landmarks, 2)).astype(np.float32),
        "weights": np.ones((count, landmarks), np.float32),
    }


def workload(mode, name, size, batch, dtype="float32", remat=False) -> Workload:
    """A forward pass on normalised images, or a training step (Adam) on uint8 images and points.

    "folded" is the forward pass with batch normalisation folded into the convolutions. The
    parameters are random and lie on the default device, as do the inputs.
    """
    model = hrnet_jax.create_model(name, LANDMARKS, dtype=dtype, init="kaiming", remat=remat)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    if mode != "train":
        if mode == "folded":
            model, variables = fold(model, variables)
        rng = np.random.default_rng(0)
        images = jnp.asarray(rng.normal(size=(batch, size, size, 3)), jnp.float32)
        lowered = jit(model.apply).lower(variables, images)
        return Workload(
            lowered, lambda compiled: lambda: jax.block_until_ready(compiled(variables, images))
        )

    optimiser = optax.adam(1e-4)
    data = jax.device_put(random_batch(batch, size, LANDMARKS))
    state = create_state(variables, optimiser)

    def start(compiled):
        def run():
            nonlocal state  # donated: the step overwrites it
            state, metrics = compiled(state, data)
            jax.block_until_ready(metrics)

        return run

    prepare = prepare_landmarks(UnbiasedCodec(1.5))
    pure = make_step(model, mean_squared_error, optimiser, prepare=prepare)
    step = jit(lambda state, batch: pure(state, batch, jax.random.key(0)), donate_argnums=0)
    return Workload(step.lower(state, data), start)
