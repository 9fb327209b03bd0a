"""Training steps on landmarks, compiled, for tests that give the batches themselves."""

import types

import jax

from hrnet_jax.models.cpu_conv import jit
from hrnet_jax.tasks.landmarks import prepare_landmarks
from hrnet_jax.training.feeds import ResidentFeed
from hrnet_jax.training.losses import mean_squared_error
from hrnet_jax.training.step import make_step


def pure_step(model, codec, optimiser, loss=mean_squared_error, **options):
    return make_step(model, loss, optimiser, prepare=prepare_landmarks(codec), **options)


def landmark_step(*args, **options):
    """`step(state, batch) -> (state, metrics)`, jitted; the state is donated."""
    step = pure_step(*args, **options)
    return jit(lambda state, batch: step(state, batch, jax.random.key(0)), donate_argnums=0)


def resident_feed(make, devices):
    """A feed whose batches are `make(resident, step)`, on the devices."""
    batches = types.SimpleNamespace(batch=make, cache=None, batch_size=4, steps_per_epoch=5)
    return ResidentFeed(batches, devices)
