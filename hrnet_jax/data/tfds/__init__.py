"""The data sets as TensorFlow Datasets builders.

    import tensorflow_datasets as tfds
    import hrnet_jax.data.tfds  # registers wflw, w300, cofw and aflw

    faces = tfds.load("wflw", split="test", data_dir="data/tfds")

What each builder needs is downloaded by hand into `data/tfds/downloads/manual/wflw` (and so on):
its MANUAL_DOWNLOAD_INSTRUCTIONS say from where. The faces are those that `hrnet-jax data prepare`
reads, the picture files unchanged.
"""

from hrnet_jax.data.tfds.aflw import Aflw
from hrnet_jax.data.tfds.cofw import Cofw
from hrnet_jax.data.tfds.w300 import W300
from hrnet_jax.data.tfds.wflw import Wflw

__all__ = ["Aflw", "Cofw", "W300", "Wflw"]
