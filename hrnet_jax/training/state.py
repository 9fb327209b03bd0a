"""What a training run carries from step to step."""

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """step: int32 scalar, the number of updates done; the rest are Flax and optax trees.

    `batch_stats` is empty for a network without batch normalisation.
    `ema` is the moving average of {"params", "batch_stats"}, None in a run that keeps none.
    """

    step: jax.Array
    params: optax.Params
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
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimiser.init(variables["params"]),
        # Copies: a jitted step that is given its state to overwrite cannot be given a leaf twice.
        ema=jax.tree.map(jnp.copy, _kept(variables)) if ema else None,
    )


def _kept(variables):
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def update_average(
    state: TrainState, params: optax.Params, batch_stats: dict, decay: float
) -> dict:
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
