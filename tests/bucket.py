"""A bucket for tests: gs://bucket is a folder of this machine, for `etils.epath` and for Orbax."""

import os

from etils.epath import backend, gpath
from orbax.checkpoint._src.path import gcs_utils

ADDRESS = "gs://bucket"


class Bucket(backend._OsPathBackend):
    """Keeps what has the address gs://bucket/… in a folder; any other path is refused."""

    def __init__(self, folder):
        self.folder = os.fspath(folder)

    def inside(self, path):
        text = os.fspath(path)
        assert text == ADDRESS or text.startswith(f"{ADDRESS}/"), f"{text} is not in the bucket"
        return self.folder + text[len(ADDRESS) :]

    def outside(self, path):
        return ADDRESS + os.fspath(path)[len(self.folder) :]

    def open(self, path, mode):
        return super().open(self.inside(path), mode)

    def exists(self, path):
        return super().exists(self.inside(path))

    def isdir(self, path):
        return super().isdir(self.inside(path))

    def listdir(self, path):
        return super().listdir(self.inside(path))

    def glob(self, path):
        return [self.outside(found) for found in super().glob(self.inside(path))]

    def walk(self, top, **options):
        for parent, folders, files in super().walk(self.inside(top), **options):
            yield self.outside(parent), folders, files

    def makedirs(self, path, **options):
        super().makedirs(self.inside(path), **options)

    def mkdir(self, path, **options):
        super().mkdir(self.inside(path), **options)

    def rmtree(self, path):
        super().rmtree(self.inside(path))

    def remove(self, path):
        super().remove(self.inside(path))

    def rename(self, path, dst):
        super().rename(self.inside(path), self.inside(dst))

    def replace(self, path, dst):
        super().replace(self.inside(path), self.inside(dst))

    def copy(self, path, dst, overwrite):
        super().copy(self.inside(path), self.inside(dst), overwrite)

    def stat(self, path):
        return super().stat(self.inside(path))


def mount(monkeypatch, folder) -> None:
    """gs://bucket is `folder`, which exists, until the test ends."""
    bucket = Bucket(folder)
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: False)
    monkeypatch.setitem(gpath._PREFIX_TO_BACKEND, "gs", bucket)
    monkeypatch.setattr(gcs_utils, "is_hierarchical_namespace_enabled", lambda path: False)

    def store(path):
        return {"driver": "file", "path": bucket.inside(path)}

    monkeypatch.setattr(gcs_utils, "get_kvstore_for_gcs", store)
