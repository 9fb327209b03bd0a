"""Published checkpoints of the HRNet family, which `published.toml` lists; and fetching one.

The URL is given where its publisher states a direct link; elsewhere the entry says where to look.
Figures are the publishers'.
"""

import dataclasses
import hashlib
import http.client
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Collection
from importlib import resources
from pathlib import Path

from hrnet_jax.errors import HRNetError
from hrnet_jax.files import local_path

_CHUNK = 1 << 20
_PATIENCE = 60  # seconds: of silence, or for the bytes of
_SLOWEST = 1 << 16


@dataclasses.dataclass(frozen=True)
class Published:
    """One checkpoint.

    Attributes:
      name: ours, for `hrnet-jax weights get`.
      kind: as in `hrnet_jax.torch_weights.kinds`, which recognises the file.
      model: name for `create_model`.
      metrics: the published figures: NME and failure rate in percent, top-1 and top-5 accuracy
        in percent.
      licence: as the publishers state it; None where they state none.
      where: where it is published, in words.
      file: name of the file; None if it is not known.
      scheme: landmark scheme; None for classification.
      protocol: what the figures hold for.
      url: a direct link, if one is stated.
      sha256: the SHA-256, or its first digits, in hexadecimal.
      size: bytes.
    """

    name: str
    kind: str
    model: str
    metrics: dict[str, float]
    licence: str | None
    where: str
    file: str | None = None
    scheme: str | None = None
    protocol: str | None = None
    url: str | None = None
    sha256: str | None = None
    size: int | None = None


def read_data() -> dict:
    """What `published.toml` holds: "group", "benchmark" and "literature"."""
    text = resources.files("hrnet_jax").joinpath("published.toml").read_text("utf-8")
    return tomllib.loads(text)


def _read_checkpoints():
    for group in read_data()["group"]:
        for entry in group.pop("checkpoints"):
            yield Published(**{"licence": None, "metrics": {}} | group | entry)


PUBLISHED = {entry.name: entry for entry in _read_checkpoints()}


def expected(kinds: Collection[str], model: str, scheme: str | None) -> list[dict]:
    """The published checkpoints that a file of one of these kinds may be, with their figures.

    A file's content does not say which of them it is, or whether it is one.
    """
    return [
        {"name": entry.name, "metrics": entry.metrics, "protocol": entry.protocol}
        for entry in PUBLISHED.values()
        if entry.kind in kinds and (entry.model, entry.scheme) == (model, scheme)
    ]


def get_published(name: str) -> Published:
    """The entry of that name; HRNetError names the known ones."""
    if name not in PUBLISHED:
        known = ", ".join(PUBLISHED)
        raise HRNetError(f"unknown published weights {name!r}: choose one of {known}")
    return PUBLISHED[name]


def fetch(
    name: str,
    folder: str | Path,
    progress: Callable = lambda done, total: None,
    recognise: Callable[[Path, str], str] | None = None,
) -> Path:
    """Downloads a published checkpoint into a folder, checks it, and returns its path.

    An interrupted download (NAME.part) of known hash is gone on with. A file that is there already
    is checked and kept.

    Args:
      progress: called with the bytes there are and the bytes in all (None if unknown).
      recognise: called with a path and the name of a model, gives the kind of checkpoint of that
        model which the file holds, else HRNetError: what an entry without a hash is known by.

    Raises:
      HRNetError: unknown name; no direct link or no network (the message says where it is published
        and where to put it); not there; or another hash or size.
    """
    entry = get_published(name)
    path = local_path(folder, "what is downloaded") / (entry.file or f"{name}.pth")
    if not path.is_file():
        if entry.url is None:
            raise HRNetError(
                f"{name} has no direct link: get it from {entry.where} and put it at {path}"
            )
        _download(entry, path, progress, recognise)
    _check(entry, path)
    return path


def _download(entry, path, progress, recognise):
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without a hash nobody could tell whether the rest is that of the same file.
        start = part.stat().st_size if entry.sha256 and part.is_file() else 0
        headers = {"User-Agent": "hrnet-jax", "Accept-Encoding": "identity"}
        request = urllib.request.Request(entry.url, headers=headers)
        if start:
            request.add_header("Range", f"bytes={start}-")
        with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
            start, total = _place(response, start)
            done, since, seen = start, time.monotonic(), start
            with open(part, "ab" if start else "wb") as file:
                while chunk := response.read1(_CHUNK):
                    file.write(chunk)
                    done += len(chunk)
                    progress(done, total)
                    if time.monotonic() - since > _PATIENCE:
                        if done - seen < _SLOWEST:
                            raise TimeoutError(f"{done - seen} bytes in {_PATIENCE} s")
                        since, seen = time.monotonic(), done
        if total is not None and done < total:
            raise HRNetError(f"{entry.url} broke off after {done} of {total} bytes: try again")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing beyond what is there: complete, or another file
            _check(entry, part)
        else:
            raise HRNetError(
                f"{entry.url}: {error.code} {error.reason}; get it elsewhere ({entry.where}) and "
                f"put it at {path}"
            ) from error
    except (OSError, ValueError, http.client.HTTPException) as error:  # network, disk, bad headers
        reason = getattr(error, "reason", None) or error
        raise HRNetError(
            f"cannot download {entry.url} ({reason}): get it on a machine with network access and "
            f"put it at {path}"
        ) from error
    _check(entry, part)
    if entry.sha256 is None:
        _check_content(entry, part, recognise)
    part.replace(path)


def _place(response, start):
    """Where the server's answer begins in the file, and where it ends (None if it does not say)."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise ValueError(f"the server sends it in the encoding {encoding!r}, unasked")
    if response.status != 206:  # the server sends all of it
        start = 0
    elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise ValueError("the server sends another part of it than the one asked for")
    length = response.headers.get("Content-Length")
    if length is not None and not (length.isascii() and length.isdigit()):
        raise ValueError(f"the server gives it the length {length!r:.80}")
    return start, None if length is None else start + int(length)


def _check_content(entry, part, recognise):
    """Removes a download that is not the network of the entry: a page, a cut file, another one."""
    try:
        if recognise is None:
            raise HRNetError(f"{entry.name} has no hash: give `recognise`, to know it by")
        if (kind := recognise(part, entry.model)) != entry.kind:
            raise HRNetError(f"it is {kind}")
    except HRNetError as error:
        part.unlink()
        raise HRNetError(
            f"{entry.url} gave no {entry.model} of the kind {entry.kind!r} ({error}): removed; try "
            f"again, or get it elsewhere ({entry.where})"
        ) from error


def _check(entry, path):
    """Removes a download that is not what it should be; a user's own file stays."""
    problem = None
    if entry.size is not None and path.stat().st_size != entry.size:
        problem = f"has {path.stat().st_size} bytes instead of {entry.size}"
    elif entry.sha256 is not None:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if not found.startswith(entry.sha256):
            problem = f"has the SHA-256 {found[:16]}… instead of {entry.sha256}…"
    if problem is not None:
        removed = path.suffix == ".part"
        if removed:
            path.unlink()
        advice = "removed; try again" if removed else "remove it and try again"
        raise HRNetError(f"{path} {problem}: {advice}")
