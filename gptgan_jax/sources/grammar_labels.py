"""Labels of the grammar's sentences: properties of a derivation, so that whether a sentence has one can be decided.

Every sentence of the grammar has exactly one derivation, and with it one label of each kind. So a classifier has right
answers to be measured by, and text that was written for a label either has it or does not.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from gptgan_jax.sources.grammar import AGENTS, FEATURES, english_scenes
from gptgan_jax.sources.pcfg import Rule

GrammarLabel = Literal["tense", "subject"]
Derivation = tuple[Rule, ...]


class Labelling(NamedTuple):
    """One way to label sentences.

    Attributes:
        classes: the labels.
        of: the label of a derivation, which is in leftmost order.
    """

    classes: tuple[str, ...]
    of: Callable[[Derivation], str]


def _tense(derivation: Derivation) -> str:
    """All clauses of a sentence are in one tense, which the symbols of its first rule carry."""
    tense = next(symbol for symbol in derivation[0].right if symbol.endswith(("_pres", "_past")))
    return {"pres": "present", "past": "past"}[tense.rpartition("_")[2]]


def _subject(derivation: Derivation) -> str:
    """What acts in the first clause: its subject comes first, and the symbols above it name its class of nouns."""
    named = (part for rule in derivation for part in rule.left.split("_") if part in FEATURES["k"])
    noun_class = next(named)
    return noun_class if noun_class in AGENTS else "thing"


LABELLINGS: dict[GrammarLabel, Labelling] = {
    "tense": Labelling(("past", "present"), _tense),
    "subject": Labelling((*AGENTS, "thing"), _subject),
}


def label_of(sentence: str, name: GrammarLabel) -> str | None:
    """The label of a sentence; None where it is not grammatical."""
    derivation = english_scenes().derivation(sentence)
    return None if derivation is None else LABELLINGS[name].of(derivation)


def label_ids(sentences: Sequence[str], name: GrammarLabel) -> np.ndarray:
    """int32 [N], each sentence's place in the labelling's classes; -1 where it is not grammatical."""
    classes = LABELLINGS[name].classes
    labels = (label_of(sentence, name) for sentence in sentences)
    return np.array([-1 if label is None else classes.index(label) for label in labels], np.int32)
