"""The compiled training step."""

import jax
import optax

from hrnet_jax.models import normalise_images
from hrnet_jax.protocols import STRIDE
from hrnet_jax.training.losses import mean_squared_error
from hrnet_jax.training.state import TrainState


def make_train_step(model, codec, optimiser: optax.GradientTransformation, loss=mean_squared_error):
    """Returns the jitted `step(state, batch) -> (state, {"loss", "gradient_norm"})`.

    `batch` is that of `hrnet_jax.data.pipeline.TrainBatches`; target heatmaps are rendered here,
    on the device, from the points. `loss` is one of `hrnet_jax.training.losses`. With the batch
    sharded over a mesh and the state replicated, loss, gradients and batch statistics are those of
    the whole batch.
    """

    def step(state: TrainState, batch):
        images = normalise_images(batch["image"])

        def loss_fn(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            outputs, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
            targets = codec.encode(batch["points"], batch["weights"], images.shape[1] // STRIDE)
            return loss(outputs, targets), updates["batch_stats"]

        (value, batch_stats), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, {"loss": value, "gradient_norm": optax.tree.norm(gradients)}

    return jax.jit(step, donate_argnums=0)
