"""Protocols whose crop is one affine warp of the image, with continuous points throughout."""

from typing import ClassVar

import numpy as np

from hrnet_jax import geometry
from hrnet_jax.images.crops import affine_crop, index_crop
from hrnet_jax.protocols.base import STRIDE, Protocol, learnable


class OneWarpProtocol(Protocol):
    """What "float" and "mmpose" share; they differ in where a pixel lies and how it is read."""

    _warp = staticmethod(affine_crop)

    def crop(self, image, center, side, rotation=0.0):
        matrix = self._matrix(center, side, self.input_size, rotation)
        return self._warp(image, matrix, self.input_size)

    def to_heatmap(self, points, center, side, rotation=0.0):
        points, finite = learnable(points)
        matrix = self._matrix(center, side, self.heatmap_size, rotation)
        mapped = geometry.apply_affine(matrix, points) + self.index_offset
        return np.where(finite[:, None], mapped, 0.0), finite.astype(np.float64)

    def to_image(self, points, center, side):
        matrix = self._matrix(center, side, self.heatmap_size)
        points = np.asarray(points, np.float64) - self.index_offset
        return geometry.apply_affine(geometry.invert_affine(matrix), points)

    def to_crop(self, points):
        points = np.asarray(points, np.float64)
        return (points - self.index_offset) * STRIDE + self.index_offset

    def _matrix(self, center, side, size, rotation=0.0):
        return geometry.crop_matrix(center, side * self.padding, size, rotation)


class FloatProtocol(OneWarpProtocol, name="float"):
    """One antialiased warp; pixel k covers [k, k + 1) in image, crop and heatmap."""


class MmposeProtocol(OneWarpProtocol, name="mmpose"):
    """One warp in index coordinates, where pixel k lies at k in image, crop and heatmap alike.

    The codec's heatmap pixels are that index + 0.5.
    """

    index_offset: ClassVar[float] = 0.5
    _warp = staticmethod(index_crop)
