"""Faces of which some landmarks are not annotated: every reader, and everything that measures."""

import json

import h5py
import numpy as np
import pytest

from hrnet_jax import cli
from hrnet_jax.data.attributes import read_attributes
from hrnet_jax.data.records import read_csv, write_csv
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.baseline import mean_shape, mean_shape_nme
from hrnet_jax.geometry import landmark_box
from hrnet_jax.schemes import get_scheme
from tests import data_trees

HOLE = 1  # the landmark that is not there
NONE = [np.nan, np.nan]


def csv(source, mark=("", "")):
    points = data_trees.points(3).tolist()
    points[HOLE] = mark
    data_trees.picture(source / "a.jpg")
    cells = ",".join(f"{x},{y}" for x, y in points)
    (source / "train.csv").write_text(f"image_name,x0,y0,x1,y1,x2,y2\na.jpg,{cells}\n")
    return "custom"


def official(source, mark=("", "")):
    data_trees.picture(source / "images/a.jpg")
    path = data_trees.official_csv(source / "face_landmarks_aflw_train.csv", ["a.jpg"], 19, 50)
    header, line = path.read_text().splitlines()
    cells = line.split(",")
    cells[5 + 2 * HOLE : 7 + 2 * HOLE] = map(str, mark)
    path.write_text(f"{header}\n{','.join(cells)}\n")
    return "aflw"


def coco(source, mark=(0, 0)):
    points = data_trees.points(3).tolist()
    points[HOLE] = mark
    data_trees.picture(source / "images/a.jpg")
    visible = 0 if mark == (0, 0) else 2
    keypoints = [[*point, visible if i == HOLE else 2] for i, point in enumerate(points)]
    annotation = {"image_id": 7, "keypoints": sum(keypoints, []), "bbox": None}
    content = {"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [annotation]}
    (source / "train.json").write_text(json.dumps(content))
    return "coco"


def pts(source, mark=("nan", "nan")):
    lines = data_trees.pts_text(data_trees.points(3)).splitlines()
    lines[3 + HOLE] = " ".join(map(str, mark))
    data_trees.picture(source / "train/a.jpg")
    (source / "train/a.pts").write_text("\n".join(lines))
    return "custom"


def w300(source, mark=("nan", "nan")):
    data_trees.w300(source)
    path = source / "afw/134212_1.pts"
    lines = path.read_text().splitlines()
    lines[3 + HOLE] = " ".join(map(str, mark))
    path.write_text("\n".join(lines))
    return "300w"


def wflw(source, mark=("nan", "nan")):
    data_trees.wflw(source)
    (path,) = source.rglob("list_98pt_rect_attr_train.txt")
    first, *others = path.read_text().splitlines()
    words = first.split(" ")
    words[2 * HOLE : 2 * HOLE + 2] = map(str, mark)
    path.write_text("\n".join([" ".join(words), *others]))
    return "wflw"


def cofw(source, mark=(np.nan, np.nan)):
    data_trees.cofw(source)
    with h5py.File(source / "COFW_train_color.mat", "r+") as mat:
        mat["phisTr"][HOLE, 0], mat["phisTr"][29 + HOLE, 0] = mark
    return "cofw"


READERS = [csv, official, coco, pts, w300, wflw, cofw]


def prepare(tmp_path, make, *options, **settings):
    (tmp_path / "source").mkdir(parents=True)
    name = make(tmp_path / "source", **settings)
    arguments = [f"--source={tmp_path / 'source'}", f"--output={tmp_path / 'out'}", *options]
    assert cli.main(["data", "prepare", name, *arguments]) == 0
    (path,) = (tmp_path / "out").glob("*train.csv")
    return read_attributes(path, read_csv(path, tmp_path / "out" / "images"))


@pytest.mark.parametrize("make", READERS)
def test_every_reader_keeps_the_face_and_counts(tmp_path, capsys, make):
    records = prepare(tmp_path, make)
    absent = np.isnan(records.points).any(axis=-1)
    assert np.argwhere(absent).tolist() == [[0, HOLE]]
    if make is not official:  # whose boxes are its own
        center, side = landmark_box(records.points[0])
        assert records.centers[0].tolist() == center.tolist() and records.sides[0] == side
    said = f"1 landmarks of 1 faces (of {len(records)}) are not annotated"
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("make", READERS)
@pytest.mark.parametrize(("mark", "option"), [((-1, -1), "-1"), ((-9, 0), "-9,0")])
def test_a_mark_means_not_annotated_where_it_is_said(tmp_path, make, mark, option):
    records = prepare(tmp_path, make, f"--missing={option}", mark=mark)
    assert np.argwhere(np.isnan(records.points).any(axis=-1)).tolist() == [[0, HOLE]]


@pytest.mark.parametrize("make", READERS)
def test_an_unexplained_mark_is_a_warning_with_count_and_place(tmp_path, capsys, make):
    records = prepare(tmp_path, make, mark=(-1, -1))
    assert not np.isnan(records.points).any() and records.points[0, HOLE].tolist() == [-1, -1]
    out = capsys.readouterr().out
    assert "1 landmarks lie at (-1,-1), the first is landmark 1 of" in out and "--missing=-1" in out


def test_zeros_are_a_warning_when_there_are_several_far_from_the_face(tmp_path, capsys):
    def faces(source, rows):
        data_trees.picture(source / "a.jpg", (300, 300))
        (source / "train.csv").write_text("image_name,x0,y0,x1,y1,x2,y2\n" + "\n".join(rows))
        return "custom"

    for rows, warned in (
        (["a.jpg,200,200,250,220,0,0"], False),  # one may be
        (["a.jpg,20,20,25,90,0,0"] * 2, False),  # a face in the corner
        (["a.jpg,200,200,250,220,0,0"] * 2, True),
    ):
        prepare(tmp_path / str(warned) / str(len(rows)) / rows[0][6:8], faces, rows=rows)
        assert ("2 landmarks lie at (0,0)" in capsys.readouterr().out) == warned


def test_a_wrong_mark_is_refused(tmp_path, capsys):
    for value in ("x", "1,2,3", ""):
        command = ["data", "prepare", "wflw", "--source=a", "--output=b", f"--missing={value}"]
        assert cli.main(command) == 2
        assert "--missing: give an x and a y" in capsys.readouterr().err


def sixty_eight(folder, holes=()):
    """Four faces of 300W's 68 points, predicted 3 pixels to the right, with NaN at (row, landmark).

    Returns the truth as it is written.
    """
    folder.mkdir(parents=True)
    path = data_trees.official_csv(folder / "truth.csv", [f"{i}.jpg" for i in range(4)], 68)
    truth = read_csv(path, folder)
    for name in truth.names:
        data_trees.picture(folder / "images" / name)
    moved = truth.points + (3, 0)
    names = [f"original_{i}_{axis}" for i in range(68) for axis in "xy"]
    lines = [",".join([n, *map(str, p.ravel())]) for n, p in zip(truth.names, moved, strict=True)]
    (folder / "predictions.csv").write_text("\n".join([",".join(["image_name", *names]), *lines]))
    for row, landmark in holes:
        truth.points[row, landmark] = np.nan
    write_csv(path, truth)
    return truth


def score(folder):
    files = [f"--{name}={folder / name}.csv" for name in ("predictions", "truth")]
    assert cli.main(["evaluate", *files, "--scheme=300w", f"--output={folder / 'eval'}"]) == 0
    return json.loads((folder / "eval/metrics.json").read_text())


def test_scores_and_report_use_the_landmarks_that_are_there(tmp_path, capsys):
    whole = sixty_eight(tmp_path / "whole")
    one = score(tmp_path / "whole")
    assert "not_annotated" not in str(one)
    capsys.readouterr()
    # All errors of a face are the same: fewer landmarks leave its NME. Face 3 lacks an eye corner.
    sixty_eight(tmp_path / "holes", [(0, 5), (0, 6), (1, 60), (3, 36)])
    two = score(tmp_path / "holes")
    lengths = np.linalg.norm(whole.points[:, 36] - whole.points[:, 45], axis=1)
    np.testing.assert_allclose(one["nme"], (300 / lengths).mean())
    np.testing.assert_allclose(two["nme"], (300 / lengths[:3]).mean())
    assert (one["count"], two["count"]) == (4, 3)
    keys = "landmarks_not_annotated", "faces_partly_annotated", "faces_not_measured"
    assert [two[key] for key in keys] == [4, 3, 1]
    said = "4 landmarks of 3 faces are not annotated"
    assert said in capsys.readouterr().out
    lines = (tmp_path / "holes/eval/per_image.csv").read_text().splitlines()
    assert lines[4].startswith("3.jpg,,") and not lines[3].startswith("2.jpg,,")
    path = tmp_path / "r.html"
    assert cli.main(["report", str(tmp_path / "holes/eval"), f"--output={path}"]) == 0
    page = path.read_text()
    assert said in page and "66 of 68 landmarks annotated" in page and "3.jpg" not in page


def test_the_mean_shape_is_that_of_the_annotated_faces(tmp_path):
    scheme = get_scheme("300w")
    whole, holes = (
        sixty_eight(tmp_path / "whole"),
        sixty_eight(tmp_path / "holes", [(0, 5), (1, 5), (2, 7)]),
    )
    np.testing.assert_array_equal(mean_shape(holes)[5], mean_shape(whole[2:])[5])
    np.testing.assert_array_equal(mean_shape(holes)[6], mean_shape(whole)[6])
    assert np.isfinite(mean_shape_nme(holes, holes, scheme))
    holes.points[:, 9] = np.nan
    with pytest.raises(HRNetError, match="landmark 9 is annotated in none of the 4 training faces"):
        mean_shape_nme(holes, whole, scheme)
    holes.points[:, 36] = np.nan
    with pytest.raises(HRNetError, match="no face has the landmarks annotated that its errors"):
        mean_shape_nme(whole, holes, scheme)
