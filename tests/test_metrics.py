"""NME, failure rate and AUC against hand-computed values and their defining properties."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation import metrics
from hrnet_jax.evaluation.tables import format_table, metrics_table
from hrnet_jax.schemes import SCHEMES, get_scheme

NMES = arrays(np.float64, st.integers(1, 30), elements=st.floats(0, 0.3))
COORDINATES = st.floats(-1000, 1000)
few = settings(max_examples=25, deadline=None)


def test_hand_computed_nme():
    truth = np.zeros((2, 4, 2))
    predicted = np.array([[[3, 4], [0, 0], [0, 1], [2, 0]], [[6, 8], [0, 0], [0, 0], [0, 0]]])
    lengths = np.array([10.0, 50.0])
    expected = [[0.5, 0, 0.1, 0.2], [0.2, 0, 0, 0]]
    np.testing.assert_allclose(metrics.point_errors(predicted, truth, lengths), expected)
    np.testing.assert_allclose(metrics.nme_per_image(predicted, truth, lengths), [0.2, 0.05])


def test_errors_do_not_broadcast():
    with pytest.raises(ValueError, match="differ in shape"):
        metrics.point_errors(np.zeros((1, 4, 2)), np.zeros((2, 4, 2)), np.ones(2))


@pytest.mark.parametrize("name", ["300w", "wflw", "cofw"])
def test_inter_ocular_distance(name):
    scheme = get_scheme(name)
    pair = {"300w": (36, 45), "wflw": (60, 72), "cofw": (8, 9)}[name]
    points = np.zeros((2, scheme.num_landmarks, 2))
    points[0, pair[0]], points[0, pair[1]] = (1, 2), (4, 6)
    points[1, pair[1]] = (0, 7)
    np.testing.assert_allclose(metrics.normaliser(points, scheme, np.ones(2)), [5, 7])


def test_aflw_is_normalised_by_the_box_size():
    points = np.zeros((2, 19, 2))
    sizes = metrics.normaliser(points, SCHEMES["aflw"], np.array([100.0, 50.0]))
    np.testing.assert_array_equal(sizes, [100, 50])
    with pytest.raises(HRNetError, match="box_size"):
        metrics.normaliser(points, SCHEMES["aflw"])


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("300w", range(36, 42), range(42, 48)),
        ("wflw", [96], [97]),
        ("cofw", [16], [17]),
        ("aflw", [7], [10]),
    ],
)
def test_pupils(name, first, second):
    """Annotated pupils where there are any, else the mean of all points of the eye."""
    points = np.random.default_rng(0).uniform(0, 9, (3, get_scheme(name).num_landmarks, 2))
    ends = points[:, list(first)].mean(axis=1) - points[:, list(second)].mean(axis=1)
    found = metrics.normaliser(points, get_scheme(name), kind="inter-pupil")
    np.testing.assert_allclose(found, np.hypot(*ends.T))


def test_a_scheme_without_what_the_normaliser_needs():
    points = np.zeros((2, 19, 2))
    with pytest.raises(HRNetError, match="aflw scheme does not say .* inter-ocular"):
        metrics.normaliser(points, SCHEMES["aflw"], kind="inter-ocular")
    bare = dataclasses.replace(SCHEMES["300w"], lines=(), five_points=())
    with pytest.raises(HRNetError, match="does not say .* inter-pupil"):
        metrics.normaliser(points, bare, kind="inter-pupil")


@few
@given(
    arrays(np.float64, (3, 68, 2), elements=COORDINATES), st.floats(0.1, 10), st.floats(-3.1, 3.1)
)
def test_normalisers_grow_with_the_face(points, factor, angle):
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    scheme = SCHEMES["300w"]
    for kind in metrics.NORMALISERS:
        before = metrics.normaliser(points, scheme, kind=kind)
        after = metrics.normaliser(factor * points + 7, scheme, kind=kind)
        np.testing.assert_allclose(after, factor * before, rtol=1e-6, atol=1e-6)
        if kind.startswith("inter"):  # boxes lie along the image's axes, distances do not
            turned = metrics.normaliser(points @ turn.T, scheme, kind=kind)
            np.testing.assert_allclose(turned, before, rtol=1e-6, atol=1e-6)


def test_official_nme():
    """Landmarks and NME that the official implementation gave for four 29-point faces."""
    reference = np.load(Path(__file__).parent / "data" / "official_nme_29.npz")
    lengths = metrics.normaliser(reference["truth"], SCHEMES["cofw"])
    nme = metrics.nme_per_image(reference["landmarks"], reference["truth"], lengths)
    np.testing.assert_allclose(nme, reference["nme"], atol=1e-6)


def test_hand_computed_failure_rate_auc_and_ced():
    nme = np.array([0.02, 0.04, 0.08, 0.09, 0.20])
    assert metrics.failure_rate(nme, 0.08) == pytest.approx(0.4)  # 0.08 itself is no failure
    assert metrics.failure_rate(nme, 0.10) == pytest.approx(0.2)
    assert metrics.auc(nme, 0.08) == pytest.approx((0.75 + 0.5) / 5, abs=1e-6)
    assert metrics.auc(nme, 0.10) == pytest.approx((0.8 + 0.6 + 0.2 + 0.1) / 5, abs=1e-6)
    found = metrics.ced(nme, np.array([0.0, 0.02, 0.05, 0.08, 1.0]))
    np.testing.assert_allclose(found, [0, 0.2, 0.4, 0.6, 1])


def test_auc_extremes():
    for rule in metrics.AUC_RULES.values():
        assert rule(np.zeros(3), 0.1) == pytest.approx(1)
        assert rule(np.full(3, 0.2), 0.1) == 0
    assert metrics.auc(np.full(3, 0.1), 0.1) == 0


def test_simpson_rule_by_hand():
    # Two intervals: the CED is 0, 1/2, 1 at 0, 0.05, 0.1, weighted 1, 4, 1 and divided by 6.
    assert metrics.auc_simpson([0.05, 0.07], 0.1, step=0.05) == pytest.approx((0 + 4 * 0.5 + 1) / 6)


def test_trapezoids_over_the_steps_by_hand():
    """Errors 0.02 and 0.06: the curve is 0, then 1/2 from 0.02 to 0.06, then 1 up to 0.08."""
    corners = np.array([[0, 0], [0.02, 0], [0.02, 0.5], [0.06, 0.5], [0.06, 1], [0.08, 1]])
    area = np.trapezoid(corners[:, 1], corners[:, 0]) / 0.08
    assert area == pytest.approx((0.04 * 0.5 + 0.02 * 1) / 0.08)
    assert metrics.auc([0.02, 0.06], 0.08) == pytest.approx(area, abs=1e-12)


@few
@given(NMES, st.floats(0.01, 0.2))
def test_auc_is_the_integral_of_the_ced(nme, threshold):
    grid = np.linspace(0, threshold, 4001)
    integral = np.trapezoid(metrics.ced(nme, grid), grid) / threshold
    auc = metrics.auc(nme, threshold)
    assert 0 <= auc <= 1
    assert auc == pytest.approx(integral, abs=1 / 4000)
    assert metrics.auc_simpson(nme, threshold) == pytest.approx(auc, abs=3e-4 / threshold)


@few
@given(NMES, st.floats(0, 0.3), st.floats(0, 0.3))
def test_failure_rate_falls_with_the_threshold_and_mirrors_the_ced(nme, first, second):
    low, high = sorted((first, second))
    assert metrics.failure_rate(nme, low) >= metrics.failure_rate(nme, high)
    assert metrics.failure_rate(nme, low) == pytest.approx(1 - metrics.ced(nme, low))


@few
@given(
    arrays(np.float64, (2, 5, 2), elements=COORDINATES),
    arrays(np.float64, (2, 5, 2), elements=COORDINATES),
    arrays(np.float64, 2, elements=COORDINATES),
    st.floats(0.1, 10),
)
def test_nme_ignores_translation_and_joint_scaling(predicted, truth, shift, factor):
    lengths = np.array([3.0, 50.0])
    nme = metrics.nme_per_image(predicted, truth, lengths)
    moved = metrics.nme_per_image(
        factor * predicted + shift, factor * truth + shift, factor * lengths
    )
    np.testing.assert_allclose(moved, nme, rtol=1e-9, atol=1e-9)


@few
@given(NMES, NMES)
def test_summary_of_parts_averages_to_the_whole(first, second):
    nme = np.concatenate([first, second])
    mask = np.arange(nme.size) < first.size
    whole = metrics.summarise(nme, {"first": mask, "second": ~mask})
    parts = whole["subsets"].values()
    assert whole["count"] == sum(part["count"] for part in parts) == nme.size
    for measure in metrics.MEASURES:
        mean = sum(part[measure] * part["count"] for part in parts) / nme.size
        assert whole[measure] == pytest.approx(mean, abs=1e-9)


def test_summary_has_the_fields_of_metrics_json():
    nme = np.array([0.02, 0.04, 0.08, 0.09, 0.20])
    subsets = {"pose": np.array([1, 1, 0, 0, 0], bool), "blur": np.zeros(5, bool)}
    result = metrics.summarise(nme, subsets)
    fields = ["nme", "fr@0.08", "fr@0.10", "auc@0.08", "auc@0.10", "count"]
    assert list(result) == [*fields, "subsets"]
    assert [result[field] for field in fields] == pytest.approx([8.6, 40, 20, 0.25, 0.34, 5])
    pose = [result["subsets"]["pose"][field] for field in fields]
    assert pose == pytest.approx([3, 0, 0, 0.625, 0.7, 2])
    assert result["subsets"]["blur"] == dict.fromkeys(fields) | {"count": 0}
    with pytest.raises(HRNetError, match="no faces"):
        metrics.summarise(np.zeros(0))


def test_tables_read_as_text_and_as_markdown():
    table = format_table([["plain", 1.5, None], ["a longer name", -2, 3]], ["name", "x", "y"])
    assert table.splitlines() == [
        "| name          |   x |   y |",
        "| ------------- | --: | --: |",
        "| plain         | 1.5 |   - |",
        "| a longer name |  -2 |   3 |",
    ]
    assert format_table([], ["name"]).splitlines() == ["| name |", "| ---- |"]
    result = metrics.summarise(np.array([0.046, 0.09]), {"blur": np.zeros(2, bool)})
    lines = metrics_table(result).splitlines()
    assert "NME %" in lines[0] and "AUC@0.10" in lines[0]
    assert lines[2].replace(" ", "") == "|all|2|6.80|50.00|0.00|0.2125|0.3200|"
    assert lines[3].replace(" ", "") == "|blur|0|-|-|-|-|-|"
