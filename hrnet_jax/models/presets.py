"""What the published code combines under one name, as data; and the built-in backbones."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from hrnet_jax.errors import HRNetError
from hrnet_jax.models.hourglass import StackedHourglass
from hrnet_jax.models.hrnet import HRNet
from hrnet_jax.models.layers import UPSAMPLES
from hrnet_jax.models.variants import HOURGLASSES, VARIANTS, HourglassVariant, HRNetVariant


def hrnet(
    width: int,
    layer1_blocks: int = 4,
    layer1_width: int = 64,
    modules: tuple[int, int, int] = (1, 4, 3),
    blocks: int = 4,
    fusion: str = "bilinear",
    *,
    conv: Callable,
    norm: Callable,
    remat: bool = False,
    upsample: Callable | None = None,
) -> HRNet:
    """An HRNet of any size (`HRNetVariant`); `fusion` is its `upsample` unless one is given."""
    variant = HRNetVariant(width, layer1_blocks, layer1_width, modules, blocks)
    if fusion not in UPSAMPLES:
        raise HRNetError(f"unknown fusion {fusion!r:.80}: choose one of {', '.join(UPSAMPLES)}")
    return HRNet(variant, conv, norm, remat, upsample or UPSAMPLES[fusion])


def hourglass(
    stacks: int,
    width: int = 256,
    depth: int = 4,
    *,
    num_landmarks: int,
    conv: Callable,
    norm: Callable,
    remat: bool = False,
    upsample: Callable = UPSAMPLES["aligned"],
) -> StackedHourglass:
    """A stacked hourglass of any size (`HourglassVariant`)."""
    variant = HourglassVariant(stacks, width, depth)
    return StackedHourglass(variant, num_landmarks, conv, norm, remat, upsample)


BACKBONES = {"hrnet": hrnet, "hourglass": hourglass}


class Preset(NamedTuple):
    """The parts of the network that a name means (`hrnet_jax.create_model`)."""

    backbone: Any
    head: Any = "heatmap"
    momentum: float = 0.99  # Flax's, of batch normalisation: 1 - PyTorch's
    init: Any = "official"


PRESETS: dict[str, Preset] = {}  # of the user's own, beside those of the tables of variants


def all_presets() -> dict[str, Preset]:
    """By name: what `VARIANTS` and `HOURGLASSES` hold now, and `PRESETS`."""
    presets = {}
    for name, variant in VARIANTS.items():
        presets[f"hrnetv2_{name}"] = Preset({"name": "hrnet", **dataclasses.asdict(variant)})
    for name, variant in HOURGLASSES.items():
        sizes = dataclasses.asdict(variant)
        presets[name] = Preset({"name": "hourglass", **sizes}, "hih", 0.9)
    for name, variant in VARIANTS.items():
        sizes = dataclasses.asdict(variant) | {"fusion": "nearest"}
        preset = Preset({"name": "hrnet", **sizes}, "classification", 0.9, "kaiming")
        presets[f"hrnet_{name}_imagenet"] = preset
    return presets | PRESETS


SHIPPED = all_presets()  # which mean the same network wherever this version is installed
