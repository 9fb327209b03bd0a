"""What can be trained and scored: `train` and `evaluate`, from a config."""

import importlib
from collections.abc import Sequence

from hrnet_jax.errors import HRNetError

# The module of a task, and a table that its configs have and others have not.
TASKS = {
    "landmarks": ("hrnet_jax.tasks.landmarks", "protocol"),
    "classification": ("hrnet_jax.tasks.classification", "preprocessing"),
}


def make_task(config, **given):
    """The `hrnet_jax.training.loop.Task` of a config; `given` as for `train`."""
    module, _ = TASKS[task_of(config)]
    return importlib.import_module(module).make_task(config, **given)


def task_of(config) -> str:
    """The name of a config's task, a key of `TASKS`; HRNetError if it is none, or not its own."""
    name = getattr(config, "task", "landmarks")
    if name not in TASKS:
        raise HRNetError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    table = TASKS[name][1]
    if not hasattr(config, table):
        raise HRNetError(f"task = {name!r}: the config has no {table!r}: it is of another task")
    return name


def train(
    config, workdir, *, model=None, loss=None, codec=None, optimiser=None, evaluators=()
) -> dict:
    """Trains, evaluates and checkpoints in `workdir`; goes on where an earlier run there stopped.

    Args:
      config: attributes as in `hrnet_jax.config.default_config`, or of a classifier as in
        `hrnet_jax.tasks.classification_config.default_config`.
      workdir: a folder, made if needed. HRNetError if it belongs to another config.
      model: a Linen module in place of the config's: images (N, H, W, 3), normalised, and `train`
        to what the codec decodes.
      loss: `loss(outputs, batch) -> (scalar, metrics)`, see `hrnet_jax.training.losses`.
      codec: in place of that of `config.protocol`. Not for classification.
      optimiser: an optax transformation, its learning rate in it.
      evaluators: objects with `metrics` (names), `every` (epochs) and
        `evaluator(variables) -> {name: value}`, beside those of the config.

    Returns:
      {"step", "nme"} of the best checkpoint, NME in percent of the validation split; of a
      classifier {"step", "top1_error"}; with `config.best` that value.

    The same config gives the same bits on one machine, also across a restart from any point; on
    other devices the same but for rounding. After `start_processes` every process of the job calls
    this with the same arguments and a `workdir` that all of them see. On SIGTERM and SIGINT the
    state is saved after the next step and `Stopped` raised.
    """
    from hrnet_jax.training.loop import train as run

    given = {"model": model, "loss": loss, "codec": codec, "optimiser": optimiser}
    given = {key: value for key, value in given.items() if value is not None}
    return run(make_task(config, **given, evaluators=tuple(evaluators)), workdir)


def evaluate(
    config,
    checkpoint,
    *,
    split: str = "valid",
    protocol: str = "checkpoint",
    output=None,
    flip_test: bool | None = None,
    flip_offset: float | str | None = None,
    scales: Sequence[float] = (1.0,),
    normaliser: str | None = None,
    auc: str = "trapezoid",
    box: str = "landmarks",
    box_jitter: float = 0.0,
    detector: str = "haar",
    parts=None,
    allow_import=(),
):
    """Scores a checkpoint on the data set of a config.

    Args:
      config: as for `train`; of it `data`, `eval` and the network's name and dtype count.
      checkpoint: a workdir, a converted or a released model: what `hrnet_jax.load` takes.
      split: "valid" or "train".
      protocol: "checkpoint" or "config": whose crop and codec (or preprocessing) to use.
      output: a folder for metrics.json, per_image.csv and, of landmarks, annotations.csv and
        report.html; None writes nothing.
      parts, allow_import: what the checkpoint is made of, and may import: as for `hrnet_jax.load`.

    Of landmarks only:
      flip_test: average with the mirrored image's heatmaps; None: as the protocol says.
      flip_offset: average with the points of the mirrored image, moved right by so many pixels of
        the image (`augment.flip_offset` of the training); "checkpoint": by the share of the
        inter-ocular distance that the checkpoint stores; None: without.
      scales: average over crops of these shares of the box's side.
      normaliser: one of `hrnet_jax.evaluation.metrics.NORMALISERS`; None: the scheme's own.
      auc: one of `hrnet_jax.evaluation.metrics.AUC_RULES`.
      box: "landmarks", "rectangle" or "detector": what to crop by.
      box_jitter: move and scale each box by up to this share of its side.
      detector: of box "detector": "haar", or the path of a YuNet .onnx file.

    Returns:
      `hrnet_jax.evaluation.scoring.Run`, of a classifier `evaluation.classification.PictureRun`:
      its `result` is what metrics.json holds. In a job of several processes that of the first;
      None in the others.

    Raises:
      HRNetError: a checkpoint of another network than the config's; data that cannot be read; an
        option that the task does not have.
    """
    from hrnet_jax.tasks import evaluation

    score = {
        "landmarks": evaluation.evaluate_landmarks,
        "classification": evaluation.evaluate_classifier,
    }
    return score[task_of(config)](
        config,
        checkpoint,
        split=split,
        protocol=protocol,
        output=output,
        flip_test=flip_test,
        flip_offset=flip_offset,
        scales=tuple(scales),
        normaliser=normaliser,
        auc=auc,
        box=box,
        box_jitter=box_jitter,
        detector=detector,
        parts=parts,
        allow_import=allow_import,
    )
