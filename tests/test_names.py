"""The name tables, against the published networks' state dicts and our own networks."""

import hashlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

import hrnet_jax
from hrnet_jax.errors import HRNetError
from hrnet_jax.models.variants import get_variant
from hrnet_jax.torch_weights.names import face_table, model_table

# SHA-256 of the JSON [[name, shape], …] of the official state dicts, in file order.
DIGESTS = json.loads((Path(__file__).parent / "data" / "state_dict_digests.json").read_text())


def named_shapes(table):
    return [[entry.name, list(entry.shape)] for entry in table]


def table_of(network):
    """The table of a reference file: face_w18_98, imagenet_w18, hih_stack2_98."""
    family, _, rest = network.partition("_")
    if family == "imagenet":
        return model_table(f"hrnet_{rest}_imagenet", 1000)
    size, landmarks = rest.split("_")
    name = {"stack2": "hih_s", "stack4": "hih_b"}.get(size, f"hrnetv2_{size}")
    return model_table(name, int(landmarks))


@pytest.mark.parametrize("network", DIGESTS)
def test_names_shapes_and_order(network):
    content = json.dumps(named_shapes(table_of(network)))
    assert hashlib.sha256(content.encode()).hexdigest() == DIGESTS[network]


@pytest.mark.parametrize("network", DIGESTS)
def test_names_one_by_one(shared, network):
    spec = json.loads((shared / "reference" / "state_dicts" / f"{network}.json").read_text())
    table = table_of(network)
    assert named_shapes(table) == [[name, shape] for name, shape, _ in spec]
    counters = [name for name, _, dtype in spec if dtype == "int64"]
    without = [e.name for e in table if e.path is None and e.layout != "unused"]
    unused = [e.name for e in table if e.layout == "unused"]
    assert without == [name for name in counters if name not in unused]
    assert all(".skip_layer." in name for name in unused)


def test_all_published_networks_have_a_digest(shared):
    files = (shared / "reference" / "state_dicts").glob("*.json")
    assert {path.stem for path in files} == set(DIGESTS)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("hrnetv2_w18", {"num_landmarks": 29}),
        ("hrnetv2_w18_small_v1", {"num_landmarks": 29}),
        ("hrnetv2_w18_small_v2", {"num_landmarks": 29}),
        ("hrnet_w18_imagenet", {"num_classes": 1000}),
        ("hrnet_w18_small_v1_imagenet", {"num_classes": 10}),
        ("hih_s", {"num_landmarks": 68}),
    ],
)
def test_paths_are_those_of_the_network(name, arguments):
    model = hrnet_jax.create_model(name, **arguments)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    leaves = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images))
    table = [entry for entry in model_table(name, *arguments.values()) if entry.path]
    assert {entry.path for entry in table} == set(leaves)
    for entry in table:
        axes = {"conv": (2, 3, 1, 0), "linear": (1, 0), "vector": (0,)}[entry.layout]
        ours = tuple(entry.shape[axis] for axis in axes)
        assert leaves[entry.path].shape == ours, entry.name


def test_published_counts():
    table = face_table(get_variant("w18"), 98)
    sizes = {entry.name: jnp.prod(jnp.array(entry.shape + (1,))).item() for entry in table}
    assert len(table) == 1839 and sum(entry.path is None for entry in table) == 306
    parameters = [e.name for e in table if e.path and e.path[0] == "params"]
    assert len(parameters) == 921 and sum(sizes[name] for name in parameters) == 9_662_528


def test_unknown_model():
    for name in ("hrnetv2_w19", "w18", "resnet"):
        with pytest.raises(HRNetError, match=f"model '{name}': choose one of hrnetv2_w18"):
            model_table(name, 98)


def test_no_names_for_what_nobody_published():
    with pytest.raises(HRNetError, match="no PyTorch names for hrnetv2_w18 with the hih head"):
        model_table("hrnetv2_w18", 98, "hih")
