"""Labels of the grammar's sentences are properties of their derivations: each sentence has exactly one of each kind."""

import numpy as np
import pytest

from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.sources.grammar_labels import LABELLINGS, label_ids, label_of

SENTENCES = english_scenes().sample(np.random.default_rng(5), 400)
PAST = {"was", "were", "had", "could", "yesterday"}
PRESENT = {"is", "are", "has", "have", "can", "will", "must", "may", "now", "today"}


@pytest.mark.parametrize(
    ("sentence", "tense", "subject"),
    [
        ("the elephant is following the elderly girl with the hammer .", "present", "animal"),
        ("his quiet teacher was angry .", "past", "person"),
        ("there are two singers near the old wooden gate .", "present", "person"),
        ("the taxi is stopping behind a tall fence .", "present", "vehicle"),
        ("a beautiful piano was expensive .", "past", "thing"),
        ("the tiny owl flew over the house .", "past", "bird"),
    ],
)
def test_what_a_reader_would_say(sentence: str, tense: str, subject: str) -> None:
    assert (label_of(sentence, "tense"), label_of(sentence, "subject")) == (tense, subject)


def test_every_sentence_has_a_label_of_each_kind_and_every_label_occurs() -> None:
    for name, labelling in LABELLINGS.items():
        ids = label_ids(SENTENCES, name)
        assert ids.dtype == np.int32
        assert set(ids.tolist()) == set(range(len(labelling.classes)))


def test_the_tense_is_that_of_every_word_that_shows_one() -> None:
    for sentence in SENTENCES:
        words = set(sentence.split())
        other = PRESENT if label_of(sentence, "tense") == "past" else PAST
        assert not words & other, sentence


def test_what_is_not_grammatical_has_no_label() -> None:
    assert label_of("dog the is .", "subject") is None
    assert label_ids(["dog the is .", SENTENCES[0]], "tense")[0] == -1
