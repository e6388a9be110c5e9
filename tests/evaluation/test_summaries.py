"""ROUGE and what stands beside it, on cases small enough to be worked out by hand."""

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from gptgan_jax.evaluation.summaries import cut_to_length, first_sentence, novel_ngrams, rouge, summary_figures


def test_rouge_is_the_f1_of_words_pairs_and_the_longest_common_subsequence() -> None:
    # 4 of 5 words against 4 of 6; pairs "the cat", "the mat" of 4 and 5; in order "the cat the mat".
    scores = rouge(["the cat saw the mat"], ["the cat sat on the mat"])
    f1 = {"ROUGE-1": 2 * 4 / 11, "ROUGE-2": 2 * 2 / 9, "ROUGE-L": 2 * 4 / 11}
    assert {name: float(values[0]) for name, values in scores.items()} == pytest.approx(f1)


def test_rouge_counts_order_only_where_it_should() -> None:
    scores = rouge(["mat the on"], ["on the mat"])
    assert scores["ROUGE-1"][0] == 1
    assert scores["ROUGE-2"][0] == 0
    assert scores["ROUGE-L"][0] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("summary", "real"),
    [
        ("We introduce a new method.", "A NEW method is introduced"),
        ("", "some words"),
        ("some words", ""),
        ("... !", "words"),
        ("the the the", "the"),
        ("training deep nets", "We train a deep net, with care."),
    ],
)
def test_rouge_is_that_of_the_library_with_its_stemmer(summary: str, real: str) -> None:
    theirs = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True).score(real, summary)
    ours = rouge([summary], [real])
    assert [float(values[0]) for values in ours.values()] == [one.fmeasure for one in theirs.values()]


def test_a_longer_summary_gains_nothing_at_the_real_length() -> None:
    real = ["one two three four"]
    short, padded = ["one two x y"], ["one two x y three four"]
    assert rouge(padded, real)["ROUGE-1"][0] > rouge(short, real)["ROUGE-1"][0]
    assert cut_to_length(padded, real) == short
    assert cut_to_length(["one"], real) == ["one"]


def test_novelty_is_what_the_source_lacks() -> None:
    source = ["a b c d"]
    assert novel_ngrams(["a b c"], source, 2).value == 0
    assert novel_ngrams(["c b a"], source, 2).value == 1
    assert novel_ngrams(["a b x"], source, 2).value == 0.5
    assert novel_ngrams(["a b a b a b"], source, 2).value == 0.5  # "a b" is old, "b a" is new
    assert novel_ngrams(["a"], source, 2).value is None
    assert novel_ngrams(["a b", "a"], source * 2, 2).value == 0


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One two. Three four.", "One two."),
        ("the cat sat . it slept .", "the cat sat ."),
        ("no end here", "no end here"),
        ("Really? Yes!", "Really?"),
        ("  version 2.0 is\nhere. Now", "version 2.0 is here."),
        ("", ""),
    ],
)
def test_the_first_sentence(text: str, first: str) -> None:
    assert first_sentence(text) == first


def test_real_summaries_have_the_best_figures_and_shuffled_ones_do_not() -> None:
    real = ["one two three", "four five six", "seven eight nine"]
    sources = [f"{text} and more of it" for text in real]
    best = {figure.name: figure.estimate.value for figure in summary_figures(real, sources, real, "3 prompts")}
    rolled = [*real[1:], real[0]]
    worst = {figure.name: figure.estimate.value for figure in summary_figures(rolled, sources, real, "3 prompts")}
    rouges = [name for name in best if name.startswith("ROUGE")]
    assert len(rouges) == 6
    assert all(best[name] == pytest.approx(1) and worst[name] == 0 for name in rouges)
    assert best["length over the real one's"] == 1
    assert (best["new 2-grams"], worst["new 2-grams"]) == (0, 1)


def test_texts_that_do_not_pair_up_are_refused() -> None:
    for wrong in (lambda: rouge(["a"], ["a", "b"]), lambda: novel_ngrams(["a", "b"], ["a"], 2)):
        with pytest.raises(ValueError, match="zip"):
            wrong()
    assert np.isnan(summary_figures(["x"], ["y"], ["z"], "")[0].estimate.value or 0) == 0
