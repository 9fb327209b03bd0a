"""Columns of anybody's CSV file by their names, and the ways such files are separated."""

import numpy as np
import pytest

from hrnet_jax import cli
from hrnet_jax.data.attributes import read_attributes
from hrnet_jax.data.columns import find_columns
from hrnet_jax.data.records import read_csv
from tests import data_trees

POINTS = [[10.5, 20.25], [30, 40], [50, 20]]
VALUES = {f"{axis}{i}": str(POINTS[i]["xy".index(axis)]) for i in range(3) for axis in "xy"}


def command(tmp_path, content, *options):
    """What `data prepare custom` makes of a file: its exit status."""
    source = tmp_path / "source"
    data_trees.picture(source / "a.jpg")
    (source / "train.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    arguments = [f"--source={source}", f"--output={tmp_path / 'out'}", *options]
    return cli.main(["data", "prepare", "custom", *arguments])


def prepared(tmp_path):
    path = tmp_path / "out" / "train.csv"
    return read_attributes(path, read_csv(path, tmp_path / "out" / "images"))


def row(keys):
    return ",".join(VALUES.get(key, key) for key in keys.split())


@pytest.mark.parametrize(
    ("header", "keys"),
    [
        ("image_name,x0,y0,x1,y1,x2,y2", "a.jpg x0 y0 x1 y1 x2 y2"),
        ("whatever,x0,y0,x1,y1,x2,y2", "a.jpg x0 y0 x1 y1 x2 y2"),
        ("image_name,x_0,x_1,x_2,y_0,y_1,y_2", "a.jpg x0 x1 x2 y0 y1 y2"),
        ("image_name,y0,x0,y1,x1,y2,x2", "a.jpg y0 x0 y1 x1 y2 x2"),
        ("x0,y0,x1,y1,x2,y2,File", "x0 y0 x1 y1 x2 y2 a.jpg"),
        ("image,x2,y2,x0,y0,x1,y1", "a.jpg x2 y2 x0 y0 x1 y1"),
        ("image,X1,Y1,X2,Y2,X10,Y10", "a.jpg x0 y0 x1 y1 x2 y2"),
        ("image,x[0],y[0],x[1],y[1],x[2],y[2]", "a.jpg x0 y0 x1 y1 x2 y2"),
        ("image,x,y,x,y,x,y", "a.jpg x0 y0 x1 y1 x2 y2"),
        ("image,x,y,x.1,y.1,x.2,y.2", "a.jpg x0 y0 x1 y1 x2 y2"),
        ("image,p0x,p0y,p1x,p1y,p2x,p2y", "a.jpg x0 y0 x1 y1 x2 y2"),
        ("image,px0,py0,px1,py1,px2,py2", "a.jpg x0 y0 x1 y1 x2 y2"),
        ("image,lm_x_0,lm_x_1,lm_x_2,lm_y_0,lm_y_1,lm_y_2", "a.jpg x0 x1 x2 y0 y1 y2"),
        ("image,gt_0_x,gt_0_y,gt_1_x,gt_1_y,gt_2_x,gt_2_y", "a.jpg x0 y0 x1 y1 x2 y2"),
        (
            "left_eye_center_x,left_eye_center_y,nose_tip_x,nose_tip_y,mouth_x,mouth_y,Image",
            "x0 y0 x1 y1 x2 y2 a.jpg",
        ),
        ("image,x_eye,y_eye,x_nose,y_nose,x_chin,y_chin", "a.jpg x0 y0 x1 y1 x2 y2"),
        ("image,b_left1_x,b_left1_y,b_chin_x,b_chin_y,z_x,z_y", "a.jpg x0 y0 x1 y1 x2 y2"),
        (",image_name,x0,y0,x1,y1,x2,y2", "0 a.jpg x0 y0 x1 y1 x2 y2"),
        ("Unnamed: 0,image_name,x0,y0,x1,y1,x2,y2", "0 a.jpg x0 y0 x1 y1 x2 y2"),
        ("id,width,height,image_name,x0,y0,x1,y1,x2,y2", "7 60 50 a.jpg x0 y0 x1 y1 x2 y2"),
        ("image_name,x0,y0,x1,y1,x2,y2,", "a.jpg x0 y0 x1 y1 x2 y2 "),
        ("image_name,x0,y0,x1,y1,x2,y2", "a.jpg x0 y0 x1 y1 x2 y2 "),
    ],
)
def test_points_are_understood_by_name(tmp_path, header, keys):
    assert command(tmp_path, f"{header}\n{row(keys)}{',' * keys.endswith(' ')}\n") == 0
    records = prepared(tmp_path)
    assert records.names == ("a.jpg",) and records.points.tolist() == [POINTS]
    assert records.rectangles is None and records.visible is None


BOXES = [
    ("bx,by,bw,bh", "5,6,60,50"),
    ("x,y,w,h", "5,6,60,50"),
    ("bbox_x,bbox_y,bbox_width,bbox_height", "5,6,60,50"),
    ("left,top,width,height", "5,6,60,50"),
    ("xmin,ymin,xmax,ymax", "5,6,65,56"),
    ("face_x_min,face_y_min,face_x_max,face_y_max", "5,6,65,56"),
    ("box_x0,box_y0,box_x1,box_y1", "5,6,65,56"),
    ("rect_x1,rect_y1,rect_x2,rect_y2", "5,6,65,56"),
    ("left,right,top,bottom", "5,65,6,56"),
]


@pytest.mark.parametrize(("names", "values"), BOXES)
@pytest.mark.parametrize("first", [True, False])
def test_boxes_beside_points_are_no_landmarks(tmp_path, names, values, first):
    points = "x0,y0,x1,y1,x2,y2", row("x0 y0 x1 y1 x2 y2")
    both = (
        [[names, points[0]], [values, points[1]]]
        if first
        else [[points[0], names], [points[1], values]]
    )
    header, cells = map(",".join, both)
    assert command(tmp_path, f"image,{header}\na.jpg,{cells}\n") == 0
    records = prepared(tmp_path)
    assert records.points.tolist() == [POINTS] and records.rectangles.tolist() == [[5, 6, 65, 56]]


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("image,x0,y0,x1", "column 4 ('x1'): this landmark has no y column"),
        ("image,x0,x1,y1", "column 2 ('x0'): this landmark has no y column"),
        ("image,x0,y0,v0,x1,y1", "column 5 ('x1'): this landmark has no visible column"),
        ("image,x0,y0,z0,x1,y1,z1", "column 4 ('z0') is neither"),
        ("image,x0,y0,conf0,x1,y1,conf1", "column 4 ('conf0') is neither"),
        ("image,x0,y0,x1,y1,label", "column 6 ('label') is neither"),
        ("image,x0,y0,x1,y1,x1", "column 6 ('x1'): this coordinate is there twice"),
        ("image,x_0,y_0,X_0,Y_0", "column 4 ('X_0'): this coordinate is there twice"),
        ("image,bx,by,x0,y0,x1,y1", "column 2 ('bx') is neither"),
        ("image,bbox_x,bbox_y,x0,y0", "column 2 ('bbox_x') is neither"),
        ("image,x0,y0,x1,y1,lm_0_x,lm_0_y", "column 6 ('lm_0_x'): landmarks are named in 2 ways"),
        ("image,true_0_x,true_0_y,pred_0_x,pred_0_y", "column 4 ('pred_0_x'): landmarks are named"),
        ("image,center_x,center_y,x0,y0", "column 2 ('center_x') is neither"),
        ("image,a,b,c,d", "column 2 ('a') is neither"),
        ("image,scale,x0,y0", "lacks center_w, center_h"),
        ("image,scale,scale,center_w,center_h,x0,y0", "column 2 ('scale'): there are several"),
        ("x0,y0,x1,y1", "no column of picture names"),
    ],
)
def test_what_is_not_certain_is_refused_by_its_column(tmp_path, capsys, header, column):
    cells = ["a.jpg", *"123456789"][: header.count(",") + 1]
    assert command(tmp_path, f"{header}\n{','.join(cells)}\n") == 2
    error = capsys.readouterr().err
    assert "train.csv" in error and column in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_sixty_eight_points_named_like_a_box_are_points():
    names = [f"face_{axis}{i}" for i in range(68) for axis in "xy"]
    columns = find_columns("f.csv", ["image", *names])
    assert columns.points == [(1 + 2 * i, 2 + 2 * i) for i in range(68)] and not columns.rectangle


@pytest.mark.parametrize(
    ("flags", "axis", "points", "visible"),
    [
        ((2, 0, 1), "v", [POINTS[0], [np.nan] * 2, POINTS[2]], [True, False, False]),
        ((1, 0, 1), "visible", POINTS, [True, False, True]),
        ((1, 0, 0), "occluded", POINTS, [False, True, True]),
    ],
)
def test_visibility_columns(tmp_path, flags, axis, points, visible):
    header = ",".join(f"x{i},y{i},{axis}{i}" for i in range(3))
    cells = ",".join(f"{VALUES[f'x{i}']},{VALUES[f'y{i}']},{flags[i]}" for i in range(3))
    assert command(tmp_path, f"image,{header}\na.jpg,{cells}\n") == 0
    records = prepared(tmp_path)
    np.testing.assert_array_equal(records.points, [points])
    assert records.visible.tolist() == [visible]


TEXT = f"image_name,x0,y0,x1,y1,x2,y2\n{row('a.jpg x0 y0 x1 y1 x2 y2')}\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.replace(",", ";"),
        TEXT.replace(",", "\t"),
        TEXT.encode("utf-16"),
        TEXT.replace(",", "\t").encode("utf-16"),
        TEXT.encode("utf-8-sig"),
        "# made by hand\n\n" + TEXT + "# the end, really\n",
        "# " + TEXT,
        TEXT.replace("\n", ",,\n"),
    ],
)
def test_separators_encodings_and_comments(tmp_path, content):
    assert command(tmp_path, content) == 0
    assert prepared(tmp_path).points.tolist() == [POINTS]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (TEXT.replace(",", ";").replace("10.5", "10,5"), "is its comma a decimal point?"),
        (TEXT.replace(",", " "), "its columns are not separated: write commas"),
        (TEXT.encode("utf-16-le"), "it may be UTF-16; save it as UTF-8"),
        (TEXT.replace("a.jpg", "é.jpg").encode("latin-1"), "save it as UTF-8"),
        (TEXT.split("\n")[1], "no header line"),
    ],
)
def test_files_that_cannot_be_read_for_certain_say_why(tmp_path, capsys, content, expected):
    assert command(tmp_path, content) == 2
    error = capsys.readouterr().err
    assert "train.csv" in error and expected in error and error.count("\n") == 1


@pytest.mark.parametrize("bad", ["a.jpg,1,2,nan,4,5,6", "a.jpg,1,2", "a.jpg,1,x,3,4,5,6"])
@pytest.mark.parametrize("official", [False, True])
def test_one_bad_row_is_left_out_and_listed_once(tmp_path, capsys, bad, official):
    text = TEXT + bad + "\n"
    if official:
        text = text.replace("image_name", "image_name,scale,center_w,center_h")
        text = text.replace("a.jpg", "a.jpg,0.2,30,30")
    assert command(tmp_path, text) == 2
    assert "line 3" in capsys.readouterr().err
    assert command(tmp_path, text, "--skip-bad") == 0
    assert prepared(tmp_path).points.tolist() == [POINTS]
    assert "left out 1 " in capsys.readouterr().out
