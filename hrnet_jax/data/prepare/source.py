"""The files of a data set as it was downloaded: unpacked folders, archives, or both.

Nothing is unpacked to disk, so no name in an archive can lead anywhere. Links and special files in
archives are not read, and no file is read beyond a stated number of bytes.
"""

import contextlib
import dataclasses
import gzip
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from hrnet_jax.data.records import check_inside
from hrnet_jax.errors import HRNetError

MAX_FILES = 2_000_000
MAX_TEXT_BYTES = 256 * 2**20  # of an annotation file
MAX_PICTURE_BYTES = 512 * 2**20
MAX_LARGE_BYTES = 16 * 2**30  # of a .mat file, which is copied out of its archive, not held

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_DAMAGE = (
    OSError,
    EOFError,
    RuntimeError,  # an encrypted zip
    NotImplementedError,  # a compression method of another zip program
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
)


@dataclasses.dataclass(frozen=True)
class _File:
    """A file on disk, or a member of the archive at `path`."""

    path: Path
    member: str | None = None


class Source:
    """All files under a folder and in the archives there, by a name.

    Attributes:
      folder: as it was given.
      names: sorted; of a file its path under the folder, of an archive's member the archive's path
        without its suffix and the member's own: "afw/1.pts" in afw.zip is "afw/afw/1.pts".

    HRNetError for a folder or an archive that cannot be read, and for an archive with a name that
    leads out of it.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise HRNetError(f"{folder} is no folder: give the one with the downloaded data")
        self._files: dict[str, _File] = {}
        archives = []
        for root, _, names in os.walk(self.folder, followlinks=True):
            for name in names:
                path = Path(root, name)
                if name.lower().endswith(_ARCHIVES):
                    archives.append(path)
                else:
                    self._add(path.relative_to(self.folder).as_posix(), _File(path))
        for path in sorted(archives):
            stem = path.relative_to(self.folder).as_posix()
            stem = stem[: -len(next(end for end in _ARCHIVES if stem.lower().endswith(end)))]
            for member in _members(path):
                check_inside(f"{path}, member", member)
                self._add(f"{stem}/{PurePosixPath(member)}", _File(path, member))
        self.names = sorted(self._files)
        self._by_name = defaultdict(list)
        for name in self.names:
            self._by_name[_loose(PurePosixPath(name).name)].append(name)

    def _add(self, name, file):
        if any(part.startswith((".", "__MACOSX")) for part in name.split("/")):
            return  # what file managers leave behind
        if len(self._files) == MAX_FILES:
            raise HRNetError(f"{self.folder} holds more than {MAX_FILES:,} files")
        self._files.setdefault(name, file)

    def place(self, name: str) -> str:
        """Where a file is, for messages."""
        file = self._files[name]
        return str(file.path) if file.member is None else f"{file.path}, {file.member}"

    def ending(self, *endings: str) -> list[str]:
        """The names with one of these endings, in any case of letters."""
        return [name for name in self.names if name.lower().endswith(endings)]

    def locate(self, name: str) -> str | None:
        """The file that an annotation means by a path, or None.

        It is the one at that path, or at that path under `images`, or else the one whose path ends
        with it; spaces and the case of letters count only where they tell files apart (300W's
        "image_092 _01.jpg" is often renamed). An unpacked file goes before an archive's.
        HRNetError where several remain.
        """
        for exact in (name, f"images/{name}"):
            if exact in self._files:
                return exact
        found = self._by_name.get(_loose(PurePosixPath(name).name), [])
        found = [other for other in found if f"/{_loose(other)}".endswith(f"/{_loose(name)}")]
        for better in (
            lambda other: f"/{other}".endswith(f"/{name}"),
            lambda other: self._files[other].member is None,
        ):
            found = list(filter(better, found)) or found
        if len(found) > 1:
            raise HRNetError(
                f"{self.folder} has {len(found)} files that {name!r} could mean, {found[0]!r} and "
                f"{found[1]!r} among them: leave one there"
            )
        return found[0] if found else None

    def beside(self, name: str, suffixes: Iterable[str]) -> str | None:
        """The file in the same folder with the same stem and one of these suffixes, or None.

        Spaces and the case of letters are told apart only where they must be, as in `locate`.
        """
        path = PurePosixPath(name)
        found = [
            other
            for suffix in suffixes
            for other in self._by_name.get(_loose(path.stem + suffix), [])
            if PurePosixPath(other).parent == path.parent
        ]
        exact = [other for other in found if PurePosixPath(other).stem == path.stem]
        return next(iter(exact + found), None)

    def read(self, name: str, most: int = MAX_TEXT_BYTES) -> bytes:
        """The content of a file; HRNetError if it cannot be read or has more than `most` bytes."""
        for _, content in self.read_many([name], most):
            return content
        raise HRNetError(f"{self.place(name)} is gone")

    def read_many(
        self, names: Iterable[str], most: int = MAX_PICTURE_BYTES
    ) -> Iterator[tuple[str, bytes]]:
        """(name, content) of several files, in the order in which they can be read fast."""
        archives = defaultdict(dict)
        for name in names:
            file = self._files[name]
            if file.member is not None:
                archives[file.path][file.member] = name
                continue
            with _damage_named(file.path), open(file.path, "rb") as opened:
                content = _read(opened, most, file.path)
            yield name, content
        for path, wanted in sorted(archives.items()):
            with contextlib.closing(_open_members(path)) as members:
                for member, opened in members:
                    if member in wanted:
                        name = wanted.pop(member)
                        with _damage_named(path):
                            content = _read(opened(), most, f"{path}, {member}")
                        yield name, content

    @contextlib.contextmanager
    def local(self, name: str) -> Iterator[Path]:
        """The path of a file for readers that need one: of an archive's member, a temporary copy.

        Usage: `with source.local(name) as path: …`.
        """
        file = self._files[name]
        if file.member is None:
            yield file.path
            return
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder, PurePosixPath(name).name)
            with contextlib.closing(_open_members(file.path)) as members:
                for member, opened in members:
                    if member == file.member:
                        with _damage_named(file.path), open(copy, "wb") as target:
                            bounded = _Bounded(opened(), file)
                            while chunk := bounded.read(2**20):
                                target.write(chunk)
                        break
            yield copy


class _Bounded:
    """A file that refuses to give more than MAX_LARGE_BYTES."""

    def __init__(self, opened, file):
        self.opened, self.file, self.count = opened, file, 0

    def read(self, size: int) -> bytes:
        data = self.opened.read(size)
        self.count += len(data)
        if self.count > MAX_LARGE_BYTES:
            raise HRNetError(f"{self.file.path}, {self.file.member}: {_too_large(MAX_LARGE_BYTES)}")
        return data


def _loose(name):
    return name.replace(" ", "").lower()


def _read(opened, most, place):
    content = opened.read(most + 1)
    if len(content) > most:
        raise HRNetError(f"{place}: {_too_large(most)}")
    return content


def _too_large(most):
    return f"more than {most / 2**20:,.0f} MiB, which is more than such a file can need"


@contextlib.contextmanager
def _damage_named(path):
    try:
        yield
    except _DAMAGE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise HRNetError(f"cannot read {path}: {detail}") from error


def _members(path) -> list[str]:
    """The names of the regular files in an archive."""
    if path.suffix.lower() == ".zip":
        with _damage_named(path), zipfile.ZipFile(path) as archive:
            return [info.filename for info in archive.infolist() if not info.is_dir()]
    names = []
    with _damage_named(path), tarfile.open(path) as archive:
        for info in _passing(archive):
            if info.isreg():
                names.append(info.name)
            if len(names) > MAX_FILES:
                raise HRNetError(f"{path} holds more than {MAX_FILES:,} files")
    return names


def _passing(archive: Any) -> Iterator[tarfile.TarInfo]:
    """The members of a tar archive, of which tarfile keeps none: it would have all in memory."""
    for info in archive:
        archive.members = []  # no part of its documented interface
        yield info


def _open_members(path):
    """Yields (member, function that opens it) for the regular files of an archive, in its order."""
    with _damage_named(path):
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    if not info.is_dir():
                        yield info.filename, lambda info=info: archive.open(info)
        else:
            with tarfile.open(path) as archive:
                for info in _passing(archive):
                    if info.isreg():
                        yield info.name, lambda info=info: archive.extractfile(info)
