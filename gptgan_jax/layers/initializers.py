"""Initializers that give the same values whether parameters are initialised one by one or all at once."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from gptgan_jax.types import Array, Params


def initial_params(module: nn.Module, key: Array, *arguments: Array) -> Params:
    """Random parameters of a module, for calls with these arguments, as one compiled program that equal modules share.

    One operation at a time there would be dozens of programs to compile, and the arguments would be computed with.
    """
    try:
        hash(module)
    except TypeError:  # a list among its settings
        return module.init(key, *arguments)["params"]
    return _initial_params(module, key, *arguments)


@functools.partial(jax.jit, static_argnums=0)
def _initial_params(module: nn.Module, key: Array, *arguments: Array) -> Params:
    params: Params = module.init(key, *arguments)["params"]
    return params


@functools.cache
def normal(stddev: float) -> Callable[..., Array]:
    """(key, shape, dtype) -> numbers from N(0, stddev^2).

    The numbers are bit-identical to those of `nn.initializers.normal` inside a larger compiled program. Called by
    itself it is compiled as one program per shape; one program per operation would round differently.
    """
    return jax.jit(nn.initializers.normal(stddev), static_argnums=(1, 2))


def by_fan_in(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """Values for a matrix [inputs, outputs]: N(0, 1 / inputs), truncated at two standard deviations."""
    return nn.initializers.truncated_normal(shape[0] ** -0.5)(key, shape, dtype)
