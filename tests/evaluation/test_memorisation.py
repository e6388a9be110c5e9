"""What is known by heart: runs against brute force, at a size that no quadratic search would end, and the alarm."""

from collections.abc import Sequence

import numpy as np
import pytest

from gptgan_jax.data.encoding import Ragged
from gptgan_jax.evaluation.memorisation import (
    COPIED,
    LONGEST_OF_ALL,
    LONGEST_RUN,
    TrainingText,
    longest_copied_runs,
    memorised,
)
from gptgan_jax.evaluation.results import Column, Evaluation, Score
from gptgan_jax.generation.texts import TextSet
from gptgan_jax.metrics.estimates import REAL, Estimate, share_of


def ragged(rows: Sequence[Sequence[int]]) -> Ragged:
    offsets = np.cumsum([0, *map(len, rows)])
    return Ragged(np.array([token for row in rows for token in row], np.int32), offsets.astype(np.int64))


def by_brute_force(text: Sequence[int], known: Sequence[Sequence[int]]) -> int:
    """Every substring of the text, looked for in every known text."""
    longest = 0
    for start in range(len(text)):
        for stop in range(start + 1, len(text) + 1):
            part = list(text[start:stop])
            if any(list(row[i : i + len(part)]) == part for row in known for i in range(len(row))):
                longest = max(longest, len(part))
    return longest


@pytest.mark.parametrize("alphabet", [1, 2, 3, 7])
@pytest.mark.parametrize("seed", range(6))
def test_runs_are_those_of_brute_force(alphabet: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts, known = (
        [rng.integers(0, alphabet, rng.integers(1, 12)).tolist() for _ in range(rng.integers(1, 9))] for _ in range(2)
    )
    expected = [by_brute_force(text, known) for text in texts]
    assert longest_copied_runs(ragged(texts), ragged(known)).tolist() == expected


def test_a_run_lies_in_one_known_text_and_in_one_text() -> None:
    known = ragged([[1, 2, 3], [4, 5, 6], [9]])
    texts = ragged([[1, 2, 3, 4, 5, 6], [3, 4], [2, 3, 9], [7, 8], [4, 5, 6], [6, 5, 4]])
    assert longest_copied_runs(texts, known).tolist() == [3, 1, 2, 0, 3, 1]
    # Where one text ends and the next begins with what follows, nothing longer is made of the two.
    assert longest_copied_runs(ragged([[1, 2], [3, 4]]), known).tolist() == [2, 1]


def test_without_texts_or_known_texts_there_are_no_runs() -> None:
    assert longest_copied_runs(ragged([]), ragged([[1]])).tolist() == []
    assert longest_copied_runs(ragged([[1], [2, 3]]), ragged([])).tolist() == [0, 0]
    assert longest_copied_runs(ragged([[], [1]]), ragged([[1]])).tolist() == [0, 1]


def test_the_most_repetitive_text_costs_no_square_of_its_length() -> None:
    """All pairs of places match over thousands of tokens: 10^9 pairs, which no pairwise search would get through."""
    size = 30_000
    ones = np.ones(size, np.int32)
    texts = Ragged(np.concatenate([ones, [2], ones]), np.array([0, size, 2 * size + 1]))
    assert longest_copied_runs(texts, ragged([[1] * size])).tolist() == [size, size]


def test_figures_are_of_all_copies_and_of_runs_of_tokens() -> None:
    samples = TextSet(["a b", "c", "a c"], ragged([[3, 4, 2], [5, 2], [3, 5, 2]]))
    training = TrainingText(lambda texts: np.array([text == "c" for text in texts]), ragged([[5, 2], [3, 4, 5, 2]]))
    found = {figure.name: figure for figure in training.figures(samples, "3 texts")}
    assert found[COPIED].estimate == share_of(np.array([False, True, False]))
    assert found[LONGEST_RUN].estimate.value == pytest.approx((2 + 2 + 2) / 3)
    assert found[LONGEST_OF_ALL].estimate == Estimate(2.0)
    assert {found[name].better for name in found} == {"real"}
    assert "2 training texts" in found[LONGEST_RUN].signature


def judged(copies: tuple[Estimate, Estimate], runs: tuple[Estimate, Estimate]) -> Evaluation:
    rows = [
        Score(name, unit, "", "real", {"likelihood": pair[0], REAL: pair[1]})
        for name, unit, pair in ((COPIED, "share", copies), (LONGEST_RUN, "tokens", runs))
    ]
    return Evaluation([Column("likelihood", "likelihood/10", "")], rows, {}, [], [])


SAME = Estimate(0.1, 0.01), Estimate(0.1, 0.01)
SHORT = Estimate(4.0, 0.1), Estimate(4.0, 0.1)


@pytest.mark.parametrize(
    ("copies", "runs", "says"),
    [
        ((Estimate(0.2, 0.01), Estimate(0.1, 0.01)), SHORT, "20.0% of its texts"),
        (SAME, (Estimate(6.5, 0.1), Estimate(4.0, 0.1)), "6.5 tokens"),
        ((Estimate(0.2, 0.01), Estimate(0.1, 0.01)), (Estimate(6.5, 0.1), Estimate(4.0, 0.1)), "; its longest runs"),
    ],
)
def test_more_than_held_out_text_raises_an_alarm_that_says_what_to_turn(
    copies: tuple[Estimate, Estimate], runs: tuple[Estimate, Estimate], says: str
) -> None:
    (line,) = memorised(judged(copies, runs))
    assert line.startswith("likelihood: ")
    assert says in line
    assert "generator.dropout" in line


@pytest.mark.parametrize(
    ("copies", "runs"),
    [
        (SAME, SHORT),
        ((Estimate(0.2, 0.05), Estimate(0.1, 0.05)), SHORT),  # within chance
        ((Estimate(0.14, 0.001), Estimate(0.1, 0.001)), SHORT),  # beyond chance, but few
        (SAME, (Estimate(5.9, 0.1), Estimate(4.0, 0.1))),
        (SAME, (Estimate(9.0, 2.0), Estimate(4.0, 1.0))),
        ((Estimate(0.0, 0.01), Estimate(0.9, 0.01)), (Estimate(1.0, 0.1), Estimate(4.0, 0.1))),  # less than real text
        ((Estimate(None), Estimate(0.1, 0.01)), (Estimate(9.0, 0.1), Estimate(None))),
    ],
)
def test_what_held_out_text_has_too_raises_none(
    copies: tuple[Estimate, Estimate], runs: tuple[Estimate, Estimate]
) -> None:
    assert memorised(judged(copies, runs)) == []


def test_an_evaluation_without_these_rows_raises_none() -> None:
    assert memorised(Evaluation([Column("likelihood", "likelihood/10", "")], [], {}, [], [])) == []
