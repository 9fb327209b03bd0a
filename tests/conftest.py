"""Fixtures that several test modules share."""

from pathlib import Path

import jax
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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


@pytest.fixture(scope="module")
def quick_compile():
    """XLA without most of its optimisations: for programs that run a few times only."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
