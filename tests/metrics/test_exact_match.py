"""Exact match: what counts as the same answer, and that right answers get 1 and others nearly nothing."""

import numpy as np
import pytest

from gptgan_jax.metrics.exact_match import (
    answer_figures,
    commonest_answer,
    exact_match,
    final_answer,
    same_words,
)
from gptgan_jax.sources.grammar_tasks import answer_to, draw_pairs


@pytest.mark.parametrize(
    ("text", "final"),
    [
        ("3 + 4 = <<3+4=7>>7\n#### 7", "7"),
        ("#### 1 #### 2", "2"),
        ("#### $1,200.50", "1200.5"),
        ("#### 1200.0", "1200"),
        ("#### 50%", "50"),
        ("#### -3.", "-3"),
        ("#### 007", "7"),
        ("The  Horses\n", "the horses"),
        ("near a gate.", "near a gate"),
        ("1,2 and 3", "1,2 and 3"),
        ("####", ""),
        ("nan", "nan"),
        ("-0.0", "0"),
        ("1_000", "1_000"),
        ("1234567890123457", "1234567890123457"),
        ("-$5.00", "-5"),
        ("$-5", "-5"),
        ("inf", "inf"),
        ("1e999", "1e999"),
        ("١٢", "١٢"),
        ("12345678901234567890123", "12345678901234567890123"),
        ("北京。", "北京"),
        ("北京 ｡", "北京"),
        ("दिल्ली।", "दिल्ली"),
        ("کراچی۔", "کراچی"),
        ("４２", "42"),
        ("＃＃＃＃　＄１，２００．５０。", "1200.5"),
        ("５０％", "50"),
        ("－３．", "-3"),
        ("ＡＢＣ　ｄ", "abc d"),
        ("ﾄｳｷｮｳ", "トウキョウ"),
        ("1,000米", "1000米"),
        ("1,000km", "1,000km"),
        ("10²", "10²"),  # not 102
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_the_final_answer(text: str, final: str) -> None:
    assert final_answer(text) == final


@pytest.mark.parametrize(
    ("answer", "real", "right"),
    [
        ("so it is\n#### 72", "48+24 = 72\n#### 72", True),
        ("#### 72.00", "#### 72", True),
        ("#### 73", "#### 72", False),
        ("72", "#### 72", False),  # it never came to an end
        ("#### 7", "#### 72", False),
        ("", "#### 72", False),
        ("the horses", "The horses.", True),
        ("the horse", "the horses", False),
        ("北京。", "北京", True),
        ("＃＃＃＃ ７２。", "#### 72", True),
        ("７２", "＃＃＃＃ ７２", False),
        ("10²", "102", False),
    ],
)
def test_an_answer_is_right_where_it_comes_to_the_same(answer: str, real: str, right: bool) -> None:
    assert exact_match([answer], [real]).tolist() == [right]


@pytest.mark.parametrize("task", ["condense", "answer"])
def test_a_perfect_oracle_is_always_right_and_a_shuffled_one_hardly_ever(task) -> None:
    pairs = draw_pairs(task, np.random.default_rng(0), 300)
    oracle = [answer_to(task, prompt) or "" for prompt in pairs.prompts]
    assert exact_match(oracle, pairs.answers).mean() == 1
    shuffled = np.random.default_rng(1).permutation(len(oracle))
    assert exact_match([oracle[i] for i in shuffled], pairs.answers).mean() < 0.05


def test_the_commonest_answer_is_right_where_it_is_the_answer() -> None:
    assert commonest_answer(["#### 2", "so\n#### 3", "#### 3.0"]) == "#### 3"
    assert commonest_answer(["b", "a", "B."]) == "b"
    assert exact_match([commonest_answer(["#### 1,000"] * 2)], ["x #### 1000"]).all()
    with pytest.raises(ValueError, match="no answers"):
        commonest_answer([])


def test_what_fills_blanks_is_right_word_for_word_alone() -> None:
    real = ["was angry .", ".", "the 1,000 cats", "in  the", "#### x"]
    written = ["was angry", "", "the 1000 cats", "in the", "y #### x"]
    assert same_words(written, real).tolist() == [False, False, False, True, False]
    assert exact_match(written, real).all()
    assert same_words(real, real).all()
    (figure,) = answer_figures(written, real, "5 prompts", word_for_word=True)
    assert (figure.estimate.value, figure.signature) == (0.2, "5 prompts; all words")


def test_the_figures_of_marked_answers_say_how_many_came_to_an_end() -> None:
    figures = answer_figures(["#### 1", "#### 2", "3", "x"], ["#### 1"] * 4, "4 prompts")
    assert {figure.name: figure.estimate.value for figure in figures} == {
        "exact match": 0.25,
        "with a final answer": 0.5,
    }
    assert [figure.name for figure in answer_figures(["a"], ["a"], "1 prompt")] == ["exact match"]


def test_answers_that_do_not_pair_up_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        exact_match(["a"], ["a", "b"])
