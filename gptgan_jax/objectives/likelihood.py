"""Maximum likelihood, and the per-token quantities used by a generator's regularisers and distillation."""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.types import Array

KlEstimator = Literal["exact", "low_variance", "reward"]

# The least total probability of the tokens outside a teacher's top K; anything below is rounding error.
LEAST_REMAINING = 1e-7


@jax.custom_vjp
def token_log_probs(logits: Array, tokens: Array) -> Array:
    """log softmax(logits)[token] in nats: float [..., V], int32 [...] -> float32 [...].

    Its gradient, token - softmax, is written by hand: that of a gather would be a scatter, which is slow on every
    backend, and selecting by comparison would read all logits once more.
    """
    return _picked(logits, tokens)[0]


def _picked(logits: Array, tokens: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    check_arrays("token_log_probs", logits=(logits, "float [..., V]"), tokens=(tokens, "int [...]"))
    chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0].astype(jnp.float32)
    log_total = jax.nn.logsumexp(logits.astype(jnp.float32), axis=-1)
    return chosen - log_total, (logits, tokens, log_total)


def _picked_gradient(kept: tuple[Array, Array, Array], gradient: Array) -> tuple[Array, None]:
    logits, tokens, log_total = kept
    token = jnp.arange(logits.shape[-1]) == tokens[..., None]
    softmax = jnp.exp(logits.astype(jnp.float32) - log_total[..., None])
    return (gradient[..., None] * (token - softmax)).astype(logits.dtype), None


token_log_probs.defvjp(_picked, _picked_gradient)


def cross_entropy(logits: Array, targets: Array, mask: Array) -> Array:
    """Mean negative log-likelihood in nats per token: float [B, T, V], int32 [B, T], bool [B, T] -> float32 []."""
    check_arrays(
        "cross_entropy",
        logits=(logits, "float [B, T, V]"),
        targets=(targets, "int [B, T]"),
        mask=(mask, "bool [B, T]"),
    )
    return masked_mean(-token_log_probs(logits, targets), mask)


def entropy(logits: Array) -> Array:
    """Entropy in nats of each next-token distribution: float [..., V] -> float32 [...]."""
    check_arrays("entropy", logits=(logits, "float [..., V]"))
    logits = logits.astype(jnp.float32)
    # In the same form as in token_log_probs, so that XLA computes it only once.
    log_probs = logits - jax.nn.logsumexp(logits, axis=-1)[..., None]
    return -(jnp.exp(log_probs) * log_probs).sum(axis=-1)


def kl_divergence(logits: Array, reference_logits: Array) -> Array:
    """KL(softmax(logits) || softmax(reference_logits)) in nats: float [..., V] twice -> float32 [...]."""
    check_arrays(
        "kl_divergence",
        logits=(logits, "float [..., V]"),
        reference_logits=(reference_logits, "float [..., V]"),
    )
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    reference = jax.nn.log_softmax(reference_logits.astype(jnp.float32), axis=-1)
    return (jnp.exp(log_probs) * (log_probs - reference)).sum(axis=-1)


def generalised_jensen_shannon(logits: Array, teacher_logits: Array, beta: float) -> Array:
    """D_beta of P = softmax(teacher_logits) and Q = softmax(logits) in nats: float [..., V] twice -> float32 [...].

    beta KL(P || M) + (1 - beta) KL(Q || M) with M = beta P + (1 - beta) Q (Agarwal et al. 2024, arXiv:2306.13649); with
    beta 0 it is KL(P || Q) and with 1 KL(Q || P), the limits of D_beta / beta and of D_beta / (1 - beta). A teacher's
    logit may be -inf.
    """
    check_arrays(
        "generalised_jensen_shannon",
        logits=(logits, "float [..., V]"),
        teacher_logits=(teacher_logits, "float [..., V]"),
    )
    of_teacher, of_student = (jax.nn.log_softmax(_at_least_float32(x)) for x in (teacher_logits, logits))
    return _divergence(of_teacher, of_student, beta)


def top_k_divergence(logits: Array, ids: Array, log_probs: Array, beta: float) -> Array:
    """D_beta of `generalised_jensen_shannon` over K + 1 events: each of the teacher's K tokens, or any other token.

    It is at most the divergence over all tokens, because merging tokens can only reduce it, and equal to it for K = V.
    In nats: float [..., V], int [..., K], float [..., K] -> float32 [...].

    Args:
        logits: the student's.
        ids: of the K tokens, without repetition.
        log_probs: the teacher's log-probabilities of them; -inf for a token that it never takes.
        beta: see `generalised_jensen_shannon`.
    """
    check_arrays(
        "top_k_divergence",
        logits=(logits, "float [..., V]"),
        ids=(ids, "int [..., K]"),
        log_probs=(log_probs, "float [..., K]"),
    )
    logits, of_teacher = _at_least_float32(logits), _at_least_float32(log_probs)
    norm = jax.nn.logsumexp(logits, axis=-1, keepdims=True)
    of_student = jnp.take_along_axis(logits, ids, axis=-1) - norm
    if ids.shape[-1] < logits.shape[-1]:
        # Summed directly: 1 minus the sum of the K tokens would be rounding error when that is close to 1.
        without = jnp.put_along_axis(logits, ids, -jnp.inf, axis=-1, inplace=False)
        others = jax.nn.logsumexp(without, axis=-1, keepdims=True) - norm
        remaining = jnp.maximum(1 - jnp.exp(of_teacher).sum(axis=-1, keepdims=True), LEAST_REMAINING)
        of_student = jnp.concatenate([of_student, others], axis=-1)
        of_teacher = jnp.concatenate([of_teacher, jnp.log(remaining)], axis=-1)
    return _divergence(of_teacher, of_student, beta)


def _at_least_float32(x: Array) -> Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _divergence(of_teacher: Array, of_student: Array, beta: float) -> Array:
    """D_beta from log-probabilities [..., E] of the same events."""

    def kl(one: Array, other: Array) -> Array:
        never = jnp.isneginf(one)  # adds 0, the limit
        return (jnp.exp(one) * (jnp.where(never, 0.0, one) - jnp.where(never, 0.0, other))).sum(axis=-1)

    if beta in (0, 1):
        return kl(of_teacher, of_student) if beta == 0 else kl(of_student, of_teacher)
    mixed = jnp.logaddexp(of_teacher + math.log(beta), of_student + math.log1p(-beta))
    return beta * kl(of_teacher, mixed) + (1 - beta) * kl(of_student, mixed)


def is_last(mask: Array) -> Array:
    """True at the last true entry of each row: bool [B, T] -> bool [B, T]."""
    check_arrays("is_last", mask=(mask, "bool [B, T]"))
    return mask & (jnp.arange(mask.shape[1]) == mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1, keepdims=True))


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean of the values where the mask is true; 0 if it is true nowhere: float [...], bool [...] -> float []."""
    check_arrays("masked_mean", values=(values, "float [...]"), mask=(mask, "bool [...]"))
    return jnp.where(mask, values, 0.0).sum() / jnp.maximum(mask.sum(), 1)


def mean_by_position(values: Array, mask: Array) -> Array:
    """Mean over the rows that have a position, float32 [B, T] -> [T]; over all values in the mask if none has it."""
    check_arrays("mean_by_position", values=(values, "float [B, T]"), mask=(mask, "bool [B, T]"))
    counts = mask.sum(axis=0)
    means = jnp.where(mask, values, 0.0).sum(axis=0) / jnp.maximum(counts, 1)
    return jnp.where(counts > 0, means, masked_mean(values, mask))
