"""PyTorch names <-> Flax paths of the published networks, generated from the variant tables.

A table is a list of `Entry`, one for each tensor of the official PyTorch state dict, in the order
of the official files. It is read in both directions by `hrnet_jax.torch_weights.convert`.
"""

import dataclasses
from itertools import pairwise

from hrnet_jax.errors import HRNetError
from hrnet_jax.models import model_head
from hrnet_jax.models.variants import HOURGLASSES, HourglassVariant, HRNetVariant, get_variant


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor.

    Attributes:
      name: its key in the PyTorch state dict.
      path: its path in the Flax variables, collection first, e.g. ("params", "backbone", "conv1",
        "kernel"); None for what Flax does not keep: the batch counters of PyTorch's BatchNorm, and
        tensors of layers that the PyTorch network has and never uses.
      shape: its shape in PyTorch.
      layout: "conv" (O, I, H, W -> H, W, I, O), "linear" (out, in -> in, out), "vector" (same in
        both), or "unused".
    """

    name: str
    path: tuple[str, ...] | None
    shape: tuple[int, ...]
    layout: str


def face_table(variant: HRNetVariant, num_landmarks: int) -> list[Entry]:
    """The official facial-landmark network: 1839 tensors for the regular widths."""
    return backbone_table(variant) + head_table(variant, num_landmarks)


def model_table(model_name: str, outputs: int, head: str | None = None) -> list[Entry]:
    """The table of a model by its name in `hrnet_jax.create_model`.

    Args:
      outputs: number of landmarks, or of classes.
      head: as for `create_model`.

    Raises:
      HRNetError: unknown model, or one with another head than the published network.
    """
    published = model_head(model_name)
    if head not in (None, published):
        raise HRNetError(f"no PyTorch names for {model_name} with the {head} head: nobody has it")
    if published == "hih":
        return hih_table(HOURGLASSES[model_name], outputs)
    if published == "classification":
        name = model_name.removeprefix("hrnet_").removesuffix("_imagenet")
        return imagenet_table(get_variant(name), outputs)
    return face_table(get_variant(model_name.removeprefix("hrnetv2_")), outputs)


def imagenet_table(variant: HRNetVariant, num_classes: int = 1000) -> list[Entry]:
    """The official classification network (also timm's): 1956 tensors for the regular widths."""
    table = backbone_table(variant)
    for i in range(4):
        width, channels = 32 * 2**i, variant.width * 2**i
        name, path = f"incre_modules.{i}.0", f"head/increase{i}"
        table += _block(name, path, (channels, width, width, 4 * width), kernels=(1, 3, 1))
        table += _unit(f"{name}.downsample", f"{path}/downsample", 4 * width, channels, 1)
    for i in range(3):
        name, path, channels = f"downsamp_modules.{i}", f"head/downsample{i}", 128 * 2**i
        table += _unit(name, path, 2 * channels, channels, 3, bias=True)
    table += _unit("final_layer", "head/final", 2048, 1024, 1, bias=True)
    path = ("params", "head", "classifier")
    return [
        *table,
        Entry("classifier.weight", (*path, "kernel"), (num_classes, 2048), "linear"),
        Entry("classifier.bias", (*path, "bias"), (num_classes,), "vector"),
    ]


def hih_table(variant: HourglassVariant, num_landmarks: int) -> list[Entry]:
    """Heatmap in Heatmap: 840 tensors for 2 stacks, 1552 for 4.

    Every residual block there has a skip convolution, which it uses only where the number of
    channels changes: 342 of the 1552 tensors are "unused".
    """
    width = variant.width
    table = [
        *_named_unit("pre_conv.0", "backbone/stem_conv", width // 4, 3, 7),
        *_residual("pre_conv.1", "backbone/stem_res1", width // 2, width // 4),
        *_residual("pre_conv.3", "backbone/stem_res2", width // 2, width // 2),
        *_residual("pre_conv.4", "backbone/stem_res3", width, width // 2),
    ]
    depths = range(1, variant.depth + 1)
    blocks = [f"res{d}_{k}" for d in reversed(depths) for k in (1, 2)]
    blocks += ["res_center", *(f"res{d}_3" for d in depths)]
    for s in range(variant.stacks):
        name, path = f"hg{s}", f"backbone/stack{s}"
        for block in blocks:
            table += _residual(f"{name}.{block}", f"{path}_hourglass/{block}", width, width)
        table += _residual(f"{name}_res1", f"{path}_res", width, width)
        table += _named_unit(f"{name}_lin1", f"{path}_features", width, width, 1)
        heatmaps = f"{name}_conv_pred", f"{path}_heatmaps"
        table += _conv(*heatmaps, num_landmarks, width, kernel=1, bias=True)
        table += _named_unit(f"{name}_conv1", f"{path}_merge_features", width, width, 1)
        table += _named_unit(f"{name}_conv2", f"{path}_merge_heatmaps", width, num_landmarks, 1)
    return table + _decimal_head("offset_head", "head/decimal", num_landmarks, width)


def _decimal_head(name, path, num_landmarks, into, width=384):
    table = _named_unit(f"{name}.conv1", f"{path}/conv1", width, into, 1)
    for i in range(2):
        for layer, kernel in (("conv1", 3), ("conv2", 3), ("downsample", 1)):
            theirs = f"{name}.down_ops.{i}.{layer}{'.0' if layer == 'downsample' else ''}"
            table += _named_unit(theirs, f"{path}/down{i}_{layer}", width, width, kernel)
    table += _named_unit(f"{name}.head.0", f"{path}/conv2", width, width, 1)
    return table + _conv(f"{name}.head.1", f"{path}/conv3", num_landmarks, width, 1, bias=True)


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


def _residual(name, path, out, into):
    """A residual block of the hourglass; its skip layer is unused between equal channels."""
    table = []
    channels = (into, out // 2, out // 2, out)
    for n, (kernel, (before, after)) in enumerate(
        zip((1, 3, 1), pairwise(channels), strict=True), start=1
    ):
        table += _named_unit(f"{name}.conv{n}", f"{path}/conv{n}", after, before, kernel)
    skip = _named_unit(f"{name}.skip_layer", f"{path}/skip", out, into, 1)
    if into == out:
        skip = [dataclasses.replace(entry, path=None, layout="unused") for entry in skip]
    return table + skip


def _unit(name, path, out, into, kernel, bias=False):
    """A convolution and its norm in an `nn.Sequential`: numbered 0 and 1."""
    names = f"{name}.0", f"{name}.1", f"{path}/conv", f"{path}/bn"
    return _conv_norm(*names, out, into, kernel, bias)


def _named_unit(name, path, out, into, kernel):
    """A convolution and its norm, named conv and bn as ours."""
    names = f"{name}.conv", f"{name}.bn", f"{path}/conv", f"{path}/bn"
    return _conv_norm(*names, out, into, kernel)


def _conv_norm(conv_name, norm_name, conv_path, norm_path, out, into, kernel, bias=False):
    return _conv(conv_name, conv_path, out, into, kernel, bias) + _norm(norm_name, norm_path, out)


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
