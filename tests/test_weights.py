"""`hrnet-jax weights`: the table of published checkpoints, and downloading one."""

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


class Server(http.server.BaseHTTPRequestHandler):
    """CONTENT at /weights.pth, with ranges; /broken.pth ends early; /plain.pth has no ranges."""

    requests = []

    def do_GET(self):
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
    entry(sha256=None, size=len(CONTENT))
    seen = []
    published.fetch("test", tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    entry(sha256=None, size=5)
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
