"""The training loop: repeatable, resumable after SIGKILL, and clear about bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hrnet_jax.checkpoints.training import TrainCheckpoints, load_workdir
from hrnet_jax.config import plain
from hrnet_jax.data.pipeline import TrainBatches
from hrnet_jax.data.sources import open_split
from hrnet_jax.errors import HRNetError, Stopped
from hrnet_jax.evaluation.landmarks import predict_records
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.models.variants import get_variant
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import get_scheme
from hrnet_jax.tasks import train
from hrnet_jax.tasks.landmarks import build_model, initial_variables
from hrnet_jax.tensors import write_safetensors
from hrnet_jax.torch_weights.names import backbone_table
from hrnet_jax.training import state as train_state
from hrnet_jax.training.workdir import claim_workdir, locked
from tests import tiny
from tests.seeded import seeded_array

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
CLASSIFIERS = {"imagenet_w18"}  # their own keys: tests/test_classification.py


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny.write_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="module")
def finished(dataset, tmp_path_factory):
    """A finished run of the tiny config."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    train(tiny.get_config(dataset), workdir)
    return workdir


def final_state(workdir):
    return saved_state(workdir)


def saved_state(workdir, best=False):
    checkpoints = TrainCheckpoints(workdir)
    try:
        step = checkpoints.best()[0] if best else checkpoints.latest_step
        return jax.device_get(checkpoints.load(step))
    finally:
        checkpoints.close()


def assert_identical(a, b):
    assert len(jax.tree.leaves(a)) > 40
    assert_same_leaves(a, b)


def assert_same_leaves(a, b):
    a, b = jax.tree.leaves(a), jax.tree.leaves(b)
    for left, right in zip(a, b, strict=True):
        np.testing.assert_array_equal(left, right)


def test_same_seed_gives_the_same_bits(dataset, finished, tmp_path):
    train(tiny.get_config(dataset), tmp_path / "again")
    assert_identical(final_state(finished), final_state(tmp_path / "again"))


def test_another_seed_gives_other_bits(dataset, finished, tmp_path):
    config = tiny.get_config(dataset)
    config.seed = 1
    train(config, tmp_path / "other")
    a, b = (jax.tree.leaves(final_state(w)["params"]) for w in (finished, tmp_path / "other"))
    assert any(not np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_log_has_every_epoch_and_a_falling_loss(finished):
    lines = [json.loads(line) for line in (finished / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "nme" in line] == [1, 2, 3]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    assert list((finished / "tensorboard").iterdir())


def test_workdir_loads_with_its_metadata(finished):
    variables, metadata = load_workdir(finished)
    assert set(variables) == {"params", "batch_stats"}
    assert metadata["model"].items() >= {"name": tiny.PLAIN, "num_landmarks": 68}.items()
    assert metadata["protocol"]["codec"]["name"] == "unbiased"
    assert metadata["provenance"]["nme"] == pytest.approx(
        min(
            line["nme"]
            for line in map(json.loads, (finished / "log.jsonl").read_text().splitlines())
            if "nme" in line
        )
    )


@pytest.mark.parametrize("kills", [3])
def test_killed_and_restarted_ends_identically(dataset, finished, tmp_path, kills):
    """SIGKILL at three moments after the start, whatever the run is doing then."""
    workdir = tmp_path / "killed"
    config = tiny.write_config(tmp_path / "config.py", dataset)
    command = [
        sys.executable,
        "-m",
        "tests.tiny",
        "train",
        f"--config={config}",
        f"--workdir={workdir}",
    ]
    rng = np.random.default_rng(7)
    for _ in range(kills):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        already = len(list_steps(workdir))
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if workdir.exists() and len(list_steps(workdir)) != already:
                time.sleep(rng.uniform(0, 0.3))
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_identical(final_state(finished), final_state(workdir))
    logged = [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in logged if "nme" in line] == [1, 2, 3]


def list_steps(workdir):
    """Names in the checkpoint folder, those being written included."""
    folder = workdir / "checkpoints"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize(
    "number, settings",
    [
        (signal.SIGINT, {}),
        (signal.SIGTERM, {"steps_per_call": 2, "flatten_optimiser": True, "ema_decay": 0.9}),
    ],
)
def test_a_signal_saves_within_an_epoch(dataset, tmp_path, monkeypatch, number, settings):
    """The run that goes on from there ends with the bits of one that was left alone."""
    config = tiny.get_config(dataset)
    config.model.name = tiny.PLAIN
    config.data.workers = 1
    config.train.update(batch_size=2, log_every=1, **settings)
    train(config, tmp_path / "alone")

    make_batch, handlers = TrainBatches.__call__, [signal.getsignal(number)]

    def signal_at_step_9(self, step):
        if step == 9:
            signal.raise_signal(number)
        return make_batch(self, step)

    with monkeypatch.context() as patch, pytest.raises(Stopped, match="saved step") as stopped:
        patch.setattr(TrainBatches, "__call__", signal_at_step_9)
        train(config, tmp_path / "stopped")
    assert stopped.value.status == 128 + number and number.name in str(stopped.value)
    assert 6 < int(final_state(tmp_path / "stopped")["step"]) <= 12
    assert [signal.getsignal(number)] == handlers
    train(config, tmp_path / "stopped")
    ends = [final_state(tmp_path / name) for name in ("alone", "stopped")]
    assert_same_leaves(*ends)
    logs = [logged_losses(tmp_path / name) for name in ("alone", "stopped")]
    assert logs[0] == logs[1] and len(logs[0]) == (18 if config.train.steps_per_call == 1 else 9)
    if config.train.ema_decay:
        variables, _ = load_workdir(tmp_path / "alone")
        assert_same_leaves(variables, saved_state(tmp_path / "alone", best=True)["ema"])


def logged_losses(workdir):
    lines = map(json.loads, (workdir / "log.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def test_a_workdir_takes_one_run_at_a_time(dataset, tmp_path):
    message = f"in use by process {os.getpid()} on .*another --workdir"
    with locked(tmp_path / "run"), pytest.raises(HRNetError, match=message):
        train(tiny.get_config(dataset), tmp_path / "run")


def test_checkpoint_of_an_earlier_version(tmp_path):
    """One without a field for a moving average."""

    @flax.struct.dataclass
    class Earlier:
        step: jax.Array
        params: dict
        batch_stats: dict
        opt_state: tuple

    variables = {"params": {"a": jnp.ones(3)}, "batch_stats": {"b": jnp.ones(2)}}
    state = train_state.create_state(variables, optax.adam(0.1))
    checkpoints = TrainCheckpoints(tmp_path, {"provenance": {}})
    try:
        fields = {key: value for key, value in vars(state).items() if key != "ema"}
        checkpoints._checkpointer.save(1, Earlier(**fields))
        assert_same_leaves(checkpoints.load(1, like=state), state)
    finally:
        checkpoints.close()
    assert_same_leaves(load_workdir(tmp_path)[0], variables)


def test_stops_at_a_loss_that_is_not_finite(dataset, tmp_path):
    config = tiny.get_config(dataset)
    config.train.learning_rate = 1e30
    with pytest.raises(HRNetError, match="the loss is .* at step .*learning_rate"):
        train(config, tmp_path / "run")
    assert all(
        np.isfinite(leaf).all()
        for step in list_steps(tmp_path / "run")
        for leaf in jax.tree.leaves(final_state(tmp_path / "run")["params"])
    )


def test_workdir_of_another_config_is_refused(dataset, finished):
    config = tiny.get_config(dataset)
    config.train.learning_rate = 5e-4
    with pytest.raises(HRNetError, match="train.learning_rate = 0.001 there, 0.0005 here"):
        train(config, finished)


def test_best_is_saved_even_between_checkpoints(dataset, tmp_path):
    config = tiny.get_config(dataset)
    config.train.update(checkpoint_epochs=3, learning_rate=0.03)
    found = train(config, tmp_path / "run")
    checkpoints = TrainCheckpoints(tmp_path / "run")
    try:
        assert checkpoints.best() == (found["step"], pytest.approx(found["nme"]))
    finally:
        checkpoints.close()


def test_checkpoints_without_their_config_are_not_adopted(dataset, finished, tmp_path):
    workdir = tmp_path / "copy"
    shutil.copytree(finished, workdir)
    (workdir / "config.json").unlink()
    with pytest.raises(HRNetError, match="cannot read .*config.json"):
        train(tiny.get_config(dataset), workdir)


@pytest.mark.parametrize("content", ["[1]", "{", "{}", '{"provenance": 3}'])
def test_damaged_metadata_is_named(finished, tmp_path, content):
    workdir = tmp_path / "copy"
    shutil.copytree(finished, workdir)
    (workdir / "metadata.json").write_text(content)
    with pytest.raises(HRNetError, match="metadata.json"):
        load_workdir(workdir)


@pytest.mark.parametrize("damage", ["metrics", "_METADATA"])
def test_damaged_step_is_named(finished, tmp_path, damage):
    workdir = tmp_path / "copy"
    shutil.copytree(finished, workdir)
    files = [path for path in (workdir / "checkpoints").rglob(damage) if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(b"")
    with pytest.raises(HRNetError, match=r"checkpoints/(\d+|\*) cannot be restored"):
        load_workdir(workdir)


def test_damaged_checkpoint_is_named(dataset, finished, tmp_path):
    workdir = tmp_path / "damaged"
    shutil.copytree(finished, workdir)
    for file in (workdir / "checkpoints").rglob("*"):
        if file.is_file() and file.stat().st_size > 1000 and "ocdbt" in str(file) + "ocdbt":
            file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(HRNetError, match=r"checkpoints/\d+ cannot be restored"):
        train(tiny.get_config(dataset), workdir)


def test_backbone_of_a_pytorch_file(dataset, tmp_path):
    """An ImageNet checkpoint starts the backbone; its head is left behind, ours is fresh."""
    table = backbone_table(get_variant("tiny"))
    state = {entry.name: seeded_array(entry.name, entry.shape, "a") for entry in table}
    state["classifier.weight"] = np.zeros((1000, 8), np.float32)
    write_safetensors(tmp_path / "imagenet.safetensors", state, {})
    config = tiny.get_config(dataset)
    config.model.name = tiny.MODEL
    config.model.init_backbone = str(tmp_path / "imagenet.safetensors")
    model = build_model(config, get_scheme("300w"))
    protocol = Protocol.from_dict(plain(config.protocol))
    variables, origin = initial_variables(config, model, protocol)
    assert f"{len(table)} tensors used, 1 ignored" in origin
    kernel = variables["params"]["backbone"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, state["conv1.weight"].transpose(2, 3, 1, 0))
    mean = variables["batch_stats"]["backbone"]["stage4_0"]["fuse0_3"]["bn"]["mean"]
    np.testing.assert_array_equal(mean, state["stage4.0.fuse_layers.0.3.1.running_mean"])
    fresh = tiny.get_config(dataset)
    head = initial_variables(fresh, model, protocol)[0]["params"]["head"]
    assert_same_leaves(variables["params"]["head"], head)


def test_a_run_from_before_a_setting_existed_goes_on(dataset, finished, tmp_path):
    workdir = tmp_path / "old"
    (workdir / "checkpoints" / "9").mkdir(parents=True)
    config = json.loads((finished / "config.json").read_text())
    del config["train"]["loss"], config["protocol"]["flip_shift"], config["augment"]["blur_sigma"]
    (workdir / "config.json").write_text(json.dumps(config))
    claim_workdir(workdir, tiny.get_config(dataset))
    other = tiny.get_config(dataset)
    other.train.loss = "adaptive_wing"
    with pytest.raises(HRNetError, match="train.loss = 'mse' there, 'adaptive_wing' here"):
        claim_workdir(workdir, other)


@pytest.mark.parametrize("name, goes_on", [("hrnetv2_w18", True), ("hih_s", False)])
def test_a_run_from_before_none_meant_the_networks_own(dataset, tmp_path, name, goes_on):
    """Of hih_s that is another momentum than what its run had."""
    config = tiny.get_config(dataset)
    config.model.name = name
    written = plain(config)
    written["model"] |= {"init": "official", "norm_momentum": 0.99}
    (tmp_path / "checkpoints" / "9").mkdir(parents=True)
    (tmp_path / "config.json").write_text(json.dumps(written))
    if goes_on:
        claim_workdir(tmp_path, config)
    else:
        with pytest.raises(HRNetError, match="model.norm_momentum = 0.99 there, None here"):
            claim_workdir(tmp_path, config)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("batch_size", 64, "leaves no batch"),
        ("batch_size", 0, "train.batch_size = 0"),
        ("epochs", -1, "train.epochs = -1"),
        ("log_every", 0, "train.log_every = 0"),
        ("eval_epochs", 0, "train.eval_epochs = 0"),
        ("learning_rate", float("nan"), "train.learning_rate = nan"),
        ("ema_decay", 1.0, "train.ema_decay = 1.0"),
        ("accumulate", 3, "multiple of the 1 devices times train.accumulate = 3"),
        ("steps_per_call", 0, "train.steps_per_call = 0"),
        ("warmup_epochs", -1.0, "train.warmup_epochs = -1"),
    ],
)
def test_numbers_must_make_sense_and_nothing_stays_behind(dataset, tmp_path, key, value, message):
    config = tiny.get_config(dataset)
    config.train.drop_last = True
    config.train[key] = value
    with pytest.raises(HRNetError, match=message):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_network_that_gives_nan_has_no_score(dataset, finished):
    config = tiny.get_config(dataset)
    scheme = get_scheme("300w")
    protocol = Protocol.from_dict(plain(config.protocol))
    model = build_model(config, scheme)
    variables, _ = load_workdir(finished)
    variables = jax.tree.map(lambda leaf: leaf * np.nan, variables)
    records = open_split(config.data, scheme, "valid")
    with pytest.raises(HRNetError, match="not finite"):
        predict_records(make_forward(model, protocol, scheme), variables, records, protocol)


def test_two_devices_train_like_one(dataset, finished, tmp_path):
    """Batch and statistics are global: two devices give one device's numbers, but for rounding."""
    config = tiny.write_config(tmp_path / "config.py", dataset)
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    arguments = ["train", f"--config={config}", f"--workdir={tmp_path / 'two'}"]
    command = [sys.executable, "-m", "tests.tiny", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    first = [
        json.loads((workdir / "log.jsonl").read_text().splitlines()[0])["loss"]
        for workdir in (finished, tmp_path / "two")
    ]
    assert first[1] == pytest.approx(first[0], rel=1e-4)
