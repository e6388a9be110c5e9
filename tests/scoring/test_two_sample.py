"""The classifier two-sample test: chance for one source, certainty for two that share nothing, never tested on what it
learned from."""

import math
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gptgan_jax.data.batches import batch_at, evaluation_batches
from gptgan_jax.data.encoding import Ragged, TokenisedSplit
from gptgan_jax.metrics.estimates import Estimate
from gptgan_jax.models.discriminator_networks import CnnConfig
from gptgan_jax.models.discriminators import Discriminator
from gptgan_jax.scoring import two_sample as room
from gptgan_jax.scoring.two_sample import TwoSampleTest, two_sample_test
from gptgan_jax.types import Batch, Scores, Vocabulary

EOS = 2
VOCABULARY = Vocabulary(30)
LENGTH = 5
STEPS = 40


def ragged(texts: list[list[int]]) -> Ragged:
    rows = [np.asarray(text, np.int32) for text in texts]
    return Ragged(np.concatenate(rows), np.concatenate([[0], np.cumsum([len(row) for row in rows])]))


def drawn(seed: int, count: int, first: int = 3, last: int = 9) -> Ragged:
    """Texts of words between two ids, each as likely."""
    rng = np.random.default_rng(seed)
    return ragged([[*rng.integers(first, last + 1, rng.integers(1, LENGTH)).tolist(), EOS] for _ in range(count)])


def numbered(count: int, first: int) -> Ragged:
    """Texts that name themselves: their number in base 10, in the ten words from `first` on."""
    return ragged([[first + i // 100 % 10, first + i // 10 % 10, first + i % 10, EOS] for i in range(count)])


def numbers(split: TokenisedSplit, first: int) -> list[int]:
    return [int(100 * a + 10 * b + c - 111 * first) for a, b, c, _ in split.targets]


def error_of(share: float, count: int) -> float:
    """Agresti and Coull's: as if there were two more that are told right and two more that are not."""
    middle = (share * count + 2) / (count + 4)
    return math.sqrt(middle * (1 - middle) / (count + 4))


@pytest.fixture(scope="module")
def tell() -> TwoSampleTest:
    return two_sample_test(VOCABULARY, LENGTH, STEPS)


def test_two_sets_from_one_source_are_told_apart_by_chance_alone(tell: TwoSampleTest) -> None:
    for seed in range(2):
        found = tell(drawn(2 * seed, 300), drawn(2 * seed + 1, 300), seed)
        assert found.value is not None
        assert found.error == pytest.approx(math.sqrt(0.25 / 180), rel=0.1)  # 90 texts a side are tested
        assert abs(found.value - 0.5) < 3 * found.error


def test_sets_that_share_no_word_are_told_apart_for_certain(tell: TwoSampleTest) -> None:
    found = tell(drawn(0, 100), drawn(1, 100, 10, 16), 0)
    assert found.value == pytest.approx(1.0, abs=0.02)
    assert found.error is not None
    assert 0 < found.error < 0.03, "certain, but of 60 texts alone"


def test_sets_of_which_half_is_strange_are_told_apart_in_part(tell: TwoSampleTest) -> None:
    usual, strange = drawn(2, 400), drawn(1, 400, 10, 16)
    mixed = ragged([(strange if i % 2 else usual)[i].tolist() for i in range(400)])
    found = tell(mixed, drawn(0, 400), 0)
    assert found.value is not None
    assert found.error is not None
    assert abs(found.value - 0.75) < 4 * found.error


def test_answers_to_the_same_prompts_that_are_as_good_are_told_apart_by_chance(tell: TwoSampleTest) -> None:
    """Where one answer alone is learned, a classifier that remembers its prompt is wrong about the other."""

    def answered(seed: int) -> Ragged:
        rng = np.random.default_rng(seed)
        return ragged([[10 + i // 10, 20 + i % 10, int(rng.integers(3, 10)), EOS] for i in range(100)])

    paired, apart = (
        [tell(answered(2 * seed), answered(2 * seed + 1), seed, paired=pair).value for seed in range(4)]
        for pair in (True, False)
    )
    assert abs(np.mean(paired) - 0.5) < 3 * error_of(0.5, 60) / 2
    assert np.mean(apart) < 0.4


def test_equal_arguments_give_equal_figures_and_the_seed_matters(tell: TwoSampleTest) -> None:
    samples, references = drawn(0, 60), drawn(1, 60, 5, 11)
    found = [tell(samples, references, seed) for seed in range(3)]
    assert tell(samples, references, 0) == found[0]
    assert len({estimate.value for estimate in found}) > 1


@pytest.mark.parametrize(("samples", "references"), [(19, 100), (100, 19), (2, 2), (0, 50)])
def test_fewer_than_twenty_texts_on_a_side_are_not_tested(
    tell: TwoSampleTest, samples: int, references: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: Any) -> Batch:
        raise AssertionError("nothing to learn from")

    monkeypatch.setattr(room, "batch_at", never)
    few = drawn(0, 100).subset(np.arange(samples)), drawn(1, 100).subset(np.arange(references))
    assert tell(*few, 0) == Estimate(None)


def test_texts_that_are_all_the_same_are_told_apart_by_chance(tell: TwoSampleTest) -> None:
    same = ragged([[3, 4, EOS]] * 20)
    assert tell(same, same, 0) == Estimate(0.5, pytest.approx(error_of(0.5, 12)))


class Watched:
    """The splits that are learned from and those that are scored, by their first word: 10 of references, 20 of
    samples."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.learned: list[tuple[TokenisedSplit, Batch]] = []
        self.scored: list[TokenisedSplit] = []

        def watched_batch(split: TokenisedSplit, *place: Any) -> Batch:
            batch = batch_at(split, *place)
            self.learned.append((split, batch))
            return batch

        def watched_evaluation(split: TokenisedSplit, size: int) -> Iterator[Batch]:
            self.scored.append(split)
            return evaluation_batches(split, size)

        monkeypatch.setattr(room, "batch_at", watched_batch)
        monkeypatch.setattr(room, "evaluation_batches", watched_evaluation)


@pytest.mark.parametrize(
    ("samples", "references", "parts"), [(100, 100, (60, 10, 30)), (100, 70, (42, 7, 21)), (20, 33, (12, 2, 6))]
)
def test_of_equally_many_texts_a_side_three_parts_that_share_none_are_learned_watched_and_tested(
    tell: TwoSampleTest, samples: int, references: int, parts: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch)
    found = tell(numbered(samples, 20), numbered(references, 10), 0)
    assert found.value is not None
    assert np.asarray(watched.learned[0][1].target).shape == (room.BATCH_SIZE, LENGTH)
    for first, available in ((10, references), (20, samples)):
        learned = [split for split, _ in watched.learned if split.targets.tokens[0] // 10 == first // 10]
        scored = [split for split in watched.scored if split.targets.tokens[0] // 10 == first // 10]
        assert {tuple(numbers(split, first)) for split in learned} == {tuple(numbers(learned[0], first))}
        stopped = {tuple(numbers(split, first)) for split in scored[:-1]}
        assert len(stopped) == 1, "always the same texts say when to stop"
        sets = [set(numbers(learned[0], first)), set(*stopped), set(numbers(scored[-1], first))]
        assert tuple(map(len, sets)) == parts
        assert len(set.union(*sets)) == sum(parts), "no text is in two parts"
        assert max(set.union(*sets)) < available
    rows = {tuple(row[:4]) for _, batch in watched.learned for row in np.asarray(batch.target).tolist()}
    tested = {tuple(text.tolist()) for split in watched.scored[-2:] for text in split.targets}
    assert rows.isdisjoint(tested), "no row of a training batch is a tested text"


def test_which_texts_are_tested_is_drawn_by_the_seed(tell: TwoSampleTest, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    tested = []
    for seed in range(3):
        tell(numbered(100, 20), numbered(100, 10), seed)
        tested.append(tuple(sorted(numbers(watched.scored[-1], 20))))
    assert len(set(tested)) == 3
    assert tuple(range(70, 100)) not in tested


def scripted_test(script: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> TwoSampleTest:
    """A test whose classifier tells these shares of the numbered texts at check 1, 2, ..., by their last digit; a share
    below 0 makes it undecided. Its one parameter grows by about 0.002 a step."""
    monkeypatch.setattr(room, "CHECK_EVERY", 5)
    shares = jnp.array(script)

    def scores(params: Any, batch: Batch, key: Any = None) -> Scores:
        side = jnp.where(batch.target[:, 0] // 10 == 1, 1.0, -1.0)
        if key is not None:
            return Scores(tokens=side[:, None], sequence=side * params["steps"])
        check = jnp.round(params["steps"] / (0.002 * 5)).astype(int) - 1
        told = jnp.where(batch.target[:, 2] % 10 < jnp.round(10 * shares[check]), 1.0, -1.0)
        return Scores(tokens=side[:, None], sequence=side * told * (shares[check] >= 0))

    fake = Discriminator(lambda key, batch: {"steps": jnp.zeros(())}, scores, None, None, CnnConfig())
    monkeypatch.setattr(room, "build_discriminator", lambda config, vocabulary: fake)
    return two_sample_test(VOCABULARY, LENGTH, 40)


@pytest.mark.parametrize(
    ("script", "checks", "best"),
    [
        ((0.5, 0.9, 0.6, 0.9, 0.7, 0.8, 1.0, 1.0), 6, 0.9),  # four checks without progress; as good is none
        ((0.5, 0.4, 0.4, 0.4, 0.7, 0.6, 0.6, 0.6), 8, 0.7),  # three are forgiven
        ((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), 8, 0.8),
        ((-1.0,) * 8, 5, -1.0),
    ],
)
def test_it_stops_after_four_checks_without_progress_and_is_tested_as_it_was_at_its_best(
    script: tuple[float, ...], checks: int, best: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell, watched = scripted_test(script, monkeypatch), Watched(monkeypatch)
    found = tell(numbered(200, 20), numbered(200, 10), 0)
    assert len(watched.scored) == 2 * checks + 2
    assert len(watched.learned) == 2 * 5 * checks
    digits = [i % 10 for split, first in zip(watched.scored[-2:], (10, 20), strict=True) for i in numbers(split, first)]
    assert len(digits) == 120
    share = 0.5 if best < 0 else float(np.mean(np.array(digits) < round(10 * best)))
    assert found == Estimate(pytest.approx(share), pytest.approx(error_of(share, 120)))
