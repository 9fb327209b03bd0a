"""The compiled training step."""

import jax
import jax.numpy as jnp
import optax

from hrnet_jax.devices import AXIS
from hrnet_jax.models import normalise_images
from hrnet_jax.models.cpu_conv import jit
from hrnet_jax.protocols import STRIDE
from hrnet_jax.training.losses import mean_squared_error
from hrnet_jax.training.parallel import per_device
from hrnet_jax.training.state import TrainState, update_average


def make_train_step(
    model,
    codec,
    optimiser: optax.GradientTransformation,
    loss=mean_squared_error,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    prepare=None,
    mesh: jax.sharding.Mesh | None = None,
    mode: str = "jit",
):
    """Returns the jitted `step(state, batch) -> (state, {"loss", "gradient_norm"})`.

    `batch` is that of `hrnet_jax.data.pipeline.TrainBatches`; target heatmaps are rendered here,
    on the device, from the points.

    Args:
      loss: one of `hrnet_jax.training.losses`.
      accumulate: the batch is taken in so many parts, one after the other, which saves memory: the
        gradient is that of the whole batch, BatchNorm sees (and updates its statistics by) a part.
      ema_decay: above zero, the state keeps a moving average of the variables.
      prepare: `prepare(data, step) -> batch`, traced into the step, which is then called as
        `step(state, data)`: data on the device become the global batch of step number `step`.
      mesh: the devices, in one axis "data"; the state lies on all of them, the batch is sharded.
      mode: "jit": loss, gradients and batch statistics are those of the whole batch. "pmap": every
        device normalises its part of the batch by that part's own statistics; kept is the mean over
        the devices of the updated running statistics.
    """
    own_statistics = mode == "pmap"

    def step(state: TrainState, batch):
        def loss_fn(params, batch_stats, part):
            images = normalise_images(part["image"])
            variables = {"params": params, "batch_stats": batch_stats}
            outputs, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
            targets = codec.encode(part["points"], part["weights"], images.shape[1] // STRIDE)
            result = loss(outputs, targets), updates["batch_stats"]
            # In here: averaging the gradients outside would give them devices times too large.
            return jax.lax.pmean(result, AXIS) if own_statistics else result

        gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
        if accumulate > 1:
            gradient_fn = accumulated(gradient_fn, accumulate)
        (value, batch_stats), gradients = gradient_fn(state.params, state.batch_stats, batch)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=update_average(state, params, batch_stats, ema_decay) if ema_decay else None,
        )
        return state, {"loss": value, "gradient_norm": optax.tree.norm(gradients)}

    if own_statistics:
        step = per_device(step, mesh)
    if prepare:
        step = prepared(step, prepare, mesh)
    return jit(step, donate_argnums=0)


def prepared(step, prepare, mesh):
    """The step with its batch made from data on the device."""

    def with_batch(state, data):
        batch = prepare(data, state.step)
        if mesh is not None:
            sharding = jax.NamedSharding(mesh, jax.P(AXIS))
            batch = jax.lax.with_sharding_constraint(batch, sharding)
        return step(state, batch)

    return with_batch


def accumulated(gradient_fn, parts: int):
    """`gradient_fn` over `parts` of the batch in turn: mean loss and gradients, last statistics.

    Part k has the rows k, k + parts, …: every device keeps its own rows.
    """

    def total(params, batch_stats, batch):
        def add(carry, part):
            # A part starts when the one before it is done, so that one's memory serves all.
            _, part = jax.lax.optimization_barrier((carry, part))
            batch_stats, sums = carry
            (value, batch_stats), gradients = gradient_fn(params, batch_stats, part)
            return (batch_stats, jax.tree.map(jnp.add, sums, (value, gradients))), None

        def split(x):
            return x.reshape(len(x) // parts, parts, *x.shape[1:]).swapaxes(0, 1)

        split_batch = jax.tree.map(split, batch)
        part = jax.tree.map(lambda x: x[0], split_batch)
        (value, _), gradients = jax.eval_shape(gradient_fn, params, batch_stats, part)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (value, gradients))
        # Of a loop's body XLA makes code for CPUs that takes six times as long: no loop there.
        unroll = jax.default_backend() == "cpu"
        (batch_stats, sums), _ = jax.lax.scan(add, (batch_stats, zeros), split_batch, unroll=unroll)
        value, gradients = jax.tree.map(lambda x: x / parts, sums)
        return (value, batch_stats), gradients

    return total
