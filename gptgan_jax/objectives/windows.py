"""Which scores count where windows of a text are judged by themselves: the last of each, as if each were a text.

Example:
    >>> scores, mask = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[True, True, True]])
    >>> of_windows(scores, mask, window=2)  # of three tokens: a window of two, and one of one
    (Array([[2., 3.]], dtype=float32), Array([[ True,  True]], dtype=bool))
"""

import jax.numpy as jnp

from gptgan_jax.objectives.likelihood import is_last
from gptgan_jax.types import Array


def of_windows(values: Array, mask: Array, window: int) -> tuple[Array, Array]:
    """The value at the last token of each window, and which windows a text has.

    Args:
        values: float [R, T], of each token.
        mask: bool [R, T], which tokens a text has: those from the first to its last.
        window: tokens of each; the last one of a text may be shorter.

    Returns:
        float [R, W] and bool [R, W], so that column k is of the k-th window, wherever it ends.
    """
    ends = _parted(_ends(mask, window), window)
    return jnp.where(ends, _parted(values, window), 0.0).sum(axis=-1), ends.any(axis=-1)


def at_ends(values: Array, mask: Array, window: int) -> Array:
    """The reverse: float [R, W] of windows -> float [R, T], each at its window's last token; 0 elsewhere."""
    return jnp.where(_ends(mask, window), jnp.repeat(values, window, axis=1)[:, : mask.shape[1]], 0.0)


def _ends(mask: Array, window: int) -> Array:
    """Whether a window ends at a token, or with the text: bool [R, T] -> bool [R, T]."""
    return mask & ((jnp.arange(1, mask.shape[1] + 1) % window == 0) | is_last(mask))


def _parted(x: Array, window: int) -> Array:
    """[R, T] -> [R, W, window]."""
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % window))).reshape(x.shape[0], -1, window)
