"""What the fixtures of conftest.py promise to the tests behind them."""

import jax
import numpy as np

from tests.conftest import quickly_compiled


def draw():
    return np.asarray(jax.random.normal(jax.random.key(0), (3, 3, 8, 8)))


def test_quickly_compiled_programs_are_not_met_again():
    """Two runs of one seed start from the same bits, whatever was tested before one of them."""
    jax.clear_caches()
    with quickly_compiled():
        draw()
    after = draw()
    jax.clear_caches()
    np.testing.assert_array_equal(after, draw())
