"""COFW (Burgos-Artizzu et al., ICCV 2013): 29 points with occlusion flags, 1345 and 507 faces.

The pictures are arrays in MATLAB v7.3 files (HDF5), read through h5py and written as PNG, which
keeps every pixel. In HDF5's order of axes, `phisTr` is (87, N): 29 x, 29 y and 29 flags, 1 where
the landmark is occluded; `IsTr` (1, N) refers to one array for each picture, (W, H) or (3, W, H);
`bboxesTr` (4, N) is x, y, width, height. Coordinates count pixels from 1 and are used as they are,
as the official code does; boxes are those of the landmarks.
"""

import contextlib
from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from hrnet_jax.data.prepare.faces import DataSet, Faces, Pictures, Problems
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.errors import HRNetError

WHERE = """\
COFW_color.zip (COFW_train_color.mat and COFW_test_color.mat) from
https://data.caltech.edu/records/bc0bf-nc666, as it is or unpacked."""
NUM_LANDMARKS = 29
PUBLISHED = {("face_landmarks_cofw_train", None): 1345, ("face_landmarks_cofw_test", None): 507}
CONFIG = "configs/cofw_w18.py"

_SUFFIXES = {"train": "Tr", "test": "T"}
_MAX_FACES = 100_000
_MAX_PIXELS = 179_000_000  # as many as Pillow opens


def read(source: Source, problems: Problems) -> DataSet:
    """COFW_train_color.mat and COFW_test_color.mat, or the one of them that is there."""
    splits, files = {}, {}
    for split in _SUFFIXES:
        for file in source.ending(f"cofw_{split}_color.mat")[:1]:
            files[split] = file
            splits[f"face_landmarks_cofw_{split}"] = _read_faces(source, file, split, problems)
    if not splits:
        raise HRNetError(f"{source.folder} has no annotations of cofw. It needs {WHERE}")

    return DataSet(splits, MatPictures(source, files))


class MatPictures(Pictures):
    """The pictures in the .mat files, as PNG."""

    def __init__(self, source: Source, files: dict[str, str]):
        self._source, self._files = source, files

    def missing(self, names: Iterable[str]) -> list[str]:
        return []  # their number was checked

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        names = list(names)
        for split, file in self._files.items():
            rows = [name for name in names if name.startswith(f"{split}/")]
            if not rows:
                continue
            with _open(self._source, file) as mat:
                place = self._source.place(file)
                references = _dataset(mat, f"Is{_SUFFIXES[split]}", place)
                for name in rows:
                    number = int(name.removeprefix(f"{split}/").removesuffix(".png"))
                    yield name, _picture(mat, references, number, place)


def _read_faces(source, file, split, problems):
    place, suffix = source.place(file), _SUFFIXES[split]
    with _open(source, file) as mat:
        values = _numbers(mat, f"phis{suffix}", 3 * NUM_LANDMARKS, place)
        boxes = None
        if f"bboxes{suffix}" in mat:
            boxes = _numbers(mat, f"bboxes{suffix}", 4, place)
        count = _dataset(mat, f"Is{suffix}", place).size
    for found, what in ((values, "phis"), (boxes, "bboxes")):
        if found is not None and len(found) != count:
            raise HRNetError(
                f"{place}: {count} pictures, but {what}{suffix} has {len(found)} faces"
            )
    faces = Faces(problems)
    for row, value in enumerate(values):
        x, y, occluded = value.reshape(3, NUM_LANDMARKS)
        corners = None
        if boxes is not None:
            x0, y0, width, height = boxes[row].tolist()
            corners = [x0, y0, x0 + width, y0 + height]
        with problems.guard():
            faces.add(
                f"{place}, face {row + 1}",
                f"{split}/{row + 1:04d}.png",
                np.stack([x, y], axis=1),
                rectangle=corners,
                visible=occluded == 0,
            )
    return faces.records(place)


@contextlib.contextmanager
def _open(source, file):
    try:
        import h5py
    except ImportError as error:
        raise HRNetError("MATLAB files need h5py: pip install 'hrnet-jax[data]'") from error
    with source.local(file) as path:
        try:
            mat = h5py.File(path, "r")
        except OSError as error:
            raise HRNetError(
                f"{source.place(file)} is no MATLAB v7.3 file, or is cut off: {error}"
            ) from error
        with mat:
            yield mat


def _dataset(mat, name, place):
    """A data set of the file itself: HDF5 can also point into other files."""
    import h5py

    link = mat.get(name, getlink=True)
    if link is None:
        raise HRNetError(f"{place} has no {name}: it holds {', '.join(list(mat)[:8]) or 'nothing'}")
    found = mat[name] if isinstance(link, h5py.HardLink) else None
    return _own(found, f"{place}, {name}")


def _own(found, place):
    import h5py

    if not isinstance(found, h5py.Dataset) or found.external or found.is_virtual:
        raise HRNetError(f"{place} is not an array in this file")
    return found


def _numbers(mat, name, rows, place):
    """A (rows, N) array of numbers as float64 (N, rows)."""
    found = _dataset(mat, name, place)
    if found.ndim != 2 or found.shape[0] != rows or not 1 <= found.shape[1] <= _MAX_FACES:
        raise HRNetError(f"{place}, {name}: its shape is {found.shape}, not ({rows}, faces)")
    if found.dtype.kind not in "fiu":
        raise HRNetError(f"{place}, {name}: {found.dtype} are not numbers")
    return _values(found, f"{place}, {name}").astype(np.float64).T


def _picture(mat, references, number, place):
    """The PNG file of picture `number` (from 1)."""
    import h5py

    place = f"{place}, picture {number}"
    if h5py.check_ref_dtype(references.dtype) is not h5py.Reference:
        raise HRNetError(f"{place}: {references.dtype} refers to no array")
    reference = _values(references, place).reshape(-1)[number - 1]
    found = _own(mat[reference] if reference else None, place)
    color = found.ndim == 3 and found.shape[0] == 3
    if found.dtype != np.uint8 or not (found.ndim == 2 or color) or not found.size:
        raise HRNetError(f"{place}: {found.dtype} {found.shape} is no picture")
    if found.size > 3 * _MAX_PIXELS:
        raise HRNetError(f"{place} has more than {_MAX_PIXELS // 10**6} million pixels")
    pixels = np.ascontiguousarray(_values(found, place).T)  # (H, W) or (H, W, 3)
    return cv2.imencode(".png", pixels[..., ::-1] if color else pixels)[1].tobytes()


def _values(found, place):
    try:
        return found[()]
    except (OSError, ValueError, RuntimeError) as error:
        raise HRNetError(f"{place} cannot be read: {error}") from error
