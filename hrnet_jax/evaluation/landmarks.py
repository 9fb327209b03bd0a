"""Running a network over annotated faces."""

from collections.abc import Callable

import jax
import numpy as np

from hrnet_jax.data import pipeline
from hrnet_jax.data.records import Records
from hrnet_jax.devices import Devices
from hrnet_jax.errors import HRNetError
from hrnet_jax.protocols import Protocol


def predict_records(
    forward: Callable,
    variables: dict,
    records: Records,
    protocol: Protocol,
    batch_size: int = 8,
    workers: int = 0,
    progress: Callable | None = None,
    devices: Devices | None = None,
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
    return np.stack(
        [
            protocol.to_image(points, center, side)
            for points, center, side in zip(cells, records.centers, records.sides, strict=True)
        ]
    )
