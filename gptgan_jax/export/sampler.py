"""A generator's sampler as a separate program for StableHLO and TensorFlow: weights and prompts in, texts out."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from gptgan_jax.models.generators import Generator
from gptgan_jax.models.trees import nested
from gptgan_jax.sampling.decoding import sample
from gptgan_jax.types import Array

PLATFORMS = ("cpu", "cuda", "tpu")
OUTPUTS = ("tokens", "mask", "log_probs")
Weights = dict[str, Any]
"""Parameters by their path, such as "trunk/embedding/table"."""


def sampler_of(generator: Generator, length: int) -> Callable[..., dict[str, Array]]:
    """(weights, seed uint32 [], prompt int32 [B, P], prompt_mask bool [B, P], temperature float32 []) -> texts.

    The texts are {"tokens": int32 [B, T], "mask": bool [B, T], "log_probs": float32 [B, T]}, as in `types.Sample`. A
    prompt begins with BOS and is padded on the left.

    Args:
        generator: the network.
        length: T.
    """

    def write(weights: Weights, seed: Array, prompt: Array, prompt_mask: Array, temperature: Array) -> dict[str, Array]:
        written = sample(generator, nested(weights), jax.random.key(seed), prompt, prompt_mask, length, temperature)
        return {name: getattr(written, name) for name in OUTPUTS}

    return write


def constraints(generator: Generator, length: int) -> tuple[str, ...]:
    """The constraints on P, for a program that takes prompts of any length."""
    return () if generator.max_length is None else (f"P <= {generator.max_length - length}",)


def polymorphic_shape(generator: Generator, length: int) -> tuple[Any, Any]:
    """B and P as symbols: one program takes any number of prompts of any length."""
    rows, tokens = export.symbolic_shape("B, P", constraints=constraints(generator, length))
    return rows, tokens


def arguments(generator: Generator, length: int, weights: Weights) -> tuple[Any, ...]:
    """The sampler's arguments as shape structs."""
    shape = polymorphic_shape(generator, length)
    return (
        {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in weights.items()},
        jax.ShapeDtypeStruct((), jnp.uint32),
        jax.ShapeDtypeStruct(shape, jnp.int32),
        jax.ShapeDtypeStruct(shape, jnp.bool_),
        jax.ShapeDtypeStruct((), jnp.float32),
    )
