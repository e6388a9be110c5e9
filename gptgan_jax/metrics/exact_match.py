"""Exact match of final answers."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from gptgan_jax.errors import suggests_names
from gptgan_jax.metrics.estimates import Figure, share_of

# GSM8K's mark between the working and the answer (Cobbe et al. 2021, "Training verifiers to solve math problems").
MARK = "####"
# Also before a unit of measurement in another script, such as 1,000 followed by the word for metres.
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?:\b|[^\x00-\x7f]))")
_FULL_WIDTH = re.compile("[\u3000\uff00-\uffef]+")
# Full stops: of English, of Chinese and Japanese, of Indian scripts, of Urdu, Ethiopic, Burmese, Khmer and Armenian.
_STOPS = tuple(".。।॥۔።။។։")


@suggests_names
def final_answer(text: str) -> str:
    """The normalised final answer of a text: the part after the last "####", or the whole text without one.

    White space and case are normalised; a dollar sign before it, a percent sign or full stop after it and commas
    between thousands are removed. Numbers lose redundant zeros, so that 1,200.0 is 1200. Full-width letters, digits and
    signs become plain ones, composed and decomposed letters are equal, and the full stop may be that of another script.
    """
    answer = " ".join(_plain(text).rpartition(MARK)[2].split()).casefold()
    answer = _COMMA_IN_NUMBER.sub("", answer)
    answer = answer[:-1] if answer.endswith(_STOPS) else answer
    answer = answer.replace("-$", "-", 1) if answer.startswith("-$") else answer.removeprefix("$")
    answer = answer.removesuffix("%").strip()
    is_number = answer.isascii() and "_" not in answer and any(char.isdigit() for char in answer)
    try:
        number = float(answer) + 0.0 if is_number else None  # + 0.0 turns -0 into 0
    except ValueError:
        return answer
    return answer if number is None or number != number or abs(number) >= 1e15 else f"{number:.15g}"


def _plain(text: str) -> str:
    """A text with full-width and half-width forms made plain. Full NFKC would turn 10² into 102."""
    return unicodedata.normalize(
        "NFC", _FULL_WIDTH.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)
    )


@suggests_names
def exact_match(answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Which answers have the same final answer as the real ones: bool [N].

    An answer without "####" is wrong if the real one has it: it has no final answer.

    Raises:
        ValueError: answers and references differ in number.
    """
    return np.array(
        [
            final_answer(answer) == final_answer(real) and (MARK in _plain(answer) or MARK not in _plain(real))
            for answer, real in zip(answers, references, strict=True)
        ],
        bool,
    )


def same_words(answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Which answers have the words of the real ones, as they stand: bool [N].

    For words that fill blanks: nothing in them is a full stop after an answer, or another form of the same number.

    Raises:
        ValueError: answers and references differ in number.
    """
    return np.array([one.split() == real.split() for one, real in zip(answers, references, strict=True)], bool)


def commonest_answer(answers: Sequence[str]) -> str:
    """The most frequent final answer, in the form of the answers; the first if there are several.

    Raises:
        ValueError: no answers.
    """
    if not answers:
        raise ValueError("no answers to choose the most frequent one from")
    wanted, _ = Counter(map(final_answer, answers)).most_common(1)[0]
    found = next(answer for answer in answers if final_answer(answer) == wanted)
    return f"{MARK} {wanted}" if MARK in _plain(found) else found


def answer_figures(
    answers: Sequence[str], references: Sequence[str], drawn: str, word_for_word: bool = False
) -> list[Figure]:
    """Exact match and, if real answers have a mark before the final answer, the share of answers that have one.

    Args:
        answers: N texts.
        references: the real answers to the same questions.
        drawn: how the answers were drawn, for the signatures.
        word_for_word: count by `same_words`, instead of final answers.
    """
    if word_for_word:
        return [
            Figure("exact match", "share", share_of(same_words(answers, references)), f"{drawn}; all words", "higher")
        ]
    figures = [
        Figure("exact match", "share", share_of(exact_match(answers, references)), f"{drawn}; final answer", "higher")
    ]
    if any(MARK in _plain(real) for real in references):
        ended = share_of(np.array([MARK in _plain(answer) for answer in answers]))
        figures.append(Figure("with a final answer", "share", ended, drawn, "higher"))
    return figures
