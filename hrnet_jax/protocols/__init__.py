"""Protocols: crop geometry, codec and flip test under one name, stored with every result."""

from hrnet_jax.codecs import Codec, DarkCodec, HIHCodec, OfficialCodec, UnbiasedCodec
from hrnet_jax.errors import HRNetError
from hrnet_jax.protocols.base import STRIDE, Protocol
from hrnet_jax.protocols.one_warp import FloatProtocol, MmposeProtocol, OneWarpProtocol
from hrnet_jax.protocols.whole_pixels import OfficialProtocol
from hrnet_jax.schemes import get_scheme

__all__ = [
    "STRIDE",
    "FloatProtocol",
    "MmposeProtocol",
    "OfficialProtocol",
    "OneWarpProtocol",
    "Protocol",
    "float_protocol",
    "get_protocol",
    "hih",
    "mmpose",
    "official",
]


def get_protocol(name: str, scheme_name: str) -> Protocol:
    """The protocol of that name with its own settings, for a landmark scheme.

    Args:
      name: "official", "float", "mmpose" (its "dark" configs') or "hih" (a float protocol too).
      scheme_name: of the landmarks; the official sigma depends on it.
    """
    makers = {
        "official": lambda: official(scheme_name),
        "float": float_protocol,
        "mmpose": lambda: mmpose(DarkCodec()),
        "hih": hih,
    }
    if name not in makers:
        raise HRNetError(f"unknown protocol {name!r:.80}: choose one of {', '.join(makers)}")
    return makers[name]()


def official(scheme_name) -> Protocol:
    """The protocol of the official code for a landmark scheme: sigma 1.0 for 300W, else 1.5."""
    sigma = 1.0 if get_scheme(scheme_name).name == "300w" else 1.5
    return OfficialProtocol("official", OfficialCodec(sigma))


def float_protocol(sigma=1.5, input_size=256, flip_test=False) -> Protocol:
    """Continuous coordinates from the image to the heatmap and back.

    Args:
      sigma: of the Gaussians, heatmap cells.
      input_size: side of the crop, pixels.
      flip_test: average with the heatmaps of the mirrored crop.
    """
    return FloatProtocol("float", UnbiasedCodec(sigma), input_size, flip_test=flip_test)


def mmpose(codec: Codec) -> Protocol:
    """The protocol of mmpose's face configs: index coordinates, flip test with the shift.

    Args:
      codec: DarkCodec(2.0, 11) for its "dark" configs, MsraCodec(2.0) (300W and COFW: 1.5) for the
        others.
    """
    return MmposeProtocol("mmpose", codec, flip_test=True, flip_shift=True)


def hih(masked=False) -> Protocol:
    """Heatmap in Heatmap on boxes padded by 1.2, as PFLD crops, which HIH names as its model.

    Args:
      masked: decode as the published figures were (`HIHCodec`).
    """
    return FloatProtocol("float", HIHCodec(masked=masked), padding=1.2)
