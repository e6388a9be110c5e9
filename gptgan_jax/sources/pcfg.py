"""Probabilistic context-free grammars over a finite language, with exact probabilities and statistics.

The grammars have no recursion, so the language is finite (if vast), and so is every sum below: probabilities by the
inside algorithm; entropy (in nats), lengths and word counts by one pass over the symbols in topological order.

Literature: Baker (1979), "Trainable grammars for speech recognition" (inside algorithm); Goodman (1999), "Semiring
parsing" (one chart for sums, counts and derivations); Grenander (1967) and Soule (1974) (entropy of a grammar).
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Generic, NamedTuple, TypeVar, cast

import numpy as np

Value = TypeVar("Value")


class Rule(NamedTuple):
    """One production `left -> right`.

    `probability` may be any positive weight in the input of `PCFG`; in the rules of a `PCFG` the weights are divided by
    their sum over all rules of the same left side.
    """

    left: str
    right: tuple[str, ...]
    probability: float = 1.0


@dataclass(frozen=True)
class PCFG:
    """A probabilistic context-free grammar without recursion.

    A symbol is terminal (a word) exactly if no rule has it as its left side. Names are checked too, so that a misspelt
    nonterminal is not taken for a word: nonterminals begin with an upper-case letter, and words do not. A sentence is a
    string of words joined by single spaces.

    Args:
        rules: the productions; weights are normalised per left side, and `PCFG.rules` holds the normalised ones.
        start: the symbol that derives sentences.

    Raises:
        ValueError: an undefined or unreachable symbol, a misnamed one, a weight that is not positive and finite, an
            empty right side, a duplicate rule, or recursion. The message is one line.
    """

    rules: tuple[Rule, ...] = field(repr=False)
    start: str = "S"

    def __post_init__(self) -> None:
        _check_rules(self.rules)
        totals: dict[str, float] = {}
        for left, _, weight in self.rules:
            totals[left] = totals.get(left, 0.0) + weight
        normalised = tuple(Rule(left, tuple(right), weight / totals[left]) for left, right, weight in self.rules)
        object.__setattr__(self, "rules", normalised)
        _check_symbols(self.start, self._productions, self._bottom_up)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The terminals, sorted."""
        return tuple(sorted({s for rule in self.rules for s in rule.right if s not in self._productions}))

    @cached_property
    def _productions(self) -> dict[str, list[Rule]]:
        """Left side -> its rules."""
        table: dict[str, list[Rule]] = {}
        for rule in self.rules:
            table.setdefault(rule.left, []).append(rule)
        return table

    @cached_property
    def _bottom_up(self) -> tuple[str, ...]:
        """All nonterminals, each after those on the right sides of its rules."""
        children = {
            left: {symbol for rule in rules for symbol in rule.right if symbol in self._productions}
            for left, rules in self._productions.items()
        }
        try:
            return tuple(TopologicalSorter(children).static_order())
        except CycleError as error:
            raise ValueError(f"the grammar is recursive: {' -> '.join(reversed(error.args[1]))}") from None

    @cached_property
    def _beginning_with(self) -> dict[str, dict[str, list[Rule]]]:
        """Nonterminal -> word -> the rules by which the nonterminal can derive a text that begins with the word.

        This is the FIRST-set filter of the parser; for a lexical category (with only single words on its right sides)
        it is the lexicon itself.
        """
        table: dict[str, dict[str, list[Rule]]] = {}
        for left in self._bottom_up:
            table[left] = {}
            for rule in self._productions[left]:
                for word in table.get(rule.right[0], (rule.right[0],)):
                    table[left].setdefault(word, []).append(rule)
        return table

    def sample(self, rng: np.random.Generator, count: int) -> list[str]:
        """Draws `count` independent sentences; raises ValueError if count is negative.

        The uniform numbers are taken from `rng` in blocks: the same seed and count give the same sentences, but two
        calls in a row do not give the sentences of one longer call.
        """
        return [" ".join(words) for words, _ in self._draws(rng, count)]

    def sample_derivations(self, rng: np.random.Generator, count: int) -> list[tuple[Rule, ...]]:
        """Draws `count` derivations, each as rules in leftmost order; they are those of the sentences of `sample`."""
        return [tuple(rules) for _, rules in self._draws(rng, count)]

    def _draws(self, rng: np.random.Generator, count: int) -> Iterator[tuple[list[str], list[Rule]]]:
        """The words and the rules of each drawn sentence."""
        if count < 0:
            raise ValueError(f"count must be at least 0, not {count}")
        choices = {
            left: (
                np.cumsum([rule.probability for rule in rules]).tolist(),
                len(rules) - 1,  # the last rule takes the rest of [0, 1), so rounding cannot exceed the end
                [(rule, rule.right[::-1]) for rule in rules],
            )
            for left, rules in self._productions.items()
        }
        uniforms = _uniforms(rng)
        for _ in range(count):
            words: list[str] = []
            used: list[Rule] = []
            stack = [self.start]
            while stack:
                symbol = stack.pop()
                if symbol in choices:
                    cumulative, last, rules = choices[symbol]
                    rule, backwards = rules[bisect_right(cumulative, next(uniforms), 0, last)]
                    used.append(rule)
                    stack.extend(backwards)
                else:
                    words.append(symbol)
            yield words, used

    def log_prob(self, sentence: str) -> float:
        """Natural logarithm of the probability that `sample` draws `sentence`; -inf if it is not grammatical.

        The sum runs over all derivations, so the value is right for ambiguous grammars too (inside algorithm).
        """
        inside = self._parse(sentence, lambda rule: math.log(rule.probability), float.__add__, _log_add)
        return -math.inf if inside is None else inside

    def count_derivations(self, sentence: str) -> int:
        """The number of derivations of `sentence`: 0 if it is not grammatical, at most 1 in an unambiguous grammar."""
        return self._parse(sentence, lambda rule: 1, int.__mul__, int.__add__) or 0

    def derivation(self, sentence: str) -> tuple[Rule, ...] | None:
        """The rules of the most probable derivation of `sentence` in leftmost order; None if it is not grammatical."""
        best = self._parse(
            sentence,
            lambda rule: (math.log(rule.probability), (rule,)),
            lambda head, tail: (head[0] + tail[0], head[1] + tail[1]),
            max,
        )
        return None if best is None else best[1]

    def prefix_log_prob(self, beginning: str) -> float:
        """Natural logarithm of the probability that a sentence drawn by `sample` begins with these words.

        -inf if no sentence does; 0 for "". Words must be whole; a sentence counts as its own beginning. Jelinek and
        Lafferty (1991), Stolcke (1995); without recursion there is no left-corner closure, and one top-down pass is
        enough.
        """
        if not beginning:
            return 0.0
        words = beginning.split(" ")
        chart = _Chart(self._beginning_with, words, lambda rule: math.log(rule.probability), float.__add__, _log_add)
        return chart.through(self.start, 0)

    def longest_beginning(self, sentence: str) -> tuple[int, frozenset[str]]:
        """The longest beginning of a text that is the beginning of some sentence of this grammar.

        Returns:
            its number of words, and the words that can follow it (none after a sentence that no other extends). The
            text's next word, if it has one, is not among them.
        """
        words = sentence.split(" ") if sentence else []
        chart = _Chart(self._beginning_with, words, lambda rule: 1, int.__mul__, int.__add__)
        chart.ends(self.start, 0)
        # Parsing from left to right looks for a symbol only at places where it can follow.
        furthest = max(chart.wanted)
        following = (self._beginning_with.get(symbol, (symbol,)) for symbol in chart.wanted[furthest])
        return furthest, frozenset(word for some in following for word in some)

    def _parse(
        self,
        sentence: str,
        of_rule: Callable[[Rule], Value],
        times: Callable[[Value, Value], Value],
        plus: Callable[[Value, Value], Value],
    ) -> Value | None:
        """Sums, over the derivations of the sentence, the product of the values of their rules (semiring parsing).

        `times` combines the value of a partial derivation with that of its continuation, `plus` the values of
        alternatives; both are associative, `plus` is commutative, and `times` distributes over it. None if there is no
        derivation.
        """
        words = sentence.split(" ")
        return _Chart(self._beginning_with, words, of_rule, times, plus).ends(self.start, 0).get(len(words))

    def entropy(self) -> float:
        """Entropy of a random derivation in nats, exact; the entropy of a sentence if the grammar is unambiguous.

        H(A) = sum over the rules A -> X1 ... Xm of p (-log p + H(X1) + ... + H(Xm)), with H(word) = 0.
        """
        of: dict[str, float] = {}
        for left in self._bottom_up:
            of[left] = sum(
                rule.probability * (sum(of.get(symbol, 0.0) for symbol in rule.right) - math.log(rule.probability))
                for rule in self._productions[left]
            )
        return of[self.start]

    def length_distribution(self) -> np.ndarray:
        """Exact distribution of the number of words: float64 [longest + 1], entry n = P(a sentence has n words)."""
        of: dict[str, np.ndarray] = {}
        one_word = np.array([0.0, 1.0])
        for left in self._bottom_up:
            lengths = []
            for rule in self._productions[left]:
                length = np.array([rule.probability])
                for symbol in rule.right:
                    length = np.convolve(length, of.get(symbol, one_word))
                lengths.append(length)
            of[left] = np.zeros(max(map(len, lengths)))
            for length in lengths:
                of[left][: len(length)] += length
        return of[self.start]

    def expected_counts(self) -> dict[str, float]:
        """Exact expected number of occurrences of each word in one sentence; the values sum to the mean length."""
        of = dict.fromkeys((*self._bottom_up, *self.words), 0.0)
        of[self.start] = 1.0
        for left in reversed(self._bottom_up):
            for rule in self._productions[left]:
                for symbol in rule.right:
                    of[symbol] += of[left] * rule.probability
        return {word: of[word] for word in self.words}


class _Chart(Generic[Value]):
    """A chart parser that reads words from left to right: the value of each symbol over each span of the text.

    Attributes:
        wanted: for each position that was reached, the symbols that can follow there.
    """

    def __init__(
        self,
        beginning_with: Mapping[str, Mapping[str, Sequence[Rule]]],
        words: Sequence[str],
        of_rule: Callable[[Rule], Value],
        times: Callable[[Value, Value], Value],
        plus: Callable[[Value, Value], Value],
    ) -> None:
        """See `PCFG._parse`."""
        self._beginning_with, self._words = beginning_with, words
        self._of_rule, self._times, self._plus = of_rule, times, plus
        self._ends: dict[tuple[str, int], dict[int, Value]] = {}
        self._through: dict[tuple[str, int], float] = {}
        self.wanted: dict[int, set[str]] = {}

    def ends(self, symbol: str, begin: int) -> dict[int, Value]:
        """{end: value of the symbol over words[begin:end]}, computed once."""
        if (symbol, begin) not in self._ends:
            self.wanted.setdefault(begin, set()).add(symbol)
            found: dict[int, Value] = {}
            for rule in self._rules(symbol, begin):
                for end, value in self._reached(rule, begin)[-1].items():
                    found[end] = self._plus(found[end], value) if end in found else value
            self._ends[symbol, begin] = found
        return self._ends[symbol, begin]

    def through(self, symbol: str, begin: int) -> float:
        """Log-probability that the text derived from the symbol begins with words[begin:]; values are logarithms.

        One symbol of the right side reads the last word; those before it end where the next begins, and those after it
        may derive anything.
        """
        if symbol not in self._beginning_with:
            return 0.0 if list(self._words[begin:]) == [symbol] else -math.inf
        if (symbol, begin) not in self._through:
            total = -math.inf
            for rule in self._rules(symbol, begin):
                for part, reached in zip(rule.right, self._reached(rule, begin), strict=False):
                    for middle, value in reached.items():
                        one = self.through(part, middle)
                        if one > -math.inf:
                            total = _log_add(total, cast(float, value) + one)
            self._through[symbol, begin] = total
        return self._through[symbol, begin]

    def _rules(self, symbol: str, begin: int) -> Sequence[Rule]:
        """The rules by which the symbol can begin with the word at `begin`."""
        return self._beginning_with[symbol].get(self._words[begin], ()) if begin < len(self._words) else ()

    def _reached(self, rule: Rule, begin: int) -> list[dict[int, Value]]:
        """{position: value} before each symbol of the right side and after the last, over all positions reached."""
        reached = [{begin: self._of_rule(rule)}]
        for symbol in rule.right:
            further: dict[int, Value] = {}
            for middle, value in reached[-1].items():
                if symbol in self._beginning_with:
                    for end, part in self.ends(symbol, middle).items():
                        product = self._times(value, part)
                        further[end] = self._plus(further[end], product) if end in further else product
                else:
                    self.wanted.setdefault(middle, set()).add(symbol)
                    if middle < len(self._words) and self._words[middle] == symbol:
                        self.wanted.setdefault(middle + 1, set())
                        further[middle + 1] = value
            reached.append(further)
            if not further:
                break
        return reached


def rules_from_text(text: str) -> Iterator[Rule]:
    """Reads rules written as `Left -> A B 3 | word C | D 0.5`.

    One line holds one left side and its alternatives, separated by `|`; symbols are separated by spaces; a number at
    the end of an alternative is its weight (1 if absent). What follows a `#` is a comment.

    Raises:
        ValueError: for a line that does not read `Left -> ...`.
    """
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        left, arrow, alternatives = line.partition(" -> ")
        if line and not (arrow and len(left.split()) == 1):
            raise ValueError(f"line {number} is not of the form 'Left -> right | ...': {line!r}")
        for alternative in alternatives.split("|") if line else ():
            *symbols, last = alternative.split() or [""]
            is_weight = last.lstrip("-").replace(".", "", 1).isdigit()
            right = symbols if is_weight or not last else [*symbols, last]
            yield Rule(left.strip(), tuple(right), float(last) if is_weight else 1.0)


def _log_add(left: float, right: float) -> float:
    high, low = max(left, right), min(left, right)
    if low == -math.inf:
        return high
    return high + math.log1p(math.exp(low - high))


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(4096).tolist()


def _check_rules(rules: Iterable[Rule]) -> None:
    """Refuses invalid rules."""
    seen = set()
    for left, right, weight in rules:
        shown = f"'{left} -> {' '.join(right)}'"
        if not left[:1].isupper():
            raise ValueError(f"the left side of {shown} must begin with an upper-case letter")
        if not right:
            raise ValueError(f"the right side of {shown} is empty")
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"the weight of {shown} must be positive and finite, not {weight}")
        if (left, right) in seen:
            raise ValueError(f"the rule {shown} is given twice")
        seen.add((left, right))


def _check_symbols(start: str, productions: dict[str, list[Rule]], bottom_up: tuple[str, ...]) -> None:
    """Refuses symbols that are used but not defined, or defined but not used."""
    reached = {start}
    for left in reversed(bottom_up):
        if left in reached:
            reached.update(symbol for rule in productions[left] for symbol in rule.right)
    for symbol in sorted(reached | productions.keys()):
        if symbol not in productions and (symbol[:1].isupper() or symbol.split() != [symbol] or symbol == start):
            raise ValueError(f"the symbol {symbol!r} is undefined")
        if symbol not in reached:
            raise ValueError(f"the symbol {symbol!r} cannot be reached from {start!r}")
