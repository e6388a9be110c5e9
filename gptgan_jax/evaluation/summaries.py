"""How good summaries are: ROUGE against the real one, at its length too, and how much of them was not copied.

Every figure here is of N summaries, each with the text that it is of and the real summary of that text.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from gptgan_jax.evaluation.estimates import Estimate, mean_of, ratio_of_sums
from gptgan_jax.evaluation.ngrams import words_of
from gptgan_jax.evaluation.results import Figure

# By the library's names.
ROUGES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
SETTINGS = "F1, rouge-score, Porter stemmer"
ENDS = (".", "!", "?")


def rouge(summaries: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """ROUGE-1, ROUGE-2 and ROUGE-L of each summary: the F1 of shared words, pairs of words, and of the longest
    common subsequence of words (Lin 2004, "ROUGE: a package for automatic evaluation of summaries").

    The `rouge-score` library does it: words in lower case, of letters and digits alone, stemmed where they are longer
    than three letters. A text without any word scores 0.

    Args:
        summaries: N texts.
        references: N texts, the real ones.

    Returns:
        float64 [N] by name, in [0, 1].

    Raises:
        ValueError: of the two there are not equally many.
    """
    scored = [_scorer().score(real, text) for text, real in zip(summaries, references, strict=True)]
    return {name: np.array([scores[kind].fmeasure for scores in scored]) for kind, name in ROUGES.items()}


@lru_cache(maxsize=1)
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imported where it is used

    return RougeScorer(list(ROUGES), use_stemmer=True)


def cut_to_length(summaries: Sequence[str], references: Sequence[str]) -> list[str]:
    """Each summary's first words, as many as the real one has; a shorter one stays as it is.

    F1 still rewards the right length; of summaries that were cut so, none gains by being longer than the real one.
    """
    pairs = zip(words_of(summaries), words_of(references), strict=True)
    return [" ".join(words[: len(real)]) for words, real in pairs]


def novel_ngrams(summaries: Sequence[str], sources: Sequence[str], n: int) -> Estimate:
    """The share of a summary's n-grams that its source lacks: how much of it was not copied (See et al. 2017, "Get to
    the point"). The mean over the summaries that have an n-gram, different n-grams counted once; words as they come.

    Raises:
        ValueError: of summaries and sources there are not equally many.
    """
    shares = []
    for summary, source in zip(words_of(summaries), words_of(sources), strict=True):
        own = _ngrams(summary, n)
        if own:
            shares.append(len(own - _ngrams(source, n)) / len(own))
    return mean_of(shares)


def _ngrams(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def first_sentence(text: str) -> str:
    """The words of a text up to the first that ends in a full stop, an exclamation or a question mark; all of them
    where none does. The usual summary to be better than ("lead")."""
    words = text.split()
    for i, word in enumerate(words):
        if word.endswith(ENDS):
            return " ".join(words[: i + 1])
    return " ".join(words)


def summary_figures(
    summaries: Sequence[str], sources: Sequence[str], references: Sequence[str], drawn: str
) -> list[Figure]:
    """Every figure of a set of summaries.

    Args:
        summaries: N texts.
        sources: what they are summaries of.
        references: the real summaries of the same.
        drawn: how the summaries were drawn, for the signatures.
    """
    whole = rouge(summaries, references)
    cut = rouge(cut_to_length(summaries, references), references)
    lengths, right = (
        np.array([len(words) for words in words_of(texts)], np.float64) for texts in (summaries, references)
    )
    signature = f"{drawn}; {SETTINGS}"
    return [
        *(Figure(name, "", mean_of(scores), signature, "higher") for name, scores in whole.items()),
        *(
            Figure(f"{name} at the real length", "", mean_of(scores), f"{signature}; no words beyond it", "higher")
            for name, scores in cut.items()
        ),
        Figure("length over the real one's", "", ratio_of_sums(lengths, right), f"{drawn}; words"),
        novelty_figure(summaries, sources, drawn),
    ]


def novelty_figure(summaries: Sequence[str], sources: Sequence[str], drawn: str) -> Figure:
    """What can be said of real summaries too."""
    return Figure("new 2-grams", "share", novel_ngrams(summaries, sources, 2), f"{drawn}; not in the prompt")
