"""Conversion: parity with the official network, round trips, backbones, metadata, the command."""

import json
import re
import tracemalloc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import hrnet_jax
from hrnet_jax import checkpoints, protocols, published
from hrnet_jax.cli import run
from hrnet_jax.data.preprocessing import PREPROCESSINGS
from hrnet_jax.errors import HRNetError
from hrnet_jax.models.variants import HOURGLASSES, get_variant
from hrnet_jax.torch_weights import convert, kinds
from hrnet_jax.torch_weights.names import backbone_table, face_table, hih_table, imagenet_table
from hrnet_jax.torch_weights.torch_file import read_torch_file
from tests import tiny
from tests.seeded import named, seeded_array, seeded_image, seeded_state, small_table, zero_state
from tests.torch_writer import module, torch_bytes

DATA = Path(__file__).parent / "data"
FACES = ("w18_19", "w18_68", "w18_98", "w32_98", "w48_68")


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """The smallest published network with 68 landmarks, as the official code saves a network."""
    path = tmp_path_factory.mktemp("torch") / "model_best.pth"
    parallel = module({}, "torch.nn.parallel.data_parallel.DataParallel")
    parallel.state["_modules"] = {"module": module(seeded_state(small_table()))}
    path.write_bytes(torch_bytes({"state_dict": parallel, "epoch": 59, "best_nme": 0.03}))
    return path


# The numbers


def check_parity(tmp_path, network, outputs):
    """Seeded weights in a PyTorch file -> convert_file -> load -> the official network's output."""
    variant, landmarks = network.split("_")
    source = tmp_path / "official.pth"
    state = seeded_state(face_table(get_variant(variant), int(landmarks)))
    source.write_bytes(torch_bytes({f"module.{name}": array for name, array in state.items()}))
    result = convert.convert_file(source, tmp_path / "model")
    assert (result.model, result.outputs) == (f"hrnetv2_{variant}", int(landmarks))
    assert (result.used, result.ignored) == (1839, 0)
    loaded = checkpoints.load(tmp_path / "model")
    images = seeded_image((2, 3, 64, 64), "a").transpose(0, 2, 3, 1)
    with jax.default_matmul_precision("highest"):
        heatmaps = loaded.model.apply(loaded.variables, jnp.asarray(images))
    expected = np.load(outputs)["heatmaps"].transpose(0, 2, 3, 1)
    assert heatmaps.shape == expected.shape == (2, 16, 16, int(landmarks))
    assert np.abs(heatmaps - expected).max() / np.abs(expected).max() <= 1e-5


def test_parity_with_the_official_network(tmp_path):
    check_parity(tmp_path, "w18_29", DATA / "face_w18_29.npz")


@pytest.mark.parametrize("network", FACES)
def test_parity_with_the_other_official_networks(shared, tmp_path, network):
    outputs = shared / "reference" / "outputs" / f"face_{network}.npz"
    check_parity(tmp_path, network, outputs)


# Round trips


def test_to_flax_and_back_is_bit_identical():
    table = face_table(get_variant("w18"), 29)
    state = seeded_state(table)
    variables = convert.to_flax(state, table)
    back = convert.to_torch(variables, table)
    assert list(back) == list(state)
    for name, array in state.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape, name
        assert back[name].tobytes() == array.tobytes(), name
    kernel = variables["params"]["backbone"]["conv1"]["kernel"]
    np.testing.assert_array_equal(kernel, state["conv1.weight"].transpose(2, 3, 1, 0))


def test_export_is_the_original(tmp_path, small_file):
    convert.convert_file(small_file, tmp_path / "model")
    assert convert.export_torch(tmp_path / "model", tmp_path / "out.safetensors") == 435
    exported = safetensors.numpy.load_file(tmp_path / "out.safetensors")
    original = read_torch_file(small_file)
    assert exported.keys() == original.keys()
    for name, array in original.items():
        assert exported[name].dtype == array.dtype and exported[name].shape == array.shape
        assert exported[name].tobytes() == array.tobytes(), name
    # and it can be converted again
    convert.convert_file(tmp_path / "out.safetensors", tmp_path / "again.safetensors")
    first = checkpoints.load(tmp_path / "model").variables
    again = checkpoints.load(tmp_path / "again.safetensors").variables
    jax.tree.map(np.testing.assert_array_equal, first, again)


def test_export_loads_into_pytorch(tmp_path, small_file):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file

    network = torch.nn.Module()
    for name, array in read_torch_file(small_file).items():
        *parents, leaf = name.split(".")
        part = network
        for parent in parents:
            if not hasattr(part, parent):
                part.add_module(parent, torch.nn.Module())
            part = getattr(part, parent)
        part.register_buffer(leaf, torch.from_numpy(np.full_like(array, -1)))
    convert.convert_file(small_file, tmp_path / "model")
    convert.export_torch(tmp_path / "model", tmp_path / "out.safetensors")
    network.load_state_dict(load_file(tmp_path / "out.safetensors"), strict=True)
    np.testing.assert_array_equal(
        network.head.get_submodule("3").bias, seeded_array("head.3.bias", (68,), "a")
    )


def test_batch_counters_may_be_missing():
    state = seeded_state(small_table())
    without = {n: a for n, a in state.items() if not n.endswith("num_batches_tracked")}
    jax.tree.map(
        np.testing.assert_array_equal,
        convert.to_flax(state, small_table()),
        convert.to_flax(without, small_table()),
    )


def test_unused_layers_are_made_anew():
    table = hih_table(HOURGLASSES[tiny.HOURGLASS], 5)
    state = seeded_state(table)
    unused = {entry.name for entry in table if entry.layout == "unused"}
    variables = convert.to_flax(state, table)
    # nobody needs them, whatever they hold
    partial = {n: a for n, a in state.items() if n not in unused}
    jax.tree.map(np.testing.assert_array_equal, variables, convert.to_flax(partial, table))
    back = convert.to_torch(variables, table)
    assert list(back) == list(state)
    for name, array in back.items():
        if name not in unused:
            np.testing.assert_array_equal(array, state[name])
        elif name.endswith("num_batches_tracked"):
            assert array.dtype == np.int64 and array == 0
        else:
            one = name.endswith(("bn.weight", "running_var"))
            assert array.dtype == np.float32 and (array == one).all(), name


# Errors


def test_all_differences_in_one_message():
    table = small_table()
    state = zero_state(table)
    for name in ("conv1.weight", "bn1.bias", "head.0.bias", "head.3.bias"):
        del state[name]
    state["conv2.weight"] = np.zeros((64, 64, 1, 1), np.float32)
    state["bn2.weight"] = np.full(64, np.nan, np.float32)
    state["bn2.bias"] = np.full(64, 1e300)  # float64: not finite in float32
    state["extra.weight"] = np.zeros(3, np.float32)
    expected = (
        "w.pth does not fit the network: tensors 4 missing (conv1.weight, bn1.bias, head.0.bias, …)"
        "; 1 unexpected (extra.weight); 1 of a wrong shape (conv2.weight: (64, 64, 1, 1) instead of"
        " (64, 64, 3, 3)); 2 not finite (bn2.weight, bn2.bias)"
    )
    with pytest.raises(HRNetError, match=re.escape(expected)):
        convert.to_flax(state, table, source="w.pth")


def test_differences_on_the_way_back():
    variables = convert.to_flax(zero_state(small_table()), small_table())
    del variables["params"]["head"]["conv2"]
    variables["params"]["head"]["conv1"]["kernel"] = np.zeros((2, 2))
    variables["params"]["neck"] = {"bias": np.zeros(2)}
    with pytest.raises(HRNetError, match="2 missing .*; 1 unexpected .*; 1 of a wrong shape"):
        convert.to_torch(variables, small_table())


def test_names_in_messages_are_escaped():
    with pytest.raises(HRNetError, match=r"no network of the HRNet family.*a\\nb") as error:
        kinds.recognise({"a\nb": np.zeros(1)})
    assert "\n" not in str(error.value)
    state = zero_state(small_table()) | {"a\nb" * 1000: np.zeros(1)}
    with pytest.raises(HRNetError, match="1 unexpected") as error:
        convert.to_flax(state, small_table())
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


# Backbones


def imagenet_head():
    """Names as in the official classification head; shapes do not matter."""
    rng = np.random.default_rng(0)
    names = ("incre_modules.0.0.conv1.weight", "downsamp_modules.0.0.bias", "final_layer.0.bias")
    return {n: rng.normal(size=3).astype(np.float32) for n in (*names, "classifier.bias")}


def test_backbone_of_an_imagenet_network(tmp_path):
    variant = get_variant("w18_small_v1")
    state = seeded_state(backbone_table(variant))
    path = tmp_path / "hrnet_w18_small.pth"
    path.write_bytes(torch_bytes(state | imagenet_head()))
    variables, report = convert.load_backbone(path, variant)
    assert (report["source"], report["used"], report["ignored"]) == ("hrnet_w18_small.pth", 426, 4)
    assert variables.keys() == {"params", "batch_stats"}
    assert all(part.keys() == {"backbone"} for part in variables.values())
    back = convert.to_torch(variables, backbone_table(variant))
    assert all(back[name].tobytes() == array.tobytes() for name, array in state.items())

    path.write_bytes(torch_bytes(state | imagenet_head() | {"fc.weight": np.zeros(3, np.float32)}))
    with pytest.raises(HRNetError, match=r"tensors 1 unexpected \(fc.weight\)"):
        convert.load_backbone(path, variant)
    with pytest.raises(HRNetError, match="is an HRNet w18_small_v1: the network to train is w18"):
        convert.load_backbone(path, get_variant("w18"))


def test_backbone_of_a_landmark_network(small_file):
    _, report = convert.load_backbone(small_file, get_variant("w18_small_v1"))
    assert (report["used"], report["ignored"]) == (426, 9)


def test_official_imagenet_file(shared, tmp_path):
    spec = json.loads((shared / "reference/state_dicts/imagenet_w18.json").read_text())
    state = {n: np.ones(s, d) if s else np.zeros(s, d) for n, s, d in spec}
    path = tmp_path / "hrnetv2_w18_imagenet_pretrained.pth"
    path.write_bytes(torch_bytes(state))
    _, report = convert.load_backbone(path, get_variant("w18"))
    assert (report["used"], report["ignored"]) == (1830, 126)
    assert report["kind"] == kinds.OFFICIAL_IMAGENET


def test_backbone_of_the_other_kinds(tmp_path):
    variant = get_variant("w18_small_v1")
    backbone = seeded_state(backbone_table(variant))
    openmmlab = {f"backbone.{name}": array for name, array in backbone.items()}
    path = tmp_path / "w.pth"
    neck = ("neck.0.increase_layers.0.0.conv1.weight", "head.fc.weight", "head.fc.bias")
    for state, head, kind in (
        (openmmlab, named((3,), *neck), kinds.MMPRETRAIN),
        (openmmlab, named((3,), "keypoint_head.final_layer.3.weight"), kinds.MMPOSE_0),
        (backbone, named((3,), "head.0.0.0.conv1.weight", "head.1.0.bias", "fc.weight"), "a body"),
        (openmmlab, {}, "an HRNet backbone without a head"),
    ):
        path.write_bytes(torch_bytes(state | head))
        variables, report = convert.load_backbone(path, variant)
        assert report["kind"].startswith(kind)
        assert (report["used"], report["ignored"]) == (426, len(head))
        kernel = variables["params"]["backbone"]["conv1"]["kernel"]
        np.testing.assert_array_equal(kernel, backbone["conv1.weight"].transpose(2, 3, 1, 0))
    path.write_bytes(torch_bytes(openmmlab | named((3,), "keypoint_head.final_layer.weight")))
    with pytest.raises(HRNetError, match="no backbone to start from: it is a body-pose HRNet of"):
        convert.load_backbone(path, variant)
    path.write_bytes(torch_bytes({"fc.weight": np.zeros(3, np.float32)}))
    with pytest.raises(HRNetError, match="no backbone .*: it is no network of the HRNet family"):
        convert.load_backbone(path, variant)


# Files and metadata


def test_metadata(tmp_path, small_file):
    result = convert.convert_file(small_file, tmp_path / "model")
    assert result.destination == tmp_path / "model" / "model.safetensors"
    metadata = checkpoints.load(tmp_path / "model").metadata
    provenance = metadata.pop("provenance")
    assert metadata == {
        "format": 1,
        "version": hrnet_jax.__version__,
        "model": {"name": "hrnetv2_w18_small_v1", "num_landmarks": 68},
        "scheme": "300w",
        "protocol": protocols.official("300w").to_dict(),
    }
    assert provenance.keys() == {
        *("source", "sha256", "kind", "container", "tensors_used", "tensors_ignored"),
        *("biases_set_to_zero", "licence", "published", "converter"),
    }
    assert provenance["source"] == "model_best.pth" and len(provenance["sha256"]) == 64
    assert (provenance["tensors_used"], provenance["tensors_ignored"]) == (435, 0)
    assert provenance["kind"] == kinds.OFFICIAL_FACE and "research" in provenance["licence"]


def test_metadata_of_a_classifier(tmp_path):
    state = seeded_state(imagenet_table(get_variant("w18_small_v1"), 10))
    for name in kinds.OPTIONAL_BIASES:
        del state[name]
    source = tmp_path / "w.pth"
    source.write_bytes(torch_bytes(state | named((3,), "classifier_ema.weight")))
    with pytest.raises(HRNetError, match=r"1 unexpected \(classifier_ema.weight\)"):
        convert.convert_file(source, tmp_path / "model")
    source.write_bytes(torch_bytes(state))
    with pytest.raises(HRNetError, match="has no landmark scheme"):
        convert.convert_file(source, tmp_path / "model", scheme="wflw")
    done = convert.convert_file(source, tmp_path / "model")
    assert (done.used, done.ignored, done.zero_biases, done.outputs) == (548, 0, 4, 10)
    metadata = checkpoints.load(tmp_path / "model").metadata
    assert metadata["model"] == {"name": "hrnet_w18_small_v1_imagenet", "num_classes": 10}
    assert metadata["scheme"] is None and metadata["classes"] is None  # there are 10
    assert metadata["protocol"] == PREPROCESSINGS["official"].to_dict()
    published = [entry["name"] for entry in metadata["provenance"]["published"]]
    assert published == [
        "imagenet-w18-small-v1",
        "timm-hrnet_w18_small.ms_in1k",
        "timm-hrnet_w18_small.gluon_in1k",
    ]
    assert convert.export_torch(tmp_path / "model", tmp_path / "out.safetensors") == 552
    exported = safetensors.numpy.load_file(tmp_path / "out.safetensors")
    for name, array in state.items():
        np.testing.assert_array_equal(exported[name], array)


def test_published_figures_of_the_official_network():
    (found,) = published.expected([kinds.OFFICIAL_FACE], "hrnetv2_w18", "wflw")
    assert found["metrics"]["NME"] == 4.60 and found["protocol"] == "official"
    names = [
        e["name"]
        for e in published.expected(kinds.same_networks(kinds.MMPOSE_1), "hrnetv2_w18", "wflw")
    ]
    assert names == ["mmpose-wflw", "mmpose-wflw-dark", "mmpose-wflw-awing"]


def test_scheme_and_protocol(tmp_path):
    source, out = tmp_path / "w.pth", tmp_path / "w.safetensors"
    source.write_bytes(torch_bytes(seeded_state(small_table(106))))
    assert convert.convert_file(source, out).scheme is None
    metadata = checkpoints.load(out).metadata
    assert metadata["scheme"] is None and metadata["protocol"] is None
    with pytest.raises(HRNetError, match="w.pth has 106 landmarks: wflw has 98"):
        convert.convert_file(source, out, scheme="wflw")
    with pytest.raises(HRNetError, match="unknown landmark scheme"):
        convert.convert_file(source, out, scheme="106")
    own = protocols.float_protocol(sigma=2.0)
    convert.convert_file(source, out, model="hrnetv2_w18_small_v1", protocol=own)
    assert checkpoints.load(out).metadata["protocol"] == own.to_dict()
    with pytest.raises(HRNetError, match="w.pth does not fit the network: tensors .* missing"):
        convert.convert_file(source, out, model="hrnetv2_w18")
    with pytest.raises(HRNetError, match="unknown model 'w18'"):
        convert.convert_file(source, out, model="w18")


def test_never_over_the_source(tmp_path, small_file):
    source = tmp_path / "w.safetensors"
    source.write_bytes(small_file.read_bytes())
    with pytest.raises(HRNetError, match="would overwrite its source"):
        convert.convert_file(source, tmp_path / "." / "w.safetensors")


def test_conversion_makes_no_copies(tmp_path):
    """The file is in memory once: a network is views of it until its tensors are written."""
    source = tmp_path / "w.pth"
    source.write_bytes(torch_bytes(zero_state(imagenet_table(get_variant("w18_small_v1")))))
    size = source.stat().st_size
    tracemalloc.start()
    try:
        convert.convert_file(source, tmp_path / "model")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > 50e6 and peak < 1.6 * size  # the largest tensor is a third of this file


# The command


def test_command(tmp_path, small_file, capsys):
    model, out = tmp_path / "model", tmp_path / "out.safetensors"
    assert run("convert", [str(small_file), str(model)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(f'read {small_file}: zip, "state_dict", a pickled torch.nn')
    recognised = "recognised hrnetv2_w18_small_v1 with 68 landmarks (300w): "
    assert printed[1] == recognised + kinds.OFFICIAL_FACE
    assert printed[2] == f"wrote {model}/model.safetensors: 435 tensors used, 0 ignored"
    assert run("convert", ["--to-torch", str(model), str(out)]) == 0
    assert "435 tensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.pth", "out"], "error: absent.pth: no such file"),
        (["--to-torch", "absent", "out.safetensors"], "error: absent: no such file or directory"),
        (["--to-torch", "absent", "out.pth"], "error: out.pth: PyTorch weights are written as"),
    ],
)
def test_command_errors(arguments, message, capsys):
    assert run("convert", arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(message) and captured.err.count("\n") == 1


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        run("convert", ["--help"])
    assert stop.value.code == 0
    assert "hrnet-jax convert HR18-WFLW.pth models/wflw" in capsys.readouterr().out
