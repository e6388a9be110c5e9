"""Rotary position embeddings (Su et al. 2021), with the scaling for longer contexts of Llama 3.1 and later.

The i-th pair of a head's features turns by `position * frequency_i` radians. A network that was trained on short
contexts reads longer ones better if its slow pairs turn slower still and its fast pairs are unchanged.

Dimensions: B batch, T tokens, E head width.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np

from gptgan_jax.types import Array

RopeScaling = Literal["none", "llama3"]


def frequencies(
    size: int,
    theta: float,
    scaling: RopeScaling = "none",
    factor: float = 8.0,
    low: float = 1.0,
    high: float = 4.0,
    original: int = 8192,
) -> np.ndarray:
    """Radians per position for each pair of features: float32 [E/2].

    Args:
        size: E, even.
        theta: base of the wavelengths.
        scaling: with `llama3` (Dubey et al. 2024) a pair that makes at most `low` turns in `original` positions is
            `factor` times slower, one that makes at least `high` turns is unchanged, and those between interpolate.
        factor, low, high, original: see `scaling`.
    """
    plain = theta ** (-np.arange(0, size, 2, dtype=np.float64) / size)
    if scaling == "llama3":
        turns = original * plain / (2 * np.pi)
        kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
        plain = plain * (kept + (1 - kept) / factor)
    return plain.astype(np.float32)


def rotate(x: Array, positions: Array, per_position: np.ndarray) -> Array:
    """Rotates the pairs (x_i, x_{i + E/2}), as Llama does.

    Args:
        x: [B, T, ..., E].
        positions: int32 [B, T].
        per_position: `frequencies`, [E/2].
    """
    half = x.shape[-1] // 2
    angles = positions[..., None].astype(jnp.float32) * per_position
    angles = angles.reshape(*positions.shape, *[1] * (x.ndim - 3), half)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
