"""The mean-shape baseline: what a network must beat to have looked at the image at all."""

import numpy as np

from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.metrics import known_mean, summarise
from hrnet_jax.evaluation.scoring import nme_of_records
from hrnet_jax.schemes import Scheme


def mean_shape(train: Records) -> np.ndarray:
    """Mean of the training faces in the frame of their landmark boxes: float64 (L, 2).

    The box centre is (0, 0) and the side 1, before any padding (which would cancel out). A landmark
    counts where it is annotated; NaN for one that nowhere is.
    """
    sides = train.sides[:, None, None]
    return known_mean((train.points - train.centers[:, None]) / sides, axis=0)


def place_in_boxes(shape: np.ndarray, records: Records) -> np.ndarray:
    """A box-frame shape (L, 2) put in the landmark box of every face: (N, L, 2), image pixels."""
    return records.centers[:, None] + shape * records.sides[:, None, None]


def mean_shape_nme(train: Records, valid: Records, scheme: Scheme) -> float:
    """NME in percent of predicting the training faces' mean shape in every validation box.

    HRNetError for a landmark that no training face has, and if no validation face can be measured.
    """
    shape = mean_shape(train)
    if (absent := np.isnan(shape).any(axis=1)).any():
        raise HRNetError(
            f"landmark {absent.argmax()} is annotated in none of the {len(train)} training faces: "
            "choose a scheme without it"
        )
    nme = nme_of_records(valid, place_in_boxes(shape, valid), scheme)
    return summarise(nme)["nme"]
