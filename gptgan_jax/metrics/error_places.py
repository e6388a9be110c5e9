"""Where a text first goes wrong, and whether that is found: by a fall of a discriminator's score, or by surprise.

On the grammar the place is known: the first token after which no sentence begins so. A score of every prefix names a
place too, the token at which it falls most. (Finding the wrong step of an argument by a model that scores its steps is
what Lightman et al. 2023, "Let's verify step by step", and Uesato et al. 2022 are about.)
"""

from collections.abc import Sequence

import numpy as np

from gptgan_jax.metrics.estimates import Better, Estimate, Figure, mean_of, share_of
from gptgan_jax.sources.pcfg import PCFG

# With fewer ungrammatical texts no share is told.
LEAST_TEXTS = 50
NOWHERE = -1
BY_SCORE, BY_SURPRISE, BY_CHANCE = "error found by score", "error found by surprise", "error found by chance"
PLACED = "texts with a known error"


def first_ungrammatical(pieces: Sequence[str], ended: bool, grammar: PCFG, whole_words: bool) -> int:
    """The place of the first token after which no sentence of the grammar begins so.

    Args:
        pieces: the text of each token but the end's, with the spaces before words.
        ended: whether the end of text comes behind them. Where they are no whole sentence yet, it is the first wrong
            token, of place len(pieces).
        grammar: of the sentences.
        whole_words: whether each token is a word. Otherwise a token may stop within one, and is right where some word
            that can stand there begins so.

    Returns:
        the place; `NOWHERE` for a grammatical text, and for one that was cut off before anything was wrong.
    """
    if whole_words:
        words = [piece.removeprefix(" ") for piece in pieces]
        count, _ = grammar.longest_beginning(" ".join(words))
        if count < len(words):
            return count
    else:
        words = "".join(pieces).split(" ")
        count, following = grammar.longest_beginning(" ".join(words))
        text = ""
        for place, piece in enumerate(pieces):
            text += piece
            *before, last = text.split(" ")
            possible = any(word.startswith(last) for word in following) if len(before) == count else True
            if count < len(words) and (len(before) > count or not possible):
                return place
    complete = np.isfinite(grammar.log_prob(" ".join(words)))
    return NOWHERE if complete or not ended else len(pieces)


def changes(scores: np.ndarray, start: float, window: int = 0) -> np.ndarray:
    """What each token adds to the score of the text before it: float [n] -> float64 [n].

    Args:
        scores: of the text up to and including each token, or of the part of it that is in the token's window.
        start: the score of no text.
        window: tokens after which scores begin anew; 0: never.
    """
    scores = np.asarray(scores, np.float64)
    before = np.concatenate([[start], scores[:-1]])
    if window:
        before[::window] = start
    return scores - before


def steepest_fall(scores: np.ndarray, start: float, window: int = 0) -> int:
    """The place of the token with the least change, the first of equals; see `changes`."""
    return int(changes(scores, start, window).argmin())


def location_figures(
    places: Sequence[int],
    lengths: Sequence[int],
    falls: Sequence[int],
    surprises: Sequence[int] | None,
    scored: str,
    surprised: str,
) -> list[Figure]:
    """How often the wrong token is found, of N texts; undefined for fewer than 50 that are wrong somewhere.

    Args:
        places: of the first wrong token of each text, or `NOWHERE`; such texts are left out.
        lengths: tokens of each text, its end counted.
        falls: where the score of each falls most.
        surprises: which of its tokens is the least likely; None where no model says so.
        scored, surprised: which texts, with who scored them and whom they surprise, for the signatures.
    """
    wrong = np.flatnonzero(np.asarray(places) != NOWHERE)
    known, enough = np.asarray(places)[wrong], len(wrong) >= LEAST_TEXTS

    def figure(name: str, signature: str, found: Estimate, better: Better = "higher") -> Figure:
        return Figure(name, "share", found if enough else Estimate(None), signature, better)

    figures = [
        Figure(PLACED, "", Estimate(float(len(wrong))), scored, "real"),
        figure(BY_SCORE, f"{scored}; its steepest fall", share_of(np.asarray(falls)[wrong] == known)),
        figure(BY_CHANCE, scored, mean_of(1 / np.asarray(lengths)[wrong]), "real"),
    ]
    if surprises is not None:
        hits = share_of(np.asarray(surprises)[wrong] == known)
        figures.insert(2, figure(BY_SURPRISE, f"{surprised}; the least likely token", hits))
    return figures
