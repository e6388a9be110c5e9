"""Weights in fewer bytes while texts are written: each token reads all of them."""

from typing import Literal

import jax
import jax.numpy as jnp

from gptgan_jax.types import Params

Weights = Literal["float32", "bfloat16"]
MATRICES = ("kernel", "table", "recurrent", "lora_a", "lora_b")
"""Names of what is multiplied with or looked up; biases, norms and positions are small, and stay as they are."""


def held_in(params: Params, weights: Weights) -> Params:
    """A generator's parameters with its matrices in that type, for half the bytes in bfloat16.

    Products are computed in the network's own `dtype` and summed up in float32, as before: of a network with `dtype:
    bfloat16` nothing changes but where its weights are rounded, once here in place of at each token. Of one in float32
    each weight is off by up to 2^-8 of itself.
    """
    if weights == "float32":
        return params

    def held(path: tuple[jax.tree_util.DictKey, ...], x: jax.Array) -> jax.Array:
        return x.astype(jnp.bfloat16) if path[-1].key in MATRICES else x

    return jax.tree.map_with_path(held, params)
