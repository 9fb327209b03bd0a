"""Running a network over annotated faces."""

from collections.abc import Callable

import numpy as np

from hrnet_jax.data import pipeline
from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.protocols import Protocol


def predict_records(
    forward: Callable,
    variables: dict,
    records: Records,
    protocol: Protocol,
    batch_size: int = 8,
    workers: int = 0,
    progress: Callable = iter,
) -> np.ndarray:
    """Landmarks of every annotated face, from its landmark box.

    Args:
      forward: of `hrnet_jax.inference.forward.make_forward`.
      variables: the network's {"params", "batch_stats"}.
      records: N faces.
      protocol: the one `forward` was made with.
      batch_size: the last batch is filled up to it, so that one shape is compiled.
      workers: threads that prepare batches; 0: one for each processor.
      progress: wraps the iterator over batches (tqdm, say).

    Returns:
      float64 (N, L, 2), (x, y) in image pixels. HRNetError if a heatmap is not finite.
    """
    if batch_size < 1:
        raise HRNetError(f"eval.batch_size = {batch_size}: it must be above zero")
    batches = pipeline.EvalBatches(records, protocol, batch_size)
    ahead = pipeline.iterate_threads(batches, 0, batches.steps, workers)
    made = [tuple(map(np.asarray, forward(variables, b["image"]))) for b in progress(ahead)]
    cells, scores = (np.concatenate(part)[: len(records)] for part in zip(*made, strict=True))
    if not np.isfinite(scores).all():
        raise HRNetError("the network's output is not finite: its weights are damaged")
    cells = cells.astype(np.float64)
    return np.stack(
        [
            protocol.to_image(points, center, scale)
            for points, center, scale in zip(cells, records.centers, records.scales, strict=True)
        ]
    )
