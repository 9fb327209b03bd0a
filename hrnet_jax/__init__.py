"""HRNet facial-landmark networks in JAX and Flax."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what editors and type checkers see of the names below
    from hrnet_jax.checkpoints import load
    from hrnet_jax.errors import HRNetError
    from hrnet_jax.inference.predictor import Face, Predictor
    from hrnet_jax.models import create_model
    from hrnet_jax.tasks import evaluate, train

__version__ = "0.1.0"

_EXPORTS = {
    "train": "hrnet_jax.tasks",
    "evaluate": "hrnet_jax.tasks",
    "create_model": "hrnet_jax.models",
    "load": "hrnet_jax.checkpoints",
    "Predictor": "hrnet_jax.inference.predictor",
    "Face": "hrnet_jax.inference.predictor",
    "HRNetError": "hrnet_jax.errors",
}
__all__ = [
    "Face",
    "HRNetError",
    "Predictor",
    "__version__",
    "create_model",
    "evaluate",
    "load",
    "train",
]


def __getattr__(name):
    """Imports a public name when it is first used: `import hrnet_jax` itself stays light."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'hrnet_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)
