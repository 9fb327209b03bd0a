"""Eight CPU devices in float64: `tests/test_parallel.py` runs this in a process of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hrnet_jax
from hrnet_jax.codecs import UnbiasedCodec
from hrnet_jax.data.sources import open_split
from hrnet_jax.devices import Devices
from hrnet_jax.evaluation.landmarks import predict_records
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.plans.hlo import collectives, read_operations
from hrnet_jax.protocols import float_protocol
from hrnet_jax.schemes import get_scheme
from hrnet_jax.training.parallel import several_steps
from hrnet_jax.training.state import create_state
from tests import tiny
from tests.steps import landmark_step, pure_step, resident_feed

SIZE, LANDMARKS, BATCH = 32, 19, 16  # two faces a device
CODEC = UnbiasedCodec()
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module")
def devices():
    assert jax.device_count() == 8 and jax.config.jax_enable_x64
    return Devices()


@pytest.fixture(scope="module")
def network():
    model = hrnet_jax.create_model(tiny.PLAIN, LANDMARKS, dtype=jnp.float64)
    return model, model.init(jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))


def batches(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield {
            "image": rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8),
            "points": rng.uniform(0, SIZE // 4, (BATCH, LANDMARKS, 2)).astype(np.float32),
            "weights": rng.integers(0, 2, (BATCH, LANDMARKS)).astype(np.float32),
        }


def assert_close(a, b):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(left, right, **CLOSE)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_jit_mode_is_one_device(devices, network, accumulate):
    """Ten Adam steps on eight devices and on one: losses, parameters, statistics, moments."""
    model, variables = network
    optimiser = optax.adam(1e-3)
    options = {"accumulate": accumulate, "ema_decay": 0.9}
    one = landmark_step(model, CODEC, optimiser, **options)
    many = landmark_step(model, CODEC, optimiser, mesh=devices.mesh, **options)
    state = jax.device_put(jax.device_get(create_state(variables, optimiser, ema=True)))
    states = devices.replicate(create_state(variables, optimiser, ema=True))
    for batch in batches(10):
        state, metrics = one(state, batch)
        states, others = many(states, devices.split(batch))
        assert_close(metrics, others)
    assert_close(state, states)


def by_hand(model, variables, optimiser, steps):
    """Eight networks side by side: the mean of their gradients and of their statistics."""

    @jax.jit
    def replica(params, batch_stats, part):
        def loss_fn(params):
            outputs, updates = model.apply(
                {"params": params, "batch_stats": batch_stats},
                hrnet_jax.models.normalise_images(part["image"]),
                train=True,
                mutable=["batch_stats"],
            )
            targets = CODEC.encode(part["points"], part["weights"], SIZE // 4)
            return jnp.square(outputs - targets).mean(), updates["batch_stats"]

        return jax.value_and_grad(loss_fn, has_aux=True)(params)

    params, batch_stats = variables["params"], variables["batch_stats"]
    opt_state = optimiser.init(params)
    for batch in batches(steps):
        parts = [jax.tree.map(lambda x, k=k: x[2 * k : 2 * k + 2], batch) for k in range(8)]
        results = [replica(params, batch_stats, part) for part in parts]
        mean = jax.tree.map(lambda *x: sum(x) / 8, *results)
        (loss, batch_stats), gradients = mean
        updates, opt_state = optimiser.update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
    return {"params": params, "batch_stats": batch_stats}, loss, optax.tree.norm(gradients)


def test_pmap_mode_is_eight_replicas(devices, network):
    """With plain gradient descent, which eight times too large a gradient would show in."""
    model, variables = network
    optimiser = optax.sgd(0.1)
    expected, loss, norm = by_hand(model, variables, optimiser, 3)
    step = landmark_step(model, CODEC, optimiser, mesh=devices.mesh, mode="pmap")
    state = devices.replicate(create_state(variables, optimiser))
    for batch in batches(3):
        state, metrics = step(state, devices.split(batch))
    assert_close(expected, state.variables)
    assert_close([loss, norm], [metrics["loss"], metrics["gradient_norm"]])


def test_modes_differ_by_their_statistics(devices, network):
    model, variables = network
    losses = []
    for mode in ("jit", "pmap"):
        step = landmark_step(model, CODEC, optax.sgd(0.1), mesh=devices.mesh, mode=mode)
        state = devices.replicate(create_state(variables, optax.sgd(0.1)))
        losses.append(float(step(state, devices.split(next(batches(1))))[1]["loss"]))
    assert losses[0] != pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize(("mode", "accumulate"), [("jit", 1), ("jit", 2), ("pmap", 1), ("pmap", 2)])
def test_devices_send_each_other_gradients_only(devices, network, mode, accumulate):
    """All-reduces of gradients and BatchNorm statistics, to the byte; no images, no parameters.

    Each of the parts that a batch is taken in has its own.
    """
    model, variables = network
    optimiser = optax.adam(1e-3)
    step = landmark_step(
        model, CODEC, optimiser, accumulate=accumulate, mesh=devices.mesh, mode=mode
    )
    state = devices.replicate(create_state(variables, optimiser))
    hlo = step.lower(state, devices.split(next(batches(1)))).compile().as_text()
    found = collectives(read_operations(hlo))
    assert {collective.kind for collective in found} == {"all-reduce"}
    size = {key: 8 * sum(x.size for x in jax.tree.leaves(variables[key])) for key in variables}
    loss = 8
    sent = sum(collective.bytes for collective in found) / accumulate
    if mode == "pmap":
        assert sent == size["params"] + size["batch_stats"] + loss
    else:  # means and variances forward, and the gradients of both backward
        assert size["params"] < sent <= size["params"] + 2 * size["batch_stats"] + loss


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_batches_made_from_data_on_the_devices(devices, network, mode):
    """`prepare` makes the batch of all devices in both modes, and each takes its rows of it."""
    model, variables = network
    optimiser = optax.sgd(0.1)
    # pictures in float64 too: the two programs round float32 differently
    feed = [jax.tree.map(np.float64, batch) for batch in batches(2)]
    data = devices.replicate(jax.tree.map(lambda *x: np.stack(x), *feed))

    def prepare(data, step):
        return jax.tree.map(lambda x: x[step], data)

    options = {"mesh": devices.mesh, "mode": mode}
    fed = landmark_step(model, CODEC, optimiser, **options)
    call = several_steps(
        pure_step(model, CODEC, optimiser, **options), resident_feed(prepare, devices), 2
    )
    state, other = (devices.replicate(create_state(variables, optimiser)) for _ in range(2))
    for batch in feed:
        state, _ = fed(state, devices.split(batch))
    hlo = call.lower(other, data, None, np.uint32(0), 2).compile().as_text()
    assert {collective.kind for collective in collectives(read_operations(hlo))} == {"all-reduce"}
    assert_close(state, call(other, data, None, np.uint32(0), 2)[0])


def test_evaluation_on_a_number_of_faces_that_does_not_divide(devices, network, tmp_path):
    """Seven faces in batches of three on eight devices: the points of one device."""
    scheme, protocol = get_scheme("aflw"), float_protocol(sigma=1.5, input_size=SIZE)
    model, variables = network
    root = tiny.write_dataset(tmp_path / "data", 1, 7, LANDMARKS)
    data = tiny.get_config(root).data
    records = open_split(data, scheme, "valid")
    forward = make_forward(model, protocol, scheme)
    one = predict_records(forward, variables, records, protocol, 3)
    many = predict_records(
        forward, devices.replicate(variables), records, protocol, 3, devices=devices
    )
    assert one.shape == (7, LANDMARKS, 2)
    np.testing.assert_allclose(one, many, rtol=1e-9)
