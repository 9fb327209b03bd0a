"""What annotated faces look like that something went wrong with: told before any work is done."""

import numpy as np

from hrnet_jax.data.records import Records

# Coordinates that tools write for a landmark that is not there.
_MARKS = ((-1.0, -1.0), (0.0, 0.0))


def describe_annotation(split: str, records: Records) -> list[str]:
    """Lines on the landmarks that are not annotated, or seem to be none: (-1, -1), say."""
    lines = []
    absent = np.asarray(np.isnan(records.points).any(axis=-1))
    if absent.any():
        faces = int(absent.any(axis=1).sum())
        lines.append(
            f"{split}: {int(absent.sum())} landmarks of {faces} faces (of {len(records)}) are not "
            "annotated"
        )
    for mark in _MARKS:
        rows, landmarks = np.nonzero((records.points == mark).all(axis=-1))
        if mark == (0, 0):  # a face may reach the picture's corner
            far = [_far(records.points[row], mark) for row in rows]
            rows, landmarks = rows[far], landmarks[far]
        if rows.size > (mark == (0, 0)):
            text = ",".join(f"{value:g}" for value in mark)
            lines.append(
                f"warning: {split}: {rows.size} landmarks lie at ({text}), the first is landmark "
                f"{landmarks[0]} of {records.names[rows[0]]}: if that means not annotated, prepare "
                f"again with --missing={text}"
            )
    return lines


def _far(points, mark):
    """Whether a place is outside twice the box of the face's other landmarks."""
    others = points[(points != mark).any(axis=-1) & np.isfinite(points).all(axis=-1)]
    if not len(others):
        return True
    low, high = others.min(axis=0), others.max(axis=0)
    reach = (high - low).max()
    return bool((np.abs(np.array(mark) - (low + high) / 2) > reach).any())
