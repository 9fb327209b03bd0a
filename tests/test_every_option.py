"""Every key of the config does something: each is changed on a command line, and seen to differ.

A row of `ROWS` has the changed value, what is looked at, and what else both sides are given. Most
look at the `Task` that `hrnet-jax train` makes of the config; the loop's own keys train.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hrnet_jax import cli
from hrnet_jax.checkpoints.training import TrainCheckpoints
from hrnet_jax.config import default_config, plain
from hrnet_jax.data import pipeline
from hrnet_jax.devices import Devices
from hrnet_jax.errors import HRNetError
from hrnet_jax.models.variants import VARIANTS
from hrnet_jax.tasks import classification_config
from hrnet_jax.tensors import write_safetensors
from hrnet_jax.torch_weights.names import backbone_table
from hrnet_jax.training import loop
from hrnet_jax.training.state import create_state
from hrnet_jax.training.workdir import flatten
from tests import test_classification, tiny
from tests.seeded import seeded_array

CONFIG = """
from ml_collections import ConfigDict
from hrnet_jax.protocols import official
from tests import tiny

def get_config():
    config = tiny.get_config({root!r})
    with config.unlocked():
        config.protocol = ConfigDict(official("300w").to_dict() | {{"input_size": 32}})
        config.train.update(epochs=2, schedule="step", milestones=(1,))
    return config
"""

CLASSIFIER = """
from tests import test_classification

def get_config():
    config = test_classification.get_config({root!r})
    with config.unlocked():
        config.train.update(epochs=2, schedule="step", milestones=(1,))
    return config
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data sets, a backbone to start from, and the config file."""
    place = tmp_path_factory.mktemp("options")
    tiny.write_dataset(place / "data")
    others = place / "data" / "others"
    shutil.copytree(place / "data" / "images", others)
    shutil.copy(others / "train 0.png", others / "train 1.png")
    tiny.write_dataset(place / "elsewhere", seed=1)
    tiny.write_dataset(place / "cofw", num_landmarks=29)
    tiny.write_dataset(place / "damaged")
    (place / "damaged" / "images" / "train 3.png").write_bytes(b"no image")
    state = {e.name: seeded_array(e.name, e.shape, "a") for e in backbone_table(VARIANTS["tiny"])}
    write_safetensors(place / "backbone.safetensors", state, {"format": "pt"})
    (place / "config.py").write_text(CONFIG.format(root=str(place / "data")))
    for name, seed in (("shapes", 0), ("other_shapes", 1)):
        test_classification.write_pictures(place / name, train=4, valid=2, seed=seed)
    labels = "\n".join(f"{c}/0.png {k}" for k, c in enumerate(test_classification.CLASSES))
    (place / "shapes" / "labels.txt").write_text(labels)
    (place / "classifier.py").write_text(CLASSIFIER.format(root=str(place / "shapes")))
    return place


# ---- what is looked at


def batches(task):
    """The batches of the first epoch, or what is wrong with them."""
    counts = [1] * task.feed.steps_per_epoch
    return [streamed for _, _, streamed in task.feed.calls(0, counts)]


def calls(task):
    """The batches of one call of the training program."""
    return next(iter(task.feed.calls(0, [task.config.train.steps_per_call])))[2]


def targets(task):
    return task.prepare(batches(task)[0])["targets"]


def program(task):
    """The network, as a program."""
    images = jnp.zeros((2, *task.image_shape[1:]))
    variables = jax.eval_shape(task.model.init, jax.random.key(0), images)

    def apply(variables, images):
        return task.model.apply(variables, images, train=True, mutable=["batch_stats"])

    return str(jax.make_jaxpr(apply)(variables, images))


def step(task):
    """The training step, as a program."""
    devices, optimiser = Devices(), task.optimiser(3, 6)
    images = jnp.zeros(task.image_shape)
    variables = jax.eval_shape(task.model.init, jax.random.key(0), images)
    state = jax.eval_shape(lambda variables: create_state(variables, optimiser), variables)
    steps = loop.compile_steps(task, optimiser, devices)
    return steps.lower(state, None, batches(task)[0], np.uint32(0), 1).as_text()


def start(task):
    return task.start()[0]


def updates(task):
    """What the optimiser makes of eight gradients of ones."""
    optimiser = task.optimiser(2, 8)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    state, made = optimiser.init(params), []
    for _ in range(8):
        update, state = optimiser.update(jax.tree.map(jnp.ones_like, params), state, params)
        made.append(update)
    return made, state


def loss(task):
    batch = task.prepare(batches(task)[0])
    return task.loss(0.1 + 0 * batch["targets"], batch)[0]


def measured(task):
    """The validation's value, of a network that sees something."""
    variables = task.start()[0]
    noise = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: x + noise.normal(0, 0.3, x.shape).astype(x.dtype), variables)
    return task.evaluators[0](variables)


def validation(task):
    """The faces of the validation, and the batches that they come in."""
    evaluator, shapes = task.evaluators[0], []

    def forward(variables, images):
        shapes.append(images.shape)
        count = len(images), task.config.data and evaluator.scheme.num_landmarks
        return jnp.zeros((*count, 2)), jnp.zeros(count)

    dataclasses.replace(evaluator, forward=forward)(None)
    return evaluator.records.names, shapes


def threads(task):
    """How many threads make batches."""
    counts, real = [], pipeline.ThreadPoolExecutor

    def pool(workers, *arguments):
        counts.append(workers)
        return real(workers, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "ThreadPoolExecutor", pool)
        batches(task)
    return counts


def cache(task):
    """Whether the crops are kept in a file."""
    assert task.feed.resident is not None
    return sorted(path.name for path in (PLACE[0]).glob("*.crops"))


def pictures(task):
    """A classifier's validation: the pictures' names and labels, and the batches they come in."""
    evaluator, seen = task.evaluators[0], []

    def classify(variables, images):
        seen.append(np.asarray(images))
        return jnp.ones((len(images), 3)), jnp.zeros((len(images), 3), jnp.int32)

    accuracies = dataclasses.replace(evaluator, classify=classify)(None)
    return seen, accuracies


def class_loss(task):
    return task.loss(jnp.eye(6, 3), batches(task)[0])[0]


def other_loss(outputs, batch):
    """A loss of the user's own."""
    return jnp.sum(outputs) + jnp.sum(batch["label"]), {}


def evaluators(task):
    return [evaluator.metrics for evaluator in task.evaluators], task.metric


def made_by(task):
    return task.about[0]


PLACE = []  # where the data sets of this module are


class Logger:
    """A logger of the user's own: keeps what it is told."""

    told = []

    def write(self, step, **values):
        Logger.told.append(step)

    def close(self):
        pass


def run(task):
    """What a whole run writes, and when it saves."""
    workdir = PLACE[0] / "run"
    shutil.rmtree(workdir, ignore_errors=True)
    saves, Logger.told = [], []
    save = TrainCheckpoints.save

    def spy(self, state, value):
        saves.append(int(state.step))
        save(self, state, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainCheckpoints, "save", spy)
        loop.train(task, workdir)
    lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("images_per_second", None)
    checkpoints = TrainCheckpoints(workdir)
    state = checkpoints.load(checkpoints.latest_step)
    checkpoints.close()
    files = sorted(path.name for path in workdir.iterdir())
    return lines, files, saves, Logger.told, sorted(state)


@dataclasses.dataclass(frozen=True)
class Row:
    """One key: the changed value, what differs, and what both sides are given besides."""

    value: Any
    see: Callable
    given: dict = dataclasses.field(default_factory=dict)
    argument: str = ""  # where the key is set by another one's


RENDERED = {"data.size": 48, "data.train_count": 8, "data.valid_count": 4}
DEVICE = {"data.source": "device", "protocol": "float", "protocol.input_size": 32}
COMMON = {"name": "common", "annotations": "face_landmarks_300w_train.csv"}
ROWS = {
    "seed": Row(1, batches),
    "scheme": Row("cofw", batches, {"data.root": "{place}/cofw"}),
    "model.name": Row(tiny.MODEL, program),
    "model.dtype": Row("bfloat16", program),
    "model.init": Row("official", start),
    "model.remat": Row(True, program, {"model.name": tiny.MODEL}),
    "model.norm_momentum": Row(0.5, program),
    "model.head": Row("tests.test_own_parts:Mean", start),
    "model.backbone": Row("tests.test_own_parts:Stem", start),
    "model.conv": Row("flax", program, {"model.name": tiny.MODEL}),
    "model.norm": Row("group", start),
    "model.upsample": Row("nearest", program, {"model.name": tiny.MODEL}),
    "model.ablations": Row(("without_fusion(2)",), start, {"model.name": tiny.MODEL}),
    "model.init_backbone": Row("{place}/backbone.safetensors", start, {"model.name": tiny.MODEL}),
    "protocol.name": Row("float", batches, argument="protocol"),
    "protocol.codec.name": Row("msra", targets, argument="protocol.codec"),
    "protocol.codec.sigma": Row(2.0, targets),
    "protocol.input_size": Row(64, batches),
    "protocol.padding": Row(1.5, batches),
    "protocol.flip_test": Row(True, measured),
    "protocol.flip_shift": Row(True, measured, {"protocol.flip_test": True}),
    "augment.distribution": Row("clipped_normal", batches),
    "augment.scale": Row(0.1, batches),
    "augment.rotation": Row(10.0, batches),
    "augment.rotation_probability": Row(0.0, batches),
    "augment.flip_probability": Row(1.0, batches),
    "augment.flip_offset": Row(1.0, batches, {"augment.flip_probability": 1.0}),
    "augment.translation": Row(0.3, batches),
    "augment.translation_probability": Row(0.0, batches, {"augment.translation": 0.3}),
    "augment.brightness": Row(0.3, batches),
    "augment.contrast": Row(0.3, batches),
    "augment.colour": Row(0.3, batches),
    "augment.grey_probability": Row(1.0, batches),
    "augment.blur_probability": Row(1.0, batches),
    "augment.blur_sigma": Row((3.0, 4.0), batches, {"augment.blur_probability": 1.0}),
    "augment.occlusion_probability": Row(1.0, batches),
    "augment.occlusion_size": Row((0.8, 0.9), batches, {"augment.occlusion_probability": 1.0}),
    "augment.occlusion_inside": Row(True, batches, {"augment.occlusion_probability": 1.0}),
    "data.source": Row("synthetic", batches, RENDERED),
    "data.root": Row("{place}/elsewhere", batches),
    "data.images": Row("others", batches),
    "data.train": Row("face_landmarks_300w_valid.csv", batches),
    "data.valid": Row("face_landmarks_300w_train.csv", validation),
    "data.train_count": Row(5, batches),
    "data.valid_count": Row(3, validation),
    "data.size": Row(64, batches, RENDERED | {"data.source": "synthetic"}),
    "data.seed": Row(1, batches, RENDERED | {"data.source": "synthetic"}),
    "data.loader": Row("tfdata", made_by),  # without TensorFlow: that it is not there
    "data.skip_bad": Row(True, batches, {"data.root": "{place}/damaged"}),
    "data.workers": Row(3, threads),
    "data.cache": Row("{place}/a.crops", cache, DEVICE),
    "train.epochs": Row(1, run),
    "train.max_steps": Row(2, run),
    "train.batch_size": Row(6, batches),
    "train.drop_last": Row(True, batches, {"train.batch_size": 5}),
    "train.loss": Row("adaptive_wing", loss),
    "train.optimiser": Row("sgd", updates),
    "train.learning_rate": Row(0.01, updates),
    "train.schedule": Row("constant", updates),
    "train.milestones": Row((2,), updates),
    "train.gamma": Row(0.5, updates),
    "train.warmup_epochs": Row(1.0, updates),
    "train.warmup_steps": Row(2, updates),
    "train.warmup_start": Row(0.5, updates, {"train.warmup_steps": 2}),
    "train.weight_decay": Row(0.1, updates),
    "train.accumulate": Row(2, step),
    "train.ema_decay": Row(0.9, run),
    "train.flatten_optimiser": Row(True, updates),
    "train.steps_per_call": Row(3, calls),
    "train.log_every": Row(1, run),
    "train.checkpoint_epochs": Row(2, run, {"train.eval_epochs": 2}),
    "train.eval_epochs": Row(2, run),
    "train.loggers": Row(("tests.test_every_option:Logger",), run),
    "train.profile_steps": Row(1, run),
    "parallel.mode": Row("pmap", step),
    "eval.batch_size": Row(5, validation),
    "evaluators": Row((COMMON,), evaluators),
    "best": Row("common/nme", evaluators, {"evaluators": (COMMON,)}),
}

# Of a classifier; what the loop reads, which knows no task, has its rows above.
CLASSIFIER_ROWS = {
    "task": Row("landmarks", batches),
    "seed": Row(1, batches),
    "model.name": Row("hrnet_w18_small_v1_imagenet", program),
    "model.num_classes": Row(5, batches),
    "model.dtype": Row("bfloat16", program),
    "model.remat": Row(True, program),
    "preprocessing.input_size": Row(34, batches),
    "preprocessing.resize": Row(48, pictures),
    "preprocessing.interpolation": Row("bicubic", batches),
    "augment.area": Row((0.2, 0.3), batches),
    "augment.ratio": Row((0.3, 0.4), batches),
    "augment.flip_probability": Row(1.0, batches),
    "data.source": Row("tfds:of_mine", batches),
    "data.root": Row("{place}/other_shapes", batches),
    "data.train": Row("val", batches),
    "data.valid": Row("train", pictures),
    "data.valid_labels": Row("labels.txt", pictures),
    "data.workers": Row(3, threads),
    "train.batch_size": Row(4, batches),
    "train.drop_last": Row(True, batches, {"train.batch_size": 5}),
    "train.loss": Row("tests.test_every_option:other_loss", class_loss),
    "train.momentum": Row(0.5, updates),
    "train.nesterov": Row(False, updates),
    "eval.batch_size": Row(4, pictures),
    **{
        key: row
        for key, row in ROWS.items()
        if key.startswith("train.") and row.see in (updates, calls) and key != "train.optimiser"
    },
    "train.optimiser": Row("lamb", updates, {"train.momentum": 0.0, "train.nesterov": False}),
}


def seen(row, place, capsys, changed=None, config="config.py"):
    """What is seen of the task that the command makes; or its error, or the batches'."""
    arguments = [f"--config={place / config}", f"--workdir={place / 'never'}"]
    for key, value in {**row.given, **(changed or {})}.items():
        arguments.append(f"--config.{key}={value}".replace("{place}", str(place)))
    made = []

    def take(task, workdir):
        made.append(task)
        return {"step": 0, task.metric: 0.0}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train", take)
        status = cli.main(["train", *arguments])
    error = capsys.readouterr().err
    if status:
        assert status == 2 and "unexpected" not in error
        return error
    try:
        return row.see(made[0])
    except HRNetError as error:
        return str(error)


def same(a, b):
    leaves, others = (jax.tree.leaves_with_path(tree) for tree in (a, b))
    return [(path, type(leaf)) for path, leaf in leaves] == [
        (path, type(leaf)) for path, leaf in others
    ] and all(
        np.array_equal(x, y) and np.shape(x) == np.shape(y)
        for (_, x), (_, y) in zip(leaves, others, strict=True)
    )


DEFAULTS = {}  # what was seen without the change, by what is looked at and what is given


@pytest.mark.parametrize("key", flatten(plain(default_config())))
def test_a_changed_value_makes_a_difference(key, place, capsys):
    assert key in ROWS, f"{key} is new: give it a row that shows what it does"
    row, PLACE[:] = ROWS[key], [place]
    name = row.see, str(row.given)
    if name not in DEFAULTS:
        DEFAULTS[name] = seen(row, place, capsys)
        if row.see not in (run, cache):  # looking twice sees the same
            assert same(DEFAULTS[name], seen(row, place, capsys))
    changed = seen(row, place, capsys, {row.argument or key: row.value})
    assert not same(DEFAULTS[name], changed)
    # A text is a program, not an error; without TensorFlow "tfdata" says that it is not there.
    assert not isinstance(changed, str) or row.see in (program, step, made_by), changed


@pytest.mark.parametrize("key", flatten(plain(classification_config.default_config())))
def test_a_changed_value_makes_a_difference_to_a_classifier(key, place, capsys):
    if key not in CLASSIFIER_ROWS and ROWS[key].see in (run, step):
        return  # the loop's
    assert key in CLASSIFIER_ROWS, f"{key} is new: give it a row that shows what it does"
    row, PLACE[:] = CLASSIFIER_ROWS[key], [place]
    name = "classifier", row.see, str(row.given)
    if name not in DEFAULTS:
        DEFAULTS[name] = seen(row, place, capsys, config="classifier.py")
    changed = seen(row, place, capsys, {key: row.value}, "classifier.py")
    assert not same(DEFAULTS[name], changed)
    refused = ("task", "model.num_classes", "data.source")  # where the data are of another kind
    assert isinstance(changed, str) == (key in refused or row.see is program), changed


def test_no_row_is_left_of_a_key_that_is_gone():
    assert set(ROWS) == set(flatten(plain(default_config())))
    assert set(CLASSIFIER_ROWS) <= set(flatten(plain(classification_config.default_config())))
