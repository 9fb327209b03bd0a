"""Aflw: 19 points and a box size."""

from hrnet_jax.data.prepare import aflw as reader
from hrnet_jax.data.tfds.builder import LandmarkBuilder


class Aflw(LandmarkBuilder):
    """See `LandmarkBuilder`; downloads go to `manual/aflw`."""

    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put into the folder aflw:\n{reader.WHERE}"
    READER = reader
    SUBSETS = ("frontal",)
    EXTRAS = {"box_size": "box_sizes"}
