"""Labels of the grammar's sentences, computed from their derivations.

Every sentence of the grammar has exactly one derivation, and so one label of each kind. So a classifier can be scored
against exact labels, and so can text that was generated for a label.
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
        of: a function from a derivation, in leftmost order, to its label.
    """

    classes: tuple[str, ...]
    of: Callable[[Derivation], str]


def _tense(derivation: Derivation) -> str:
    """The tense, which is the same in all clauses and named in the symbols of the first rule."""
    tense = next(symbol for symbol in derivation[0].right if symbol.endswith(("_pres", "_past")))
    return {"pres": "present", "past": "past"}[tense.rpartition("_")[2]]


def _subject(derivation: Derivation) -> str:
    """The noun class of the first clause's subject, which comes first and is named in the symbols above it."""
    named = (part for rule in derivation for part in rule.left.split("_") if part in FEATURES["k"])
    noun_class = next(named)
    return noun_class if noun_class in AGENTS else "thing"


LABELLINGS: dict[GrammarLabel, Labelling] = {
    "tense": Labelling(("past", "present"), _tense),
    "subject": Labelling((*AGENTS, "thing"), _subject),
}


def label_of(sentence: str, name: GrammarLabel) -> str | None:
    """The label of a sentence; None if it is not grammatical."""
    derivation = english_scenes().derivation(sentence)
    return None if derivation is None else LABELLINGS[name].of(derivation)


def label_ids(sentences: Sequence[str], name: GrammarLabel) -> np.ndarray:
    """int32 [N], the index of each sentence's label in the labelling's classes; -1 if it is not grammatical."""
    classes = LABELLINGS[name].classes
    labels = (label_of(sentence, name) for sentence in sentences)
    return np.array([-1 if label is None else classes.index(label) for label in labels], np.int32)
