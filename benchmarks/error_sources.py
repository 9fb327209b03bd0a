"""Where an evaluation's error lies: its NME with parts of the error taken away, by the truth.

python benchmarks/error_sources.py runs/300w_small/eval
"""

import argparse

import numpy as np

from hrnet_jax.evaluation.metrics import nme_per_image, normaliser
from hrnet_jax.evaluation.scoring import read_run
from hrnet_jax.evaluation.tables import format_table


def similar(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Points (L, 2) moved, turned and scaled to lie closest to the true ones."""
    mean, aim = points.mean(0), truth.mean(0)
    a, b = ((x - m) @ np.array([1, 1j]) for x, m in ((points, mean), (truth, aim)))
    moved = a * (a.conj() @ b) / (a.conj() @ a).real
    return np.stack([moved.real, moved.imag], 1) + aim


def without(predictions: np.ndarray, truth: np.ndarray, lengths: np.ndarray) -> dict:
    """{what is taken away: predictions (N, L, 2)}; `lengths` (N,) normalise the mean errors."""
    error = (predictions - truth) / lengths[:, None, None]
    scale = lengths[:, None, None]
    return {
        "nothing": predictions,
        "the mean error of each axis": predictions - scale * error.mean((0, 1)),
        "the mean error of each landmark": predictions - scale * error.mean(0),
        "each face's shift": predictions - scale * error.mean(1, keepdims=True),
        "each face's similarity": np.stack(list(map(similar, predictions, truth))),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="what `hrnet-jax evaluate` wrote")
    run = read_run(parser.parse_args().folder)
    truth = run.records.points
    lengths = normaliser(truth, run.scheme, run.records.box_sizes, run.normaliser)
    rows = [
        [name, f"{100 * nme_per_image(points, truth, lengths).mean():.2f}"]
        for name, points in without(run.predictions, truth, lengths).items()
    ]
    print(format_table(rows, ["taken away", "NME %"]))


if __name__ == "__main__":
    main()
