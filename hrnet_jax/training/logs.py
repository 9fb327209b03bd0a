"""Training logs: JSON lines, TensorBoard and the progress bar."""

import json
from collections.abc import Sequence

from tqdm import tqdm

from hrnet_jax.devices import is_first_process
from hrnet_jax.files import BUCKETS, Appended, as_path

LOG = "log.jsonl"
TITLES = {"nme": "NME", "top1_error": "top-1 error"}  # of metrics that are percentages


def words(metric: str, value: float) -> tuple[str, str]:
    """A metric's title and its value for people: ("NME", "3.21 %")."""
    if metric in TITLES:
        return TITLES[metric], f"{value:.2f} %"
    return metric, f"{value:.4g}"


def open_logs(workdir, start_step: int, total_steps: int, loggers: Sequence = (), show=True):
    """`Logs` in the first process of a job, `NoLogs` in the others."""
    first = is_first_process()
    return Logs(workdir, start_step, total_steps, loggers, show) if first else NoLogs()


class Logs:
    """Writes WORKDIR/log.jsonl (one object a line) and WORKDIR/tensorboard.

    A run that goes on from `start_step` drops what a killed one had logged past it. `loggers` are
    the user's own: each has `write(step, **values)` and `close()` (W&B, MLflow, say). Without
    `show` there is no progress bar, and nothing is said.
    """

    def __init__(self, workdir, start_step, total_steps, loggers: Sequence = (), show=True):
        from tensorboardX import SummaryWriter
        from tensorboardX.record_writer import register_writer_factory

        path = as_path(workdir) / LOG
        kept = [line for line in _lines(path) if line["step"] <= start_step]
        self._file = Appended(path, "".join(json.dumps(line) + "\n" for line in kept))
        for scheme in BUCKETS:
            register_writer_factory(scheme, _BucketEvents)
        self._board = SummaryWriter(str(path.parent / "tensorboard"), purge_step=start_step + 1)
        self._bar = tqdm(
            total=total_steps,
            initial=start_step,
            unit="step",
            dynamic_ncols=True,
            mininterval=1.0,
            disable=not show,
            bar_format="{percentage:3.0f}% |{bar:20}| {desc} [{elapsed}, {remaining} left]",
        )
        self._shown = {}
        self._loggers = loggers

    def write(self, step: int, **values: float) -> None:
        """Logs scalars of a step."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        for logger in self._loggers:
            logger.write(step, **values)

    def show(self, step: int, **values) -> None:
        """Moves the progress bar to `step` and sets what it says."""
        self._shown |= values
        text = "  ".join(f"{name} {value}" for name, value in self._shown.items())
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(step - self._bar.n)

    def say(self, line: str) -> None:
        """Prints a line above the progress bar."""
        if not self._bar.disable:
            self._bar.write(line)

    def close(self):
        self._bar.close()
        self._file.close()
        self._board.close()
        for logger in self._loggers:
            logger.close()


class NoLogs:
    """Takes what `Logs` takes, and says nothing."""

    def write(self, step: int, **values: float) -> None: ...

    def show(self, step: int, **values) -> None: ...

    def say(self, line: str) -> None: ...

    def close(self): ...


def _lines(path):
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:  # the last line of a run that was killed while writing it
            return


class _BucketEvents:
    """Where TensorBoard's events go in a bucket; tensorboardX's own writers need more libraries."""

    @staticmethod
    def directory_check(path):
        """A bucket has no folders to make."""

    @staticmethod
    def open(path):
        return Appended(as_path(path), b"")
