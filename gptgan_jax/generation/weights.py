"""Weights in fewer bytes for generation, where each token reads all of them."""

from typing import Literal

import jax
import jax.numpy as jnp

from gptgan_jax.types import Params

Weights = Literal["float32", "bfloat16"]
MATRICES = ("kernel", "table", "recurrent", "lora_a", "lora_b")
"""Names of the parameters that are converted: matrices and tables. Biases, norms and positions are small and stay."""


def held_in(params: Params, weights: Weights) -> Params:
    """A generator's parameters with its matrices in that type; bfloat16 halves their size.

    Products are still computed in the network's own `dtype` and accumulated in float32. For a network with `dtype:
    bfloat16` the result is the same, as its weights are rounded once here instead of at each token. For one in float32
    the relative error of each weight is up to 2^-8.
    """
    if weights == "float32":
        return params

    def held(path: tuple[jax.tree_util.DictKey, ...], x: jax.Array) -> jax.Array:
        return x.astype(jnp.bfloat16) if path[-1].key in MATRICES else x

    return jax.tree.map_with_path(held, params)
