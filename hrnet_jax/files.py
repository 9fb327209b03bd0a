"""Writing a file whole or not at all."""

import contextlib
import os
from pathlib import Path

from hrnet_jax.errors import HRNetError


@contextlib.contextmanager
def open_atomically(path: str | Path, binary: bool = False):
    """Opens a file (UTF-8 text, or binary) that appears under its name only when it is complete.

    What is written goes to a temporary file beside it, renamed at the end: a reader never sees half
    a file, and after an error the old file is still there. Folders are made as needed. HRNetError
    if the file cannot be written.
    """
    path = Path(path)
    # Not tempfile: its files are readable by their owner alone, and the rename keeps that.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    text = {} if binary else {"encoding": "utf-8", "newline": ""}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb" if binary else "w", **text) as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise HRNetError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # gone already, or its folder is a file
            temporary.unlink()
