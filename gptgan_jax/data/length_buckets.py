"""Batches of texts of similar length, no wider than necessary: less padding is computed, with one program per width.

As in `batches`, a batch is a pure function of a seed and a position. A window of fifty consecutive batches, or as many
as an epoch has, holds the same texts as without buckets. They are sorted by their bucket and batched again; the order
of these batches is random.
"""

from functools import lru_cache

import numpy as np

from gptgan_jax.data.batches import documents_at, gather, own_rows, side_permutation
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.errors import suggests_names
from gptgan_jax.types import Batch

WINDOW = 50


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
        seed, position, batch_size, process_index, process_count: as in `batches.batch_at`.
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
    return batch.replace(
        prompt=batch.prompt[:, -prompt:],
        prompt_mask=batch.prompt_mask[:, -prompt:],
        target=batch.target[:, :target],
        target_mask=batch.target_mask[:, :target],
    )
