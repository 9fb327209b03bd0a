"""Loose crops: every face with the surroundings that its augmentation can reach, all of one size.

What `hrnet_jax.data.device` keeps on the device. Their resolution is the highest that one bilinear
warp reads without aliasing: a face that is smaller in its picture is kept pixel by pixel, a larger
one is shrunk so that the largest drawn box has 4/3 of the input's pixels.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import safetensors

from hrnet_jax.data.device_augment import reach
from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import local_path
from hrnet_jax.images.augment import Augmentation
from hrnet_jax.images.crops import ANTIALIAS_BELOW, loose_crop
from hrnet_jax.protocols import Protocol
from hrnet_jax.tensors import write_safetensors

_FORMAT = 1  # of the file
_BORDER = 2  # pixels around what is needed, for rounding and for the filter's neighbours
_DTYPES = {"uint8": "U8", "float32": "F32"}


def crop_size(records: Records, protocol: Protocol, augmentation: Augmentation) -> int:
    """Side of the loose crops, pixels: as sharp as a warp can read, or as the pictures are."""
    box = protocol.input_size / (ANTIALIAS_BELOW * (1 + augmentation.scale))
    sharpest = box * reach(augmentation, protocol.padding)
    largest = _needed_sides(records, protocol, augmentation).max()
    return math.ceil(min(sharpest, largest)) + 2 * _BORDER


def _needed_sides(records, protocol, augmentation):
    """(N,) sides of the squares about the boxes' centres that augmentation reaches, in pixels."""
    boxes = records.sides * protocol.padding
    flip = 2 * abs(augmentation.flip_offset + 2 * protocol.index_offset)
    return reach(augmentation, protocol.padding) * boxes + flip


def shapes(records: Records, size: int) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of every array of `make_crops`."""
    count, landmarks = records.points.shape[:2]
    return {
        "images": ((count, 3, size, size), "uint8"),
        "anchors": ((count, 2), "float32"),
        "sides": ((count,), "float32"),
        "zooms": ((count,), "float32"),
        "offsets": ((count, landmarks, 2), "float32"),
        "weights": ((count, landmarks), "float32"),
    }


def make_crops(
    records: Records,
    protocol: Protocol,
    augmentation: Augmentation,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, np.ndarray]:
    """Reads the pictures of all faces, a thread for each processor, and cuts the loose crops.

    Args:
      records: N faces.
      protocol: "float" or "mmpose".
      augmentation: says how far beyond the box the crops must reach.
      progress: wraps the list of faces (tqdm, say).

    Returns:
      images: uint8 (N, 3, R, R), RGB; three planes, because TPUs pad a last axis of three to 128.
      anchors: (N, 2), the box's centre in the loose crop, whose pixel k lies at k.
      sides: (N,), the padded box's side in pixels of the loose crop.
      zooms: (N,), pixels of the loose crop for one of the picture, at most 1.
      offsets: (N, L, 2), landmarks from the box's centre, in padded box sides; 0 if not finite.
      weights: (N, L), 0 for a landmark that is not finite, else 1.
      All but the images are float32.

    Raises:
      HRNetError: a picture cannot be read, or a box has no or far too many pixels.
    """
    size = crop_size(records, protocol, augmentation)
    needed = _needed_sides(records, protocol, augmentation) * size / (size - 2 * _BORDER)
    crops = {key: np.zeros(*what) for key, what in shapes(records, size).items()}
    offset = protocol.index_offset

    def fill(row):
        center, side = records.centers[row], records.sides[row] * protocol.padding
        image = records.image(row)
        try:
            image, low, zoom = loose_crop(image, center + offset, needed[row], size)
        except HRNetError as error:
            raise HRNetError(f"{records.path(row)}: {error}") from error
        finite = np.asarray(np.isfinite(records.points[row]).all(axis=-1))
        crops["images"][row] = np.moveaxis(image, -1, 0)
        crops["anchors"][row] = (center + offset - low) * zoom - 0.5
        crops["sides"][row], crops["zooms"][row] = side * zoom, zoom
        crops["offsets"][row] = np.where(finite[:, None], (records.points[row] - center) / side, 0)
        crops["weights"][row] = finite

    pool = ThreadPoolExecutor(thread_name_prefix="crops")
    try:
        for filled in progress([pool.submit(fill, row) for row in range(len(records))]):
            filled.result()
    finally:
        pool.shutdown(cancel_futures=True)
    return crops


def stored_crops(
    path: str | Path,
    records: Records,
    protocol: Protocol,
    augmentation: Augmentation,
    progress: Callable[[Iterable], Iterable] = iter,
) -> dict[str, np.ndarray]:
    """`make_crops`, kept in a safetensors file: a start where it exists opens no picture.

    The file knows annotations and settings, not the pictures: delete it where those change.

    Raises:
      HRNetError: as `make_crops`; the file is of other faces or settings, damaged, or not writable.
    """
    path = local_path(path, "data.cache")
    digest = _digest(records, protocol, augmentation)
    if not path.exists():
        crops = make_crops(records, protocol, augmentation, progress)
        write_safetensors(path, crops, {"loose_crops": digest})
        return crops
    expected = shapes(records, crop_size(records, protocol, augmentation))
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            if (file.metadata() or {}).get("loose_crops") != digest:
                raise HRNetError(
                    f"{path} does not hold the crops of these faces with this protocol and "
                    "augment: delete it, or name another data.cache"
                )
            for key, (shape, dtype) in expected.items():
                part = file.get_slice(key)
                if (tuple(part.get_shape()), part.get_dtype()) != (shape, _DTYPES[dtype]):
                    raise ValueError(f"{key} has another shape")
            return {key: file.get_tensor(key) for key in expected}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise HRNetError(f"{path} is damaged ({reason}): delete it") from error


def _digest(records, protocol, augmentation):
    """What the crops depend on, but for the pixels of the pictures."""
    settings = [
        _FORMAT,
        crop_size(records, protocol, augmentation),
        reach(augmentation, protocol.padding),
        augmentation.flip_offset,
        protocol.padding,
        protocol.index_offset,
        records.names,
    ]
    found = hashlib.sha256(json.dumps(settings).encode())
    for table in (records.points, records.centers, records.scales):
        found.update(np.ascontiguousarray(table, np.float64).tobytes())
    return found.hexdigest()
