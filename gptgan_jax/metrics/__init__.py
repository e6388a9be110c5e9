"""Metrics of texts: functions of texts, vectors and log-probabilities, without networks and files.

A value that is an `Estimate` has a standard error.

Example:
    >>> words = [text.split() for text in ("the dog runs", "the cat sleeps")]
    >>> gg.metrics.self_bleu(words, orders=(1,))[1].round(3).tolist()  # float64 [N] for each order
    [0.333, 0.333]
    >>> gg.metrics.distinct_ngrams(words, 1).value == 5 / 6
    True
"""

from gptgan_jax.metrics.class_scores import expected_calibration_error, macro_f1, reliability_bins
from gptgan_jax.metrics.distances import frechet_distance, mauve
from gptgan_jax.metrics.divergences import Divergences, LogProbs, divergences
from gptgan_jax.metrics.estimates import Estimate, mean_of, share_of
from gptgan_jax.metrics.exact_match import exact_match, final_answer
from gptgan_jax.metrics.ngrams import bleu, distinct_ngrams, distinct_texts, repetition, self_bleu
from gptgan_jax.metrics.rouge import novel_ngrams, rouge

__all__ = [
    "Divergences",
    "Estimate",
    "LogProbs",
    "bleu",
    "distinct_ngrams",
    "distinct_texts",
    "divergences",
    "exact_match",
    "expected_calibration_error",
    "final_answer",
    "frechet_distance",
    "macro_f1",
    "mauve",
    "mean_of",
    "novel_ngrams",
    "reliability_bins",
    "repetition",
    "rouge",
    "self_bleu",
    "share_of",
]


def __dir__() -> list[str]:
    return __all__
