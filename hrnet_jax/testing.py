"""Checks of parts of one's own, for their tests: codec, head, norm, loss.

    from hrnet_jax.testing import check_codec
    def test_mine():
        check_codec(MyCodec(sigma=2.0))

Each raises AssertionError with what is wrong. The contracts are where the parts are: in
`hrnet_jax.codecs`, `hrnet_jax.models.heads`, `hrnet_jax.models.norms`, `hrnet_jax.training.losses`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hrnet_jax.codecs import codec_from_dict, codec_to_dict
from hrnet_jax.models import create_model, describe_model
from hrnet_jax.models.features import Features
from hrnet_jax.models.layers import ConvNorm

LANDMARKS, SIZE = 5, 16  # of what is made here; the size in heatmap cells


class _Backbone(nn.Module):
    """Two branches of a few convolutions, which compile quickly."""

    conv: nn.Module
    norm: nn.Module

    @nn.compact
    def __call__(self, images, train=False):
        norm = functools.partial(self.norm, use_running_average=not train)
        x = ConvNorm(8, self.conv, norm, kernel=3, stride=2, name="stem")(images)
        fine = ConvNorm(8, self.conv, norm, kernel=3, stride=2, name="fine")(x)
        coarse = ConvNorm(16, self.conv, norm, kernel=3, stride=2, name="coarse")(fine)
        return Features([fine, coarse])


def check_codec(codec, *, outputs=None, cells: float | None = 0.75, told: bool = True) -> None:
    """That a codec's targets and points have their shapes, also under `jit` and `vmap`.

    Args:
      codec: the object.
      outputs: what a network would return for 3 faces, where that is nothing like the targets.
      cells: how far, in heatmap cells, a point may lie from where it was, encoded and decoded;
        None where targets cannot be decoded.
      told: that its settings are kept by a checkpoint: it can be made again from its description.
    """
    assert hash(codec) == hash(codec), "a codec is hashable: make it a frozen dataclass"
    if told:
        again = codec_from_dict(codec_to_dict(codec), allow=True)
        assert again == codec, f"its description makes another codec: {again}"
    points, weights = _points()
    if getattr(codec, "whole_cells", None):
        points = np.floor(points)
    targets = _same_jitted(lambda p, w: codec.encode(p, w, SIZE), points, weights, what="encode")
    for path, leaf in jax.tree.leaves_with_path(targets):
        name = f"encode{jax.tree_util.keystr(path)}"
        assert leaf.shape[:1] == (3,), f"{name} has shape {leaf.shape}: the faces come first"
        assert np.isfinite(leaf).all(), f"{name} is not finite, where a weight is 0 perhaps"
    one = jax.vmap(lambda p, w: codec.encode(p[None], w[None], SIZE))(points, weights)
    _assert_close(jax.tree.map(lambda x: x[:, 0], one), targets, "encode depends on other faces")
    outputs = targets if outputs is None else outputs
    found, scores = _same_jitted(codec.decode, outputs, what="decode")
    shape = (3, LANDMARKS)
    assert found.shape == (*shape, 2), f"decode gives points {found.shape}, not {(*shape, 2)}"
    assert scores.shape == shape, f"decode gives scores {scores.shape}, not {shape}"
    assert np.isfinite(found).all(), "decode gives points that are not finite"
    if cells is not None:
        moved = np.abs(found - points)[weights > 0]
        assert moved.max() <= cells, f"a point comes back {moved.max():.3f} cells away"


def check_head(head, *, num_landmarks: int = LANDMARKS) -> None:
    """That a head makes outputs for every face of the backbone's features, alone and in batches.

    Args:
      head: as `create_model(head=…)` takes it.
    """
    model = create_model("check", num_landmarks, backbone=_Backbone, init="kaiming", head=head)
    outputs = _check_network(model)
    for leaf in jax.tree.leaves(outputs):
        assert leaf.shape[0] == 3, f"the output has shape {leaf.shape}: the faces come first"


def check_norm(norm) -> None:
    """That a normalisation keeps shapes, in a network in training and after it.

    Args:
      norm: as `create_model(norm=…)` takes it.
    """
    model = create_model("check", LANDMARKS, backbone=_Backbone, init="kaiming", norm=norm)
    outputs = _check_network(model)
    assert outputs.shape == (3, SIZE, SIZE, LANDMARKS), f"heatmaps of shape {outputs.shape}"


def check_loss(loss: Callable, outputs, batch: Mapping[str, Any], *, masked: bool = False) -> None:
    """That a loss is a scalar with finite gradients, and its metrics scalars.

    Args:
      loss: `loss(outputs, batch) -> (scalar, metrics)`.
      outputs, batch: an example of what it gets.
      masked: that a landmark of weight 0 has no gradient: the last axis of the outputs are the
        landmarks.
    """
    value, metrics = _same_jitted(lambda o, b: loss(o, b), outputs, dict(batch), what="loss")
    assert value.shape == (), f"the loss has shape {value.shape}: it is a scalar"
    assert np.isfinite(value), f"the loss is {value}"
    for name, metric in metrics.items():
        assert np.shape(metric) == (), f"the metric {name} has shape {np.shape(metric)}"
    gradients = jax.grad(lambda o: loss(o, batch)[0])(outputs)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all(), "a gradient is not finite"
        if masked:
            silent = np.moveaxis(np.asarray(leaf), -1, 1)[np.asarray(batch["weights"]) == 0]
            assert not silent.any(), "a landmark of weight 0 has a gradient"


def _points():
    """(points float32 (3, L, 2) in heatmap cells, weights (3, L) with one 0)."""
    rng = np.random.default_rng(0)
    weights = np.ones((3, LANDMARKS), np.float32)
    weights[1, 2] = 0
    return rng.uniform(3, SIZE - 3, (3, LANDMARKS, 2)).astype(np.float32), weights


def _check_network(model):
    """The outputs for three images; how they are made is checked."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(3, 4 * SIZE, 4 * SIZE, 3)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images[:1])
    assert _json_like(describe_model(model)), "its description is no JSON data"

    def total(params):
        others = {key: value for key, value in variables.items() if key != "params"}
        outputs, _ = model.apply(
            {**others, "params": params},
            images,
            train=True,
            mutable=["batch_stats", "losses"],
            rngs={"dropout": jax.random.key(1)},
        )
        return sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(outputs))

    for path, leaf in jax.tree.leaves_with_path(jax.jit(jax.grad(total))(variables["params"])):
        assert np.isfinite(leaf).all(), f"no finite gradient of {jax.tree_util.keystr(path)}"
    apply = jax.jit(lambda images: model.apply(variables, images))
    outputs = jax.device_get(apply(images))
    alone = jax.device_get(apply(images[1:2]))
    together = jax.tree.map(lambda x: x[1:2], outputs)
    _assert_close(alone, together, "the output of a face depends on the others in its batch")
    return outputs


def _json_like(value) -> bool:
    """Whether a value is made of what JSON has."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _json_like(v) for key, v in value.items())
    if isinstance(value, list):
        return all(map(_json_like, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _same_jitted(function, *arguments, what):
    """The function's result, which `jit` must not change."""
    plain = jax.device_get(function(*arguments))
    jitted = jax.device_get(jax.jit(function)(*arguments))
    _assert_close(jitted, plain, f"{what} gives something else under jit")
    return plain


def _assert_close(left, right, words):
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=words)
