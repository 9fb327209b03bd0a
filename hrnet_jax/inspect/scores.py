"""What each part of a network is worth: the error of faces while it is silent."""

import dataclasses
from collections.abc import Callable

import numpy as np

from hrnet_jax.data.pipeline import EvalBatches, iterate_threads
from hrnet_jax.data.records import Records
from hrnet_jax.evaluation.metrics import describe_normaliser, normaliser, point_errors
from hrnet_jax.inference.forward import make_forward
from hrnet_jax.inspect.lesions import Lesioned, Part, intact, silence
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import Scheme
from hrnet_jax.studies import statistics


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """What `measure` returns. Errors are percent of the scheme's normaliser.

    Attributes:
      parts: P of them.
      scheme: L landmarks.
      whole: (N, L), each face's landmarks with nothing silent.
      silent: (P, N, L).
      divisor: the normaliser in words.
    """

    parts: list[Part]
    scheme: Scheme
    whole: np.ndarray
    silent: np.ndarray
    divisor: str

    def losses(self, points=None) -> list[statistics.Estimate]:
        """How much the mean error of some landmarks (None: all) grows, with an interval over faces.

        One network: the interval is for other faces, and says nothing about other seeds.
        """
        chosen = slice(None) if points is None else list(points)
        grown = (self.silent - self.whole)[:, :, chosen].mean(axis=2)
        return [statistics.estimate(each[None], draws=2000) for each in grown]

    def facial_parts(self) -> dict[str, list[int]]:
        """Landmarks by the first word of the contours that they are on."""
        groups = {}
        for line in self.scheme.lines:
            group = groups.setdefault(line.name.split()[0].strip(","), [])
            group += [point for point in line.points if point not in group]
        return groups


def measure(
    network,
    variables: dict,
    parts: list[Part],
    protocol: Protocol,
    scheme: Scheme,
    records: Records,
    training: Records,
    fill: str = "mean",
    batch_size: int = 8,
    progress: Callable = lambda parts: parts,
) -> Scores:
    """Silences one part after the other and finds the landmarks of all faces.

    Args:
      network, variables: a trained HRNet.
      parts: of `hrnet_jax.inspect.lesions.parts_of`.
      protocol: crops and decodes; its flip test is left out, since what fills a silent part is the
        mean of upright faces.
      records: the faces to score, held in memory as crops.
      training: those whose mean fills what is silent.
      fill: "mean" or "zero".
      progress: wraps the list of parts (tqdm, say).
    """
    protocol = dataclasses.replace(protocol, flip_test=False)
    upright = _crops(training, protocol, min(batch_size, len(training)), whole=True)
    lesions = intact(network, variables, parts, upright, fill)
    forward = make_forward(Lesioned(network), protocol, scheme)
    crops = list(_crops(records, protocol, batch_size))
    lengths = normaliser(records.points, scheme, records.box_sizes)

    def errors(lesions):
        made = [forward({**variables, "lesions": lesions}, images)[0] for images in crops]
        cells = np.concatenate([np.asarray(points, np.float64) for points in made])
        found = np.stack(
            [
                protocol.to_image(points, center, side)
                for points, center, side in zip(
                    cells[: len(records)], records.centers, records.sides, strict=True
                )
            ]
        )
        return 100 * point_errors(found, records.points, lengths)

    whole = errors(lesions)
    silent = [errors(silence(lesions, part)) for part in progress(parts)]
    kind = "box" if scheme.normaliser is None else "inter-ocular"
    words = describe_normaliser(scheme, kind, records.box_sizes is not None)
    return Scores(parts, scheme, whole, np.stack(silent), words)


def _crops(records, protocol, batch_size, whole=False):
    """Batches of crops; the last is filled up, or left out where only `whole` ones count."""
    batches = EvalBatches(records, protocol, batch_size)
    steps = len(records) // batch_size if whole else batches.steps
    for batch in iterate_threads(batches, 0, steps, 0):
        yield batch["image"]
