"""N-gram figures: BLEU by NLTK on captions and on small random texts, by hand, and by what it must not depend on;
the jackknife by leaving out one text after the other."""

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gptgan_jax.metrics.estimates import Estimate, mean_of
from gptgan_jax.metrics.ngrams import Words, bleu, distinct_ngrams, distinct_texts, repetition, self_bleu, words_of
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.tokenization.units import units_of

CAPTIONS = Path(__file__).parents[2].parent / "shared/data/coco_captions_valid.txt"
ORDERS = (1, 2, 3, 4, 5)

TEXTS = st.lists(st.sampled_from("abcd"), max_size=9)  # few words, so that n-grams repeat within and between texts
SETS = st.lists(TEXTS, min_size=1, max_size=6)

NltkBleu = Callable[[Sequence[Words], Words, int], float]


@pytest.fixture(scope="module")
def nltk_bleu() -> NltkBleu:
    """(references, text, n) -> BLEU-n."""
    nltk: Any = pytest.importorskip("nltk.translate.bleu_score", reason="NLTK is not installed")
    smoothing = nltk.SmoothingFunction().method1

    def score(references: Sequence[Words], text: Words, n: int) -> float:
        return nltk.sentence_bleu(references, text, weights=(1 / n,) * n, smoothing_function=smoothing)

    return score


@pytest.fixture(scope="module")
def captions() -> list[list[str]]:
    if not CAPTIONS.exists():
        pytest.skip(f"{CAPTIONS} is not here")
    return words_of(CAPTIONS.read_text(encoding="utf-8").splitlines())


def assert_equal_to_nltk(ours: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-9)


def others(texts: Sequence[Any], i: int) -> list[Any]:
    return [*texts[:i], *texts[i + 1 :]]


def jackknife_error(figure: Callable[[list[Any]], Estimate], texts: Sequence[Any]) -> float:
    left_out = np.array([figure(others(texts, i)).value for i in range(len(texts))], np.float64)
    return math.sqrt((len(texts) - 1) / len(texts) * np.square(left_out - left_out.mean()).sum())


# ------------------------------------------------------------------------------------------------------------ NLTK


def test_bleu_of_captions_is_nltks(nltk_bleu: NltkBleu, captions: list[list[str]]) -> None:
    texts, references = captions[:20], captions[20:520]
    texts = [*texts, texts[0][:3], texts[1] * 2, [word for text in texts[:4] for word in text], ["zyzzyva"], []]
    ours = bleu(texts, references, ORDERS)
    for n in ORDERS:
        assert_equal_to_nltk(ours[n], [nltk_bleu(references, text, n) for text in texts])
    assert 0.1 < ours[3][:20].mean() < 0.9


def test_self_bleu_of_captions_is_nltks(nltk_bleu: NltkBleu, captions: list[list[str]]) -> None:
    texts = captions[:300]
    ours = self_bleu(texts, ORDERS)
    for n in ORDERS:
        assert_equal_to_nltk(ours[n][:12], [nltk_bleu(others(texts, i), texts[i], n) for i in range(12)])


HAN = st.text(st.sampled_from("明月照高山 a1，。\u3000"), min_size=1, max_size=14)


@settings(max_examples=300, deadline=None)
@given(HAN, st.lists(HAN, min_size=1, max_size=4))
@example("明月照高山，清风拂柳。", ["明月 照高山。", "山高，风 清"])
@example("明月", ["明月照", "明"])  # two references as near in length
@example("ขึ้นเขา", ["ขึ้น เขา", "เขา"])
def test_bleu_by_characters_is_sacrebleus(text: str, references: list[str]) -> None:
    metrics = pytest.importorskip("sacrebleu.metrics", reason="sacreBLEU is not installed")
    (own,), real = units_of([text], "character"), units_of(references, "character")
    ours = bleu([own], real, ORDERS)
    for n in ORDERS:
        # sacreBLEU has no figure for a text without a word or with fewer than n.
        if len(own) < n or not set(own) & {word for one in real for word in one}:
            continue
        theirs = metrics.BLEU(tokenize="char", smooth_method="floor", smooth_value=0.1, max_ngram_order=n)
        assert abs(ours[n][0] - theirs.sentence_score(text, references).score / 100) < 1e-9


def test_bleu_by_characters_is_nltks(nltk_bleu: NltkBleu) -> None:
    texts = units_of(["明月照高山，清风拂柳。", "山高月小", "明明明月", "柳"], "character")
    references = units_of(["明月照高山。", "清风拂柳，明月 照水。", "山高"], "character")
    ours, alone = bleu(texts, references, ORDERS), self_bleu(texts, ORDERS)
    for n in ORDERS:
        assert_equal_to_nltk(ours[n], [nltk_bleu(references, text, n) for text in texts])
        assert_equal_to_nltk(alone[n], [nltk_bleu(others(texts, i), texts[i], n) for i in range(len(texts))])


@settings(max_examples=200, deadline=None)
@given(SETS, SETS)
@example([["a"] * 4], [["a"] * 5, ["a"] * 3])  # two references as near: the shorter, so no penalty
@example([["a"] * 4], [["a"] * 2, ["a"] * 5])
@example([["a", "b"], [], ["d"]], [[]])
@example([["a", "a", "a", "b"]], [["a", "b"], ["a", "a"]])  # clipped by the most in one reference, not in all
def test_bleu_of_any_texts_is_nltks(nltk_bleu: NltkBleu, texts: list[list[str]], references: list[list[str]]) -> None:
    ours = bleu(texts, references, ORDERS)
    for n in ORDERS:
        assert_equal_to_nltk(ours[n], [nltk_bleu(references, text, n) for text in texts])


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=7))
@example([["a"] * 4, ["a"] * 5, ["a"] * 3])
@example([["a"] * 5, ["a"] * 5, ["a"] * 3])
@example([["a"] * 3, ["a"] * 2 + ["b"] * 5, ["a", "b"]])  # the owner of the most, the runner-up, and a third
@example([[], []])
def test_self_bleu_of_any_texts_is_nltks_against_the_others(nltk_bleu: NltkBleu, texts: list[list[str]]) -> None:
    ours = self_bleu(texts, ORDERS)
    for n in ORDERS:
        assert_equal_to_nltk(ours[n], [nltk_bleu(others(texts, i), text, n) for i, text in enumerate(texts)])


# --------------------------------------------------------------------------------------------------- BLEU, by hand


def test_bleu_is_the_geometric_mean_of_clipped_precisions_with_the_penalty_of_the_shorter() -> None:
    scores = bleu(words_of(["the the cat sat"]), words_of(["the cat sat on it"]), (1, 2, 3, 4))
    penalty = math.exp(1 - 5 / 4)
    assert scores[1] == pytest.approx([penalty * 3 / 4])
    assert scores[2] == pytest.approx([penalty * (3 / 4 * 2 / 3) ** (1 / 2)])
    assert scores[3] == pytest.approx([penalty * (3 / 4 * 2 / 3 * 1 / 2) ** (1 / 3)])
    assert scores[4] == pytest.approx([penalty * (3 / 4 * 2 / 3 * 1 / 2 * 0.1 / 1) ** (1 / 4)])


def test_an_ngram_matches_as_often_as_in_the_one_reference_that_has_it_most() -> None:
    scores = bleu([["a"] * 4], [["a", "a", "b", "b"], ["a", "b", "b", "b"], ["a", "b", "c", "d"]], (1,))
    assert scores[1] == pytest.approx([2 / 4])


def test_of_two_references_as_near_in_length_the_shorter_sets_the_penalty() -> None:
    assert bleu([["a"] * 4], [["a"] * 5, ["a"] * 3], (1,))[1] == pytest.approx([3 / 4 + 1 / 4])
    assert bleu([["a"] * 4], [["a"] * 5, ["a"] * 2], (1,))[1] == pytest.approx([math.exp(1 - 5 / 4)])
    assert self_bleu([["a"] * 4, ["a"] * 5, ["a"] * 3], (1,))[1][0] == pytest.approx(1)
    assert self_bleu([["a"] * 4, ["a"] * 5, ["a"] * 2], (1,))[1][0] == pytest.approx(math.exp(1 - 5 / 4))


def test_a_text_that_is_a_reference_scores_one_and_one_without_its_words_nothing() -> None:
    scores = bleu([list("abcde"), list("vwxyz"), []], [list("abcde"), list("edcba")])
    for n in (2, 3, 4, 5):
        assert scores[n].tolist() == [1, 0, 0]
        assert scores[n].dtype == np.float64


def test_a_match_counts_a_tenth_where_a_text_is_shorter_than_the_order() -> None:
    assert bleu([["a"]], [["a"]], (2,))[2] == pytest.approx([0.1**0.5])
    assert bleu([["a"]], [["a"]], (5,))[5] == pytest.approx([0.1 ** (4 / 5)])


def test_an_ngram_does_not_reach_over_the_end_of_a_text() -> None:
    joined = bleu([["a", "b"]], [["x", "a"], ["b", "x"]], (2,))[2]
    assert joined == pytest.approx([0.1**0.5])


def test_an_ngram_matches_by_all_of_its_words() -> None:
    assert bleu([list("abc")], [list("abx"), list("xbc")], (3,))[3] == pytest.approx([0.1 ** (1 / 3)])
    assert bleu([list("abcd")], [list("abcx"), list("xbcd")], (4,))[4] == pytest.approx([0.1 ** (1 / 4)])


def test_words_are_told_apart_whatever_their_characters() -> None:
    assert bleu([["a\0"], ["A"], ["a b"]], [["a"], ["a", "b"]], (1,))[1].tolist() == [0, 0, 0]


# -------------------------------------------------------------------------------------------- BLEU, what it ignores


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=7))
def test_self_bleu_is_bleu_against_the_others_and_never_oneself(texts: list[list[str]]) -> None:
    ours = self_bleu(texts, ORDERS)
    for i, text in enumerate(texts):
        apart = bleu([text], others(texts, i), ORDERS)
        for n in ORDERS:
            assert ours[n][i] == apart[n][0]


def test_an_equal_text_elsewhere_in_the_list_is_a_reference() -> None:
    alone, twice = list("abcde"), list("vwxyz")
    for scores in self_bleu([alone, twice, twice]).values():
        assert scores.tolist() == [0, 1, 1]
    for scores in self_bleu([alone] * 4).values():
        assert scores.tolist() == [1, 1, 1, 1]


@settings(max_examples=60, deadline=None)
@given(SETS, SETS, st.randoms(use_true_random=False))
def test_the_order_of_texts_and_of_references_does_not_matter(
    texts: list[list[str]], references: list[list[str]], random: Any
) -> None:
    order = random.sample(range(len(texts)), len(texts))
    shuffled = bleu([texts[i] for i in order], random.sample(references, len(references)), ORDERS)
    straight = bleu(texts, references, ORDERS)
    for n in ORDERS:
        assert shuffled[n].tolist() == straight[n][order].tolist()
    if len(texts) > 1:
        shuffled, straight = self_bleu([texts[i] for i in order], ORDERS), self_bleu(texts, ORDERS)
        for n in ORDERS:
            assert shuffled[n].tolist() == straight[n][order].tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=6), SETS, st.data())
def test_a_texts_bleu_does_not_depend_on_its_company_nor_on_references_given_twice(
    texts: list[list[str]], references: list[list[str]], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(texts) - 1))
    together = bleu(texts, references, ORDERS)
    first, second = bleu(texts[:cut], references, ORDERS), bleu(texts[cut:], references * 2, ORDERS)
    for n in ORDERS:
        assert together[n].tolist() == [*first[n], *second[n]]


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=6))
def test_self_bleu_does_not_depend_on_the_names_of_the_words_nor_on_which_orders_are_asked(
    texts: list[list[str]],
) -> None:
    names = dict(zip("abcd", ["kite", "a", "Zoo", "ok ok"], strict=True))
    renamed = self_bleu([tuple(names[word] for word in text) for text in texts], ORDERS)
    for n in ORDERS:
        assert renamed[n].tolist() == self_bleu(texts, (n,))[n].tolist()


def test_scores_come_by_the_order_asked_and_lie_in_the_unit_interval() -> None:
    sentences = words_of(english_scenes().sample(np.random.default_rng(0), 90))
    for scores in (bleu(sentences[:50], sentences[50:], (4, 2, 4)), self_bleu(sentences[:50], (4, 2, 4))):
        assert list(scores) == [4, 2]
        for values in scores.values():
            assert values.shape == (50,)
            assert ((values >= 0) & (values <= 1)).all()
        assert (scores[4] <= scores[2]).all()


def test_what_cannot_be_scored_is_refused() -> None:
    text = ["a", "b"]
    with pytest.raises(ValueError, match="at least one text"):
        bleu([], [text])
    with pytest.raises(ValueError, match="at least one reference"):
        bleu([text], [])
    with pytest.raises(ValueError, match="not 0"):
        bleu([text], [text], (2, 0))
    with pytest.raises(ValueError, match="not -1"):
        self_bleu([text, text], (-1,))
    with pytest.raises(ValueError, match="at least two texts, not 1"):
        self_bleu([text])
    for figure in (distinct_ngrams, repetition):
        with pytest.raises(ValueError, match="not 0"):
            figure([text], 0)


def test_no_text_warns_of_anything() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sets: list[list[list[str]]] = [[[], []], [[], ["a"]], [["a"], ["b"]]]
        for texts in sets:
            assert all(np.isfinite(values).all() for values in self_bleu(texts, ORDERS).values())
            assert all(np.isfinite(values).all() for values in bleu(texts, [[]], ORDERS).values())
        for n in ORDERS:
            assert distinct_ngrams([[], ["a"] * (n - 1)], n) == Estimate(None)
            assert repetition([[], ["a"] * (n - 1)], n) == Estimate(None)


# ------------------------------------------------------------------------------------------ diversity, repetition


def test_words_are_split_at_white_space() -> None:
    assert words_of(["a  b\tc", "", " d\n"]) == [["a", "b", "c"], [], ["d"]]


def test_distinct_n_is_different_ngrams_over_all_of_them() -> None:
    texts = words_of(["a b a b", "a b c", "c"])
    assert distinct_ngrams(texts, 1).value == pytest.approx(3 / 8)
    assert distinct_ngrams(texts, 2).value == pytest.approx(3 / 5)  # ab ba ab, ab bc
    assert distinct_ngrams(texts, 4) == Estimate(1.0)
    assert distinct_ngrams(words_of(["a b", "b a"]), 2) == Estimate(1.0, 0.0)
    assert distinct_ngrams(words_of(["a", "b"]), 2) == Estimate(None)
    assert distinct_ngrams([], 1) == Estimate(None)


def test_the_error_of_distinct_n_comes_from_leaving_out_each_text_by_hand() -> None:
    texts = words_of(["a b", "a c c", "a"])  # 3 of 6; without each text in turn 2 of 4, 2 of 3, 3 of 5
    left_out = np.array([2 / 4, 2 / 3, 3 / 5])
    error = math.sqrt(2 / 3 * np.square(left_out - left_out.mean()).sum())
    estimate = distinct_ngrams(texts, 1)
    assert estimate.value == 3 / 6
    assert estimate.error == pytest.approx(error)


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=7), st.integers(1, 3))
def test_the_error_of_distinct_n_is_the_jackknifes(texts: list[list[str]], n: int) -> None:
    estimate = distinct_ngrams(texts, n)
    having = sum(len(text) >= n for text in texts)
    assert (estimate.value is None) == (having == 0)
    assert (estimate.error is None) == (having <= 1)
    if having > 1:
        expected = jackknife_error(lambda some: distinct_ngrams(some, n), texts)
        assert estimate.error == pytest.approx(expected, abs=1e-12)


def test_repetition_is_what_an_ngram_has_said_before_in_its_own_text() -> None:
    texts = words_of(["a b a b", "a b c", "a", ""])  # ab ba ab: one of three said before; ab bc: none
    assert repetition(texts, 2) == mean_of([1 - 2 / 3, 0])
    assert repetition(texts, 1) == mean_of([1 / 2, 0, 0])
    assert repetition(texts, 4) == Estimate(0.0)
    assert repetition(texts, 5) == Estimate(None)
    assert repetition([], 1) == Estimate(None)


def test_repetition_does_not_look_into_other_texts() -> None:
    assert repetition(words_of(["a b", "a b", "a b"]), 1) == Estimate(0.0, 0.0)


def test_distinct_texts_is_the_share_of_different_ones() -> None:
    assert distinct_texts(["a b", "a b", "a  b", ""]).value == 3 / 4
    assert distinct_texts(["a b"]) == Estimate(1.0)
    assert distinct_texts(["a", "b", "c"]) == Estimate(1.0, 0.0)
    assert distinct_texts([]) == Estimate(None)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["", "a", "a b", "b"]), min_size=2, max_size=8))
def test_the_error_of_distinct_texts_is_the_jackknifes(texts: list[str]) -> None:
    share = distinct_texts(texts)
    assert share.value == len(set(texts)) / len(texts)
    assert share.error == pytest.approx(jackknife_error(distinct_texts, texts), abs=1e-12)
