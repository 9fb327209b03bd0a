"""Places that a user names: folders and files here, or in a bucket; writing whole or not at all.

"gs://bucket/run" (s3, az, hf) is a place wherever a path is: in --workdir, data.root, a checkpoint,
--output. `etils.epath`, which Orbax brings, reads and writes there with gcsfs, s3fs, adlfs or
huggingface_hub, or with TensorFlow where that is installed.
"""

import contextlib
import io
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from hrnet_jax.errors import HRNetError

# Addresses of buckets, and the library that opens them.
BUCKETS = {"gs": "gcsfs", "s3": "s3fs", "az": "adlfs", "hf": "huggingface_hub"}
_opened = set()  # schemes that were found to work


def as_path(place: str | os.PathLike) -> Path:
    """The path of a place that a user named.

    A `pathlib.Path`; of a place in a bucket an `etils.epath.Path`, which has the methods that are
    used here, `open`, `read_text`, `exists`, `/` and the like, but is no `pathlib.Path`: make no
    `Path(…)` of it.

    Raises:
      HRNetError: nothing here can open such an address.
    """
    text = os.fspath(place)
    scheme = _scheme(text)
    if not scheme:
        return Path(text)
    if scheme not in BUCKETS:
        known = ", ".join(f"{name}://" for name in BUCKETS)
        raise HRNetError(f"{text}: {scheme}:// cannot be opened: give a path here, or {known}")
    from etils import epath  # 50 ms that only buckets need

    text = f"{scheme}://{text[len(scheme) + 1 :].lstrip('/')}"
    path = cast(Path, epath.Path(text))
    if scheme not in _opened:  # told before any work is done
        try:
            path.exists()
        except Exception as error:  # of many types: each library raises its own
            raise HRNetError(
                f"{text} cannot be opened ({describe_error(error)}): is {BUCKETS[scheme]} "
                "installed, and may this account read there?"
            ) from error
        _opened.add(scheme)
    return path


def is_local(path: str | os.PathLike) -> bool:
    """Whether a path is on this machine's disks."""
    return not _scheme(os.fspath(path))


def local_path(place: str | os.PathLike, what: str) -> Path:
    """The path of a place that must be on this machine; HRNetError says so of one in a bucket."""
    if not is_local(place):
        raise HRNetError(f"{os.fspath(place)}: {what} must be on this machine: copy it here")
    return Path(place)


def absolute(path: Path) -> Path:
    """The path from the root; a bucket's are already."""
    return path.resolve() if is_local(path) else path


def describe_error(error: Exception) -> str:
    """What went wrong with a file, in a few words."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]


def size(path: Path) -> int:
    """Bytes of a file."""
    status: Any = path.stat()
    return status.st_size if is_local(path) else status.length


def open_binary(path: Path) -> io.BufferedReader:
    """A file to read bytes from, which can seek; one of a bucket is fetched whole."""
    return open(path, "rb") if is_local(path) else io.BufferedReader(io.BytesIO(path.read_bytes()))


def list_files(folder: Path, inside: str = "") -> list[str]:
    """All files under folder/inside, at any depth: paths from `folder`, with "/", sorted."""
    start: Any = folder / inside
    found = []
    for parent, _, names in os.walk(start) if is_local(start) else start.walk():
        below = type(folder)(parent).relative_to(folder)
        found += [(below / name).as_posix() for name in names]
    return sorted(found)


@contextlib.contextmanager
def open_atomically(path: str | Path, binary: bool = False) -> Iterator[IO]:
    """Opens a file (UTF-8 text, or binary) that appears under its name only when it is complete.

    What is written goes to a temporary file beside it, renamed at the end: a reader never sees half
    a file, and after an error the old file is still there. Folders are made as needed. What goes to
    a bucket is held in memory and sent at the end. HRNetError if the file cannot be written.
    """
    path = as_path(path)
    write = _send_whole if not is_local(path) else _write_beside
    try:
        with write(path, binary) as file:
            yield file
    except OSError as error:
        raise HRNetError(f"cannot write {path}: {describe_error(error)}") from error


class Appended:
    """A file that grows: on a disk with every write.

    A bucket has no files that grow: there the whole file is sent again, at most every 30 seconds,
    and when it is closed.
    """

    _every = 30.0  # seconds

    def __init__(self, path: Path, content: str | bytes = ""):
        """Starts the file anew with `content`. HRNetError if it cannot be written."""
        self._path, self._sent = path, time.monotonic()
        with open_atomically(path, binary=True) as file:
            file.write(_encoded(content))
        self._file = open(path, "ab", buffering=0) if is_local(path) else io.BytesIO()
        if not is_local(path):
            self._file.write(_encoded(content))

    def write(self, content: str | bytes) -> None:
        self._file.write(_encoded(content))
        if time.monotonic() - self._sent > self._every:
            self.flush()

    def flush(self) -> None:
        if isinstance(self._file, io.BytesIO):
            self._path.write_bytes(self._file.getvalue())
            self._sent = time.monotonic()

    def close(self) -> None:
        self.flush()
        self._file.close()


def _encoded(content):
    return content.encode() if isinstance(content, str) else content


def _scheme(text):
    """The scheme of an address, "" of a path: one letter is a disk of Windows."""
    found = re.match("([A-Za-z][A-Za-z0-9+.-]+):/(/?)", text)
    # pathlib makes "gs:/bucket" of "gs://bucket": still no folder of this machine.
    return found[1] if found and (found[2] or found[1] in BUCKETS) else ""


@contextlib.contextmanager
def _write_beside(path, binary):
    # Not tempfile: its files are readable by their owner alone, and the rename keeps that.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if binary:
            with open(temporary, "wb") as file:
                yield file
        else:
            with open(temporary, "w", encoding="utf-8", newline="") as file:
                yield file
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # gone already, or its folder is a file
            temporary.unlink()


@contextlib.contextmanager
def _send_whole(path, binary):
    content = io.BytesIO()
    file = content if binary else io.TextIOWrapper(content, encoding="utf-8", newline="")
    yield file
    file.flush()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
