"""A run's folder: one config, one run at a time."""

import contextlib
import json
import os
import socket
from pathlib import Path

import filelock

from hrnet_jax.config import default_config, plain
from hrnet_jax.devices import is_first_process
from hrnet_jax.errors import HRNetError
from hrnet_jax.files import as_path, describe_error, is_local, open_atomically

CONFIG = "config.json"
LOCK, HOLDER = "lock", "lock.holder"

# Settings that change how fast a run is, not what comes out.
_FREE = ("data.root", "data.images", "data.loader", "data.workers", "data.cache", "train.log_every")
# What earlier versions wrote for hrnetv2_* where None now means the same, the network's own.
_WRITTEN_OUT = {"model.init": "official", "model.norm_momentum": 0.99}


@contextlib.contextmanager
def locked(workdir: Path):
    """Holds the workdir for this job; HRNetError names the process that has it already.

    The system releases the lock when the process ends, however it does. In a bucket there are no
    locks: nothing keeps two runs apart.
    """
    workdir = as_path(workdir)
    if not is_local(workdir) or not is_first_process():
        yield
        return
    path, holder = workdir / LOCK, workdir / HOLDER
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, blocking=False)
        lock.acquire()
    except filelock.Timeout:
        found = holder.read_text()[:100] if holder.is_file() else "another run"
        raise HRNetError(
            f"{workdir} is in use by {found}: wait for it, stop it, or use another --workdir"
        ) from None
    except OSError as error:
        raise HRNetError(f"cannot write {path}: {describe_error(error)}") from error
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        lock.release()


def claim_workdir(workdir: Path, config, defaults: dict | None = None) -> None:
    """Writes the config into the workdir; HRNetError if it has checkpoints of another config.

    `defaults`: what its kind of config has for every key; those of `hrnet_jax.config` by default.
    """
    workdir = as_path(workdir)
    path = workdir / CONFIG
    if any((workdir / "checkpoints").glob("[0-9]*")):
        wanted = flatten(plain(config))
        try:
            # A setting that the earlier version did not have yet had what is now its default.
            known = flatten(plain(defaults or default_config()))
            found = known | flatten(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise HRNetError(f"cannot read {path}: {error}; use another --workdir") from error
        if str(wanted.get("model.name")).startswith("hrnetv2_"):
            for key, value in _WRITTEN_OUT.items():
                if wanted.get(key) is None and found.get(key) == value:
                    found[key] = None
        other = [
            f"{key} = {found.get(key)!r} there, {wanted.get(key)!r} here"
            for key in sorted(found.keys() | wanted.keys())
            if key not in _FREE and found.get(key) != wanted.get(key)
        ]
        if other:
            more = f" and {len(other) - 3} more" if len(other) > 3 else ""
            raise HRNetError(
                f"{workdir} holds a run of another config ({'; '.join(other[:3])}{more}): "
                "use another --workdir, or the same config to go on"
            )
    if is_first_process():
        with open_atomically(path) as file:
            json.dump(plain(config), file, indent=1)


def flatten(tree: dict, prefix: str = "") -> dict:
    """Nested dicts to one with dotted keys."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
