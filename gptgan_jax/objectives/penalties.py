"""Regularisers of the discriminator: penalties on the gradient of its scores by the texts' embeddings.

Each takes `score`, which maps embeddings float [B, S, E] to one number per text, float [B]; no text may affect
another's score. It may use a mask: padding that does not change the score adds nothing to a gradient. All can be
differentiated again, by the parameters inside `score`; the caller applies the weight.

Example:
    >>> def steep(embeddings):
    ...     return (3 * embeddings).sum(axis=(1, 2))
    >>> gg.penalties.gradient_norms_squared(steep, jnp.ones((2, 1, 4)))
    Array([36., 36.], dtype=float32)
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from gptgan_jax.distributed.rows import ALL_ROWS, Rows
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.types import Array

__all__ = [
    "gradient_norms_squared",
    "gradient_penalty",
    "zero_centred",
]


def __dir__() -> list[str]:
    return __all__


Score = Callable[[Array], Array]


def gradient_norms_squared(score: Score, embeddings: Array) -> Array:
    """Squared norm of the gradient of each text's score by its embeddings: float [B, S, E] -> float32 [B]."""
    check_arrays("gradient_norms_squared", embeddings=(embeddings, "float [B, S, E]"))

    def total(embeddings: Array) -> Array:
        scores = score(embeddings)
        check_arrays("gradient_norms_squared", embeddings=(embeddings, "float [B, S, E]"), scores=(scores, "float [B]"))
        return scores.sum()

    gradient = jax.grad(total)(embeddings)
    return jnp.square(gradient.astype(jnp.promote_types(gradient.dtype, jnp.float32))).sum(axis=(1, 2))


def zero_centred(score: Score, embeddings: Array) -> Array:
    """Half the mean squared gradient (Mescheder et al. 2018): float [B, S, E] -> float32 [].

    For real texts this is R1, for generated ones R2; their weight is the paper's gamma.
    """
    return gradient_norms_squared(score, embeddings).mean() / 2


def gradient_penalty(score: Score, real: Array, fake: Array, key: Array, rows: Rows = ALL_ROWS) -> Array:
    """Mean squared distance of the gradient's norm from 1, between real and generated texts (WGAN-GP).

    The gradient is at e real + (1 - e) fake, with e uniform between 0 and 1 for each text (Gulrajani et al. 2017).

    Args:
        score: of such a mixture; if lengths differ, it should count positions that either text has.
        real, fake: float [B, S, E].
        key: typed PRNG key.
        rows: if these are only one device's share of the rows.

    Returns:
        float32 [].
    """
    check_arrays("gradient_penalty", real=(real, "float [B, S, E]"), fake=(fake, "float [B, S, E]"))
    weight = rows.uniform(key, (real.shape[0], 1, 1), dtype=real.dtype)
    squared = gradient_norms_squared(score, weight * real + (1 - weight) * fake)
    # The square root has no finite derivative at 0, the gradient norm of a score that ignores its text.
    return jnp.square(jnp.sqrt(squared + 1e-12) - 1).mean()
