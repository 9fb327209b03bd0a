"""What every protocol is: its settings, one sample from an annotated face, and how it is stored."""

import dataclasses
from typing import Any, ClassVar

import numpy as np

from hrnet_jax import geometry, images
from hrnet_jax.codecs import Codec, codec_from_dict, codec_to_dict
from hrnet_jax.errors import HRNetError
from hrnet_jax.images.augment import Augmentation, Draw
from hrnet_jax.limits import BOX_PADDINGS, INPUT_SIZE
from hrnet_jax.parts import Allow

STRIDE = 4  # image pixels of the crop per heatmap cell
_KINDS = {}  # the classes of protocols by name


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How a face in an image becomes a network input, and network outputs become landmarks.

    `Protocol("float", codec, …)` makes the class of that name. A protocol of one's own is a
    subclass, `class Mine(Protocol, name="mine")`, with `crop`, `to_heatmap`, `to_image` and
    `to_crop`. Boxes are squares: a centre (x, y) and a side in image pixels, before `padding`.

    Attributes:
      name: "official", "float" or "mmpose": see `OfficialProtocol`, `FloatProtocol` and
        `MmposeProtocol`.
      codec: landmarks <-> heatmaps. Where it says `whole_cells`, the protocol's must be the same.
      input_size: side of the crop, pixels; a multiple of 4.
      padding: the box side is multiplied by it.
      flip_test: average with the heatmaps of the mirrored crop.
      flip_shift: move those one column to the right before, as mmpose does: in its index
        coordinates a crop's mirror image is 3/4 of a heatmap cell off that of the heatmap.

    Class attributes:
      whole_cells: whether `to_heatmap` gives whole cells (k for the cell [k, k + 1)) instead of
        continuous points.
      index_offset: added to this protocol's coordinates, of any frame, it makes them continuous
        ones.
    """

    name: str
    codec: Codec
    input_size: int = 256
    padding: float = 1.25
    flip_test: bool = False
    flip_shift: bool = False

    whole_cells: ClassVar[bool] = False
    index_offset: ClassVar[float] = 0.0

    def __init_subclass__(cls, name: str | None = None, **arguments):
        super().__init_subclass__(**arguments)
        if name is not None:
            _KINDS[name] = cls

    def __new__(cls, name=None, *_, **__):
        if cls is Protocol:
            if not isinstance(name, str) or name not in _KINDS:
                known = ", ".join(_KINDS)
                raise HRNetError(f"unknown protocol {name!r:.80}: choose one of {known}")
            cls = _KINDS[name]
        return super().__new__(cls)

    def __post_init__(self):
        if _KINDS.get(self.name) is not type(self):
            raise HRNetError(
                f"protocol {self.name!r:.80} is not the name of a {type(self).__name__}"
            )
        size = self.input_size
        if type(size) is not int or not 12 <= size <= INPUT_SIZE or size % STRIDE:
            raise HRNetError(
                f"protocol input_size {size!r:.80} is not a multiple of 4 from 12 up to "
                f"{INPUT_SIZE}"
            )
        padding, (low, high) = self.padding, BOX_PADDINGS
        if isinstance(padding, bool) or not isinstance(padding, (int, float)):
            raise HRNetError(f"protocol padding {padding!r:.80} is not a number")
        if not low <= padding <= high:
            raise HRNetError(
                f"protocol padding {padding!r:.80} is not positive, or out of range: give {low} to "
                f"{high}"
            )
        for key in ("flip_test", "flip_shift"):
            if not isinstance(value := getattr(self, key), bool):
                raise HRNetError(f"protocol {key} {value!r:.80} is neither true nor false")
        self._check_codec()

    def _check_codec(self):
        """HRNetError where the codec does not fit. One that says nothing of itself fits."""
        codec = codec_to_dict(self.codec)["name"]
        wanted = getattr(self.codec, "whole_cells", None)
        if wanted is not None and wanted != self.whole_cells:
            points = "whole heatmap cells" if wanted else "continuous points"
            fitting = [name for name, known in _KINDS.items() if known.whole_cells == wanted]
            raise HRNetError(
                f"codec {codec!r} does not go with protocol {self.name!r}: it encodes {points}, as "
                f"protocol {' or '.join(map(repr, fitting))} gives them"
            )
        if self.flip_test and not getattr(self.codec, "flip_test", True):
            raise HRNetError(
                f"protocol flip_test does not go with codec {codec!r}: its maps cannot be averaged "
                "with those of the mirrored crop"
            )

    @property
    def heatmap_size(self) -> int:
        """Side of the heatmaps, cells."""
        return self.input_size // STRIDE

    def crop(self, image, center, side, rotation=0.0) -> np.ndarray:
        """The network's view of a face.

        Args:
          image: (H, W, 3) uint8, RGB, or what `data.images.open_image` gave.
          center: (2,), image pixels.
          side: of the box, image pixels, before padding.
          rotation: degrees; a positive one turns the picture counter-clockwise.

        Returns:
          (input_size, input_size, 3) uint8, RGB.
        """
        raise NotImplementedError

    def to_heatmap(self, points, center, side, rotation=0.0) -> tuple[np.ndarray, np.ndarray]:
        """Landmarks from the image to the heatmap.

        Args:
          points: (L, 2), image pixels.
          center, side, rotation: as for `crop`.

        Returns:
          points: (L, 2) float64, heatmap pixels; whole cells where `whole_cells` says so.
          weights: (L,) float64; 0 where there is nothing to learn: a point that is not finite,
            which becomes 0, 0, and for "official" y <= 0.
        """
        raise NotImplementedError

    def to_image(self, points, center, side) -> np.ndarray:
        """Decoded landmarks from the heatmap to the image.

        Args:
          points: (L, 2), heatmap pixels.
          center, side: as for `crop` (without rotation).

        Returns:
          (L, 2) float64, image pixels.
        """
        raise NotImplementedError

    def to_crop(self, points) -> np.ndarray:
        """Where landmarks lie in the crop.

        Args:
          points: (L, 2), heatmap pixels, as `to_heatmap` gives them.

        Returns:
          (L, 2) float64, crop pixels, continuous (pixel k covers [k, k + 1)); with
          `whole_cells` the middle of the landmark's cell.
        """
        raise NotImplementedError

    def unmirrored(self, points, permutation) -> np.ndarray:
        """Decoded landmarks of the mirrored crop as those of the crop itself.

        Args:
          points: (L, 2), heatmap pixels.
          permutation: int (L,), `Scheme.flip_permutation`.

        Returns:
          (L, 2) float64, heatmap pixels.
        """
        # The mirror turns x into S - x; cells and pixels of an index protocol share their zero.
        width = self.heatmap_size + 2 * self.index_offset * (1 - 1 / STRIDE)
        return geometry.flip_points(points, width, permutation)

    def sample(
        self,
        image,
        points,
        center,
        side,
        augmentation: Augmentation | None = None,
        permutation=None,
        rng: Any = None,
    ) -> dict:
        """One sample for training or evaluation.

        Args:
          image: (H, W, 3) uint8, RGB, not modified; or what `data.images.open_image` gave.
          points: (L, 2), image pixels.
          center: (2,), image pixels.
          side: of the box, image pixels, before padding.
          augmentation: None for evaluation.
          permutation: int (L,), `Scheme.flip_permutation`; needed where the augmentation flips.
          rng: a NumPy generator; needed with an augmentation.

        Returns:
          image: (input_size, input_size, 3) uint8, RGB.
          points: (L, 2) float32, heatmap pixels.
          weights: (L,) float32, 1 or 0.
          center: (2,) float64; side: float: the box that was cut, in pixels of the image, which is
            mirrored where the draw flips.
        """
        center, side = np.array(center, np.float64), float(side)
        draw = augmentation.draw(rng) if augmentation else Draw()
        if augmentation and draw.flip:
            width = image.shape[1] + augmentation.flip_offset
            image = images.mirror(image)
            points = geometry.flip_points(points, width, permutation)
            center[0] = width - center[0]
        center += side * np.array(draw.translation)
        side *= draw.scale
        crop = self.crop(image, center, side, draw.rotation)
        if augmentation:
            crop = augmentation.apply_pixels(crop, rng)
        cells, weights = self.to_heatmap(points, center, side, draw.rotation)
        return {
            "image": crop,
            "points": cells.astype(np.float32),
            "weights": weights.astype(np.float32),
            "center": center,
            "side": side,
        }

    def prepare(self, *_, **__):
        """Refused: its box was given by a scale."""
        raise HRNetError(
            "Protocol.prepare is now Protocol.sample, and its box has a side in pixels, 200 times "
            "the scale that it was"
        )

    def to_dict(self) -> dict:
        """A JSON-able description."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "codec": codec_to_dict(self.codec)}

    @classmethod
    def from_dict(cls, description, own=None, allow: Allow = False) -> "Protocol":
        """The protocol that `to_dict` described; HRNetError names what is missing or unknown.

        Args:
          description: as `to_dict` gives it; settings that it lacks have their defaults.
          own, allow: a codec of the user's own, and what may be imported, as for `codec_from_dict`:
            True for a config of the user's own, never for what a file says.
        """
        if not isinstance(description, dict):
            raise HRNetError(f"protocol {description!r:.150} is not a table")
        known = [field.name for field in dataclasses.fields(cls)]
        for key in description:
            if key not in known:
                raise HRNetError(f"protocol has no setting {key!r:.80}: it has {', '.join(known)}")
        for key in ("name", "codec"):
            if key not in description:
                raise HRNetError(f"protocol has no {key!r}: give one")
        codec = codec_from_dict(description["codec"], own, allow)
        return cls(**{**description, "codec": codec})


def learnable(points) -> tuple[np.ndarray, np.ndarray]:
    """Points (L, 2) float64 with 0, 0 for those that are not finite, and which are: (L,) bool."""
    points = np.asarray(points, np.float64)
    finite = np.array(np.isfinite(points).all(axis=-1))
    return np.where(finite[:, None], points, 0.0), finite
