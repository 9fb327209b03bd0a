"""Recognises a checkpoint of the HRNet family by its tensors, and gives them official names.

A kind is data: the names that tell it, and how its names become those of the official code.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.models import model_head
from hrnet_jax.models.variants import HOURGLASSES, VARIANTS, HourglassVariant, HRNetVariant

# The parts of a whole network that a new network's backbone leaves behind.
CLASSIFICATION_HEAD = ("incre_modules.", "downsamp_modules.", "final_layer.", "classifier.")
LANDMARK_HEAD = ("head.",)

# What is no part of the network at inference, whatever the file: averages' counters, losses, heads
# that only help in training.
EXTRAS = re.compile(r"n_averaged$|num_updates$|decay$|(aux|criterion|loss)\w*\.|ema_\w+$")

# Some classification networks were made without these; zeros do the same.
OPTIONAL_BIASES = (*(f"downsamp_modules.{i}.0.bias" for i in range(3)), "final_layer.0.bias")


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of checkpoint.

    Attributes:
      name: what the file is, in words.
      tells: patterns of names; a file of this kind has a name for each.
      head: the published head, as in `hrnet_jax.models.HEADS`; None for a file that cannot be
        converted (its backbone may serve all the same).
      renames: (pattern, official name); the first that matches a name is applied.
      left_behind: prefixes, in official names, of what is no part of the backbone.
      licence: of the code and weights, as their publishers state it.
      protocol: the function of `hrnet_jax.protocols` that gives its protocol for a scheme.
    """

    name: str
    tells: tuple[str, ...]
    head: str | None = None
    renames: tuple[tuple[str, str], ...] = ()
    left_behind: tuple[str, ...] = ()
    licence: str | None = None
    protocol: str | None = None


HIH = "Heatmap in Heatmap network"
OFFICIAL_FACE = "official facial-landmark HRNet"
OFFICIAL_IMAGENET = "ImageNet classification HRNet with official names (official code or timm)"
MMPRETRAIN = "mmpretrain classification HRNet"
MMPOSE_0, MMPOSE_1 = (f"mmpose {v}.x facial-landmark HRNet" for v in (0, 1))


def same_networks(kind: str) -> tuple[str, ...]:
    """The kinds that may hold the same network: mmpose 1.x reads 0.x's files."""
    mmpose = (MMPOSE_0, MMPOSE_1)
    return mmpose if kind in mmpose else (kind,)


_HRNET = r"transition1\.0\.0\.weight$"
_MM_HRNET = rf"backbone\.{_HRNET}"
_MM_BACKBONE = ((r"backbone\.", ""),)

# The first that fits is meant: whole networks before what only looks like a part of one.
KINDS = (
    Kind(
        HIH,
        (
            r"pre_conv\.0\.conv\.weight$",
            r"hg0_conv_pred\.weight$",
            r"offset_head\.head\.1\.weight$",
        ),
        head="hih",
        licence="Apache-2.0 by its README; the repository has no licence file",
    ),
    Kind(
        MMPRETRAIN,
        (_MM_HRNET, r"neck\.0\.increase_layers\.", r"head\.fc\.weight$"),
        head="classification",
        renames=(
            *_MM_BACKBONE,
            (r"neck\.0\.increase_layers\.", "incre_modules."),
            (r"neck\.0\.downsample_layers\.(\d+)\.conv\.", r"downsamp_modules.\1.0."),
            (r"neck\.0\.downsample_layers\.(\d+)\.bn\.", r"downsamp_modules.\1.1."),
            (r"neck\.0\.final_layer\.conv\.", "final_layer.0."),
            (r"neck\.0\.final_layer\.bn\.", "final_layer.1."),
            (r"head\.fc\.", "classifier."),
        ),
        left_behind=CLASSIFICATION_HEAD,
        licence="Apache-2.0",
    ),
    Kind(
        MMPOSE_0,
        (_MM_HRNET, r"keypoint_head\.final_layer\.3\.weight$"),
        head="heatmap",
        renames=(*_MM_BACKBONE, (r"keypoint_head\.final_layer\.", "head.")),
        left_behind=LANDMARK_HEAD,
        licence="Apache-2.0 (code); weights made from research-only images",
    ),
    Kind(
        MMPOSE_1,
        (_MM_HRNET, r"head\.conv_layers\.0\.weight$", r"head\.final_layer\.weight$"),
        head="heatmap",
        renames=(
            *_MM_BACKBONE,
            (r"head\.conv_layers\.", "head."),
            (r"head\.final_layer\.", "head.3."),
        ),
        left_behind=LANDMARK_HEAD,
        licence="Apache-2.0 (code); weights made from research-only images",
    ),
    Kind(
        OFFICIAL_FACE,
        (_HRNET, r"head\.0\.weight$", r"head\.3\.weight$"),
        head="heatmap",
        left_behind=LANDMARK_HEAD,
        licence="MIT (code); weights made from research-only images",
        protocol="official",
    ),
    Kind(
        OFFICIAL_IMAGENET,
        (_HRNET, r"incre_modules\.0\.0\.", r"classifier\.weight$"),
        head="classification",
        left_behind=CLASSIFICATION_HEAD,
        licence="MIT (official and timm ms_in1k); Apache-2.0 (timm gluon_in1k)",
    ),
    # What is refused, by its name.
    Kind(
        "a body-pose HRNet's ImageNet pretraining (OpenMMLab), with another classification head",
        (_HRNET, r"head\.0\.0\.0\.", r"fc\.weight$"),
        left_behind=("head.", "fc."),
    ),
    Kind("a body-pose HRNet of mmpose 0.x", (_MM_HRNET, r"keypoint_head\.final_layer\.weight$")),
    Kind("a body-pose HRNet of mmpose 1.x", (_MM_HRNET, r"head\.final_layer\.weight$")),
    Kind("a body-pose HRNet", (_HRNET, r"final_layer\.weight$")),
    Kind("a segmentation HRNet", (_HRNET, r"last_layer\.")),
    Kind(
        "an HRNet backbone without a head that is known here",
        (rf"(backbone\.)?{_HRNET}",),
        renames=_MM_BACKBONE,
        left_behind=CLASSIFICATION_HEAD,
    ),
    Kind(
        "an hourglass network that is not Heatmap in Heatmap as published",
        (r"(module\.|backbone\.)?(pre_conv|hgs?|hourglass|hg\d+)[._]",),
    ),
)


@dataclasses.dataclass(frozen=True)
class Recognised:
    """A checkpoint under official names.

    Attributes:
      kind: what it is.
      model: name for `create_model`.
      outputs: number of landmarks, or of classes.
      state: tensors by official name.
      dropped: number of tensors that the official network has no place for.
      zero_biases: number of biases that were missing and are zeros now.
    """

    kind: Kind
    model: str
    outputs: int
    state: dict[str, np.ndarray]
    dropped: int = 0
    zero_biases: int = 0


def find_kind(state: Mapping[str, np.ndarray]) -> Kind | None:
    """The kind of a state dict by its names alone; None if it is of none."""

    def has(pattern):
        compiled = re.compile(pattern)
        return any(compiled.match(name) for name in state)

    return next((kind for kind in KINDS if all(map(has, kind.tells))), None)


def official_names(
    state: Mapping[str, np.ndarray], kind: Kind, source: str | Path
) -> dict[str, np.ndarray]:
    """The state dict under the names of the official code.

    Raises:
      HRNetError: two tensors would get the same name.
    """
    rules = [(re.compile(pattern), official) for pattern, official in kind.renames]
    renamed = {}
    for name, array in state.items():
        if kind.renames and name.startswith("data_preprocessor."):  # mean and std of the pixels
            continue
        if EXTRAS.match(name):
            continue
        new = next((r.sub(o, name, count=1) for r, o in rules if r.match(name)), name)
        if new in renamed:
            raise HRNetError(f"{source} has two tensors for {ascii(new)[1:-1][:150]}")
        renamed[new] = array
    return renamed


def recognise(
    state: Mapping[str, np.ndarray], source: str | Path = "the state dict", model: str = "auto"
) -> Recognised:
    """Tells what a state dict is, by the names and shapes of its tensors.

    Args:
      model: a name of `create_model` that it must be, or "auto" for any published size.

    Raises:
      HRNetError: it is something else; the message says what it looks like.
    """
    kind = find_kind(state)
    if kind is None:
        first = ", ".join(ascii(name)[1:-1][:80] for name in list(state)[:3])
        raise HRNetError(
            f"{source} holds no network of the HRNet family: {len(state)} tensors ({first}, …)"
        )
    if kind.head is None:
        advice = "; config.model.init_backbone may start from it" if kind.left_behind else ""
        raise HRNetError(f"{source} cannot be converted: it is {kind.name}{advice}")
    named = official_names(state, kind, source)
    if model == "auto":
        model = _model_name(named, kind, source)
    elif model_head(model) != kind.head:
        raise HRNetError(f"{source} is of another kind than {model}: {kind.name}")
    biases = _missing_biases(named) if kind.head == "classification" else {}
    return Recognised(
        kind=kind,
        model=model,
        outputs=_count_outputs(named, kind, source),
        state=named | biases,
        dropped=len(state) - len(named),
        zero_biases=len(biases),
    )


def _model_name(state, kind, source):
    variant = measure_hourglass(state) if kind.head == "hih" else measure_backbone(state)
    known = HOURGLASSES if kind.head == "hih" else VARIANTS
    name = variant_name(variant)
    if name is None:
        raise HRNetError(
            f"{source} is of none of the published sizes ({', '.join(known)}) of its kind, "
            f"{kind.name}: it has {variant}; give the model to see which tensors differ"
        )
    forms = {"hih": "{}", "heatmap": "hrnetv2_{}", "classification": "hrnet_{}_imagenet"}
    return forms[kind.head].format(name)


def _count_outputs(state, kind, source):
    names = {"heatmap": "head.3.weight", "classification": "classifier.weight"}
    name = names.get(kind.head, "hg0_conv_pred.weight")
    if not state[name].ndim or not state[name].shape[0]:
        raise HRNetError(f"{source} has no outputs: {name} is of shape {state[name].shape}")
    return state[name].shape[0]


def _missing_biases(state):
    """Zeros for the four optional biases, where all four are missing."""
    weights = {name: state.get(f"{name.removesuffix('bias')}weight") for name in OPTIONAL_BIASES}
    if any(name in state for name in OPTIONAL_BIASES):
        return {}
    return {n: np.zeros(w.shape[:1], np.float32) for n, w in weights.items() if w is not None}


def measure_backbone(state: Mapping[str, np.ndarray]) -> HRNetVariant | None:
    """The sizes of an HRNet by its tensors, under official names; None if it is none."""
    first, stem = state.get("transition1.0.0.weight"), state.get("layer1.0.conv1.weight")
    if first is None or stem is None or first.ndim != 4 or stem.ndim != 4:
        return None

    def count(prefix):
        return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})

    return HRNetVariant(
        width=first.shape[0],
        layer1_blocks=count("layer1."),
        layer1_width=stem.shape[0],
        modules=(count("stage2."), count("stage3."), count("stage4.")),
        blocks=count("stage2.0.branches.0."),
    )


def measure_hourglass(state: Mapping[str, np.ndarray]) -> HourglassVariant | None:
    """The sizes of a stacked hourglass by its tensors; None if it is none."""
    features = state.get("hg0_lin1.conv.weight")
    if features is None or features.ndim != 4:
        return None

    def count(pattern):
        return sum(re.fullmatch(pattern, name) is not None for name in state)

    return HourglassVariant(
        stacks=count(r"hg\d+_conv_pred\.weight"),
        width=features.shape[0],
        depth=count(r"hg0\.res\d+_1\.conv1\.conv\.weight"),
    )


def variant_name(variant: HRNetVariant | HourglassVariant | None) -> str | None:
    """The name of a published size; None for another."""
    known = VARIANTS | HOURGLASSES
    return next((name for name, size in known.items() if size == variant), None)
