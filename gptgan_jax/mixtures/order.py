"""The source of each row of an endless stream, as a function of a seed and the row's position only.

The sources are interleaved as evenly as possible, so that the beginning of the stream has their shares up to a row or
two, whatever its length. Then the rows are shuffled within each block of `BLOCK`.
"""

from collections.abc import Sequence

import numpy as np

from gptgan_jax.data.batches import side_permutation

# The period of the order of the sources, and the number of rows that are shuffled together.
PERIOD, BLOCK = 2**20, 64


class MixedOrder:
    """Rows of sources with given shares.

    Attributes:
        counts: int64 [S], the rows of each source in a period; its share rounded to an integer, at least 1.
    """

    def __init__(self, shares: Sequence[float] | np.ndarray) -> None:
        """`shares` are above 0; only their ratios count."""
        self.counts = apportioned(shares, PERIOD)
        self._source = even_order(self.counts)
        self._rank = np.empty(PERIOD, np.int32)
        for source, count in enumerate(self.counts):
            self._rank[self._source == source] = np.arange(count)

    def at(self, seed: int, elements: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The sources and numbers of the stream's elements at the given positions, int64 [N].

        Returns:
            (int64 [N], the source of each; int64 [N], how many elements of the same source precede it in the unshuffled
            stream, so that each number of a source occurs once.)
        """
        blocks, inside = np.divmod(elements, BLOCK)
        places = np.empty(len(elements), np.int64)
        for block in np.unique(blocks).tolist():
            of_block = blocks == block
            places[of_block] = block * BLOCK + side_permutation(seed, block, BLOCK)[inside[of_block]]
        periods, rows = np.divmod(places, PERIOD)
        sources = self._source[rows].astype(np.int64)
        return sources, periods * self.counts[sources] + self._rank[rows]


def apportioned(shares: Sequence[float] | np.ndarray, total: int) -> np.ndarray:
    """Integers in the ratio of the shares with the sum `total`, by largest remainders; each at least 1: int64 [S]."""
    exact = np.asarray(shares, np.float64) / np.sum(shares) * total
    counts = np.maximum(np.floor(exact).astype(np.int64), 1)
    for source in np.argsort(counts - exact, kind="stable")[: max(total - int(counts.sum()), 0)]:
        counts[source] += 1
    counts[np.argmax(counts)] -= counts.sum() - total
    return counts


def even_order(counts: Sequence[int] | np.ndarray, shares: Sequence[float] | None = None) -> np.ndarray:
    """The source at each position, such that each source is spread as evenly as possible: int16 [sum of counts].

    The j-th of n elements of a source is due at (j + 1/2) / n, or with given shares at (j + 1/2) / share: then the
    beginning has these shares until a source runs out.

    Args:
        counts: the number of elements of each source.
        shares: of the sources; by default their counts.
    """
    rates = np.asarray(counts if shares is None else shares, np.float64)
    due = np.concatenate([(np.arange(count) + 0.5) / rate for count, rate in zip(counts, rates, strict=True)])
    sources = np.repeat(np.arange(len(counts), dtype=np.int16), counts)
    return sources[np.argsort(due, kind="stable")]
