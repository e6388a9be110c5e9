"""Held-out likelihood: how many nats a generator needs for text that it was not trained on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import jax
import numpy as np

from gptgan_jax.evaluation.estimates import ratio_of_sums
from gptgan_jax.models.generators import Generator
from gptgan_jax.sampling import log_probs
from gptgan_jax.types import Array, Batch, Params


@dataclass(frozen=True)
class HeldOut:
    """Likelihood of a held-out split.

    Attributes:
        nats_per_token: mean negative log-likelihood; the end-of-text token counts.
        standard_error: of that mean, texts being the independent draws.
        tokens: how many were scored.
        texts: how many were scored.
    """

    nats_per_token: float
    standard_error: float
    tokens: int
    texts: int


def likelihood_of(generator: Generator) -> Callable[[Params, Iterable[Batch]], HeldOut]:
    """A function (params, batches) -> HeldOut, compiled once for the batches' shape.

    Rows of a batch whose target mask is all false are padding and count for nothing.
    """

    @jax.jit
    def text_sums(params: Params, batch: Batch) -> tuple[Array, Array]:
        return -log_probs(generator, params, batch).sum(axis=1), batch.target_mask.sum(axis=1)

    def evaluate(params: Params, batches: Iterable[Batch]) -> HeldOut:
        sums = [text_sums(params, batch) for batch in batches]
        nats = np.concatenate([np.asarray(nats, np.float64) for nats, _ in sums])
        tokens = np.concatenate([np.asarray(tokens) for _, tokens in sums])
        nats, tokens = nats[tokens > 0], tokens[tokens > 0]
        mean = ratio_of_sums(nats, tokens)
        assert mean.value is not None, "a split holds at least one text"
        assert mean.error is not None
        return HeldOut(mean.value, mean.error, int(tokens.sum()), len(tokens))

    return evaluate
