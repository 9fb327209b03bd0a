"""The HRNetV2 backbone (Wang et al. 2019, "Deep High-Resolution Representation Learning").

    stem (1/4 resolution) -> layer1 -> transition1 -> stage2 -> transition2 -> stage3
    -> transition3 -> stage4 -> four branches at 1/4, 1/8, 1/16 and 1/32 of the input

Every stage repeats exchange modules: residual blocks on each branch, then every branch is fused
from all of them. Submodule names follow the official PyTorch names
(see `hrnet_jax.torch_weights.names`).
"""

from collections.abc import Callable

import flax.linen as nn
import jax

from hrnet_jax.models.features import Features
from hrnet_jax.models.layers import BasicBlock, Bottleneck, ConvNorm, residual_sum, upsample
from hrnet_jax.models.variants import HRNetVariant


class ExchangeModule(nn.Module):
    """`blocks` BasicBlocks on each branch, then multi-resolution fusion.

    Branch i of the output is ReLU(sum over j of branch j brought to resolution and channels of i):
    from a lower resolution by 1x1 convolution and `upsample`, from a higher one by a chain of
    stride-2 3x3 convolutions, of which only the last changes the channels and has no ReLU.
    `dropped` are the pairs (i, j) that are left out of the sums. A branch that a network does not
    have is None, on both sides.
    """

    blocks: int
    conv: Callable
    norm: Callable
    block: Callable = BasicBlock
    upsample: Callable = upsample
    dropped: tuple[tuple[int, int], ...] = ()

    @nn.compact
    def __call__(self, branches: list[jax.Array | None]) -> list[jax.Array | None]:
        branches = list(branches)
        for k, x in enumerate(branches):
            for b in range(self.blocks):
                if x is None:
                    break
                x = self.block(x.shape[-1], self.conv, self.norm, name=f"branch{k}_{b}")(x)
            branches[k] = x
        return [self.fuse(branches, i) for i in range(len(branches))]

    def fuse(self, branches, i):
        target = branches[i]
        total = None
        for j, x in enumerate(branches):
            if target is None or x is None or (i, j) in self.dropped:
                continue
            if j > i:
                x = self.conv_norm(target.shape[-1], name=f"fuse{i}_{j}")(x)
                x = self.upsample(x, target.shape[1:3])
            for k in range(i - j):
                last = k == i - j - 1
                x = self.conv_norm(
                    target.shape[-1] if last else x.shape[-1],
                    kernel=3,
                    stride=2,
                    relu=not last,
                    name=f"fuse{i}_{j}_{k}",
                )(x)
            total = x if total is None else total + x
        return None if total is None else residual_sum(total)

    def conv_norm(self, features, kernel=1, stride=1, relu=False, *, name):
        return ConvNorm(features, self.conv, self.norm, kernel, stride, relu, name=name)


class HRNet(nn.Module):
    """Backbone: images (N, H, W, 3) to four feature maps, highest resolution first.

    Shapes: (N, H/4, W/4, C), (N, H/8, W/8, 2C), (N, H/16, W/16, 4C), (N, H/32, W/32, 8C), each size
    rounded up; any input size works. `conv` and `norm` are constructors with everything but
    shapes and names bound; `norm` takes `use_running_average`. `remat` recomputes the residual
    blocks in the backward pass: less memory, about a third more arithmetic. `upsample` brings
    lower-resolution branches up where modules fuse them: bilinear in the published landmark
    networks, nearest in the classification networks.

    What `hrnet_jax.ablations` leaves out: `dropped_edges` are (stage, i, j), the way from branch j
    to branch i in every module of that stage; a branch in `dropped_branches` is neither computed
    nor put out, but for the convolutions on the way to a lower resolution that is kept.
    """

    variant: HRNetVariant
    conv: Callable
    norm: Callable
    remat: bool = False
    upsample: Callable = upsample
    dropped_edges: tuple[tuple[int, int, int], ...] = ()
    dropped_branches: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Features:
        conv, variant = self.conv, self.variant

        def norm(**kwargs):
            return self.norm(use_running_average=not train, **kwargs)

        basic = nn.remat(BasicBlock) if self.remat else BasicBlock
        bottleneck = nn.remat(Bottleneck) if self.remat else Bottleneck

        pad = ((1, 1), (1, 1))
        for n in (1, 2):
            x = conv(64, (3, 3), strides=2, padding=pad, use_bias=False, name=f"conv{n}")(x)
            x = nn.relu(norm(name=f"bn{n}")(x))
        for b in range(variant.layer1_blocks):
            x = bottleneck(variant.layer1_width, conv, norm, name=f"layer1_{b}")(x)

        def transition(stage, branch, x, stride):
            features = variant.width * 2**branch
            name = f"transition{stage}_{branch}"
            return ConvNorm(features, conv, norm, kernel=3, stride=stride, name=name)(x)

        lowest_kept = max({0, 1, 2, 3} - set(self.dropped_branches))

        def grow(stage, x):
            """A new branch; None, and what the next one grows from, where it is left out."""
            lowest = transition(stage, stage, x, 2) if stage <= lowest_kept else None
            return (None if stage in self.dropped_branches else lowest), lowest

        branch, lowest = grow(1, x)
        branches = [transition(1, 0, x, 1), branch]
        for stage, modules in zip((2, 3, 4), variant.modules, strict=True):
            if stage > 2:  # a new branch, from the lowest resolution so far
                branch, lowest = grow(stage - 1, lowest if branches[-1] is None else branches[-1])
                branches.append(branch)
            dropped = tuple((i, j) for s, i, j in self.dropped_edges if s == stage)
            for m in range(modules):
                name = f"stage{stage}_{m}"
                module = ExchangeModule(
                    variant.blocks, conv, norm, basic, self.upsample, dropped, name=name
                )
                branches = module(branches)
        return Features([x for x in branches if x is not None])
