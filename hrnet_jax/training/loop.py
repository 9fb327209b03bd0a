"""Training from a config: one function that reads from top to bottom."""

import functools
import json
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import hrnet_jax
from hrnet_jax.config import default_config, plain
from hrnet_jax.data import pipeline
from hrnet_jax.data.augment import Augmentation
from hrnet_jax.data.sources import describe_split, open_split
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.baseline import mean_shape_nme
from hrnet_jax.evaluation.evaluate import predict_records
from hrnet_jax.evaluation.scoring import nme_of_records
from hrnet_jax.files import open_atomically
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.models import model_head
from hrnet_jax.models.layers import BatchNorm
from hrnet_jax.models.variants import get_variant
from hrnet_jax.protocols import Protocol
from hrnet_jax.scheme_files import describe as describe_scheme
from hrnet_jax.schemes import SCHEMES, get_scheme
from hrnet_jax.training import state as train_state
from hrnet_jax.training.checkpoints import TrainCheckpoints
from hrnet_jax.training.logs import Logs
from hrnet_jax.training.losses import get_loss
from hrnet_jax.training.step import make_train_step
from hrnet_jax.weights.convert import load_backbone

CONFIG = "config.json"


def train(config, workdir: str | Path) -> dict:
    """Trains, evaluates and checkpoints in `workdir`; goes on where an earlier run there stopped.

    Args:
      config: attributes as in `hrnet_jax.config.default_config`.
      workdir: a folder, made if needed. HRNetError if it belongs to another config.

    Returns:
      {"step", "nme"} of the best checkpoint, NME in percent of the validation split.

    The same config gives the same bits on one machine, also across a restart from any point.
    """
    # ---- what to do
    workdir = Path(workdir)
    scheme = get_scheme(config.scheme)
    protocol = Protocol.from_dict(plain(config.protocol))
    check_numbers(config)

    # ---- devices
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    replicated = jax.NamedSharding(mesh, jax.P())
    sharded = jax.NamedSharding(mesh, jax.P("data"))

    # ---- data
    train_records = open_split(config.data, scheme, "train", config.seed)
    valid_records = open_split(config.data, scheme, "valid", config.seed)
    batches = pipeline.TrainBatches(
        train_records,
        protocol,
        Augmentation(**plain(config.augment)),
        scheme.flip_permutation,
        config.train.batch_size,
        config.seed,
        config.train.drop_last,
    )
    check_batches(batches, mesh.size)
    steps_per_epoch = batches.steps_per_epoch
    total_steps = config.train.epochs * steps_per_epoch

    # ---- network and optimiser
    model = build_model(config, scheme)
    forward = make_forward(model, protocol, scheme)
    optimiser = train_state.create_optimiser(config, steps_per_epoch)
    loss = get_loss(config.train.loss, protocol.codec)
    train_step = make_train_step(model, protocol.codec, optimiser, loss)
    claim_workdir(workdir, config)
    variables, origin = initial_variables(config, model, protocol)
    state = jax.device_put(train_state.create_state(variables, optimiser), replicated)

    # ---- go on from the latest checkpoint, if there is one
    checkpoints = TrainCheckpoints(workdir, run_metadata(config, scheme, protocol, train_records))
    if checkpoints.latest_step is not None:
        state = checkpoints.load(checkpoints.latest_step, like=state)
    first_step = int(state.step)
    best = checkpoints.best()
    logs = Logs(workdir, first_step, total_steps)
    count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    baseline = mean_shape_nme(train_records, valid_records, scheme)
    logs.say(f"{config.model.name}: {count:,} parameters; {origin}")
    logs.say(
        f"{len(train_records)} training and {len(valid_records)} validation faces; "
        f"mean-shape baseline NME {baseline:.2f} %"
    )
    if first_step:
        logs.say(f"going on from step {first_step} of {total_steps} in {workdir}")

    # ---- loop
    try:
        unchecked, since, images = [], time.perf_counter(), 0
        ahead = pipeline.iterate(
            config.data.loader, batches, first_step, total_steps, config.data.workers
        )
        for step, batch in enumerate(ahead, start=first_step + 1):
            state, metrics = train_step(state, jax.device_put(batch, sharded))
            unchecked.append(metrics)
            images += len(batch["image"])
            epoch, in_epoch = divmod(step, steps_per_epoch)
            epoch_ends = in_epoch == 0

            if step % config.train.log_every == 0 or epoch_ends or step == total_steps:
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

            last, is_best, nme = step == total_steps, False, None
            if epoch_ends and (epoch % config.train.eval_epochs == 0 or last):
                predictions = predict_records(
                    forward,
                    state.variables,
                    valid_records,
                    protocol,
                    config.eval.batch_size,
                    config.data.workers,
                )
                nme = 100 * float(nme_of_records(valid_records, predictions, scheme).mean())
                is_best = best is None or nme < best[1]
                best = (step, nme) if is_best else best
                logs.write(step, epoch=epoch, nme=nme)
                logs.show(step, NME=f"{nme:.2f} % (best {best[1]:.2f})")
                since = time.perf_counter()
            if epoch_ends and (epoch % config.train.checkpoint_epochs == 0 or is_best or last):
                checkpoints.save(state, nme)
                since = time.perf_counter()
    finally:
        logs.close()
        checkpoints.close()
    return {"step": best[0], "nme": best[1]} if best else {"step": int(state.step), "nme": None}


# Settings that change how fast a run is, not what comes out.
_FREE = ("data.root", "data.images", "data.loader", "data.workers", "train.log_every")


def claim_workdir(workdir: Path, config, defaults: dict | None = None) -> None:
    """Writes the config into the workdir; HRNetError if it has checkpoints of another config.

    `defaults`: what its kind of config has for every key; those of `hrnet_jax.config` by default.
    """
    path = workdir / CONFIG
    if any((workdir / "checkpoints").glob("[0-9]*")):
        wanted = flatten(plain(config))
        try:
            # A setting that the earlier version did not have yet had what is now its default.
            known = flatten(plain(defaults or default_config()))
            found = known | flatten(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise HRNetError(f"cannot read {path}: {error}; use another --workdir") from error
        other = [
            f"{key} = {found.get(key)!r} there, {wanted.get(key)!r} here"
            for key in sorted(found.keys() | wanted.keys())
            if key not in _FREE and found.get(key) != wanted.get(key)
        ]
        if other:
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""
            raise HRNetError(
                f"{workdir} holds a run of another config ({'; '.join(other[:3])}{more}): "
                "use another --workdir, or the same config to go on"
            )
    with open_atomically(path) as file:
        json.dump(plain(config), file, indent=1)


def flatten(tree: dict, prefix: str = "") -> dict:
    """Nested dicts to one with dotted keys."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def check_numbers(config) -> None:
    """HRNetError for a count or rate of the config that is not positive."""
    values = {
        **{f"train.{key}": config.train[key] for key in ("epochs", "batch_size", "learning_rate")},
        **{f"train.{key}_epochs": config.train[f"{key}_epochs"] for key in ("checkpoint", "eval")},
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
    if not 0 <= config.seed < 2**32:
        raise HRNetError(f"seed = {config.seed}: it must lie between 0 and 2**32 - 1")
    if config.protocol.flip_test and config.augment.flip_offset:
        raise HRNetError(
            "protocol.flip_test averages mirror images about the crop's centre, which "
            f"augment.flip_offset = {config.augment.flip_offset} moves: set one of them to zero"
        )


def check_batches(batches: pipeline.TrainBatches, devices: int) -> None:
    """HRNetError for a batch size that the data or the devices cannot take."""
    size, count = batches.batch_size, len(batches.records)
    if size > count and batches.drop_last:
        raise HRNetError(f"train.batch_size = {size} with {count} faces leaves no batch")
    if size % devices or (count % size % devices and not batches.drop_last):
        raise HRNetError(
            f"train.batch_size = {size} ({count % size} in the last batch) is not a multiple of "
            f"the {devices} devices: change it, and set train.drop_last=True"
        )


def describe_model(config, scheme) -> dict:
    """The network of `config.model` as checkpoints name it: the codec tells which head it has."""
    name = config.model.name
    head = "hih" if config.protocol.codec.name == "hih" else "heatmap"
    if model_head(name) == "classification":
        raise HRNetError(f"{name} tells classes, not landmarks: choose hrnetv2_* or hih_*")
    description = {"name": name, "num_landmarks": scheme.num_landmarks}
    return description if head == model_head(name) else description | {"head": head}


def build_model(config, scheme):
    """The network of `config.model` with the scheme's number of landmarks."""
    if config.model.dtype not in ("float32", "bfloat16", "float64"):
        raise HRNetError(
            f"unknown model.dtype {config.model.dtype!r}: choose float32, bfloat16 or float64"
        )
    if config.model.dtype == "float64" and not jax.config.jax_enable_x64:
        raise HRNetError("model.dtype = float64 needs the environment variable JAX_ENABLE_X64=1")
    return hrnet_jax.create_model(
        **describe_model(config, scheme),
        dtype=jnp.dtype(config.model.dtype),
        norm=functools.partial(BatchNorm, momentum=config.model.norm_momentum),
        init=config.model.init,
        remat=config.model.remat,
    )


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
    """The mean of the last steps' metrics; HRNetError at the first loss that is not finite."""
    values = {key: np.array([float(m[key]) for m in metrics]) for key in metrics[0]}
    bad = np.flatnonzero(~np.isfinite(values["loss"]) | ~np.isfinite(values["gradient_norm"]))
    if bad.size:
        first = step - len(metrics) + 1 + int(bad[0])
        raise HRNetError(
            f"the loss is {values['loss'][bad[0]]} (gradient norm "
            f"{values['gradient_norm'][bad[0]]}) at step {first}: stopped, and nothing of it was "
            "saved; lower train.learning_rate or look at the data of that step"
        )
    return {key: float(value.mean()) for key, value in values.items()}
