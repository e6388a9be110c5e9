"""Maximum mean discrepancy: a kernel distance between two sets of feature vectors (Gretton et al. 2012, JMLR 13).

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y),      k(a, b) = sum over bandwidths h of exp(-|a - b|^2 / 2 h^2)

with x and x' from one distribution, y and y' from the other. With this kernel it is 0 only if both are the same. Both
estimates here are unbiased: no vector is compared with itself.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.schema.ranges import BANDWIDTH
from gptgan_jax.types import Array, Number

BANDWIDTHS = (20.0,)
"""As in the TextGAN authors' code."""


def check_bandwidths(bandwidths: Sequence[Number]) -> None:
    """Raises ValueError if there is no bandwidth, or one is not above 0."""
    if not bandwidths:
        raise ValueError("mmd_bandwidths should be at least one number above 0, such as 20")
    for one in bandwidths:
        BANDWIDTH.check("mmd_bandwidths", one)


def squared_mmd(x: Array, y: Array, bandwidths: Sequence[Number] = BANDWIDTHS) -> Array:
    """An estimate of MMD^2 of two sets of vectors, which may be negative: float [R, W], [B, W] -> float32 [].

    Raises:
        ValueError: fewer than two vectors in a set.
    """
    within = _with_others(x, x, bandwidths).mean() + _with_others(y, y, bandwidths).mean()
    return within - 2 * _kernel(x, y, bandwidths).mean()


def witness(x: Array, y: Array, bandwidths: Sequence[Number] = BANDWIDTHS) -> Array:
    """The reward of each x, 2 mean k(x_i, y) - 2 mean k(x_i, other x): float [R, W], [B, W] -> float32 [R].

    The expected gradient is that of -MMD^2, both when it weights the log-probability of text i and when it is
    differentiated through x_i, as the other vectors are held fixed.

    Raises:
        ValueError: there is no other x.
    """
    return 2 * _kernel(x, y, bandwidths).mean(axis=1) - 2 * _with_others(x, jax.lax.stop_gradient(x), bandwidths)


def _kernel(x: Array, y: Array, bandwidths: Sequence[Number]) -> Array:
    """k of each x and each y, float32 [R, B]."""
    check_arrays("mmd", x=(x, "float [R, W]"), y=(y, "float [B, W]"))
    x, y = x.astype(jnp.float32), y.astype(jnp.float32)
    squares = jnp.square(x).sum(axis=1)[:, None] + jnp.square(y).sum(axis=1) - 2 * x @ y.T
    return sum((jnp.exp(-jnp.maximum(squares, 0.0) / (2 * h * h)) for h in bandwidths), jnp.float32(0))


def _with_others(x: Array, same: Array, bandwidths: Sequence[Number]) -> Array:
    """The mean k of each vector and the others of its set, float32 [R]."""
    if len(x) < 2:
        raise ValueError("a discrepancy of features compares texts with each other: it needs two or more in a batch")
    kernel = _kernel(x, same, bandwidths)
    return (kernel.sum(axis=1) - jnp.diagonal(kernel)) / (len(x) - 1)
