"""Spectral normalisation of a network's weight matrices, as a pure function of its parameters."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gptgan_jax.types import Array, Params


def spectrally_normalised(params: Params, doublings: int = 8) -> Params:
    """The parameters with every weight matrix divided by its largest singular value (Miyato et al. 2018).

    Weight matrices are the leaves named "kernel"; with a leading axis, as scanned layers have, each matrix along it.
    Embedding tables, biases and scales of norms stay as they are. The singular value is estimated by 2^doublings power
    iterations from a fixed start, so equal parameters give equal results and there is no state to carry. The estimate
    is never too large, and by default less than 1 % too small for random matrices, so the largest singular value of the
    result is 1 or slightly more. The singular vectors are constants to the gradient.
    """

    def normalised(path: tuple[Any, ...], leaf: Array) -> Array:
        if path[-1].key != "kernel":
            return leaf
        divide = functools.partial(_divided_by_norm, doublings=doublings)
        for _ in range(leaf.ndim - 2):
            divide = jax.vmap(divide)
        return divide(leaf)

    return jax.tree_util.tree_map_with_path(normalised, params)


def _divided_by_norm(kernel: Array, doublings: int) -> Array:
    """W / (u^T W v) for the matrix W, with u and v its leading singular vectors; 0 stays 0."""
    rows, columns = kernel.shape
    if rows < columns:
        return _divided_by_norm(kernel.T, doublings).T
    matrix = jax.lax.stop_gradient(kernel)
    # Entries of at most 1 keep the squares below from overflowing.
    matrix = matrix / jnp.maximum(jnp.abs(matrix).max(), jnp.finfo(matrix.dtype).tiny)
    # Squaring W^T W doubles the power: a few matrix products instead of hundreds of dependent matrix-vector products.
    power = _unit(matrix.T @ matrix)
    for _ in range(doublings):
        power = _unit(power @ power)
    start = np.random.default_rng(0).normal(size=columns)
    right = _unit(power @ jnp.asarray(start, matrix.dtype))
    left = _unit(matrix @ right)
    norm = left @ kernel @ right
    return kernel / jnp.where(norm > 0, norm, 1)


def _unit(x: Array) -> Array:
    """x / |x|; 0 stays 0."""
    return x / jnp.maximum(jnp.linalg.norm(x), jnp.finfo(x.dtype).tiny)
