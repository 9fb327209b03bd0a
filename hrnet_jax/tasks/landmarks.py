"""Landmark training and evaluation from a config (`hrnet_jax.config`)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

import hrnet_jax
from hrnet_jax import models
from hrnet_jax.ablations import ablate, carry
from hrnet_jax.config import default_config, plain
from hrnet_jax.data import pipeline
from hrnet_jax.data.device import DeviceBatches
from hrnet_jax.data.records import Records
from hrnet_jax.data.sources import describe_split, open_annotations, open_split
from hrnet_jax.devices import Devices, is_first_process
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.baseline import mean_shape_nme
from hrnet_jax.evaluation.landmarks import predict_records
from hrnet_jax.evaluation.metrics import summarise
from hrnet_jax.evaluation.scoring import nme_of_records
from hrnet_jax.images.augment import Augmentation
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.models import model_head, normalise_images
from hrnet_jax.models.variants import get_variant
from hrnet_jax.protocols import STRIDE, Protocol
from hrnet_jax.schemes import SCHEMES, Scheme, describe, get_scheme
from hrnet_jax.tasks import settings
from hrnet_jax.torch_weights.convert import load_backbone
from hrnet_jax.training.feeds import HostFeed, ResidentFeed
from hrnet_jax.training.loop import Task
from hrnet_jax.training.losses import get_loss
from hrnet_jax.training.optimisers import create_optimiser

PARTS = ("head", "backbone", "conv", "norm", "init", "upsample")  # of `config.model`
METRIC = "nme"  # of the validation split, in percent


def make_task(config, *, model=None, loss=None, codec=None, optimiser=None, evaluators=()) -> Task:
    """What `hrnet_jax.training.loop.train` trains; the keywords are those of `hrnet_jax.train`."""
    check_numbers(config)
    scheme = get_scheme(config.scheme)
    protocol = read_protocol(config, codec)
    loss = loss or get_loss(plain(config)["train"]["loss"], protocol.codec)
    devices = Devices()
    train_records = open_split(config.data, scheme, "train")
    valid_records = open_split(config.data, scheme, "valid")
    feed, made_by = open_feed(config, train_records, protocol, scheme, devices)
    optimise = functools.partial(create_optimiser, config.train, optimiser=optimiser)
    optimise(1000, 1000)  # a wrong setting is told before anything is made
    model = model or build_model(config, scheme, protocol)
    forward = make_forward(model, protocol, scheme)
    measure = functools.partial(NMEEvaluator, config, forward, protocol, scheme, devices)
    default = measure("", valid_records, config.train.eval_epochs)
    evaluators = (default, *open_evaluators(config, measure), *evaluators)
    metric = config.best or METRIC
    names = [name for evaluator in evaluators for name in evaluator.metrics]
    if metric not in names:
        raise HRNetError(f"best = {metric!r}: no evaluator gives it; they give {', '.join(names)}")
    baseline = mean_shape_nme(train_records, valid_records, scheme)
    return Task(
        config=config,
        defaults=default_config(),
        model=model,
        image_shape=(1, protocol.input_size, protocol.input_size, 3),
        prepare=prepare_landmarks(protocol.codec),
        loss=loss,
        optimiser=optimise,
        feed=feed,
        evaluators=evaluators,
        metric=metric,
        start=functools.partial(initial_variables, config, model, protocol),
        metadata=run_metadata(config, scheme, protocol, train_records, model, metric),
        about=(
            made_by,
            f"{len(train_records)} training and {len(valid_records)} validation faces; "
            f"mean-shape baseline NME {baseline:.2f} %",
        ),
        loggers=settings.open_loggers(config),
    )


def prepare_landmarks(codec):
    """`prepare(batch) -> batch` of the training step: "input" and the codec's "targets" are added.

    The heatmaps are rendered here, on the device, from the points.
    """

    def prepare(batch):
        images = normalise_images(batch["image"])
        targets = codec.encode(batch["points"], batch["weights"], images.shape[1] // STRIDE)
        return {**batch, "input": images, "targets": targets}

    return prepare


@dataclasses.dataclass(frozen=True)
class NMEEvaluator:
    """NME in percent of one set of faces, by the protocol of the run.

    Attributes:
      name: "" for the validation split, whose value is called "nme"; another set's "NAME/nme".
      every: epochs from one evaluation to the next.
    """

    config: Any
    forward: Callable
    protocol: Protocol
    scheme: Scheme
    devices: Devices
    name: str
    records: Records
    every: int

    @property
    def metrics(self) -> tuple[str, ...]:
        return (f"{self.name}/nme" if self.name else METRIC,)

    def __call__(self, variables) -> dict[str, float]:
        predictions = predict_records(
            self.forward,
            variables,
            self.records,
            self.protocol,
            self.config.eval.batch_size,
            self.config.data.workers,
            devices=self.devices,
        )
        nme = nme_of_records(self.records, predictions, self.scheme)
        return {self.metrics[0]: summarise(nme)["nme"]}


def open_evaluators(config, measure) -> list:
    """Those of `config.evaluators`: tables, or texts of the user's own, beside the validation set.

    `{"name": "common", "annotations": "common.csv", "every": 5}` measures another set of faces;
    with "root" and "images" where they lie elsewhere than the config's.
    """
    made, keys = [], {"name", "annotations", "every", "root", "images"}
    for spec in plain(config)["evaluators"]:
        name = spec if isinstance(spec, str) else spec.get("name", "")
        if ":" in name:
            made.append(settings.open_part(spec, "evaluators", config, ("metrics", "every")))
            continue
        if isinstance(spec, str) or not {"name", "annotations"} <= spec.keys() <= keys:
            raise HRNetError(
                f"evaluators: {spec!r}: give a table of name and annotations (and every, root, "
                "images), or 'package.module:Name'"
            )
        root, images = (spec.get(key, config.data[key]) for key in ("root", "images"))
        scheme = get_scheme(config.scheme)
        records = open_annotations(spec["annotations"], root, images, scheme)
        made.append(measure(name, records, spec.get("every", config.train.eval_epochs)))
    return made


def check_numbers(config) -> None:
    """HRNetError for a number of the config that makes no sense."""
    settings.check_numbers(config)
    # In the coordinates of an index protocol the mirror about the centre has an offset of -1.
    centred = -2 * read_protocol(config).index_offset
    if config.protocol.flip_test and config.augment.flip_offset != centred:
        raise HRNetError(
            "protocol.flip_test averages mirror images about the crop's centre, which "
            f"augment.flip_offset = {config.augment.flip_offset} moves: set protocol.flip_test="
            f"False or augment.flip_offset={centred:g}"
        )


def read_protocol(config, codec=None) -> Protocol:
    """That of `config.protocol`; with an object `codec` in the place of its own."""
    protocol = Protocol.from_dict(plain(config.protocol), allow=True)
    return dataclasses.replace(protocol, codec=codec) if codec is not None else protocol


def open_feed(config, records, protocol: Protocol, scheme, devices: Devices):
    """(the batches of `config`, who makes them in words).

    The device does for data.source "device", else the host.
    """
    common = {
        "records": records,
        "protocol": protocol,
        "augmentation": Augmentation(**plain(config.augment)),
        "flip_permutation": scheme.flip_permutation,
        "batch_size": config.train.batch_size,
        "seed": config.seed,
        "drop_last": config.train.drop_last,
    }
    settings.check_batches(config.train, len(records), devices.count, "faces")
    if config.data.source == "device":
        progress = functools.partial(tqdm, desc="crops", disable=not is_first_process())
        batches = DeviceBatches(
            **common, file=config.data.cache, mesh=devices.mesh, progress=progress
        )
        return ResidentFeed(batches, devices), "batches by the device"
    loader, made_by = pipeline.choose_loader(config.data.loader)
    batches = pipeline.TrainBatches(**common, shard=devices.shard, skip_bad=config.data.skip_bad)
    ahead = functools.partial(pipeline.iterate, loader, workers=config.data.workers)
    return HostFeed(batches, ahead, devices, config.train.steps_per_call), made_by


def build_model(config, scheme, protocol: Protocol | None = None):
    """The network of `config.model` with the scheme's number of landmarks.

    The codec tells which head it has, unless `config.model.head` does.
    """
    given = plain(config)["model"]
    name, codec = given["name"], (protocol or read_protocol(config)).codec
    description = {key: given[key] for key in PARTS if given[key] is not None}
    description |= {"name": name, "num_landmarks": scheme.num_landmarks}
    if "backbone" not in description:
        if model_head(name) == "classification":
            raise HRNetError(f"{name} tells classes, not landmarks: choose hrnetv2_* or hih_*")
        if (head := getattr(codec, "head", "heatmap")) != model_head(name):
            description.setdefault("head", head)
    if given["norm_momentum"] is not None:
        if given["norm"] not in (None, "batch"):
            raise HRNetError("model.norm_momentum is for batch normalisation: set model.norm=batch")
        description["norm"] = {"name": "batch", "momentum": given["norm_momentum"]}
    dtype = settings.compute_dtype(config)
    model = models.build_model(description, dtype=dtype, remat=given["remat"])
    return ablate(model, *given["ablations"])


def initial_variables(config, model, protocol: Protocol) -> tuple[dict, str]:
    """Fresh parameters, with the backbone of `config.model.init_backbone` where one is named.

    Returns the variables and a line that says where they come from.
    """
    size = (1, protocol.input_size, protocol.input_size, 3)
    variables = model.init(jax.random.key(config.seed), jnp.zeros(size))
    source = config.model.init_backbone
    if not source:
        return variables, "fresh parameters"
    if not config.model.name.startswith("hrnetv2_"):
        raise HRNetError(f"model.init_backbone is for hrnetv2_*, not {config.model.name}")
    variant = get_variant(config.model.name.removeprefix("hrnetv2_"))
    loaded, report = load_backbone(source, variant)
    loaded = {part: {"backbone": loaded[part]["backbone"]} for part in ("params", "batch_stats")}
    carried = carry(loaded, variables)
    used, ignored = report["used"] - len(carried.dropped), report["ignored"]
    origin = f"backbone of {source}: {used} tensors used, {ignored} ignored; head fresh"
    fresh = [path for path in carried.fresh if "/backbone/" in path]
    for what, paths in (("not in this network", carried.dropped), ("fresh", fresh)):
        if paths:
            origin += f"; {len(paths)} {what}: {', '.join(paths[:3])}{', …' * (len(paths) > 3)}"
    return carried.variables, origin


def run_metadata(config, scheme, protocol: Protocol, records, model, metric=METRIC) -> dict:
    """What `hrnet_jax.load` tells about a checkpoint of this run."""
    return {
        "format": 1,
        "model": models.describe_model(model),
        "scheme": scheme.name if scheme.name in SCHEMES else describe(scheme),
        "protocol": protocol.to_dict(),
        "provenance": {
            "kind": "trained with hrnet_jax",
            "data": describe_split(config.data, "train"),
            "training_faces": len(records),
            "metric": metric,
            "config": plain(config),
        },
        "version": hrnet_jax.__version__,
    }
