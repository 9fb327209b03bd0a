"""One training step, as a pure function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hrnet_jax.devices import AXIS, backend
from hrnet_jax.training.parallel import per_device
from hrnet_jax.training.state import TrainState, update_average

COLLECTIONS = ("batch_stats", "losses")  # what a network may change or sow in training


def make_step(
    model,
    loss: Callable,
    optimiser: optax.GradientTransformation,
    *,
    prepare: Callable = lambda batch: batch,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    mesh: jax.sharding.Mesh | None = None,
    mode: str = "jit",
) -> Callable:
    """Returns `step(state, batch, rng) -> (state, metrics)`.

    It is not compiled and has no effects: `jax.jit`, `lax.scan`, `vmap` and `shard_map` take it
    (`hrnet_jax.models.cpu_conv.jit` compiles it well on CPUs). `metrics` has "loss",
    "gradient_norm" and what the loss tells, scalars.

    Args:
      model: a Linen module, called with `batch["input"]` and `train=True`. What it sows into the
        collection "losses" is added to the loss; `rng` feeds its dropout.
      loss: `loss(outputs, batch) -> (scalar, metrics)`, as in `hrnet_jax.training.losses`.
      prepare: `prepare(batch) -> batch`, with the key "input" and what the loss wants: targets,
        say. On the device, for each part of an accumulated batch by itself.
      accumulate: the batch is taken in so many parts, one after the other, which saves memory: the
        gradient is that of the whole batch, BatchNorm sees (and updates its statistics by) a part.
      ema_decay: above zero, the state keeps a moving average of the variables.
      mesh: of `mode` "pmap": the devices, in one axis "data".
      mode: "jit": with the batch sharded over devices, loss, gradients and batch statistics are
        those of the whole batch. "pmap": every device normalises its part of the batch by that
        part's own statistics; kept is the mean over the devices of the updated running statistics.

    The step's `rng` is one key for the whole run: step number and device are folded into it.
    """
    own_statistics = mode == "pmap"

    def loss_fn(params, batch_stats, part, rng):
        part = prepare(part)
        outputs, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            part["input"],
            train=True,
            mutable=COLLECTIONS,
            rngs={"dropout": rng},
        )
        value, metrics = loss(outputs, part)
        value += sum(jnp.sum(leaf) for leaf in jax.tree.leaves(updates.get("losses", {})))
        result = value, (updates.get("batch_stats", {}), metrics)
        # In here: averaging the gradients outside would give them devices times too large.
        return jax.lax.pmean(result, AXIS) if own_statistics else result

    def step(state: TrainState, batch, rng):
        rng = jax.random.fold_in(rng, state.step)
        if own_statistics:
            rng = jax.random.fold_in(rng, jax.lax.axis_index(AXIS))
        gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
        if accumulate > 1:
            gradient_fn = accumulated(gradient_fn, accumulate)
        (value, (batch_stats, metrics)), gradients = gradient_fn(
            state.params, state.batch_stats, batch, rng
        )
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        params: Any = optax.apply_updates(state.params, updates)
        state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=update_average(state, params, batch_stats, ema_decay) if ema_decay else None,
        )
        return state, metrics | {"loss": value, "gradient_norm": optax.tree.norm(gradients)}

    return step if mesh is None or not own_statistics else per_device(step, mesh)


def accumulated(gradient_fn, parts: int):
    """`gradient_fn` over `parts` of the batch in turn: mean loss, metrics, gradients.

    The statistics are those after the last part. Part k has the rows k, k + parts, …: every device
    keeps its own rows.
    """

    def total(params, batch_stats, batch, rng):
        def add(carry, numbered):
            # A part starts when the one before it is done, so that one's memory serves all.
            _, (number, part) = jax.lax.optimization_barrier((carry, numbered))
            batch_stats, sums = carry
            (value, (batch_stats, metrics)), gradients = gradient_fn(
                params, batch_stats, part, jax.random.fold_in(rng, number)
            )
            return (batch_stats, jax.tree.map(jnp.add, sums, (value, metrics, gradients))), None

        def split(x):
            return x.reshape(len(x) // parts, parts, *x.shape[1:]).swapaxes(0, 1)

        split_batch = jax.tree.map(split, batch)
        part = jax.tree.map(lambda x: x[0], split_batch)
        (value, (_, metrics)), gradients = jax.eval_shape(
            gradient_fn, params, batch_stats, part, rng
        )
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (value, metrics, gradients))
        # Of a loop's body XLA makes code for CPUs that takes six times as long: no loop there.
        unroll = backend() == "cpu"
        (batch_stats, sums), _ = jax.lax.scan(
            add, (batch_stats, zeros), (jnp.arange(parts), split_batch), unroll=unroll
        )
        value, metrics, gradients = jax.tree.map(lambda x: x / parts, sums)
        return (value, (batch_stats, metrics)), gradients

    return total
