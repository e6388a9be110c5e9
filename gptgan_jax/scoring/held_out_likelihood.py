"""Held-out likelihood: a generator's NLL, in nats, of text that it was not trained on."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from gptgan_jax.data.encoding import Sources
from gptgan_jax.distributed.hosts import fetched
from gptgan_jax.generation.texts import Drawing
from gptgan_jax.metrics.estimates import Estimate, mixed_ratio, ratio_of_sums
from gptgan_jax.models.generators import Generator
from gptgan_jax.sampling.decoding import log_probs
from gptgan_jax.types import Array, Batch, Params


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Likelihood of a set of texts, text by text.

    Attributes:
        nats: float64 [N], negative log-likelihood of each; the end-of-text token counts.
        tokens: int [N], how many tokens each has.
        sources: for a mixture, the source of each text; else None.
    """

    nats: np.ndarray
    tokens: np.ndarray
    sources: Sources | None = None

    def of(self, sources: Sources | None) -> "HeldOut":
        """The same, as texts of a mixture."""
        assert sources is None or len(sources.of) == len(self.nats)
        return replace(self, sources=sources)

    def per_token(self) -> Estimate:
        """Nats per token; texts are the independent samples. Infinite if a text is impossible.

        For a mixture, the mean over sources by their weights, regardless of their shares of the texts.
        """
        return self.per(self.tokens)

    def per(self, units: np.ndarray) -> Estimate:
        """Nats per unit, such as a word; `units` [N] is the number of units of each text."""
        if self.sources is None:
            return ratio_of_sums(self.nats, units)
        return mixed_ratio(self.nats, units, self.tokens, self.sources.of, self.sources.weights)

    def by_source(self) -> dict[str, Estimate]:
        """Nats per token of each source of a mixture that has texts here, by name; empty without a mixture."""
        if self.sources is None:
            return {}
        members = {name: self.sources.of == i for i, name in enumerate(self.sources.names)}
        return {name: ratio_of_sums(self.nats[of], self.tokens[of]) for name, of in members.items() if of.any()}


def likelihood_of(generator: Generator) -> Callable[..., HeldOut]:
    """A function (params, batches, drawing=Drawing()) -> HeldOut, compiled once for the batches' shape.

    The likelihood is under the distribution that `drawing` samples from, so with top-k or top-p a text may be
    impossible. Rows whose target mask is all false are padding and are left out.
    """

    @jax.jit
    def text_sums(params: Params, batch: Batch, temperature: float, options: dict[str, Any]) -> tuple[Array, Array]:
        return -log_probs(generator, params, batch, temperature, **options).sum(axis=1), batch.target_mask.sum(axis=1)

    def evaluate(params: Params, batches: Iterable[Batch], drawing: Drawing = Drawing()) -> HeldOut:  # noqa: B008
        sums = fetched(text_sums(params, batch, drawing.temperature, drawing.options()) for batch in batches)
        parts = [(nats.astype(np.float64), tokens) for nats, tokens in sums]
        nats, tokens = (np.concatenate(column) for column in zip(*parts, strict=True))
        return HeldOut(nats[tokens > 0], tokens[tokens > 0])

    return evaluate
