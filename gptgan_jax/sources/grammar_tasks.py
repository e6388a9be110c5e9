"""Prompts and answers made from the grammar's sentences; each prompt has exactly one right answer.

    condense    the old man who owns a guitar walks along the dusty road .  ->  the man walks along the road .
    answer      the old man who owns a guitar walks along the dusty road . who walks along the road ?  ->  the man

Both are computed from the derivation. Condensing a sentence keeps its main clause without descriptions: adjectives,
numbers, relative clauses, phrases that modify a noun, adverbs (except "never") and times. The result is a sentence of
the grammar. A question is the condensed sentence with a question word for one of its parts: the subject, an object, or
a place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from gptgan_jax.sources.grammar import english_scenes
from gptgan_jax.sources.pcfg import Rule

GrammarTask = Literal["condense", "answer"]
# The first parts of symbol names in the grammar's rules.
CLAUSES = ("Long", "Heavy", "Mid", "Short", "There")
DESCRIBING = ("First", "Second", "Number", "With", "Relative", "How", "Mood", "Carefully", "Often", "Degree", "Fresh")
NOUN_PHRASES = ("Lite", "Core", "Big", "Some", "Doer")
PLACES = ("Where", "Way")
QUESTION_WORDS = ("who", "what", "where", "?")
VOWELS = "aeiou"


@dataclass(frozen=True, eq=False)
class Node:
    """A symbol of a derivation with its children from left to right: nodes and words."""

    symbol: str
    children: tuple["Node | str", ...]

    @property
    def kind(self) -> str:
        """The first part of the symbol's name."""
        return self.symbol.partition("_")[0]

    @property
    def is_clause(self) -> bool:
        """Whether it is a clause; verb phrases are named Mid_vp_... or Mid_do_..., and are not."""
        return self.kind in CLAUSES and self.symbol.split("_")[1] not in ("vp", "do")


class Part(NamedTuple):
    """A part of a sentence that a question can ask for.

    Attributes:
        question: the question word.
        begin, end: the range of its words in the condensed sentence.
    """

    question: str
    begin: int
    end: int


class Pairs(NamedTuple):
    """N prompts and their right answers."""

    prompts: list[str]
    answers: list[str]


def draw_pairs(task: GrammarTask, rng: np.random.Generator, count: int) -> Pairs:
    """Draws sentences and, for a task with questions, one of each sentence's questions at random.

    Args:
        task: the task.
        rng: equal generators give equal pairs; the sentences are those of `PCFG.sample`.
        count: N.
    """
    prompts, answers = [], []
    for derivation in english_scenes().sample_derivations(rng, count):
        tree = tree_of(derivation)
        pairs = list(_pairs_of(task, tree))
        prompt, answer = pairs[rng.integers(len(pairs))]
        prompts.append(prompt)
        answers.append(answer)
    return Pairs(prompts, answers)


def answer_to(task: GrammarTask, prompt: str) -> str | None:
    """The right answer, found from the prompt's text alone; None if it is not a prompt of the task."""
    begin = prompt.find(" . ") + 2 if task == "answer" else len(prompt)
    derivation = english_scenes().derivation(prompt[:begin])
    if derivation is None:
        return None
    return dict(_pairs_of(task, tree_of(derivation))).get(prompt)


def task_words() -> tuple[str, ...]:
    """All words that occur in prompts and answers."""
    return tuple(dict.fromkeys((*english_scenes().words, *QUESTION_WORDS)))


def tree_of(derivation: Sequence[Rule]) -> Node:
    """The tree of a derivation in leftmost order."""
    rules = iter(derivation)
    nonterminals = {rule.left for rule in derivation}

    def built() -> Node:
        rule = next(rules)
        return Node(rule.left, tuple(built() if symbol in nonterminals else symbol for symbol in rule.right))

    return built()


def _pairs_of(task: GrammarTask, tree: Node) -> Iterator[tuple[str, str]]:
    """All prompts made from a sentence, with their answers."""
    sentence = " ".join(_words(tree))
    words, parts = condensed(tree)
    if task == "condense":
        yield sentence, " ".join([*words, "."])
        return
    for part in parts:
        question = [*words[: part.begin], part.question, *words[part.end :], "?"]
        yield f"{sentence} {' '.join(question)}", " ".join(words[part.begin : part.end])


def condensed(tree: Node) -> tuple[list[str], list[Part]]:
    """The words of a sentence's main clause without descriptions, and the parts that questions can ask for.

    The main clause is the one without "when", "while", "before" or "after" in front; the first if there are two.
    """
    clauses = [child for child in tree.children if isinstance(child, Node) and child.kind in CLAUSES]
    first = tree.children[0]
    main = clauses[-1] if isinstance(first, Node) and first.symbol == "Joining_first" else clauses[0]
    words: list[str] = []
    parts: list[Part] = []
    _condense(main, words, parts, asked=True)
    for i, (word, following) in enumerate(pairwise(words)):
        if word in ("a", "an"):
            words[i] = "an" if following[0] in VOWELS else "a"
    return words, parts


def _condense(node: Node, words: list[str], parts: list[Part], asked: bool) -> None:
    """Adds the node's condensed words and, if `asked`, its parts."""
    begin = len(words)
    question = _question(node) if asked else None
    subjects = [child for child in node.children if isinstance(child, Node) and child.kind in NOUN_PHRASES]
    for child in node.children:
        if isinstance(child, str):
            words.append(child)
        elif child.kind not in DESCRIBING or _is_needed(node, child):
            # Reported speech is a clause within the clause, and so is the relative clause after "there is".
            within = (child.is_clause and bool(subjects)) or child.kind == "Relative"
            _condense(child, words, parts, asked and question is None and not within)
    if question is not None:
        parts.append(Part(question, begin, len(words)))


def _is_needed(node: Node, child: Node) -> bool:
    """Whether a description has to stay: "there are two men" is not a sentence of the grammar, and "never" negates."""
    return (node.kind == "There" and child.kind == "Relative") or child.children == ("never",)


def _question(node: Node) -> str | None:
    """The question word for a node; None if no question asks for it."""
    if node.kind in PLACES:
        return "where"
    if node.kind in NOUN_PHRASES or node.symbol == "Drink":
        return "who" if "person" in node.symbol or node.kind == "Doer" else "what"
    return None


def _words(node: Node) -> Iterator[str]:
    for child in node.children:
        if isinstance(child, str):
            yield child
        else:
            yield from _words(child)
