"""What a training run carries from step to step, and the optimiser."""

import flax.struct
import jax
import jax.numpy as jnp
import optax

from hrnet_jax.errors import HRNetError


@flax.struct.dataclass
class TrainState:
    """step: int32 scalar, the number of updates done; the rest are Flax and optax trees.

    `ema` is the moving average of {"params", "batch_stats"}, None in a run that keeps none.
    """

    step: jax.Array
    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    ema: dict | None = None

    @property
    def variables(self) -> dict:
        """What evaluation and export use: the moving average where there is one."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}


def create_state(
    variables: dict, optimiser: optax.GradientTransformation, ema: bool = False
) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimiser.init(variables["params"]),
        # Copies: a jitted step that is given its state to overwrite cannot be given a leaf twice.
        ema=jax.tree.map(jnp.copy, dict(variables)) if ema else None,
    )


def update_average(state: TrainState, params: dict, batch_stats: dict, decay: float) -> dict:
    """The moving average after an update to `params` and `batch_stats`.

    The decay of update t (from 0) is min(decay, (1 + t) / (10 + t)), as TensorFlow's
    ExponentialMovingAverage: the initial values are soon forgotten. Running statistics are averaged
    like the parameters they belong to.
    """
    t = state.step.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + t) / (10 + t))
    now = {"params": params, "batch_stats": batch_stats}
    return jax.tree.map(
        lambda old, new: old + ((1 - keep) * (new - old)).astype(old.dtype), state.ema, now
    )


def learning_rate(config, steps_per_epoch: int) -> optax.Schedule:
    """The schedule of `config.train`, by step.

    "step" is the official one: epoch e (0-based) has learning_rate * gamma ** (number of milestones
    <= e), as PyTorch <= 1.0 computed it. "cosine" falls to 0 at the last step.
    A warm-up takes the place of the schedule's first steps.
    """
    train = config.train
    warmup = train.warmup_steps or round(train.warmup_epochs * steps_per_epoch)
    if train.schedule == "step":
        boundaries = {epoch * steps_per_epoch - warmup: train.gamma for epoch in train.milestones}
        schedule = optax.piecewise_constant_schedule(train.learning_rate, boundaries)
    elif train.schedule == "cosine":
        steps = max(train.epochs * steps_per_epoch - warmup, 1)
        schedule = optax.cosine_decay_schedule(train.learning_rate, steps)
    else:
        raise HRNetError(f"unknown train.schedule {train.schedule!r}: choose 'step' or 'cosine'")
    if not warmup:
        return schedule
    start = train.warmup_start * train.learning_rate
    ramp = optax.linear_schedule(start, train.learning_rate, warmup)
    return optax.join_schedules([ramp, schedule], [warmup])


def create_optimiser(config, steps_per_epoch: int) -> optax.GradientTransformation:
    """Adam with PyTorch's defaults (betas 0.9 and 0.999, eps 1e-8 outside the root), or AdamW."""
    schedule = learning_rate(config, steps_per_epoch)
    if config.train.weight_decay:
        optimiser = optax.adamw(schedule, weight_decay=config.train.weight_decay)
    else:
        optimiser = optax.adam(schedule)
    return optax.flatten(optimiser) if config.train.flatten_optimiser else optimiser
