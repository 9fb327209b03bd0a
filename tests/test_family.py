"""Classification and Heatmap in Heatmap: the published networks' numbers; heads and backbones."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hrnet_jax
from hrnet_jax.errors import HRNetError
from hrnet_jax.models import HIHOutput, layers
from hrnet_jax.models.variants import VARIANTS
from hrnet_jax.torch_weights import convert
from hrnet_jax.torch_weights.names import model_table
from tests import tiny
from tests.seeded import seeded_array, seeded_image

DATA = Path(__file__).parent / "data"
IMAGENET_PARAMETERS = {
    "w18": 21_299_004,
    "w30": 37_712_220,
    "w32": 41_232_680,
    "w40": 57_557_160,
    "w44": 67_064_984,
    "w48": 77_469_864,
    "w64": 128_059_944,
    "w18_small_v1": 13_187_464,
    "w18_small_v2": 15_597_464,
}
# Parameters that the network uses, and with the skip layers that the PyTorch code never uses.
HIH_PARAMETERS = {"hih_s": (12_603_494, 14_469_478), "hih_b": (18_961_706, 22_677_034)}


def shapes(model, size=64):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


def output_shapes(model, size, **kwargs):
    def run(key):
        images = jnp.zeros((2, size, size, 3))
        return model.apply(model.init(key, images), images, **kwargs)

    return jax.tree.map(lambda x: x.shape, jax.eval_shape(run, jax.random.key(0)))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


# The numbers


def seeded_output(name, outputs, size):
    """The output of a network with the seeded weights, converted from their PyTorch names."""
    table = model_table(name, outputs)
    state = {entry.name: seeded_array(entry.name, entry.shape, "a") for entry in table}
    variables = convert.to_flax(state, table)
    images = seeded_image((2, 3, size, size), "a").transpose(0, 2, 3, 1)
    with jax.default_matmul_precision("highest"):
        lowered = jax.jit(hrnet_jax.create_model(name).apply).lower(variables, jnp.asarray(images))
        # one run: an optimised program takes longer to compile than it saves
        run = lowered.compile(compiler_options={"xla_backend_optimization_level": 0})
        return run(variables, jnp.asarray(images))


def check_close(ours, expected):
    assert ours.shape == expected.shape and ours.dtype == jnp.float32
    error = np.abs(ours - expected).max() / np.abs(expected).max()
    print(f"largest difference {error:.1e} of the largest reference")
    assert error <= 1e-5


@pytest.mark.parametrize("variant", ["w18", "w18_small_v1"])
def test_imagenet_parity(variant):
    expected = np.load(DATA / f"imagenet_{variant}.npz")["logits"]
    check_close(seeded_output(f"hrnet_{variant}_imagenet", 1000, 64), expected)


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v not in ("w18", "w18_small_v1")])
def test_imagenet_parity_of_the_others(shared, variant):
    if variant == "tiny":
        return
    expected = np.load(shared / "reference" / "outputs" / f"imagenet_{variant}.npz")["logits"]
    check_close(seeded_output(f"hrnet_{variant}_imagenet", 1000, 64), expected)


def check_hih(name, reference):
    output = seeded_output(name, 98, 128)
    heatmaps = np.load(reference)["heatmaps"].transpose(0, 1, 3, 4, 2)
    decimals = np.load(reference)["decimal_heatmaps"][:, 0].transpose(0, 2, 3, 1)
    check_close(output.heatmaps[..., : heatmaps.shape[-1]], heatmaps)
    check_close(output.decimal_heatmaps, decimals)


def test_hih_parity():
    check_hih("hih_s", DATA / "hih_stack2_98.npz")


@pytest.mark.parametrize("name, stacks", [("hih_s", 2), ("hih_b", 4)])
def test_hih_parity_in_full(shared, name, stacks):
    check_hih(name, shared / "reference" / "outputs" / f"hih_stack{stacks}_98.npz")


# Sizes


@pytest.mark.parametrize("name, expected", IMAGENET_PARAMETERS.items())
def test_imagenet_parameter_counts(name, expected):
    assert count(shapes(hrnet_jax.create_model(f"hrnet_{name}_imagenet"))["params"]) == expected


@pytest.mark.parametrize("name, expected", HIH_PARAMETERS.items())
def test_hih_parameter_counts(name, expected):
    used, with_unused = expected
    assert count(shapes(hrnet_jax.create_model(name))["params"]) == used
    unused = [entry for entry in model_table(name, 98) if entry.layout == "unused"]
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    extra = sum(np.prod(e.shape) for e in unused if not e.name.endswith(buffers))
    assert used + extra == with_unused


def test_output_shapes():
    hih = HIHOutput((2, 2, 64, 64, 98), (2, 8, 8, 98))
    assert output_shapes(hrnet_jax.create_model("hih_s"), 256) == hih
    assert output_shapes(hrnet_jax.create_model("hrnet_w18_small_v1_imagenet"), 64) == (2, 1000)
    ten = hrnet_jax.create_model("hrnet_tiny_imagenet", num_classes=10)
    assert output_shapes(ten, 64) == (2, 10)
    branches = [(2, 56, 56, 18), (2, 28, 28, 36), (2, 14, 14, 72), (2, 7, 7, 144)]
    features = output_shapes(hrnet_jax.create_model("hrnet_w18_imagenet"), 224, features=True)
    assert features == branches


def test_any_head_on_any_backbone():
    hih = HIHOutput((2, 1, 16, 16, 5), (2, 2, 2, 5))
    assert output_shapes(hrnet_jax.create_model(tiny.MODEL, 5, head="hih"), 64) == hih
    hourglass = hrnet_jax.create_model(tiny.HOURGLASS, 5, head="heatmap")
    assert output_shapes(hourglass, 96) == (2, 24, 24, 5)
    classes = hrnet_jax.create_model(tiny.MODEL, head="classification", num_classes=7)
    assert output_shapes(classes, 64) == (2, 7)
    for dtype in (jnp.float32, jnp.bfloat16):
        model = hrnet_jax.create_model(tiny.HOURGLASS, 5, dtype=dtype, remat=True)
        variables = shapes(model)
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        made = jax.eval_shape(model.apply, variables, jnp.zeros((1, 64, 64, 3)))
        assert {leaf.dtype for leaf in made} == {jnp.dtype("float32")}


def test_hourglass_of_odd_sizes_and_too_small_ones():
    model = hrnet_jax.create_model(tiny.HOURGLASS, 5)
    assert output_shapes(model, 100) == HIHOutput((2, 2, 25, 25, 5), (2, 3, 3, 5))
    with pytest.raises(HRNetError, match="60 x 60 pixels are too small"):
        shapes(model, 60)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "hrnet_w18_imagenet", "num_landmarks": 98}, "give num_classes"),
        ({"name": "hrnetv2_w18", "num_classes": 10}, "give num_landmarks"),
        ({"name": "hih_s", "head": "classification"}, "hih_s has no classification head"),
        ({"name": "hih_s", "head": "dark"}, "unknown head 'dark': choose one of heatmap, hih"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(HRNetError, match=message):
        hrnet_jax.create_model(**arguments)


@pytest.mark.parametrize(
    ("name", "momentum"), [(tiny.MODEL, 0.99), (tiny.HOURGLASS, 0.9), ("hrnet_tiny_imagenet", 0.9)]
)
def test_published_momentum(name, momentum):
    model = hrnet_jax.create_model(name)
    for part in (model.backbone, model.head):
        assert part.norm(use_running_average=True).momentum == momentum


# Upsampling


@pytest.mark.parametrize(
    ("ours", "arguments", "sizes"),
    [
        (layers.upsample_nearest, {"mode": "nearest"}, [(8, 10), (16, 20), (32, 40)]),
        (
            layers.upsample_aligned,
            {"mode": "bilinear", "align_corners": True},
            [(8, 10), (16, 20), (7, 9), (1, 1)],
        ),
    ],
)
def test_upsampling_is_pytorchs(ours, arguments, sizes):
    torch = pytest.importorskip("torch", reason="pip install 'hrnet-jax[torch]' to compare")
    resize = functools.partial(torch.nn.functional.interpolate, **arguments)
    for shape in ((2, 4, 5, 3), (1, 1, 1, 2)):
        x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        for size in sizes:
            expected = resize(torch.from_numpy(x.transpose(0, 3, 1, 2)), size).numpy()
            with jax.default_matmul_precision("highest"):
                made = ours(jnp.asarray(x), size)
            np.testing.assert_allclose(made, expected.transpose(0, 2, 3, 1), atol=2e-6)
