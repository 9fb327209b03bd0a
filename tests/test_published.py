"""Published results as data, and a run beside them."""

import numpy as np
import pytest

from hrnet_jax.evaluation.benchmarks import BENCHMARKS, ROWS, compare
from hrnet_jax.evaluation.metrics import MEASURES, summarise

WFLW_SUBSETS = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")


def make_result(scheme, count, subsets=(), normaliser="inter-ocular"):
    """A run of `count` faces of 4 % NME each."""
    masks = {name: np.arange(count) < 2 for name in subsets}
    result = summarise(np.full(count, 0.04), masks)
    return result | {"scheme": scheme, "normaliser": normaliser, "split": "faces.csv"}


def test_every_figure_has_its_source_and_its_column():
    for row in ROWS:
        assert row.source and row.scheme in BENCHMARKS
        for part, measure in row.values:
            assert part in BENCHMARKS[row.scheme].sizes and measure in MEASURES
        whole = next(iter(BENCHMARKS[row.scheme].sizes))
        assert (whole, "nme") in row.values
    assert len({(row.method, row.scheme, row.normaliser) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("scheme", "method", "expected"),
    [
        # README of the official repository
        ("wflw", "hr18-wflw", [4.60, 7.86, 4.78, 4.57, 4.26, 5.42, 5.36]),
        ("300w", "hr18-300w", [3.34, 2.91, 5.11, 3.85]),
        ("cofw", "hr18-cofw", [3.45, 0.20]),
        ("aflw", "hr18-aflw", [1.57, 1.46]),
    ],
)
def test_official_rows_stand_in_the_columns_of_their_table(scheme, method, expected):
    normaliser = "box" if scheme == "aflw" else "inter-ocular"
    comparison = compare({"mine": make_result(scheme, 9, normaliser=normaliser)})
    (row,) = [row for row in comparison.published if row[0].endswith(method)]
    assert row[1 : len(expected) + 1] == [f"{value:.2f}" for value in expected]


def test_subsets_of_a_run_stand_below_the_published_ones():
    comparison = compare({"mine": make_result("wflw", 2500, WFLW_SUBSETS)})
    assert comparison.notes == []
    assert comparison.runs == [["this run: mine", *["4.00"] * 7, "0.00", "0.6000"]]
    assert comparison.columns[1:8] == ["full", *WFLW_SUBSETS]
    assert "| this run: mine" in str(comparison) and "github.com/HRNet" in str(comparison)


@pytest.mark.parametrize(
    ("scheme", "count", "column"),
    [("300w", 689, "full"), ("300w", 600, "test"), ("aflw", 1314, "frontal"), ("300w", 7, "full")],
)
def test_the_number_of_faces_tells_the_part(scheme, count, column):
    normaliser = "box" if scheme == "aflw" else "inter-ocular"
    comparison = compare({"mine": make_result(scheme, count, normaliser=normaliser)})
    cells = dict(zip(comparison.columns, comparison.runs[0], strict=True))
    assert [name for name, cell in cells.items() if cell == "4.00"] == [column]
    assert bool(comparison.notes) == (count == 7)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ({"kind": "landmarks", "jitter": 0.0}, None),
        ({"kind": "rectangle", "jitter": 0.0}, "mine: crops by rectangle boxes, not the"),
        ({"kind": "landmarks", "jitter": 0.1}, "landmarks boxes, moved by up to 0.1 of their side"),
    ],
)
def test_crops_by_other_boxes_are_no_published_protocol(box, words):
    (note,) = compare({"mine": make_result("300w", 689) | {"box": box}}).notes or [None]
    assert note == words if words is None else words in note


def test_only_results_with_the_same_normaliser_are_shown():
    comparison = compare({"mine": make_result("cofw", 507, normaliser="inter-pupil")})
    methods = [row[0] for row in comparison.published]
    assert "ADNet" in methods and not any("hr18" in method for method in methods)
    assert "(inter-pupil)" in comparison.title


def test_nothing_is_compared_where_nothing_is_published():
    assert compare({"mine": make_result("300w", 689, normaliser="diagonal")}) is None
    assert compare({"mine": make_result("my own", 10)}) is None
