"""Classification: preprocessing, class names, training, evaluation, prediction and their errors."""

import json
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from hrnet_jax.checkpoints.training import TrainCheckpoints
from hrnet_jax.cli import run
from hrnet_jax.cli.configs import load_config
from hrnet_jax.data import classes
from hrnet_jax.data import pictures as data
from hrnet_jax.data.preprocessing import Preprocessing, RandomCrop
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.classification import accuracy
from hrnet_jax.inference.predictor import Predictor
from hrnet_jax.models import model_names
from hrnet_jax.tasks import train
from hrnet_jax.tasks.classification import METRIC
from hrnet_jax.tasks.classification_config import default_config
from hrnet_jax.tasks.settings import check_numbers
from hrnet_jax.training import loop
from hrnet_jax.training.optimisers import create_optimiser
from tests import tiny  # noqa: F401 (adds the tiny network)

pytestmark = pytest.mark.usefixtures("quick_compile")
CLASSES = ("n01443537", "n02123045", "shape of mine")  # goldfish, tabby, no class of WordNet
COLOURS = ((220, 60, 20), (30, 200, 40), (40, 70, 230))


def write_pictures(root, train=8, valid=4, seed=0):
    """A square, a disc or a triangle of its own colour for each class, on noise; returns `root`."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("val", valid)):
        for k, name in enumerate(CLASSES):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                height, width = rng.integers(40, 60, 2)
                image = rng.integers(60, 120, (height, width, 3), np.uint8)
                y, x = np.mgrid[:height, :width] - np.array([[[height]], [[width]]]) / 2
                inside = (np.maximum(abs(x), abs(y)) < 14, np.hypot(x, y) < 15, abs(x) < y + 10)[k]
                image[inside] = COLOURS[k]
                Image.fromarray(image).save(root / split / name / f"{i}.png")
    return root


def get_config(root):
    config = ConfigDict(default_config())
    config.model.update(name="hrnet_tiny_imagenet", num_classes=3)
    config.preprocessing.update(input_size=32, resize=36)
    config.augment.area = (0.6, 1.0)
    config.data.update(root=str(root), workers=2)
    config.train.update(epochs=4, batch_size=6, learning_rate=0.02, schedule="cosine", log_every=1)
    config.eval.batch_size = 5
    return config.lock()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def config_file(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "config.py"
    path.write_text(
        "from tests import test_classification\n\n\n"
        f"def get_config():\n    return test_classification.get_config({str(pictures)!r})\n"
    )
    return path


@pytest.fixture(scope="module")
def run_once(pictures, quick_compile, tmp_path_factory):
    """A finished run, its copy as it was after two of four epochs, and its compiled step."""
    folder, made = tmp_path_factory.mktemp("runs"), []
    finished, halfway = folder / "finished", folder / "halfway"
    save, make = TrainCheckpoints.save, loop.compile_steps

    def save_and_copy(self, state, value):
        save(self, state, value)
        if int(state.step) == 8:
            shutil.copytree(finished, halfway)

    def make_and_keep(*args):
        made.append(make(*args))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainCheckpoints, "save", save_and_copy)
        patch.setattr(loop, "compile_steps", make_and_keep)
        train(get_config(pictures), finished)
    return finished, halfway, made[0]


@pytest.fixture(scope="module")
def checkpoint(run_once, tmp_path_factory):
    """The finished run as one file, which loads sooner."""
    path = tmp_path_factory.mktemp("released") / "shapes.safetensors"
    about = ["--data=shapes", "--terms=none", "--command=python train.py", "--dtype=float16"]
    assert run("export", [str(run_once[0]), str(path), *about]) == 0
    return path


def final_state(workdir):
    checkpoints = TrainCheckpoints(workdir, metric=METRIC)
    try:
        assert checkpoints.latest_step == 16
        return jax.device_get(checkpoints.load(16))
    finally:
        checkpoints.close()


def refused(capsys, command, *arguments):
    """The one line with which a command refuses its arguments."""
    assert run(command, [str(a) for a in arguments]) == 2
    errors = [e for e in capsys.readouterr().err.splitlines() if not e.endswith("left]")]
    errors = [e for e in errors if e.startswith("error:")]
    assert len(errors) == 1
    return errors[0]


# Training and what follows


def test_training_reduces_the_loss(run_once):
    lines = [json.loads(line) for line in (run_once[0] / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 16 and np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
    assert [line["epoch"] for line in lines if "top1" in line] == [1, 2, 3, 4]


def test_a_resumed_run_ends_identically(pictures, run_once, monkeypatch):
    finished, halfway, step = run_once
    monkeypatch.setattr(loop, "compile_steps", lambda *args: step)
    train(get_config(pictures), halfway)
    a, b = (jax.tree.leaves(final_state(workdir)) for workdir in (finished, halfway))
    assert len(a) > 100
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def test_evaluate(capsys, config_file, checkpoint, tmp_path):
    arguments = [f"--config={config_file}", f"--checkpoint={checkpoint}", f"--output={tmp_path}"]
    assert run("evaluate", arguments) == 0
    assert "top-1 %" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["top1"] > 50 and metrics["top5"] == 100 and metrics["count"] == 12
    assert metrics["model"] == {"name": "hrnet_tiny_imagenet", "num_classes": 3}
    assert metrics["protocol"] == {"input_size": 32, "resize": 36, "interpolation": "bilinear"}
    rows = (tmp_path / "per_image.csv").read_text().splitlines()
    assert len(rows) == 13 and rows[0].startswith("image_name,truth,class_1,probability_1")
    right = sum(row.split(",")[1] == row.split(",")[2] for row in rows[1:])
    assert 100 * right / 12 == pytest.approx(metrics["top1"])


def test_predict(capsys, monkeypatch, pictures, checkpoint, tmp_path):
    def detector(name):
        raise AssertionError("a classifier looks for no faces")

    monkeypatch.setattr("hrnet_jax.inference.detector.make_detector", detector)
    image = pictures / "val" / CLASSES[0] / "0.png"
    arguments = [str(image), f"--checkpoint={checkpoint}", f"--output={tmp_path}"]
    assert run("predict", arguments) == 0
    printed = capsys.readouterr().out
    assert "tabby, tabby cat" in printed and "shape of mine" in printed
    content = json.loads((tmp_path / "classes.json").read_text())
    (entry,) = content["images"]
    assert entry["error"] is None and content["protocol"]["resize"] == 36
    found = {guess["identifier"]: guess for guess in entry["classes"]}
    assert found.keys() == set(CLASSES)
    assert found[CLASSES[0]]["name"] == "goldfish, Carassius auratus"
    assert sum(guess["probability"] for guess in entry["classes"]) == pytest.approx(1, abs=1e-5)
    drawn, original = (np.asarray(Image.open(p)) for p in (tmp_path / "0_classes.png", image))
    np.testing.assert_array_equal(drawn[: len(original)], original)
    assert drawn[len(original) :].any()

    names = tmp_path / "names.txt"
    names.write_text("fish\ncat\nshape\n")
    assert run("predict", [*arguments, f"--names={names}"]) == 0
    assert "fish" in capsys.readouterr().out
    names.write_text("fish\ncat\n")
    assert "2 class names are given: the network has 3" in refused(
        capsys, "predict", *arguments, f"--names={names}"
    )
    assert "--box is for landmarks" in refused(capsys, "predict", *arguments, "--box=0,0,9,9")
    with pytest.raises(HRNetError, match="hrnet_tiny_imagenet tells classes"):
        Predictor(checkpoint)


def test_exported_card(checkpoint):
    card = checkpoint.with_suffix(".md").read_text()
    assert "3 classes" in card and "top-1 error" in card and "32 px from the middle of 36" in card


# Errors, one line each


def override(config_file, **values):
    return [f"--config={config_file}", *(f"--config.{k}={v}" for k, v in values.items())]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model.num_classes": 4}, "the training data have 3 classes, model.num_classes is 4"),
        ({"data.train": "absent"}, "absent: no such folder"),
        ({"data.valid_labels": "absent.txt"}, "absent.txt (data.valid_labels)"),
        ({"data.source": "web"}, "unknown data.source 'web'"),
        ({"model.name": "hrnetv2_w18"}, "hrnetv2_w18 finds landmarks"),
        ({"train.batch_size": 0}, "train.batch_size = 0"),
        ({"preprocessing.resize": 16}, "preprocessing resize = 16"),
    ],
)
def test_training_errors(capsys, config_file, tmp_path, values, message):
    arguments = override(config_file, **values)
    assert message in refused(capsys, "train", *arguments, f"--workdir={tmp_path / 'run'}")


def test_bad_pictures(capsys, pictures, config_file, checkpoint, tmp_path):
    root = tmp_path / "pictures"
    shutil.copytree(pictures, root)
    command = [f"--checkpoint={checkpoint}", f"--output={tmp_path / 'out'}"]
    evaluate = [*override(config_file, **{"data.root": root}), *command]
    for option in (
        "flip-test=on",
        "normaliser=box",
        "auc=simpson",
        "box=rectangle",
        "box-jitter=0.1",
    ):
        refusal = refused(capsys, "evaluate", *evaluate, f"--{option}")
        assert f"--{option.split('=')[0]}: for landmarks only" in refusal
    (root / "val" / CLASSES[1] / "2.png").write_bytes(b"no picture")
    assert f"{CLASSES[1]}/2.png: not an image" in refused(capsys, "evaluate", *evaluate)
    predict = [root / "val" / CLASSES[1] / "2.png", *command]
    assert "2.png: not an image" in refused(capsys, "predict", *predict)
    for file in (root / "val").rglob("*.png"):
        file.unlink()
    assert "val has no pictures" in refused(capsys, "evaluate", *evaluate)
    (root / "val" / "a fourth class").mkdir()
    message = "val has 4 classes and the network 3, of which none is 'a fourth class'"
    assert message in refused(capsys, "evaluate", *evaluate)
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    assert "val has no sub-folder for a class" in refused(capsys, "evaluate", *evaluate)


def test_a_workdir_of_another_config(capsys, config_file, run_once):
    arguments = override(config_file, **{"train.learning_rate": 0.5})
    error = refused(capsys, "train", *arguments, f"--workdir={run_once[0]}")
    assert "train.learning_rate = 0.02 there, 0.5 here" in error


# Data


def test_labels_file(tmp_path):
    (tmp_path / "val").mkdir()
    Image.new("RGB", (40, 40), (9, 8, 7)).save(tmp_path / "val" / "a b.png")
    settings = get_config(tmp_path).data
    with settings.unlocked():
        settings.valid_labels = "val.txt"
    labels = tmp_path / "val.txt"
    labels.write_text("a b.png n02123045\n\na b.png 2\n")
    found = data.open_split(settings, "valid", CLASSES, 3)
    assert [found.read(row).label for row in range(len(found))] == [1, 2]
    assert found.read(0).image[0, 0].tolist() == [9, 8, 7]
    for text in ("a b.png 3", "a b.png -1", "a b.png"):
        labels.write_text("a b.png 0\n" + text)
        with pytest.raises(HRNetError, match=r"val.txt, line 2: .* is not IMAGE CLASS"):
            data.open_split(settings, "valid", CLASSES, 3)


def test_labels_by_name_and_by_order():
    known = ["ant", "bee", "cat", "dog"]
    assert classes.map_labels(["dog", "bee"], known, 4, "d") == [3, 1]  # a part of the classes
    assert classes.map_labels(["0", "1", "2", "3"], known, 4, "d") == [0, 1, 2, 3]
    assert classes.map_labels(["x", "y"], None, 2, "d") == [0, 1]
    with pytest.raises(HRNetError, match="d has 2 classes and the network 4, of which none is 'x'"):
        classes.map_labels(["ant", "x"], known, 4, "d")


def test_tfds(tmp_path):
    pytest.importorskip("tensorflow", reason="pip install 'hrnet-jax[data]'")
    from hrnet_jax.data import tfdata  # noqa: F401 (before TensorFlow says its greetings)

    tfds = pytest.importorskip("tensorflow_datasets")
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=CLASSES),
        "file_name": tfds.features.Text(),
    }
    images = [np.full((20, 30, 3), 40 * k, np.uint8) for k in range(5)]
    rows = [
        (k, {"image": image, "label": k % 3, "file_name": f"{k}.png"})
        for k, image in enumerate(images)
    ]
    for name, form in (("shapes", "array_record"), ("old", "tfrecord")):
        tfds.dataset_builders.store_as_tfds_dataset(
            name,
            version="1.0.0",
            features=tfds.features.FeaturesDict(features),
            split_datasets={"train": rows[:3], "validation": rows},
            data_dir=tmp_path,
            file_format=form,
            disable_shuffling=True,
        )
    settings = get_config(tmp_path).data
    with settings.unlocked():
        settings.update(source="tfds:shapes", valid="validation")
    assert data.find_classes(settings) == list(CLASSES)
    found = data.open_split(settings, "valid", CLASSES[::-1], 3)
    read = [found.read(row) for row in range(len(found))]
    assert [(p.name, p.label) for p in read] == [
        ("0.png", 2), ("1.png", 1), ("2.png", 0), ("3.png", 2), ("4.png", 1)
    ]  # fmt: skip
    assert read[4].image.shape == (20, 30, 3) and (read[4].image == 160).all()
    with settings.unlocked():
        settings.source = "tfds:old"
    with pytest.raises(HRNetError, match="tfds build old --file_format=array_record"):
        data.open_split(settings, "valid", CLASSES, 3)
    with settings.unlocked():
        settings.source = "tfds:absent_one"
    with pytest.raises(HRNetError, match="TFDS has no absent_one"):
        data.find_classes(settings)


def test_batches_depend_on_seed_and_step_alone(pictures):
    config = get_config(pictures)
    found = data.open_split(config.data, "train", CLASSES, 3)
    preprocessing = Preprocessing(32, 36)

    def batches(seed):
        return data.TrainBatches(found, preprocessing, RandomCrop(), 7, seed)

    made = batches(0)
    assert made.steps_per_epoch == 4 and len(made(3)["label"]) == 3
    np.testing.assert_array_equal(made(5)["image"], batches(0)(5)["image"])
    assert (made(5)["image"] != batches(1)(5)["image"]).any()
    assert sorted(sum((made(k)["label"].tolist() for k in range(4)), [])) == sorted(8 * [0, 1, 2])


# Preprocessing


@pytest.mark.parametrize(("height", "width"), [(300, 400), (400, 300), (256, 256), (31, 97)])
def test_crop_is_the_official_one(height, width):
    """Shorter side to 256 with Pillow's filter, then the middle: torchvision's rounding."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    short, long = sorted((height, width))
    size = (256, 256 * long // short) if width <= height else (256 * long // short, 256)
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    top, left = (round((length - 224) / 2) for length in resized.shape[:2])
    expected = resized[top : top + 224, left : left + 224]
    made = Preprocessing().crop(image)
    assert made.shape == (224, 224, 3)
    np.testing.assert_array_equal(made, expected)


def test_random_crops():
    rng = np.random.default_rng(0)
    crop = RandomCrop()
    boxes = np.array([crop.box(300, 200, rng) for _ in range(2000)])
    left, top, width, height = boxes.T
    assert (boxes[:, :2] >= 0).all() and (left + width <= 300).all() and (top + height <= 200).all()
    share, ratio = width * height / 60000, width / height
    assert 0.078 < share.min() < 0.1 and share.max() > 0.7
    assert 0.74 < ratio.min() < 0.77 and 1.3 < ratio.max() < 1.35
    assert crop.box(900, 30, rng) == (430, 0, 40, 30)  # 4:3 of a strip that no draw fits
    assert crop.box(30, 900, rng) == (0, 430, 30, 40)
    image = np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3)
    whole = RandomCrop(area=(1.0, 1.0), ratio=(1.25, 1.25), flip_probability=1.0)
    expected = Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)
    made = whole(image, Preprocessing(32, 36), rng)
    np.testing.assert_array_equal(made, np.asarray(expected)[:, ::-1])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RandomCrop(area=(0.0, 1.0)),
        lambda: RandomCrop(ratio=(2.0, 1.0)),
        lambda: RandomCrop(flip_probability=1.5),
        lambda: Preprocessing(interpolation="area"),
        lambda: Preprocessing(input_size=8),
        lambda: Preprocessing.from_dict({"name": "float"}),
    ],
)
def test_wrong_preprocessing(wrong):
    with pytest.raises(HRNetError):
        wrong()


# Small parts


def test_accuracy():
    ranked = np.array([[3, 1, 2, 4, 5], [0, 1, 2, 3, 4], [9, 8, 7, 6, 5], [1, 2, 3, 4, 5]])
    assert accuracy(np.array([3, 4, 0, 2]), ranked) == {"top1": 25.0, "top5": 75.0}


def test_imagenet_words():
    found = classes.imagenet_words()
    assert len(found) == 1000 and list(found) == sorted(found)
    assert list(found.items())[281] == ("n02123045", "tabby, tabby cat")
    metadata = {"classes": classes.IMAGENET_1K, "model": {"num_classes": 1000}}
    assert classes.model_classes(metadata)[0] == "n01440764"
    for wrong in ("cats", [1, 2], ["a"], {}):
        with pytest.raises(HRNetError, match="metadata"):
            classes.model_classes({"classes": wrong, "model": {"num_classes": 2}})


def test_sgd_is_pytorchs():
    torch = pytest.importorskip("torch", reason="pip install 'hrnet-jax[torch]' to compare")
    config = ConfigDict(default_config())
    config.train.update(learning_rate=0.1, milestones=(2,))
    optimiser = create_optimiser(config.train, 1, 100)
    ours = np.array([1.0, -2.0], np.float32)
    theirs = torch.nn.Parameter(torch.tensor(ours))
    sgd = torch.optim.SGD([theirs], 0.1, 0.9, weight_decay=1e-4, nesterov=True)
    state = optimiser.init(ours)
    for step in range(4):
        sgd.param_groups[0]["lr"] = 0.1 if step < 2 else 0.01
        theirs.grad = 2 * theirs.detach() + step
        updates, state = optimiser.update(2 * ours + step, state, ours)
        ours = ours + updates
        sgd.step()
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("argument", ["", ":tfds", ":quicktest"])
def test_the_imagenet_config(argument):
    config = load_config(f"configs/imagenet_w18.py{argument}")
    assert config.task == "classification" and config.model.name in model_names()
    check_numbers(config)
    assert Preprocessing(**config.preprocessing.to_dict()).input_size in (224, 64)
