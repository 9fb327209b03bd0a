"""`hrnet-jax weights`: the table of published checkpoints, and downloading one."""

import contextlib
import dataclasses
import hashlib
import http.server
import threading

import pytest

from hrnet_jax import published
from hrnet_jax.cli import run
from hrnet_jax.errors import HRNetError
from hrnet_jax.models import model_names
from hrnet_jax.schemes import SCHEMES
from hrnet_jax.torch_weights import kinds

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


# Answers that are no download: status, headers, body.
ODD = {
    "/page": (200, {}, b"<!doctype html><html>"),
    "/empty": (200, {}, b""),
    "/cut": (200, {}, b"PK\3\4" + CONTENT[:5000]),
    "/part": (206, {"Content-Range": "bytes 0-9/10"}, CONTENT[:10]),
    "/packed": (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b"),
    "/length": (200, {"Content-Length": "-5"}, CONTENT),
    "/words": (200, {"Content-Length": "many"}, CONTENT),
    "/escape": (200, {"Content-Encoding": "\x1b[31m"}, CONTENT),
    "/headers": (200, {f"X-{i}": "x" for i in range(200)}, CONTENT),
}


class Server(http.server.BaseHTTPRequestHandler):
    """CONTENT at /weights.pth, with ranges; /broken.pth ends early; /plain.pth has no ranges."""

    requests = []

    def do_GET(self):
        if self.path in ODD:
            status, headers, body = ODD[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # the client has hung up
                self.wfile.write(body)
            return
        wanted = self.headers.get("Range")
        self.requests.append(wanted)
        if self.path not in ("/weights.pth", "/broken.pth", "/plain.pth"):
            self.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and self.path != "/plain.pth" else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        self.wfile.write(CONTENT[start : 1000 if self.path == "/broken.pth" else None])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def entry(address, monkeypatch):
    """Puts an entry of our server into the table; returns a function to change it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Server.requests.clear()
    base = published.PUBLISHED["imagenet-w18-openmmlab"]

    def change(path="weights.pth", **changes):
        made = {"name": "test", "file": "w.pth", "url": f"{address}/{path}", "sha256": SHA256}
        entry = dataclasses.replace(base, **made | changes)
        monkeypatch.setitem(published.PUBLISHED, "test", entry)

    change()
    return change


def test_the_table_is_sound():
    names = {kind.name for kind in kinds.KINDS if kind.head}
    for name, entry in published.PUBLISHED.items():
        assert entry.name == name and entry.kind in names and entry.where
        assert entry.model in model_names()
        assert (entry.scheme in SCHEMES) != entry.model.endswith("_imagenet")
        assert entry.url is None or entry.url.startswith("https://")
    assert {entry.kind for entry in published.PUBLISHED.values()} == names - {kinds.MMPOSE_1}


def test_list(capsys):
    assert run("weights", ["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(published.PUBLISHED)
    (line,) = [line for line in lines if line.startswith("hr18-wflw ")]
    assert "hrnetv2_w18" in line and "NME 4.60" in line and "MIT (code)" in line


def test_get(entry, tmp_path, capsys):
    assert run("weights", ["get", "test", f"--output={tmp_path / 'new'}"]) == 0
    path = tmp_path / "new" / "w.pth"
    assert path.read_bytes() == CONTENT and [p.name for p in path.parent.iterdir()] == ["w.pth"]
    printed = capsys.readouterr().out
    assert f"hrnet-jax convert {path} models/test" in printed
    assert run("weights", ["get", "test", f"--output={tmp_path / 'new'}"]) == 0
    assert Server.requests == [None]  # what is there is not fetched again


def test_progress_and_size(entry, tmp_path):
    entry(size=len(CONTENT))
    seen = []
    published.fetch("test", tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    entry(size=5)
    with pytest.raises(HRNetError, match="has 1280000 bytes instead of 5: remove it"):
        published.fetch("test", tmp_path)


def test_resume(entry, tmp_path):
    part = tmp_path / "w.pth.part"
    part.write_bytes(CONTENT[:4321])
    assert published.fetch("test", tmp_path).read_bytes() == CONTENT
    assert Server.requests == ["bytes=4321-"] and not part.exists()


def test_resume_where_the_server_cannot(entry, tmp_path):
    entry("plain.pth")
    (tmp_path / "w.pth.part").write_bytes(CONTENT[:4321])
    assert published.fetch("test", tmp_path).read_bytes() == CONTENT


def test_resume_of_a_complete_part(entry, tmp_path):
    (tmp_path / "w.pth.part").write_bytes(CONTENT)
    assert published.fetch("test", tmp_path).read_bytes() == CONTENT
    (tmp_path / "w.pth").unlink()
    (tmp_path / "w.pth.part").write_bytes(CONTENT + b"more")
    with pytest.raises(HRNetError, match=r"w\.pth\.part has the SHA-256 .*: removed; try again"):
        published.fetch("test", tmp_path)
    assert published.fetch("test", tmp_path).read_bytes() == CONTENT


def test_a_download_that_breaks_off(entry, tmp_path):
    entry("broken.pth")
    with pytest.raises(HRNetError, match="broken.pth broke off after 1000 of 1280000 bytes"):
        published.fetch("test", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["w.pth.part"]
    entry()
    assert published.fetch("test", tmp_path).read_bytes() == CONTENT
    assert Server.requests == [None, "bytes=1000-"]


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("path", ODD)
def test_odd_answers_are_no_download(entry, tmp_path, capsys, path, hashed):
    entry(path[1:], sha256=SHA256 if hashed else None)
    (tmp_path / "w.pth.part").write_bytes(CONTENT[:4321])
    assert run("weights", ["get", "test", f"--output={tmp_path}"]) == 2
    (line,) = [s for s in capsys.readouterr().err.splitlines() if s.startswith("error:")]
    assert path in line or "w.pth.part" in line
    assert "unexpected" not in line and line.isprintable()
    assert not (tmp_path / "w.pth").exists()


def test_a_drip_ends(entry, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "_PATIENCE", 1e-9)
    monkeypatch.setattr(published, "_SLOWEST", 1 << 40)
    monkeypatch.setattr(published.urllib.request, "urlopen", _patient(published))
    with pytest.raises(HRNetError, match=r"cannot download .* bytes in 1e-09 s"):
        published.fetch("test", tmp_path)


def _patient(module):
    opened = module.urllib.request.urlopen
    return lambda request, timeout: opened(request, timeout=60)


def test_without_a_hash_nothing_is_gone_on_with(entry, tmp_path):
    entry(sha256=None)
    (tmp_path / "w.pth.part").write_bytes(CONTENT[:4321])
    with pytest.raises(HRNetError, match=r"gave no hrnet_w18_imagenet .*: removed; try again"):
        published.fetch("test", tmp_path)
    assert Server.requests == [None] and not list(tmp_path.iterdir())


def test_content_of_the_right_kind_is_kept_without_a_hash(entry, tmp_path):
    entry(sha256=None)
    base = published.PUBLISHED["test"]
    seen = []
    path = published.fetch("test", tmp_path, recognise=lambda *a: seen.append(a) or base.kind)
    assert path.read_bytes() == CONTENT and seen == [(tmp_path / "w.pth.part", base.model)]
    path.unlink()
    with pytest.raises(HRNetError, match="it is another kind"):
        published.fetch("test", tmp_path, recognise=lambda *_: "another kind")
    assert not list(tmp_path.iterdir())


def test_wrong_hash(entry, tmp_path, capsys):
    entry(sha256="0123abcd")
    assert run("weights", ["get", "test", f"--output={tmp_path}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: {tmp_path / 'w.pth.part'} has the SHA-256 {SHA256[:16]}")
    assert not list(tmp_path.iterdir())
    (tmp_path / "w.pth").write_bytes(b"another file of the user's")
    with pytest.raises(HRNetError, match=r"w\.pth has the SHA-256 .*: remove it and try again"):
        published.fetch("test", tmp_path)
    assert (tmp_path / "w.pth").exists()


def test_not_found(entry, address, tmp_path):
    entry("gone.pth")
    with pytest.raises(HRNetError, match=f"{address}/gone.pth: 404 .*put it at {tmp_path}/w.pth"):
        published.fetch("test", tmp_path)


def test_no_network(entry, tmp_path, capsys):
    entry(url="http://127.0.0.1:1/w.pth")  # nobody listens there
    assert run("weights", ["get", "test", f"--output={tmp_path}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: cannot download http://127.0.0.1:1/w.pth")
    assert error.endswith(f"put it at {tmp_path}/w.pth")


def test_no_direct_link(tmp_path, capsys):
    assert run("weights", ["get", "hr18-wflw", f"--output={tmp_path}"]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no direct link: get it from README" in error and f"{tmp_path}/HR18-WFLW.pth" in error
    (tmp_path / "HR18-WFLW.pth").write_bytes(b"there")
    assert published.fetch("hr18-wflw", tmp_path) == tmp_path / "HR18-WFLW.pth"


def test_unknown_name():
    with pytest.raises(HRNetError, match="unknown published weights 'x': choose one of hr18-wflw"):
        published.fetch("x", ".")
