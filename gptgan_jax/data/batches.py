"""Token ids in batches of fixed shape, as a pure function of a seed and one integer, the position in the data.

Position p is the p-th batch since training began. The stream of documents is a sequence of permutations of the split,
one per epoch, so a resumed run needs only its position, and any batch size works with a split of any size.

`labelled_batch_at` makes batches with a fixed share of labelled texts, for splits with few labels: labelled and other
texts are two endless streams of permutations, so that the few labelled ones repeat.

`bucketed_batch_at` makes batches of texts of similar length, no wider than necessary: less padding is computed, with
one program per width. A window of fifty consecutive batches, or as many as an epoch has, holds the same texts as
without buckets. They are sorted by their bucket and batched again; the order of these batches is random.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from functools import lru_cache
from typing import Any

import numpy as np

from gptgan_jax.data.encoding import Ragged, TokenisedSplit
from gptgan_jax.errors import suggests_names
from gptgan_jax.types import Batch, TopK, Vocabulary

# The most batches of `bucketed_batch_at` that are sorted together.
WINDOW = 50


@suggests_names
def batch_at(
    split: TokenisedSplit,
    seed: int,
    position: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Batch:
    """The batch at a position of the endless stream, as a function of its arguments only.

    Element j of the stream is document permutation(j // N)[j % N], where permutation(e) is drawn from (seed, e).
    Batch p holds the elements from p * batch_size on, and process k of n the k-th of its n equal parts.

    Args:
        split: the documents, N of them.
        seed: of the order.
        position: number of the global batch, from 0.
        batch_size: of the global batch; may exceed N.
        process_index: of this process.
        process_count: number of processes, a divisor of batch_size.

    Returns:
        Batch of NumPy arrays with B = batch_size / process_count rows.

    Raises:
        ValueError: an empty split, or processes that do not divide the batch.
    """
    elements = elements_at(len(split), position, batch_size, process_index, process_count)
    return gather(split, documents_at(seed, elements, len(split)))


def elements_at(
    count: int,
    position: int,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    what: str = "documents",
) -> np.ndarray:
    """The positions in the endless stream of this process's part of a batch: int64 [B].

    Args:
        count: the number of documents, or of other rows.
        position, batch_size, process_index, process_count: as in `batch_at`.
        what: the name of the rows, for messages.

    Raises:
        ValueError: no rows at all, or processes that do not divide the batch.
    """
    own = own_rows(batch_size, process_index, process_count, f" from {count} {what}")
    if not count:
        raise ValueError(f"no batch of {batch_size} from 0 {what}")
    return position * batch_size + np.arange(own.start, own.stop, dtype=np.int64)


def own_rows(batch_size: int, process_index: int, process_count: int, source: str = "") -> slice:
    """The rows of a global batch that belong to this process.

    Args:
        batch_size, process_index, process_count: as in `batch_at`.
        source: the batch's source, for the message.

    Raises:
        ValueError: processes that do not divide the batch, or no such process.
    """
    if batch_size % process_count or not 0 <= process_index < process_count:
        raise ValueError(f"no batch of {batch_size}{source} for process {process_index} of {process_count}")
    rows = batch_size // process_count
    return slice(process_index * rows, (process_index + 1) * rows)


def documents_at(
    seed: int, elements: np.ndarray, count: int, order: Callable[[int, int, int], np.ndarray] | None = None
) -> np.ndarray:
    """The documents (of `count`) at these positions of the endless stream: int64 [N] -> int64 [N].

    Args:
        seed: of the order.
        elements: the positions.
        count: the number of documents.
        order: replaces `permutation`, for a caller that caches permutations.
    """
    order = order or _permutation
    epochs, places = np.divmod(elements, count)
    documents = np.empty(len(elements), np.int64)
    for epoch in np.unique(epochs).tolist():
        of_epoch = epochs == epoch
        documents[of_epoch] = order(seed, epoch, count)[places[of_epoch]]
    return documents


def side_permutation(seed: int, number: int, count: int) -> np.ndarray:
    """The `number`-th permutation of `count` positions, int64, from a separate stream: epochs use the plain seed."""
    key = np.array([(seed + 2**63) % 2**64, number], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)


def labelled_rows(batch_size: int, share: float) -> int:
    """How many texts of a batch have a label."""
    return round(share * batch_size)


@suggests_names
def labelled_batch_at(
    split: TokenisedSplit,
    seed: int,
    position: int,
    batch_size: int,
    share: float,
    process_index: int = 0,
    process_count: int = 1,
) -> Batch:
    """The batch at a position: `labelled_rows` of its texts have a label, in rows drawn at random.

    Args:
        split: the documents.
        seed, position, batch_size, process_index, process_count: as in `batches.batch_at`.
        share: of labelled texts.

    Returns:
        Batch of NumPy arrays with B = batch_size / process_count rows.

    Raises:
        ValueError: a split without the texts that the share needs, or processes that do not divide the batch.
    """
    own = own_rows(batch_size, process_index, process_count)
    has_label = np.zeros(len(split), bool) if split.labels is None else split.labels >= 0
    streams = np.flatnonzero(has_label), np.flatnonzero(~has_label)
    first = labelled_rows(batch_size, share)
    counts = first, batch_size - first
    for name, stream, count in zip(("with", "without"), streams, counts, strict=True):
        if count and not len(stream):
            raise ValueError(f"no text {name} a label, and a share of {share} asks for {count} in a batch")
    places = side_permutation(seed, position, batch_size)[own]
    documents = np.empty(len(places), np.int64)
    for stream, count, chosen, begin in zip(
        streams, counts, (places < first, places >= first), (0, first), strict=True
    ):
        if chosen.any():
            elements = position * count + places[chosen] - begin
            documents[chosen] = stream[documents_at(seed, elements, len(stream))]
    return gather(split, documents)


@suggests_names
def evaluation_batches(split: TokenisedSplit, batch_size: int, limit: int | None = None) -> Iterator[Batch]:
    """Every document once, in order, in batches of one shape; with `limit`, only the first `limit` documents.

    The last batch is padded with rows whose target mask is all false, whose prompt is BOS and whose label is -1.
    """
    count = len(split) if limit is None else min(limit, len(split))
    for start in range(0, count, batch_size):
        documents = np.arange(start, start + batch_size)
        yield gather(split, np.where(documents < count, documents, -1))


@suggests_names
def prefetch(
    make_batch: Callable[[int], Batch], start: int, put: Callable[[Batch], Batch], depth: int = 2
) -> Generator[Batch, None, None]:
    """An endless iterator of batches from a position on, which a background thread makes and puts on the device.

    The thread starts with the first `next` and ends when the iterator is closed or dropped. At most `depth` finished
    batches wait while it works on one more.

    Args:
        make_batch: position -> Batch, such as a partial `batch_at`.
        start: first position.
        put: moves a batch to the device.
        depth: at least 1.

    Raises:
        Any exception of `make_batch` or `put`, in the consumer, after all earlier batches. ValueError: depth below 1.
    """
    if depth < 1:
        raise ValueError(f"depth should be at least 1, not {depth}")
    ready: queue.Queue[tuple[Batch | None, BaseException | None]] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def work() -> None:
        position = start
        while not stop.is_set():
            try:
                ready.put((put(make_batch(position)), None))
            except BaseException as error:
                ready.put((None, error))
                return
            position += 1

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            batch, error = ready.get()
            if error is not None:
                raise error
            assert batch is not None
            yield batch
    finally:
        stop.set()
        # The thread may be waiting to hand over one more batch; with an empty queue it can, and then it sees the stop.
        while not ready.empty():
            ready.get_nowait()
        thread.join()


def gather(split: TokenisedSplit, documents: np.ndarray) -> Batch:
    """Rows of documents; -1 makes an empty row."""
    vocabulary = split.vocabulary
    target, target_mask = _padded_right(split.targets, documents, split.max_length, vocabulary.pad_id)
    if split.prompts is None:
        prompt = np.full((len(documents), 1), vocabulary.bos_id, np.int32)
        if split.before is not None:
            before = np.where(documents < 0, -1, split.before[documents])[:, None]
            prompt = np.where(before < 0, prompt, before).astype(np.int32)
        prompt_mask = np.ones_like(prompt, bool)
    else:
        prompt, prompt_mask = _prompts(split.prompts, documents, split.max_prompt_length, vocabulary)
    label = np.full(len(documents), -1, np.int32)
    if split.labels is not None:
        label = np.where(documents < 0, -1, split.labels[documents]).astype(np.int32)
    # Typed as device arrays, because they become such when they are put there.
    rows = split.numbers_of(documents) if split.numbered else None
    top_k: Any = None
    if split.top_k is not None:
        places = _places(split.targets, documents, split.max_length)
        likeliest: list[Any] = [array.take(places, axis=0, mode="clip") for array in split.top_k]
        top_k = TopK(likeliest[0], likeliest[1].astype(np.float32))
    arrays: tuple[Any, ...] = (prompt, prompt_mask, target, target_mask, label, None, rows, top_k)
    return Batch(*arrays)


def _padded_right(ragged: Ragged, documents: np.ndarray, width: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """int32 and bool [B, width]: tokens, then padding."""
    mask = np.arange(width) < ragged.lengths(documents)[:, None]
    tokens = ragged.tokens.take(_places(ragged, documents, width), mode="clip")
    return np.where(mask, tokens, np.int32(pad_id)), mask


def _places(ragged: Ragged, documents: np.ndarray, width: int) -> np.ndarray:
    """Where the first `width` tokens of documents lie, int64 [B, width]; behind a document's end they are others'."""
    return ragged.offsets[documents][:, None] + np.arange(width)


def _prompts(
    ragged: Ragged, documents: np.ndarray, longest: int, vocabulary: Vocabulary
) -> tuple[np.ndarray, np.ndarray]:
    """int32 and bool [B, longest + 1]: padding, then the output of `Vocabulary.begun` for the tokens."""
    from_end = np.arange(longest + 1) - (longest + 1)  # the last column is -1
    lengths = ragged.lengths(documents)[:, None]
    places = ragged.offsets[documents + 1][:, None] + from_end
    tokens = ragged.tokens.take(places, mode="clip") if len(ragged.tokens) else np.zeros(places.shape, np.int32)
    begun = (lengths == 0) | vocabulary.begins_prompts
    tokens = np.where(begun & (from_end == -1 - lengths), np.int32(vocabulary.bos_id), tokens)
    mask = from_end >= -lengths - begun
    return np.where(mask, tokens, np.int32(vocabulary.pad_id)), mask


def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` documents in an epoch, int32 or int64 [count]."""
    key = np.array([seed % 2**64, epoch], np.uint64)
    order = np.random.Generator(np.random.Philox(key=key)).permutation(count)
    order = order.astype(np.int32 if count < 2**31 else np.int64)
    order.flags.writeable = False
    return order


# Four are cached: a batch, or a window of batches, needs two neighbours, possibly of two streams.
_permutation = lru_cache(maxsize=4)(permutation)


def window_of(split: TokenisedSplit, batch_size: int) -> int:
    """How many batches are sorted together: with more than an epoch, a batch could have a text twice."""
    return max(1, min(WINDOW, len(split) // batch_size))


def buckets_of(split: TokenisedSplit, documents: np.ndarray, buckets: int) -> np.ndarray:
    """For each document, the narrowest bucket from 1 to `buckets` that fits both its prompt and its target.

    Bucket i of n has room for i/n of the longest target and for i/n of the longest prompt, rounded up.
    """
    needed = -(-split.targets.lengths(documents) * buckets // split.max_length)
    if split.prompts is not None:
        with_bos = split.prompts.lengths(documents) + 1
        needed = np.maximum(needed, -(-with_bos * buckets // (split.max_prompt_length + 1)))
    return needed


@suggests_names
def bucketed_batch_at(
    split: TokenisedSplit,
    seed: int,
    position: int,
    batch_size: int,
    buckets: int,
    process_index: int = 0,
    process_count: int = 1,
) -> Batch:
    """The batch at a position: texts of similar length, as wide as the widest bucket among them.

    Args:
        split: the documents.
        seed, position, batch_size, process_index, process_count: as in `batch_at`.
        buckets: the number of widths, at least 1.

    Returns:
        Batch of NumPy arrays with B = batch_size / process_count rows, with the same width in all processes.

    Raises:
        ValueError: an empty split, no bucket, or processes that do not divide the batch.
    """
    source = f" in {buckets} buckets from {len(split)} documents"
    own = own_rows(batch_size, process_index, process_count, source)
    if not len(split) or buckets < 1:
        raise ValueError(f"no batch of {batch_size}{source}")
    window, place = divmod(position, window_of(split, batch_size))
    documents, widest = _window(split, seed, window, batch_size, buckets)
    return _narrowed(gather(split, documents[place, own]), int(widest[place]), buckets)


@lru_cache(maxsize=2)
def _window(
    split: TokenisedSplit, seed: int, window: int, batch_size: int, buckets: int
) -> tuple[np.ndarray, np.ndarray]:
    """The documents of a window's batches, int64 [W, B], and the widest bucket of each batch, int64 [W]."""
    together = window_of(split, batch_size)
    elements = window * together * batch_size + np.arange(together * batch_size, dtype=np.int64)
    documents = documents_at(seed, elements, len(split))
    needed = buckets_of(split, documents, buckets)
    # The sort is stable: within a bucket the random order of the stream is kept.
    cut = np.argsort(needed, kind="stable").reshape(together, batch_size)[side_permutation(seed, window, together)]
    return documents[cut], needed[cut].max(axis=1)


def _narrowed(batch: Batch, bucket: int, buckets: int) -> Batch:
    """The batch without the padding that its bucket does not need: left of prompts, right of targets."""
    prompt = -(-batch.prompt.shape[1] * bucket // buckets)
    target = -(-batch.target.shape[1] * bucket // buckets)
    top_k = None if batch.top_k is None else TopK(batch.top_k.ids[:, :target], batch.top_k.log_probs[:, :target])
    return batch.replace(
        prompt=batch.prompt[:, -prompt:],
        prompt_mask=batch.prompt_mask[:, -prompt:],
        target=batch.target[:, :target],
        target_mask=batch.target_mask[:, :target],
        top_k=top_k,
    )
