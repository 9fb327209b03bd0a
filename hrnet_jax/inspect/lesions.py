"""Silencing parts of a trained HRNet, one after the other, in one compiled program.

A part is silenced by replacing the output of its modules, for every face, by zero or by what they
put out for the mean of many faces: a residual block then passes its input on, a fusion edge brings
nothing of the face. Which parts are silent is an input of the program, not of its compilation.
"""

import dataclasses
import functools
from collections.abc import Iterable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hrnet_jax.errors import HRNetError
from hrnet_jax.inspect import outputs
from hrnet_jax.models import normalise_images
from hrnet_jax.models.cpu_conv import jit
from hrnet_jax.models.hrnet import HRNet

STAGES = (2, 3, 4)
FILLS = ("mean", "zero")


@dataclasses.dataclass(frozen=True)
class Part:
    """A part that can be silenced.

    Attributes:
      kind: "branch", "edge", "block" or "channels".
      name: "branch 2", "stage4_0 edge 0<-3", "stage4_0 branch1_0", "branch 0 channels 0-3".
      sites: paths of the modules whose outputs are replaced, as `hrnet_jax.inspect.features` has
        them; "backbone/0" … are the four branches that the head gets.
      channels: first and last + 1, of a part that is a group of them; None for all.
    """

    kind: str
    name: str
    sites: tuple[str, ...]
    channels: tuple[int, int] | None = None


def parts_of(network, groups: int = 4) -> list[Part]:
    """All parts of an HRNet, in the order of the computation.

    Args:
      network: of `create_model`, ablated or not.
      groups: into how many groups of channels the head's view of each branch is split.

    Raises:
      HRNetError: another backbone; more groups than channels.
    """
    backbone = network.backbone
    if not isinstance(backbone, HRNet):
        raise HRNetError(f"lesions are of HRNets: this backbone is {type(backbone).__name__}")
    variant = backbone.variant
    if not 1 <= groups <= variant.width:
        raise HRNetError(f"{groups} groups of channels: give 1 to {variant.width}")
    kept = [k for k in range(4) if k not in backbone.dropped_branches]
    blocks, edges = [], []
    for b in range(variant.layer1_blocks):
        blocks.append(Part("block", f"layer1_{b}", (f"backbone/layer1_{b}/bn3",)))
    for stage, modules in zip(STAGES, variant.modules, strict=True):
        branches = [k for k in kept if k < stage]
        for m in range(modules):
            place = f"stage{stage}_{m}"
            for k in branches:
                for b in range(variant.blocks):
                    site = f"backbone/{place}/branch{k}_{b}/bn2"
                    blocks.append(Part("block", f"{place} branch{k}_{b}", (site,)))
            for i in branches:
                for j in branches:
                    if i != j and (stage, i, j) not in backbone.dropped_edges:
                        last = f"_{i - j - 1}" if i > j else ""
                        site = f"backbone/{place}/fuse{i}_{j}{last}"
                        edges.append(Part("edge", f"{place} edge {i}<-{j}", (site,)))
    return [*blocks, *edges, *_branches(kept, edges), *_channels(variant, kept, groups)]


def _branches(kept, edges):
    """A silent branch gives nothing to any other, to the one that grows from it, to the head."""
    made = []
    for place, k in enumerate(kept):
        sites = [site for edge in edges for site in edge.sites if edge.name.endswith(f"<-{k}")]
        if 0 < k < 3:
            sites.append(f"backbone/transition{k + 1}_{k + 1}")
        made.append(Part("branch", f"branch {k}", (*sites, f"backbone/{place}")))
    return made


def _channels(variant, kept, groups):
    made = []
    for place, k in enumerate(kept):
        ends = np.linspace(0, variant.width * 2**k, groups + 1).astype(int)
        for first, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            name = f"branch {k} channels {first}-{end - 1}"
            made.append(Part("channels", name, (f"backbone/{place}",), (first, end)))
    return made


class Lesioned:
    """A network whose `variables` also say what is silent: `apply` as that of a Linen module.

    `variables` has, beside the network's, "lesions": {"keep": {site: (C,)}, "fill": {site:
    (h, w, C)}}: a site's output y becomes keep * y + (1 - keep) * fill.
    """

    def __init__(self, network):
        self.network = network

    def apply(self, variables, images):
        lesions = variables["lesions"]
        others = {key: value for key, value in variables.items() if key != "lesions"}

        def changed(path, y):
            if path not in lesions["keep"]:
                return y
            keep, fill = lesions["keep"][path], lesions["fill"][path]
            return (keep * y + (1 - keep) * fill).astype(y.dtype)

        def intercept(next_function, args, kwargs, context):
            y = next_function(*args, **kwargs)
            if context.method_name != "__call__":
                return y
            path = "/".join(context.module.path)
            if isinstance(context.module, HRNet):
                return y._replace(
                    branches=[changed(f"{path}/{k}", x) for k, x in enumerate(y.branches)]
                )
            return changed(path, y)

        with nn.intercept_methods(intercept):
            return self.network.apply(others, images)


def intact(network, variables, parts: Iterable[Part], batches, fill: str = "mean") -> dict:
    """The "lesions" of `Lesioned` with nothing silent.

    Args:
      batches: uint8 (n, S, S, 3), crops of faces whose mean outputs fill what is silent; of "zero"
        the first tells shapes.
    """
    if fill not in FILLS:
        raise HRNetError(f"unknown fill {fill!r}: choose {' or '.join(FILLS)}")
    sites = tuple(sorted({site for part in parts for site in part.sites}))
    total, count = None, 0
    for images in batches:
        made = _sums(network, sites, variables, images)
        total = made if total is None else jax.tree.map(jnp.add, total, made)
        count += len(images)
        if fill == "zero":
            break
    factor = 1 / count if fill == "mean" else 0.0
    means = jax.tree.map(lambda leaf: leaf * factor, total)
    return {"keep": {site: jnp.ones(means[site].shape[-1:]) for site in sites}, "fill": means}


@functools.partial(jit, static_argnums=(0, 1))
def _sums(network, sites, variables, images):
    found = outputs(network, variables, normalise_images(images))
    return {site: found[site].sum(axis=0) for site in sites}


def silence(lesions: dict, part: Part) -> dict:
    """The lesions with a part silent too."""
    keep = dict(lesions["keep"])
    first, end = part.channels or (0, None)
    for site in part.sites:
        keep[site] = keep[site].at[first:end].set(0)
    return lesions | {"keep": keep}
