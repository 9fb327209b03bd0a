"""The table of annotated faces and the official CSV files."""

import os
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hrnet_jax.data.records import Records, point_columns, read_csv, write_csv
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import open_atomically

HEADER = "image_name,scale,center_w,center_h,original_0_x,original_0_y,original_1_x,original_1_y"
ROWS = ["a.jpg,0.5,10,20,1,2,3,4", "sub/b.jpg,0.25,11.5,21,5,6,-7,8e1"]


def write(folder, *lines, encoding="utf-8", end="\n"):
    path = folder / "faces.csv"
    path.write_bytes((end.join(lines) + end).encode(encoding))
    return path


def error_of(path, num_landmarks=2):
    with pytest.raises(HRNetError) as caught:
        read_csv(path, "images", num_landmarks)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


def test_reads_the_official_columns(tmp_path):
    records = read_csv(write(tmp_path, HEADER, *ROWS), "images", 2)
    assert records.names == ("a.jpg", "sub/b.jpg") and len(records) == 2
    assert records.root == Path("images") and records.path(1) == Path("images/sub/b.jpg")
    assert records.points.dtype == records.centers.dtype == records.sides.dtype == np.float64
    np.testing.assert_array_equal(records.points, [[[1, 2], [3, 4]], [[5, 6], [-7, 80]]])
    np.testing.assert_array_equal(records.centers, [[10, 20], [11.5, 21]])
    np.testing.assert_array_equal(records.sides, [100, 50])
    assert records.box_sizes is None


def test_one_more_column_is_the_box_size_of_aflw(tmp_path):
    header = HEADER.replace("scale", "scale,box_size")
    records = read_csv(write(tmp_path, header, "a.jpg,0.5,100,10,20,1,2,3,4"), ".", 2)
    np.testing.assert_array_equal(records.box_sizes, [100])
    np.testing.assert_array_equal(records.centers, [[10, 20]])
    np.testing.assert_array_equal(records.points, [[[1, 2], [3, 4]]])


def test_columns_are_known_by_their_names_wherever_they_stand(tmp_path):
    header = (
        "center_h,original_1_x,original_1_y,scale,original_0_x,center_w,image_name,original_0_y"
    )
    records = read_csv(write(tmp_path, header, "20,3,4,0.5,1,10,a.jpg,2"), ".", 2)
    assert records.names == ("a.jpg",) and records.scales == [0.5]
    np.testing.assert_array_equal(records.centers, [[10, 20]])
    np.testing.assert_array_equal(records.points[0], [[1, 2], [3, 4]])
    message = error_of(write(tmp_path, ",".join(f"column{i}" for i in range(8)), *ROWS))
    assert "column 2 ('column1') is neither" in message
    assert "lacks scale, center_w, center_h" in error_of(write(tmp_path, "a,x0,y0,x1,y1", *ROWS))


def test_empty_cells_are_landmarks_that_are_not_annotated(tmp_path):
    rows = ["a.jpg,0.5,10,20,,,3,4", "b.jpg,0.5,10,20,1,2,NaN,nan"]
    records = read_csv(write(tmp_path, HEADER, *rows), ".", 2)
    np.testing.assert_array_equal(records.points[0], [[np.nan, np.nan], [3, 4]])
    np.testing.assert_array_equal(records.points[1], [[1, 2], [np.nan, np.nan]])
    write_csv(tmp_path / "again.csv", records)
    assert "a.jpg,0.5,10.0,20.0,,,3.0,4.0\n" in (tmp_path / "again.csv").read_text()
    np.testing.assert_array_equal(read_csv(tmp_path / "again.csv", ".", 2).points, records.points)


def test_bom_crlf_blank_lines_and_quoted_names(tmp_path):
    lines = [HEADER, '"a, b ""c"".jpg",0.5,10,20,1,2,3,4', "", ROWS[1], "  ", ""]
    records = read_csv(write(tmp_path, *lines, encoding="utf-8-sig", end="\r\n"), ".", 2)
    assert records.names == ('a, b "c".jpg', "sub/b.jpg")
    np.testing.assert_array_equal(records.sides, [100, 50])


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([""], "is empty"),
        ([HEADER], "no faces"),
        ([HEADER, "", " "], "no faces"),
        (ROWS, "no header line"),
        ([HEADER, ROWS[0], ROWS[1] + ",9"], "line 3: 9 columns, but the header has 8"),
        ([HEADER, ROWS[0], "", ROWS[1].rpartition(",")[0]], "line 4: 7 columns"),
        ([HEADER, ROWS[0].replace("0.5", "big")], "line 2, column scale: 'big' is not a finite"),
        ([HEADER, *ROWS, "c.jpg,1,2,3,4,5,nan,7"], "line 4: landmark 1 has only one of x and y"),
        ([HEADER, *ROWS, "c.jpg,1,2,3,4,5,-inf,7"], "line 4, column original_1_x: '-inf'"),
        ([HEADER, "c.jpg,1,inf,3,4,5,6,7"], "line 2, column center_w: 'inf'"),
        ([HEADER, "c.jpg,1,2,3,4,,6,7"], "line 2: landmark 0 has only one of x and y"),
        ([HEADER, "c.jpg,1,2,3,,,,"], "line 2: no landmark is annotated"),
        ([HEADER, "c.jpg,1,,3,4,5,6,7"], "line 2, column center_w: nan must be a number"),
        ([HEADER, ROWS[0], ROWS[1].replace("0.25", "0")], "line 3, column scale: 0 must be above"),
        ([HEADER, ROWS[0].replace("0.5", "-1")], "line 2, column scale: -1 must be above zero"),
        ([HEADER, '"a.jpg'], "columns"),
    ],
)
def test_refuses_damaged_files_naming_the_place(tmp_path, lines, expected):
    assert expected in error_of(write(tmp_path, *lines))


def test_refuses_a_box_size_of_zero(tmp_path):
    header = HEADER.replace("scale", "scale,box_size")
    message = error_of(write(tmp_path, header, "a.jpg,0.5,0,10,20,1,2,3,4"))
    assert "line 2, column box_size: 0 must be above zero" in message


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../a.jpg",
        "sub/../../a.jpg",
        "..",
        "C:\\a.jpg",
        "..\\a.jpg",
        "\\\\host\\x",
        "",
    ],
)
def test_refuses_image_names_outside_the_root(tmp_path, name):
    message = error_of(write(tmp_path, HEADER, ROWS[0], f'"{name}",0.5,10,20,1,2,3,4'))
    assert "line 3, column image_name" in message and repr(name) in message


def test_dots_inside_an_image_name_are_fine(tmp_path):
    records = read_csv(write(tmp_path, HEADER, "..a/b..c.jpg,0.5,10,20,1,2,3,4"), ".", 2)
    assert records.names == ("..a/b..c.jpg",)


def test_wrong_number_of_landmarks_names_the_scheme_that_fits(tmp_path):
    header = HEADER.split(",")[:4] + [f"original_{i}_{axis}" for i in range(98) for axis in "xy"]
    path = write(tmp_path, ",".join(header), "a.jpg" + ",1" * (len(header) - 1))
    assert re.search("98 landmarks .* the wflw scheme.* 68 are expected", error_of(path, 68))
    assert "no known scheme" in error_of(write(tmp_path, HEADER, *ROWS), 68)
    box = "image_name,scale,center_w,center_h"
    assert "0 landmarks" in error_of(write(tmp_path, box, "a.jpg,1,2,3"), 68)


def test_refuses_what_is_not_a_text_file(tmp_path):
    assert "cannot read" in error_of(tmp_path / "absent.csv")
    assert "cannot read" in error_of(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xd8\xff\xe0 image")
    assert "not a UTF-8 CSV file" in error_of(tmp_path / "binary.csv")


def test_subsets_keep_every_column():
    records = Records(
        names=("a", "b", "c"),
        root=Path("images"),
        points=np.arange(12.0).reshape(3, 2, 2),
        centers=np.arange(6.0).reshape(3, 2),
        sides=np.array([1.0, 2.0, 3.0]),
        box_sizes=np.array([4.0, 5.0, 6.0]),
    )
    for index in (slice(1, None), [1, 2], np.array([False, True, True])):
        subset = records[index]
        assert subset.names == ("b", "c") and subset.root == records.root
        for name in ("points", "centers", "sides", "box_sizes"):
            np.testing.assert_array_equal(getattr(subset, name), getattr(records, name)[1:])
    assert records[-1].names == ("c",) and records[:16].names == records.names
    assert [face.names[0] for face in records] == ["a", "b", "c"]


def test_image_opens_the_file_of_the_row(tmp_path):
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (5, 4), (10, 20, 30)).save(tmp_path / "sub" / "b.png")
    path = write(tmp_path, HEADER, ROWS[0], ROWS[1].replace("jpg", "png"))
    records = read_csv(path, tmp_path, 2)
    image = records.image(1)
    assert image.shape == (4, 5, 3) and image.dtype == np.uint8
    assert image[0, 0].tolist() == [10, 20, 30]
    with pytest.raises(HRNetError, match=re.escape("a.jpg")):
        records.image(0)


NUMBERS = st.floats(-1e6, 1e6)
NAMES = st.text("ab ,\"'éß漢\n", min_size=1).filter(str.strip)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_written_files_read_back_to_the_same_bits(data):
    count, landmarks = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))

    def draw(shape, values=NUMBERS):
        size = int(np.prod(shape))
        return np.array(data.draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)

    positive = st.floats(1e-6, 1e6)
    sides = st.integers(1, 10**9).map(lambda thousandths: thousandths / 1000)  # decimals
    records = Records(
        names=tuple(data.draw(st.lists(NAMES, min_size=count, max_size=count))),
        root=Path("images"),
        points=draw((count, landmarks, 2)),
        centers=draw((count, 2)),
        sides=draw((count,), sides),
        box_sizes=draw((count,), positive) if data.draw(st.booleans()) else None,
    )
    with tempfile.TemporaryDirectory() as folder:
        write_csv(Path(folder) / "faces.csv", records)
        again = read_csv(Path(folder) / "faces.csv", "images", landmarks)
    assert again.names == records.names
    for name in ("points", "centers", "sides", "scales"):
        np.testing.assert_array_equal(getattr(again, name), getattr(records, name))
    assert (again.box_sizes is None) == (records.box_sizes is None)
    if records.box_sizes is not None:
        np.testing.assert_array_equal(again.box_sizes, records.box_sizes)


def test_a_large_file_is_read_in_seconds(tmp_path):
    """2,000 faces of 98 points; 20,000 take under 3 s on an idle machine."""
    rows = [f"{i}.jpg,0.5,10,20" + ",123.456" * 196 for i in range(2000)]
    header = ",".join(HEADER.split(",")[:4] + point_columns(98))
    path = write(tmp_path, header, *rows)
    start = time.process_time()
    assert read_csv(path, ".", 98).points.shape == (2000, 98, 2)
    assert time.process_time() - start < 2


def test_open_atomically_leaves_the_old_file_after_an_error(tmp_path):
    path = tmp_path / "new folder" / "file.txt"
    with open_atomically(path) as file:
        file.write("old")
    with pytest.raises(KeyError), open_atomically(path) as file:
        file.write("half")
        raise KeyError
    assert path.read_text() == "old" and os.listdir(path.parent) == ["file.txt"]
    with pytest.raises(HRNetError, match="cannot write .*file.txt"):
        with open_atomically(path / "below a file" / "file.txt"):
            pass


def test_real_annotations_hold_boxes_of_their_landmarks(shared):
    """The official rule: centre and scale from the floored and ceiled extent of the landmarks."""
    folder = shared / "data" / "300w"
    records = read_csv(folder / "face_landmarks_300w_valid.csv", folder / "images", 68)
    assert len(records) == 200 and records.path(0).is_file()
    low, high = np.floor(records.points.min(axis=1)), np.ceil(records.points.max(axis=1))
    np.testing.assert_allclose(records.centers, (low + high) / 2)
    np.testing.assert_allclose(records.sides, (high - low).max(axis=1))
