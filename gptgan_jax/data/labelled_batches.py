"""Batches with a set share of labelled texts, where few of a split's texts have a label.

As those of `batches`, a pure function of a seed and a position. Labelled and other texts are two endless streams, each
one permutation after another, so that the few labelled ones come again and again.
"""

import numpy as np

from gptgan_jax.data.batches import documents_at, gather, own_rows, side_permutation
from gptgan_jax.data.encoding import TokenisedSplit
from gptgan_jax.types import Batch


def labelled_rows(batch_size: int, share: float) -> int:
    """How many texts of a batch have a label."""
    return round(share * batch_size)


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
        seed, position, batch_size, process_index, process_count: as of `batches.batch_at`.
        share: of labelled texts.

    Returns:
        Batch of NumPy arrays with B = batch_size / process_count rows.

    Raises:
        ValueError: a split without what the share asks for, or processes that do not divide the batch.
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
