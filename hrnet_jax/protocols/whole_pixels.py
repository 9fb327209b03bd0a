"""The published code's protocol: whole pixels in the crop, whole cells in the heatmap."""

from typing import ClassVar

import numpy as np

from hrnet_jax import geometry
from hrnet_jax.images.crops import official_crop
from hrnet_jax.protocols.base import STRIDE, Protocol, learnable


class OfficialProtocol(Protocol, name="official"):
    """The published code's crop, integer heatmap cells and integer landmarks, for its figures.

    Its constant 256 becomes `input_size`. Targets are cells truncated toward zero; a landmark with
    y <= 0 is not learnt. Landmarks come back as whole pixels, trunc(v) + 1, which lies half a pixel
    right of and below v on average; published figures include that.
    """

    whole_cells: ClassVar[bool] = True

    def crop(self, image, center, side, rotation=0.0):
        center = np.asarray(center, np.float32)
        return official_crop(image, center, self._scale(side), self.input_size, rotation)

    def to_heatmap(self, points, center, side, rotation=0.0):
        points, finite = learnable(points)
        center = np.asarray(center, np.float32)
        cells = geometry.official_transform_pixel(
            points + 1, center, self._scale(side), self.heatmap_size, rotation
        )
        return (cells - 1).astype(np.float64), (finite & (points[:, 1] > 0)).astype(np.float64)

    def to_image(self, points, center, side):
        points = np.asarray(points, np.float64) + 1
        center = np.asarray(center, np.float32)
        return geometry.official_transform_pixel(
            points, center, self._scale(side), self.heatmap_size, invert=True
        ).astype(np.float64)

    def to_crop(self, points):
        return (np.asarray(points, np.float64) + 0.5) * STRIDE

    def _scale(self, side):
        """In the order of operations of the published code, so that its truncations agree."""
        return float(geometry.scales_of(side)) * self.padding
