"""The first wrong token against its definition, by writing out a language; and how often it is found."""

import itertools
import math

import numpy as np
import pytest

from gptgan_jax.metrics.error_places import (
    BY_CHANCE,
    BY_SCORE,
    BY_SURPRISE,
    LEAST_TEXTS,
    NOWHERE,
    PLACED,
    changes,
    first_ungrammatical,
    location_figures,
    steepest_fall,
)
from gptgan_jax.sources.pcfg import PCFG, rules_from_text

GRAMMAR = PCFG(
    tuple(
        rules_from_text("""
    S -> Noun Verb | Noun Verb the Noun | look
    Noun -> cats | cat
    Verb -> sees | see
""")
    )
)
LANGUAGE = [
    "look",
    *(
        f"{noun} {verb}{tail}"
        for noun in ("cats", "cat")
        for verb in ("sees", "see")
        for tail in ("", " the cat", " the cats")
    ),
]


def by_definition(tokens: list[str], ended: bool, sentences: list[list[str]]) -> int:
    """The first token after which no sentence, a list of tokens, begins so; the end is a token too."""
    whole = [*tokens, *(["END"] if ended else [])]
    for place in range(len(whole)):
        if not any([*one, "END"][: place + 1] == whole[: place + 1] for one in sentences):
            return place
    return NOWHERE


@pytest.mark.parametrize("ended", [True, False])
def test_of_whole_words_it_is_the_first_after_which_no_sentence_begins_so(ended: bool) -> None:
    sentences = [text.split() for text in LANGUAGE]
    for length in range(1, 5):
        for words in itertools.product(["cats", "cat", "see", "the", "look", "<unk>"], repeat=length):
            pieces = [words[0], *(f" {word}" for word in words[1:])]
            expected = by_definition(list(words), ended, sentences)
            assert first_ungrammatical(pieces, ended, GRAMMAR, whole_words=True) == expected, (words, ended)


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize(
    "text", ["cats see the dog", "look", "cat s", "cats  see", "cats sees the cats cat", " look", "loo", "x"]
)
def test_of_parts_of_words_it_is_the_first_after_which_no_sentence_begins_so(text: str, ended: bool) -> None:
    """Whatever the parts: characters, pairs, or with some that add nothing, as parts of a character do."""
    for size in (1, 2, 3):
        pieces = ["".join(part) for part in (text[i : i + size] for i in range(0, len(text), size))]
        pieces.insert(1, "")
        reached = list(itertools.accumulate(pieces))
        wrong = [not any(sentence.startswith(begun) for sentence in LANGUAGE) for begun in reached]
        expected = wrong.index(True) if True in wrong else NOWHERE if text in LANGUAGE or not ended else len(pieces)
        assert first_ungrammatical(pieces, ended, GRAMMAR, whole_words=False) == expected


def test_a_change_is_counted_from_the_score_before_it_and_the_first_of_equal_falls_is_taken() -> None:
    scores = np.array([-0.5, 1.0, -1.0, -3.0, 2.0])
    np.testing.assert_allclose(changes(scores, 0.25), [-0.75, 1.5, -2.0, -2.0, 5.0])
    assert steepest_fall(scores, 0.25) == 2
    assert steepest_fall(scores, 2.0) == 0


def test_where_windows_are_judged_by_themselves_a_change_is_counted_within_its_own() -> None:
    scores = np.array([2.0, 3.0, 0.5, 0.0, 1.0])
    np.testing.assert_allclose(changes(scores, 0.25, window=2), [1.75, 1.0, 0.25, -0.5, 0.75])
    assert steepest_fall(scores, 0.25) == 2
    assert steepest_fall(scores, 0.25, window=2) == 3
    np.testing.assert_allclose(changes(scores, 0.0, window=1), scores)


def figures(places: list[int], lengths: list[int], falls: list[int], surprises: list[int] | None):
    found = location_figures(places, lengths, falls, surprises, "some", "others")
    return {figure.name: figure.estimate for figure in found}


def test_the_shares_are_of_the_texts_that_are_wrong_somewhere() -> None:
    count = LEAST_TEXTS + 10
    places = [NOWHERE] * 5 + [i % 3 for i in range(count)]
    found = figures(places, [4] * 5 + [2 + i % 2 for i in range(count)], [0] * (5 + count), [1] * (5 + count))
    assert found[PLACED].value == count
    assert found[BY_SCORE].value == pytest.approx(np.mean([i % 3 == 0 for i in range(count)]))
    assert found[BY_SURPRISE].value == pytest.approx(np.mean([i % 3 == 1 for i in range(count)]))
    chances = [1 / (2 + i % 2) for i in range(count)]
    assert found[BY_CHANCE].value == pytest.approx(np.mean(chances))
    assert found[BY_CHANCE].error == pytest.approx(np.std(chances, ddof=1) / math.sqrt(count))
    assert BY_SURPRISE not in figures(places, [4] * len(places), [0] * len(places), None)


def test_of_too_few_wrong_texts_no_share_is_told() -> None:
    places = [NOWHERE] * 100 + [0] * (LEAST_TEXTS - 1)
    found = figures(places, [4] * len(places), [0] * len(places), [0] * len(places))
    assert found.pop(PLACED).value == LEAST_TEXTS - 1
    assert all(estimate.value is None for estimate in found.values())
