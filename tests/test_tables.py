"""CSV files within bounds, and sidecars of annotation files."""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from hrnet_jax.data import attributes, tables
from hrnet_jax.data.records import Records, read_csv, write_csv
from hrnet_jax.errors import HRNetError

HEADER = "image_name,scale,center_w,center_h,original_0_x,original_0_y\n"
ROOT = Path(__file__).resolve().parent.parent

READ_WITH_LITTLE_MEMORY = """
import resource, sys
from hrnet_jax.data.records import read_csv
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**29,) * 2)
try:
    read_csv(sys.argv[1], "images", 1)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_20_million_rows_are_refused_within_half_a_gigabyte(tmp_path):
    pipe = tmp_path / "endless.csv"
    os.mkfifo(pipe)

    def feed():
        block = "a.jpg,1,2,3,4,5\n" * 10_000
        try:
            with open(pipe, "w") as file:
                file.write(HEADER)
                for _ in range(2000):
                    file.write(block)
        except BrokenPipeError:
            pass

    feeder = threading.Thread(target=feed)
    feeder.start()
    done = subprocess.run(
        [sys.executable, "-c", READ_WITH_LITTLE_MEMORY, pipe],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    feeder.join()
    assert done.stdout == f"HRNetError {pipe} has more than 1,000,000 rows: split it\n", done.stderr


@pytest.mark.parametrize("text", ["," * 2_000_000, '"' + "a\n" * 100_000, '"\n",' * 500_000])
def test_endless_rows_are_refused(tmp_path, text):
    path = tmp_path / "wide.csv"
    path.write_text(HEADER + text)
    with pytest.raises(HRNetError, match="row of more than 1,000,000|not a UTF-8 CSV") as caught:
        read_csv(path, "images", 1)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["=cmd()", "=1+1", "+a", "@SUM(A1)", " =x", "-2+3|' /C calc'!A0"])
def test_formulas_are_refused_as_image_names(tmp_path, name):
    path = tmp_path / "faces.csv"
    path.write_text(HEADER + f'"{name}",1,2,3,4,5\n')
    with pytest.raises(HRNetError, match=r"faces.csv, line 2, column image_name: .* formula"):
        read_csv(path, "images", 1)


def test_formulas_are_no_numbers(tmp_path):
    path = tmp_path / "faces.csv"
    path.write_text(HEADER + "a.jpg,1,2,3,=cmd(),5\n")
    with pytest.raises(HRNetError, match=r"line 2, column original_0_x: '=cmd\(\)' is not a"):
        read_csv(path, "images", 1)


def test_tables_of_one_and_of_no_column(tmp_path):
    path = tmp_path / "faces.csv"
    path.write_text(HEADER + "a.jpg,1,2,3,4,5\nb.jpg,6,7,8,9,10\n")
    one = tables.read_table(path, lambda header: (0, [2]))
    assert one.names == ("a.jpg", "b.jpg") and one.numbers.tolist() == [[2], [7]]
    assert one.place(1, 0) == f"{path}, line 3, column center_w"
    assert tables.read_table(path, lambda header: (0, [])).numbers.shape == (2, 0)


def records(**columns):
    made = Records(
        names=("a.jpg", "b.jpg", "c.jpg"),
        root=Path("images"),
        points=np.arange(12.0).reshape(3, 2, 2),
        centers=np.ones((3, 2)),
        sides=np.full(3, 200.0),
    )
    return dataclasses.replace(made, **columns)


FULL = {
    "subsets": {"pose": np.array([True, False, True]), "make-up": np.zeros(3, bool)},
    "rectangles": np.arange(12).reshape(3, 4) + 0.125,
    "visible": np.array([[True, False], [True, True], [False, False]]),
}


@pytest.mark.parametrize("keys", [[], ["subsets"], ["rectangles"], ["visible"], list(FULL)])
def test_sidecars_read_back(tmp_path, keys):
    path = tmp_path / "faces.csv"
    written = records(**{key: FULL[key] for key in keys})
    write_csv(path, written)
    attributes.write_attributes(path, records(**FULL))  # of an earlier run
    attributes.write_attributes(path, written)
    assert attributes.attributes_path(path).exists() == bool(keys)
    again = attributes.read_attributes(path, read_csv(path, "images", 2))
    assert list(again.subsets) == list(written.subsets)
    for name, mask in written.subsets.items():
        np.testing.assert_array_equal(again.subsets[name], mask)
    for key in ("rectangles", "visible"):
        before, after = getattr(written, key), getattr(again, key)
        assert (before is None) == (after is None)
        if before is not None:
            assert before.dtype == after.dtype or key == "rectangles"
            np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,pose\na.jpg,1\n", "its header must be image_name"),
        ("image_name\na.jpg\n", "its header must be image_name"),
        ("image_name,pose,pose\na.jpg,1,1\n", "each once"),
        ("image_name,pose\na.jpg,1\nb.jpg,0\n", "has 2 faces, but faces.csv 3"),
        ("image_name,pose\na.jpg,1\nc.jpg,0\nb.jpg,0\n", "line 3: 'c.jpg' stands where"),
        ("image_name,pose\na.jpg,1\nb.jpg,2\nc.jpg,0\n", "line 3, column pose: 2 is neither"),
        ("image_name,pose\na.jpg,1\nb.jpg,x\nc.jpg,0\n", "line 3, column pose: 'x' is not a"),
        ("image_name,x0,y0,x1\na.jpg,1,2,3\nb.jpg,1,2,3\nc.jpg,1,2,3\n", "a rectangle is x0"),
        ("image_name,visible_0\na.jpg,1\nb.jpg,1\nc.jpg,1\n", "visible_0 … visible_1"),
    ],
)
def test_sidecars_that_do_not_fit_are_refused(tmp_path, text, expected):
    path = tmp_path / "faces.csv"
    attributes.attributes_path(path).write_text(text)
    with pytest.raises(HRNetError) as caught:
        attributes.read_attributes(path, records())
    assert "faces.attributes.csv" in str(caught.value) and expected in str(caught.value)
