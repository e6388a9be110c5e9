"""SPIN: the generator against an earlier self, without a discriminator."""

import jax
import jax.numpy as jnp

from gptgan_jax.gradients.families import Metrics, SelfPlay
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.schema.ranges import REFRESH_EVERY, SELF_PLAY_SCALE
from gptgan_jax.types import Array, Number


def spin(scale: Number = 0.1, refresh_every: int = 100) -> SelfPlay:
    """Self-play fine-tuning (Chen et al. 2024, arXiv:2401.01335).

    The loss is the mean of softplus(-scale ((log p - log q)(real) - (log p - log q)(written))), where q is the
    reference and wrote the texts. Its minimum moves from q towards the data, to q(x) (data(x)/q(x))^(1/scale) where the
    texts allow it.

    Args:
        scale: the paper's lambda, above 0.
        refresh_every: steps of an iteration: then the generator becomes its own reference.

    Raises:
        ValueError: a number is out of its range.

    Example:
        >>> loss, metrics = gg.spin(scale=1.0).loss(*jnp.zeros((4, 2)))
        >>> round(float(loss), 4)  # log 2, where the generator is still its reference
        0.6931
    """
    SELF_PLAY_SCALE.check("scale", scale)
    REFRESH_EVERY.check("refresh_every", refresh_every)

    def loss(real: Array, reference_real: Array, written: Array, reference_written: Array) -> tuple[Array, Metrics]:
        check_arrays(
            "spin",
            real=(real, "float [B]"),
            reference_real=(reference_real, "float [B]"),
            written=(written, "float [B]"),
            reference_written=(reference_written, "float [B]"),
        )
        margin = (real - reference_real) - (written - reference_written)
        metrics = {"margin": margin.mean(), "preferred_real": (margin > 0).mean(dtype=jnp.float32)}
        return jax.nn.softplus(-scale * margin).mean(), metrics

    def refresh(step: Array) -> tuple[Array, Array]:
        return step + 1, step % refresh_every == 0

    return SelfPlay(lambda width: jnp.int32(0), loss, refresh)
