"""What every task checks and reads in its config."""

import math

import jax
import jax.numpy as jnp

from hrnet_jax import parts
from hrnet_jax.config import plain
from hrnet_jax.devices import is_first_process
from hrnet_jax.errors import HRNetError
from hrnet_jax.training.parallel import MODES


def check_numbers(config) -> None:
    """HRNetError for a number of `config.train`, `config.eval` or the seed that makes no sense."""
    train = config.train
    positive = ("epochs", "batch_size", "learning_rate", "checkpoint_epochs", "eval_epochs")
    positive += ("accumulate", "steps_per_call", "log_every")
    values = {f"train.{key}": train[key] for key in positive}
    for key, value in (values | {"eval.batch_size": config.eval.batch_size}).items():
        if not (math.isfinite(value) and value > 0):
            raise HRNetError(f"{key} = {value}: it must be above zero")
    counts = {f"train.{key}": train[key] for key in ("max_steps", "profile_steps", "weight_decay")}
    for key, value in (counts | {"data.workers": config.data.workers}).items():
        if not (math.isfinite(value) and value >= 0):
            raise HRNetError(f"{key} = {value}: it cannot be below zero")
    if not 0 <= train.warmup_epochs <= train.epochs:
        raise HRNetError(
            f"train.warmup_epochs = {train.warmup_epochs}: it must lie between 0 and "
            f"train.epochs = {train.epochs}"
        )
    for key in ("ema_decay", "momentum"):
        if (value := train.get(key)) is not None and not 0 <= value < 1:
            raise HRNetError(f"train.{key} = {value}: it must lie between 0 and 1, without 1")
    if config.parallel.mode not in MODES:
        raise HRNetError(f"unknown parallel.mode {config.parallel.mode!r}: choose jit or pmap")
    if not 0 <= config.seed < 2**32:
        raise HRNetError(f"seed = {config.seed}: it must lie between 0 and 2**32 - 1")


def check_batches(train, count: int, devices: int, what: str) -> None:
    """HRNetError for a batch size that the data, the devices or `config.train` cannot take.

    `count`: samples in the training data; `what` they are, in words.
    """
    size = train.batch_size
    last = 0 if train.drop_last else count % size
    if size > count and train.drop_last:
        raise HRNetError(f"train.batch_size = {size} with {count} {what} leaves no batch")
    split = devices * train.accumulate
    if size % split or last % split:
        times = f" times train.accumulate = {train.accumulate}" if train.accumulate > 1 else ""
        advice = "change it" if size % split else "set train.drop_last=True, or change it"
        raise HRNetError(
            f"train.batch_size = {size} ({last or 'none'} left for a last batch) is not a multiple "
            f"of the {devices} devices{times}: {advice}"
        )
    if train.steps_per_call > 1 and last:
        raise HRNetError(
            f"train.steps_per_call = {train.steps_per_call} needs batches of one size, and the "
            f"last of an epoch has {last} {what}: set train.drop_last=True"
        )


def compute_dtype(config) -> jnp.dtype:
    """That of `config.model`."""
    name = config.model.dtype
    if name not in ("float32", "bfloat16", "float64"):
        raise HRNetError(f"unknown model.dtype {name!r}: choose float32, bfloat16 or float64")
    if name == "float64" and not jax.config.read("jax_enable_x64"):
        raise HRNetError("model.dtype = float64 needs the environment variable JAX_ENABLE_X64=1")
    return jnp.dtype(name)


def open_loggers(config) -> list:
    """The objects of `config.train.loggers`, each with `write(step, **values)` and `close()`.

    None but in the first process of a job, which alone logs.
    """
    if not is_first_process():
        return []
    return [
        open_part(spec, "train.loggers", config, ("write", "close"))
        for spec in plain(config)["train"]["loggers"]
    ]


def open_part(spec, key: str, config, needed: tuple[str, ...]):
    """The user's own object that `config` names under `key`, given the config if it takes it.

    HRNetError if it lacks one of the attributes `needed`.
    """
    part = parts.bind(spec, key, {})
    made = parts.build(spec, key, {}, **parts.accepted(part, {"config": config}))
    lacking = [name for name in needed if not hasattr(made, name)]
    if lacking:
        raise HRNetError(f"{key}: {parts.describe(spec)!r} has no {', '.join(lacking)}")
    return made
