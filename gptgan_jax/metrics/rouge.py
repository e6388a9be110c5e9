"""Metrics of summaries: ROUGE against the real summary, also at its length, and the share that was not copied.

Every figure is for N summaries, each with its source text and the real summary of that text.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from gptgan_jax.errors import suggests_names
from gptgan_jax.metrics.estimates import Estimate, Figure, mean_of, ratio_of_sums
from gptgan_jax.tokenization.units import UNSPACED, Unit, first_units, plural, units_of

# The keys are the library's names.
ROUGES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
ENGLISH = "F1, rouge-score, Porter stemmer"
ANY_SCRIPT = "F1, rouge-score, words of any script, characters where it has no spaces between words"
# The library's own words are English ones; an English text has at most this number or this share of others.
FEW_WORDS, FEW = 2, 0.05
ENDS = (".", "!", "?")
# Marks that end a sentence without a space after them, with closing quotation marks and brackets: full-width and
# half-width marks, danda, and the full stops of Urdu, Ethiopic, Burmese and Khmer. Next to a letter of a script without
# spaces, the English marks do so too.
_END_WITHIN = re.compile(
    f"(?:[。！？｡।॥۔؟።။។]|．(?!\\d)|(?<=[{UNSPACED}])[.!?](?=[{UNSPACED}]))[。！？｡।॥!?]*[」』）”’》〉】\"')]*"
)
# Joiners and soft hyphens inside words are ignored.
_UNREAD = re.compile("[\u00ad\u200c\u200d\u2060\ufeff]")


@suggests_names
def rouge(summaries: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """ROUGE-1, ROUGE-2 and ROUGE-L of each summary: the F1 of shared words, pairs of words, and of the longest
    common subsequence of words (Lin 2004, "ROUGE: a package for automatic evaluation of summaries").

    Computed by the `rouge-score` library. Its own words are those of published figures: lower case, only a to z and
    digits, stemmed if longer than three letters. They are used if the real summaries are in English. If more than 5 %
    of their words have other letters, words are of letters, marks and digits of any script, and each character is a
    word in scripts without spaces (`words_of_any_script`). The same goes for any pair whose real summary is mostly of
    other letters. A text without any word scores 0, even against another such text.

    Args:
        summaries: N texts.
        references: N texts, the real ones.

    Returns:
        float64 [N] by name, in [0, 1].

    Raises:
        ValueError: summaries and references differ in number.
    """
    english = is_english(references)
    scored = [
        _scorer(english and not _mostly_other(real)).score(real, text)
        for text, real in zip(summaries, references, strict=True)
    ]
    return {name: np.array([scores[kind].fmeasure for scores in scored]) for kind, name in ROUGES.items()}


def is_english(references: Sequence[str]) -> bool:
    """Whether the library's own words, of a to z and digits, suffice for real summaries."""
    words = [word for text in references for word in _words(text)]
    others = sum(map(_is_other, words))
    return others <= max(FEW_WORDS, FEW * len(words)) and 2 * others <= len(words)


def _mostly_other(text: str) -> bool:
    others = [_is_other(word) for word in _words(text)]
    return 2 * sum(others) > len(others)


def _is_other(word: str) -> bool:
    """Whether the library would not find this word."""
    return not (word.isascii() and word.isalnum())


def words_of_any_script(text: str) -> list[str]:
    """The words of a text, lowercased and in NFKC: sequences of letters, marks and digits.

    In a script without spaces between words every character is a word. In a text without any of these, such as emoji,
    every sign is.
    """
    return _words(_UNREAD.sub("", unicodedata.normalize("NFKC", text)))


def _words(text: str) -> list[str]:
    if text.isascii():  # the same result, faster
        return re.findall("[a-z0-9]+", text.lower()) or [sign for sign in text if not sign.isspace()]
    words: list[str] = []
    begun = False
    for character in text.lower():
        kind = _kind(character)
        if kind == "inside" and begun:
            words[-1] += character
        elif kind != "outside":
            words.append(character)
        begun = kind == "inside"
    return words or [character for character in text if not character.isspace()]


@cache
def _kind(character: str) -> str:
    if re.match(f"[{UNSPACED}]", character):
        return "alone"
    return "inside" if unicodedata.category(character)[0] in "LMN" else "outside"


class _AnyScript:
    """A tokenizer for rouge-score: words of any script, those of a to z with its stemming."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer  # a dependency of rouge-score

        self._stem = lru_cache(maxsize=100_000)(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        words = words_of_any_script(text)
        return [self._stem(word) if len(word) > 3 and word.isascii() else word for word in words]


@lru_cache(maxsize=2)
def _scorer(english: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # optional, so imported on use

    return RougeScorer(list(ROUGES), use_stemmer=True, tokenizer=None if english else _AnyScript())


def cut_to_length(summaries: Sequence[str], references: Sequence[str], unit: Unit = "word") -> list[str]:
    """The summaries cut to the length of the real ones, in words or characters; shorter ones stay as they are.

    F1 still rewards the right length, but a summary no longer gains by being longer than the real one.
    """
    pairs = zip(summaries, units_of(references, unit), strict=True)
    return [first_units(summary, len(real), unit) for summary, real in pairs]


@suggests_names
def novel_ngrams(summaries: Sequence[str], sources: Sequence[str], n: int, unit: Unit = "word") -> Estimate:
    """The share of a summary's n-grams that do not occur in its source, i.e. were not copied (See et al. 2017, "Get to
    the point"). The mean over the summaries that have an n-gram; each distinct n-gram counts once, words as they are.

    Raises:
        ValueError: summaries and sources differ in number.
    """
    shares = []
    for summary, source in zip(units_of(summaries, unit), units_of(sources, unit), strict=True):
        own = _ngrams(summary, n)
        if own:
            shares.append(len(own - _ngrams(source, n)) / len(own))
    return mean_of(shares)


def _ngrams(words: Sequence[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def first_sentence(text: str) -> str:
    """The text up to the first word that ends in a full stop, exclamation mark or question mark, or up to such a mark
    of another script, which needs no space after it; the whole text if there is none. The usual baseline ("lead")."""
    words = text.split()
    for i, word in enumerate(words):
        if end := _END_WITHIN.search(word):
            return " ".join([*words[:i], word[: end.end()]])
        if word.endswith(ENDS):
            return " ".join(words[: i + 1])
    return " ".join(words)


def summary_figures(
    summaries: Sequence[str], sources: Sequence[str], references: Sequence[str], drawn: str, unit: Unit = "word"
) -> list[Figure]:
    """Every figure of a set of summaries.

    Args:
        summaries: N texts.
        sources: what they are summaries of.
        references: the real summaries of the same.
        drawn: how the summaries were drawn, for the signatures.
        unit: of lengths and n-grams; ROUGE finds its own words.
    """
    whole = rouge(summaries, references)
    cut = rouge(cut_to_length(summaries, references, unit), references)
    lengths, right = (
        np.array([len(words) for words in units_of(texts, unit)], np.float64) for texts in (summaries, references)
    )
    signature = f"{drawn}; {ENGLISH if is_english(references) else ANY_SCRIPT}"
    units = plural(unit)
    return [
        *(Figure(name, "", mean_of(scores), signature, "higher") for name, scores in whole.items()),
        *(
            Figure(f"{name} at the real length", "", mean_of(scores), f"{signature}; no {units} beyond it", "higher")
            for name, scores in cut.items()
        ),
        Figure("length over the real one's", "", ratio_of_sums(lengths, right), f"{drawn}; {units}"),
        novelty_figure(summaries, sources, drawn, unit),
    ]


def novelty_figure(summaries: Sequence[str], sources: Sequence[str], drawn: str, unit: Unit = "word") -> Figure:
    """The share of novel n-grams, which is also measured for real summaries."""
    signature = f"{drawn}; not in the prompt" + (f"; {plural(unit)}" if unit != "word" else "")
    return Figure("new 2-grams", "share", novel_ngrams(summaries, sources, 2, unit), signature)
