"""Fixtures that several test modules share."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import jax
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = "JAX_COMPILATION_CACHE_DIR"
FIRST = ("test_train_parity", "test_combinations", "test_processes", "test_classification")


def pytest_configure(config):
    """One compilation cache for all workers and for the processes that tests start."""
    if CACHE not in os.environ:
        os.environ[CACHE] = config.own_cache = tempfile.mkdtemp(prefix="hrnet_jax_tests_")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    jax.config.update("jax_compilation_cache_dir", os.environ[CACHE])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def pytest_unconfigure(config):
    if hasattr(config, "own_cache"):
        shutil.rmtree(config.own_cache, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """The longest modules first, so that no worker is left with one at the end."""
    items.sort(key=lambda item: item.path.stem not in FIRST)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference outputs and real faces; absent from a user's clone."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "reference").is_dir():
        pytest.skip("../shared is not here: it holds reference outputs and real faces")
    return folder


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Small reference values that are part of the repository."""
    return Path(__file__).resolve().parent / "data"


@contextlib.contextmanager
def quickly_compiled():
    """XLA without most of its optimisations: for programs that run a few times only.

    Its programs, which round differently, do not stay for the tests behind: JAX does not ask how
    a cached program was compiled (``jax.random.normal`` of a network's start is one).
    """
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
        jax.clear_caches()


@pytest.fixture(scope="module")
def quick_compile():
    with quickly_compiled():
        yield
