"""A job of two processes: killed, stopped, continued by one process, and the same in the end."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests import tiny

STEPS, FACES, BATCH = 6, 24, 4  # of an epoch

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
        shared = {"JAX_ENABLE_X64": "1", "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
        environment = os.environ | shared | {"JAX_NUM_CPU_DEVICES": str(processes)}
        command = [sys.executable, "-m", "tests.tiny", *arguments]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = f"--coordinator=127.0.0.1:{free.getsockname()[1]}", f"--processes={processes}"
        self.processes = []
        for index in range(processes):
            joined = ["--distributed", *place, f"--process={index}"] if processes > 1 else []
            self.processes.append(
                subprocess.Popen(
                    command + joined,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    env=environment,
                )
            )

    def kill(self):
        for process in self.processes:
            process.kill()
            process.communicate()

    def wait(self):
        """[(exit status, output)] of the processes."""
        outputs = [process.communicate(timeout=300)[0] for process in self.processes]
        return [(p.returncode, text) for p, text in zip(self.processes, outputs, strict=True)]


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
    deadline = time.monotonic() + 300
    while max(losses(workdir), default=0) < step:
        if job.processes[0].poll() is not None or time.monotonic() > deadline:
            job.kill()
            pytest.fail(f"no step {step}: {job.processes[0].stdout}")
        time.sleep(0.05)


def test_two_processes_end_as_one(tmp_path):
    tiny.write_dataset(tmp_path / "data", FACES, 6)  # six faces in batches of four
    config = tmp_path / "config.py"
    config.write_text(CONFIG.format(root=str(tmp_path / "data")))
    one, two = tmp_path / "one", tmp_path / "two"

    def train(workdir, processes, pause=0):
        arguments = ["train", f"--config={config}:{pause}", f"--workdir={workdir}"]
        return Job(tmp_path, arguments, processes)

    alone = train(one, 1)
    killed = train(two, 2, pause=0.3)
    wait_for_step(killed, two, STEPS + 2)  # after the first checkpoint
    killed.kill()

    stopped = train(two, 2, pause=0.3)
    wait_for_step(stopped, two, 2 * STEPS + 1)
    stopped.processes[1].send_signal(signal.SIGTERM)
    ends = stopped.wait()
    assert [status for status, _ in ends] == [143, 143], ends
    (saved,) = {text.split("SIGTERM: saved step ")[1].split()[0] for _, text in ends}
    assert int(saved) > 2 * STEPS and (two / "checkpoints" / saved).is_dir()

    for job in (alone, train(two, 1)):
        ((status, text),) = job.wait()
        assert status == 0, text
    assert f"going on from step {saved}" in text
    assert list(losses(two)) == list(range(1, 5 * STEPS + 1))
    assert losses(two) == pytest.approx(losses(one), rel=1e-9)
    assert scores(two) == pytest.approx(scores(one), rel=1e-9) and len(scores(one)) == 5

    output = tmp_path / "scores"
    arguments = ["evaluate", f"--config={config}", f"--checkpoint={two}", f"--output={output}"]
    for status, text in Job(tmp_path, arguments, 2).wait():
        assert status == 0, text
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["nme"] == pytest.approx(min(scores(one).values()), rel=1e-9)
    assert metrics["count"] == 6
