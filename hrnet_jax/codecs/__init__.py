"""Codecs: landmarks to network outputs and back, encode and decode in one object.

A codec is a frozen dataclass, so it can be a static argument of `jax.jit`. Its frame is the
heatmap's: continuous, cell k covers [k, k + 1), its centre is k + 0.5, points are (x, y).
"""

import dataclasses

from hrnet_jax.codecs.dark import DarkCodec
from hrnet_jax.codecs.hih import HIHCodec
from hrnet_jax.codecs.msra import MsraCodec
from hrnet_jax.codecs.official import OfficialCodec
from hrnet_jax.codecs.unbiased import UnbiasedCodec
from hrnet_jax.errors import HRNetError

__all__ = [
    "CODECS",
    "Codec",
    "DarkCodec",
    "HIHCodec",
    "MsraCodec",
    "OfficialCodec",
    "UnbiasedCodec",
    "codec_from_dict",
    "codec_to_dict",
]

CODECS = {
    "official": OfficialCodec,
    "unbiased": UnbiasedCodec,
    "dark": DarkCodec,
    "msra": MsraCodec,
    "hih": HIHCodec,
}
Codec = OfficialCodec | UnbiasedCodec | DarkCodec | MsraCodec | HIHCodec


def codec_to_dict(codec) -> dict:
    """A JSON-able description, e.g. ``{"name": "official", "sigma": 1.5}``."""
    names = {kind: name for name, kind in CODECS.items()}
    return {"name": names[type(codec)], **dataclasses.asdict(codec)}


def codec_from_dict(description):
    """The codec that `codec_to_dict` described; HRNetError names what is unknown."""
    if not isinstance(description, dict) or "name" not in description:
        raise HRNetError(f"codec {description!r} is not a table with a name")
    fields = dict(description)
    name = fields.pop("name")
    if not isinstance(name, str) or name not in CODECS:
        raise HRNetError(f"unknown codec {name!r}: choose one of {', '.join(CODECS)}")
    known = {field.name for field in dataclasses.fields(CODECS[name])}
    unknown = sorted(set(fields) - known)
    if unknown:
        raise HRNetError(
            f"codec {name!r} has no setting {unknown[0]!r}: it has {', '.join(sorted(known))}"
        )
    return CODECS[name](**fields)
