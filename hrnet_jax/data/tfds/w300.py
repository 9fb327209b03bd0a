"""W300: 68 points."""

from hrnet_jax.data.prepare import w300 as reader
from hrnet_jax.data.tfds.builder import LandmarkBuilder


class W300(LandmarkBuilder):
    """See `LandmarkBuilder`; downloads go to `manual/w300`."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put into the folder w300:\n{reader.WHERE}"
    READER = reader
    SUBSETS = ("common", "challenge", "indoor", "outdoor")
