"""Which source a row is of: by the row's place and the seed alone, each source as often as its share says."""

import numpy as np
import pytest

from gptgan_jax.mixtures.order import BLOCK, PERIOD, MixedOrder, apportioned, even_order

SHARES = {
    "two": (0.7, 0.3),
    "five": (0.5, 0.25, 0.15, 0.0999, 0.0001),
    "equal": (1.0, 1.0, 1.0),
    "one": (3.0,),
}


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
def test_each_source_has_its_share_after_any_number_of_blocks(shares: tuple[float, ...]) -> None:
    sources, _ = MixedOrder(shares).at(7, np.arange(200 * BLOCK))
    exact = np.array(shares) / sum(shares)
    for blocks in (1, 2, 3, 10, 50, 200):
        rows = blocks * BLOCK
        counts = np.bincount(sources[:rows], minlength=len(shares))
        assert np.abs(counts - exact * rows).max() <= 2


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
def test_each_number_of_a_source_is_given_out_once(shares: tuple[float, ...]) -> None:
    order = MixedOrder(shares)
    # The last blocks of a period and the first of the next.
    elements = np.concatenate([np.arange(100 * BLOCK), PERIOD + np.arange(-20 * BLOCK, 20 * BLOCK)])
    sources, numbers = order.at(3, elements)
    for source in range(len(shares)):
        ours = numbers[sources == source]
        assert len(np.unique(ours)) == len(ours)
        first = np.sort(ours[: np.count_nonzero(sources[: 100 * BLOCK] == source)])
        assert first.tolist() == list(range(len(first)))
        later = np.sort(ours[len(first) :])
        assert np.diff(later).tolist() == [1] * (len(later) - 1)


def test_a_row_depends_on_its_place_and_the_seed_alone() -> None:
    order = MixedOrder((0.6, 0.4))
    sources, numbers = order.at(5, np.arange(1000))
    some = np.random.default_rng(0).permutation(1000)[:77]
    again = MixedOrder((6, 4)).at(5, some)
    assert again[0].tolist() == sources[some].tolist()
    assert again[1].tolist() == numbers[some].tolist()
    assert order.at(6, np.arange(1000))[0].tolist() != sources.tolist()


def test_no_source_comes_in_a_fixed_pattern() -> None:
    sources, _ = MixedOrder((0.5, 0.5)).at(1, np.arange(64 * BLOCK))
    by_place = sources.reshape(-1, BLOCK)
    assert len({tuple(block) for block in by_place.tolist()}) == 64
    assert 0.2 < by_place.mean(axis=0).min() < by_place.mean(axis=0).max() < 0.8


@pytest.mark.parametrize("shares", SHARES.values(), ids=SHARES)
@pytest.mark.parametrize("total", [7, 100, PERIOD])
def test_whole_numbers_are_the_nearest_to_the_shares(shares: tuple[float, ...], total: int) -> None:
    counts = apportioned(shares, total)
    assert counts.sum() == total
    assert counts.min() >= 1
    exact = np.array(shares) / sum(shares) * total
    assert all(abs(count - one) < 1 + (one < 1) for count, one in zip(counts, exact, strict=True))


def test_the_beginning_has_given_shares_until_a_source_is_used_up() -> None:
    order = even_order([100, 30], shares=(0.25, 0.75))
    first = np.bincount(order[:40], minlength=2)
    assert np.abs(first - [10, 30]).max() <= 1
    assert order[41:].tolist() == [0] * 89
    assert np.bincount(order).tolist() == [100, 30]
