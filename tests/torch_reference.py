"""The published networks in PyTorch, with their official tensor names: what ours is compared with.

Written from the networks' description; names and order are checked against the published ones in
`tests/test_torch_reference.py`. `network(name, outputs)` takes the names of `create_model`.
"""

import functools

import torch
from torch import nn
from torch.nn import functional as F

from hrnet_jax.models.variants import HOURGLASSES, VARIANTS


def network(name, outputs, biases=True):
    """The PyTorch network in evaluation mode; `biases` False leaves the optional ones out."""
    if name in HOURGLASSES:
        return HIH(HOURGLASSES[name], outputs).eval()
    if name.endswith("_imagenet"):
        variant = VARIANTS[name.removeprefix("hrnet_").removesuffix("_imagenet")]
        return Classifier(variant, outputs, biases).eval()
    return Face(VARIANTS[name.removeprefix("hrnetv2_")], outputs).eval()


def conv_norm(into, out, kernel=1, stride=1, relu=True, bias=False):
    conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(out), *([nn.ReLU()] if relu else []))


class Block(nn.Module):
    """BasicBlock or Bottleneck: convolutions with a skip connection."""

    def __init__(self, channels, kernels):
        super().__init__()
        self.layers = len(kernels)
        for n, kernel in enumerate(kernels):
            conv = nn.Conv2d(channels[n], channels[n + 1], kernel, 1, kernel // 2, bias=False)
            self.add_module(f"conv{n + 1}", conv)
            self.add_module(f"bn{n + 1}", nn.BatchNorm2d(channels[n + 1]))
        if channels[0] != channels[-1]:
            self.downsample = conv_norm(channels[0], channels[-1], relu=False)

    def forward(self, x):
        y = x
        for n in range(1, self.layers + 1):
            y = self.get_submodule(f"bn{n}")(self.get_submodule(f"conv{n}")(y))
            y = F.relu(y) if n < self.layers else y
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


def bottleneck(into, width):
    return Block((into, width, width, 4 * width), (1, 3, 1))


class ExchangeModule(nn.Module):
    def __init__(self, widths, blocks, resize):
        super().__init__()
        self.resize = resize
        self.branches = nn.ModuleList(
            nn.Sequential(*(Block((w, w, w), (3, 3)) for _ in range(blocks))) for w in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(self.fuse(widths, i, j) for j in range(len(widths)))
            for i in range(len(widths))
        )

    @staticmethod
    def fuse(widths, i, j):
        if j > i:
            return conv_norm(widths[j], widths[i], relu=False)
        return nn.Sequential(  # empty for j == i
            *(conv_norm(widths[j], widths[j], 3, 2) for _ in range(i - j - 1)),
            *(conv_norm(widths[j], widths[i], 3, 2, relu=False) for _ in range(min(i - j, 1))),
        )

    def forward(self, branches):
        branches = [layers(x) for layers, x in zip(self.branches, branches, strict=True)]
        fused = []
        for i, fuse in enumerate(self.fuse_layers):
            size = branches[i].shape[2:]
            parts = [layers(x) for layers, x in zip(fuse, branches, strict=True)]
            parts = [self.resize(x, size) if x.shape[2:] != size else x for x in parts]
            fused.append(F.relu(sum(parts)))
        return fused


class Backbone(nn.Module):
    def __init__(self, variant, resize):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        out = 4 * variant.layer1_width
        self.layer1 = nn.Sequential(
            *(
                bottleneck(64 if b == 0 else out, variant.layer1_width)
                for b in range(variant.layer1_blocks)
            )
        )
        widths = [variant.width * 2**k for k in range(4)]
        nested = nn.Sequential(conv_norm(out, widths[1], 3, 2))
        self.transition1 = nn.ModuleList([conv_norm(out, widths[0], 3), nested])
        for stage in (2, 3, 4):
            if stage > 2:
                new = nn.Sequential(conv_norm(widths[stage - 2], widths[stage - 1], 3, 2))
                passed = [nn.Identity() for _ in range(stage - 1)]
                self.add_module(f"transition{stage - 1}", nn.ModuleList([*passed, new]))
            modules = (
                ExchangeModule(widths[:stage], variant.blocks, resize)
                for _ in range(variant.modules[stage - 2])
            )
            self.add_module(f"stage{stage}", nn.Sequential(*modules))

    def features(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer1(F.relu(self.bn2(self.conv2(x))))
        branches = self.stage2([layers(x) for layers in self.transition1])
        branches = self.stage3([*branches, self.transition2[2](branches[-1])])
        return self.stage4([*branches, self.transition3[3](branches[-1])])


class Face(Backbone):
    """Images (N, 3, H, W) to heatmaps (N, L, H/4, W/4)."""

    bilinear = staticmethod(functools.partial(F.interpolate, mode="bilinear", align_corners=False))

    def __init__(self, variant, num_landmarks):
        super().__init__(variant, self.bilinear)
        channels = 15 * variant.width
        self.head = nn.Sequential(
            *conv_norm(channels, channels, bias=True), nn.Conv2d(channels, num_landmarks, 1)
        )

    def forward(self, x):
        first, *others = self.features(x)
        merged = [first, *(self.bilinear(b, first.shape[2:]) for b in others)]
        return self.head(torch.cat(merged, 1))


class Classifier(Backbone):
    """Images (N, 3, H, W) to logits (N, classes)."""

    def __init__(self, variant, num_classes, biases):
        super().__init__(variant, functools.partial(F.interpolate, mode="nearest"))
        self.incre_modules = nn.ModuleList(
            nn.Sequential(bottleneck(variant.width * 2**i, 32 * 2**i)) for i in range(4)
        )
        self.downsamp_modules = nn.ModuleList(
            conv_norm(128 * 2**i, 256 * 2**i, 3, 2, bias=biases) for i in range(3)
        )
        self.final_layer = conv_norm(1024, 2048, bias=biases)
        self.classifier = nn.Linear(2048, num_classes)

    def forward(self, x):
        x, *others = (
            layers(x) for layers, x in zip(self.incre_modules, self.features(x), strict=True)
        )
        for branch, downsample in zip(others, self.downsamp_modules, strict=True):
            x = branch + downsample(x)
        return self.classifier(self.final_layer(x).mean((2, 3)))


class Unit(nn.Module):
    """Convolution, norm and ReLU, named as in the HIH code."""

    def __init__(self, into, out, kernel=1, stride=1, relu=True):
        super().__init__()
        self.conv = nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.relu = relu

    def forward(self, x):
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x


class Residual(nn.Module):
    def __init__(self, into, out):
        super().__init__()
        self.conv1 = Unit(into, out // 2)
        self.conv2 = Unit(out // 2, out // 2, 3)
        self.conv3 = Unit(out // 2, out, relu=False)
        self.skip_layer = Unit(into, out, relu=False)  # there in any case
        self.skips = into != out

    def forward(self, x):
        y = self.conv3(self.conv2(self.conv1(x)))
        return F.relu(y + (self.skip_layer(x) if self.skips else x))


class Hourglass(nn.Module):
    def __init__(self, depth, width):
        super().__init__()
        self.depth = depth
        for d in range(depth, 0, -1):
            self.add_module(f"res{d}_1", Residual(width, width))
            self.add_module(f"res{d}_2", Residual(width, width))
        self.res_center = Residual(width, width)
        for d in range(1, depth + 1):
            self.add_module(f"res{d}_3", Residual(width, width))

    def forward(self, x, d=None):
        d = d or self.depth
        up = self.get_submodule(f"res{d}_1")(x)
        low = self.get_submodule(f"res{d}_2")(F.max_pool2d(x, 2))
        low = self(low, d - 1) if d > 1 else self.res_center(low)
        low = self.get_submodule(f"res{d}_3")(low)
        return up + F.interpolate(low, scale_factor=2, mode="bilinear", align_corners=True)


class Down(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv1 = Unit(width, width, 3, 2)
        self.conv2 = Unit(width, width, 3, relu=False)
        self.downsample = nn.Sequential(Unit(width, width, stride=2, relu=False))

    def forward(self, x):
        return F.relu(self.conv2(self.conv1(x)) + self.downsample(x))


class OffsetHead(nn.Module):
    def __init__(self, into, num_landmarks, width=384):
        super().__init__()
        self.conv1 = Unit(into, width)
        self.down_ops = nn.Sequential(Down(width), Down(width))
        self.head = nn.Sequential(Unit(width, width), nn.Conv2d(width, num_landmarks, 1))

    def forward(self, x):
        return self.head(self.down_ops(F.max_pool2d(self.conv1(x), 3, 2)))


class HIH(nn.Module):
    """Images (N, 3, H, W) to heatmaps (N, S, L, H/4, W/4) and decimals (N, 1, L, H/32, W/32)."""

    def __init__(self, variant, num_landmarks):
        super().__init__()
        width = variant.width
        self.stacks = variant.stacks
        self.pre_conv = nn.Sequential(
            Unit(3, width // 4, 7, 2),
            Residual(width // 4, width // 2),
            nn.MaxPool2d(2),
            Residual(width // 2, width // 2),
            Residual(width // 2, width),
        )
        for s in range(variant.stacks):
            self.add_module(f"hg{s}", Hourglass(variant.depth, width))
            self.add_module(f"hg{s}_res1", Residual(width, width))
            self.add_module(f"hg{s}_lin1", Unit(width, width))
            self.add_module(f"hg{s}_conv_pred", nn.Conv2d(width, num_landmarks, 1))
            self.add_module(f"hg{s}_conv1", Unit(width, width))
            self.add_module(f"hg{s}_conv2", Unit(num_landmarks, width))
        self.offset_head = OffsetHead(width, num_landmarks)

    def forward(self, x):
        x = self.pre_conv(x)
        heatmaps = []
        for s in range(self.stacks):
            y = self.get_submodule(f"hg{s}_res1")(self.get_submodule(f"hg{s}")(x))
            y = self.get_submodule(f"hg{s}_lin1")(y)
            heatmaps.append(self.get_submodule(f"hg{s}_conv_pred")(y))
            x = x + self.get_submodule(f"hg{s}_conv1")(y)
            x = x + self.get_submodule(f"hg{s}_conv2")(heatmaps[-1])
        return torch.stack(heatmaps, 1), self.offset_head(x)[:, None]
