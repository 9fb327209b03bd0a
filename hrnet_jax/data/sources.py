"""From `config.data` to the annotated faces of a split."""

import functools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hrnet_jax.data.attributes import read_attributes
from hrnet_jax.data.records import Records, read_csv
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path
from hrnet_jax.geometry import landmark_box
from hrnet_jax.rendered import SyntheticFaces
from hrnet_jax.schemes import Scheme

SPLITS = ("train", "valid")


def open_split(data, scheme: Scheme, split: str) -> Records:
    """The faces of `split` ("train" or "valid") that `config.data` describes.

    "csv": an annotation file in the official columns, its images under `root`/`images`, its
    subsets, rectangles and visibilities in the sidecar (`hrnet_jax.data.attributes`), if any.
    "device": the same faces; training then takes its batches from `hrnet_jax.data.device`.
    "synthetic": faces rendered now, held in memory; train and valid never share one.
    """
    if split not in SPLITS:
        raise HRNetError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    count = data[f"{split}_count"]
    if count < 0:
        raise HRNetError(f"data.{split}_count = {count}: give how many faces, or 0 for all")
    if data.source in ("csv", "device"):
        records = open_annotations(data[split], data.root, data.images, scheme)
        return records[:count] if count else records
    if data.source == "synthetic":
        if scheme.name != "300w":
            raise HRNetError(f"synthetic faces have the 300w scheme, not {scheme.name!r}")
        if count < 1 or data.size < 32:
            raise HRNetError(
                f"data.{split}_count = {count} and data.size = {data.size}: synthetic faces need "
                "how many to render (1 at least) and how large (32 pixels at least)"
            )
        seed = len(SPLITS) * data.seed + SPLITS.index(split)
        return render_split(count, seed, data.size, split)
    raise HRNetError(f"unknown data.source {data.source!r}: choose csv, device or synthetic")


def open_annotations(file: str, root, images: str, scheme: Scheme) -> Records:
    """The faces of the annotation file root/`file`, their pictures under root/`images`."""
    root = as_path(root)
    path = root / file
    records = read_csv(path, root / images, scheme.num_landmarks)
    return read_attributes(path, records)


@functools.lru_cache(maxsize=2)
def render_split(count: int, seed: int, size: int, name: str) -> Records:
    """Renders `count` synthetic faces of `size` pixels; each depends on (seed, its number) only.

    The last two splits are kept: runs of one process share them.
    """
    faces = SyntheticFaces(count, seed, size)
    with ThreadPoolExecutor() as pool:  # OpenCV draws outside Python's lock
        pictures, points = zip(*pool.map(faces.__getitem__, range(count)), strict=True)
    boxes = [landmark_box(p) for p in points]
    return Records(
        names=tuple(f"{name}_{i:05d}" for i in range(count)),
        root=Path(),
        points=np.stack(points),
        centers=np.stack([center for center, _ in boxes]),
        sides=np.array([side for _, side in boxes]),
        pictures=np.stack(pictures),
    )


def describe_split(data, split: str) -> str:
    """The split in a few words, for results and model cards."""
    if data.source in ("csv", "device"):
        return data[split] + (
            f" (first {data[f'{split}_count']})" if data[f"{split}_count"] else ""
        )
    return f"{data[f'{split}_count']} {data.source} faces ({split})"
