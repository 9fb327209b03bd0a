"""Model files: what is saved is loaded, and everything else is refused in one line."""

import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

import hrnet_jax
from hrnet_jax import checkpoints
from hrnet_jax.errors import HRNetError
from hrnet_jax.models.variants import get_variant
from hrnet_jax.tensors import write_safetensors
from hrnet_jax.torch_weights.convert import to_flax
from hrnet_jax.torch_weights.names import face_table
from tests.seeded import seeded_array

METADATA = {
    "model": {"name": "hrnetv2_w18_small_v1", "num_landmarks": 5},
    "scheme": None,
    "protocol": None,
    "provenance": {"licence": "MIT"},
}


@pytest.fixture(scope="module")
def variables():
    table = face_table(get_variant("w18_small_v1"), 5)
    return to_flax({e.name: seeded_array(e.name, e.shape, "a") for e in table}, table)


def check_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("name", ["run", "model_w18.safetensors", "new/folder/m.safetensors"])
def test_round_trip(tmp_path, variables, name):
    written = checkpoints.save_model(tmp_path / name, variables, METADATA)
    assert written.suffix == ".safetensors" and written.is_file()
    loaded = hrnet_jax.load(tmp_path / name)
    check_same(loaded.variables, variables)
    assert loaded.metadata == METADATA | {"format": 1, "version": hrnet_jax.__version__}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(loaded.variables))
    assert [f.name for f in written.parent.iterdir()] == [written.name]
    assert written.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_loaded_model_runs(tmp_path, variables):
    checkpoints.save_model(tmp_path, variables, METADATA)
    loaded = hrnet_jax.load(tmp_path, dtype=jnp.bfloat16)
    assert jax.tree.leaves(loaded.variables)[0].dtype == jnp.float32
    output = jax.eval_shape(loaded.model.apply, loaded.variables, jnp.zeros((1, 64, 64, 3)))
    assert output.shape == (1, 16, 16, 5)


def test_float64(tmp_path, variables):
    checkpoints.save_model(tmp_path, variables, METADATA)
    with jax.enable_x64(True):
        loaded = hrnet_jax.load(tmp_path, dtype=jnp.float64)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(loaded.variables)} == {"float64"}
        check_same(loaded.variables, variables)


def test_float16_halves_the_file(tmp_path, variables):
    full = checkpoints.save_model(tmp_path / "full", variables, METADATA)
    half = checkpoints.save_model(tmp_path / "half", variables, METADATA, dtype="float16")
    assert half.stat().st_size < 0.52 * full.stat().st_size
    expected = {
        name: leaf.astype(np.float16).astype(np.float32) if name[-1] == "kernel" else leaf
        for name, leaf in flatten_dict(variables).items()
    }
    loaded = checkpoints.load(half).variables
    assert {leaf.dtype.name for leaf in jax.tree.leaves(loaded)} == {"float32"}
    check_same(loaded, unflatten_dict(expected))


def test_float16_refuses_what_does_not_fit(tmp_path):
    tree = {"params": {"conv": {"kernel": np.full((1, 1, 1, 1), 1e5, np.float32)}}}
    with pytest.raises(HRNetError, match="params/conv/kernel has values beyond float16"):
        checkpoints.save_model(tmp_path, tree, METADATA, dtype="float16")


def test_a_failed_save_leaves_the_old_file(tmp_path, variables, monkeypatch):
    path = checkpoints.save_model(tmp_path, variables, METADATA)
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(HRNetError, match="cannot write .*: No space left on device"):
        checkpoints.save_model(tmp_path, variables, METADATA)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_save_over_another_file(tmp_path, variables):
    (tmp_path / "weights.pth").write_text("x")
    with pytest.raises(HRNetError, match=r"weights\.pth is a file: give a directory"):
        checkpoints.save_model(tmp_path / "weights.pth", variables, METADATA)


# Files that are not what they should be


def test_all_differences_in_one_message(tmp_path, variables):
    leaves = flatten_dict(variables)
    for name in ("conv1", "conv2"):
        del leaves["params", "backbone", name, "kernel"]
    leaves["params", "head", "conv2", "bias"] = np.zeros(7)
    leaves["params", "neck", "bias"] = np.zeros(2)
    checkpoints.save_model(tmp_path, unflatten_dict(leaves), METADATA)
    with pytest.raises(HRNetError) as error:
        checkpoints.load(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/model.safetensors does not fit its network: tensors "
        "2 missing (params/backbone/conv1/kernel, params/backbone/conv2/kernel); "
        "1 unexpected (params/neck/bias); "
        "1 of a wrong shape (params/head/conv2/bias: (7,) instead of (5,))"
    )


def test_truncated_and_corrupt_files(tmp_path, variables):
    path = checkpoints.save_model(tmp_path, variables, METADATA)
    content = path.read_bytes()
    for damaged in (b"", content[:5], content[:1000], content[:-1], content + b"x", b"x" * 100):
        path.write_bytes(damaged)
        with pytest.raises(HRNetError, match=r"model\.safetensors is damaged"):
            checkpoints.load(tmp_path)


def test_files_of_other_programs(tmp_path):
    path = tmp_path / "timm.safetensors"
    path.write_bytes(safetensors.numpy.save({"conv1.weight": np.zeros(3)}, {"format": "pt"}))
    with pytest.raises(HRNetError, match="not written by hrnet_jax: .*convert SOURCE"):
        checkpoints.load(path)
    path = tmp_path / "HR18-WFLW.pth"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(HRNetError, match=r"is no \.safetensors file: convert PyTorch weights"):
        checkpoints.load(path)
    with pytest.raises(HRNetError, match=r"holds neither model\.safetensors nor a training run"):
        checkpoints.load(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("{", "its metadata is damaged"),
        ("[" * 100_000, "its metadata is damaged"),
        ("[]", "not of format 1"),
        ('{"format": 2}', "not of format 1"),
        ('{"format": 1}', "does not name the model"),
        ('{"format": 1, "model": "hrnetv2_w18"}', "does not name the model"),
        ('{"format": 1, "model": {"name": "x", "num_landmarks": 5}}', "unknown model 'x'"),
        ('{"format": 1, "model": {"name": [], "num_landmarks": 5}}', "unknown model"),
        ('{"format": 1, "model": {"name": "hrnetv2_w18", "num_landmarks": 1e9}}', "1000000000.0"),
        ('{"format": 1, "model": {"name": "hrnetv2_w18", "num_landmarks": 0}}', "has 0 landmarks"),
    ],
)
def test_damaged_metadata(tmp_path, header, message):
    path = tmp_path / "m.safetensors"
    write_safetensors(path, {"a": np.zeros(3)}, {"hrnet_jax": header})
    with pytest.raises(HRNetError, match=message) as error:
        checkpoints.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_contradicting_names(tmp_path):
    path = tmp_path / "m.safetensors"
    tensors = {"params/head": np.zeros(3), "params/head/conv1/kernel": np.zeros(3)}
    header = {"hrnet_jax": json.dumps(METADATA | {"format": 1})}
    write_safetensors(path, tensors, header)
    with pytest.raises(HRNetError, match=r"1 unexpected \(params/head\); 1 of a wrong shape"):
        checkpoints.load(path)


@pytest.mark.parametrize(
    "part",
    [
        {"norm": {"name": "group", "epsilon": "x"}},
        {"norm": {"name": "flax.GroupNorm", "num_groups": 5}},
        {"norm": ["group"]},
        {"conv": {"name": "conv", "features": 3}},
        {"conv": {"name": "flax", "strides": "x"}},
        {"head": {"name": "heatmap", "upsample": 3}},
        {"head": 5},
        {"init": 5},
        {"upsample": {"name": "nearest", "x": [[{}]]}},
        {"backbone": {"name": "hrnet", "width": 2, "modules": [100, 100, 100], "blocks": 100}},
        {"backbone": {"name": "hourglass", "stacks": 2, "depth": 100}},
    ],
)
def test_parts_of_a_file_that_make_no_network(tmp_path, variables, part):
    """One line and at once, whatever a file gives the parts that are here for arguments."""
    model = {"name": "hrnetv2_w18_small_v1", "num_landmarks": 5} | part
    path = checkpoints.save_model(tmp_path, variables, METADATA | {"model": model})
    with pytest.raises(HRNetError, match=str(path)) as error:
        checkpoints.load(tmp_path)
    assert "\n" not in str(error.value)


# Released models and training runs


def test_released_models_by_name(tmp_path, variables, monkeypatch):
    monkeypatch.chdir(tmp_path)
    package, clone = tmp_path / "released", tmp_path / "weights"
    monkeypatch.setattr(checkpoints, "_RELEASED_FOLDERS", (package, clone))
    with pytest.raises(HRNetError, match=r"small: no such file.*released model \(none\)"):
        checkpoints.load("small")
    checkpoints.save_model(clone / "small.safetensors", variables, METADATA)
    checkpoints.save_model(clone / "other.safetensors", variables, METADATA)
    check_same(checkpoints.load("small").variables, variables)
    assert checkpoints.released_path("small") == clone / "small.safetensors"
    for name in ("smal", "../weights/small", "", "small.safetensors"):
        with pytest.raises(HRNetError, match=r"released model \(other, small\)"):
            checkpoints.released_path(name)
    (package).mkdir()
    (package / "small.safetensors").write_bytes(b"")
    assert checkpoints.released_path("small") == package / "small.safetensors"


def test_training_run(tmp_path, variables, monkeypatch):
    from hrnet_jax.checkpoints import training as training

    (tmp_path / "checkpoints").mkdir()
    numpy_and_metadata = variables, METADATA | {"format": 1}
    monkeypatch.setattr(training, "load_workdir", lambda path: numpy_and_metadata)
    loaded = checkpoints.load(tmp_path)
    check_same(loaded.variables, variables)
    assert loaded.metadata["model"]["num_landmarks"] == 5
