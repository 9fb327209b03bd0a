"""Losses by name: functions of the network's outputs and the codec's targets."""

import jax
import jax.numpy as jnp

from hrnet_jax.codecs import Codec, HIHCodec
from hrnet_jax.errors import HRNetError

HIH_DECIMAL_WEIGHT = 0.05


def mean_squared_error(heatmaps, targets):
    """The mean over every element (N, h, w, L), points without a target included (official)."""
    return jnp.square(heatmaps - targets).mean()


def masked_mean_squared_error(heatmaps, targets):
    """mmpose's: points whose target map is empty add nothing, but count in the mean."""
    return (_shown(targets) * jnp.square(heatmaps - targets)).mean()


def adaptive_wing(heatmaps, targets, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    """The mean adaptive wing loss (Wang et al., ICCV 2019) with mmpose's constants.

    Beyond `theta` it is linear; before, the steeper the higher the target. Points whose target map
    is empty add nothing, but count in the mean.
    """
    exponent = alpha - targets
    ratio = theta / epsilon
    slope = omega / (1 + ratio**exponent) * exponent * ratio ** (exponent - 1) / epsilon
    offset = theta * slope - omega * jnp.log1p(ratio**exponent)
    distance = jnp.abs(heatmaps - targets)
    # The curved part reaches theta only, where its derivative is finite whatever the distance.
    near = omega * jnp.log1p((jnp.minimum(distance, theta) / epsilon) ** exponent)
    loss = jnp.where(distance < theta, near, slope * distance - offset)
    return (_shown(targets) * loss).mean()


def hih(outputs, targets):
    """The squared error of every stack's heatmaps plus 0.05 times the decimal maps' divergence.

    Both are means over all elements. The divergence is KL(softmax(target) || softmax(output)) over
    the cells of each decimal map; the targets, 0 … 1, are not sharpened, so theirs is nearly flat.

    Args:
      outputs: heatmaps (N, S, h, w, L) and decimal_heatmaps (N, d, d, L), as attributes.
      targets: those of `HIHCodec.encode`.
    """
    heatmap_loss = jnp.square(outputs.heatmaps - targets.heatmaps).mean()
    log_target = jax.nn.log_softmax(targets.decimal_heatmaps, axis=(1, 2))
    log_output = jax.nn.log_softmax(outputs.decimal_heatmaps, axis=(1, 2))
    divergence = (jnp.exp(log_target) * (log_target - log_output)).mean()
    return heatmap_loss + HIH_DECIMAL_WEIGHT * divergence


LOSSES = {
    "mse": mean_squared_error,
    "masked_mse": masked_mean_squared_error,
    "adaptive_wing": adaptive_wing,
    "hih": hih,
}


def get_loss(name: str, codec: Codec):
    """The loss of that name; HRNetError for an unknown one or one for other targets."""
    if name not in LOSSES:
        raise HRNetError(f"unknown train.loss {name!r}: choose one of {', '.join(LOSSES)}")
    if isinstance(codec, HIHCodec) != (name == "hih"):
        raise HRNetError(
            f"train.loss {name!r} does not go with {type(codec).__name__}: loss 'hih' and codec "
            "'hih' belong together"
        )
    return LOSSES[name]


def _shown(targets):
    """(N, 1, 1, L) bool: the target map (N, h, w, L) is not empty."""
    return (targets > 0).any(axis=(1, 2), keepdims=True)
