"""The training loop: one function that reads from top to bottom and knows no task."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hrnet_jax.checkpoints.training import TrainCheckpoints
from hrnet_jax.devices import Devices
from hrnet_jax.errors import HRNetError, Stopped
from hrnet_jax.files import as_path
from hrnet_jax.training.logs import open_logs, words
from hrnet_jax.training.parallel import Preemption, call_counts, several_steps
from hrnet_jax.training.profiling import Profile
from hrnet_jax.training.state import create_state
from hrnet_jax.training.step import make_step
from hrnet_jax.training.workdir import claim_workdir, locked


@dataclasses.dataclass(frozen=True)
class Task:
    """What is trained: everything that the loop does not know by itself.

    Attributes:
      config: `seed`, `train.*` and `parallel.mode` steer the loop; the workdir keeps it all.
      defaults: what its kind of config has for every key.
      model: a Linen module, see `make_step`.
      image_shape: (1, H, W, 3), of the input that initialises the network.
      prepare, loss: see `make_step`.
      optimiser: `optimiser(steps_per_epoch, total_steps)`.
      feed: the batches (`hrnet_jax.training.feeds`).
      evaluators: see `hrnet_jax.training.evaluators`.
      metric: the evaluators' value that decides which checkpoint is the best: the lowest.
      start: `start() -> (variables, sentence)`: initial values, and where they come from.
      metadata: what `hrnet_jax.load` tells about a checkpoint of this run.
      about: lines to print before the first step.
      loggers: further logs (`hrnet_jax.training.logs`).
      program: of `compile_steps`, of a task that differs in its seed and host feed alone: a run
        that is given one need not compile. None: made when it is needed.
    """

    config: Any
    defaults: dict
    model: Any
    image_shape: tuple[int, ...]
    prepare: Callable
    loss: Callable
    optimiser: Callable[[int, int], optax.GradientTransformation]
    feed: Any
    evaluators: Sequence
    metric: str
    start: Callable[[], tuple[dict, str]]
    metadata: dict
    about: Sequence[str] = ()
    loggers: Sequence = ()
    program: Callable | None = None


def train(task: Task, workdir, show: bool = True) -> dict:
    """Trains, evaluates and checkpoints in `workdir`; goes on where an earlier run there stopped.

    Args:
      task: what to train; `hrnet_jax.train` makes it from a config.
      workdir: a folder, made if needed. HRNetError if it belongs to another config.
      show: False writes the logs and shows nothing.

    Returns:
      {"step", task.metric} of the best checkpoint; the metric is None without an evaluation.

    After `start_processes` every process of the job calls this with the same arguments and a
    `workdir` that all of them see. On SIGTERM and SIGINT the state is saved after the next step and
    `Stopped` raised.
    """
    if not isinstance(task, Task):
        raise TypeError("training.loop.train takes a Task: hrnet_jax.train takes a config")
    workdir, settings = as_path(workdir), task.config.train
    feed, devices = task.feed, Devices()
    steps_per_epoch, total_steps = feed.steps_per_epoch, count_steps(task)
    optimiser = task.optimiser(steps_per_epoch, total_steps)
    train_steps = task.program or compile_steps(task, optimiser, devices)
    seed = np.uint32(task.config.seed)

    with contextlib.ExitStack() as closing:
        # ---- a fresh state, or that of the latest checkpoint
        preemption = closing.enter_context(Preemption())
        closing.enter_context(locked(workdir))
        claim_workdir(workdir, task.config, task.defaults)
        resident = feed.resident
        checkpoints = TrainCheckpoints(workdir, task.metadata, task.metric)
        closing.callback(checkpoints.close)
        state, origin = first_state(task, optimiser, devices, checkpoints)
        first_step = int(state.step)
        best = checkpoints.best()
        logs = open_logs(workdir, first_step, total_steps, task.loggers, show)
        closing.callback(logs.close)
        count = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        logs.say(f"{task.config.model.name}: {count:,} parameters; {origin}")
        for line in task.about:
            logs.say(line)
        if first_step:
            logs.say(f"going on from step {first_step} of {total_steps} in {workdir}")
        profile = closing.enter_context(Profile(workdir, settings.profile_steps))

        # ---- loop
        counts = call_counts(first_step, total_steps, steps_per_epoch, settings.steps_per_call)
        unchecked, since, samples, step = [], time.perf_counter(), 0, first_step
        for count, seen, streamed in feed.calls(first_step, counts):
            state, metrics = train_steps(state, resident, streamed, seed, count)
            unchecked.append(metrics)
            profile.after(metrics)
            samples += seen
            before, step = step, step + count
            epoch, in_epoch = divmod(step, steps_per_epoch)
            last = step == total_steps
            epoch_ends = in_epoch == 0 or last
            stop = "" if last else preemption.requested()

            if step // settings.log_every > before // settings.log_every or epoch_ends or stop:
                values = check_finite(unchecked, step)
                rate = samples / (time.perf_counter() - since)
                unchecked, since, samples = [], time.perf_counter(), 0
                logs.write(step, **values, images_per_second=rate)
                logs.show(
                    step,
                    epoch=f"{math.ceil(step / steps_per_epoch)}/{settings.epochs}",
                    loss=f"{values['loss']:.3g}",
                    images=f"{rate:.0f}/s",
                )

            due = [e for e in task.evaluators if epoch_ends and (epoch % e.every == 0 or last)]
            measured = {}
            for evaluator in due:
                measured |= evaluator(state.variables)
            value = measured.get(task.metric)
            is_best = False
            if value is not None and (best is None or value < best[1]):
                best, is_best = (step, value), True
            if measured:
                logs.write(step, epoch=math.ceil(step / steps_per_epoch), **measured)
            if value is not None and best is not None:
                title, text = words(task.metric, value)
                logs.show(step, **{title: f"{text} (best {words(task.metric, best[1])[1]})"})
            due = epoch_ends and (epoch % settings.checkpoint_epochs == 0 or last)
            if due or is_best or stop:
                checkpoints.save(state, value)
            if measured or due or is_best:
                since = time.perf_counter()
            if stop:
                raise Stopped(stop, f"saved step {step} of {total_steps} in {workdir}")
    return dict(zip(("step", task.metric), best or (step, None), strict=True))


def count_steps(task: Task) -> int:
    """How many training steps the whole run has."""
    steps = task.config.train.epochs * task.feed.steps_per_epoch
    return min(steps, task.config.train.max_steps or steps)


def compile_steps(task: Task, optimiser, devices: Devices) -> Callable:
    """The compiled call of the loop: `several_steps` of the task's `make_step`."""
    config = task.config
    step = make_step(
        task.model,
        task.loss,
        optimiser,
        prepare=task.prepare,
        accumulate=config.train.accumulate,
        ema_decay=config.train.ema_decay,
        mesh=devices.mesh,
        mode=config.parallel.mode,
    )
    return several_steps(step, task.feed, config.train.steps_per_call)


def first_state(task: Task, optimiser, devices: Devices, checkpoints: TrainCheckpoints):
    """(state, where it comes from): of the latest checkpoint, or before the first step."""
    make = functools.partial(create_state, optimiser=optimiser, ema=task.config.train.ema_decay > 0)
    if checkpoints.latest_step is None:
        variables, origin = task.start()
        return devices.replicate(make(variables)), origin
    images = jax.ShapeDtypeStruct(task.image_shape, jnp.float32)
    variables = jax.eval_shape(task.model.init, jax.random.key(0), images)
    like = jax.eval_shape(make, variables)
    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=devices.whole), like
    )
    return checkpoints.load(checkpoints.latest_step, like=like), "parameters of its checkpoint"


def check_finite(metrics: list[dict], step: int) -> dict:
    """The mean of the last calls' metrics; HRNetError at the first loss that is not finite."""
    values = {
        key: np.concatenate([np.atleast_1d(np.asarray(m[key], np.float64)) for m in metrics])
        for key in metrics[0]
    }
    bad = np.flatnonzero(~np.isfinite(values["loss"]) | ~np.isfinite(values["gradient_norm"]))
    if bad.size:
        first = step - len(values["loss"]) + 1 + int(bad[0])
        raise HRNetError(
            f"the loss is {values['loss'][bad[0]]} (gradient norm "
            f"{values['gradient_norm'][bad[0]]}) at step {first}: stopped, and nothing of it was "
            "saved; lower train.learning_rate or look at the data of that step"
        )
    return {key: float(value.mean()) for key, value in values.items()}
