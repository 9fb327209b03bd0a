"""The schedules and the configs that ship."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from hrnet_jax.cli.configs import split_config
from hrnet_jax.config import plain
from hrnet_jax.images.augment import Augmentation
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import get_scheme
from hrnet_jax.tasks.landmarks import build_model
from hrnet_jax.training.losses import get_loss
from hrnet_jax.training.optimisers import create_schedule

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
CLASSIFIERS = {"imagenet_w18"}  # their own keys: tests/test_classification.py


def schedule_of(config, steps_per_epoch):
    total_steps = config.train.epochs * steps_per_epoch
    return create_schedule(config.train, steps_per_epoch, total_steps)


def tiny_schedule():
    from ml_collections import ConfigDict

    from hrnet_jax.config import default_config

    return ConfigDict(default_config())


def test_official_step_schedule():
    """Epochs 0-29 lr, 30-49 lr / 10, 50-59 lr / 100, at the first step of an epoch already."""
    schedule = schedule_of(tiny_schedule(), 7)
    for epoch, factor in ((0, 1), (29, 1), (30, 0.1), (49, 0.1), (50, 0.01), (59, 0.01)):
        for step in (0, 6):
            assert float(schedule(epoch * 7 + step)) == pytest.approx(1e-4 * factor)


def test_mmpose_schedule():
    """Linear over 500 steps from a thousandth of 2e-3, times 0.1 from epochs 40 and 55 on."""
    config = tiny_schedule()
    config.train.update(
        learning_rate=2e-3, milestones=(40, 55), warmup_steps=500, warmup_start=0.001
    )
    schedule = schedule_of(config, 117)
    for step, rate in ((0, 2e-6), (250, 0.5005 * 2e-3), (500, 2e-3), (4679, 2e-3)):
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-4)
    for epoch, factor in ((40, 0.1), (54, 0.1), (55, 0.01), (59, 0.01)):
        for step in (0, 116):
            assert float(schedule(epoch * 117 + step)) == pytest.approx(2e-3 * factor)


@pytest.mark.parametrize("name", sorted({path.stem for path in CONFIGS.glob("*.py")} - CLASSIFIERS))
def test_configs_name_what_exists(name):
    config = runpy.run_path(str(CONFIGS / f"{name}.py"))["get_config"]()
    protocol = Protocol.from_dict(plain(config.protocol))
    assert callable(get_loss(config.train.loss, protocol.codec))
    Augmentation(**plain(config.augment))
    schedule = schedule_of(config, 100)
    assert 0 <= float(schedule(0)) <= config.train.learning_rate


@pytest.mark.parametrize(
    "config",
    ["300w_w18", "ytf68_w18", "wflw_w18", "cofw_w18", "aflw_w18", "300w_small", "demo"],
)
def test_configs_describe_networks_that_exist(config):
    """Every config builds its network and protocol; the official ones have the official numbers."""
    argument = "" if config in ("300w_small", "demo") else ":quicktest"
    config, _ = split_config([f"--config=configs/{config}.py{argument}"])
    scheme = get_scheme(config.scheme)
    protocol = Protocol.from_dict(plain(config.protocol))
    Augmentation(**plain(config.augment))
    model = build_model(config, scheme)
    images = jax.ShapeDtypeStruct((1, protocol.input_size, protocol.input_size, 3), np.float32)
    output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), images)
    assert output.shape[1:] == (*(protocol.heatmap_size,) * 2, scheme.num_landmarks)
    if argument:
        assert protocol.name == "official"
        assert config.train.learning_rate == (2e-4 if scheme.name == "aflw" else 1e-4)
        assert list(config.train.milestones) == [30, 50]
