"""EBFT (Jelassi et al. 2026): match the features of real texts, as computed by a frozen copy of the generator."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from gptgan_jax.errors import suggests_names
from gptgan_jax.estimators.rloo import rloo
from gptgan_jax.gradients.families import Matching, Metrics, PolicyGradient
from gptgan_jax.objectives.shapes import check_arrays
from gptgan_jax.schema.ranges import CONTEXT, DEPTH, DIVERSITY, MATCHED_GROUP, STRETCH, check_choice
from gptgan_jax.types import Array, Batch

Whitening = Literal["real", "group", "none"]
TOLERANCE = 1e-5
"""Eigenvalues below this share of the largest count as zero."""


@suggests_names
def feature_matching(
    samples: int = 4,
    depths: tuple[float, ...] = (0.25, 0.5, 0.75),
    whitening: Whitening = "real",
    diversity: float = 1.0,
    length: int | None = None,
    context: int = 0,
    stride: int | None = None,
) -> PolicyGradient:
    """Energy-based fine-tuning (Jelassi et al. 2026, arXiv:2603.12248): feature matching by leave-one-out REINFORCE.

    With f_j the features of text j of the N that answer a prompt, and f those of the real text, the reward of text j is
    2 f_j . f - 2 diversity mean_k f_j . f_k over the other texts k, minus the mean of this over the others without j.
    With diversity 1 and features that depend only on their own text (whitening real or none) the expected gradient is
    exactly that of -|E f_j - f|^2. Whitening by the prompt's other texts is a bias.

    Args:
        samples: texts per prompt, N, at least 3.
        depths: relative depths of layers, each above 0 and at most 1, after which the last token's hidden state is
            taken, in the generator as it was when the phase began.
        whitening: by the second moment of the real texts' features in the batch (real), by that of each prompt's
            generated texts, as in the paper (group), or none: the state of each depth is only scaled to length 1.
        diversity: weight of the similarity between the texts; the authors' code uses .5.
        length: tokens of each stretch of a text that is generated; None: the whole text.
        context: tokens of the text before the first stretch.
        stride: tokens from the start of one stretch to the next; None: `length`.

    Raises:
        ValueError: an argument is out of its range.

    Example:
        >>> estimator = gg.feature_matching(samples=3, depths=(0.5, 1.0))
        >>> estimator.samples, estimator.whole_texts, estimator.matching.depths
        (3, True, (0.5, 1.0))
    """
    MATCHED_GROUP.check("samples", samples)
    DIVERSITY.check("diversity", diversity)
    CONTEXT.check("context", context)
    check_choice("whitening", whitening, get_args(Whitening))
    for name, value in (("length", length), ("stride", stride)):
        if value is not None:
            STRETCH.check(name, value)
    for depth in depths:
        DEPTH.check("depths", depth)

    def pay(written: Array, real: Array, counts: Array) -> tuple[Array, Metrics]:
        check_arrays(
            "feature_matching",
            written=(written, "float [R, L, D]"),
            real=(real, "float [B, L, D]"),
            counts=(counts, "bool [B]"),
        )
        ours, target = whitened(written.reshape(len(real), samples, *real.shape[1:]), real, counts, whitening)
        alignment = jnp.einsum("bnw,bw->bn", ours, target)
        likeness = jnp.einsum("bnw,bmw->bnm", ours, ours)
        similarity = (likeness.sum(axis=2) - jnp.einsum("bnn->bn", likeness)) / (samples - 1)
        # A leave-one-out mean is subtracted later. The other texts' similarities to j are part of it and cancel a share
        # of 1/(N - 1), which leaves (N - 2)/(N - 1) of the term; it is therefore multiplied by the inverse.
        paid = 2 * alignment - 2 * diversity * (samples - 1) / (samples - 2) * similarity
        share = counts[:, None] / jnp.maximum(counts.sum(), 1) / samples
        return paid.ravel(), {"alignment": (share * alignment).sum(), "similarity": (share * similarity).sum()}

    def stretches(batch: Batch) -> Batch:
        return batch if length is None else stretches_of(batch, length, context, stride or length)

    matching = Matching(tuple(depths), pay, stretches)
    return rloo(samples)._replace(matching=matching, whole_texts=True)


def whitened(written: Array, real: Array, counts: Array, how: Whitening) -> tuple[Array, Array]:
    """Features of N generated texts per prompt, float [B, N, L, D], and of real ones, [B, L, D], as vectors [..., L D].

    `counts`, bool [B], is true for prompts whose real text has any token.
    """
    written, real = (x.astype(jnp.float32) if x.dtype == jnp.bfloat16 else x for x in (written, real))
    if how != "real":
        written, real = _unit(written), _unit(real)
    ours, target = written.reshape(*written.shape[:2], -1), real.reshape(len(real), -1)
    if how == "real":
        seen = jnp.where(counts[:, None], target, 0.0)
        by = _inverse_root(seen.T @ seen / jnp.maximum(counts.sum(), 1)) / target.shape[1] ** 0.5
        return ours @ by, target @ by
    if how == "group":
        return _inverse_root(jnp.einsum("bnw,bmw->bnm", ours, ours)) @ ours, _unit(target)
    return ours / written.shape[2] ** 0.5, target / real.shape[1] ** 0.5


def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def _inverse_root(moment: Array) -> Array:
    """The pseudo-inverse of the square root of symmetric matrices, float [..., K, K]."""
    values, vectors = jnp.linalg.eigh(moment)
    spans = values > TOLERANCE * values[..., -1:]
    roots = jnp.where(spans, jax.lax.rsqrt(jnp.where(spans, values, 1.0)), 0.0)
    return (vectors * roots[..., None, :]) @ vectors.swapaxes(-1, -2)


def stretches_of(batch: Batch, length: int, context: int, stride: int) -> Batch:
    """Stretches of each text, as texts with everything before them as their prompt; those of a text are neighbours.

    Stretches begin at token `context` and then every `stride` tokens, as long as they fit into T; a stretch after the
    end of its text has no token that counts.
    """
    starts = range(context, batch.target.shape[1] - length + 1, stride)
    if not starts:
        raise ValueError(
            f"a stretch of {length} tokens after {context} does not fit into texts of {batch.target.shape[1]}; "
            "set length or context lower"
        )

    def cut(start: int) -> Batch:
        room = (0, 0), (starts[-1] - start, 0)
        prompt = jnp.concatenate([batch.prompt, batch.target[:, :start]], axis=1)
        mask = jnp.concatenate([batch.prompt_mask, batch.target_mask[:, :start]], axis=1)
        target, target_mask = (x[:, start : start + length] for x in (batch.target, batch.target_mask))
        # Otherwise the padding of a text that has ended would be a gap in the prompt before the stretch.
        prompt_mask = jnp.where(target_mask[:, :1], jnp.pad(mask, room), True)
        return Batch(jnp.pad(prompt, room), prompt_mask, target, target_mask, batch.label)

    cuts = [cut(start) for start in starts]
    return jax.tree.map(lambda *parts: jnp.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:]), *cuts)
