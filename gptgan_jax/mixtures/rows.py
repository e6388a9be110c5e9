"""The rows of a mixture: batches sampled from several sources by their weights in tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np

from gptgan_jax.data.batches import documents_at, gather, own_rows, permutation
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.data.packing import Rows
from gptgan_jax.mixtures.order import MixedOrder
from gptgan_jax.types import Batch


@dataclass(frozen=True, eq=False)
class TextRows:
    """The documents of a split, one per row, with the interface of packed rows."""

    split: TokenisedSplit

    def __len__(self) -> int:
        return len(self.split)

    @property
    def tokens(self) -> int:
        """The number of target tokens in all rows."""
        return len(self.split.targets.tokens)

    def gather(self, rows: np.ndarray, epochs: np.ndarray | int = 0) -> Batch:
        """The rows with these numbers, the same in every epoch."""
        return gather(self.split, rows)


@dataclass(frozen=True, eq=False)
class MixedRows:
    """Rows of several sources, each with a weight.

    Attributes:
        parts: the rows of each source, all of the same width.
        weights: the share of each source in the sampled tokens; they sum to 1.
    """

    parts: Sequence[Rows | TextRows]
    weights: Sequence[float]
    _order: MixedOrder = field(init=False, repr=False)
    _permutations: list[dict[tuple[int, int], np.ndarray]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_order", MixedOrder(self.shares))
        object.__setattr__(self, "_permutations", [{} for _ in self.parts])

    def __len__(self) -> int:
        """The number of rows of all sources."""
        return sum(map(len, self.parts))

    @property
    def shares(self) -> np.ndarray:
        """The share of each source in the sampled rows, proportional to weight / tokens per row: float64 [S]."""
        shares = np.array(self.weights) / [part.tokens / len(part) for part in self.parts]
        return shares / shares.sum()

    @property
    def tokens_a_row(self) -> float:
        """The average number of target tokens of a sampled row."""
        means = [part.tokens / len(part) for part in self.parts]
        return float(np.dot(self.shares, means))

    def batch_at(
        self, seed: int, position: int, batch_size: int, process_index: int = 0, process_count: int = 1
    ) -> Batch:
        """The batch at a position of the endless stream, as a function of its arguments only.

        The n-th row of a source is row permutation(n // R)[n % R] of its R, where permutation(e) is drawn from the
        seed, the source and e: no row repeats before all rows of its source have been read.

        Args:
            seed, position, batch_size, process_index, process_count: as in `batches.batch_at`.

        Returns:
            Batch of NumPy arrays with B = batch_size / process_count rows.

        Raises:
            ValueError: processes that do not divide the batch.
        """
        own = own_rows(batch_size, process_index, process_count, " of a mixture")
        elements = position * batch_size + np.arange(own.start, own.stop, dtype=np.int64)
        sources, rows, epochs = self.rows_at(seed, elements)
        chosen = [np.flatnonzero(sources == source) for source in range(len(self.parts))]
        batches = [
            part.gather(rows[places], epochs[places])
            for part, places in zip(self.parts, chosen, strict=True)
            if len(places)
        ]
        back = np.argsort(np.concatenate(chosen))
        return jax.tree.map(lambda *arrays: np.concatenate(arrays)[back], *batches)

    def rows_at(self, seed: int, elements: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The sources, their rows and their epochs, int64 [N] each, at the given positions of the stream, int64 [N]."""
        sources, numbers = self._order.at(seed, elements)
        rows, epochs = np.empty((2, len(elements)), np.int64)
        for source, part in enumerate(self.parts):
            drawn = sources == source
            own_seed = int(np.random.SeedSequence([seed, source]).generate_state(1)[0])
            rows[drawn] = documents_at(own_seed, numbers[drawn], len(part), partial(self._permutation, source))
            epochs[drawn] = numbers[drawn] // len(part)
        return sources, rows, epochs

    def _permutation(self, source: int, seed: int, epoch: int, count: int) -> np.ndarray:
        """`permutation`, with a cache for this epoch of a source and its neighbours."""
        kept = self._permutations[source]
        if (seed, epoch) not in kept:
            for other in [one for one in kept if one[0] != seed or abs(one[1] - epoch) > 1]:
                del kept[other]
            kept[seed, epoch] = permutation(seed, epoch, count)
        return kept[seed, epoch]
