"""Batches with a set share of labelled texts: exact, fair, and a function of seed and position alone."""

from collections import Counter

import jax
import numpy as np
import pytest

from gptgan_jax.data.batches import labelled_batch_at, labelled_rows
from gptgan_jax.data.encoding import Ragged, TokenisedSplit
from gptgan_jax.types import Batch, Vocabulary

LABELLED, OTHERS = 7, 40


def split(labels: np.ndarray | None = None) -> TokenisedSplit:
    """47 texts of one token, each its own; every sixth or so has a label."""
    count = LABELLED + OTHERS
    if labels is None:
        labels = np.full(count, -1, np.int32)
        labels[np.arange(LABELLED) * 6] = 1
    texts = Ragged(np.arange(3, 3 + count, dtype=np.int32), np.arange(count + 1))
    return TokenisedSplit(texts, None, labels, Vocabulary(60), max_length=2, max_prompt_length=1)


def texts_of(batch: Batch) -> list[int]:
    return np.asarray(batch.target)[:, 0].tolist()


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_every_batch_has_the_share_of_labelled_texts(share: float) -> None:
    for position in range(30):
        batch = labelled_batch_at(split(), 0, position, 10, share)
        assert (np.asarray(batch.label) >= 0).sum() == labelled_rows(10, share)


def test_labelled_and_other_texts_each_come_equally_often() -> None:
    seen = Counter(
        text for p in range(OTHERS * LABELLED) for text in texts_of(labelled_batch_at(split(), 3, p, 10, 0.5))
    )
    labelled = {3 + 6 * i for i in range(LABELLED)}
    counts = {
        name: {n for t, n in seen.items() if (t in labelled) == which} for name, which in (("l", True), ("o", False))
    }
    assert counts == {"l": {5 * OTHERS}, "o": {5 * LABELLED}}


def test_labelled_rows_have_no_place_of_their_own() -> None:
    places = sum((np.asarray(labelled_batch_at(split(), 0, p, 10, 0.5).label) >= 0).astype(int) for p in range(200))
    assert places.min() > 70
    assert places.max() < 130


def test_a_batch_is_a_function_of_seed_and_position_and_processes_share_it() -> None:
    whole = labelled_batch_at(split(), 1, 4, 12, 0.25)
    parts = [labelled_batch_at(split(), 1, 4, 12, 0.25, i, 3) for i in range(3)]
    together = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    assert jax.tree.all(jax.tree.map(np.array_equal, whole, together))
    assert texts_of(labelled_batch_at(split(), 2, 4, 12, 0.25)) != texts_of(whole)
    assert texts_of(labelled_batch_at(split(), 1, 5, 12, 0.25)) != texts_of(whole)


def test_what_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="no text with a label"):
        labelled_batch_at(split(np.full(47, -1)), 0, 0, 10, 0.5)
    with pytest.raises(ValueError, match="no text without a label"):
        labelled_batch_at(split(np.zeros(47, int)), 0, 0, 10, 0.5)
    with pytest.raises(ValueError, match="process"):
        labelled_batch_at(split(), 0, 0, 10, 0.5, 0, 3)
