"""Scores of texts: by hand for a few words, by bootstrap for the errors, by the grammar for its own sentences."""

import numpy as np
import pytest

from gptgan_jax.data.grammar import english_scenes
from gptgan_jax.data.oracle import Oracle, init_oracle
from gptgan_jax.evaluation.estimates import Estimate, mean_of, ratio_of_sums
from gptgan_jax.evaluation.scores import distinct_ngrams, text_scores
from gptgan_jax.evaluation.texts import Written


def written(texts: list[str]) -> Written:
    lengths = np.array([len(text.split()) + 1 for text in texts])
    mask = np.arange(lengths.max()) < lengths[:, None]
    return Written(texts, np.zeros(mask.shape, np.int32), mask)


def test_distinct_n_is_different_ngrams_over_all_of_them() -> None:
    texts = ["a b a b", "a b c", "c"]
    assert distinct_ngrams(texts, 1).value == pytest.approx(3 / 8)
    assert distinct_ngrams(texts, 2).value == pytest.approx(3 / 5)  # ab ba ab, ab bc
    assert distinct_ngrams(texts, 4) == Estimate(1.0)


def test_an_ngram_does_not_reach_over_the_end_of_a_text() -> None:
    assert distinct_ngrams(["a b", "b a"], 2).value == 1.0
    assert distinct_ngrams(["a", "b"], 2) == Estimate(None)


def test_a_mean_has_the_standard_error_of_the_mean() -> None:
    values = [1.0, 2.0, 4.0]
    assert mean_of(values) == Estimate(pytest.approx(7 / 3), pytest.approx(np.std(values, ddof=1) / np.sqrt(3)))
    assert mean_of([5.0]) == Estimate(5.0, None)
    assert mean_of([]) == Estimate(None)


def test_a_share_has_the_binomial_error() -> None:
    share = mean_of([True] * 30 + [False] * 10)
    assert share.value == 0.75
    assert share.error == pytest.approx(np.sqrt(0.75 * 0.25 / 39))


def test_a_ratio_of_sums_has_the_error_of_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    words = rng.integers(2, 12, 300)
    nats = 2.0 * words + rng.normal(0, 3, 300)
    ratio = ratio_of_sums(nats, words)
    drawn = rng.integers(0, 300, (4000, 300))
    assert ratio.value == pytest.approx(nats.sum() / words.sum())
    assert ratio.error == pytest.approx((nats[drawn].sum(axis=1) / words[drawn].sum(axis=1)).std(), rel=0.06)


def test_length_counts_the_end_of_text_and_copies_are_told_from_news() -> None:
    scores = text_scores(written(["a b", "c d e", "f"]), np.array([False, True, False]), None)
    assert scores["length", "tokens"].value == pytest.approx((3 + 4 + 2) / 3)
    assert scores["not in the training text", "share"].value == pytest.approx(2 / 3)
    assert ("grammatical", "share") not in scores


def test_the_grammars_own_sentences_are_all_grammatical_and_cost_what_the_grammar_says() -> None:
    grammar = english_scenes()
    sentences = grammar.sample(np.random.default_rng(0), 20)
    scores = text_scores(written(sentences), np.zeros(len(sentences), bool), grammar)
    assert scores["grammatical", "share"] == Estimate(1.0, 0.0)
    nats = -sum(grammar.log_prob(sentence) for sentence in sentences)
    words = sum(len(sentence.split()) for sentence in sentences)
    assert scores["source NLL of the grammatical", "nats/word"].value == pytest.approx(nats / words)


def test_salad_is_not_grammatical_and_leaves_the_cost_of_the_grammatical_alone() -> None:
    grammar = english_scenes()
    sentences = grammar.sample(np.random.default_rng(0), 6)
    salad = [" ".join(reversed(sentence.split())) for sentence in sentences[:2]]
    name = ("source NLL of the grammatical", "nats/word")
    mixed = text_scores(written([*sentences, *salad]), np.zeros(len([*sentences, *salad]), bool), grammar)
    assert mixed["grammatical", "share"].value == 0.75
    assert mixed[name] == text_scores(written(sentences), np.zeros(len(sentences), bool), grammar)[name]
    assert text_scores(written(salad), np.zeros(len(salad), bool), grammar)[name] == Estimate(None)


def test_the_oracle_scores_in_nats_a_token() -> None:
    oracle = Oracle(init_oracle(0, vocab_size=30, hidden=4))
    tokens = oracle.sample(1, 8, 5)
    drawn = Written([" ".join(map(str, row)) for row in tokens], tokens, np.ones_like(tokens, bool))
    score = text_scores(drawn, np.zeros(len(drawn.texts), bool), oracle)["oracle NLL", "nats/token"]
    assert score.value == pytest.approx(-oracle.log_prob(tokens).mean() / 5)
