"""From annotated faces to batches: seeded per sample, restartable from a step number.

A batch is a pure function of (seed, step): its rows come from the epoch's permutation, each
sample's augmentation from its own generator. So the iterators below only decide how batches are
computed ahead of the step that needs them, give identical bytes, and need no state but the step.
"""

import dataclasses
import functools
import importlib
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.images import ImageCache, ImageError
from hrnet_jax.images.augment import Augmentation, Draw
from hrnet_jax.protocols import Protocol

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class TrainBatches:
    """The batches of a training run, by step number from 0.

    A batch holds `image` uint8 (B, S, S, 3) RGB, `points` float32 (B, L, 2) in heatmap pixels and
    `weights` float32 (B, L). B is `batch_size`, or less in the last batch of an epoch unless
    `drop_last`. With `shard` = (i, n) it holds part i of n equal parts of that batch, in order:
    what process i of n feeds to its devices. The parts together are the batch of (0, 1).

    An image that is missing or damaged is an HRNetError that names it. With `skip_bad` another
    face takes its place, which one depends on (seed, epoch, row) only, and `bad` tells of it: what
    is wrong with each such image that was met so far, by name.

    `opener` opens image files; which one changes the speed, not the pixels.
    """

    records: Records
    protocol: Protocol
    augmentation: Augmentation
    flip_permutation: np.ndarray
    batch_size: int
    seed: int
    drop_last: bool = False
    shard: tuple[int, int] = (0, 1)
    skip_bad: bool = False
    bad: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)
    opener: Callable = dataclasses.field(default_factory=ImageCache, compare=False)

    def __post_init__(self):
        shard_slice(self.shard, self.batch_size, "train.batch_size")
        if not self.drop_last:
            last = len(self.records) % self.batch_size
            shard_slice(self.shard, last, "the last batch of an epoch", "set train.drop_last=True")

    @property
    def steps_per_epoch(self) -> int:
        full, rest = divmod(len(self.records), self.batch_size)
        return full if self.drop_last or not rest else full + 1

    def rows(self, step: int) -> tuple[int, np.ndarray]:
        """The epoch of a step and the rows of `records` in its batch (in this shard's part)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = _permutation(self.seed, epoch, len(self.records))
        rows = order[position * self.batch_size : (position + 1) * self.batch_size]
        return epoch, rows[shard_slice(self.shard, len(rows), "train.batch_size")]

    def __call__(self, step: int) -> Batch:
        epoch, rows = self.rows(step)
        samples = [self.sample(epoch, row) for row in rows]
        return {key: np.stack([s[key] for s in samples]) for key in ("image", "points", "weights")}

    def draw(self, epoch: int, row: int) -> Draw:
        """How a sample's box and picture are changed."""
        return self.augmentation.draw(self._generator(epoch, row))

    def sample(self, epoch: int, row: int) -> Batch:
        """One augmented sample: the same for the same (seed, epoch, row)."""
        try:
            return self._make_sample(epoch, row)
        except ImageError as error:
            if not self.skip_bad:
                raise
            self.bad[self.records.names[row]] = str(error)
        others = np.random.default_rng([self.seed, 2, epoch, row])
        for other in others.integers(len(self.records), size=_MOST_BAD).tolist():
            try:
                return self._make_sample(epoch, other)
            except ImageError as error:
                self.bad[self.records.names[other]] = str(error)
        first = next(iter(self.bad.values()))
        raise HRNetError(f"{_MOST_BAD} images in a row cannot be read; the first: {first}")

    def _make_sample(self, epoch, row):
        records = self.records
        return self.protocol.sample(
            records.open(row, self.opener),
            records.points[row],
            records.centers[row],
            records.sides[row],
            self.augmentation,
            self.flip_permutation,
            self._generator(epoch, row),
        )

    def _generator(self, epoch, row):
        return np.random.default_rng([self.seed, 1, epoch, row])


@dataclasses.dataclass(frozen=True)
class EvalBatches:
    """The faces in order, not augmented, in batches of one size: the last is filled up.

    A batch holds `image` uint8 (B, S, S, 3) RGB and `mask` bool (B,), False where there is no face
    (the image is black). With `shard` = (i, n) it holds part i of n equal parts, as `TrainBatches`:
    every process makes as many batches, of one size, and face k is row k % B of batch k // B.
    """

    records: Records
    protocol: Protocol
    batch_size: int
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self):
        shard_slice(self.shard, self.batch_size, "eval.batch_size")

    @property
    def steps(self) -> int:
        return -(-len(self.records) // self.batch_size)

    def __call__(self, step: int) -> Batch:
        rows = step * self.batch_size + np.arange(self.batch_size)
        rows = rows[shard_slice(self.shard, self.batch_size, "eval.batch_size")]
        mask = rows < len(self.records)
        images = np.zeros((len(rows), *(self.protocol.input_size,) * 2, 3), np.uint8)
        for image, row in zip(images, rows[mask].tolist(), strict=False):
            image[:] = self.protocol.crop(
                self.records.open(row), self.records.centers[row], self.records.sides[row]
            )
        return {"image": images, "mask": mask}


def shard_slice(shard, size, key, advice="choose a multiple of their number") -> slice:
    """The part of a batch of `size` rows that `shard` names."""
    index, count = shard
    if not 0 <= index < count:
        raise HRNetError(f"shard {index} of {count}: count them from 0")
    if size % count:
        raise HRNetError(
            f"{key}: a batch of {size} cannot be shared by {count} processes: {advice}"
        )
    return slice(index * size // count, (index + 1) * size // count)


_MOST_BAD = 100  # damaged images in a row, after which a run stops all the same


@functools.lru_cache(maxsize=4)
def _permutation(seed, epoch, count):
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def iterate_threads(
    batch: Callable[[int], Batch], start: int, stop: int, workers: int = 0
) -> Iterator[Batch]:
    """Yields batch(start), …, batch(stop - 1), computed ahead by threads (0: one a processor)."""
    workers = max(workers, 0) or os.cpu_count() or 1
    pool = ThreadPoolExecutor(workers, "batches")
    ahead = deque()
    try:
        for step in range(start, stop):
            ahead.append(pool.submit(batch, step))
            if len(ahead) > workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def iterate_tfdata(
    batch: Callable[[int], Batch], start: int, stop: int, workers: int = 0
) -> Iterator[Batch]:
    """The same batches through a `tf.data` pipeline: parallel map and prefetch, in order.

    TensorFlow decodes only the part of a large JPEG file that the crop sees, to the same pixels.
    """
    from hrnet_jax.data import tfdata  # TensorFlow: only when asked for

    if isinstance(batch, TrainBatches):
        opener = ImageCache(decode_window=tfdata.decode_window)
        batch = dataclasses.replace(batch, opener=opener)
    return tfdata.iterate(batch, start, stop, workers or os.cpu_count() or 1)


LOADERS = {"threads": iterate_threads, "tfdata": iterate_tfdata}


def choose_loader(name: str) -> tuple[str, str]:
    """What `data.loader` asks for: (a name of `LOADERS`, a line that says which and why).

    "auto" is tf.data where TensorFlow can be imported, threads where not. HRNetError for an unknown
    name, and for "tfdata" without TensorFlow.
    """
    if name not in ("auto", *LOADERS):
        choices = ", ".join(("auto", *LOADERS))
        raise HRNetError(f"unknown data.loader {name!r}: choose one of {choices}")
    if name == "threads":
        return name, "batches by threads"
    try:
        importlib.import_module("hrnet_jax.data.tfdata")
    except HRNetError:
        if name == "tfdata":
            raise
        return "threads", "batches by threads: TensorFlow is not installed, nor needed"
    return "tfdata", "batches by tf.data"


def iterate(
    loader: str, batch: Callable[[int], Batch], start: int, stop: int, workers: int = 0
) -> Iterator[Batch]:
    """Yields the batches of steps [start, stop) with the loader of that name (`choose_loader`)."""
    loader, _ = choose_loader(loader)
    if workers < 0:
        raise HRNetError(
            f"data.workers = {workers}: give a number of threads, or 0 for as many as processors"
        )
    return LOADERS[loader](batch, start, stop, workers)
