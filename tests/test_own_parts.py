"""Networks of one's own parts: objects, texts and tables; and back from their description."""

import functools
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import hrnet_jax
from hrnet_jax import models
from hrnet_jax.errors import HRNetError
from hrnet_jax.models import build_model, describe_model, layers, norms
from hrnet_jax.models.features import Features
from tests import tiny

ME = __name__
IMAGES = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)


def shapes(model):
    tree = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    return {name: leaf.shape for name, leaf in flatten_dict(tree, sep="/").items()}


class Scale(nn.Module):
    """A norm that knows nothing but its input."""

    start: float = 1.0

    @nn.compact
    def __call__(self, x):
        return x * self.param("scale", nn.initializers.constant(self.start), (x.shape[-1],))


class Mean(nn.Module):
    """A head without convolutions: the same heatmap for every landmark."""

    num_landmarks: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, features, train=False):
        heatmap = features.merged().mean(-1, keepdims=True)
        return self.gain * jnp.repeat(heatmap, self.num_landmarks, axis=-1)


class Stem(nn.Module):
    """A backbone of one convolution."""

    conv: nn.Module
    width: int = 4

    @nn.compact
    def __call__(self, images, train=False):
        x = self.conv(self.width, (7, 7), strides=4, padding=3, name="conv")(images)
        return Features([x])


class Whole(nn.Module):
    num_landmarks: int
    dtype: object = jnp.float32
    width: int = 2

    @nn.compact
    def __call__(self, images, train=False):
        x = nn.Conv(self.width, (3, 3), 4, dtype=self.dtype)(images)
        return nn.Conv(self.num_landmarks, (1, 1), dtype=self.dtype)(x)


class Deconvolution(nn.Module):
    @nn.compact
    def __call__(self, x, size):
        factor = size[0] // x.shape[1]
        return nn.ConvTranspose(x.shape[-1], (factor, factor), (factor, factor))(x)


def constant(key, shape, dtype=jnp.float32):
    return jnp.full(shape, 0.5, dtype)


def plain_conv(features, kernel_size, **kwargs):
    return nn.Conv(features, kernel_size, **kwargs)


PARTS = [  # each as an object, or as a config and a checkpoint name it
    ({"norm": nn.GroupNorm}, {"norm": "flax.GroupNorm"}),
    ({"norm": nn.LayerNorm}, {"norm": "layer"}),
    ({"norm": nn.InstanceNorm}, {"norm": "instance"}),
    ({"norm": nn.RMSNorm}, {"norm": "flax.RMSNorm"}),
    ({"norm": nn.BatchNorm}, {"norm": "flax.BatchNorm"}),
    ({"norm": norms.NoNorm}, {"norm": "none"}),
    ({"norm": norms.frozen_batch_norm}, {"norm": "frozen"}),
    (
        {"norm": functools.partial(layers.BatchNorm, momentum=0.5)},
        {"norm": {"name": "batch", "momentum": 0.5}},
    ),
    (
        {"norm": functools.partial(nn.GroupNorm, num_groups=2)},
        {"norm": {"name": "flax.GroupNorm", "num_groups": 2}},
    ),
    (
        {"norm": functools.partial(Scale, start=2.0)},
        {"norm": {"name": f"{ME}:Scale", "start": 2.0}},
    ),
    ({"conv": nn.Conv}, {"conv": "flax"}),
    ({"conv": plain_conv}, {"conv": f"{ME}:plain_conv"}),
    ({"init": constant}, {"init": f"{ME}:constant"}),
    ({"upsample": layers.upsample_nearest}, {"upsample": "nearest"}),
    ({"upsample": Deconvolution}, {"upsample": f"{ME}:Deconvolution"}),
    ({"head": Mean}, {"head": f"{ME}:Mean"}),
    ({"head": functools.partial(Mean, gain=3.0)}, {"head": {"name": f"{ME}:Mean", "gain": 3.0}}),
    ({"head": Mean(5)}, {"head": {"name": f"{ME}:Mean", "num_landmarks": 5, "gain": 1.0}}),
    ({"backbone": Stem}, {"backbone": f"{ME}:Stem"}),
    (
        {"backbone": functools.partial(Stem, width=8)},
        {"backbone": {"name": f"{ME}:Stem", "width": 8}},
    ),
]


@pytest.mark.parametrize(("objects", "texts"), PARTS, ids=[str(texts) for _, texts in PARTS])
def test_a_part_as_object_as_text_and_back(objects, texts):
    name = tiny.MODEL if "upsample" in texts else tiny.PLAIN
    model = hrnet_jax.create_model(name, 5, **objects)
    made = shapes(model)
    assert shapes(hrnet_jax.create_model(name, 5, **texts)) == made
    description = json.loads(json.dumps(describe_model(model)))
    assert description.items() >= texts.items()
    again = build_model(description)
    assert shapes(again) == made and describe_model(again) == description


@pytest.mark.parametrize("norm", [*norms.NORMS, Scale])
@pytest.mark.parametrize("name", [tiny.PLAIN, "hrnet_tiny_imagenet"])
def test_every_norm_fits_every_network(name, norm):
    model = hrnet_jax.create_model(name, norm=norm, dtype=jnp.bfloat16)
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    apply = functools.partial(model.apply, train=True, mutable=["batch_stats"])
    output, _ = jax.eval_shape(apply, variables, IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(output)} == {jnp.dtype("float32")}


def test_group_norm():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 18))
    for groups, used in ((8, 2), (6, 6), (32, 2)):
        norm, flax = norms.GroupNorm(groups), nn.GroupNorm(used, epsilon=1e-5)
        variables = norm.init(jax.random.key(1), x)
        assert jax.tree.structure(variables) == jax.tree.structure(flax.init(jax.random.key(1), x))
        np.testing.assert_allclose(norm.apply(variables, x), flax.apply(variables, x), atol=1e-5)


def test_a_norm_is_told_whether_it_trains():
    model = hrnet_jax.create_model(tiny.PLAIN, 3, norm=nn.BatchNorm)
    images = jax.random.normal(jax.random.key(1), (2, 16, 16, 3))
    variables = model.init(jax.random.key(0), images)
    _, updates = model.apply(variables, images, train=True, mutable=["batch_stats"])
    _, frozen = model.apply(variables, images, train=False, mutable=["batch_stats"])
    stem = lambda state: state["batch_stats"]["backbone"]["stem1"]["bn"]["mean"]  # noqa: E731
    assert np.abs(stem(updates)).max() > 0
    assert not frozen or np.abs(stem(frozen)).max() == 0


def test_upsample_reaches_fusion_and_head():
    def nothing(x, size):
        return jnp.zeros((x.shape[0], *size, x.shape[-1]), x.dtype)

    images = jax.random.normal(jax.random.key(1), (1, 32, 32, 3))
    for name in (tiny.MODEL, tiny.HOURGLASS):
        part = hrnet_jax.create_model(name, 3, upsample=nothing)
        assert part.head.upsample is nothing and part.backbone.upsample is nothing
    own = hrnet_jax.create_model(tiny.MODEL, 3)
    assert own.backbone.upsample is own.head.upsample is layers.upsample
    classes = hrnet_jax.create_model("hrnet_tiny_imagenet", num_classes=7, head="classification")
    assert classes.backbone.upsample is layers.upsample_nearest
    features = Features([images, images[:, ::2, ::2]])
    assert not np.any(features.merged(nothing)[..., 3:])


def test_initialisers():
    for init in (constant, {"name": "jax.nn.initializers:constant", "value": 0.5}):
        model = hrnet_jax.create_model(tiny.PLAIN, 3, init=init)
        variables = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
        assert np.all(variables["params"]["backbone"]["stem1"]["conv"]["kernel"] == 0.5)


def test_an_hrnet_of_any_size():
    sizes = {"width": 2, "layer1_blocks": 1, "layer1_width": 2, "modules": (1, 1, 1), "blocks": 1}
    made = hrnet_jax.create_model("mine", 5, backbone={"name": "hrnet", **sizes})
    assert shapes(made) == shapes(hrnet_jax.create_model(tiny.MODEL, 5))
    assert describe_model(made)["name"] == "mine"


def test_what_a_name_does_not_mean_everywhere_is_told(monkeypatch):
    """A network of a registered name is rebuilt where nobody registered it."""
    description = describe_model(hrnet_jax.create_model(tiny.HOURGLASS, 5))
    made = shapes(build_model(description))
    presets = {name: p for name, p in models.all_presets().items() if name != tiny.HOURGLASS}
    monkeypatch.setattr(models, "all_presets", lambda: presets)
    again = build_model(description)
    assert shapes(again) == made
    assert again.head.norm(use_running_average=True).momentum == 0.9
    published = describe_model(hrnet_jax.create_model("hrnetv2_w18", 98))
    assert published == {"name": "hrnetv2_w18", "num_landmarks": 98}


def test_a_whole_network():
    made = shapes(hrnet_jax.create_model(Whole, 5))
    assert made == shapes(hrnet_jax.create_model(f"{ME}:Whole", 5))
    assert made == shapes(hrnet_jax.create_model(Whole(5)))
    description = json.loads(json.dumps(describe_model(hrnet_jax.create_model(Whole, 5))))
    assert description["name"]["name"] == f"{ME}:Whole"
    assert shapes(build_model(description)) == made
    half = hrnet_jax.create_model({"name": f"{ME}:Whole", "width": 4}, 5, dtype=jnp.bfloat16)
    assert half.dtype == jnp.bfloat16 and half.width == 4


def raising(num_landmarks):
    raise ValueError("no such luck")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "gruop"}, "unknown norm 'gruop'.*did you mean 'group'"),
        ({"norm": {"name": "group", "momentum": 0.9}}, "norm 'group' has no setting 'momentum'"),
        ({"norm": {"num_groups": 2}}, "is not a table with a name"),
        ({"norm": "no_such_package:Norm"}, "importing no_such_package fails"),
        ({"norm": f"{ME}:Skale"}, "there is no 'Skale'; did you mean 'Scale'"),
        ({"upsample": "cubic"}, "unknown upsample 'cubic'"),
        ({"upsample": "nearest", "backbone": Stem}, "takes no upsample"),
        ({"remat": True, "backbone": Stem}, "takes no remat"),
        ({"backbone": {"name": "hrnet"}}, "needs width"),
        ({"backbone": {"name": "hrnet", "width": "wide"}}, "width 'wide' is not a whole number"),
        ({"backbone": {"name": "hrnet", "width": 8, "modules": (10**9, 1, 1)}}, "from 0 to 100"),
        ({"head": raising}, "no such luck"),
        ({"head": lambda num_landmarks: 3}, "made no Flax module, but int"),
        ({"init": {"name": "official", "stddev": 1.0}}, "init 'official' takes no settings"),
        ({"name": f"{ME}:Whole", "norm": "group"}, "is whole: it takes no norm"),
        ({"name": f"{ME}:Whole", "remat": True}, "takes no remat"),
        ({"name": "hrnetv2_w81"}, "unknown model 'hrnetv2_w81'.*did you mean 'hrnetv2_w48'"),
    ],
)
def test_parts_that_do_not_fit(arguments, message):
    with pytest.raises(HRNetError, match=message) as error:
        hrnet_jax.create_model(**{"name": tiny.MODEL, "num_landmarks": 5} | arguments)
    assert "\n" not in str(error.value)


def test_a_files_texts_are_not_imported():
    description = describe_model(hrnet_jax.create_model(tiny.PLAIN, 5, head=Mean))
    with pytest.raises(HRNetError, match=r"--allow-import=tests"):
        build_model(description, allow=False)
    expected = shapes(build_model(description, allow=("tests",)))
    assert shapes(build_model(description, own={f"{ME}:Mean": Mean}, allow=False)) == expected


def test_own_unfitting_groups_are_refused():
    norm = functools.partial(nn.GroupNorm, num_groups=5)
    with pytest.raises(ValueError, match="groups"):  # Flax's own words: the user asked for five
        shapes(hrnet_jax.create_model(tiny.MODEL, 5, norm=norm))
