"""metrics.json and per_image.csv, and scoring other people's files."""

import csv
import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest

import hrnet_jax
from hrnet_jax import cli
from hrnet_jax.data.records import Records, point_columns, read_csv, write_csv
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.baseline import mean_shape, mean_shape_nme, place_in_boxes
from hrnet_jax.evaluation.scoring import nme_of_records, score_files, write_results
from hrnet_jax.schemes import SCHEMES

COFW = SCHEMES["cofw"]
METADATA = {"protocol": {"name": "official"}, "model": {"name": "hrnetv2_w18"}, "split": "test"}


def make_records(names=("a.jpg", "b.jpg", "c.jpg")):
    """29-point faces at random places, their eyes 10 pixels apart."""
    points = np.random.default_rng(0).uniform(0, 100, (len(names), 29, 2))
    points[:, 9] = points[:, 8] + [6, 8]
    centers, sides = np.full((len(names), 2), 50.0), np.full(len(names), 100.0)
    return Records(tuple(names), Path("images"), points, centers, sides)


def write_predictions(path, names, points, columns=None, extra=()):
    """Predictions with only the name and the points; `columns` reorders, `extra` adds columns."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image_name", *(columns or point_columns(points.shape[1])), *extra])
        for name, face in zip(names, points, strict=True):
            writer.writerow([name, *face.reshape(-1), *(["text"] * len(extra))])
    return path


def test_results_are_written_whole(tmp_path):
    records = make_records()
    predictions = records.points + np.array([[[0.3, 0.4]], [[0.6, 0.8]], [[0.0, 2.0]]])
    records = dataclasses.replace(records, subsets={"pose": np.array([True, False, True])})
    result = write_results(tmp_path / "new", records, predictions, COFW, METADATA).result

    written = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert written == result
    assert result["nme"] == pytest.approx(35 / 3, abs=1e-6)
    assert result["fr@0.08"] == pytest.approx(200 / 3, abs=1e-6)
    assert result["auc@0.10"] == pytest.approx(0.5 / 3, abs=1e-6)
    assert result["subsets"]["pose"]["nme"] == pytest.approx(12.5, abs=1e-6)
    assert result["count"] == 3 and result["subsets"]["pose"]["count"] == 2
    assert {key: result[key] for key in METADATA} == METADATA
    assert result["version"] == hrnet_jax.__version__ and result["scheme"] == "cofw"
    assert result["normaliser"] == "inter-ocular" and result["auc_rule"] == "trapezoid"
    assert result["normaliser_length"] == "distance of points 8 and 9"

    with open(tmp_path / "new" / "per_image.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image_name"] for row in rows] == list(records.names)
    assert [float(row["nme"]) for row in rows] == pytest.approx([5, 10, 20])
    assert float(rows[2]["original_28_y"]) == predictions[2, 28, 1]


def test_a_result_must_carry_its_protocol(tmp_path):
    records = make_records()
    with pytest.raises(ValueError, match="protocol, split"):
        write_results(tmp_path, records, records.points, COFW, {"model": "x"})


def test_degenerate_faces_are_named():
    records = make_records()
    predictions = records.points.copy()
    predictions[1, 3, 0] = np.nan
    with pytest.raises(HRNetError, match=r"not finite for b\.jpg$"):
        nme_of_records(records, predictions, COFW)
    records.points[[0, 2], 9] = records.points[[0, 2], 8]
    with pytest.raises(HRNetError, match=r"\(.*8 and 9\) is zero for a\.jpg, c\.jpg$"):
        nme_of_records(records, records.points, COFW)


def test_scores_files_whatever_their_order_and_further_columns(tmp_path):
    records = make_records()
    write_csv(tmp_path / "truth.csv", records)
    predictions = records.points + [[[0.3, 0.4]], [[0.6, 0.8]], [[0.0, 2.0]]]
    columns = point_columns(29)
    order = random.Random(0).sample(range(58), 58)
    write_predictions(
        tmp_path / "predicted.csv",
        records.names[::-1],
        predictions[::-1].reshape(3, 58)[:, order].reshape(3, 29, 2),
        [columns[i] for i in order],
        extra=["score", "comment"],
    )
    files = tmp_path / "predicted.csv", tmp_path / "truth.csv"
    result = score_files(*files, "cofw", tmp_path / "out").result
    assert result["nme"] == pytest.approx(35 / 3, abs=1e-6)
    assert result["split"] == "truth.csv" and result["protocol"] is None
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == result


def test_evaluate_predictions_gives_the_numbers_worked_out_by_hand(tmp_path, capsys):
    """Five faces, eyes 10 px apart, their points off by 0.2, 0.4, 0.8, 0.9 and 2 px, a hair less.

    NME (2 + 4 + 8 + 9 + 20) / 5 = 8.6. Above 8 %: two faces of five; above 10 %: one. Area under
    the steps of the error curve up to 8 %: (6 + 4 + 0) / (5 * 8); up to 10 %: (8 + 6 + 2 + 1) / 50.
    """
    records = make_records([f"{i}.jpg" for i in range(5)])
    write_csv(tmp_path / "truth.csv", records)
    off = (np.array([0.2, 0.4, 0.8, 0.9, 2]) - 1e-9)[:, None, None] * [0.6, -0.8]
    write_predictions(tmp_path / "predicted.csv", records.names, records.points + off)
    arguments = [f"--predictions={tmp_path}/predicted.csv", f"--truth={tmp_path}/truth.csv"]
    command = ["evaluate", *arguments, "--scheme=cofw", f"--output={tmp_path}/out"]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "| all   |     5 |  8.60 |     40.00 |     20.00 |   0.2500 |   0.3400 |" in out
    assert "COFW test: NME in percent (inter-ocular)" in out and "3.45" in out
    assert "5 faces of truth.csv, not the 507" in out
    result = json.loads((tmp_path / "out" / "metrics.json").read_text())
    fields = ["nme", "fr@0.08", "fr@0.10", "auc@0.08", "auc@0.10"]
    assert [result[f] for f in fields] == pytest.approx([8.6, 40, 20, 0.25, 0.34], abs=1e-6)
    assert "The images are not here" in (tmp_path / "out" / "report.html").read_text()

    # Simpson's rule on 1000 intervals of 1e-4: a face whose curve rises at the even grid line k
    # has weights 2 4 2 4 … 4 1 from there, which sum to 3 (1000 - k) + 1, of 3000.
    assert cli.main([*command, "--auc=simpson"]) == 0
    result = json.loads((tmp_path / "out" / "metrics.json").read_text())
    steps = [(3 * (1000 - k) + 1) / 3000 / 5 for k in (200, 400, 800, 900)]
    assert result["auc@0.10"] == pytest.approx(sum(steps), abs=1e-6)
    assert result["auc_rule"] == "simpson"


@pytest.mark.parametrize(
    ("normaliser", "length"),
    [
        ("inter-ocular", 10),
        ("inter-pupil", 5),
        ("box", np.sqrt(40 * 30)),
        ("diagonal", 50),
    ],
)
def test_normalisers_by_hand(tmp_path, normaliser, length):
    points = np.zeros((1, 29, 2))
    points[0, :2] = (0, 0), (40, 30)  # the corners of the landmarks' box
    points[0, 8:10] = (1, 1), (7, 9)
    points[0, 16:18] = (2, 2), (5, 6)
    truth = Records(("a",), tmp_path, points, np.ones((1, 2)), np.ones(1))
    write_csv(tmp_path / "truth.csv", truth)
    predicted = write_predictions(tmp_path / "p.csv", ["a"], points + [0.3, 0.4])
    files = predicted, tmp_path / "truth.csv"
    run = score_files(*files, "cofw", tmp_path / "out", normaliser=normaliser)
    assert run.result["nme"] == pytest.approx(50 / length, abs=1e-9)
    stored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert stored["normaliser"] == normaliser and stored["normaliser_length"]


def test_zero_lengths_are_reported_by_image(tmp_path, capsys):
    records = make_records()
    records.points[[0, 2], 17] = records.points[[0, 2], 16]
    write_csv(tmp_path / "truth.csv", records)
    arguments = [f"--predictions={tmp_path}/truth.csv", f"--truth={tmp_path}/truth.csv"]
    command = ["evaluate", *arguments, "--scheme=cofw", f"--output={tmp_path}/out"]
    assert cli.main([*command, "--normaliser=inter-pupil"]) == 2
    error = capsys.readouterr().err
    assert "inter-pupil normaliser" in error and "is zero for a.jpg, c.jpg" in error
    assert not (tmp_path / "out").exists()


def test_a_file_of_annotations_scores_as_perfect_predictions(tmp_path):
    write_csv(tmp_path / "truth.csv", make_records())
    files = tmp_path / "truth.csv", tmp_path / "truth.csv"
    result = score_files(*files, "cofw", tmp_path).result
    assert result["nme"] == result["fr@0.08"] == 0 and result["auc@0.08"] == 1


def test_per_image_csv_can_be_scored_again(tmp_path):
    records = make_records()
    write_csv(tmp_path / "truth.csv", records)
    predictions = (records.points + 0.7).astype(np.float32)
    first = write_results(tmp_path / "1", records, predictions, COFW, METADATA)
    files = tmp_path / "1" / "per_image.csv", tmp_path / "truth.csv"
    assert score_files(*files, "cofw", tmp_path / "2").result["nme"] == first.result["nme"]
    files = tmp_path / "2" / "per_image.csv", tmp_path / "2" / "annotations.csv"
    assert score_files(*files, "cofw", tmp_path / "2").result["nme"] == first.result["nme"]


def test_aflw_predictions_need_no_box_size(tmp_path):
    points = np.zeros((2, 19, 2))
    sizes = np.array([100.0, 50.0])
    truth = Records(("a", "b"), tmp_path, points, np.ones((2, 2)), sizes, sizes)
    write_csv(tmp_path / "truth.csv", truth)
    predictions = write_predictions(tmp_path / "p.csv", ["a", "b"], points + [3, 4])
    result = score_files(predictions, tmp_path / "truth.csv", "aflw", tmp_path).result
    assert result["nme"] == pytest.approx(7.5) and result["normaliser"] == "box"
    assert result["normaliser_length"] == "box_size column"


def test_faces_of_one_image_match_in_order(tmp_path):
    records = make_records(("a.jpg", "b.jpg", "a.jpg"))
    write_csv(tmp_path / "truth.csv", records)
    order = [1, 0, 2]  # the two faces of a.jpg keep their order
    names = [records.names[i] for i in order]
    path = write_predictions(tmp_path / "p.csv", names, records.points[order])
    assert score_files(path, tmp_path / "truth.csv", "cofw", tmp_path).result["nme"] == 0


def test_unmatched_images_are_reported_together(tmp_path):
    write_csv(tmp_path / "truth.csv", make_records(("a.jpg", "b.jpg", "c.jpg", "d.jpg", "d.jpg")))
    names = ["a.jpg", "c.jpg", "c.jpg", "d.jpg", "new.jpg"]
    path = write_predictions(tmp_path / "p.csv", names, np.zeros((5, 29, 2)))
    with pytest.raises(HRNetError) as caught:
        score_files(path, tmp_path / "truth.csv", "cofw", tmp_path / "out")
    message = str(caught.value)
    assert "\n" not in message and "p.csv" in message and "truth.csv" in message
    assert "no prediction for b.jpg;" in message
    assert "no such image in the truth: new.jpg;" in message
    assert "c.jpg (2 rows, truth 1), d.jpg (1 rows, truth 2)" in message
    assert not (tmp_path / "out").exists()


def test_long_lists_of_images_are_cut(tmp_path):
    write_csv(tmp_path / "truth.csv", make_records([f"{i}.jpg" for i in range(20)]))
    path = write_predictions(tmp_path / "p.csv", ["0.jpg"], np.zeros((1, 29, 2)))
    with pytest.raises(HRNetError, match=r"1\.jpg, 2\.jpg, .*5\.jpg and 14 more$"):
        score_files(path, tmp_path / "truth.csv", "cofw", tmp_path)


@pytest.mark.parametrize(
    ("landmarks", "expected"),
    [
        (28, "lacks original_28_x, original_28_y"),
        (68, "too many: original_29_x"),
    ],
)
def test_predictions_of_another_scheme_are_refused(tmp_path, landmarks, expected):
    write_csv(tmp_path / "truth.csv", make_records(("a.jpg",)))
    path = write_predictions(tmp_path / "p.csv", ["a.jpg"], np.zeros((1, landmarks, 2)))
    with pytest.raises(HRNetError, match=expected):
        score_files(path, tmp_path / "truth.csv", "cofw", tmp_path)


def test_predicted_text_that_is_no_number_is_named(tmp_path):
    write_csv(tmp_path / "truth.csv", make_records(("a.jpg",)))
    points = np.zeros((1, 29, 2))
    points[0, 7, 1] = np.inf
    path = write_predictions(tmp_path / "p.csv", ["a.jpg"], points)
    with pytest.raises(HRNetError, match="p.csv, line 2, column original_7_y: 'inf'"):
        score_files(path, tmp_path / "truth.csv", "cofw", tmp_path)


def test_repeated_columns_are_refused(tmp_path):
    write_csv(tmp_path / "truth.csv", make_records(("a.jpg",)))
    path = write_predictions(
        tmp_path / "p.csv", ["a.jpg"], np.zeros((1, 29, 2)), extra=["original_3_x"]
    )
    with pytest.raises(HRNetError, match="too many: original_3_x"):
        score_files(path, tmp_path / "truth.csv", "cofw", tmp_path)


def test_mean_shape_of_faces_that_differ_by_their_box_is_exact():
    shape = np.random.default_rng(1).uniform(-0.5, 0.5, (29, 2))
    records = make_records()
    centers, sides = np.array([[50, 60], [7, 8], [90, 10.0]]), np.array([100.0, 200, 400])
    points = centers[:, None] + sides[:, None, None] * shape
    records = Records(records.names, records.root, points, centers, sides)
    np.testing.assert_allclose(mean_shape(records), shape)
    np.testing.assert_allclose(place_in_boxes(shape, records), points)
    assert mean_shape_nme(records[:2], records[2:], COFW) == pytest.approx(0, abs=1e-9)


def test_mean_shape_baseline_on_300w(shared):
    folder = shared / "data" / "300w"
    train, valid = (
        read_csv(folder / f"face_landmarks_300w_{split}.csv", folder / "images", 68)
        for split in ("train", "valid")
    )
    assert mean_shape_nme(train, valid, SCHEMES["300w"]) == pytest.approx(17.46, abs=0.01)
