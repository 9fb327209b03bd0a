"""Training batches from a data set that lives on the device: no host and no TensorFlow in the loop.

For data sets that fit in device memory. Every device holds all loose crops (`hrnet_jax.data.loose`)
and cuts its own part of a batch. Sharded crops would need a third of the memory on three devices,
but then either pictures travel between devices in every step, or the batches depend on the number
of devices, and a run could not go on with the same bits on another.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np

from hrnet_jax.data.device_augment import apply_pixels, draw_sample, place_points, warp
from hrnet_jax.data.loose import crop_size, make_crops, shapes, stored_crops
from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.images.augment import Augmentation, Draw
from hrnet_jax.protocols import OneWarpProtocol


@dataclasses.dataclass(frozen=True, eq=False)
class DeviceBatches:
    """`pipeline.TrainBatches` on the device: the same distributions, draws of its own.

    The order of an epoch is a permutation drawn from (seed, epoch), each sample's augmentation from
    (seed, epoch, row). With protocol "float" a sample is the host's but for rounding where the face
    has fewer pixels in its picture than in its loose crop; a larger one is read through an area
    filter. With "mmpose" too, whose own crop of a large face is not antialiased.

    Attributes:
      records: the faces; their pictures are read when `cache` is first used.
      protocol: "float" or "mmpose". The official crop is not one warp of the picture: its grey
        values are stretched by what the cut-out happens to hold.
      augmentation: of every sample.
      flip_permutation: int (L,), `Scheme.flip_permutation`.
      batch_size: over all devices. Every batch has it: see `drop_last`.
      seed: of everything that is drawn.
      drop_last: leave out the rest of an epoch that does not fill a batch.
      file: where the loose crops are kept for the next start; "": nowhere.
      mesh: over whose axis "data" a batch is sharded; None: one device.
      progress: wraps the list of faces while they are read (tqdm, say).
    """

    records: Records
    protocol: OneWarpProtocol
    augmentation: Augmentation
    flip_permutation: np.ndarray
    batch_size: int
    seed: int
    drop_last: bool = False
    file: str = ""
    mesh: jax.sharding.Mesh | None = None
    progress: Callable[[Iterable], Iterable] = iter

    def __post_init__(self):
        if not isinstance(self.protocol, OneWarpProtocol):
            raise HRNetError(
                f"data.source = device does not go with protocol {self.protocol.name!r}, whose "
                "crop is not one warp of the picture: use protocol 'float' or 'mmpose', or "
                "data.source = csv"
            )
        rest = len(self.records) % self.batch_size
        if rest and not self.drop_last:
            raise HRNetError(
                f"data.source = device has batches of one size: {len(self.records)} faces leave "
                f"{rest} over with train.batch_size = {self.batch_size}; set train.drop_last=True"
            )

    @property
    def steps_per_epoch(self) -> int:
        return len(self.records) // self.batch_size

    @property
    def nbytes(self) -> int:
        """Memory that the cache takes on every device."""
        size = crop_size(self.records, self.protocol, self.augmentation)
        arrays = shapes(self.records, size).values()
        return sum(np.dtype(dtype).itemsize * math.prod(shape) for shape, dtype in arrays)

    @functools.cached_property
    def cache(self) -> dict[str, jax.Array]:
        """The arrays of `loose.make_crops`, whole on every device.

        HRNetError if a picture cannot be read or a device does not have the memory.
        """
        check_memory(self.nbytes, self.mesh.local_devices if self.mesh else jax.local_devices()[:1])
        if self.file:
            make = functools.partial(stored_crops, self.file)
        else:
            make = make_crops
        crops = make(self.records, self.protocol, self.augmentation, self.progress)
        if self.mesh is None:
            return jax.device_put(crops)
        whole = jax.NamedSharding(self.mesh, jax.P())
        return {k: jax.make_array_from_process_local_data(whole, v) for k, v in crops.items()}

    def batch(self, cache: dict[str, jax.Array], step) -> dict[str, jax.Array]:
        """The batch of a step: a pure function, for use inside a jitted one.

        Args:
          cache: that of this object.
          step: int scalar from 0, an array or not.

        Returns:
          image uint8 (B, S, S, 3) RGB, points float32 (B, L, 2) in heatmap pixels and weights
          float32 (B, L), as of `pipeline.TrainBatches`.
        """
        epoch, rows = self.rows(step)
        return jax.vmap(self.sample, (None, None, 0))(cache, epoch, rows)

    def rows(self, step) -> tuple[jax.Array, jax.Array]:
        """The epoch of a step and the rows of `records` in its batch."""
        epoch, position = jnp.divmod(step, self.steps_per_epoch)
        count = len(self.records)
        key = self._key(epoch, count)  # a row that no sample has
        order = jax.random.permutation(key, jnp.arange(count, dtype=jnp.int32))
        rows = jax.lax.dynamic_slice_in_dim(order, position * self.batch_size, self.batch_size)
        if self.mesh is not None:  # every device cuts the crops of its own rows
            rows = jax.lax.with_sharding_constraint(
                rows, jax.NamedSharding(self.mesh, jax.P("data"))
            )
        return epoch, rows

    def sample(self, cache: dict[str, jax.Array], epoch, row) -> dict[str, jax.Array]:
        """One augmented sample: the same for the same (seed, epoch, row)."""
        face = {name: array[row] for name, array in cache.items()}
        size = self.protocol.input_size
        geometry, pixels = draw_sample(self.augmentation, self._key(epoch, row), size)
        image, points, weights = self.place(face, geometry)
        return {"image": apply_pixels(image, pixels), "points": points, "weights": weights}

    def place(
        self, face: dict[str, jax.Array], draw: Draw
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The crop, points and weights of a row of the cache, as a `Draw` places them."""
        protocol = self.protocol
        permutation = jnp.asarray(self.flip_permutation)
        image = warp(
            face["images"],
            face["anchors"],
            face["sides"],
            draw,
            protocol.padding,
            protocol.input_size,
            # Mirroring turns pixel k into W - 1 - k, which is another -1 in index coordinates.
            flip_shift=(self.augmentation.flip_offset + 2 * protocol.index_offset) * face["zooms"],
            center=0.5 - protocol.index_offset,
        )
        points = place_points(
            face["offsets"], draw, permutation, protocol.padding, protocol.heatmap_size
        )
        weights = face["weights"]
        weights = jnp.where(draw.flip, weights[permutation], weights)
        points = jnp.where(weights[:, None] > 0, points + protocol.index_offset, 0.0)
        return image, points, weights

    def _key(self, epoch, row):
        return jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), epoch), row)


def check_memory(needed: int, devices) -> None:
    """HRNetError where a device says that it has less than `needed` bytes free."""
    for device in devices:
        stats = device.memory_stats() or {}
        if "bytes_limit" not in stats:  # CPUs do not tell
            continue
        free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
        if needed > free:
            raise HRNetError(
                f"data.source = device: the loose crops take {needed / 2**30:.2f} GiB, but "
                f"{device} has {free / 2**30:.2f} GiB left: use data.source = csv, or fewer faces "
                "(data.train_count), a smaller protocol.input_size or a smaller augment.rotation"
            )
