"""A job of two processes: killed, stopped, continued by one process, and the same in the end."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from hrnet_jax.checkpoints.training import load_workdir
from hrnet_jax.cli import run
from tests import tiny

STEPS, FACES = 6, 24  # of an epoch
PATIENCE = 600  # seconds, on a machine that is busy with other things

CONFIG = """\
import time

from hrnet_jax.data import pipeline
from tests import tiny


def get_config(pause="0"):
    make = pipeline.TrainBatches.__call__

    def slowly(self, step):
        time.sleep(float(pause))
        return make(self, step)

    pipeline.TrainBatches.__call__ = slowly
    config = tiny.get_config({root!r})
    config.model.update(name=tiny.PLAIN, dtype="float64")
    config.data.workers = 1
    config.train.update(epochs=5, log_every=1, ema_decay=0.9)
    return config
"""


class Job:
    """One command in several processes with two devices each, or in one process with one."""

    def __init__(self, folder, arguments, processes):
        settings = {"JAX_ENABLE_X64": "1", "JAX_NUM_CPU_DEVICES": str(processes)}
        environment = os.environ | settings
        command = [sys.executable, "-m", "tests.tiny", *arguments]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        place = ["--distributed", f"--coordinator=127.0.0.1:{port}", f"--processes={processes}"]
        self.processes, self.outputs = [], []
        for index in range(processes):
            joined = [*place, f"--process={index}"] if processes > 1 else []
            self.outputs.append(folder / f"output-{port}-{index}.txt")
            with open(self.outputs[-1], "w") as file:
                self.processes.append(
                    subprocess.Popen(command + joined, stdout=file, stderr=file, env=environment)
                )

    def ended(self):
        return any(process.poll() is not None for process in self.processes)

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def wait(self):
        """The exit statuses of the processes, and what they printed."""
        statuses = [process.wait(timeout=PATIENCE) for process in self.processes]
        return statuses, [path.read_text() for path in self.outputs]


def losses(workdir):
    """The loss by step, as far as it is logged."""
    path = workdir / "log.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return {line["step"]: line["loss"] for line in map(json.loads, lines) if "loss" in line}


def scores(workdir):
    lines = map(json.loads, (workdir / "log.jsonl").read_text().splitlines())
    return {line["step"]: line["nme"] for line in lines if "nme" in line}


def wait_for_step(job, workdir, step):
    """Until the job has logged that step; fails with its output when it ends before."""
    deadline = time.monotonic() + PATIENCE
    while max(losses(workdir), default=0) < step:
        if job.ended() or time.monotonic() > deadline:
            job.kill()
            pytest.fail(f"no step {step}: {job.wait()}")
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path):
    """`start(arguments, processes)` makes a `Job`; none of them outlives the test."""
    with contextlib.ExitStack() as closing:

        def start(arguments, processes):
            job = Job(tmp_path, arguments, processes)
            closing.callback(job.kill)
            return job

        yield start


def test_two_processes_end_as_one(tmp_path, start):
    tiny.write_dataset(tmp_path / "data", FACES, 6)  # six faces in batches of four
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(root=str(tmp_path / "data")))
    one, two = tmp_path / "one", tmp_path / "two"

    def train(workdir, processes, pause=0):
        return start(["train", f"--config={config}:{pause}", f"--workdir={workdir}"], processes)

    alone = train(one, 1)
    killed = train(two, 2, pause=0.3)
    wait_for_step(killed, two, STEPS + 2)  # after the first checkpoint
    killed.kill()

    stopped = train(two, 2, pause=0.3)
    wait_for_step(stopped, two, 2 * STEPS + 1)
    stopped.processes[1].send_signal(signal.SIGTERM)
    statuses, texts = stopped.wait()
    assert statuses == [143, 143], texts
    (saved,) = {text.split("SIGTERM: saved step ")[1].split()[0] for text in texts}
    assert int(saved) > 2 * STEPS and (two / "checkpoints" / saved).is_dir()
    variables, metadata = load_workdir(two)  # here, where those devices are not
    assert metadata["provenance"]["step"] in scores(two)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))

    for job in (alone, train(two, 1)):
        statuses, texts = job.wait()
        assert statuses == [0], texts
    assert f"going on from step {saved}" in texts[0]
    assert list(losses(two)) == list(range(1, 5 * STEPS + 1))
    assert losses(two) == pytest.approx(losses(one), rel=1e-9)
    assert scores(two) == pytest.approx(scores(one), rel=1e-9) and len(scores(one)) == 5

    output = tmp_path / "scores"
    arguments = ["evaluate", f"--config={config}", f"--checkpoint={two}", f"--output={output}"]
    statuses, texts = start(arguments, 2).wait()
    assert statuses == [0, 0], texts
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["nme"] == pytest.approx(min(scores(one).values()), rel=1e-9)
    assert metrics["count"] == 6


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--process=1"], "--coordinator, --processes and --process need --distributed too"),
        (["--distributed"], "cannot join the other processes: .* give --coordinator=HOST:PORT"),
    ],
)
def test_processes_that_cannot_meet(capsys, tmp_path, arguments, says):
    workdir = tmp_path / "run"
    command = ["--config=configs/300w_small.py", f"--workdir={workdir}", *arguments]
    assert run("train", command) == 2
    assert re.search(says, capsys.readouterr().err) and not workdir.exists()
