"""Batches of like lengths: the texts of the plain stream, each once, in no more padding than its bucket has."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptgan_jax.data.batches import WINDOW, batch_at, bucketed_batch_at, buckets_of, window_of
from gptgan_jax.data.corpora import Split
from gptgan_jax.data.encoding import Ragged, TokenisedSplit, encode_split
from gptgan_jax.data.tokenizers import IdTokenizer
from gptgan_jax.readers.top_k import StoredTopK
from gptgan_jax.types import Batch, Vocabulary

LONGEST, LONGEST_PROMPT = 10, 6


def texts(count: int, prompts: bool = False) -> TokenisedSplit:
    """Documents of their number, 1 to 10 times, after prompts of 0 to 6."""
    rng = np.random.default_rng(count)
    tokens = Split(tokens=np.arange(count, dtype=np.int32)[:, None])
    split = encode_split(tokens, IdTokenizer(Vocabulary(count + 1, 0, 0, None)), LONGEST)

    def cut(least: int, most: int) -> Ragged:
        lengths = rng.integers(least, most + 1, count)
        return Ragged(np.repeat(np.arange(count, dtype=np.int32), lengths), np.concatenate([[0], np.cumsum(lengths)]))

    split = replace(split, targets=cut(1, LONGEST))
    return replace(split, prompts=cut(0, LONGEST_PROMPT), max_prompt_length=LONGEST_PROMPT) if prompts else split


def rows(batch: Batch) -> list[int]:
    return np.asarray(batch.target)[:, 0].tolist()


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 400), st.integers(1, 9), st.integers(1, 5), st.integers(0, 2), st.booleans())
def test_a_window_holds_the_texts_of_the_plain_stream(
    count: int, size: int, buckets: int, window: int, prompts: bool
) -> None:
    split = texts(count, prompts)
    together = window_of(split, size)
    places = range(window * together, (window + 1) * together)
    plain = [row for position in places for row in rows(batch_at(split, 7, position, size))]
    bucketed = [row for position in places for row in rows(bucketed_batch_at(split, 7, position, size, buckets))]
    assert sorted(bucketed) == sorted(plain)


@pytest.mark.parametrize("prompts", [False, True])
@pytest.mark.parametrize("buckets", [1, 3, 4])
def test_each_text_is_whole_and_a_batch_as_wide_as_its_widest_bucket(buckets: int, prompts: bool) -> None:
    split, widths = texts(300, prompts), set()
    for position in range(window_of(split, 8)):
        batch = bucketed_batch_at(split, 1, position, 8, buckets)
        documents = np.array(rows(batch))
        bucket = buckets_of(split, documents, buckets).max()
        assert batch.target.shape == batch.target_mask.shape == (8, -(-LONGEST * bucket // buckets))
        width = -(-(LONGEST_PROMPT + 1) * bucket // buckets) if prompts else 1
        assert batch.prompt.shape == batch.prompt_mask.shape == (8, width)
        for row, document in enumerate(documents):
            np.testing.assert_array_equal(batch.target[row][batch.target_mask[row]], split.targets[document])
            if prompts:
                assert split.prompts is not None
                np.testing.assert_array_equal(batch.prompt[row][batch.prompt_mask[row]][1:], split.prompts[document])
        widths.add(batch.target.shape[1])
    assert len(widths) == buckets


def test_a_teachers_likeliest_tokens_stay_at_their_tokens() -> None:
    split = texts(60)
    numbers = np.arange(2 * len(split.targets.tokens)).reshape(-1, 2)
    split = replace(split, top_k=StoredTopK(numbers.astype(np.int32), numbers.astype(np.float32)))
    widths = set()
    for position in range(window_of(split, 4)):
        batch = bucketed_batch_at(split, 1, position, 4, 3)
        assert batch.top_k is not None
        assert batch.top_k.ids.shape == batch.top_k.log_probs.shape == (*batch.target.shape, 2)
        for row, document in enumerate(rows(batch)):
            begin, end = split.targets.offsets[document : document + 2]
            for found in (batch.top_k.ids, batch.top_k.log_probs):
                np.testing.assert_array_equal(found[row][batch.target_mask[row]], numbers[begin:end])
        widths.add(batch.target.shape[1])
    assert len(widths) == 3


def test_a_small_set_of_texts_comes_no_oftener_into_a_batch_than_two_epochs_hold_it() -> None:
    split = texts(90)
    for position in range(3 * WINDOW):
        _, counts = np.unique(rows(bucketed_batch_at(split, 0, position, 40, 4)), return_counts=True)
        assert counts.max() <= 2


def test_there_is_less_padding_and_the_order_of_widths_is_random() -> None:
    split = texts(500)
    orders = []
    for seed in (0, 1):
        batches = [bucketed_batch_at(split, seed, position, 8, 5) for position in range(WINDOW)]
        padding = 1 - sum(b.target_mask.sum() for b in batches) / sum(b.target_mask.size for b in batches)
        assert padding < 0.15  # 45 % without buckets
        orders.append([b.target.shape[1] for b in batches])
    assert orders[0] != orders[1]
    assert all(order not in (sorted(order), sorted(order)[::-1]) for order in orders)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 4), st.integers(0, 120))
def test_the_shards_of_all_processes_are_the_global_batch(count: int, each: int, processes: int, position: int) -> None:
    split = texts(count, prompts=True)
    whole = bucketed_batch_at(split, 3, position, each * processes, 3)
    shards = [bucketed_batch_at(split, 3, position, each * processes, 3, k, processes) for k in range(processes)]
    for name in ("prompt", "prompt_mask", "target", "target_mask", "label"):
        np.testing.assert_array_equal(np.concatenate([getattr(s, name) for s in shards]), getattr(whole, name))


def test_a_batch_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no batch of 4 in 2 buckets from 0 documents"):
        bucketed_batch_at(texts(3).subset(np.arange(0)), 0, 0, 4, 2)
    with pytest.raises(ValueError, match="in 0 buckets"):
        bucketed_batch_at(texts(3), 0, 0, 4, 0)
    with pytest.raises(ValueError, match="for process 0 of 3"):
        bucketed_batch_at(texts(3), 0, 0, 4, 2, 0, 3)
