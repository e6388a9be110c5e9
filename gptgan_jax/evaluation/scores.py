"""The score table: what can be said of a set of texts without a second model, each figure with its standard error."""

from collections.abc import Sequence

import numpy as np

from gptgan_jax.data.oracle import Oracle
from gptgan_jax.data.pcfg import PCFG
from gptgan_jax.evaluation.estimates import Estimate, mean_of, ratio_of_sums
from gptgan_jax.evaluation.texts import Written


def distinct_ngrams(texts: Sequence[str], n: int) -> Estimate:
    """Distinct-n (Li et al. 2016): different n-grams over all n-grams of the texts, words split at white space.

    It falls with the number of texts, so compare only equal numbers.
    """
    grams = [gram for text in texts for gram in _ngrams(text.split(), n)]
    return Estimate(len(set(grams)) / len(grams) if grams else None)


def text_scores(written: Written, copied: np.ndarray, source: PCFG | Oracle | None) -> dict[tuple[str, str], Estimate]:
    """Scores of a set of texts by (name, unit).

    Args:
        written: the texts.
        copied: bool [N], which of them stand in the training text.
        source: where it knows exact probabilities, scores under it are added.
    """
    texts = written.texts
    scores = {
        ("length", "tokens"): mean_of(written.mask.sum(axis=1)),
        ("distinct-1", "share"): distinct_ngrams(texts, 1),
        ("distinct-2", "share"): distinct_ngrams(texts, 2),
        ("not in the training text", "share"): mean_of(~copied),
    }
    if isinstance(source, PCFG):
        log_probs = np.array([source.log_prob(text) for text in texts])
        grammatical = np.isfinite(log_probs)
        words = np.array([len(text.split()) for text in texts])
        scores["grammatical", "share"] = mean_of(grammatical)
        scores["source NLL of the grammatical", "nats/word"] = ratio_of_sums(
            -log_probs[grammatical], words[grammatical]
        )
    if isinstance(source, Oracle):
        scores["oracle NLL", "nats/token"] = mean_of(-source.log_prob(written.tokens) / written.tokens.shape[1])
    return scores


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
