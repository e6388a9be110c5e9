"""EBFT (Jelassi et al. 2026): the generator's texts have the features of real ones, by a frozen copy of itself."""

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
"""Of an eigenvalue, over the largest: what is less spans no direction."""


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

    Text j of the N that answer a prompt is paid 2 f_j . f - 2 diversity mean_k f_j . f_k over the others k, where f_j
    are its features and f those of the real text, less the same of the prompt's texts without j. With diversity 1 and
    features that depend on their own text alone (whitening real or none) the expected gradient is, exactly, that of
    -|E f_j - f|^2. Features that are whitened by those of the prompt's other texts are a bias.

    Args:
        samples: texts a prompt, N, at least 3.
        depths: shares of the generator's layers, each above 0 and at most 1, after which the last token's state is
            taken, from the generator as it was when the phase began.
        whitening: by the second moment of the real texts' features in the batch (real), by that of the features of the
            texts of each prompt, as in the paper (group), or none: each depth's state with length 1.
        diversity: weight of the texts' likeness; the authors' code has .5.
        length: tokens of a stretch of a text that the generator writes anew; None is all of it.
        context: tokens of the text before the first stretch.
        stride: tokens from one stretch to the next; None: `length`.

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
        # Of this the leave-one-out mean is taken. In that of the others their likeness to j would stand as well, and
        # take a share of 1/(N - 1) of it back: what is left is (N - 2)/(N - 1), so it is paid with the inverse.
        paid = 2 * alignment - 2 * diversity * (samples - 1) / (samples - 2) * similarity
        share = counts[:, None] / jnp.maximum(counts.sum(), 1) / samples
        return paid.ravel(), {"alignment": (share * alignment).sum(), "similarity": (share * similarity).sum()}

    def stretches(batch: Batch) -> Batch:
        return batch if length is None else stretches_of(batch, length, context, stride or length)

    matching = Matching(tuple(depths), pay, stretches)
    return rloo(samples)._replace(matching=matching, whole_texts=True)


def whitened(written: Array, real: Array, counts: Array, how: Whitening) -> tuple[Array, Array]:
    """Features of N written texts a prompt, float [B, N, L, D], and of the real ones, [B, L, D], as vectors [..., L D].

    `counts`, bool [B], says which prompts' real texts have any token.
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
    """The pseudo-inverse of the root of symmetric matrices, float [..., K, K]."""
    values, vectors = jnp.linalg.eigh(moment)
    spans = values > TOLERANCE * values[..., -1:]
    roots = jnp.where(spans, jax.lax.rsqrt(jnp.where(spans, values, 1.0)), 0.0)
    return (vectors * roots[..., None, :]) @ vectors.swapaxes(-1, -2)


def stretches_of(batch: Batch, length: int, context: int, stride: int) -> Batch:
    """Stretches of each text, as texts that answer all that stands before them; those of a text are neighbours.

    A stretch begins at token `context` and at each `stride` further that leaves it whole within T; where the text has
    ended before, no token of it counts.
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
        # A text that has ended would leave a hole before the stretch.
        prompt_mask = jnp.where(target_mask[:, :1], jnp.pad(mask, room), True)
        return Batch(jnp.pad(prompt, room), prompt_mask, target, target_mask, batch.label)

    cuts = [cut(start) for start in starts]
    return jax.tree.map(lambda *parts: jnp.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:]), *cuts)
