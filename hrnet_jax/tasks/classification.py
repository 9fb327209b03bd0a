"""Training a classifier from a config: one function that reads from top to bottom."""

import contextlib
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import optax

import hrnet_jax
from hrnet_jax.checkpoints.training import TrainCheckpoints
from hrnet_jax.config import plain
from hrnet_jax.data.pictures import TrainBatches, find_classes, open_split
from hrnet_jax.data.pipeline import iterate_threads
from hrnet_jax.data.preprocessing import Preprocessing, RandomCrop
from hrnet_jax.devices import Devices
from hrnet_jax.errors import HRNetError, Stopped
from hrnet_jax.evaluation.classification import accuracy, classify_pictures, make_classify
from hrnet_jax.files import as_path
from hrnet_jax.models import normalise_images
from hrnet_jax.models.cpu_conv import jit
from hrnet_jax.tasks import classification_config as classification_config
from hrnet_jax.training.logs import Logs
from hrnet_jax.training.loop import check_finite
from hrnet_jax.training.parallel import Preemption
from hrnet_jax.training.state import TrainState, create_state, learning_rate
from hrnet_jax.training.workdir import claim_workdir, locked

METRIC = "top1_error"  # of the best checkpoint, in percent


def train(config, workdir: str | Path) -> dict:
    """Trains, evaluates and checkpoints in `workdir`; goes on where an earlier run there stopped.

    Args:
      config: attributes as in `hrnet_jax.tasks.classification_config.default_config`.
      workdir: a folder, made if needed. HRNetError if it belongs to another config.

    Returns:
      {"step", "top1"} of the best checkpoint, top-1 accuracy in percent of the validation split.

    The same config gives the same bits on one machine, also across a restart from any point. On
    SIGTERM the state is saved after the next step and `Stopped` raised.
    """
    # ---- data
    workdir = as_path(workdir)
    check_numbers(config)
    devices = Devices()
    classes = find_classes(config.data)
    if len(classes) != config.model.num_classes:
        raise HRNetError(
            f"the training data have {len(classes)} classes, model.num_classes is "
            f"{config.model.num_classes}: set --config.model.num_classes={len(classes)}"
        )
    pictures, valid_pictures = (
        open_split(config.data, split, classes, len(classes)) for split in ("train", "valid")
    )
    preprocessing = Preprocessing(**plain(config.preprocessing))
    augmentation = RandomCrop(**plain(config.augment))
    size = config.train.batch_size
    batches = TrainBatches(
        pictures, preprocessing, augmentation, size, config.seed, config.train.drop_last
    )
    check_batches(batches, devices.count)
    steps_per_epoch = batches.steps_per_epoch
    total_steps = config.train.epochs * steps_per_epoch

    # ---- network and optimiser
    model = hrnet_jax.create_model(
        config.model.name,
        num_classes=len(classes),
        dtype=jnp.dtype(config.model.dtype),
        remat=config.model.remat,
    )
    classify = make_classify(model)
    optimiser = create_optimiser(config, steps_per_epoch)
    train_step = make_train_step(model, optimiser)

    with contextlib.ExitStack() as closing:
        # ---- a fresh state, or that of the latest checkpoint
        preemption = closing.enter_context(Preemption())
        closing.enter_context(locked(workdir))
        claim_workdir(workdir, config, classification_config.default_config())
        side = preprocessing.input_size
        variables = model.init(jax.random.key(config.seed), jnp.zeros((1, side, side, 3)))
        state = devices.replicate(create_state(variables, optimiser))
        metadata = run_metadata(config, classes, preprocessing, len(pictures))
        checkpoints = TrainCheckpoints(workdir, metadata, METRIC)
        closing.callback(checkpoints.close)
        if checkpoints.latest_step is not None:
            state = checkpoints.load(checkpoints.latest_step, like=state)
        first_step = int(state.step)
        best = checkpoints.best()
        logs = closing.enter_context(contextlib.closing(Logs(workdir, first_step, total_steps)))
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        logs.say(f"{config.model.name}: {count:,} parameters, {len(classes)} classes")
        logs.say(f"{len(pictures)} training and {len(valid_pictures)} validation pictures")
        if first_step:
            logs.say(f"going on from step {first_step} of {total_steps} in {workdir}")

        # ---- loop
        unchecked, since, images = [], time.perf_counter(), 0
        ahead = iterate_threads(batches, first_step, total_steps, config.data.workers)
        for step, batch in enumerate(ahead, start=first_step + 1):
            state, metrics = train_step(state, devices.split(batch))
            unchecked.append(metrics)
            images += len(batch["label"])
            epoch, in_epoch = divmod(step, steps_per_epoch)
            epoch_ends, last = in_epoch == 0, step == total_steps
            stop = preemption.requested() and not last

            if step % config.train.log_every == 0 or epoch_ends or stop:
                metrics = check_finite(unchecked, step)
                rate = images / (time.perf_counter() - since)
                unchecked, since, images = [], time.perf_counter(), 0
                logs.write(step, **metrics, images_per_second=rate)
                progress = f"{math.ceil(step / steps_per_epoch)}/{config.train.epochs}"
                loss = f"{metrics['loss']:.3g}"
                logs.show(step, epoch=progress, loss=loss, images=f"{rate:.0f}/s")

            is_best, error = False, None
            if epoch_ends and (epoch % config.train.eval_epochs == 0 or last):
                found = classify_pictures(
                    classify,
                    state.variables,
                    valid_pictures,
                    preprocessing,
                    config.eval.batch_size,
                    config.data.workers,
                )
                scores = accuracy(found["label"], found["class"])
                error = 100 - scores["top1"]
                is_best = best is None or error < best[1]
                best = (step, error) if is_best else best
                logs.write(step, epoch=epoch, **scores)
                logs.show(step, top1=f"{scores['top1']:.2f} % (best {100 - best[1]:.2f})")
                since = time.perf_counter()
            due = epoch_ends and (epoch % config.train.checkpoint_epochs == 0 or last)
            if due or is_best or stop:
                checkpoints.save(state, error)
                since = time.perf_counter()
            if stop:
                raise Stopped(f"SIGTERM: saved step {step} of {total_steps} in {workdir}")
    return {"step": best[0], "top1": 100 - best[1]}


def make_train_step(model, optimiser: optax.GradientTransformation):
    """Returns the jitted `step(state, batch) -> (state, {"loss", "gradient_norm"})`.

    The loss is the mean cross entropy. With the batch sharded over a mesh and the state replicated,
    loss, gradients and batch statistics are those of the whole batch.
    """

    def step(state: TrainState, batch):
        images = normalise_images(batch["image"])

        def loss_fn(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
            return losses.mean(), updates["batch_stats"]

        (loss, batch_stats), gradients = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
        state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        )
        return state, {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}

    return jit(step, donate_argnums=0)


def create_optimiser(config, steps_per_epoch: int) -> optax.GradientTransformation:
    """PyTorch's SGD: weight decay joins the gradient of every parameter, before the momentum."""
    train = config.train
    rate = learning_rate(config, steps_per_epoch)
    sgd = optax.sgd(rate, momentum=train.momentum, nesterov=train.nesterov)
    return optax.chain(optax.add_decayed_weights(train.weight_decay), sgd)


def check_numbers(config) -> None:
    """HRNetError for a number of the config that makes no sense."""
    above_zero = ("epochs", "batch_size", "learning_rate", "log_every")
    keys = (*above_zero, "checkpoint_epochs", "eval_epochs")
    values = {f"train.{key}": config.train[key] for key in keys}
    values |= {"eval.batch_size": config.eval.batch_size}
    values |= {"model.num_classes": config.model.num_classes}
    for key, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise HRNetError(f"{key} = {value}: it must be above zero")
    if not 0 <= config.train.momentum < 1:
        raise HRNetError(f"train.momentum = {config.train.momentum}: give 0 … 1, without 1")
    if config.train.weight_decay < 0 or config.data.workers < 0:
        raise HRNetError("train.weight_decay and data.workers cannot be below zero")
    if not 0 <= config.seed < 2**32:
        raise HRNetError(f"seed = {config.seed}: it must lie between 0 and 2**32 - 1")
    if config.model.dtype not in ("float32", "bfloat16"):
        raise HRNetError(f"model.dtype {config.model.dtype!r}: choose float32 or bfloat16")


def check_batches(batches: TrainBatches, devices: int) -> None:
    """HRNetError for a batch size that the data or the devices cannot take."""
    size, count = batches.batch_size, len(batches.pictures)
    if size > count and batches.drop_last:
        raise HRNetError(f"train.batch_size = {size} with {count} pictures leaves no batch")
    if size % devices or (count % size % devices and not batches.drop_last):
        raise HRNetError(
            f"train.batch_size = {size} ({count % size} in the last batch) is not a multiple of "
            f"the {devices} devices: change it, and set train.drop_last=True"
        )


def run_metadata(config, classes: list[str], preprocessing: Preprocessing, count: int) -> dict:
    """What `hrnet_jax.load` tells about a checkpoint of this run."""
    return {
        "format": 1,
        "model": {"name": config.model.name, "num_classes": len(classes)},
        "scheme": None,
        "protocol": preprocessing.to_dict(),
        "classes": classes,
        "provenance": {
            "kind": "trained with hrnet_jax",
            "data": f"{config.data.source} {config.data.train}",
            "training_pictures": count,
            "metric": METRIC,
            "config": plain(config),
        },
        "version": hrnet_jax.__version__,
    }
