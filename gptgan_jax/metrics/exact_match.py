"""Whether answers are right: exact match of the final answer."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np

from gptgan_jax.errors import suggests_names
from gptgan_jax.metrics.estimates import Figure, share_of

# What GSM8K writes between the working and the answer (Cobbe et al. 2021, "Training verifiers to solve math problems").
MARK = "####"
# Before a unit of measurement of another script, too: 1,000 and then the word for metres.
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),(?=\d{3}(?:\b|[^\x00-\x7f]))")
_FULL_WIDTH = re.compile("[\u3000\uff00-\uffef]+")
# Full stops: of English, of Chinese and Japanese, of Indian scripts, of Urdu, Ethiopic, Burmese, Khmer and Armenian.
_STOPS = tuple(".。।॥۔።။។։")


@suggests_names
def final_answer(text: str) -> str:
    """What an answer comes to: what follows the last "####", or all of a text that has none.

    White space is made equal, case dropped, and so are a dollar sign before, a percent sign or full stop after it and
    commas between a number's thousands; a number is written without zeros that say nothing, so that 1,200.0 is 1200.
    Full-width letters, digits and signs are the plain ones, composed and decomposed letters are equal, and the full
    stop may be that of another script.
    """
    answer = " ".join(_plain(text).rpartition(MARK)[2].split()).casefold()
    answer = _COMMA_IN_NUMBER.sub("", answer)
    answer = answer[:-1] if answer.endswith(_STOPS) else answer
    answer = answer.removeprefix("$").removesuffix("%").strip()
    try:
        number = float(answer) if answer.isascii() and any(char.isdigit() for char in answer) else None
    except ValueError:
        return answer
    return answer if number is None or number != number or abs(number) > 2**53 else f"{number:.15g}"


def _plain(text: str) -> str:
    """A text with full-width and half-width forms made plain. All of NFKC would make 10² the number 102."""
    return unicodedata.normalize(
        "NFC", _FULL_WIDTH.sub(lambda found: unicodedata.normalize("NFKC", found.group()), text)
    )


@suggests_names
def exact_match(answers: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Which answers come to the same as the real ones: bool [N].

    An answer without "####" is wrong where the real one has it: it never came to an end.

    Raises:
        ValueError: of the two there are not equally many.
    """
    return np.array(
        [
            final_answer(answer) == final_answer(real) and (MARK in _plain(answer) or MARK not in _plain(real))
            for answer, real in zip(answers, references, strict=True)
        ],
        bool,
    )


def commonest_answer(answers: Sequence[str]) -> str:
    """The final answer that most answers come to, written as they write it; of several the first.

    Raises:
        ValueError: no answers.
    """
    if not answers:
        raise ValueError("no answers, of which one could be the commonest")
    wanted, _ = Counter(map(final_answer, answers)).most_common(1)[0]
    found = next(answer for answer in answers if final_answer(answer) == wanted)
    return f"{MARK} {wanted}" if MARK in _plain(found) else found


def answer_figures(answers: Sequence[str], references: Sequence[str], drawn: str) -> list[Figure]:
    """Exact match and, where real answers have a mark before the final one, the share of answers that have one.

    Args:
        answers: N texts.
        references: the real answers to the same questions.
        drawn: how the answers were drawn, for the signatures.
    """
    figures = [
        Figure("exact match", "share", share_of(exact_match(answers, references)), f"{drawn}; final answer", "higher")
    ]
    if any(MARK in _plain(real) for real in references):
        ended = share_of(np.array([MARK in _plain(answer) for answer in answers]))
        figures.append(Figure("with a final answer", "share", ended, drawn, "higher"))
    return figures
