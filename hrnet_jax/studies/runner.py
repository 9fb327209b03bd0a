"""The runs of a study in one process: compiled programs and rendered faces serve all of them."""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from hrnet_jax import tasks
from hrnet_jax.checkpoints.training import TrainCheckpoints
from hrnet_jax.config import plain
from hrnet_jax.costs import network_costs
from hrnet_jax.data.sources import describe_split
from hrnet_jax.devices import Devices
from hrnet_jax.errors import HRNetError, Stopped
from hrnet_jax.evaluation.landmarks import predict_records
from hrnet_jax.evaluation.scoring import write_results
from hrnet_jax.studies.definition import Run
from hrnet_jax.studies.results import EVALUATION, TRAINING, read_record, write_record
from hrnet_jax.training import loop
from hrnet_jax.training.feeds import HostFeed
from hrnet_jax.training.logs import LOG
from hrnet_jax.training.workdir import locked


class Programs:
    """Tasks whose compiled programs serve every run that differs in its seed alone."""

    def __init__(self):
        self._made = {}

    def task(self, run: Run, loggers=()) -> loop.Task:
        """The task of a run, its programs those of an earlier run where there was one."""
        if getattr(run.config, "task", "landmarks") != "landmarks":
            raise HRNetError("studies are of landmark networks, not of classifiers")
        key = json.dumps(plain(run.config) | {"seed": None}, sort_keys=True)
        first = self._made.get(key)
        if first is None:
            task = tasks.make_task(run.config)
            if isinstance(task.feed, HostFeed):  # else the program holds the seed of its batches
                optimiser = task.optimiser(task.feed.steps_per_epoch, loop.count_steps(task))
                program = loop.compile_steps(task, optimiser, Devices())
                task = dataclasses.replace(task, program=program)
            self._made[key] = task
        else:
            task = tasks.make_task(run.config, model=first.model, loss=first.loss)
            task = dataclasses.replace(task, program=first.program, evaluators=first.evaluators)
        return dataclasses.replace(task, loggers=(*task.loggers, *loggers))

    def costs(self, run: Run) -> dict:
        """{"parameters", "gmacs"} of a run's network."""
        task = self.task(run)
        costs = network_costs(task.model, task.image_shape[1])
        return {"parameters": costs.parameters, "gmacs": costs.gmacs}


@dataclasses.dataclass
class Progress:
    """A logger of the training loop that tells `tell(share done, words)` how far a run is."""

    tell: Callable[[float, str], None]
    words: str
    steps: int = 1

    def write(self, step: int, **values) -> None:
        nme = f", NME {values['nme']:.2f} %" if "nme" in values else ""
        self.tell(step / self.steps, f"{self.words}{nme}")

    def close(self) -> None: ...


def do_run(run: Run, workdir: Path, programs: Programs, tell: Callable[[float, str], None]) -> str:
    """Trains and evaluates one run in its folder, from where it stopped.

    Returns:
      "done", also if it was done before; "busy" while another process has it; "failed", with the
      reason recorded, whatever the run died of but a signal.
    """
    folder = workdir / run.folder
    try:
        with locked(folder):
            if read_record(workdir, run).get("status") == "done":
                return "done"
            try:
                write_record(
                    workdir, run, status="done", **_train_and_evaluate(run, folder, programs, tell)
                )
            except Stopped:  # a signal: nothing is wrong with the run
                raise
            except Exception as error:  # of this run: the others go on
                text = " ".join(str(error).split()) or "no message"
                kind = "" if isinstance(error, HRNetError) else f"{type(error).__name__}: "
                write_record(workdir, run, status="failed", error=f"{kind}{text}"[:500])
                return "failed"
            return "done"
    except HRNetError as error:
        if "is in use by" in str(error):
            return "busy"
        raise


def _train_and_evaluate(run, folder, programs, tell):
    begun = time.perf_counter()
    progress = Progress(tell, run.name)
    task = programs.task(run, [progress])
    progress.steps = loop.count_steps(task)
    started = time.perf_counter() - begun
    loop.train(task, folder / TRAINING, show=False)
    variables = last_variables(folder / TRAINING)
    evaluator = task.evaluators[0]
    predictions = predict_records(
        evaluator.forward,
        evaluator.devices.replicate(variables),
        evaluator.records,
        evaluator.protocol,
        run.config.eval.batch_size,
        run.config.data.workers,
        devices=evaluator.devices,
    )
    metadata = {
        "protocol": evaluator.protocol.to_dict(),
        "model": task.metadata["model"],
        "dtype": run.config.model.dtype,
        "split": describe_split(run.config.data, "valid"),
        "checkpoint": f"{run.folder}/{TRAINING}, last step",
    }
    write_results(folder / EVALUATION, evaluator.records, predictions, evaluator.scheme, metadata)
    return {
        **programs.costs(run),
        "step_ms": measured_step(folder / TRAINING, run.config.train.batch_size),
        "start_seconds": round(started, 3),
        "seconds": round(time.perf_counter() - begun, 3),
    }


def last_variables(folder: Path) -> dict:
    """{"params", "batch_stats"} of a workdir's last step: not of the best, which was chosen by the
    very faces that a study measures on."""
    checkpoints = TrainCheckpoints(folder)
    try:
        step = checkpoints.latest_step
        if step is None:
            raise HRNetError(f"{folder} has no checkpoint")
        state = checkpoints.load(step)
    finally:
        checkpoints.close()
    variables = state.get("ema") or state
    return {key: variables[key] for key in ("params", "batch_stats") if key in variables}


def measured_step(folder: Path, batch_size: int) -> float | None:
    """Milliseconds a training step, the median over the lines of a run's log."""
    rates = []
    for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
        rates.append(json.loads(line).get("images_per_second"))
    rates = [rate for rate in rates if rate]
    return 1000 * batch_size / statistics.median(rates) if rates else None


def predict_costs(run: Run, programs: Programs, steps: int = 3) -> dict:
    """What a run will cost, from a few measured steps and one batch of evaluation.

    Returns:
      {"parameters", "gmacs", "output", "step_ms", "seconds", "compile_seconds"}: `seconds` of one
      run once its programs are compiled.
    """
    task = programs.task(run)
    costs = network_costs(task.model, task.image_shape[1])
    optimiser = task.optimiser(task.feed.steps_per_epoch, loop.count_steps(task))
    devices = Devices()
    program = task.program or loop.compile_steps(task, optimiser, devices)
    begun = time.perf_counter()
    variables, _ = task.start()
    state = devices.replicate(
        loop.create_state(variables, optimiser, task.config.train.ema_decay > 0)
    )
    init = time.perf_counter() - begun
    times, seed = [], np.uint32(run.seed)
    per_call = task.config.train.steps_per_call
    for count, _, streamed in task.feed.calls(0, [per_call] * (steps + 1)):
        before = time.perf_counter()
        state, metrics = program(state, task.feed.resident, streamed, seed, count)
        jax.block_until_ready(metrics)
        times.append((time.perf_counter() - before) / count)
    step = statistics.median(times[1:])
    evaluator = task.evaluators[0]
    batch = dataclasses.replace(evaluator, records=evaluator.records[: run.config.eval.batch_size])
    batch(state.variables)
    before = time.perf_counter()
    batch(state.variables)
    face = (time.perf_counter() - before) / len(batch.records)
    total = loop.count_steps(task)
    evaluations = total / task.feed.steps_per_epoch / evaluator.every + 1
    return {
        "parameters": costs.parameters,
        "gmacs": costs.gmacs,
        "output": costs.output,
        "step_ms": 1000 * step,
        "seconds": init + total * step + evaluations * face * len(evaluator.records),
        "compile_seconds": max(times[0] - step, 0) * per_call,
    }
