"""Training checkpoints: a thin layer over Orbax.

WORKDIR/checkpoints/<step>/ holds the whole training state of the latest step and of the step with
the lowest validation NME (of a classifier: top-1 error); WORKDIR/metadata.json says what network
and protocol it is.
"""

import contextlib
import json
import logging
import warnings
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np

from hrnet_jax.devices import is_first_process
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import absolute, as_path, open_atomically

METADATA = "metadata.json"


@contextlib.contextmanager
def _quiet():
    """Orbax logs and warns about its own working; a user's screen has no place for it."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class TrainCheckpoints:
    """The checkpoints of one workdir: keeps the latest and the best, which has the lowest `metric`.

    Without `metadata` it only reads, and may do so while a run writes there.
    """

    def __init__(self, workdir: Path, metadata: dict | None = None, metric: str = "nme"):
        self._metric = metric
        with _quiet():
            from orbax.checkpoint import v1 as ocp

            keep = ocp.training.preservation_policies
            best = keep.BestN(
                get_metric_fn=lambda metrics: metrics[metric],
                reverse=True,
                n=1,
                keep_checkpoints_without_metrics=False,
            )
            self.folder = absolute(as_path(workdir)) / "checkpoints"
            try:
                policy: Any = keep.AnyPreservationPolicy([keep.LatestN(1), best])
                self._checkpointer = ocp.training.Checkpointer(
                    cast(Any, self.folder),  # Orbax's PathLike is epath's, which pathlib's is not
                    preservation_policy=policy,
                    # Left by a run that was killed while saving. A reader must not: the temporary
                    # folder may be that of a save under way.
                    cleanup_tmp_directories=metadata is not None,
                )
            except Exception as error:  # Orbax raises many types for what it cannot read
                raise self._damaged("*", error) from error
        if metadata is not None and is_first_process():
            with open_atomically(as_path(workdir) / METADATA) as file:
                json.dump(metadata, file, indent=1)

    def save(self, state, value: float | None) -> None:
        """Saves the state under its step; metric in percent, None where it was not evaluated."""
        with _quiet():
            metrics: Any = None if value is None else {self._metric: float(value)}
            self._checkpointer.save(int(state.step), _present(state), metrics=metrics, force=True)

    @property
    def latest_step(self) -> int | None:
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    def best(self) -> tuple[int, float] | None:
        """(step, metric in percent) of the best checkpoint, None before the first evaluation."""
        found: list[tuple[float, int]] = []
        for step in [checkpoint.step for checkpoint in self._checkpointer.checkpoints]:
            try:
                with _quiet():
                    metrics: Any = self._checkpointer.metadata(step).metrics
            except Exception as error:
                raise self._damaged(step, error) from error
            if metrics and self._metric in metrics:
                found.append((metrics[self._metric], step))
        if not found:
            return None
        value, step = min(found)
        return step, value

    def load(self, step: int, like=None):
        """The state of a step: with the structure, dtypes and shardings of `like` where given.

        Without it, a dictionary of the state's fields: trees of plain dictionaries and lists with
        NumPy arrays, whatever devices they were saved on.
        """
        with _quiet():
            try:
                if like is None:
                    saved = self._checkpointer.metadata(step).metadata
                    wanted = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), saved)
                else:
                    wanted = jax.tree.map(
                        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding),
                        _present(like),
                    )
                fields = self._checkpointer.load(step, wanted)
            except Exception as error:
                raise self._damaged(step, error) from error
        return fields if like is None else like.replace(**fields)

    def _damaged(self, step, error):
        return HRNetError(
            f"{self.folder / str(step)} cannot be restored ({_first_line(error)}): it is damaged, "
            "of another network, or just replaced by a run that trains here; try again, or move "
            "this step's folder away to go on from another one"
        )

    def close(self):
        with _quiet():
            self._checkpointer.close()


def _present(state):
    """The fields of a state that a run has, as a dictionary."""
    return {key: value for key, value in vars(state).items() if value is not None}


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def load_workdir(workdir: Path) -> tuple[dict, dict]:
    """The best checkpoint of a training workdir (the latest, if none was evaluated).

    Returns (variables, metadata): trees of NumPy arrays {"params", "batch_stats"} (their moving
    average, where the run kept one), and what `train` wrote about the run, with the step and its
    metric added to its provenance.
    """
    path = as_path(workdir) / METADATA
    try:
        metadata = json.loads(path.read_text())
        if not isinstance(metadata, dict) or not isinstance(metadata.get("provenance"), dict):
            raise ValueError("it does not describe a training run")
    except (OSError, ValueError) as error:
        raise HRNetError(
            f"cannot read {path}: {_first_line(error)}; not a workdir of hrnet-jax train?"
        ) from error
    metric = metadata["provenance"].get("metric", "nme")
    checkpoints = TrainCheckpoints(workdir, metric=metric)
    try:
        best = checkpoints.best()
        step, value = best if best else (checkpoints.latest_step, None)
        if step is None:
            raise HRNetError(
                f"{workdir} has no checkpoint yet: training saves one every few epochs"
            )
        state = checkpoints.load(step)
    finally:
        checkpoints.close()
    metadata["provenance"] |= {"step": step, metric: value}
    variables = state.get("ema") or state  # what was evaluated
    return {key: variables[key] for key in ("params", "batch_stats")}, metadata
