"""Many devices: one mesh axis, a program per device, and several steps in one call."""

import jax

AXIS = "data"


def per_device(step, mesh: jax.sharding.Mesh):
    """`step(state, batch)` as one program on each device, with its rows of the batch.

    The state lies on every device; what the step returns must be equal on all of them.
    """
    return jax.shard_map(
        step, mesh=mesh, in_specs=(jax.P(), jax.P(AXIS)), out_specs=(jax.P(), jax.P())
    )


def several_steps(step, steps_per_call: int, resident: bool = False):
    """Returns `call(state, data, count) -> (state, metrics)`: `count` steps in one dispatch.

    With `steps_per_call` 1, `count` is 1 and the call is the step. Above, `data` holds `count`
    batches along a new first axis, and so do the metrics; with `resident`, `data` lie on the device
    and serve every step.
    """
    if steps_per_call == 1:
        return lambda state, data, count: step(state, data)

    def steps(state, data, count):
        if resident:
            return jax.lax.scan(lambda state, _: step(state, data), state, length=count)
        return jax.lax.scan(step, state, data, length=count)

    return jax.jit(steps, donate_argnums=0, static_argnums=2)


def call_counts(first_step: int, total_steps: int, steps_per_epoch: int, steps_per_call: int):
    """Yields how many steps each call makes: all of `steps_per_call` that fit into the epoch.

    The calls of an epoch start at the same steps wherever the run was stopped.
    """
    step = first_step
    while step < total_steps:
        position = step % steps_per_epoch
        count = min(steps_per_call - position % steps_per_call, steps_per_epoch - position)
        yield count
        step += count
