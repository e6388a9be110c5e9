"""Best-of-N samples of the likelihood model, by likelihood: what as many samples gain without a discriminator.

For N candidates from p, a text x is chosen if one of them is x and all others are x or less likely:

    q(x) = (F(x) + p(x))^N - F(x)^N,    F(x) = the probability, under p, of a text that is less likely than x

F is estimated from texts of p, so the likelihood is known up to that estimate. Only for text without prompts, as F
differs for every prompt.
"""

from dataclasses import replace
from functools import partial

import numpy as np

from gptgan_jax.data.tokenizers import AnyTokenizer
from gptgan_jax.generation.texts import Drawing, TextWriter, Written
from gptgan_jax.models.generators import Generator
from gptgan_jax.sampling.rollouts import best_of
from gptgan_jax.scoring.held_out_likelihood import HeldOut
from gptgan_jax.types import Params

# The number of texts from which F is estimated.
TEXTS_FOR_F = 8000
# A random stream of its own: the texts for F are different from those that are evaluated.
_F_STREAM = 0xBE
# Nats: the log-probabilities of one text differ by rounding, between the sampler and a pass over the whole text.
_EQUAL = 1e-3


class Reranked:
    """Generates the likeliest of several texts of a generator, and gives the likelihood of a text under this scheme."""

    def __init__(
        self,
        generator: Generator,
        params: Params,
        tokenizer: AnyTokenizer,
        length: int,
        candidates: int,
        seed: int,
        batch_size: int = 100,
    ) -> None:
        """`candidates` is the number of texts that each one is chosen from."""
        self._params, self._seed, self._candidates = params, seed, candidates
        self._plain = TextWriter(generator, tokenizer, length, batch_size)
        chooser = partial(best_of, generator, candidates=candidates)
        self._best = TextWriter(generator, tokenizer, length, batch_size, chooser, candidates)
        self._of_model: dict[Drawing, np.ndarray] = {}

    def write(self, count: int, drawing: Drawing) -> Written:
        """`count` texts from the seed, and their log-probabilities; the candidates are drawn as `drawing` says."""
        written = self._best(self._params, self._seed, count, drawing)
        return replace(written, log_probs=self._log_probs(written.log_probs, drawing))

    def likelihood(self, held_out: HeldOut, drawing: Drawing) -> HeldOut:
        """The likelihood of texts, from the generator's likelihood of them at the same drawing."""
        return HeldOut(-self._log_probs(-held_out.nats, drawing), held_out.tokens, held_out.sources)

    def _log_probs(self, log_probs: np.ndarray, drawing: Drawing) -> np.ndarray:
        if drawing not in self._of_model:
            written = self._plain(self._params, self._seed + _F_STREAM, TEXTS_FOR_F, drawing)
            self._of_model[drawing] = written.log_probs
        return best_of_log_probs(log_probs, self._of_model[drawing], self._candidates)


def best_of_log_probs(log_probs: np.ndarray, of_model: np.ndarray, candidates: int) -> np.ndarray:
    """The log-probability of generating each text as the likeliest of several.

    Args:
        log_probs: float64 [N], nats, of the texts under the generator; -inf for texts that it never generates.
        of_model: float64 [M], nats, of the generator's own texts, from which F is estimated.
        candidates: number of candidates for each text.

    Returns: float64 [N], nats.
    """
    less = np.searchsorted(np.sort(of_model), np.asarray(log_probs, np.float64) - _EQUAL)
    # Half a text is added, so that a text below all of them still has some probability.
    log_less = np.log((less + 0.5) / (len(of_model) + 1))
    ratio = log_probs - log_less
    # N log(1 + p / F), at which F + p is at most 1; log(exp(gain) - 1) in forms that lose no digits.
    gain = np.minimum(candidates * np.logaddexp(0.0, ratio), -candidates * log_less)
    with np.errstate(divide="ignore"):
        chosen = np.where(ratio < -30, np.log(candidates) + ratio, gain + np.log(-np.expm1(-gain)))
    return np.minimum(candidates * log_less + chosen, 0.0)
