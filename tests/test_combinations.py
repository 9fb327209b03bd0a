"""Every backbone with every codec: ten real training steps, a falling loss, and resuming.

The networks are the published ones but for their widths and numbers of blocks (tests/tiny.py).
"""

import json
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from hrnet_jax import protocols
from hrnet_jax.checkpoints.training import TrainCheckpoints
from hrnet_jax.codecs import DarkCodec
from hrnet_jax.tasks import landmarks, train
from hrnet_jax.training import loop
from tests import tiny

pytestmark = pytest.mark.usefixtures("quick_compile")
SIZE = 64
PROTOCOLS = {
    "official": lambda: protocols.official("300w"),
    "dark": lambda: protocols.mmpose(DarkCodec()),  # encodes without bias
    "hih": protocols.hih,
}
STEPS, COPIED = 10, 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.write_dataset(tmp_path_factory.mktemp("combinations") / "data", train=8, valid=4)


@pytest.fixture
def make_once(monkeypatch):
    """`make_once(module, name)`: what that function returns first, it always does.

    For functions that make a compiled one: a second run does not compile again.
    """

    def once(module, name):
        make, made = getattr(module, name), []

        def make_or_take(*args, **kwargs):
            if not made:
                made.append(make(*args, **kwargs))
            return made[0]

        monkeypatch.setattr(module, name, make_or_take)

    return once


def get_config(dataset, model, codec):
    config = tiny.get_config(dataset)
    with config.unlocked():
        config.model.update(name=model, init="kaiming", norm_momentum=0.9)
        config.protocol = ConfigDict(PROTOCOLS[codec]().to_dict() | {"input_size": SIZE})
        config.train.update(epochs=5, log_every=1, eval_epochs=5)
        config.train.loss = "hih" if codec == "hih" else "mse"
        config.augment.flip_offset = -1.0 if codec == "dark" else 0.0  # indices mirror about W - 1
    return config


def final_state(workdir):
    checkpoints = TrainCheckpoints(workdir)
    try:
        assert checkpoints.latest_step == STEPS
        return jax.device_get(checkpoints.load(STEPS))
    finally:
        checkpoints.close()


@pytest.mark.parametrize("codec", PROTOCOLS)
@pytest.mark.parametrize("model", [tiny.MODEL, tiny.HOURGLASS])
def test_ten_steps_and_resuming(dataset, tmp_path, monkeypatch, make_once, model, codec):
    finished, stopped = tmp_path / "finished", tmp_path / "stopped"
    config = get_config(dataset, model, codec)
    save = TrainCheckpoints.save

    def save_and_copy(self, state, value):
        save(self, state, value)
        if int(state.step) == COPIED:
            shutil.copytree(finished, stopped)  # a run that was killed after this step

    monkeypatch.setattr(TrainCheckpoints, "save", save_and_copy)
    make_once(loop, "compile_steps")
    make_once(landmarks, "make_forward")
    train(config, finished)
    train(config, stopped)

    for workdir in (finished, stopped):
        lines = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in lines if "loss" in line]
        assert len(losses) == STEPS and np.mean(losses[-3:]) < np.mean(losses[:3])
    states = [jax.tree.leaves(final_state(workdir)) for workdir in (finished, stopped)]
    for left, right in zip(*states, strict=True):
        np.testing.assert_array_equal(left, right)
