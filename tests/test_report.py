"""The report: opened in a browser, with hostile names, without images, for several runs."""

import base64
import dataclasses
import html.parser
import json
import re
import shutil
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from hrnet_jax import cli
from hrnet_jax.data.records import Records
from hrnet_jax.errors import HRNetError
from hrnet_jax.evaluation.pose import yaw_and_roll
from hrnet_jax.evaluation.report import write_report
from hrnet_jax.evaluation.report.gallery import make_galleries
from hrnet_jax.evaluation.scoring import Run, read_run, write_results
from hrnet_jax.geometry import landmark_box
from hrnet_jax.images import write_image
from hrnet_jax.protocols import float_protocol
from hrnet_jax.schemes import SCHEMES
from hrnet_jax.schemes.table import Line

COFW = SCHEMES["cofw"]
# Without a slash: it also stands in names of files and folders.
ATTACK = """<script>alert(1)<script> <img src=x onerror=alert(1)> " onload='alert(1)' q=" & $x$"""
HOSTILE = f"picture {ATTACK}.png"
METADATA = {
    "protocol": float_protocol(1.5, 64).to_dict()
    | {
        "name": f"protocol {ATTACK}",
        "codec": {"name": f"codec {ATTACK}"},
        f"protocol's key {ATTACK}": f"value {ATTACK}",
    },
    "model": {"name": f"model {ATTACK}", f"model's key {ATTACK}": 1},
    "split": f"</title><script src=//example.org/x.js></script> split {ATTACK}",
    "dtype": "bfloat16",
    "checkpoint": f"checkpoint {ATTACK}",
    "predictions": f"predictions {ATTACK}",
    "box": {"kind": "detector", "jitter": 0.1, "seed": 0, "detector": f"box {ATTACK}", "missed": 2},
}
SCHEME = dataclasses.replace(
    COFW, name=f"scheme {ATTACK}", lines=(Line(f"line {ATTACK}", (0, 1, 2)), *COFW.lines)
)


def make_run(
    folder,
    count=14,
    noise=0.5,
    images=True,
    name=HOSTILE,
    pictures=None,
    metadata=METADATA,
    scheme=COFW,
    mask="pose",
):
    """Writes images and an evaluation of 29-point faces; returns its run."""
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 60, (count, 29, 2))
    boxes = [landmark_box(p) for p in points]
    names = [name, *(f"{i}.png" for i in range(1, count))]
    if images:
        for i, file in enumerate(names):
            write_image(
                folder / "images" / file.replace("/", "_"),
                np.full((80, 80, 3), 9 * i % 256, np.uint8),
            )
    records = Records(
        tuple(names),
        folder / "images",
        points,
        np.stack([center for center, _ in boxes]),
        np.array([side for _, side in boxes]),
        pictures=pictures,
        subsets={mask: np.arange(count) < 4, "none": np.zeros(count, bool)},
    )
    predictions = points + rng.normal(0, noise, points.shape)
    return write_results(folder / "eval", records, predictions, scheme, metadata)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page about one run with hostile texts in every field that a user or a file can set."""
    folder = tmp_path_factory.mktemp("report") / f"run {ATTACK}"
    make_run(folder, scheme=SCHEME, mask=f"set {ATTACK}")
    page = folder / "eval" / "report.html"
    assert cli.main(["report", str(page.parent), f"--output={page}"]) == 0
    return page


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("Chromium and its driver are not installed: the page cannot be opened")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
        f"disable-component-update disable-sync user-data-dir={profile}"
    ).split():
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_the_page_and_loads_nothing_else(browser, page, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    script = "return [...document.images].map(i => { i.loading = 'eager'; return i.decode(); })"
    browser.execute_script(script)
    widths = browser.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert len(widths) == 14 and min(widths) > 100  # 5 worst, 5 median, 4 best
    assert browser.execute_script("return document.querySelectorAll('figure svg').length") == 7
    assert browser.execute_script("return document.scripts.length") == 0
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    # The tab that Chromium opens with has a document of its own.
    urls = [e["request"]["url"] for e in sent if e["documentURL"] == page.as_uri()]
    assert page.as_uri() in urls
    assert [url for url in urls if url != page.as_uri() and not url.startswith("data:")] == []


TAGS = set(
    "html head meta link title style body main section footer h1 h2 h3 p div span b details summary"
    " ul li table caption thead tbody tr th td figure figcaption img "
    "svg defs clippath g path use rect text tspan image metadata rdf:rdf cc:work dc:type dc:format "
    "dc:creator cc:agent dc:title lineargradient stop".split()
)


class Seen(html.parser.HTMLParser):
    """What a browser would make of a page: its tags, attributes and texts."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = set(), set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        for name, value in attributes:
            self.attributes.add(name)
            self.texts.append(value or "")

    def handle_data(self, data):
        self.texts.append(data)


def test_whatever_a_user_names_is_text_and_nothing_comes_from_elsewhere(page):
    html = page.read_text()
    seen = Seen(html)
    assert seen.tags <= TAGS
    assert not [name for name in seen.attributes if name.startswith("on") or name == "q"]
    everything = "\n".join(seen.texts)
    for field in (
        *("run", "picture", "set", "scheme", "split", "checkpoint", "predictions", "model"),
        *("model's key", "box", "protocol", "codec", "protocol's key", "value"),
    ):
        assert f"{field} {ATTACK}" in everything, field
    for figure in page.with_name("report_figures").glob("*.svg"):
        elements = {x.tag.rpartition("}")[2].lower() for x in ElementTree.parse(figure).iter()}
        assert elements <= TAGS | {tag.partition(":")[2] for tag in TAGS} | {"rdf"}
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", html) == []
    assert "url(http" not in html
    for data in re.findall(r"data:image/jpeg;base64,([^\"]+)", html):
        assert cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), 1).shape[2] == 3


def test_figures_lie_beside_the_page(page):
    folder = page.with_name("report_figures")
    names = {"ced", "landmarks", "size", "yaw", "roll", "parts", "subsets"}
    assert {path.stem for path in folder.glob("*.svg")} == names
    galleries = {f"gallery_{kind}" for kind in ("worst", "median", "best")}
    assert {path.stem for path in folder.glob("*.png")} == names | galleries
    for path in folder.glob("*.png"):
        assert cv2.imread(str(path)).std() > 1
    assert "NME (%, inter-ocular)" in (folder / "ced.svg").read_text()


def test_the_same_run_gives_the_same_page(page, tmp_path):
    run = read_run(page.parent)
    write_report([run], tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == page.read_bytes()


def test_the_page_tells_the_boxes_and_the_precision(page):
    html = page.read_text()
    assert "kind detector, jitter 0.1, seed 0, detector box &lt;script" in html
    assert ">bfloat16<" in html


def test_report_command_compares_runs(tmp_path, capsys):
    runs = [make_run(tmp_path / name, noise=n).name for name, n in (("good", 0.1), ("bad", 3))]
    assert runs == ["good", "bad"]
    output = tmp_path / "new" / "compared.html"
    folders = [str(tmp_path / name / "eval") for name in runs]
    assert cli.main(["report", *folders, f"--output={output}"]) == 0
    assert str(output) in capsys.readouterr().out
    html = output.read_text()
    assert "Faces of good" in html and "Faces of bad" in html and "run: good" in html
    assert html.count("<img ") == 28
    assert (output.parent / "compared_figures" / "landmarks_2.svg").exists()


def test_without_images_the_gallery_is_left_out_and_the_page_says_so(tmp_path):
    run = make_run(tmp_path, images=False)
    write_report([run], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "<img " not in html and "<script" not in html
    assert "The images are not here" in html and "<svg" in html
    assert not list((tmp_path / "report_figures").glob("gallery*"))


def test_images_elsewhere_and_damaged_ones(tmp_path):
    make_run(tmp_path)
    (tmp_path / "images").rename(tmp_path / "moved")
    (tmp_path / "moved" / "3.png").write_bytes(b"no image")
    galleries, problems = make_galleries(read_run(tmp_path / "eval", tmp_path / "moved"))
    assert sum(map(len, galleries.values())) == 13
    assert len(problems) == 1 and "3.png" in problems[0]


def test_rendered_faces_have_a_gallery_too(tmp_path):
    pictures = np.zeros((14, 80, 80, 3), np.uint8)
    run = make_run(tmp_path, images=False, pictures=pictures)
    assert sum(map(len, make_galleries(run)[0].values())) == 14
    assert run.result["images"] is None


@pytest.mark.parametrize("count", [1, 2, 3, 4, 30])
def test_galleries_hold_no_face_twice_and_are_in_order(tmp_path, count):
    run = make_run(tmp_path, count)
    galleries, _ = make_galleries(run)
    names = [shot.name for shots in galleries.values() for shot in shots]
    assert len(names) == len(set(names)) == min(count, 24)
    assert galleries["worst"][0].nme == pytest.approx(100 * run.nme.max())
    if "best" in galleries:
        assert galleries["best"][0].nme == pytest.approx(100 * run.nme.min())


def test_a_run_is_read_as_it_was_written(tmp_path):
    run = make_run(tmp_path)
    again = read_run(tmp_path / "eval")
    assert again.result == run.result and again.name == tmp_path.name
    np.testing.assert_array_equal(again.predictions, run.predictions)
    np.testing.assert_array_equal(again.records.subsets["pose"], run.records.subsets["pose"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"normaliser": "ears"}, "normaliser 'ears'"),
        ({"scheme": "ears"}, "names the landmark scheme 'ears', unknown here"),
        ({"auc_rule": []}, "metrics.json is damaged"),
        ({"box": "detector"}, "metrics.json is damaged"),
        ({"box": {"kind": "detector", "jitter": "much"}}, "metrics.json is damaged"),
        (None, "metrics.json is damaged"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(tmp_path, capsys, change, says):
    make_run(tmp_path, images=False)
    path = tmp_path / "eval" / "metrics.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(stored | change) if change else "[1, 2")
    command = ["report", str(tmp_path / "eval"), f"--output={tmp_path / 'report.html'}"]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error
    assert not (tmp_path / "report.html").exists()


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path):
    make_run(tmp_path, images=False, name="x.png")
    for file in ("annotations.csv", "per_image.csv"):
        path = tmp_path / "eval" / file
        path.write_text(path.read_text().replace("\nx.png", "\n../../etc/passwd"))
    with pytest.raises(HRNetError, match=r"annotations\.csv, line 2.*\.\./\.\./etc/passwd"):
        read_run(tmp_path / "eval")


def test_runs_of_different_normalisers_are_refused(tmp_path):
    run = make_run(tmp_path, images=False)
    other = Run("other", run.records, run.predictions, COFW, METADATA, "diagonal")
    with pytest.raises(HRNetError, match=r"different normaliser.*inter-ocular, diagonal"):
        write_report([run, other], tmp_path / "report.html")


@pytest.mark.parametrize(("yaw", "roll"), [(0, 0), (25, 0), (-40, 10), (10, -70), (60, 20)])
def test_pose_of_a_turned_head_model(yaw, roll):
    """Mallick's head, its eye corners moved in to the eyes' centres, turned and projected."""
    eye = 225 * 0.725
    head = np.array(
        [[-eye, -170, -135], [eye, -170, -135], [0, 0, 0], [-150, 150, -125], [150, 150, -125]]
    )
    y, r = np.radians([yaw, roll])
    about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    seen = (head @ about_y.T @ about_z.T)[:, :2]
    points = np.zeros((1, 29, 2))
    for place, indices in zip(seen, COFW.five_points, strict=True):
        points[:, list(indices)] = place
    found_yaw, found_roll = yaw_and_roll(points, COFW)
    assert found_roll[0] == pytest.approx(roll, abs=1e-9)
    assert found_yaw[0] == pytest.approx(yaw, abs=1.5)
