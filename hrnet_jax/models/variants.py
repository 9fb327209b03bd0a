"""The published sizes of HRNet and of the stacked hourglass, as data."""

import dataclasses

from hrnet_jax.errors import HRNetError

_MOST_BLOCKS = 128  # on a branch, over all modules: four times the published ones


def _check_count(name, count, least=0):
    """HRNetError where it is no number that a network can have: a file may name it."""
    most = 10_000 if "width" in name else 100
    if type(count) is not int or not least <= count <= most:
        raise HRNetError(f"{name} {count!r:.80} is not a whole number from {least} to {most}")


@dataclasses.dataclass(frozen=True)
class HRNetVariant:
    """One HRNet size, as in the official code.

    Attributes:
      width: channels C of the highest-resolution branch; branch k has C * 2**k.
      layer1_blocks: number of Bottlenecks before the first transition.
      layer1_width: their inner width w; they put out 4 * w channels.
      modules: number of exchange modules of stages 2, 3 and 4.
      blocks: number of BasicBlocks on each branch of a module.
    """

    width: int
    layer1_blocks: int = 4
    layer1_width: int = 64
    modules: tuple[int, int, int] = (1, 4, 3)
    blocks: int = 4

    def __post_init__(self):
        _check_count("width", self.width, 1)
        _check_count("layer1_blocks", self.layer1_blocks)
        _check_count("layer1_width", self.layer1_width, 1)
        if not isinstance(self.modules, tuple) or len(self.modules) != 3:
            raise HRNetError(f"modules {self.modules!r:.80}: give those of stages 2, 3 and 4")
        for count in self.modules:
            _check_count("modules", count)
        _check_count("blocks", self.blocks)
        if sum(self.modules) * max(self.blocks, 1) > _MOST_BLOCKS:
            raise HRNetError(
                f"modules {self.modules} of {self.blocks} blocks are more than {_MOST_BLOCKS} "
                "blocks on a branch: such a network would take minutes to build"
            )


VARIANTS = {
    **{f"w{width}": HRNetVariant(width) for width in (18, 30, 32, 40, 44, 48, 64)},
    "w18_small_v1": HRNetVariant(16, 1, 32, modules=(1, 1, 1), blocks=2),
    "w18_small_v2": HRNetVariant(18, 2, 64, modules=(1, 3, 2), blocks=2),
}


@dataclasses.dataclass(frozen=True)
class HourglassVariant:
    """One stacked hourglass of Heatmap in Heatmap (Lan et al. 2021; 4.1 of the project's FACTS).

    Attributes:
      stacks: number of hourglasses, each with its heatmaps.
      width: channels of the features; the stem has a quarter, then half of them.
      depth: number of times an hourglass halves its input.
    """

    stacks: int
    width: int = 256
    depth: int = 4

    def __post_init__(self):
        for name in ("stacks", "width", "depth"):
            _check_count(name, getattr(self, name), 1)


HOURGLASSES = {"hih_s": HourglassVariant(stacks=2), "hih_b": HourglassVariant(stacks=4)}


def get_variant(name: str) -> HRNetVariant:
    """Returns the variant of that name; HRNetError names the known ones."""
    if name not in VARIANTS:
        raise HRNetError(f"unknown HRNet variant {name!r}: choose one of {', '.join(VARIANTS)}")
    return VARIANTS[name]
