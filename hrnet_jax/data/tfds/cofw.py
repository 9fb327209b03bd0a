"""Cofw: 29 points and whether each is occluded."""

from hrnet_jax.data.prepare import cofw as reader
from hrnet_jax.data.tfds.builder import LandmarkBuilder


class Cofw(LandmarkBuilder):
    """See `LandmarkBuilder`; downloads go to `manual/cofw`."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put into the folder cofw:\n{reader.WHERE}"
    READER = reader
    EXTRAS = {"rectangle": "rectangles", "visible": "visible"}
