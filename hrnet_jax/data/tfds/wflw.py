"""Wflw: 98 points, six attributes."""

from hrnet_jax.data.prepare import wflw as reader
from hrnet_jax.data.tfds.builder import LandmarkBuilder


class Wflw(LandmarkBuilder):
    """See `LandmarkBuilder`; downloads go to `manual/wflw`."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put into the folder wflw:\n{reader.WHERE}"
    READER = reader
    SUBSETS = reader.SUBSETS
    EXTRAS = {"rectangle": "rectangles"}
