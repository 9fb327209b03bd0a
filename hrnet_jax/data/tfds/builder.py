"""What the builders share: features, splits and examples from a reader of `data.prepare`."""

from collections import defaultdict
from typing import Any

import numpy as np

import hrnet_jax.data.tfdata  # noqa: F401 (TensorFlow, quiet and without GPUs)
from hrnet_jax.data.prepare.faces import Problems
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.errors import HRNetError
from hrnet_jax.geometry import scales_of

try:
    import tensorflow_datasets as tfds
except ImportError as error:
    raise HRNetError(
        "TensorFlow Datasets is not installed: pip install 'hrnet-jax[data]'"
    ) from error


class LandmarkBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A data set of faces with landmarks.

    An example holds `image` (the picture file's bytes, decoded to RGB uint8 by TFDS), `image_name`,
    `points` float64 (L, 2), (x, y) in image pixels as the data set gives them, `center` float64
    (2,) and `scale` float64, the landmark box as in the official files, and what the subclass says.

    Class attributes:
      READER: its module of `hrnet_jax.data.prepare`.
      SUBSETS: the names of the booleans in `subsets`; False in splits that do not have them.
      EXTRAS: other columns of `Records`, by the name of the feature: `box_sizes`, `rectangles`
        (x0, y0, x1, y1), `visible` (L,). Numbers that the source does not give are NaN.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}
    READER: Any = None
    SUBSETS: tuple[str, ...] = ()
    EXTRAS: dict[str, str] = {}

    def _info(self):
        count = self.READER.NUM_LANDMARKS
        shapes = {"rectangles": (4,), "visible": (count,), "box_sizes": ()}
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "image_name": tfds.features.Text(),
            "points": _tensor((count, 2)),
            "center": _tensor((2,)),
            "scale": _tensor(()),
        }
        if self.SUBSETS:
            features["subsets"] = {name: np.bool_ for name in self.SUBSETS}
        for feature, column in self.EXTRAS.items():
            dtype: Any = np.bool_ if column == "visible" else np.float64
            features[feature] = _tensor(shapes[column], dtype)
        return self.dataset_info_from_configs(
            description=self.READER.__doc__, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, dl_manager):
        data = self.READER.read(Source(str(dl_manager.manual_dir / self.name)), Problems())
        return {
            split.rpartition("_")[2]: self._generate_examples(data.pictures, records)
            for split, records in data.splits.items()
        }

    def _generate_examples(self, pictures, records):
        rows = defaultdict(list)
        for row, name in enumerate(records.names):
            rows[name].append(row)
        if missing := pictures.missing(rows):
            raise HRNetError(f"{len(missing)} pictures are missing, {missing[0]} the first")
        for name, content in pictures.read(rows):
            for row in rows[name]:
                yield row, self._example(content, records, row)

    def _example(self, content, records, row):
        example = {
            "image": content,
            "image_name": records.names[row],
            "points": records.points[row],
            "center": records.centers[row],
            "scale": scales_of(records.sides[row]),
        }
        if self.SUBSETS:
            none = np.zeros(len(records), bool)
            example["subsets"] = {
                name: bool(records.subsets.get(name, none)[row]) for name in self.SUBSETS
            }
        for feature, column in self.EXTRAS.items():
            values = getattr(records, column)
            features: Any = self.info.features
            shape = features[feature].shape
            example[feature] = np.full(shape, np.nan) if values is None else values[row]
        return example


def _tensor(shape, dtype: Any = np.float64):
    # As bytes: a number of a tf.train.Example would be float32.
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=tfds.features.Encoding.BYTES)
