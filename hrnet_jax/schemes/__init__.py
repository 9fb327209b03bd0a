"""Landmark schemes: what the landmark indices of a data set mean."""

from hrnet_jax.errors import HRNetError
from hrnet_jax.schemes.files import describe, read_scheme, scheme_from_dict
from hrnet_jax.schemes.table import AFLW, COFW, SCHEMES, W300, WFLW, Line, Scheme

__all__ = [
    "AFLW",
    "COFW",
    "SCHEMES",
    "W300",
    "WFLW",
    "Line",
    "Scheme",
    "describe",
    "get_scheme",
    "read_scheme",
    "scheme_from_dict",
    "stored_scheme",
]


def get_scheme(name: str | dict) -> Scheme:
    """The scheme of that name, of a scheme file, or of a description in a checkpoint.

    Args:
      name: a key of `SCHEMES`; the path of a .json or .toml file, or a dictionary of its content
        (`hrnet_jax.schemes.files`).

    Raises:
      HRNetError: there is none, with the known names; or the file is wrong, with the place.
    """
    if isinstance(name, str) and name in SCHEMES:
        return SCHEMES[name]
    if isinstance(name, dict):
        return scheme_from_dict(name, f"scheme {name.get('name')!r:.80}")
    if not isinstance(name, str) or not name.endswith((".json", ".toml")):
        raise HRNetError(
            f"unknown landmark scheme {name!r:.150}: choose one of {', '.join(SCHEMES)}, or the "
            "path of a .json or .toml file with your own"
        )
    return read_scheme(name)


def stored_scheme(value: str | dict) -> Scheme:
    """The scheme that a file (a checkpoint's metadata, a result) names or describes.

    As `get_scheme`, without paths: what somebody's file names is never opened.
    """
    if isinstance(value, dict) or (isinstance(value, str) and value in SCHEMES):
        return get_scheme(value)
    raise HRNetError(
        f"its metadata names the landmark scheme {value!r:.200}, unknown here: "
        f"{', '.join(SCHEMES)} are built in, and others have to be described, not named"
    )
