"""Features, saliency, receptive fields and spread, by hand on tiny networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hrnet_jax
import tests.tiny
from hrnet_jax import inspect
from hrnet_jax.ablations import ablate
from hrnet_jax.errors import HRNetError
from hrnet_jax.inspect.figures import overlay

IMAGES = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))


def made(name, *ablations, **kwargs):
    model = ablate(hrnet_jax.create_model(name, **kwargs), *ablations)
    return model, model.init(jax.random.key(0), IMAGES)


@pytest.fixture(scope="module")
def plain():
    return made(tests.tiny.PLAIN, num_landmarks=5)


@pytest.mark.parametrize(
    "name, texts, kwargs",
    [
        (tests.tiny.MODEL, ("frozen('head')", "without_branch(3)"), {"num_landmarks": 5}),
        (tests.tiny.HOURGLASS, (), {"num_landmarks": 5}),
        ("hrnet_tiny_imagenet", (), {"num_classes": 4}),
    ],
)
def test_every_network_can_be_looked_into(name, texts, kwargs):
    """Traced alone: what comes out is tested on a network that compiles in a second."""
    model = ablate(hrnet_jax.create_model(name, **kwargs), *texts)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    found = jax.eval_shape(
        lambda v, x: inspect.features(model, v, x, "backbone/*"), variables, images
    )
    assert len(found) > 10 and all(len(leaf.shape) in (4, 5) for leaf in found.values())
    look = jax.eval_shape(lambda v, x: inspect.saliency(model, v, x, 1), variables, images)
    assert look.shape == (2, 64, 64)


def test_features_have_the_names_of_the_parameters(plain):
    found = inspect.features(*plain, IMAGES)
    branches = plain[0].apply(plain[1], IMAGES, features=True)
    np.testing.assert_allclose(found["backbone/stem2"], branches[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found["head"], plain[0].apply(*plain[1:], IMAGES), atol=1e-5)
    assert set(inspect.features(*plain, IMAGES, "head/*")) == {
        "head/bn1",
        "head/conv1",
        "head/conv2",
    }
    with pytest.raises(HRNetError, match="no module 'neck/.*': for example"):
        inspect.features(*plain, IMAGES, "neck/*")


def test_saliency_is_the_gradient_of_the_peak(plain):
    model, variables = plain
    look = np.asarray(inspect.saliency(model, variables, IMAGES, 2))
    place = np.unravel_index(look[0].argmax(), look[0].shape)
    changes = []
    for channel in range(3):
        step = jnp.zeros_like(IMAGES).at[(0, *place, channel)].set(1e-3)
        up, down = (model.apply(variables, IMAGES + s)[0, ..., 2].max() for s in (step, -step))
        changes.append(abs(float(up - down)) / 2e-3)
    np.testing.assert_allclose(look[(0, *place)], max(changes), rtol=0.02)


def test_integrated_gradients_add_up(plain):
    model, variables = plain
    given = inspect.integrated_gradients(model, variables, IMAGES, 3, steps=128)
    heatmaps = model.apply(variables, IMAGES)[..., 3].reshape(2, -1)
    start = model.apply(variables, jnp.zeros_like(IMAGES))[..., 3].reshape(2, -1)
    cell = heatmaps.argmax(axis=1)
    expected = [heatmaps[n, cell[n]] - start[n, cell[n]] for n in range(2)]
    np.testing.assert_allclose(given.sum(axis=(1, 2, 3)), expected, rtol=0.01)
    with pytest.raises(HRNetError, match="no output 5: the network has 5"):
        inspect.integrated_gradients(model, variables, IMAGES, 5)


def test_two_convolutions_of_stride_two_see_seven_pixels(plain):
    field = inspect.receptive_field(*plain, IMAGES)
    rows, columns = np.nonzero(field)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (7, 7)
    assert inspect.extent(field, 1.0) == 8  # the centre of cell 4 of 8 lies half a pixel off
    first = inspect.receptive_field(*plain, IMAGES, "backbone/stem1")
    assert np.ptp(np.nonzero(first)[0]) + 1 == 3
    with pytest.raises(HRNetError, match="no module 'backbone/stem9'"):
        inspect.receptive_field(*plain, IMAGES, "backbone/stem9")


def test_the_spread_of_gaussians_and_of_two_peaks():
    y, x = jnp.mgrid[:64, :64]

    def at(cx, sigma):
        return jnp.exp(-((x - cx) ** 2 + (y - 30.0) ** 2) / (2 * sigma**2))

    maps = jnp.stack([at(30, 2.0), at(30, 4.0), at(20, 1.0) + at(44, 1.0), 0 * x], -1)[None]
    spread = inspect.heatmap_spread(maps)[0]
    np.testing.assert_allclose(spread[:2], [0.86 * 2, 0.86 * 4], rtol=0.03)
    np.testing.assert_allclose(spread[2], 24 / np.sqrt(8), rtol=0.02)
    assert np.isnan(spread[3])
    noisy = maps + 0.05 * jax.random.uniform(jax.random.key(0), maps.shape)
    np.testing.assert_allclose(inspect.heatmap_spread(noisy)[0, :3], spread[:3], rtol=0.1)


def test_an_overlay_shows_the_largest():
    picture = np.full((8, 8, 3), 100, np.uint8)
    values = np.zeros((8, 8, 3))
    values[2, 3, 1] = -5.0
    drawn = overlay(picture, values)
    assert drawn.dtype == np.uint8 and (drawn[0, 0] == 100).all()
    assert np.abs(drawn[2, 3].astype(int) - 100).max() > 50
