"""Initial values of parameters that are made one by one, as well as all at once."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from gptgan_jax.types import Array


@functools.cache
def normal(stddev: float) -> Callable[..., Array]:
    """(key, shape, dtype) -> numbers from N(0, stddev^2).

    The numbers are those of `nn.initializers.normal`, to the bit, inside a larger program and outside of one: by itself
    it is one compiled program for each shape, not one for each of its operations, which would round otherwise.
    """
    return jax.jit(nn.initializers.normal(stddev), static_argnums=(1, 2))


def by_fan_in(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """Of a matrix [inputs, outputs]: N(0, 1 / inputs), cut off at two standard deviations."""
    return nn.initializers.truncated_normal(shape[0] ** -0.5)(key, shape, dtype)
