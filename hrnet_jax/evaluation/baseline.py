"""The mean-shape baseline: what a network must beat to have looked at the image at all."""

import numpy as np

from hrnet_jax.data.records import Records
from hrnet_jax.evaluation.scoring import nme_of_records
from hrnet_jax.schemes import Scheme


def mean_shape(train: Records) -> np.ndarray:
    """Mean of the training faces in the frame of their landmark boxes: float64 (L, 2).

    The box centre is (0, 0) and the side 1, before any padding (which would cancel out).
    """
    sides = train.sides[:, None, None]
    return ((train.points - train.centers[:, None]) / sides).mean(axis=0)


def place_in_boxes(shape: np.ndarray, records: Records) -> np.ndarray:
    """A box-frame shape (L, 2) put in the landmark box of every face: (N, L, 2), image pixels."""
    return records.centers[:, None] + shape * records.sides[:, None, None]


def mean_shape_nme(train: Records, valid: Records, scheme: Scheme) -> float:
    """NME in percent of predicting the training faces' mean shape in every validation box."""
    predictions = place_in_boxes(mean_shape(train), valid)
    return 100 * float(nme_of_records(valid, predictions, scheme).mean())
