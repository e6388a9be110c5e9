"""How good summaries are: ROUGE against the real one, at its length too, and how much of them was not copied.

Every figure here is of N summaries, each with the text that it is of and the real summary of that text.
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

# By the library's names.
ROUGES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
ENGLISH = "F1, rouge-score, Porter stemmer"
ANY_SCRIPT = "F1, rouge-score, words of any script, characters where it has no spaces between words"
# The library's own words are those of English, whose texts have few others: so many, or this share of all.
FEW_WORDS, FEW = 2, 0.05
ENDS = (".", "!", "?")
# What ends a sentence wherever it stands, with the quotation marks and brackets that it closes: full-width and
# half-width marks, danda, and the full stops of Urdu, Ethiopic, Burmese and Khmer. Beside a letter of a script without
# spaces the marks of English do so too.
_END_WITHIN = re.compile(
    f"(?:[。！？｡।॥۔؟።။។]|．(?!\\d)|(?<=[{UNSPACED}])[.!?](?=[{UNSPACED}]))[。！？｡।॥!?]*[」』）”’》〉】\"')]*"
)
# Joiners and soft hyphens inside words stand for nothing that is read.
_UNREAD = re.compile("[\u00ad\u200c\u200d\u2060\ufeff]")


@suggests_names
def rouge(summaries: Sequence[str], references: Sequence[str]) -> dict[str, np.ndarray]:
    """ROUGE-1, ROUGE-2 and ROUGE-L of each summary: the F1 of shared words, pairs of words, and of the longest
    common subsequence of words (Lin 2004, "ROUGE: a package for automatic evaluation of summaries").

    The `rouge-score` library does it. Its own words are those of published figures: in lower case, of a to z and digits
    alone, stemmed where they are longer than three letters. They serve where the real summaries are in English. Where
    more than 5 % of their words have other letters, words are of letters, marks and digits of any script, and each
    character is a word in scripts without spaces (`words_of_any_script`); so in a pair whose real summary is mostly of
    other letters, whatever the rest are. A text without any word scores 0, also against another such text.

    Args:
        summaries: N texts.
        references: N texts, the real ones.

    Returns:
        float64 [N] by name, in [0, 1].

    Raises:
        ValueError: of the two there are not equally many.
    """
    english = is_english(references)
    scored = [
        _scorer(english and not _mostly_other(real)).score(real, text)
        for text, real in zip(summaries, references, strict=True)
    ]
    return {name: np.array([scores[kind].fmeasure for scores in scored]) for kind, name in ROUGES.items()}


def is_english(references: Sequence[str]) -> bool:
    """Whether the library's own words, of a to z and digits, do for real summaries."""
    words = [word for text in references for word in _words(text)]
    others = sum(map(_is_other, words))
    return others <= max(FEW_WORDS, FEW * len(words)) and 2 * others <= len(words)


def _mostly_other(text: str) -> bool:
    others = [_is_other(word) for word in _words(text)]
    return 2 * sum(others) > len(others)


def _is_other(word: str) -> bool:
    """Whether the library would find no such word."""
    return not (word.isascii() and word.isalnum())


def words_of_any_script(text: str) -> list[str]:
    """The words of a text, in lower case and in compatible forms (NFKC): letters, marks and digits in a row.

    In a script without spaces between words every character is one. Of a text without any of these, such as emoji,
    every sign is.
    """
    return _words(_UNREAD.sub("", unicodedata.normalize("NFKC", text)))


def _words(text: str) -> list[str]:
    if text.isascii():  # the same, sooner
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
    """A tokenizer as rouge-score takes one: words of any script, those of a to z stemmed as it stems them."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer  # rouge-score brings it

        self._stem = lru_cache(maxsize=100_000)(PorterStemmer().stem)

    def tokenize(self, text: str) -> list[str]:
        words = words_of_any_script(text)
        return [self._stem(word) if len(word) > 3 and word.isascii() else word for word in words]


@lru_cache(maxsize=2)
def _scorer(english: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # imported where it is used

    return RougeScorer(list(ROUGES), use_stemmer=True, tokenizer=None if english else _AnyScript())


def cut_to_length(summaries: Sequence[str], references: Sequence[str], unit: Unit = "word") -> list[str]:
    """Each summary's first words (or characters), as many as the real one has; a shorter one stays as it is.

    F1 still rewards the right length; of summaries that were cut so, none gains by being longer than the real one.
    """
    pairs = zip(summaries, units_of(references, unit), strict=True)
    return [first_units(summary, len(real), unit) for summary, real in pairs]


@suggests_names
def novel_ngrams(summaries: Sequence[str], sources: Sequence[str], n: int, unit: Unit = "word") -> Estimate:
    """The share of a summary's n-grams that its source lacks: how much of it was not copied (See et al. 2017, "Get to
    the point"). The mean over the summaries that have an n-gram, different n-grams counted once; words as they come.

    Raises:
        ValueError: of summaries and sources there are not equally many.
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
    """The words of a text up to the first that ends in a full stop, an exclamation or a question mark, or up to such a
    mark of another script, after which no space is needed; all of them where there is none. The usual summary to be
    better than ("lead")."""
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
    """What can be said of real summaries too."""
    signature = f"{drawn}; not in the prompt" + (f"; {plural(unit)}" if unit != "word" else "")
    return Figure("new 2-grams", "share", novel_ngrams(summaries, sources, 2, unit), signature)
