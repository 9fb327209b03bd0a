"""Losses by name: `loss(outputs, batch) -> (scalar, metrics)`.

`outputs` are the network's. `batch` is what the training step's `prepare` made: of landmarks
`targets` (those of the codec), `points` float32 (N, L, 2) in heatmap cells, `weights` float32
(N, L), 0 where a landmark is not annotated, and `input` (N, S, S, 3), the normalised crops; of
classification `label` int32 (N,). The box of a face is the same in every crop: centred, and
S / 4 / padding cells wide. `metrics` are further scalars for the log.
"""

import jax
import jax.numpy as jnp
import optax

from hrnet_jax import parts
from hrnet_jax.codecs import HIHCodec
from hrnet_jax.errors import HRNetError

HIH_DECIMAL_WEIGHT = 0.05


def mean_squared_error(heatmaps, batch):
    """The mean over every element (N, h, w, L), points without a target included (official)."""
    return jnp.square(heatmaps - batch["targets"]).mean(), {}


def masked_mean_squared_error(heatmaps, batch):
    """mmpose's: points whose target map is empty add nothing, but count in the mean."""
    targets = batch["targets"]
    return (_shown(targets) * jnp.square(heatmaps - targets)).mean(), {}


def adaptive_wing(heatmaps, batch, alpha=2.1, omega=14.0, epsilon=1.0, theta=0.5):
    """The mean adaptive wing loss (Wang et al., ICCV 2019) with mmpose's constants.

    Beyond `theta` it is linear; before, the steeper the higher the target. Points whose target map
    is empty add nothing, but count in the mean.
    """
    targets = batch["targets"]
    exponent = alpha - targets
    ratio = theta / epsilon
    slope = omega / (1 + ratio**exponent) * exponent * ratio ** (exponent - 1) / epsilon
    offset = theta * slope - omega * jnp.log1p(ratio**exponent)
    distance = jnp.abs(heatmaps - targets)
    # The curved part reaches theta only, where its derivative is finite whatever the distance.
    near = omega * jnp.log1p((jnp.minimum(distance, theta) / epsilon) ** exponent)
    loss = jnp.where(distance < theta, near, slope * distance - offset)
    return (_shown(targets) * loss).mean(), {}


def hih(outputs, batch):
    """The squared error of every stack's heatmaps plus 0.05 times the decimal maps' divergence.

    Both are means over all elements. The divergence is KL(softmax(target) || softmax(output)) over
    the cells of each decimal map; the targets, 0 … 1, are not sharpened, so theirs is nearly flat.

    Args:
      outputs: heatmaps (N, S, h, w, L) and decimal_heatmaps (N, d, d, L), as attributes.
      batch: its targets are those of `HIHCodec.encode`.
    """
    targets = batch["targets"]
    heatmap_loss = jnp.square(outputs.heatmaps - targets.heatmaps).mean()
    log_target = jax.nn.log_softmax(targets.decimal_heatmaps, axis=(1, 2))
    log_output = jax.nn.log_softmax(outputs.decimal_heatmaps, axis=(1, 2))
    divergence = (jnp.exp(log_target) * (log_target - log_output)).mean()
    total = heatmap_loss + HIH_DECIMAL_WEIGHT * divergence
    return total, {"heatmap_loss": heatmap_loss, "decimal_loss": divergence}


def cross_entropy(logits, batch):
    """The mean over the batch, of a classifier."""
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
    return losses.mean(), {}


LOSSES = {
    "mse": mean_squared_error,
    "masked_mse": masked_mean_squared_error,
    "adaptive_wing": adaptive_wing,
    "hih": hih,
}


def get_loss(spec, codec):
    """The loss that `config.train.loss` means for landmarks: a name, a text, or a table with one.

    HRNetError for an unknown one, or a built-in one for other targets than the codec's.
    """
    loss = parts.bind(spec, "train.loss", LOSSES)
    plain = getattr(loss, "func", loss)
    if plain in LOSSES.values() and isinstance(codec, HIHCodec) != (plain is hih):
        raise HRNetError(
            f"train.loss {parts.describe(spec)!r} does not go with {type(codec).__name__}: loss "
            "'hih' and codec 'hih' belong together"
        )
    return loss


def _shown(targets):
    """(N, 1, 1, L) bool: the target map (N, h, w, L) is not empty."""
    return (targets > 0).any(axis=(1, 2), keepdims=True)
