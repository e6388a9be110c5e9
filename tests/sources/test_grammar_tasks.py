"""The grammar's prompts and answers: what is asked has one right answer, and it can be found from the prompt alone."""

import numpy as np
import pytest

from gptgan_jax.data.config import GrammarData
from gptgan_jax.data.corpora import load_corpus
from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.sources.grammar_tasks import answer_to, condensed, draw_pairs, task_words, tree_of

COUNT = 300


def condense(sentence: str) -> str | None:
    return answer_to("condense", sentence)


@pytest.mark.parametrize(
    ("sentence", "short"),
    [
        ("the elephant is following the elderly girl with the hammer .", "the elephant is following the girl ."),
        ("there is an old iron entrance near his cottage .", "there is an entrance near his cottage ."),
        ("an old horse is chasing a big elephant .", "a horse is chasing an elephant ."),
        ("there were four men who were smiling alone .", "there were four men who were smiling ."),
        ("these rabbits never ran slowly to the statue .", "these rabbits never ran to the statue ."),
        ("these rabbits often ran slowly to the statue .", "these rabbits ran to the statue ."),
        ("yesterday , the boy was helped by the engineer .", "the boy was helped by the engineer ."),
        ("this dog sits behind a wall while the puppy chases the eagles .", "this dog sits behind a wall ."),
        ("while the owls are following this swan , the metal cameras are heavy .", "the cameras are heavy ."),
        ("his quiet teacher was angry .", "his teacher was angry ."),
    ],
)  # fmt: skip
def test_a_sentence_is_condensed_to_its_main_clause_without_what_describes(sentence: str, short: str) -> None:
    assert condense(sentence) == short


def test_a_condensed_sentence_is_one_of_the_grammar_no_longer_and_has_nothing_left_to_condense() -> None:
    pairs = draw_pairs("condense", np.random.default_rng(1), COUNT)
    for sentence, short in zip(pairs.prompts, pairs.answers, strict=True):
        assert english_scenes().log_prob(short) > -np.inf, short
        assert len(short.split()) <= len(sentence.split())
        assert condense(short) == short
    lengths = [sum(len(text.split()) for text in texts) for texts in pairs]
    assert lengths[1] < 0.75 * lengths[0]


def test_the_answer_in_the_place_of_the_question_word_gives_the_condensed_sentence() -> None:
    pairs = draw_pairs("answer", np.random.default_rng(2), COUNT)
    words = set()
    for prompt, answer in zip(pairs.prompts, pairs.answers, strict=True):
        sentence, question = prompt.split(" . ")
        short = condense(f"{sentence} .")
        assert short is not None
        filled = [question.replace(word, answer, 1) for word in ("who", "what", "where") if word in question.split()]
        assert short.replace(" .", " ?") in filled, prompt
        words |= {word for word in ("who", "what", "where") if word in question.split()}
    assert words == {"who", "what", "where"}


@pytest.mark.parametrize("task", ["condense", "answer"])
def test_the_answer_is_found_from_the_prompt_alone_and_from_nothing_else(task) -> None:
    pairs = draw_pairs(task, np.random.default_rng(3), COUNT)
    assert [answer_to(task, prompt) for prompt in pairs.prompts] == pairs.answers
    assert answer_to(task, "the the the") is None
    assert answer_to(task, "") is None
    assert answer_to("answer", "his quiet teacher was angry . who was happy ?") is None


def test_the_sentences_are_those_of_the_grammar_itself() -> None:
    drawn = english_scenes().sample(np.random.default_rng(4), 50)
    assert draw_pairs("condense", np.random.default_rng(4), 50).prompts == drawn
    derivations = english_scenes().sample_derivations(np.random.default_rng(4), 50)
    assert derivations == [english_scenes().derivation(sentence) for sentence in drawn]


def test_a_question_asks_for_each_part_once() -> None:
    tree = tree_of(english_scenes().derivation("the man is giving the old woman two apples .") or ())
    words, parts = condensed(tree)
    asked = [(part.question, " ".join(words[part.begin : part.end])) for part in parts]
    assert asked == [("who", "the man"), ("who", "the woman"), ("what", "two apples")]


@pytest.mark.parametrize("task", ["condense", "answer"])
def test_a_corpus_of_pairs_has_all_their_words_and_no_source(task) -> None:
    corpus = load_corpus(GrammarData(task=task, train_size=40, valid_size=30, test_size=20))
    assert corpus.test is not None
    sizes = [(len(split.texts), len(split.prompts or ())) for split in (corpus.train, corpus.valid, corpus.test)]
    assert sizes == [(40, 40), (30, 30), (20, 20)]
    used = {word for text in (*corpus.train.texts, *(corpus.train.prompts or ())) for word in text.split()}
    assert used <= set(corpus.words or ())
    assert corpus.words == task_words()
    assert corpus.source is None
    assert set(corpus.train.prompts or ()).isdisjoint((corpus.test.prompts or ())[:5])
