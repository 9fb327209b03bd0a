"""Preparing a data set: what is written, what is refused, and going on after a stop."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hrnet_jax import cli
from hrnet_jax.data.attributes import read_attributes
from hrnet_jax.data.prepare import prepare
from hrnet_jax.data.prepare.source import Source
from hrnet_jax.data.records import read_csv
from hrnet_jax.errors import HRNetError
from hrnet_jax.geometry import landmark_box
from hrnet_jax.images import read_image
from tests import data_trees

ROOT = Path(__file__).resolve().parent.parent


def opened(output, split):
    path = output / f"{split}.csv"
    return read_attributes(path, read_csv(path, output / "images"))


def files_under(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def refusal(*arguments, **settings):
    with pytest.raises(HRNetError) as caught:
        prepare(*arguments, **settings)
    return " ".join(str(caught.value).split())


def test_wflw_is_prepared_from_its_folders(tmp_path):
    source, output = data_trees.wflw(tmp_path / "source"), tmp_path / "out"
    done = prepare("wflw", source, output)
    assert list(done.splits) == ["face_landmarks_wflw_train", "face_landmarks_wflw_test"]
    assert not done.skipped
    train = opened(output, "face_landmarks_wflw_train")
    assert train.names == ("0--Parade/a.jpg", "0--Parade/a.jpg", "1--Riot/b.png")
    np.testing.assert_array_equal(train.points[1], data_trees.points(98, seed=2))
    np.testing.assert_array_equal(train.rectangles, [[10, 11, 39, 41]] * 3)
    assert {name: mask.tolist() for name, mask in train.subsets.items()} == {
        "pose": [True, False, False],
        "expression": [False, False, True],
        "illumination": [False, False, True],
        "make-up": [False, False, True],
        "occlusion": [True, False, False],
        "blur": [False, True, False],
    }
    for row in range(3):
        center, side = landmark_box(train.points[row])
        np.testing.assert_array_equal(train.centers[row], center)
        assert train.sides[row] == side
        copy = train.path(row).read_bytes()
        assert copy == (source / "WFLW_images" / train.names[row]).read_bytes()
    assert len(opened(output, "face_landmarks_wflw_test")) == 2


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "mixed"])
def test_archives_give_the_same_as_folders(tmp_path, kind):
    folder, archives = data_trees.wflw(tmp_path / "source"), tmp_path / "archives"
    archives.mkdir()
    for part in ("WFLW_images", "WFLW_annotations"):
        if kind == "zip" or (kind == "mixed" and part == "WFLW_images"):
            with zipfile.ZipFile(archives / f"{part}.zip", "w") as archive:
                for path in sorted((folder / part).rglob("*.*")):
                    archive.write(path, path.relative_to(folder))
                archive.writestr("__MACOSX/._a.jpg", "what a Mac leaves")
        elif kind == "mixed":
            (folder / part).rename(archives / part)
        else:
            with tarfile.open(archives / f"{part}.tar.gz", "w:gz") as archive:
                archive.add(folder / part, part)
    if kind == "mixed":
        data_trees.wflw(tmp_path / "again").rename(folder.with_name("fresh"))
        folder = folder.with_name("fresh")
    prepare("wflw", folder, tmp_path / "one")
    prepare("wflw", archives, tmp_path / "two")
    assert files_under(tmp_path / "one") == files_under(tmp_path / "two")


def test_crops_hold_the_same_pixels_and_the_points_move_along(tmp_path):
    source = data_trees.wflw(tmp_path / "source")
    whole = prepare("wflw", source, tmp_path / "whole").splits["face_landmarks_wflw_train"]
    prepare("wflw", source, tmp_path / "cut", crop=1.2)
    cut = opened(tmp_path / "cut", "face_landmarks_wflw_train")
    assert cut.names == (
        "0--Parade/a-face1.jpg",
        "0--Parade/a-face2.jpg",
        "1--Riot/b-face1.png",
    )
    for row in range(3):
        moved = whole.points[row, 0] - cut.points[row, 0]
        low = np.rint(moved).astype(int)
        np.testing.assert_allclose(moved, low, atol=1e-9)
        np.testing.assert_allclose(cut.points[row], whole.points[row] - low)
        np.testing.assert_allclose(cut.centers[row], whole.centers[row] - low)
        np.testing.assert_allclose(cut.rectangles[row], whole.rectangles[row] - np.tile(low, 2))
        assert cut.sides[row] == whole.sides[row]
        side = 1.2 * whole.sides[row]
        original = read_image(source / "WFLW_images" / whole.names[row])
        high = np.minimum(np.ceil(whole.centers[row] + side / 2), original.shape[1::-1])
        expected = original[low[1] : int(high[1]), low[0] : int(high[0])]
        assert cut.image(row).shape == expected.shape
        if cut.names[row].endswith(".png"):
            np.testing.assert_array_equal(cut.image(row), expected)
        else:
            assert np.abs(cut.image(row).astype(int) - expected).mean() < 20  # noise, as JPEG
    np.testing.assert_array_equal(cut.subsets["pose"], [True, False, False])


def test_a_stopped_run_goes_on_and_finished_pictures_are_not_redone(tmp_path):
    source, output = data_trees.wflw(tmp_path / "source"), tmp_path / "out"
    done = []

    def stop_after_two(pictures, total):
        for picture in pictures:
            if len(done) == 2:
                raise KeyboardInterrupt
            yield picture
            done.append(picture[0])

    with pytest.raises(KeyboardInterrupt):
        prepare("wflw", source, output, progress=stop_after_two)
    assert sorted(path.name for path in output.iterdir()) == ["images", "prepare.json"]
    assert len(list((output / "images").rglob("*.*"))) == 2
    counts = []

    def count(pictures, total):
        counts.append(total)
        return pictures

    prepare("wflw", source, output, progress=count)
    prepare("wflw", source, output, progress=count)
    assert counts == [2, 0]
    prepare("wflw", source, tmp_path / "at once")
    assert files_under(output) == files_under(tmp_path / "at once")


def test_missing_and_unreadable_pictures_stop_or_are_left_out(tmp_path):
    source, output = data_trees.wflw(tmp_path / "source"), tmp_path / "out"
    (source / "WFLW_images/1--Riot/c.jpg").unlink()
    assert "1 of 4 pictures are missing: 1--Riot/c.jpg" in refusal("wflw", source, output)
    assert not output.exists()
    cut_off = source / "WFLW_images/0--Parade/a.jpg"
    cut_off.write_bytes(cut_off.read_bytes()[:600])
    data_trees.picture(source / "WFLW_images/1--Riot/c.jpg")
    assert "0--Parade/a.jpg: the image is corrupt" in refusal("wflw", source, output)
    assert not list(output.glob("*.csv"))
    (source / "WFLW_images/1--Riot/c.jpg").unlink()
    (output / "images/1--Riot/c.jpg").unlink(missing_ok=True)

    done = prepare("wflw", source, output, skip_bad=True)
    assert len(done.skipped) == 2
    assert (output / "skipped.txt").read_text().splitlines() == done.skipped
    assert {split: len(records) for split, records in done.splits.items()} == {
        "face_landmarks_wflw_train": 1,
        "face_landmarks_wflw_test": 1,
    }
    assert opened(output, "face_landmarks_wflw_train").names == ("1--Riot/b.png",)

    data_trees.picture(cut_off)
    data_trees.picture(source / "WFLW_images/1--Riot/c.jpg")
    assert len(prepare("wflw", source, output).splits["face_landmarks_wflw_train"]) == 3
    assert not (output / "skipped.txt").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda line: line.rsplit(" ", 3)[0], "line 2: 204 columns instead of 207"),
        (lambda line: "x" + line, "line 2: 'x"),
        (lambda line: "nan " + line.split(" ", 1)[1], "line 2: landmark 0 has only one of x and y"),
        (lambda line: line.replace(" 0 ", " 2 ", 1), "line 2: an attribute is neither 0 nor 1"),
        (lambda line: "5 5 " * 98 + line.split(" ", 196)[196], "line 2: the face has no extent"),
        (lambda line: line.rsplit(" ", 1)[0] + " ../../etc/x.jpg", "'../../etc/x.jpg' must be"),
        (lambda line: line.rsplit(" ", 1)[0] + " /etc/passwd", "'/etc/passwd' must be a path"),
        (lambda line: line.rsplit(" ", 1)[0] + " =cmd()", "'=cmd()' would run as a formula"),
    ],
)
def test_bad_lines_are_named_or_left_out(tmp_path, change, expected):
    source = data_trees.wflw(tmp_path / "source")
    (path,) = source.rglob("list_98pt_rect_attr_train.txt")
    lines = path.read_text().splitlines()
    lines[1] = change(lines[1])
    path.write_text("\n".join(lines) + "\n")
    message = refusal("wflw", source, tmp_path / "out")
    assert message.startswith(f"{path}, line 2") and expected in message
    assert not (tmp_path / "out").exists()
    done = prepare("wflw", source, tmp_path / "out", skip_bad=True)
    assert len(done.splits["face_landmarks_wflw_train"]) == 2 and done.skipped == [message]


def test_archives_cannot_lead_out_and_links_in_them_are_not_read(tmp_path):
    folder = data_trees.wflw(tmp_path / "source")
    secret = tmp_path / "secret.jpg"
    data_trees.picture(secret)
    (folder / "WFLW_images/0--Parade/a.jpg").unlink()
    with tarfile.open(folder / "more.tar", "w") as archive:
        link = tarfile.TarInfo("0--Parade/a.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(link)
    assert "pictures are missing: 0--Parade/a.jpg" in refusal("wflw", folder, tmp_path / "out")
    for name in ("../../etc/x.jpg", "/etc/x.jpg", "C:\\x.jpg"):
        with zipfile.ZipFile(folder / "evil.zip", "w") as archive:
            archive.writestr(name, b"")
        message = refusal("wflw", folder, tmp_path / "out")
        assert message.startswith(f"{folder / 'evil.zip'}, member") and repr(name) in message


def test_damaged_archives_are_named(tmp_path):
    folder = data_trees.wflw(tmp_path / "source")
    for name in ("a.zip", "a.tar.gz", "a.tar"):
        (folder / name).write_bytes(b"PK\x03\x04 no archive at all" * 100)
        assert refusal("wflw", folder, tmp_path / "out").startswith(f"cannot read {folder / name}:")
        (folder / name).unlink()


def test_files_beyond_a_size_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(3 * 2**20))
    source = Source(tmp_path)
    with pytest.raises(HRNetError, match=r"bomb.zip, zeros: more than 1 MiB"):
        source.read("bomb/zeros", most=2**20)


def test_a_picture_that_could_be_several_files_is_refused(tmp_path):
    data_trees.picture(tmp_path / "a/x/1.jpg")
    data_trees.picture(tmp_path / "b/x/1.jpg")
    source = Source(tmp_path)
    with pytest.raises(HRNetError, match="2 files that 'x/1.jpg' could mean"):
        source.locate("x/1.jpg")
    assert source.locate("a/x/1.jpg") == "a/x/1.jpg" and source.locate("b/X/1.JPG") == "b/x/1.jpg"
    assert source.locate("y/1.jpg") is None


def test_output_folders_of_others_are_left_alone(tmp_path):
    source, output = data_trees.wflw(tmp_path / "source"), tmp_path / "out"
    assert "lies in the source" in refusal("wflw", source, source / "out")
    output.mkdir()
    (output / "letter.txt").write_text("mine")
    assert "is not empty" in refusal("wflw", source, output)
    (output / "letter.txt").unlink()
    prepare("wflw", source, output)
    assert json.loads((output / "prepare.json").read_text()) == {"data set": "wflw", "crop": 0.0}
    assert "was prepared with" in refusal("wflw", source, output, crop=2.0)
    assert "crop = 0.5" in refusal("wflw", source, tmp_path / "other", crop=0.5)
    assert "no folder" in refusal("wflw", tmp_path / "gone", tmp_path / "other")
    assert "It needs WFLW_images.tar.gz" in refusal("wflw", output / "images", tmp_path / "other")


PREPARE_WITH_LITTLE_MEMORY = """
import resource, sys
from hrnet_jax.data.prepare import prepare
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30,) * 2)
prepare("custom", sys.argv[1], sys.argv[2], crop=float(sys.argv[3]))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
@pytest.mark.parametrize("crop", [0, 2])
def test_a_picture_of_50_megapixels_takes_less_than_a_gigabyte(tmp_path, crop):
    source = tmp_path / "source"
    source.mkdir()
    Image.new("RGB", (8000, 6250), (90, 60, 30)).save(source / "large.jpg")
    (source / "faces.csv").write_text("image_name,x0,y0,x1,y1\nlarge.jpg,3000,2000,5000,4500\n")
    command = [
        sys.executable,
        "-c",
        PREPARE_WITH_LITTLE_MEMORY,
        source,
        tmp_path / "out",
        str(crop),
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    records = opened(tmp_path / "out", "faces")
    with Image.open(records.path(0)) as image:
        assert image.size == ((8000, 6250) if crop == 0 else (5000, 5000))


def test_the_command_reports_counts_and_what_it_left_out(tmp_path, capsys):
    source, output = data_trees.wflw(tmp_path / "source"), tmp_path / "out"
    (source / "WFLW_images/1--Riot/c.jpg").unlink()
    command = ["data", "prepare", "wflw", f"--source={source}", f"--output={output}"]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "error: 1 of 4 pictures are missing: 1--Riot/c.jpg" in error
    assert cli.main([*command, "--skip-bad"]) == 0
    out = capsys.readouterr().out
    assert "| face_landmarks_wflw_test  |     1 |      2500 |" in out
    assert "not the published sizes" in out
    assert "left out 1" in out and "  1--Riot/c.jpg: the picture is missing" in out
    assert f"--config.data.root={output}" in out
    assert cli.main([*command, "--scheme=300w"]) == 2
    assert "98 landmarks a face, the scheme 300w 68" in capsys.readouterr().err
    assert cli.main(["data", "prepare", "nothing", "--source=a", "--output=b"]) == 2
    assert "unknown data set 'nothing': choose one of wflw, 300w" in capsys.readouterr().err
    assert cli.main(["data", "polish"]) == 2 and cli.main(["data", "--help"]) == 0


def test_wflw_mini_goes_through_prepare(shared, tmp_path):
    source = shared / "data" / "wflw_mini"
    done = prepare("wflw", source, tmp_path / "out")
    counts = {split: len(records) for split, records in done.splits.items()}
    assert counts == {"face_landmarks_wflw_train": 201, "face_landmarks_wflw_test": 72}
    for split, records in done.splits.items():
        again = opened(tmp_path / "out", split)
        assert again.root == records.root
        np.testing.assert_array_equal(again.points, records.points)
        assert again.subsets.keys() == records.subsets.keys() and len(again.subsets) == 6
        for name in set(again.names):
            copy, original = again.root / name, source / "WFLW_images" / name
            assert copy.read_bytes() == original.read_bytes()


@pytest.mark.parametrize("bad", ["x", "", "-1", "nan"])
def test_skip_bad_leaves_out_a_bad_row_of_an_official_csv(tmp_path, capsys, bad):
    source = tmp_path / "source"
    names = [f"{i}.jpg" for i in range(3)]
    path = data_trees.official_csv(source / "face_landmarks_aflw_train.csv", names, 19, 50)
    for name in names:
        data_trees.picture(source / name)
    lines = path.read_text().splitlines()
    name, _, rest = lines[2].split(",", 2)
    path.write_text("\n".join([*lines[:2], f"{name},{bad},{rest}", *lines[3:]]))
    command = ["data", "prepare", "aflw", f"--source={source}", f"--output={tmp_path / 'out'}"]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert "face_landmarks_aflw_train.csv, line 3" in error and error.count("\n") == 1
    assert cli.main([*command, "--skip-bad"]) == 0
    assert "left out 1" in capsys.readouterr().out
    assert opened(tmp_path / "out", "face_landmarks_aflw_train").names == ("0.jpg", "2.jpg")
