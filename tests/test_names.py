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
from hrnet_jax.models.variants import VARIANTS, get_variant
from hrnet_jax.weights.names import backbone_table, face_table, model_table

# SHA-256 of the JSON [[name, shape], …] of the official state dicts, in file order.
DIGESTS = json.loads((Path(__file__).parent / "data" / "state_dict_digests.json").read_text())


def named_shapes(table):
    return [[entry.name, list(entry.shape)] for entry in table]


@pytest.mark.parametrize("network", DIGESTS)
def test_face_names_shapes_and_order(network):
    _, variant, landmarks = network.split("_")
    content = json.dumps(named_shapes(face_table(get_variant(variant), int(landmarks))))
    assert hashlib.sha256(content.encode()).hexdigest() == DIGESTS[network]


@pytest.mark.parametrize("network", DIGESTS)
def test_face_names_one_by_one(shared, network):
    spec = json.loads((shared / "reference" / "state_dicts" / f"{network}.json").read_text())
    _, variant, landmarks = network.split("_")
    table = face_table(get_variant(variant), int(landmarks))
    assert named_shapes(table) == [[name, shape] for name, shape, _ in spec]
    counters = [name for name, _, dtype in spec if dtype == "int64"]
    assert [entry.name for entry in table if entry.path is None] == counters


def test_backbone_names_of_all_published_sizes(shared):
    """The ImageNet files begin with the backbone's tensors, for every variant."""
    checked = 0
    for path in sorted((shared / "reference" / "state_dicts").glob("imagenet_*.json")):
        spec = [[name, shape] for name, shape, _ in json.loads(path.read_text())]
        table = named_shapes(backbone_table(get_variant(path.stem.removeprefix("imagenet_"))))
        assert table == spec[: len(table)], path.name
        checked += 1
    assert checked == len(VARIANTS.keys() - {"tiny"})  # the tests' own


@pytest.mark.parametrize("variant", ["w18", "w18_small_v1", "w18_small_v2"])
def test_paths_are_those_of_the_network(variant):
    model = hrnet_jax.create_model(f"hrnetv2_{variant}", 29)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    leaves = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), images))
    table = [entry for entry in face_table(get_variant(variant), 29) if entry.path]
    assert {entry.path for entry in table} == set(leaves)
    for entry in table:
        ours = entry.shape
        if entry.layout == "conv":
            ours = tuple(ours[axis] for axis in (2, 3, 1, 0))
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
