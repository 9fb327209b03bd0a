"""PyTorch names <-> Flax paths of the published networks, generated from the variant tables.

A table is a list of `Entry`, one for each tensor of the official PyTorch state dict, in the order
of the official files. It is read in both directions by `hrnet_jax.weights.convert`.
"""

import dataclasses
from itertools import pairwise

from hrnet_jax.errors import HRNetError
from hrnet_jax.models.variants import VARIANTS, HRNetVariant, get_variant


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor.

    Attributes:
      name: its key in the PyTorch state dict.
      path: its path in the Flax variables, collection first, e.g. ("params", "backbone", "conv1",
        "kernel"); None for the batch counters of PyTorch's BatchNorm, which Flax does not keep.
      shape: its shape in PyTorch.
      layout: "conv" (O, I, H, W -> H, W, I, O), "linear" (out, in -> in, out), or "vector" (same in
        both).
    """

    name: str
    path: tuple[str, ...] | None
    shape: tuple[int, ...]
    layout: str


def face_table(variant: HRNetVariant, num_landmarks: int) -> list[Entry]:
    """The official facial-landmark network: 1839 tensors for the regular widths."""
    return backbone_table(variant) + head_table(variant, num_landmarks)


def model_table(model_name: str, num_landmarks: int) -> list[Entry]:
    """The table of a model by its name in `hrnet_jax.create_model`."""
    variant = model_name.removeprefix("hrnetv2_")
    if variant == model_name or variant not in VARIANTS:
        known = ", ".join(f"hrnetv2_{name}" for name in VARIANTS)
        raise HRNetError(f"no PyTorch names for a model {model_name!r}: choose one of {known}")
    return face_table(get_variant(variant), num_landmarks)


def head_table(variant: HRNetVariant, num_landmarks: int) -> list[Entry]:
    """The heatmap head: 9 tensors."""
    channels = 15 * variant.width
    return [
        *_conv("head.0", "head/conv1", channels, channels, kernel=1, bias=True),
        *_norm("head.1", "head/bn1", channels),
        *_conv("head.3", "head/conv2", num_landmarks, channels, kernel=1, bias=True),
    ]


def backbone_table(variant: HRNetVariant) -> list[Entry]:
    """Stem, stages and transitions, which all HRNets share: 1830 tensors for regular widths."""
    table = [
        *_conv_norm("conv1", "bn1", "backbone/conv1", "backbone/bn1", 64, 3, 3),
        *_conv_norm("conv2", "bn2", "backbone/conv2", "backbone/bn2", 64, 64, 3),
    ]
    channels = 64
    for b in range(variant.layer1_blocks):
        name, path = f"layer1.{b}", f"backbone/layer1_{b}"
        width = variant.layer1_width
        table += _block(name, path, (channels, width, width, 4 * width), kernels=(1, 3, 1))
        if channels != 4 * width:
            table += _unit(f"{name}.downsample", f"{path}/downsample", 4 * width, channels, 1)
        channels = 4 * width

    widths = [variant.width * 2**k for k in range(4)]
    table += _unit("transition1.0", "backbone/transition1_0", widths[0], channels, 3)
    table += _unit("transition1.1.0", "backbone/transition1_1", widths[1], channels, 3)
    for stage, modules in zip((2, 3, 4), variant.modules, strict=True):
        if stage > 2:  # the new branch comes from the lowest resolution so far
            t = stage - 1
            name, path = f"transition{t}.{t}.0", f"backbone/transition{t}_{t}"
            table += _unit(name, path, widths[t], widths[t - 1], 3)
        for m in range(modules):
            name, path = f"stage{stage}.{m}", f"backbone/stage{stage}_{m}"
            table += _exchange_module(name, path, widths[:stage], variant.blocks)
    return table


def _exchange_module(name, path, widths, blocks):
    table = []
    for k, width in enumerate(widths):
        for b in range(blocks):
            block = f"{name}.branches.{k}.{b}", f"{path}/branch{k}_{b}"
            table += _block(*block, (width, width, width), kernels=(3, 3))
    for i, target in enumerate(widths):
        for j, source in enumerate(widths):
            fuse = f"{name}.fuse_layers.{i}.{j}"
            if j > i:
                table += _unit(fuse, f"{path}/fuse{i}_{j}", target, source, 1)
            for k in range(i - j):  # only the last of the chain changes the channels
                out = target if k == i - j - 1 else source
                table += _unit(f"{fuse}.{k}", f"{path}/fuse{i}_{j}_{k}", out, source, 3)
    return table


def _block(name, path, channels, kernels):
    """The convolutions conv1, bn1, conv2, … of a residual block, from channels to channels."""
    table = []
    for n, (kernel, (before, after)) in enumerate(
        zip(kernels, pairwise(channels), strict=True), start=1
    ):
        names = f"{name}.conv{n}", f"{name}.bn{n}", f"{path}/conv{n}", f"{path}/bn{n}"
        table += _conv_norm(*names, after, before, kernel)
    return table


def _unit(name, path, out, into, kernel):
    """A convolution and its norm in an `nn.Sequential`: numbered 0 and 1."""
    return _conv_norm(f"{name}.0", f"{name}.1", f"{path}/conv", f"{path}/bn", out, into, kernel)


def _conv_norm(conv_name, norm_name, conv_path, norm_path, out, into, kernel):
    return _conv(conv_name, conv_path, out, into, kernel) + _norm(norm_name, norm_path, out)


def _conv(name, path, out, into, kernel, bias=False):
    path = ("params", *path.split("/"))
    weight = Entry(f"{name}.weight", (*path, "kernel"), (out, into, kernel, kernel), "conv")
    return [weight] + bias * [Entry(f"{name}.bias", (*path, "bias"), (out,), "vector")]


def _norm(name, path, channels):
    path = tuple(path.split("/"))
    leaves = {
        "weight": ("params", *path, "scale"),
        "bias": ("params", *path, "bias"),
        "running_mean": ("batch_stats", *path, "mean"),
        "running_var": ("batch_stats", *path, "var"),
    }
    table = [Entry(f"{name}.{key}", leaf, (channels,), "vector") for key, leaf in leaves.items()]
    return [*table, Entry(f"{name}.num_batches_tracked", None, (), "vector")]
