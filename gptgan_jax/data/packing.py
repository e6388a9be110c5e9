"""Packed rows: several documents side by side in a row, so that no row of a batch is padding.

`concatenate` joins the documents in order and cuts the result into rows (GPT-2, Radford et al. 2019), at different
places in each epoch, so that a token doesn't have the same context every time. `best_fit` packs whole documents into
few rows, by best-fit decreasing (Ding et al. 2024, arXiv:2404.10830). A store is packed in blocks of `BLOCK` tokens,
and a pair of files next to it records which documents are in which row, so that the packing takes no memory.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gptgan_jax.data.batches import documents_at, elements_at
from gptgan_jax.data.config import Packing
from gptgan_jax.data.encoding import Ragged, TokenisedSplit
from gptgan_jax.data.store import TokenStore, locked
from gptgan_jax.errors import UserError, suggests_names
from gptgan_jax.types import Batch, Packed, Vocabulary

GOLDEN_RATIO = (5**0.5 - 1) / 2
BLOCK = 2**22
"""Tokens of a store that are packed at once, best-fit; rows are as full as if all were (docs/data.md)."""


@dataclass(frozen=True, eq=False)
class PackedSplit:
    """The documents of a split in packed rows, R of them.

    Attributes:
        targets: the documents, or parts of long ones, in the order of the rows.
        before: int32 [N], the token before each part that continues a document, else -1; None: no such parts.
        first: int64 [R + 1]; row r holds the tokens from first[r] to first[r + 1].
        contiguous: whether a part that continues a document directly follows the previous part.
        vocabulary: of the ids.
        max_length: tokens of a row, T.
        attend_across: whether documents of a row attend to each other; positions then count through the whole row.
    """

    targets: Ragged
    before: np.ndarray | None
    first: np.ndarray
    contiguous: bool
    vocabulary: Vocabulary
    max_length: int
    attend_across: bool

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def tokens(self) -> int:
        """Target tokens of all rows."""
        return len(self.targets.tokens)

    def gather(self, rows: np.ndarray, epochs: np.ndarray | int = 0) -> Batch:
        """The rows of these numbers, as each is cut in its epoch."""
        targets = self.targets
        shifts = shifts_of(epochs, self.max_length) if self.contiguous else 0
        places = self.first[rows][:, None] + np.arange(self.max_length)
        mask = places < self.first[rows + 1][:, None]
        places = (places + np.reshape(shifts, (-1, 1))) % self.tokens
        document = np.searchsorted(targets.offsets, places, side="right") - 1
        starts = places == targets.offsets[document]
        before = np.full(places.shape, -1) if self.before is None else self.before[document]
        first = np.where(before < 0, self.vocabulary.bos_id, before)
        inputs = np.where(starts, first, targets.tokens.take(places - 1, mode="clip"))
        begins = starts & ((before < 0) | (not self.contiguous))
        return _packed_batch(self, targets.tokens.take(places, mode="clip"), inputs, mask, begins)


@suggests_names
def packed_split(split: TokenisedSplit, packing: Packing, attend_across: bool) -> PackedSplit:
    """The rows of a split.

    Args:
        split: without prompts; none of its targets is longer than `max_length`.
        packing: "concatenate" or "best_fit".
        attend_across: see `PackedSplit`.

    Raises:
        ValueError: for a split with prompts, or no such packing.
    """
    if split.prompts is not None:
        raise ValueError("texts that answer prompts are not packed")
    targets, before, length = split.targets, split.before, split.max_length
    match packing:
        case "concatenate":
            first = np.append(np.arange(0, len(targets.tokens), length, dtype=np.int64), len(targets.tokens))
        case "best_fit":
            order, counts = best_fit(np.diff(targets.offsets), length)
            targets, before = targets.subset(order), None if before is None else before[order]
            first = targets.offsets[np.concatenate([[0], np.cumsum(counts)])]
        case _:
            raise ValueError(f"no packing {packing!r}")
    return PackedSplit(targets, before, first, packing == "concatenate", split.vocabulary, length, attend_across)


def best_fit(lengths: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Best-fit decreasing: puts each item, longest first, into the fullest row that still has room for it.

    Args:
        lengths: int [N], each from 1 to `size`.
        size: of a row.

    Returns:
        (order int64 [N], the items row by row; counts int64 [R], the items of each row).
    """
    row_of = np.empty(len(lengths), np.int64)
    rows_with: list[list[int]] = [[] for _ in range(size + 1)]  # by remaining room
    rooms = rows = 0  # bit r of `rooms` is set if some row has room r
    for item in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[item])
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            row = rows_with[room].pop()
            if not rows_with[room]:
                rooms &= ~(1 << room)
        else:
            room, row = size, rows
            rows += 1
        row_of[item] = row
        if room > length:
            rows_with[room - length].append(row)
            rooms |= 1 << (room - length)
    return np.argsort(row_of, kind="stable"), np.bincount(row_of, minlength=rows)


@dataclass(frozen=True, eq=False)
class StoredRows:
    """The documents of a store, concatenated and cut into rows.

    Attributes:
        store: the documents.
        vocabulary: of the ids.
        max_length: tokens of a row, T.
        attend_across: see `PackedSplit`.
    """

    store: TokenStore
    vocabulary: Vocabulary
    max_length: int
    attend_across: bool

    def __len__(self) -> int:
        return -(-len(self.store) // self.max_length)

    @property
    def tokens(self) -> int:
        """Target tokens of all rows."""
        return len(self.store)

    def gather(self, rows: np.ndarray, epochs: np.ndarray | int = 0) -> Batch:
        """The rows of these numbers, as each is cut in its epoch."""
        length = self.max_length
        shifts = np.broadcast_to(shifts_of(epochs, length), len(rows))
        tokens = np.full((len(rows), length), self.vocabulary.pad_id, np.int32)
        before = np.full((len(rows), length), self.store.eos_id, np.int32)
        mask = np.zeros((len(rows), length), bool)
        for place, (row, shift) in enumerate(zip(rows.tolist(), shifts.tolist(), strict=True)):
            count = min(length, len(self.store) - row * length)
            found = self._around(row * length + shift - 1, count + 1)
            tokens[place, :count], before[place, :count], mask[place, :count] = found[1:], found[:-1], True
        # EOS occurs at the end of every document and nowhere else.
        begins = before == self.store.eos_id
        return _packed_batch(self, tokens, np.where(begins, self.vocabulary.bos_id, before), mask, begins)

    def _around(self, start: int, count: int) -> np.ndarray:
        """`count` tokens from a position on, where the first token follows the last: int32 [count]."""
        found = self.store.tokens(start % len(self.store), start % len(self.store) + count)
        while len(found) < count:
            found = np.concatenate([found, self.store.tokens(0, count - len(found))])
        return found


@dataclass(frozen=True, eq=False)
class StoredBestFit:
    """The documents of a store, or parts of long ones, packed best-fit.

    Attributes:
        store, vocabulary, max_length, attend_across: as of `StoredRows`.
        parts: a file of int64 pairs, (position of its first token, tokens) of each part, row by row.
        rows: a file of int64 [R + 1]; row r has the parts from rows[r] to rows[r + 1]. It is written last.
    """

    store: TokenStore
    vocabulary: Vocabulary
    max_length: int
    attend_across: bool
    parts: Path
    rows: Path

    def __len__(self) -> int:
        return self.rows.stat().st_size // 8 - 1

    @property
    def tokens(self) -> int:
        """Target tokens of all rows."""
        return len(self.store)

    def gather(self, rows: np.ndarray, epochs: np.ndarray | int = 0) -> Batch:
        """The rows of these numbers, the same in every epoch."""
        shape = len(rows), self.max_length
        tokens, inputs = (np.full(shape, self.vocabulary.pad_id, np.int32) for _ in range(2))
        mask, begins = np.zeros(shape, bool), np.zeros(shape, bool)
        for place, row in enumerate(rows.tolist()):
            first, last = np.fromfile(self.rows, np.int64, 2, offset=8 * row)
            parts = np.fromfile(self.parts, np.int64, 2 * (last - first), offset=16 * first).reshape(-1, 2)
            column = 0
            for start, length in parts.tolist():
                found = self.store.tokens(start - 1, start + length) if start else self.store.tokens(0, length)
                before = found[0] if start else self.store.eos_id
                inside = slice(column, column + length)
                tokens[place, inside] = found[-length:]
                inputs[place, column] = self.vocabulary.bos_id if before == self.store.eos_id else before
                inputs[place, column + 1 : column + length] = found[-length:-1]
                mask[place, inside], begins[place, column] = True, True
                column += length
        return _packed_batch(self, tokens, inputs, mask, begins)

    @property
    def is_whole(self) -> bool:
        """Whether both files are there and of one size."""
        if not self.rows.exists() or not self.parts.exists():
            return False
        ends = np.fromfile(self.rows, np.int64)[-1:]
        return bool(len(ends)) and self.parts.stat().st_size == 16 * int(ends[0])

    def write(self) -> None:
        """Packs the store and writes both files."""
        made = [Path(f"{path}.tmp") for path in (self.parts, self.rows)]
        total = 0
        with made[0].open("wb") as parts, made[1].open("wb") as rows:
            np.zeros(1, np.int64).tofile(rows)
            for block in _blocks(self.store, self.max_length):
                order, counts = best_fit(block[:, 1], self.max_length)
                block[order].tofile(parts)
                (total + np.cumsum(counts)).tofile(rows)
                total += len(block)
        os.replace(made[0], self.parts)
        os.replace(made[1], self.rows)


def _blocks(store: TokenStore, length: int) -> Iterator[np.ndarray]:
    """The parts of a store's documents, none longer than `length`, in order: int64 [N, 2], (first token, tokens)."""
    start = 0  # of the current part, which may have begun in the previous block
    for begin in range(0, len(store), BLOCK):
        end = min(begin + BLOCK, len(store))
        ends = begin + 1 + np.flatnonzero(store.tokens(begin, end) == store.eos_id)
        if end - (ends[-1] if len(ends) else start) >= length:  # whole parts of an unfinished document
            last = ends[-1] if len(ends) else start
            ends = np.append(ends, last + (end - last) // length * length)
        if not len(ends):
            continue
        starts = np.concatenate([[start], ends[:-1]])
        counts = -(-(ends - starts) // length)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        firsts = np.repeat(starts, counts) + length * within
        yield np.stack([firsts, np.minimum(length, np.repeat(ends, counts) - firsts)], axis=1)
        start = int(ends[-1])


Rows = PackedSplit | StoredRows | StoredBestFit


def stored_rows(
    store: TokenStore,
    packing: Packing,
    vocabulary: Vocabulary,
    max_length: int,
    attend_across: bool,
    say: Callable[[str], None],
) -> StoredRows | StoredBestFit:
    """The rows of a store; those of "best_fit" are computed once, and saved next to it.

    Args:
        store, vocabulary, max_length, attend_across: see `StoredRows`.
        packing: "concatenate" or "best_fit".
        say: called with a line if another process holds the lock, or rows are packed.

    Raises:
        UserError: the folder can't be written.
    """
    if packing == "concatenate":
        return StoredRows(store, vocabulary, max_length, attend_across)
    name = f"best_fit-{max_length}-{store.fingerprint[:16]}"
    files = (store.folder / f"{name}.{ending}" for ending in ("parts", "rows"))
    found = StoredBestFit(store, vocabulary, max_length, attend_across, *files)
    try:
        with locked(store.folder, say):
            if not found.is_whole:
                for path in store.folder.glob("best_fit-*"):  # of another text, or unfinished
                    if not path.stem.endswith(store.fingerprint[:16]) or path.stem == name or path.suffix == ".tmp":
                        path.unlink()
                say(f"{store.folder}: packing {store.documents:,} documents into rows of {max_length}")
                found.write()
    except OSError as error:
        raise UserError(
            f"data.store {store.folder}: best_fit rows can't be written ({error.strerror or error})"
        ) from None
    return found


@suggests_names
def packed_batch_at(
    rows: Rows, seed: int, position: int, batch_size: int, process_index: int = 0, process_count: int = 1
) -> Batch:
    """The batch at a position of the endless stream of rows, like `batches.batch_at` for documents.

    Returns:
        Batch of NumPy arrays with B = batch_size / process_count rows and `packed` filled.

    Raises:
        ValueError: no rows, or processes that do not divide the batch.
    """
    elements = elements_at(len(rows), position, batch_size, process_index, process_count, "rows")
    return rows.gather(documents_at(seed, elements, len(rows)), elements // len(rows))


def shifts_of(epochs: np.ndarray | int, length: int) -> np.ndarray:
    """How many tokens later than in epoch 0 the rows of concatenated documents begin: int64, below `length`.

    The shifts are multiples of the golden ratio, so that nearby epochs cut the text at distant places. The first token
    follows the last, so each token is still in exactly one row per epoch.
    """
    return np.floor(np.asarray(epochs) * GOLDEN_RATIO % 1 * length).astype(np.int64)


def _packed_batch(rows: Rows, tokens: np.ndarray, inputs: np.ndarray, mask: np.ndarray, begins: np.ndarray) -> Batch:
    """A batch from target tokens, the input before each, the mask, and where segments begin: all [B, T]."""
    if rows.attend_across:
        segments = mask.astype(np.int32)
    else:
        counted = np.cumsum(begins, axis=1, dtype=np.int32)
        segments = np.where(mask, counted + 1 - counted[:, :1], 0).astype(np.int32)
    pad, size = np.int32(rows.vocabulary.pad_id), len(tokens)
    # Typed as device arrays, because they become such when they are put there.
    inside: Any = (np.where(mask, inputs, pad).astype(np.int32), segments)
    arrays: tuple[Any, ...] = (
        np.full((size, 1), rows.vocabulary.bos_id, np.int32),
        np.ones((size, 1), bool),
        np.where(mask, tokens, pad),
        mask,
        np.full(size, -1, np.int32),
        Packed(*inside),
    )
    return Batch(*arrays)
