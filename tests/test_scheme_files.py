"""Landmark schemes of one's own."""

import json
import time

import numpy as np
import pytest

from hrnet_jax.config import plain
from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.scoring import read_run, write_results
from hrnet_jax.inference.alignment import align, five_points
from hrnet_jax.inference.drawing import draw_landmarks
from hrnet_jax.protocols import Protocol
from hrnet_jax.schemes import SCHEMES, get_scheme
from hrnet_jax.schemes.files import describe
from hrnet_jax.tasks.landmarks import build_model, run_metadata
from tests import tiny

OWLS = {
    "name": "owls",
    "num_landmarks": 5,
    "names": ["eye, left", "eye, right", "beak", "ear, left", "ear, right"],
    "flip_pairs": [["eye, left", "eye, right"], [3, 4]],
    "normaliser": ["eye, left", 1],
    "lines": [{"name": "head", "points": [3, 0, "beak"], "closed": True}],
}
OWLS_TOML = """
name = "owls"
num_landmarks = 5
flip_pairs = [[0, 1], [3, 4]]
normaliser = [0, 1]
[[lines]]
name = "head"
points = [3, 0, 2]
closed = true
"""


def write(folder, content, name="owls.json"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_a_scheme_file_gives_a_scheme(tmp_path):
    scheme = get_scheme(write(tmp_path, OWLS))
    assert (scheme.name, scheme.num_landmarks, scheme.normaliser) == ("owls", 5, (0, 1))
    assert scheme.flip_permutation.tolist() == [1, 0, 2, 4, 3]
    assert scheme.lines[0].points == (3, 0, 2) and scheme.lines[0].closed
    assert get_scheme(write(tmp_path, OWLS_TOML, "owls.toml")) == scheme
    boxed = get_scheme(write(tmp_path, OWLS | {"normaliser": "box_size"}))
    assert boxed.normaliser is None


@pytest.mark.parametrize("name", SCHEMES)
def test_a_description_reads_back(name):
    description = describe(SCHEMES[name]) | {"name": "mine"}
    description = json.loads(json.dumps(description))  # as a checkpoint stores it
    scheme = get_scheme(description)
    assert describe(scheme) == description
    np.testing.assert_array_equal(scheme.flip_permutation, SCHEMES[name].flip_permutation)


def test_a_scheme_without_five_points_draws_but_does_not_align(tmp_path):
    scheme = get_scheme(write(tmp_path, OWLS))
    points = np.array([[10, 10], [30, 10], [20, 25], [5, 5], [35, 5]])
    image = np.zeros((40, 40, 3), np.uint8)
    assert draw_landmarks(image, points, scheme).any()
    five = five_points(points, scheme)
    assert five.shape == (0, 2)
    with pytest.raises(HRNetError, match="scheme has none"):
        align(image, five)


def test_checkpoints_and_results_carry_the_scheme(tmp_path):
    scheme = get_scheme(write(tmp_path, OWLS))
    config = tiny.get_config()
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 50, (3, 5, 2))
    records = Records(("a", "b", "c"), tmp_path, points, np.ones((3, 2)), np.ones(3))
    protocol = Protocol.from_dict(plain(config.protocol))
    model = build_model(config, scheme, protocol)
    metadata = json.loads(json.dumps(run_metadata(config, scheme, protocol, records, model)))
    assert get_scheme(metadata["scheme"]) == scheme
    about = {"protocol": None, "model": None, "split": "owls"}
    write_results(tmp_path / "eval", records, points + 1, scheme, about)
    run = read_run(tmp_path / "eval")
    assert run.scheme == scheme and run.result["scheme"] == "owls"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": "wflw"}, "not built in"),
        ({"name": " "}, "name"),
        ({"num_landmarks": 0}, "num_landmarks = 0"),
        ({"num_landmarks": True}, "num_landmarks = True"),
        ({"num_landmarks": 10**9}, "num_landmarks"),
        ({"names": ["a"]}, "names must be 5"),
        ({"names": ["a"] * 5}, "all differ"),
        ({"flip_pairs": [[0, 5]]}, "flip_pairs: 5 is no landmark: give 0 … 4"),
        ({"flip_pairs": [[0, -1]]}, "-1 is no landmark"),
        ({"flip_pairs": [[0, 1.5]]}, "1.5 is no landmark"),
        ({"flip_pairs": [[0, "nose"]]}, "'nose' is no landmark"),
        ({"flip_pairs": [[0, [1]]]}, "is no landmark"),
        ({"flip_pairs": [[0, 1, 2]]}, "must have 2 landmarks"),
        ({"flip_pairs": [[0, 1], [1, 2]]}, "landmark 1 more than once"),
        ({"flip_pairs": [[0, 0]]}, "landmark 0 more than once"),
        ({"flip_pairs": 3}, "flip_pairs: 3"),
        ({"normaliser": [0, 0]}, "normaliser names landmark 0 twice"),
        ({"normaliser": None}, "normaliser"),
        ({"five_points": [[0], [1]]}, "five_points has 2 entries"),
        ({"lines": [{"points": [0]}]}, "lines"),
        ({"lines": 7}, "lines"),
        ({"lines": [{"name": ",", "points": [0]}]}, "name is a text"),
        ({"lines": [{"name": "a", "points": [0, 9]}]}, "9 is no landmark"),
        ({"colour": 1}, "no key 'colour'"),
    ],
)
def test_a_wrong_scheme_file_is_refused_by_name(tmp_path, change, expected):
    path = write(tmp_path, OWLS | change)
    with pytest.raises(HRNetError) as caught:
        get_scheme(path)
    assert str(caught.value).startswith(path) and expected in str(caught.value)


def test_what_is_no_scheme_file_is_refused(tmp_path):
    cases = [
        ("gone.json", None, "cannot read"),
        ("a.json", "{", "not a JSON file"),
        ("a.toml", "= 3", "not a TOML file"),
        ("deep.json", "[" * 100_000, "not a JSON file"),
        ("large.json", " " * 1_000_001, "bytes"),
        ("list.json", "[]", "a scheme is a table"),
        ("part.json", '{"name": "a"}', "lacks flip_pairs, normaliser, num_landmarks"),
    ]
    for name, text, expected in cases:
        path = str(tmp_path / name) if text is None else write(tmp_path, text, name)
        with pytest.raises(HRNetError, match=expected):
            get_scheme(path)
    with pytest.raises(HRNetError, match="unknown landmark scheme 'owls': choose one of 300w"):
        get_scheme("owls")


def test_a_large_scheme_is_read_in_time(tmp_path):
    names = [f"point {i}" for i in range(10_000)]
    pairs = list(zip(names[::2], names[1::2], strict=True))
    lines = [{"name": "all", "points": names[::-1] * 4}]  # as much as a file of 1 MB has
    change = {"num_landmarks": 10_000, "names": names, "flip_pairs": pairs, "lines": lines}
    path = write(tmp_path, OWLS | change | {"normaliser": names[:2], "five_points": []})
    start = time.perf_counter()
    assert get_scheme(path).num_landmarks == 10_000
    assert time.perf_counter() - start < 2  # 0.1 s; looked up one by one: 8 s
