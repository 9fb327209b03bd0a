"""Training a classifier from a config (`hrnet_jax.tasks.classification_config`)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import hrnet_jax
from hrnet_jax import parts
from hrnet_jax.config import plain
from hrnet_jax.data.pictures import Pictures, TrainBatches, find_classes, open_split
from hrnet_jax.data.pipeline import iterate_threads
from hrnet_jax.data.preprocessing import Preprocessing, RandomCrop
from hrnet_jax.devices import Devices
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.classification import accuracy, classify_pictures
from hrnet_jax.inference.forward import make_classify
from hrnet_jax.models import model_head, normalise_images
from hrnet_jax.tasks import classification_config, settings
from hrnet_jax.training.feeds import HostFeed
from hrnet_jax.training.loop import Task
from hrnet_jax.training.losses import cross_entropy
from hrnet_jax.training.optimisers import create_optimiser

METRIC = "top1_error"  # of the best checkpoint, in percent


def make_task(config, *, model=None, loss=None, codec=None, optimiser=None, evaluators=()) -> Task:
    """What `hrnet_jax.training.loop.train` trains; the keywords are those of `hrnet_jax.train`."""
    if codec is not None:
        raise HRNetError("a classifier has no codec: it tells classes")
    settings.check_numbers(config)
    if model_head(config.model.name) != "classification":
        raise HRNetError(f"{config.model.name} finds landmarks: choose hrnet_*_imagenet")
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
    settings.check_batches(config.train, len(pictures), devices.count, "pictures")
    batches = TrainBatches(
        pictures,
        preprocessing,
        RandomCrop(**plain(config.augment)),
        config.train.batch_size,
        config.seed,
        config.train.drop_last,
        devices.shard,
    )
    ahead = functools.partial(iterate_threads, workers=config.data.workers)
    model = model or build_model(config, len(classes))
    optimise = functools.partial(create_optimiser, config.train, optimiser=optimiser)
    optimise(1000, 1000)  # a wrong setting is told before anything is made
    measure = AccuracyEvaluator(
        config, make_classify(model), valid_pictures, preprocessing, devices
    )
    return Task(
        config=config,
        defaults=classification_config.default_config(),
        model=model,
        image_shape=(1, preprocessing.input_size, preprocessing.input_size, 3),
        prepare=prepare_pictures,
        loss=loss
        or parts.bind(
            plain(config)["train"]["loss"], "train.loss", {"cross_entropy": cross_entropy}
        ),
        optimiser=optimise,
        feed=HostFeed(batches, ahead, devices, config.train.steps_per_call),
        evaluators=(measure, *evaluators),
        metric=METRIC,
        start=functools.partial(initial_variables, config, model, preprocessing),
        metadata=run_metadata(config, classes, preprocessing, len(pictures)),
        about=(
            f"{len(pictures)} training and {len(valid_pictures)} validation pictures of "
            f"{len(classes)} classes",
        ),
        loggers=settings.open_loggers(config),
    )


def prepare_pictures(batch):
    """`prepare(batch) -> batch` of the training step: "input" is added."""
    return {**batch, "input": normalise_images(batch["image"])}


@dataclasses.dataclass(frozen=True)
class AccuracyEvaluator:
    """Top-1 and top-5 accuracy, and the top-1 error, in percent of the validation pictures."""

    config: Any
    classify: Callable
    pictures: Pictures
    preprocessing: Preprocessing
    devices: Devices
    metrics: tuple[str, ...] = ("top1", "top5", METRIC)

    @property
    def every(self) -> int:
        return self.config.train.eval_epochs

    def __call__(self, variables) -> dict[str, float]:
        found = classify_pictures(
            self.classify,
            variables,
            self.pictures,
            self.preprocessing,
            self.config.eval.batch_size,
            self.config.data.workers,
            devices=self.devices,
        )
        scores = accuracy(found["label"], found["class"])
        return {**scores, METRIC: 100 - scores["top1"]}


def build_model(config, num_classes: int):
    """The network of `config.model`."""
    return hrnet_jax.create_model(
        config.model.name,
        num_classes=num_classes,
        dtype=settings.compute_dtype(config),
        remat=config.model.remat,
    )


def initial_variables(config, model, preprocessing) -> tuple[dict, str]:
    """Fresh parameters, and where they come from."""
    side = preprocessing.input_size
    variables = model.init(jax.random.key(config.seed), jnp.zeros((1, side, side, 3)))
    return variables, "fresh parameters"


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
