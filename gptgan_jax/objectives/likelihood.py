"""Maximum likelihood, and the per-token quantities that the penalties on a generator are made of."""

from typing import Literal

import jax
import jax.numpy as jnp

from gptgan_jax.types import Array

KlEstimator = Literal["exact", "low_variance", "reward"]


def token_log_probs(logits: Array, tokens: Array) -> Array:
    """log softmax(logits)[token] in nats: float [..., V], int32 [...] -> float32 [...].

    Picks by comparison rather than by a gather: its gradient is then no scatter, which is slow on every backend.
    """
    logits = logits.astype(jnp.float32)
    chosen = jnp.where(jnp.arange(logits.shape[-1]) == tokens[..., None], logits, 0.0).sum(axis=-1)
    return chosen - jax.nn.logsumexp(logits, axis=-1)


def cross_entropy(logits: Array, targets: Array, mask: Array) -> Array:
    """Mean negative log-likelihood in nats a token: float [B, T, V], int32 [B, T], bool [B, T] -> float32 []."""
    return masked_mean(-token_log_probs(logits, targets), mask)


def entropy(logits: Array) -> Array:
    """Entropy in nats of each next-token distribution: float [..., V] -> float32 [...]."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return -(jnp.exp(log_probs) * log_probs).sum(axis=-1)


def kl_divergence(logits: Array, reference_logits: Array) -> Array:
    """KL(softmax(logits) || softmax(reference_logits)) in nats: float [..., V] twice -> float32 [...]."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    reference = jax.nn.log_softmax(reference_logits.astype(jnp.float32), axis=-1)
    return (jnp.exp(log_probs) * (log_probs - reference)).sum(axis=-1)


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean of the values where the mask is true; 0 where it is true nowhere."""
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)
