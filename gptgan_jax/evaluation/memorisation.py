"""How much of the training text a set of texts has memorised: whole texts, and the longest run of tokens.

Not every match is memorisation. Held-out text also repeats short or frequent sentences of the training text, so each
metric is compared with that of real held-out text, and only the excess counts (Lee et al. 2022, "Deduplicating training
data makes language models better"; McCoy et al. 2023, "How much do language models copy from their training data?").
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gptgan_jax.data.encoding import Ragged
from gptgan_jax.evaluation.results import Evaluation
from gptgan_jax.generation.texts import TextSet
from gptgan_jax.metrics.estimates import REAL, Estimate, Figure, mean_of, share_of

COPIED = "copied from the training text"
LONGEST_RUN = "longest run from the training text"
LONGEST_OF_ALL = "longest such run of all texts"
# An alarm needs values above those that chance, or a model somewhat colder than real text, would give.
ERRORS, MORE_COPIES, LONGER_RUNS = 3.0, 0.05, 1.5


@dataclass(frozen=True, eq=False)
class TrainingText:
    """The text that samples may have been copied from.

    Attributes:
        copied: texts -> bool [N], which of them are in the whole training text.
        known: token ids of training texts, to search for runs; with prompts only the answers.
    """

    copied: Callable[[Sequence[str]], np.ndarray]
    known: Ragged

    def figures(self, samples: TextSet, drawn: str) -> list[Figure]:
        """Metrics of N texts; with prompts, of their answers.

        Args:
            samples: at least one.
            drawn: how they were drawn, for the signatures.
        """
        runs = longest_copied_runs(samples.targets, self.known)
        against = f"{drawn}; against {len(self.known)} training texts, tokens"
        return [
            Figure(COPIED, "share", share_of(self.copied(samples.texts)), drawn),
            Figure(LONGEST_RUN, "tokens", mean_of(runs), against),
            # The largest of N values grows with N and has no standard error.
            Figure(LONGEST_OF_ALL, "tokens", Estimate(float(runs.max())), against),
        ]


def longest_copied_runs(texts: Ragged, known: Ragged) -> np.ndarray:
    """For each text, the length of the longest run of tokens that also occurs in a known text: int64 [N].

    It uses a suffix array of all texts together (Manber and Myers 1993): of all known suffixes, one of the two nearest
    in lexicographic order shares the longest prefix with a given suffix. The ranks of substrings of 1, 2, 4, ... tokens
    give both the order and the common lengths, so the cost is n log n log T for n tokens and a longest text of T,
    however repetitive the texts are.
    """
    longest = np.zeros(len(texts), np.int64)
    own, count = len(texts.tokens), len(texts.tokens) + len(known.tokens)
    if not own or own == count:
        return longest
    lengths = np.concatenate([np.diff(texts.offsets), np.diff(known.offsets)])
    end = np.repeat(lengths.cumsum(), lengths)  # the end of the text that contains each position
    ranks = _substring_ranks(np.concatenate([texts.tokens, known.tokens]), end, int(np.diff(texts.offsets).max()))
    order = np.argsort(ranks[-1][:count], kind="stable")
    place = np.arange(count)
    is_known = order >= own
    before = np.maximum.accumulate(np.where(is_known, place, -1))
    after = np.minimum.accumulate(np.where(is_known, place, count)[::-1])[::-1]
    mine, before, after = order[~is_known], before[~is_known], after[~is_known]
    shared = np.zeros(own, np.int64)
    for neighbour, exists in ((before, before >= 0), (after, after < count)):
        pairs = mine[exists], order[neighbour[exists]]
        shared[pairs[0]] = np.maximum(shared[pairs[0]], _in_common(*pairs, ranks, end))
    np.maximum.at(longest, np.repeat(np.arange(len(texts)), np.diff(texts.offsets)), shared)
    return longest


def _substring_ranks(tokens: np.ndarray, end: np.ndarray, longest: int) -> list[np.ndarray]:
    """For widths 1, 2, 4, ... up to the first not below `longest`: the rank of the substring at each position.

    Equal substrings have equal ranks. A substring cut off by the end of its text comes before all substrings that it is
    a prefix of. One more entry, 0, stands for a position after an end.
    """
    count = len(tokens)

    def ranked(keys: np.ndarray) -> np.ndarray:
        return np.append(np.unique(keys, return_inverse=True)[1] + 1, 0)

    ranks = [ranked(tokens)]
    width = 1
    while width < longest:
        behind = _moved(np.arange(count), width, end)
        ranks.append(ranked(ranks[-1][:count] * np.int64(count + 1) + ranks[-1][behind]))
        width *= 2
    return ranks


def _in_common(ones: np.ndarray, others: np.ndarray, ranks: Sequence[np.ndarray], end: np.ndarray) -> np.ndarray:
    """The length of the common prefix of the suffixes at each pair of positions."""
    shared = np.zeros(len(ones), np.int64)
    for level in reversed(range(len(ranks))):
        same = ranks[level][_moved(ones, shared, end)] == ranks[level][_moved(others, shared, end)]
        shared += same << level
    # After their ends all suffixes are equal.
    return np.minimum(shared, end[ones] - ones)


def _moved(places: np.ndarray, by: np.ndarray | int, end: np.ndarray) -> np.ndarray:
    """Each position moved `by` tokens onwards, or the position after all ends."""
    return np.where(places + by < end[places], places + by, len(end))


def memorised(evaluation: Evaluation) -> list[str]:
    """One line for each checkpoint that has memorised more of the training text than held-out text explains.

    That is: it exceeds real text by more than three combined standard errors, and five more texts in a hundred are
    copies, or the longest run is half as long again. Columns copied from another run's evaluation are left to that run.
    """
    rows = {score.name: score.values for score in evaluation.scores}
    lines = []
    for column in evaluation.columns:
        if column.run:
            continue
        copies = _above(rows, COPIED, column.name, lambda one, real: one > real + MORE_COPIES)
        runs = _above(rows, LONGEST_RUN, column.name, lambda one, real: one > real * LONGER_RUNS)
        found = []
        if copies:
            found.append(f"{copies[0]:.1%} of its texts are in the training text, {copies[1]:.1%} of held-out ones")
        if runs:
            found.append(f"its longest runs from there have {runs[0]:.1f} tokens, those of held-out text {runs[1]:.1f}")
        if found:
            lines.append(
                f"{column.name}: {'; '.join(found)}: it has memorised training text; end the likelihood phase sooner, "
                "or raise generator.dropout or likelihood.optimizer.weight_decay, or give it more text"
            )
    return lines


def _above(
    rows: dict[str, dict[str, Estimate]], name: str, column: str, larger: Callable[[float, float], bool]
) -> tuple[float, float] | None:
    """A column's value and that of real text, if the first exceeds the second beyond chance and beyond the bound."""
    one, real = rows.get(name, {}).get(column), rows.get(name, {}).get(REAL)
    if one is None or real is None or one.value is None or real.value is None:
        return None
    apart = ERRORS * math.hypot(one.error or 0.0, real.error or 0.0)
    return (one.value, real.value) if one.value - real.value > apart and larger(one.value, real.value) else None
