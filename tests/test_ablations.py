"""Ablations by hand on tiny networks: what is left computes what zeroed parts would."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

import hrnet_jax
import tests.tiny  # noqa: F401  its network
from hrnet_jax import ablations
from hrnet_jax.checkpoints import save_model
from hrnet_jax.costs import network_costs
from hrnet_jax.errors import HRNetError
from hrnet_jax.models import describe_model
from hrnet_jax.models.layers import upsample_nearest

SIZE = 64
KEY = jax.random.key(0)
IMAGES = jax.random.normal(jax.random.key(1), (2, SIZE, SIZE, 3))


@pytest.fixture(scope="module")
def whole():
    """A tiny HRNet with three modules in stage 4, and variables with statistics of their own."""
    model = ablations.ablate(
        hrnet_jax.create_model(tests.tiny.MODEL, 5, init="kaiming"), "with_modules(1, 1, 2)"
    )
    shapes = jax.eval_shape(model.init, KEY, IMAGES)
    rng = np.random.default_rng(0)
    flat = flatten_dict(shapes, sep="/")
    variables = {
        name: np.float32(
            rng.uniform(0.5, 1.5, leaf.shape)
            if name.endswith(("/var", "/scale"))
            else rng.normal(0, 0.3, leaf.shape)
        )
        for name, leaf in flat.items()
    }
    return model, unflatten_dict(variables, sep="/")


def carried(whole, *texts):
    model, variables = whole
    changed = ablations.ablate(model, *texts)
    fresh = jax.eval_shape(changed.init, KEY, IMAGES)
    fresh = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), fresh)
    return changed, ablations.carry(variables, fresh)


def silenced(variables, names):
    """The variables with the last normalisation of those convolutions zeroed."""
    flat = dict(flatten_dict(variables, sep="/"))
    for name in names:
        for leaf in ("scale", "bias"):
            path = f"params/backbone/{name}/bn/{leaf}"
            flat[path] = np.zeros_like(flat[path])
    return unflatten_dict(flat, sep="/")


def edge(stage, module, i, j):
    return f"stage{stage}_{module}/fuse{i}_{j}" + (f"_{i - j - 1}" if i > j else "")


def edges_of(stage, modules, chosen):
    return [edge(stage, m, i, j) for m in range(modules) for i, j in chosen]


ALL = {s: [(i, j) for i in range(s) for j in range(s) if i != j] for s in (2, 3, 4)}
CASES = {
    "without_fusion(4, edges=((0, 3), (2, 0)))": edges_of(4, 2, [(0, 3), (2, 0)]),
    "without_fusion(4, 'up')": edges_of(4, 2, [(i, j) for i, j in ALL[4] if j > i]),
    "without_fusion((3, 4), 'down')": [
        *edges_of(3, 1, [(i, j) for i, j in ALL[3] if j < i]),
        *edges_of(4, 2, [(i, j) for i, j in ALL[4] if j < i]),
    ],
    "without_fusion((2, 3, 4))": [
        *edges_of(2, 1, ALL[2]),
        *edges_of(3, 1, ALL[3]),
        *edges_of(4, 2, ALL[4]),
    ],
}


@pytest.mark.parametrize("text", CASES)
def test_a_dropped_edge_is_one_whose_last_normalisation_is_zero(whole, text):
    changed, got = carried(whole, text)
    expected = whole[0].apply(silenced(whole[1], CASES[text]), IMAGES)
    assert not got.fresh
    np.testing.assert_allclose(changed.apply(got.variables, IMAGES), expected, rtol=0, atol=1e-5)
    assert {n.split("/")[2] + "/" + n.split("/")[3] for n in got.dropped} >= set(CASES[text])
    assert all("/fuse" in name for name in got.dropped)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_dropped_branch_neither_gives_nor_is_seen(whole, k):
    """Its edges silenced, and its rows of the head's first kernel taken out."""
    changed, got = carried(whole, f"without_branch({k})")
    edges = [e for s in (2, 3, 4) for e in ALL[s] if k in e and e[0] != k for e in [(s, *e)]]
    modules = {2: 1, 3: 1, 4: 2}
    names = [edge(s, m, i, j) for s, i, j in edges for m in range(modules[s])]
    # What branch k had before its stage's modules leads on to k + 1: the ablated one has no blocks.
    quiet = silenced(whole[1], names)
    flat = dict(flatten_dict(quiet, sep="/"))
    if k < 3:
        for b in range(1):
            for leaf in ("scale", "bias"):
                path = f"params/backbone/stage{k + 1}_0/branch{k}_{b}/bn2/{leaf}"
                flat[path] = np.zeros_like(flat[path])
        quiet = silenced(
            unflatten_dict(flat, sep="/"),
            [edge(k + 1, 0, k, j) for j in range(k)],
        )
    expected = whole[0].apply(quiet, IMAGES, features=True)
    del expected[k]
    made = changed.apply(got.variables, IMAGES, features=True)
    for mine, theirs in zip(made, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5)
    assert any(f"branch{k}_0" in name for name in got.dropped)
    assert all("/head/" in name for name in got.fresh)
    assert changed.apply(got.variables, IMAGES).shape == (2, 16, 16, 5)


def test_branches_2_and_3_leave_no_transition(whole):
    changed, _ = carried(whole, "without_branch(3)", "without_branch(2)")
    names = flatten_dict(jax.eval_shape(changed.init, KEY, IMAGES)["params"]["backbone"], sep="/")
    assert not [
        n for n in names if n.startswith(("transition2", "transition3", "stage4_0/branch2"))
    ]


def test_blocks_and_modules(whole):
    _, got = carried(whole, "with_blocks(0)")
    assert got.dropped and all("/branch" in name for name in got.dropped) and not got.fresh
    _, got = carried(whole, "with_modules(1, 0, 1)")
    assert {name.split("/")[2] for name in got.dropped} == {"stage3_0", "stage4_1"}


def test_upsample_and_norm_and_head(whole):
    changed, got = carried(whole, "with_upsample('nearest')")
    by_hand = whole[0].clone(backbone=whole[0].backbone.clone(upsample=upsample_nearest))
    expected = by_hand.apply(whole[1], IMAGES)
    assert (changed.apply(got.variables, IMAGES) == expected).all()

    changed, got = carried(whole, "with_norm('group', num_groups=2)")
    assert "batch_stats" not in got.variables
    assert changed.apply(got.variables, IMAGES).shape == (2, 16, 16, 5)
    frozen, got = carried(whole, "with_norm('frozen')")
    made, updates = frozen.apply(whole[1], IMAGES, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(made, whole[0].apply(whole[1], IMAGES), atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], whole[1]["batch_stats"])

    changed, got = carried(whole, "with_head('hih')")
    assert changed.apply(got.variables, IMAGES).decimal_heatmaps.shape[-1] == 5


def test_float64_stays(whole):
    with jax.enable_x64(True):
        model = hrnet_jax.create_model(tests.tiny.MODEL, 5, dtype=jnp.float64)
        for text in ("with_norm('group')", "with_norm('none')", "with_head('hih')"):
            leaves = jax.eval_shape(ablations.ablate(model, text).init, KEY, IMAGES)
            assert {leaf.dtype for leaf in jax.tree.leaves(leaves)} == {jnp.dtype("float64")}, text


def test_shared_fusion_is_equal_parameters(whole):
    changed, got = carried(whole, "shared_fusion()")
    flat = dict(flatten_dict(whole[1], sep="/"))
    for name in list(flat):
        if name.startswith("params/backbone/stage4_0/fuse"):
            flat[name.replace("stage4_0", "stage4_1")] = flat[name]
    expected = whole[0].apply(unflatten_dict(flat, sep="/"), IMAGES)
    np.testing.assert_allclose(changed.apply(got.variables, IMAGES), expected, atol=1e-5)
    assert got.dropped and all("params/backbone/stage4_1/fuse" in name for name in got.dropped)
    # Its gradient is the sum over its uses.
    gradient = jax.grad(lambda p: changed.apply({**got.variables, "params": p}, IMAGES).sum())
    both = jax.grad(
        lambda p: whole[0].apply({**unflatten_dict(flat, sep="/"), "params": p}, IMAGES).sum()
    )(unflatten_dict(flat, sep="/")["params"])["backbone"]
    mine = gradient(got.variables["params"])["backbone"]["stage4_0"]["fuse0_1"]
    jax.tree.map(
        lambda a, b, c: np.testing.assert_allclose(a, b + c, rtol=1e-3, atol=1e-3),
        mine,
        both["stage4_0"]["fuse0_1"],
        both["stage4_1"]["fuse0_1"],
    )


def test_frozen_parts_have_no_gradient_and_keep_their_statistics(whole):
    changed, got = carried(whole, "frozen('backbone/stage4_0')", "frozen('head')")
    assert not got.dropped and not got.fresh

    def loss(params):
        variables = {**got.variables, "params": params}
        out, updates = changed.apply(variables, IMAGES, train=True, mutable=["batch_stats"])
        return jnp.square(out).sum(), updates["batch_stats"]

    gradients, updates = jax.grad(loss, has_aux=True)(got.variables["params"])
    for name, leaf in flatten_dict(gradients, sep="/").items():
        frozen = name.startswith(("backbone/stage4_0/", "head/"))
        assert not frozen or (leaf == 0).all(), name
    assert (gradients["backbone"]["conv1"]["kernel"] != 0).any()
    for name, leaf in flatten_dict(updates, sep="/").items():
        same = (leaf == flatten_dict(got.variables["batch_stats"], sep="/")[name]).all()
        assert same == name.startswith(("backbone/stage4_0/", "head/")), name


def test_ablations_stack_in_any_order(whole):
    texts = ("without_fusion(4, 'down')", "without_branch(3)", "with_blocks(0)", "frozen('head')")
    one, other = (ablations.ablate(whole[0], *t) for t in (texts, texts[::-1]))
    assert jax.tree.structure(jax.eval_shape(one.init, KEY, IMAGES)) == jax.tree.structure(
        jax.eval_shape(other.init, KEY, IMAGES)
    )
    functions = (ablations.without_fusion(4, "down"), ablations.without_branch(3))
    assert ablations.ablate(whole[0], *functions) == ablations.ablate(whole[0], *texts[:2])


def test_texts_round_trip():
    made = ablations.without_fusion((3, 4), edges=((0, 1),))
    assert str(made) == "without_fusion((3, 4), edges=((0, 1),))"
    assert ablations.parse(str(made)) == made


def halved(network):
    return ablations.with_blocks(0)(network)


def times(n):
    return ablations.with_blocks(n)


def test_functions_of_ones_own(whole):
    for text in ("tests.test_ablations:halved", "tests.test_ablations:times(0)"):
        assert ablations.ablate(whole[0], text) == ablations.with_blocks(0)(whole[0])
    with pytest.raises(HRNetError, match="nothing that a file names is imported"):
        ablations.ablate(whole[0], "tests.test_ablations:halved", allow=False)


@pytest.mark.parametrize(
    "text, says",
    [
        ("without_fusions(4)", "did you mean 'without_fusion'"),
        ("without_fusion", "no brackets"),
        ("without_fusion(5)", "choose of 2, 3 and 4"),
        ("without_fusion(2, ((0, 2),))", "no edge (0, 2)"),
        ("without_fusion(4, 'left')", "give pairs"),
        ("without_fusion(4)(5)", "no call such as"),
        ("without_fusion(open('x'))", "numbers, texts or tuples"),
        ("without_fusion(**{})", "no call such as"),
        ("without_fusion(", "no call such as"),
        ("without_branch(0)", "choose 1, 2 or 3"),
        ("with_blocks(-1)", "give a number from 0 up"),
        ("with_blocks(2, 3)", "TypeError"),
        ("with_norm('groups')", "did you mean 'group'"),
        ("with_norm('group', grups=2)", "no setting 'grups'"),
        ("frozen('')", "give part of a path"),
    ],
)
def test_wrong_texts_are_refused(whole, text, says):
    with pytest.raises(HRNetError) as error:
        ablations.ablate(whole[0], text)
    assert says in str(error.value)


def test_what_does_not_fit_a_network_is_refused():
    with pytest.raises(HRNetError, match="is for an HRNet"):
        ablations.ablate(hrnet_jax.create_model(tests.tiny.HOURGLASS, 5), "without_fusion(4)")
    with pytest.raises(HRNetError, match="classification head adds up"):
        classifier = hrnet_jax.create_model("hrnet_tiny_imagenet", num_classes=4)
        ablations.ablate(classifier, "without_branch(2)")


def test_a_file_says_how_its_network_was_changed(tmp_path):
    texts = ["without_fusion(4)", "with_norm('group', num_groups=2)"]
    plain = hrnet_jax.create_model(tests.tiny.MODEL, 5)
    changed = ablations.ablate(plain, *texts)
    variables = jax.tree.map(
        lambda leaf: np.ones(leaf.shape, leaf.dtype), jax.eval_shape(changed.init, KEY, IMAGES)
    )
    data = {"name": tests.tiny.MODEL, "num_landmarks": 5, "ablations": texts}
    assert describe_model(changed) == describe_model(plain) | {"ablations": texts}
    loaded = hrnet_jax.load(save_model(tmp_path / "a", variables, {"model": data}))
    expected = changed.apply(variables, IMAGES)
    assert (loaded.model.apply(loaded.variables, IMAGES) == expected).all()
    wrong = {
        "without_fusion(9)": "choose of 2, 3 and 4",
        "os:getcwd": "imported unasked",
        5: "are no texts",
    }
    for text, says in wrong.items():
        path = save_model(tmp_path / "b", variables, {"model": data | {"ablations": [text]}})
        with pytest.raises(HRNetError, match=says):
            hrnet_jax.load(path)


def test_costs_by_hand():
    model = hrnet_jax.create_model(tests.tiny.PLAIN, 5)
    costs = network_costs(model, 32)
    macs = 16 * 16 * 8 * 27 + 8 * 8 * 8 * 72 + 8 * 8 * 8 * 8 + 8 * 8 * 8 * 5
    assert costs.gmacs == pytest.approx(macs / 1e9)
    assert costs.parameters == 27 * 8 + 16 + 72 * 8 + 16 + 8 * 8 + 8 + 16 + 8 * 5 + 5
    assert costs.output == ((8, 8, 5),)
