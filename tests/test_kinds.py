"""What a state dict is: recognised by names and shapes, or named as what cannot be converted."""

import numpy as np
import pytest

from hrnet_jax.errors import HRNetError
from hrnet_jax.models.variants import HOURGLASSES, VARIANTS, get_variant
from hrnet_jax.torch_weights import convert, kinds
from hrnet_jax.torch_weights.names import backbone_table, face_table, hih_table, imagenet_table
from tests.seeded import named, small_table, zero_state


@pytest.mark.parametrize("name", VARIANTS)
def test_all_published_hrnets_are_recognised(name):
    found = kinds.recognise(zero_state(face_table(get_variant(name), 31)))
    assert (found.model, found.outputs) == (f"hrnetv2_{name}", 31)
    found = kinds.recognise(zero_state(imagenet_table(get_variant(name))))
    assert (found.model, found.outputs, found.zero_biases) == (f"hrnet_{name}_imagenet", 1000, 0)


@pytest.mark.parametrize("name", HOURGLASSES)
def test_all_published_hourglasses_are_recognised(name):
    found = kinds.recognise(zero_state(hih_table(HOURGLASSES[name], 98)))
    assert (found.kind.name, found.model, found.outputs) == (kinds.HIH, name, 98)


def test_what_cannot_be_converted_is_named():
    variant = get_variant("w18_small_v2")
    backbone = zero_state(backbone_table(variant))
    openmmlab = {f"backbone.{name}": array for name, array in backbone.items()}
    face = zero_state(face_table(variant, 19))
    other_size = {n: a for n, a in face.items() if not n.startswith("stage3.2.")}
    joints = named((17, 18, 1, 1), "final_layer.weight", "final_layer.bias")
    pose = {f"keypoint_head.{name}": array for name, array in joints.items()}
    new_pose = {f"head.{name}": array for name, array in joints.items()}
    pretrained = named((4, 4, 1, 1), "head.0.0.0.conv1.weight", "fc.weight")
    hourglass = named((4, 4, 1, 1), "hg.0.hg.0.0.conv1.weight", "score.0.weight")
    first_half = {
        n: a
        for n, a in zero_state(hih_table(HOURGLASSES["hih_s"], 5)).items()
        if not n.startswith("offset_head.")
    }
    for state, message in (
        (
            backbone,
            "it is an HRNet backbone without a head that is known here; config.model.init_backbone",
        ),
        (openmmlab, "it is an HRNet backbone without a head that is known here"),
        (openmmlab | pose, "it is a body-pose HRNet of mmpose 0.x"),
        (openmmlab | new_pose, "it is a body-pose HRNet of mmpose 1.x"),
        (backbone | joints, "it is a body-pose HRNet$"),
        (backbone | pretrained, "it is a body-pose HRNet's ImageNet pretraining.*init_backbone"),
        (backbone | named((3,), "last_layer.0.weight"), "it is a segmentation HRNet"),
        (hourglass, "it is an hourglass network that is not Heatmap in Heatmap"),
        (first_half, "it is an hourglass network that is not Heatmap in Heatmap"),
        (
            other_size,
            r"of none of the published.*official facial.*modules=\(1, 2, 2\)",
        ),
        ({"fc.weight": np.zeros((2, 2))}, r"no network of the HRNet family: 1 tensors \(fc.weight"),
    ):
        with pytest.raises(HRNetError, match=f"w.pth .*{message}"):
            kinds.recognise(state, "w.pth")


def test_a_model_that_the_file_is_not():
    state = zero_state(small_table())
    with pytest.raises(HRNetError, match="w.pth is of another kind than hih_s: official"):
        kinds.recognise(state, "w.pth", "hih_s")
    found = kinds.recognise(state, "w.pth", "hrnetv2_w18")
    with pytest.raises(HRNetError, match="does not fit the network: tensors .* missing"):
        convert.to_flax(found.state, face_table(get_variant("w18"), 68))


def test_two_names_for_one_tensor():
    state = zero_state(small_table())
    theirs = {f"backbone.{n}": a for n, a in state.items() if not n.startswith("head.")}
    head = {f"keypoint_head.final_layer.{n[5:]}": a for n, a in state.items() if n[:5] == "head."}
    twice = theirs | head | {"conv1.weight": state["conv1.weight"]}
    with pytest.raises(HRNetError, match="w.pth has two tensors for conv1.weight"):
        kinds.recognise(twice, "w.pth")


def test_some_of_the_optional_biases_are_no_kind():
    state = zero_state(imagenet_table(get_variant("w18_small_v1")))
    without = {n: a for n, a in state.items() if n not in kinds.OPTIONAL_BIASES}
    assert kinds.recognise(without).zero_biases == 4
    del state["final_layer.0.bias"]
    table = imagenet_table(get_variant("w18_small_v1"))
    with pytest.raises(HRNetError, match=r"tensors 1 missing \(final_layer.0.bias\)"):
        convert.to_flax(kinds.recognise(state).state, table)
