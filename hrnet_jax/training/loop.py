"""Training from a config: one function that reads from top to bottom."""

import contextlib
import functools
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import hrnet_jax
from hrnet_jax.checkpoints.training import TrainCheckpoints
from hrnet_jax.config import plain
from hrnet_jax.data import pipeline
from hrnet_jax.data.device import DeviceBatches
from hrnet_jax.data.sources import describe_split, open_split
from hrnet_jax.devices import Devices, is_first_process
from hrnet_jax.errors import HRNetError, Stopped
from hrnet_jax.evaluation.baseline import mean_shape_nme
from hrnet_jax.evaluation.landmarks import predict_records
from hrnet_jax.evaluation.scoring import nme_of_records
from hrnet_jax.files import as_path
from hrnet_jax.images.augment import Augmentation
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.models import model_head
from hrnet_jax.models.layers import BatchNorm
from hrnet_jax.models.variants import get_variant
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import SCHEMES, get_scheme
from hrnet_jax.schemes.files import describe as describe_scheme
from hrnet_jax.torch_weights.convert import load_backbone
from hrnet_jax.training import state as train_state
from hrnet_jax.training.logs import open_logs
from hrnet_jax.training.losses import get_loss
from hrnet_jax.training.parallel import MODES, Preemption, call_counts, feed, several_steps
from hrnet_jax.training.step import make_train_step
from hrnet_jax.training.workdir import claim_workdir, locked


def train(config, workdir: str | Path) -> dict:
    """Trains, evaluates and checkpoints in `workdir`; goes on where an earlier run there stopped.

    Args:
      config: attributes as in `hrnet_jax.config.default_config`.
      workdir: a folder, made if needed. HRNetError if it belongs to another config.

    Returns:
      {"step", "nme"} of the best checkpoint, NME in percent of the validation split.

    The same config gives the same bits on one machine, also across a restart from any point; on
    other devices the same but for rounding. After `start_processes` every process of the job calls
    this with the same arguments and a `workdir` that all of them see. On SIGTERM the state is saved
    after the next step and `Stopped` raised.
    """
    # ---- what to do
    workdir = as_path(workdir)
    scheme = get_scheme(config.scheme)
    protocol = Protocol.from_dict(plain(config.protocol))
    check_numbers(config)
    devices = Devices()

    # ---- data
    train_records = open_split(config.data, scheme, "train", config.seed)
    valid_records = open_split(config.data, scheme, "valid", config.seed)
    batches = open_batches(config, train_records, protocol, scheme, devices)
    resident = isinstance(batches, DeviceBatches)
    loader, by = pipeline.choose_loader("threads" if resident else config.data.loader)
    check_batches(config.train, batches, devices.count)
    steps_per_epoch = batches.steps_per_epoch
    total_steps = config.train.epochs * steps_per_epoch
    steps_per_call = config.train.steps_per_call

    # ---- network, optimiser and step
    model = build_model(config, scheme)
    forward = make_forward(model, protocol, scheme)
    optimiser = train_state.create_optimiser(config, steps_per_epoch)
    prepare = batches.batch if resident else None
    train_steps = build_steps(config, model, protocol, optimiser, devices, prepare)

    with contextlib.ExitStack() as closing:
        # ---- a fresh state, or that of the latest checkpoint
        preemption = closing.enter_context(Preemption())
        closing.enter_context(locked(workdir))
        claim_workdir(workdir, config)
        cache = batches.cache if resident else None
        variables, origin = initial_variables(config, model, protocol)
        state = train_state.create_state(variables, optimiser, config.train.ema_decay > 0)
        state = devices.replicate(state)
        metadata = run_metadata(config, scheme, protocol, train_records)
        checkpoints = closing.enter_context(contextlib.closing(TrainCheckpoints(workdir, metadata)))
        if checkpoints.latest_step is not None:
            state = checkpoints.load(checkpoints.latest_step, like=state)
        first_step = int(state.step)
        best = checkpoints.best()
        logs = closing.enter_context(
            contextlib.closing(open_logs(workdir, first_step, total_steps))
        )
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        baseline = mean_shape_nme(train_records, valid_records, scheme)
        logs.say(f"{config.model.name}: {count:,} parameters; {origin}")
        if not resident:
            logs.say(by)
        logs.say(
            f"{len(train_records)} training and {len(valid_records)} validation faces; "
            f"mean-shape baseline NME {baseline:.2f} %"
        )
        if first_step:
            logs.say(f"going on from step {first_step} of {total_steps} in {workdir}")

        # ---- loop
        counts = call_counts(first_step, total_steps, steps_per_epoch, steps_per_call)
        if resident:
            calls = ((count, cache) for count in counts)
        else:
            ahead = pipeline.iterate(loader, batches, first_step, total_steps, config.data.workers)
            calls = feed(ahead, counts, devices, steps_per_call)
        unchecked, since, images, step = [], time.perf_counter(), 0, first_step
        for count, data in calls:
            state, metrics = train_steps(state, data, count)
            unchecked.append(metrics)
            shape = (count, batches.batch_size) if resident else data["image"].shape[:-3]
            images += math.prod(shape)
            before, step = step, step + count
            epoch, in_epoch = divmod(step, steps_per_epoch)
            epoch_ends, last = in_epoch == 0, step == total_steps
            stop = preemption.requested() and not last

            log_every = config.train.log_every
            if step // log_every > before // log_every or epoch_ends or stop:
                metrics = check_finite(unchecked, step)
                rate = images / (time.perf_counter() - since)
                unchecked, since, images = [], time.perf_counter(), 0
                logs.write(step, **metrics, images_per_second=rate)
                logs.show(
                    step,
                    epoch=f"{math.ceil(step / steps_per_epoch)}/{config.train.epochs}",
                    loss=f"{metrics['loss']:.3g}",
                    images=f"{rate:.0f}/s",
                )

            is_best, nme = False, None
            if epoch_ends and (epoch % config.train.eval_epochs == 0 or last):
                predictions = predict_records(
                    forward,
                    state.variables,
                    valid_records,
                    protocol,
                    config.eval.batch_size,
                    config.data.workers,
                    devices=devices,
                )
                nme = 100 * float(nme_of_records(valid_records, predictions, scheme).mean())
                is_best = best is None or nme < best[1]
                best = (step, nme) if is_best else best
                logs.write(step, epoch=epoch, nme=nme)
                logs.show(step, NME=f"{nme:.2f} % (best {best[1]:.2f})")
                since = time.perf_counter()
            checkpoint_due = epoch_ends and (epoch % config.train.checkpoint_epochs == 0 or last)
            if checkpoint_due or is_best or stop:
                checkpoints.save(state, nme)
                since = time.perf_counter()
            if stop:
                raise Stopped(f"SIGTERM: saved step {step} of {total_steps} in {workdir}")
    return {"step": best[0], "nme": best[1]} if best else {"step": step, "nme": None}


def check_numbers(config) -> None:
    """HRNetError for a count or rate of the config that is not positive."""
    values = {
        **{f"train.{key}": config.train[key] for key in ("epochs", "batch_size", "learning_rate")},
        **{f"train.{key}_epochs": config.train[f"{key}_epochs"] for key in ("checkpoint", "eval")},
        **{f"train.{key}": config.train[key] for key in ("accumulate", "steps_per_call")},
        "train.log_every": config.train.log_every,
        "eval.batch_size": config.eval.batch_size,
    }
    for key, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise HRNetError(f"{key} = {value}: it must be above zero")
    if not 0 <= config.train.warmup_epochs <= config.train.epochs:
        raise HRNetError(
            f"train.warmup_epochs = {config.train.warmup_epochs}: it must lie between 0 and "
            f"train.epochs = {config.train.epochs}"
        )
    if not 0 <= config.train.ema_decay < 1:
        raise HRNetError(f"train.ema_decay = {config.train.ema_decay}: it must lie between 0 and 1")
    if config.parallel.mode not in MODES:
        raise HRNetError(f"unknown parallel.mode {config.parallel.mode!r}: choose jit or pmap")
    if not 0 <= config.seed < 2**32:
        raise HRNetError(f"seed = {config.seed}: it must lie between 0 and 2**32 - 1")
    # In the coordinates of an index protocol the mirror about the centre has an offset of -1.
    centred = -2 * Protocol.from_dict(plain(config.protocol)).index_offset
    if config.protocol.flip_test and config.augment.flip_offset != centred:
        raise HRNetError(
            "protocol.flip_test averages mirror images about the crop's centre, which "
            f"augment.flip_offset = {config.augment.flip_offset} moves: set protocol.flip_test="
            f"False or augment.flip_offset={centred:g}"
        )


def open_batches(config, records, protocol: Protocol, scheme, devices: Devices):
    """The batches of `config`: `DeviceBatches` for data.source "device", else `TrainBatches`."""
    common = {
        "records": records,
        "protocol": protocol,
        "augmentation": Augmentation(**plain(config.augment)),
        "flip_permutation": scheme.flip_permutation,
        "batch_size": config.train.batch_size,
        "seed": config.seed,
        "drop_last": config.train.drop_last,
    }
    if config.data.source != "device":
        return pipeline.TrainBatches(**common, shard=devices.shard)
    progress = functools.partial(tqdm, desc="crops", disable=not is_first_process())
    return DeviceBatches(**common, file=config.data.cache, mesh=devices.mesh, progress=progress)


def check_batches(train, batches: pipeline.TrainBatches, devices: int) -> None:
    """HRNetError for a batch size that the data, the devices or `config.train` cannot take."""
    size, count = batches.batch_size, len(batches.records)
    last = 0 if batches.drop_last else count % size
    if size > count and batches.drop_last:
        raise HRNetError(f"train.batch_size = {size} with {count} faces leaves no batch")
    parts = devices * train.accumulate
    if size % parts or last % parts:
        times = f" times train.accumulate = {train.accumulate}" if train.accumulate > 1 else ""
        raise HRNetError(
            f"train.batch_size = {size} ({count % size} in the last batch) is not a multiple of "
            f"the {devices} devices{times}: change it, and set train.drop_last=True"
        )
    if train.steps_per_call > 1 and last:
        raise HRNetError(
            f"train.steps_per_call = {train.steps_per_call} needs batches of one size, and the "
            f"last of an epoch has {last} faces: set train.drop_last=True"
        )


def describe_model(config, scheme) -> dict:
    """The network of `config.model` as checkpoints name it: the codec tells which head it has."""
    name = config.model.name
    head = "hih" if config.protocol.codec.name == "hih" else "heatmap"
    if model_head(name) == "classification":
        raise HRNetError(f"{name} tells classes, not landmarks: choose hrnetv2_* or hih_*")
    description = {"name": name, "num_landmarks": scheme.num_landmarks}
    return description if head == model_head(name) else description | {"head": head}


def compute_dtype(config) -> jnp.dtype:
    """That of `config.model`."""
    name = config.model.dtype
    if name not in ("float32", "bfloat16", "float64"):
        raise HRNetError(f"unknown model.dtype {name!r}: choose float32, bfloat16 or float64")
    if name == "float64" and not jax.config.jax_enable_x64:
        raise HRNetError("model.dtype = float64 needs the environment variable JAX_ENABLE_X64=1")
    return jnp.dtype(name)


def build_model(config, scheme):
    """The network of `config.model` with the scheme's number of landmarks."""
    return hrnet_jax.create_model(
        **describe_model(config, scheme),
        dtype=compute_dtype(config),
        norm=functools.partial(BatchNorm, momentum=config.model.norm_momentum),
        init=config.model.init,
        remat=config.model.remat,
    )


def build_steps(config, model, protocol: Protocol, optimiser, devices: Devices, prepare=None):
    """The compiled call of the training loop, `several_steps` of `make_train_step`.

    `prepare` makes a batch of data that lie on the devices; None: the call is given batches.
    """
    step = make_train_step(
        model,
        protocol.codec,
        optimiser,
        get_loss(config.train.loss, protocol.codec),
        accumulate=config.train.accumulate,
        ema_decay=config.train.ema_decay,
        prepare=prepare,
        mesh=devices.mesh,
        mode=config.parallel.mode,
    )
    return several_steps(step, config.train.steps_per_call, resident=prepare is not None)


def initial_variables(config, model, protocol: Protocol) -> tuple[dict, str]:
    """Fresh parameters, with the backbone of `config.model.init_backbone` where one is named.

    Returns the variables and a line that says where they come from.
    """
    size = (1, protocol.input_size, protocol.input_size, 3)
    variables = model.init(jax.random.key(config.seed), jnp.zeros(size))
    source = config.model.init_backbone
    if not source:
        return variables, f"fresh parameters ({config.model.init} initialisation)"
    if not config.model.name.startswith("hrnetv2_"):
        raise HRNetError(f"model.init_backbone is for hrnetv2_*, not {config.model.name}")
    variant = get_variant(config.model.name.removeprefix("hrnetv2_"))
    loaded, report = load_backbone(source, variant)
    for part in ("params", "batch_stats"):
        variables[part]["backbone"] = jax.tree.map(
            lambda new, old: jnp.asarray(new, old.dtype),
            loaded[part]["backbone"],
            variables[part]["backbone"],
        )
    used, ignored = report["used"], report["ignored"]
    return variables, f"backbone of {source}: {used} tensors used, {ignored} ignored; head fresh"


def run_metadata(config, scheme, protocol: Protocol, records) -> dict:
    """What `hrnet_jax.load` tells about a checkpoint of this run."""
    return {
        "format": 1,
        "model": describe_model(config, scheme),
        "scheme": scheme.name if scheme.name in SCHEMES else describe_scheme(scheme),
        "protocol": protocol.to_dict(),
        "provenance": {
            "kind": "trained with hrnet_jax",
            "data": describe_split(config.data, "train"),
            "training_faces": len(records),
            "config": plain(config),
        },
        "version": hrnet_jax.__version__,
    }


def check_finite(metrics: list[dict], step: int) -> dict:
    """The mean of the last calls' metrics; HRNetError at the first loss that is not finite."""
    values = {
        key: np.concatenate([np.atleast_1d(np.asarray(m[key], np.float64)) for m in metrics])
        for key in metrics[0]
    }
    bad = np.flatnonzero(~np.isfinite(values["loss"]) | ~np.isfinite(values["gradient_norm"]))
    if bad.size:
        first = step - len(values["loss"]) + 1 + int(bad[0])
        raise HRNetError(
            f"the loss is {values['loss'][bad[0]]} (gradient norm "
            f"{values['gradient_norm'][bad[0]]}) at step {first}: stopped, and nothing of it was "
            "saved; lower train.learning_rate or look at the data of that step"
        )
    return {key: float(value.mean()) for key, value in values.items()}
