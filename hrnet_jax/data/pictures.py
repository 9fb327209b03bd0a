"""Labelled pictures: a folder with one sub-folder for each class, or a TensorFlow data set."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from hrnet_jax.data.classes import map_labels
from hrnet_jax.data.pipeline import Batch, shard_slice
from hrnet_jax.data.preprocessing import Preprocessing, RandomCrop
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, list_files
from hrnet_jax.images import read_image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


class Picture(NamedTuple):
    """name; image: uint8 (H, W, 3) RGB; label: number of the network's output."""

    name: str
    image: np.ndarray
    label: int


@dataclasses.dataclass(frozen=True)
class Pictures:
    """`count` labelled pictures; `read(row)` gives one of them as a `Picture`."""

    count: int
    read: Callable[[int], Picture]

    def __len__(self):
        return self.count


def find_classes(data, split: str = "train") -> list[str]:
    """Identifiers of the classes of a split: its sub-folders, sorted, or a TFDS label's names.

    Args:
      data: `config.data`, see `hrnet_jax.tasks.classification_config`.

    Raises:
      HRNetError: the folder or data set is not there, or has no classes.
    """
    if data.source == "folder":
        folder = as_path(data.root) / data[split]
        if not folder.is_dir():
            raise HRNetError(f"{folder}: no such folder (data.root and data.{split} name it)")
        found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        if not found:
            raise HRNetError(f"{folder} has no sub-folder for a class")
        return found
    return _tfds_builder(data).info.features["label"].names


def open_split(data, split: str, known: Sequence[str] | None, count: int) -> Pictures:
    """The labelled pictures of a split ("train" or "valid") that `config.data` describes.

    Args:
      data: `config.data`, see `hrnet_jax.tasks.classification_config`.
      known: identifiers of the network's outputs, where they are known.
      count: number of the network's outputs.

    Raises:
      HRNetError: nothing there, no pictures, or classes that the network has not.
    """
    if data.source != "folder":
        return _open_tfds(data, split, known, count)
    folder = as_path(data.root) / data[split]
    if split == "valid" and data.valid_labels:
        files, labels = _read_labels(as_path(data.root) / data.valid_labels, known, count)
    else:
        found = find_classes(data, split)
        files, labels = [], []
        for name, label in zip(found, map_labels(found, known, count, str(folder)), strict=True):
            inside = _list_pictures(folder, name)
            files += inside
            labels += [label] * len(inside)
    if not files:
        raise HRNetError(f"{folder} has no pictures ({', '.join(SUFFIXES)})")
    return Pictures(
        len(files), lambda row: Picture(files[row], read_image(folder / files[row]), labels[row])
    )


def _list_pictures(folder, name):
    """Pictures under folder/name at any depth: paths relative to `folder`, sorted."""
    return [file for file in list_files(folder, name) if file.lower().endswith(SUFFIXES)]


def _read_labels(path, known, count):
    """(files, labels) of a file with lines "IMAGE CLASS"."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise HRNetError(f"cannot read {path} (data.valid_labels): {error}") from error
    places = {name: place for place, name in enumerate(known or ())}
    places |= {str(place): place for place in range(count) if str(place) not in places}
    files, labels = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        file, _, name = line.strip().rpartition(" ")
        if not file or name not in places:
            raise HRNetError(
                f"{path}, line {number}: {line[:80]!r} is not IMAGE CLASS, with the name of one of "
                f"the network's classes or a number from 0 to {count - 1}"
            )
        files.append(file)
        labels.append(places[name])
    return files, labels


def _tfds_builder(data) -> Any:
    prefix, _, name = data.source.partition(":")
    if prefix != "tfds" or not name:
        raise HRNetError(f"unknown data.source {data.source!r}: choose 'folder' or 'tfds:NAME'")
    from hrnet_jax.data import tfdata  # noqa: F401 (imports TensorFlow, its GPUs hidden)

    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise HRNetError("TensorFlow Datasets: pip install 'hrnet-jax[data]'") from error
    try:
        builder: Any = tfds.builder(name, data_dir=data.root)
    except Exception as error:  # of many types; the message may have many lines
        reason = " ".join(str(error).split())[:200]
        raise HRNetError(f"TFDS has no {name} under {data.root}: {reason}") from error
    if not {"image", "label"} <= set(builder.info.features):
        raise HRNetError(f"the TFDS {name} has no image and label: choose one for classification")
    return builder


def _open_tfds(data, split, known, count):
    builder = _tfds_builder(data)
    found = builder.info.features["label"].names
    places = map_labels(found, known, count, data.source)
    try:
        rows = builder.as_data_source(split=data[split])
    except Exception as error:
        raise HRNetError(
            f"cannot read the split {data[split]!r} of {data.source} under {data.root}: prepare it "
            f"there with `tfds build {builder.name} --file_format=array_record`, which can be read "
            f"in any order ({' '.join(str(error).split())[:150]})"
        ) from error

    def read(row):
        example = rows[row]
        image = example["image"]
        name = example.get("file_name", b"%d" % row)  # ImageNet has names
        label = places[int(example["label"])]
        return Picture(name.decode(), np.broadcast_to(image, (*image.shape[:2], 3)), label)

    return Pictures(len(rows), read)


@dataclasses.dataclass(frozen=True)
class TrainBatches:
    """The batches of a training run, by step number from 0: each a function of (seed, step).

    A batch holds `image` uint8 (B, S, S, 3) RGB and `label` int32 (B,). B is `batch_size`, or less
    in the last batch of an epoch unless `drop_last`. With `shard` = (i, n) it holds part i of n
    equal parts of that batch: what process i of n feeds to its devices.
    """

    pictures: Pictures
    preprocessing: Preprocessing
    augmentation: RandomCrop
    batch_size: int
    seed: int
    drop_last: bool = False
    shard: tuple[int, int] = (0, 1)

    @property
    def steps_per_epoch(self) -> int:
        full, rest = divmod(len(self.pictures), self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def __call__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.pictures))
        rows = order[position * self.batch_size : (position + 1) * self.batch_size]
        rows = rows[shard_slice(self.shard, len(rows), "train.batch_size")]
        images, labels = [], []
        for row in rows:
            picture = self.pictures.read(int(row))
            rng = np.random.default_rng([self.seed, 1, epoch, row])
            images.append(self.augmentation(picture.image, self.preprocessing, rng))
            labels.append(picture.label)
        return {"image": np.stack(images), "label": np.array(labels, np.int32)}


@dataclasses.dataclass(frozen=True)
class EvalBatches:
    """The pictures in order, in batches of one size: the last one is filled up with black.

    A batch holds `image` as above, `label` int32 (B,), -1 where there is no picture, and `name`
    (B,). With `shard` = (i, n) it holds part i of n equal parts of that batch.
    """

    pictures: Pictures
    preprocessing: Preprocessing
    batch_size: int
    shard: tuple[int, int] = (0, 1)

    @property
    def steps(self) -> int:
        return -(-len(self.pictures) // self.batch_size)

    def __call__(self, step: int) -> Batch:
        rows = step * self.batch_size + np.arange(self.batch_size)
        rows = rows[shard_slice(self.shard, self.batch_size, "eval.batch_size")]
        images = np.zeros((len(rows), *(self.preprocessing.input_size,) * 2, 3), np.uint8)
        labels, names = np.full(len(rows), -1, np.int32), [""] * len(rows)
        for k, row in enumerate(rows[rows < len(self.pictures)].tolist()):
            picture = self.pictures.read(row)
            images[k] = self.preprocessing.crop(picture.image)
            labels[k], names[k] = picture.label, picture.name
        return {"image": images, "label": labels, "name": np.array(names)}
