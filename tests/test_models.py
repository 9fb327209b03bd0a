"""The networks: sizes, shapes, dtypes and the ablation hooks."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hrnet_jax
from hrnet_jax.errors import HRNetError
from hrnet_jax.models import layers
from tests import tiny

FACE_98_PARAMETERS = {
    "w18": 9_662_528,
    "w30": 26_060_324,
    "w32": 29_584_514,
    "w40": 45_941_914,
    "w44": 55_476_998,
    "w48": 65_916_338,
    "w64": 116_716_258,
}
W18_PARAMETERS = {98: 9_662_528, 68: 9_654_398, 29: 9_643_829, 19: 9_641_119}


def shapes(model, size=64):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name, expected", FACE_98_PARAMETERS.items())
def test_parameter_counts(name, expected):
    variables = shapes(hrnet_jax.create_model(f"hrnetv2_{name}", 98))
    assert count(variables["params"]) == expected
    assert len(jax.tree.leaves(variables["params"])) == 921
    assert len(jax.tree.leaves(variables["batch_stats"])) == 612


@pytest.mark.parametrize("landmarks, expected", W18_PARAMETERS.items())
def test_parameter_counts_by_landmarks(landmarks, expected):
    assert count(shapes(hrnet_jax.create_model("hrnetv2_w18", landmarks))["params"]) == expected


@pytest.mark.parametrize("name", ["hrnetv2_w18_small_v1", "hrnetv2_w18_small_v2"])
@pytest.mark.parametrize("size, heatmap", [(128, 32), (250, 63), (130, 33)])
def test_any_input_size(name, size, heatmap):
    model = hrnet_jax.create_model(name, 5)
    images = jnp.zeros((2, size, size, 3))
    output = jax.eval_shape(lambda v: model.apply(v, images), shapes(model))
    assert output.shape == (2, heatmap, heatmap, 5)
    assert output.dtype == jnp.float32


@pytest.fixture(scope="module")
def tiny_network():
    model = hrnet_jax.create_model(tiny.MODEL, 3)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    return model, model.init(jax.random.key(0), images), images


def test_bfloat16_keeps_parameters_and_statistics_in_float32(tiny_network):
    _, variables, images = tiny_network
    model = hrnet_jax.create_model(tiny.MODEL, 3, dtype=jnp.bfloat16)
    made = shapes(model, 32)
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype("float32")}
    output, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
    assert output.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
    exact = tiny_network[0].apply(variables, images, train=True, mutable=["batch_stats"])[0]
    assert 0 < float(jnp.abs(output - exact).max()) < 0.05 * float(jnp.abs(exact).max())


def test_remat_changes_nothing(tiny_network):
    model, variables, images = tiny_network
    remat = hrnet_jax.create_model(tiny.MODEL, 3, remat=True)
    assert jax.tree.structure(shapes(remat, 32)) == jax.tree.structure(variables)

    def gradients(network):
        def loss(params):
            variables_now = variables | {"params": params}
            output, _ = network.apply(variables_now, images, train=True, mutable=["batch_stats"])
            return jnp.square(output).sum()

        return jax.jit(jax.grad(loss))(variables["params"])

    for a, b in zip(
        jax.tree.leaves(gradients(model)), jax.tree.leaves(gradients(remat)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * float(jnp.abs(a).max() + 1e-9))


def test_conv_and_norm_are_hooks():
    seen = []

    class CountingConv(layers.Conv):
        def __call__(self, x):
            seen.append(tuple(self.kernel_size))
            return super().__call__(x)

    class NoNorm(nn.Module):
        use_running_average: bool
        dtype: object = None
        param_dtype: object = None

        def __call__(self, x):
            return x

    model = hrnet_jax.create_model(tiny.MODEL, 3, conv=CountingConv, norm=NoNorm)
    variables = shapes(model, 32)
    assert set(variables) == {"params"}
    assert len(seen) == len([p for p in jax.tree.leaves(variables) if p.ndim == 4])


def test_official_initialisation(tiny_network):
    model, variables, _ = tiny_network
    kernels = [p for p in jax.tree.leaves(variables["params"]) if p.ndim == 4]
    values = np.concatenate([np.ravel(kernel) for kernel in kernels])
    assert abs(values.std() - 1e-3) < 2e-5
    bias = np.asarray(
        hrnet_jax.create_model(tiny.MODEL, 400).init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))[
            "params"
        ]["head"]["conv2"]["bias"]
    )
    assert 0.95 * 30**-0.5 < np.abs(bias).max() <= 30**-0.5


def test_batch_norm_statistics_are_pytorchs():
    x = jax.random.normal(jax.random.key(0), (4, 3, 3, 2)) * 3 + 100
    norm = layers.BatchNorm(use_running_average=False, momentum=0.9)
    variables = norm.init(jax.random.key(0), x)
    y, updates = norm.apply(variables, x, mutable=["batch_stats"])
    values = np.asarray(x, np.float64).reshape(-1, 2)
    stats = updates["batch_stats"]
    np.testing.assert_allclose(stats["mean"], 0.1 * values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * values.var(0, ddof=1), rtol=1e-4)
    expected = (values - values.mean(0)) / np.sqrt(values.var(0) + 1e-5)
    np.testing.assert_allclose(np.reshape(y, (-1, 2)), expected, atol=2e-4)


def test_conv_equals_flax_conv():
    x = jax.random.normal(jax.random.key(0), (2, 5, 5, 3))
    for bias in (False, True):
        arguments = {"features": 4, "kernel_size": (1, 1), "use_bias": bias}
        arguments["bias_init"] = nn.initializers.normal(1.0)
        ours, flax = layers.Conv(**arguments), nn.Conv(**arguments)
        variables = ours.init(jax.random.key(1), x)
        assert jax.tree.structure(variables) == jax.tree.structure(flax.init(jax.random.key(1), x))
        np.testing.assert_allclose(ours.apply(variables, x), flax.apply(variables, x), atol=1e-5)


def test_upsampling_is_pytorchs():
    torch = pytest.importorskip("torch", reason="pip install 'hrnet-jax[torch]' to compare")
    x = np.random.default_rng(0).normal(size=(2, 4, 5, 3)).astype(np.float32)
    for size in ((8, 10), (16, 20), (32, 40), (7, 9), (13, 5)):
        expected = torch.nn.functional.interpolate(
            torch.from_numpy(x.transpose(0, 3, 1, 2)), size, mode="bilinear", align_corners=False
        )
        ours = layers.upsample(jnp.asarray(x), size)
        np.testing.assert_allclose(ours, expected.numpy().transpose(0, 2, 3, 1), atol=2e-6)


@pytest.mark.parametrize("call", [{"name": "hrnetv2_w19"}, {"name": "w18"}, {"init": "xavier"}])
def test_unknown_names(call):
    with pytest.raises(HRNetError, match="choose one of"):
        hrnet_jax.create_model(**{"name": "hrnetv2_w18"} | call)


def test_momentum_is_injected():
    norm = functools.partial(layers.BatchNorm, momentum=0.5)
    model = hrnet_jax.create_model(tiny.MODEL, 3, norm=norm)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    variables = model.init(jax.random.key(0), images)
    _, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
    variance = updates["batch_stats"]["backbone"]["bn1"]["var"]
    assert 0.5 <= float(variance.min()) and float(variance.max()) < 0.51
