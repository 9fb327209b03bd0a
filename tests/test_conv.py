"""`layers.Conv` is `flax.linen.Conv` for every argument: parameters, values and gradients."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.linen.dtypes import promote_dtype
from hypothesis import given, settings
from hypothesis import strategies as st

from hrnet_jax.models import cpu_conv
from hrnet_jax.models.layers import Conv

CHANNELS = 4


def doubled(*arrays, dtype):
    return [None if a is None else 2 * a for a in promote_dtype(*arrays, dtype=dtype)]


def negated(*args, **kwargs):
    return -jax.lax.conv_general_dilated(*args, **kwargs)


PAIRS = st.tuples(st.integers(1, 2), st.integers(1, 2))
STEPS = st.one_of(st.sampled_from([None, 1, (1, 1), [1, 1]]), st.integers(1, 2), PAIRS)
SIDE = st.integers(0, 2)
REQUIRED = {
    "features": st.just(4),
    "kernel_size": st.sampled_from([(1, 1), (3, 3), (3, 1), (2, 2)]),
    "padding": st.one_of(
        st.sampled_from(["SAME", "VALID", "CIRCULAR", "REFLECT", 0, 1, [1, 1]]),
        st.sampled_from([((1, 1), (1, 1)), ((0, 0), (0, 0))]),
        st.tuples(SIDE, st.tuples(SIDE, SIDE)),
    ),
}
OPTIONAL = {
    "strides": STEPS,
    "input_dilation": STEPS,
    "kernel_dilation": STEPS,
    "feature_group_count": st.sampled_from([1, 2, 4]),
    "use_bias": st.booleans(),
    "mask": st.just("half"),
    "dtype": st.sampled_from([None, jnp.float32, jnp.bfloat16]),
    "param_dtype": st.sampled_from([jnp.float32, jnp.bfloat16]),
    "precision": st.sampled_from([None, "highest"]),
    "kernel_init": st.just(nn.initializers.normal(1.0)),
    "bias_init": st.just(nn.initializers.normal(1.0)),
    "promote_dtype": st.just(doubled),
    "conv_general_dilated": st.just(negated),
    "conv_general_dilated_cls": st.just(lambda: negated),
}


def test_every_field_is_tried():
    """One that a new Flax adds belongs into the tables above."""
    fields = {field.name for field in dataclasses.fields(nn.Conv)}
    assert fields == {*REQUIRED, *OPTIONAL, "parent", "name"}


def traced(function, data):
    """The program as text, or what was raised: some combinations Flax itself refuses."""
    try:
        return str(jax.make_jaxpr(function)(*data))
    except Exception as error:
        return type(error), str(error)


def check(arguments):
    arguments = {"dtype": jnp.float32} | arguments
    if "mask" in arguments:
        groups = arguments.get("feature_group_count", 1)
        size = (*arguments["kernel_size"], CHANNELS // groups, arguments["features"])
        arguments["mask"] = jnp.asarray(np.indices(size).sum(0) % 2, jnp.float32)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 5, CHANNELS)), jnp.float32)

    def everything(layer):
        def run(key, x):
            params = layer.init(key, x)
            y, vjp = jax.vjp(layer.apply, params, x)
            return {"params": params, "y": y, "gradients": vjp(jnp.cos(y))}

        return run

    run, expect = everything(Conv(**arguments)), everything(nn.Conv(**arguments))
    data = (jax.random.key(0), x)
    if traced(run, data) == traced(expect, data):
        return  # one program, or one refusal: no need to run it
    found, expected = run(*data), expect(*data)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    half = jnp.bfloat16 in (arguments["dtype"], arguments.get("param_dtype"))
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        scale = np.abs(b).max() if b.size else 1
        np.testing.assert_allclose(a, b, rtol=0, atol=(2e-2 if half else 1e-5) * scale)


@pytest.fixture(scope="module", autouse=True)
def small_maps():
    """The lowerings that large maps get, for the small ones here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_conv, "MIN_PIXELS", 1)
        yield


ALONE = {
    "padding": ["SAME", "VALID", "CIRCULAR", "REFLECT", 2, ((0, 1), (1, 0))],
    "kernel_size": [(3, 1), (2, 2)],
    "strides": [2, (1, 2)],
    "input_dilation": [2, (2, 1)],
    "kernel_dilation": [2],
    "feature_group_count": [2, 4],
    "mask": ["half"],
    "dtype": [None],
    "precision": ["highest"],
    "promote_dtype": [doubled],
    "conv_general_dilated": [negated],
    "conv_general_dilated_cls": [lambda: negated],
}


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("name", ALONE)
def test_one_argument_off_the_exact_case(name, kernel):
    exact = {"features": 4, "kernel_size": (kernel, kernel), "padding": kernel // 2}
    assert Conv(**exact, dtype=jnp.float32)._lowering(jnp.zeros((2, 6, 5, 4))) is not None
    for value in ALONE[name]:
        check(exact | {name: value})


@given(st.fixed_dictionaries(REQUIRED, optional=OPTIONAL))
@settings(max_examples=30, derandomize=True, deadline=None)
def test_any_arguments(arguments):
    check(arguments)
