"""Codecs: landmarks to network outputs and back, encode and decode in one object.

A codec is a frozen dataclass, so it can be a static argument of `jax.jit`. Its frame is the
heatmap's: continuous, cell k covers [k, k + 1), its centre is k + 0.5, points are (x, y).

What it may say of itself, as class attributes, for the protocol it is given to:

- `whole_cells`: True where `encode` takes whole cells (k for the cell [k, k + 1)), False where it
  takes continuous points; None, or left out: either.
- `flip_test`: False where its maps cannot be averaged with those of the mirrored crop.

A codec of the user's own is an object, or in a config the text "my_package.my_module:MyCodec" as
its name, with its settings beside it (`hrnet_jax.parts`).
"""

from collections.abc import Mapping
from typing import Any

from hrnet_jax import parts
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
    """A JSON-able description, e.g. ``{"name": "official", "sigma": 1.5}``.

    One of the user's own has "package.module:Name" for its name.
    """
    described = parts.describe(codec, CODECS)
    return described if isinstance(described, dict) else {"name": described}


def codec_from_dict(description, own: Mapping[str, Any] | None = None, allow: parts.Allow = False):
    """The codec that `codec_to_dict` described.

    Args:
      description: a table with the codec's name, and any of its settings.
      own: codecs of the user's own by the name that the description gives them.
      allow: what a name "package.module:Name" may import, as for `hrnet_jax.parts.resolve`.

    Raises:
      HRNetError: an unknown name or setting, a wrong value, or a name that may not be imported.
    """
    if not isinstance(description, dict) or not isinstance(description.get("name"), str):
        raise HRNetError(f"codec {description!r:.150} is not a table with a name")
    codec = parts.build(description, "codec", CODECS | dict(own or {}), allow=allow)
    lacking = [name for name in ("encode", "decode") if not callable(getattr(codec, name, None))]
    if lacking:
        raise HRNetError(f"codec {description['name']!r:.150} has no {' nor '.join(lacking)}")
    return codec
