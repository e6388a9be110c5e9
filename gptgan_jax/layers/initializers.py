"""Initial values of parameters that are made one by one, as well as all at once."""

import functools
from collections.abc import Callable

import jax
from flax import linen as nn

from gptgan_jax.types import Array


@functools.cache
def normal(stddev: float) -> Callable[..., Array]:
    """(key, shape, dtype) -> numbers from N(0, stddev^2).

    The numbers are those of `nn.initializers.normal`, to the bit, inside a larger program and outside of one: by itself
    it is one compiled program for each shape, not one for each of its operations, which would round otherwise.
    """
    return jax.jit(nn.initializers.normal(stddev), static_argnums=(1, 2))
