"""The readers of 300W, COFW, AFLW, COCO-style JSON and people's own data."""

import json
import shutil
import zipfile

import h5py
import numpy as np
import pytest

from hrnet_jax.data.attributes import read_attributes, write_attributes
from hrnet_jax.data.prepare import prepare
from hrnet_jax.data.records import read_csv
from hrnet_jax.errors import HRNetError
from hrnet_jax.geometry import landmark_box
from tests import data_trees


def opened(output, split):
    path = output / f"{split}.csv"
    return read_attributes(path, read_csv(path, output / "images"))


def refusal(*arguments, **settings):
    with pytest.raises(HRNetError) as caught:
        prepare(*arguments, **settings)
    return " ".join(str(caught.value).split())


# ---- 300W


def test_300w_is_told_by_its_folders(tmp_path):
    source, output = data_trees.w300(tmp_path / "source"), tmp_path / "out"
    prepare("300w", source, output)
    train, valid, test = (
        opened(output, f"face_landmarks_300w_{split}") for split in ("train", "valid", "test")
    )
    assert train.names == (
        "afw/134212_1.jpg",
        "helen/trainset/100032540_1.jpg",
        "lfpw/trainset/image_0001.png",
    )
    assert valid.names == (
        "helen/testset/296814969_3.jpg",
        "ibug/image_092 _01.jpg",
        "lfpw/testset/image_0001.png",
    )
    assert valid.subsets["common"].tolist() == [True, False, True]
    assert valid.subsets["challenge"].tolist() == [False, True, False]
    assert test.names == ("01_Indoor/indoor_001.png", "02_Outdoor/outdoor_001.png")
    assert test.subsets["indoor"].tolist() == [True, False]
    # The files' values, which count from 1, are not shifted.
    np.testing.assert_array_equal(valid.points[1], data_trees.points(68, seed=5))
    assert valid.path(1).read_bytes() == (source / "ibug/image_092 _01.jpg").read_bytes()


@pytest.mark.parametrize("renamed", ["pts", "jpg"])
def test_the_name_with_a_space_is_found_when_one_of_its_files_was_renamed(tmp_path, renamed):
    source = data_trees.w300(tmp_path / "source")
    path = source / f"ibug/image_092 _01.{renamed}"
    path.rename(path.with_name(path.name.replace(" ", "")))
    valid = prepare("300w", source, tmp_path / "out").splits["face_landmarks_300w_valid"]
    assert valid.names[1].replace(" ", "") == "ibug/image_092_01.jpg"


def test_300w_from_archives_that_lack_their_top_folder(tmp_path):
    source, archives = data_trees.w300(tmp_path / "source"), tmp_path / "archives"
    archives.mkdir()
    for part in ("afw", "helen", "ibug", "lfpw", "300W"):
        with zipfile.ZipFile(archives / f"{part}.zip", "w") as archive:
            for path in sorted((source / part).rglob("*.*")):
                archive.write(path, path.relative_to(source / part))
    one = prepare("300w", source, tmp_path / "one").splits
    two = prepare("300w", archives, tmp_path / "two").splits
    for split, records in one.items():
        assert two[split].names == records.names
        np.testing.assert_array_equal(two[split].points, records.points)


POINTS = data_trees.pts_text(data_trees.points(68)).splitlines()


@pytest.mark.parametrize(
    ("lines", "line", "expected"),
    [
        (POINTS[:40], 40, "cut off"),
        (POINTS[:40] + ["}"], 41, "37 points, but the header says 68"),
        (POINTS[3:50], 47, "47 points instead of 68"),
        (POINTS[:-1] + ["1 2", "}"], 73, "69 points, but the header says 68"),
        (POINTS[:9] + ["12.5 x"] + POINTS[10:], 10, "'x' is not a number"),
        (POINTS[:9] + ["12.5"] + POINTS[10:], 10, "'12.5' is not an x and a y"),
        (POINTS[:9] + ["nan 1"] + POINTS[10:], 10, "is not finite"),
        (POINTS[:1] + ["n_points: many"] + POINTS[2:], 2, "'many' is not a number"),
        (POINTS + ["1 2"], 73, "after the closing brace"),
        (["version: 1"], None, "has no points"),
        ([], None, "has no points"),
    ],
)
def test_bad_pts_files_are_named_with_their_line(tmp_path, lines, line, expected):
    source = data_trees.w300(tmp_path / "source")
    path = source / "afw/134212_1.pts"
    path.write_text("\n".join(lines))
    message = refusal("300w", source, tmp_path / "out")
    assert expected in message
    assert message.startswith(str(path) if line is None else f"{path}, line {line}:")
    done = prepare("300w", source, tmp_path / "out", skip_bad=True)
    assert done.skipped == [message] and len(done.splits["face_landmarks_300w_train"]) == 2


def test_pts_files_without_a_picture_or_that_are_no_text(tmp_path):
    source = data_trees.w300(tmp_path / "source")
    (source / "afw/134212_1.jpg").unlink()
    message = refusal("300w", source, tmp_path / "out")
    assert message == f"{source}/afw/134212_1.pts: no picture of this name beside it"
    (source / "afw/134212_1.pts").write_bytes(b"\xff\xd8\xff\xe0 image")
    assert "134212_1.pts is not a text file" in refusal("300w", source, tmp_path / "out")
    shutil.copytree(source / "ibug", source / "copy" / "ibug")
    shutil.rmtree(source / "afw")
    assert "is annotated twice" in refusal("300w", source, tmp_path / "out")


# ---- COFW


@pytest.mark.parametrize("zipped", [False, True])
def test_cofw_keeps_pixels_occlusion_and_boxes(tmp_path, zipped):
    source, output = data_trees.cofw(tmp_path / "source"), tmp_path / "out"
    folder = source
    if zipped:
        folder = tmp_path / "zipped"
        folder.mkdir()
        with zipfile.ZipFile(folder / "COFW_color.zip", "w") as archive:
            for path in source.iterdir():
                archive.write(path, path.name)
    prepare("cofw", folder, output)
    train, test = (opened(output, f"face_landmarks_cofw_{split}") for split in ("train", "test"))
    assert train.names == ("train/0001.png", "train/0002.png", "train/0003.png")
    assert len(test) == 3
    with h5py.File(source / "COFW_train_color.mat") as mat:
        for row in range(3):
            x, y, occluded = mat["phisTr"][:, row].reshape(3, 29)
            np.testing.assert_array_equal(train.points[row], np.stack([x, y], axis=1))
            np.testing.assert_array_equal(train.visible[row], occluded == 0)
            pixels = mat[mat["IsTr"][0, row]][()].T
            grey = pixels.ndim == 2
            expected = np.stack([pixels] * 3, axis=-1) if grey else pixels
            np.testing.assert_array_equal(train.image(row), expected)
            center, side = landmark_box(train.points[row])
            np.testing.assert_array_equal(train.centers[row], center)
            assert train.sides[row] == side
    np.testing.assert_array_equal(train.rectangles, [[10, 11, 39, 41]] * 3)


def damage(path, name, value):
    with h5py.File(path, "r+") as mat:
        del mat[name]
        if value is not None:
            mat[name] = value


def outside(path, name):
    with h5py.File(path.with_name("other.h5"), "w") as other:
        other["x"] = np.zeros((87, 3))
    damage(path, name, h5py.ExternalLink("other.h5", "x"))


def bad_reference(path, value):
    with h5py.File(path, "r+") as mat:
        mat["IsTr"][0, 1] = mat.create_dataset("bad", data=value).ref


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:9000]), "or is cut off"),
        (lambda path: path.write_bytes(b"MATLAB 5.0 MAT-file"), "no MATLAB v7.3 file"),
        (lambda path: damage(path, "phisTr", None), "has no phisTr: it holds #refs#"),
        (lambda path: damage(path, "phisTr", np.zeros((58, 3))), "its shape is (58, 3), not (87"),
        (lambda path: damage(path, "phisTr", np.zeros((87, 0))), "its shape is (87, 0)"),
        (lambda path: damage(path, "phisTr", np.full((87, 3), b"x")), "are not numbers"),
        (lambda path: damage(path, "phisTr", np.ones((87, 2))), "3 pictures, but phisTr has 2"),
        (lambda path: damage(path, "bboxesTr", np.ones((4, 2))), "3 pictures, but bboxesTr has 2"),
        (lambda path: damage(path, "phisTr", np.full((87, 3), np.nan)), "face 1: no landmark is"),
        (lambda path: outside(path, "phisTr"), "phisTr is not an array in this file"),
        (lambda path: damage(path, "IsTr", np.zeros((1, 3))), "float64 refers to no array"),
        (lambda path: bad_reference(path, np.zeros((2, 3))), "picture 2: float64 (2, 3) is no"),
        (lambda path: bad_reference(path, np.zeros((4, 3, 2), np.uint8)), "(4, 3, 2) is no"),
    ],
)
def test_bad_mat_files_are_named(tmp_path, change, expected):
    source = data_trees.cofw(tmp_path / "source")
    path = source / "COFW_train_color.mat"
    change(path)
    message = refusal("cofw", source, tmp_path / "out")
    assert message.startswith(str(path)) and expected in message
    assert not list((tmp_path).glob("out/*.csv"))


# ---- the official repository's files


def test_aflw_keeps_its_own_boxes_and_knows_the_frontal_faces(tmp_path):
    source, output = tmp_path / "source", tmp_path / "out"
    names = [f"0/image0000{i}.jpg" for i in range(4)]
    for seed, name in enumerate(names):
        data_trees.picture(source / "aflw/images" / name, seed=seed)
    train = data_trees.official_csv(source / "face_landmarks_aflw_train.csv", names, 19, 50)
    test = data_trees.official_csv(source / "face_landmarks_aflw_test.csv", names, 19, 50)
    lines = test.read_text().splitlines()
    frontal = source / "face_landmarks_aflw_test_frontal.csv"
    frontal.write_text("\n".join([lines[0], lines[2], lines[4]]))
    prepare("aflw", source, output)
    records = opened(output, "face_landmarks_aflw_test")
    np.testing.assert_array_equal(records.box_sizes, [50] * 4)
    np.testing.assert_array_equal(records.sides, [50] * 4)
    np.testing.assert_array_equal(records.centers, [[26, 27]] * 4)
    assert records.subsets["frontal"].tolist() == [False, True, False, True]
    assert opened(output, train.stem).subsets == {}

    frontal.write_text("\n".join([lines[0], lines[2].replace("image00001", "image00009")]))
    message = refusal("aflw", source, tmp_path / "other")
    assert str(frontal) in message and "'0/image00009.jpg' for one" in message
    frontal.unlink()
    data_trees.official_csv(source / "face_landmarks_aflw_train.csv", names, 19)
    assert "lacks AFLW's box_size" in refusal("aflw", source, tmp_path / "other")


def test_official_files_serve_wflw_and_300w_too(tmp_path):
    source = tmp_path / "source"
    data_trees.picture(source / "images/sub/a.jpg")
    data_trees.picture(source / "images/sub/b.jpg")
    for name, count, split, subset in (
        ("wflw", 98, "test", "largepose"),
        ("300w", 68, "valid", "challenge"),
    ):
        names = ["sub/a.jpg", "sub/b.jpg"]
        whole = source / f"face_landmarks_{name}_{split}.csv"
        data_trees.official_csv(whole, names, count)
        part = whole.with_name(f"{whole.stem}_{subset}.csv")
        part.write_text("\n".join(whole.read_text().splitlines()[:2]))
        prepare(name, source, tmp_path / name)
        records = opened(tmp_path / name, whole.stem)
        subset = "pose" if subset == "largepose" else subset
        assert {key: mask.tolist() for key, mask in records.subsets.items()} == {
            subset: [True, False]
        }
        whole.unlink()
        message = refusal(name, source, tmp_path / "other")
        assert "has no annotations of" in message or "which is not there" in message
        part.unlink()


# ---- COCO


def coco(folder, **change):
    data_trees.picture(folder / "images/a.jpg")
    keypoints = [*zip(*data_trees.points(5).T.tolist(), [2, 2, 1, 2, 2], strict=True)]
    annotation = {
        "image_id": 7,
        "keypoints": [value for point in keypoints for value in point],
        "bbox": [10, 11, 20, 25],
        "center": [26.5, 27],
        "scale": 0.2,
    } | change
    content = {"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [annotation]}
    (folder / "test.json").write_text(json.dumps(content))
    return folder


def test_coco_annotations_keep_boxes_and_occlusion(tmp_path):
    prepare("coco", coco(tmp_path / "source"), tmp_path / "out")
    records = opened(tmp_path / "out", "test")
    np.testing.assert_array_equal(records.points[0], data_trees.points(5))
    assert records.visible.tolist() == [[True, True, False, True, True]]
    assert records.rectangles.tolist() == [[10, 11, 30, 36]]
    assert records.centers.tolist() == [[26.5, 27]] and records.sides.tolist() == [40]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image_id": 8}, "no image has the id 8"),
        ({"image_id": [8]}, "no image has the id [8]"),
        ({"keypoints": [1, 2, 2, 3]}, "4 keypoint values"),
        ({"keypoints": [1, 2, 2, 3, "x", 2]}, "keypoints is not a list of numbers"),
        ({"keypoints": [1, 2, 2, 3, 10**400, 2]}, "keypoints is not a list of numbers"),
        ({"keypoints": None}, "keypoints is not a list of numbers"),
        ({"keypoints": [1, 2, 2, 0, 0, 3]}, "landmark 1 has visibility 3"),
        ({"keypoints": [1, 2, 0, 3, 4, 0]}, "no landmark is annotated"),
        ({"scale": 0}, "no extent"),
        ({"center": [1]}, "center is not 2 numbers"),
        ({"bbox": [1, 2, float("inf"), 3]}, "not a finite number"),
        ({"box_size": -1}, "box_size -1 must be above zero"),
    ],
)
def test_bad_coco_annotations_are_named(tmp_path, change, expected):
    source = coco(tmp_path / "source", **change)
    message = refusal("coco", source, tmp_path / "out")
    assert message.startswith(f"{source}/test.json, annotation 1") and expected in message


def test_what_is_no_coco_file_is_refused(tmp_path):
    path = tmp_path / "source" / "a.json"
    path.parent.mkdir()
    for text, expected in (
        ("{", "is not a JSON file"),
        ("[" * 100_000, "is not a JSON file"),
        ("[]", "has no COCO annotations"),
        ('{"images": 1, "annotations": []}', "must be lists"),
        ('{"images": [{}], "annotations": []}', "needs an id"),
        ('{"images": [], "annotations": []}', "has no face"),
    ):
        path.write_text(text)
        assert expected in refusal("coco", path.parent, tmp_path / "out")


@pytest.mark.parametrize("name", ["wflw", "300w"])
def test_the_box_rule_reproduces_every_official_centre_and_scale(shared, tmp_path, name):
    """The pairs' JSON carries the official files' values; the rule starts from the landmarks."""
    prepare("coco", shared / "data" / f"{name}_pair", tmp_path / "out")
    records = opened(tmp_path / "out", f"test_{name}")
    assert len(records) >= 2
    for row in range(len(records)):
        center, side = landmark_box(records.points[row])
        np.testing.assert_array_equal(center, records.centers[row])
        assert side == records.sides[row]


def test_aflw_s_boxes_are_not_those_of_its_landmarks(shared, tmp_path):
    prepare("coco", shared / "data" / "aflw_mini", tmp_path / "out")
    records = opened(tmp_path / "out", "test_aflw")
    np.testing.assert_array_equal(records.box_sizes, [362, 128])
    np.testing.assert_allclose(records.box_sizes, records.sides)
    assert all(
        landmark_box(points)[1] != side
        for points, side in zip(records.points, records.sides, strict=True)
    )


# ---- one's own data


def test_a_csv_of_names_and_points_becomes_a_split(tmp_path):
    source = tmp_path / "source"
    data_trees.picture(source / "pictures/a.jpg")
    data_trees.picture(source / "pictures/b.png")
    (source / "train.csv").write_text("file,x0,y0,x1,y1\na.jpg,10,20,30,41.5\nb.png,1,2,3,4\n")
    data_trees.official_csv(source / "test.csv", ["a.jpg", "b.png"], 2)
    test = read_csv(source / "test.csv", "")
    test.subsets["owls"] = np.array([True, False])
    write_attributes(source / "test.csv", test)
    prepare("custom", source, tmp_path / "out")
    train = opened(tmp_path / "out", "train")
    assert train.points.tolist() == [[[10, 20], [30, 41.5]], [[1, 2], [3, 4]]]
    assert train.centers[0].tolist() == [20, 31] and train.sides[0] == 22
    assert opened(tmp_path / "out", "test").subsets["owls"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("file,x0,y0,x1\na.jpg,1,2,3\n", "column 4 ('x1'): this landmark has no y"),
        ("file,x0,y0\n../../etc/a.jpg,1,2\n", "line 2: '../../etc/a.jpg' must be a path"),
        ("file,x0,y0\n/etc/a.jpg,1,2\n", "line 2: '/etc/a.jpg' must be a path"),
        ("file,x0,y0\n=cmd(),1,2\n", "line 2: '=cmd()' would run as a formula"),
        ("file,x0,y0\na.jpg,=1+1,2\n", "line 2, column x0: '=1+1' is not a finite number"),
        ("file,x0,y0\na.jpg,1,2\n", "line 2: the face has no extent"),
    ],
)
def test_hostile_and_wrong_csv_files_are_refused_by_name(tmp_path, text, expected):
    source = tmp_path / "source"
    source.mkdir()
    (source / "faces.csv").write_text(text)
    message = refusal("custom", source, tmp_path / "out")
    assert message.startswith(str(source / "faces.csv")) and expected in message


def test_pts_files_beside_pictures_become_splits_by_folder(tmp_path):
    source = tmp_path / "source"
    for name, seed in (("train/a", 1), ("train/deep/b", 2), ("test/c", 3)):
        data_trees.picture(source / f"{name}.jpg", seed=seed)
        (source / f"{name}.pts").write_text(data_trees.pts_text(data_trees.points(5, seed)))
    prepare("custom", source, tmp_path / "out")
    train = opened(tmp_path / "out", "train")
    assert train.names == ("train/a.jpg", "train/deep/b.jpg")
    np.testing.assert_array_equal(train.points[1], data_trees.points(5, 2))
    assert opened(tmp_path / "out", "test").names == ("test/c.jpg",)
    (source / "train/a.pts").write_text("1 2\n3 4\n")
    assert "5 landmarks, but 2 in the faces before" in refusal("custom", source, tmp_path / "two")
    assert "has no annotations" in refusal("custom", tmp_path / "out/images", tmp_path / "three")
