"""Running a network over annotated faces."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from hrnet_jax.data import pipeline
from hrnet_jax.data.records import Records
from hrnet_jax.devices import Devices
from hrnet_jax.errors import HRNetError
from hrnet_jax.inference import mirror
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import Scheme


def predict_records(
    forward: Callable,
    variables: dict,
    records: Records,
    protocol: Protocol,
    batch_size: int = 8,
    workers: int = 0,
    progress: Callable | None = None,
    devices: Devices | None = None,
    permutation: np.ndarray | None = None,
) -> np.ndarray:
    """Landmarks of every annotated face, from its landmark box.

    Args:
      forward: of `hrnet_jax.inference.forward.make_forward`.
      variables: the network's {"params", "batch_stats"}.
      records: N faces.
      protocol: the one `forward` was made with.
      batch_size: the last batch is filled up to it, so that one shape is compiled; what it is
        filled with is dropped. With `devices` it is rounded up to a multiple of their number.
      workers: threads that prepare batches; 0: one for each processor.
      progress: `progress(batches, total=count)` wraps the iterator over batches (tqdm, say).
      devices: share the batches of all processes, which call this together; the variables lie on
        each. By default, the one that the variables lie on.
      permutation: int (L,), `Scheme.flip_permutation`: the crops are mirrored, and the points that
        are found in them mirrored back. None: nothing is mirrored.

    Returns:
      float64 (N, L, 2), (x, y) in image pixels. HRNetError if a heatmap is not finite.
    """
    if batch_size < 1:
        raise HRNetError(f"eval.batch_size = {batch_size}: it must be above zero")
    if devices:
        batch_size = -(-batch_size // devices.count) * devices.count
        batches = pipeline.EvalBatches(records, protocol, batch_size, devices.shard)
    else:
        batches = pipeline.EvalBatches(records, protocol, batch_size)

    def run(images):
        if permutation is not None:
            images = images[:, :, ::-1]
        if devices:
            return devices.collect(forward(variables, devices.split(images)))
        return jax.device_get(forward(variables, images))

    ahead = pipeline.iterate_threads(batches, 0, batches.steps, workers)
    if progress:
        ahead = progress(ahead, total=batches.steps)
    made = [run(batch["image"]) for batch in ahead]
    cells, scores = (np.concatenate(part)[: len(records)] for part in zip(*made, strict=True))
    if not np.isfinite(scores).all():
        raise HRNetError("the network's output is not finite: its weights are damaged")
    cells = cells.astype(np.float64)
    if permutation is not None:
        cells = np.stack([protocol.unmirrored(points, permutation) for points in cells])
    return np.stack(
        [
            protocol.to_image(points, center, side)
            for points, center, side in zip(cells, records.centers, records.sides, strict=True)
        ]
    )


@dataclasses.dataclass(frozen=True)
class Averaging:
    """What is averaged at test time: predictions from several crops of a face, in image pixels.

    Attributes:
      scales: of the box's side, one crop each.
      flip_offset: with the mirrored crops too, whose points are moved right by so many image
        pixels; None: without. It is what `augment.flip_offset` is in training: a network that has
        learned annotations that lie to the right finds them there in a mirrored picture too.
      flip_share: the same in inter-ocular distances of the face, as checkpoints store it; one of
        the two is None.
    """

    scales: tuple[float, ...] = (1.0,)
    flip_offset: float | None = None
    flip_share: float | None = None

    def __post_init__(self):
        if not self.scales or not all(0.1 <= scale <= 10 for scale in self.scales):
            raise HRNetError(f"scales {self.scales}: give shares of the box's side, 0.1 to 10")
        if self.flip_offset is not None and not np.isfinite(self.flip_offset):
            raise HRNetError(f"flip_offset {self.flip_offset} is no number of pixels")

    @property
    def flips(self) -> bool:
        """Whether mirrored crops are averaged too."""
        return (self.flip_offset, self.flip_share) != (None, None)

    def align(self, mirrored, found, scheme: Scheme) -> np.ndarray:
        """Points (N, L, 2) of mirrored crops, moved to where those `found` without mirror lie."""
        if self.flip_share is not None:
            return mirror.align(mirrored, found, self.flip_share, scheme)
        return mirrored + np.array([self.flip_offset or 0.0, 0.0])


def predict_averaged(
    averaging: Averaging,
    scheme: Scheme,
    forward: Callable,
    variables: dict,
    records: Records,
    protocol: Protocol,
    *args,
    **options,
) -> np.ndarray:
    """`predict_records`, averaged over crops.

    What follows `scheme` is as for `predict_records`, which is called for each crop. HRNetError for
    mirrored crops of a protocol whose points are whole pixels, or whose flip test mirrors already,
    and for a share of a face whose scheme names no eye corners.
    """
    if averaging.flips:
        mirror.check_averaging(protocol)
    if averaging.flip_share is not None:
        mirror.eye_corners(scheme)
    total = np.zeros(records.points.shape)
    for scale in averaging.scales:
        scaled = dataclasses.replace(records, sides=records.sides * scale)
        given = forward, variables, scaled, protocol, *args
        found = predict_records(*given, **options)
        if averaging.flips:
            mirrored = predict_records(*given, permutation=scheme.flip_permutation, **options)
            found = (found + averaging.align(mirrored, found, scheme)) / 2
        total += found
    return total / len(averaging.scales)
