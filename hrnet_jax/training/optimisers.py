"""Optimisers and learning-rate schedules by name, and any of optax or the user's own.

An optimiser is `factory(learning_rate, **settings) -> optax.GradientTransformation`, where
`learning_rate` is a schedule. A schedule is `factory(**settings) -> (step -> rate)`. Both are given
the keys of `config.train` that their signatures name (`weight_decay`, say), and the arguments that
stand beside their name:

    config.train.optimiser = {"name": "optax:lion", "b1": 0.95}
    config.train.schedule = "my_package.schedules:cyclic"       # cyclic(learning_rate, total_steps)
"""

import inspect
from typing import Any

import optax

from hrnet_jax import parts
from hrnet_jax.errors import HRNetError


def adam(learning_rate, weight_decay=0.0, **settings):
    """Adam with PyTorch's defaults (betas 0.9 and 0.999, eps 1e-8 outside the root), or AdamW."""
    if weight_decay:
        return optax.adamw(learning_rate, weight_decay=weight_decay, **settings)
    return optax.adam(learning_rate, **settings)


def sgd(learning_rate, momentum=0.9, nesterov=False, weight_decay=0.0):
    """PyTorch's SGD: weight decay joins the gradient of every parameter, before the momentum."""
    descent = optax.sgd(learning_rate, momentum=momentum or None, nesterov=nesterov)
    if not weight_decay:
        return descent
    return optax.chain(optax.add_decayed_weights(weight_decay), descent)


def step_schedule(learning_rate, gamma, milestones, steps_per_epoch, warmup=0):
    """The official one: epoch e (0-based) has learning_rate * gamma ** (number of milestones <= e).

    As PyTorch <= 1.0 computed it.
    """
    boundaries = {epoch * steps_per_epoch - warmup: gamma for epoch in milestones}
    return optax.piecewise_constant_schedule(learning_rate, boundaries)


def cosine_schedule(learning_rate, total_steps, warmup=0):
    """Falls to 0 at the last step."""
    return optax.cosine_decay_schedule(learning_rate, max(total_steps - warmup, 1))


def constant_schedule(learning_rate):
    """Stays what it is."""
    return optax.constant_schedule(learning_rate)


OPTIMISERS = {"adam": adam, "adamw": optax.adamw, "sgd": sgd, "lamb": optax.lamb}
SCHEDULES = {"step": step_schedule, "cosine": cosine_schedule, "constant": constant_schedule}


def create_schedule(train, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
    """The schedule of `config.train`, by step. A warm-up takes the place of its first steps."""
    warmup = train.warmup_steps or round(train.warmup_epochs * steps_per_epoch)
    schedule = _build(
        train.schedule,
        "train.schedule",
        SCHEDULES,
        {
            **{key: train[key] for key in ("learning_rate", "gamma", "milestones")},
            "steps_per_epoch": steps_per_epoch,
            "total_steps": total_steps,
            "warmup": warmup,
        },
    )
    if not warmup:
        return schedule
    start = train.warmup_start * train.learning_rate
    ramp = optax.linear_schedule(start, train.learning_rate, warmup)
    return optax.join_schedules([ramp, schedule], [warmup])


def create_optimiser(
    train, steps_per_epoch: int, total_steps: int, optimiser=None
) -> optax.GradientTransformation:
    """The optimiser of `config.train`; `optimiser` (a transformation, or None) takes its place.

    HRNetError for a setting that the optimiser does not take.
    """
    if optimiser is None:
        settings = {key: train[key] for key in SETTINGS if train.get(key) is not None}
        rate = create_schedule(train, steps_per_epoch, total_steps)
        settings["learning_rate"] = rate
        given = [key for key in SETTINGS if train.get(key)]
        optimiser = _build(train.optimiser, "train.optimiser", OPTIMISERS, settings, needed=given)
    return optax.flatten(optimiser) if train.flatten_optimiser else optimiser


SETTINGS = ("weight_decay", "momentum", "nesterov")  # keys of `config.train`


def _build(spec, kind, table, given, needed=()) -> Any:
    """The part, called with those of `given` that its signature names and its spec does not."""
    part = parts.bind(spec, kind, table)
    known = inspect.signature(part).parameters
    for key in needed:
        if key not in known:
            raise HRNetError(
                f"{kind} {parts.describe(spec)!r} takes no {key}: set train.{key} to 0"
            )
    return parts.build(spec, kind, table, **parts.accepted(part, given))
