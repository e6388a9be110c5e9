"""Batches: a pure function of (seed, position), every document once an epoch, padding where the masks say."""

import functools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptgan_jax.data import batches, encoding
from gptgan_jax.data.batches import batch_at, evaluation_batches, prefetch
from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.encoding import Ragged, TokenisedSplit, encode_split, unconditional_split
from gptgan_jax.data.tokenizers import IdTokenizer, Tokenizer, WordTokenizer, fit_tokenizer
from gptgan_jax.types import Batch, Vocabulary

PAD, BOS, EOS, UNK = range(4)
WORDS = tuple(f"w{i}" for i in range(50))


def _tokenizer() -> Tokenizer:
    tokenizer = fit_tokenizer(WordTokenizer(), Corpus(Split(), Split(), None, words=WORDS))
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer


TOKENIZER = _tokenizer()
# Documents that name themselves: the words of each are found nowhere else in its place.
texts_strategy = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9), min_size=1, max_size=17).map(
    lambda documents: [" ".join(words) for words in documents]
)


def numbered(count: int, max_length: int = 4) -> TokenisedSplit:
    """Documents 0, 1, 2, ...: each is its own number as its one token."""
    split = Split(tokens=np.arange(count, dtype=np.int32)[:, None], labels=np.arange(count, dtype=np.int32))
    return encode_split(split, IdTokenizer(Vocabulary(count + 1, 0, 0, None)), max_length)


def rows(batch: Batch) -> list[int]:
    return np.asarray(batch.target)[:, 0].tolist()


def fields(batch: Batch) -> Sequence[np.ndarray]:
    return tuple(map(np.asarray, (batch.prompt, batch.prompt_mask, batch.target, batch.target_mask, batch.label)))


# -------------------------------------------------------------------------------------------------------- encoding


@settings(deadline=None)
@given(texts_strategy, st.integers(1, 10))
def test_targets_are_the_texts_with_their_end_or_cut_and_counted(texts: list[str], max_length: int) -> None:
    split = encode_split(Split(texts), TOKENIZER, max_length)
    assert len(split) == len(texts)
    cut = 0
    for i, text in enumerate(texts):
        whole = [*TOKENIZER.encode(text), EOS]
        assert split.targets[i].tolist() == whole[:max_length]
        cut += len(whole) > max_length
    assert split.truncated_targets == cut
    assert split.targets.tokens.dtype == np.int32
    assert split.targets.offsets.dtype == np.int64
    assert split.prompts is None
    assert split.labels is None


@settings(deadline=None)
@given(texts_strategy, st.integers(1, 10))
def test_of_long_prompts_the_end_is_kept_and_they_are_counted(prompts: list[str], longest: int) -> None:
    split = encode_split(Split(["w1"] * len(prompts), prompts), TOKENIZER, 4, longest)
    assert split.prompts is not None
    for i, prompt in enumerate(prompts):
        assert split.prompts[i].tolist() == TOKENIZER.encode(prompt)[-longest:]
    assert split.truncated_prompts == sum(len(prompt.split()) > longest for prompt in prompts)


@settings(deadline=None)
@given(texts_strategy, st.integers(1, 10))
def test_of_long_prompts_the_start_is_kept_where_that_is_asked_for(prompts: list[str], longest: int) -> None:
    split = encode_split(Split(["w1"] * len(prompts), prompts), TOKENIZER, 4, longest, "start")
    assert split.prompts is not None
    for i, prompt in enumerate(prompts):
        assert split.prompts[i].tolist() == TOKENIZER.encode(prompt)[:longest]
    cut = sum(len(prompt.split()) > longest for prompt in prompts)
    assert split.truncated_prompts == cut
    assert (f"cut to the first {longest} tokens" in "".join(split.notes())) == (cut > 0)


def test_unknown_words_and_empty_documents_are_counted_and_labels_stay_with_their_documents() -> None:
    texts, prompts = ["w1 zebra", " ", "w2 w3 w4 w5", ""], ["yak", "gnu", "w1 w2 w3", "w1"]
    split = encode_split(Split(texts, prompts, np.array([7, 8, 9, 10], np.int32)), TOKENIZER, 3, 2)
    assert [t.tolist() for t in split.targets] == [[*TOKENIZER.encode("w1"), UNK, EOS], TOKENIZER.encode("w2 w3 w4")]
    assert split.labels is not None
    assert split.labels.tolist() == [7, 9]
    assert split.prompts is not None
    assert [p.tolist() for p in split.prompts] == [[UNK], TOKENIZER.encode("w2 w3")]
    assert split.notes() == (
        "1 document cut off at 3 tokens, 25.0% of all tokens lost",
        "1 prompt cut to the last 2 tokens",
        "2 unknown words",
        "2 documents without any token left out",
    )
    assert numbered(3).notes() == ()


def test_more_documents_than_are_encoded_at_once_stay_in_order() -> None:
    texts = [f"w{i % 50} w{i % 7}" for i in range(2 * encoding.ENCODE_AT_ONCE + 3)]
    split = encode_split(Split(texts, texts[::-1]), TOKENIZER, 9, 9)
    assert split.prompts is not None
    assert [TOKENIZER.decode(ids) for ids in split.targets] == texts
    assert [TOKENIZER.decode(ids) for ids in split.prompts] == texts[::-1]


def test_oracle_tokens_have_no_end_and_are_cut_to_length() -> None:
    tokens = np.arange(12, dtype=np.int32).reshape(3, 4)
    whole = encode_split(Split(tokens=tokens), IdTokenizer(Vocabulary(12, 0, 0, None)), 4)
    batch = next(evaluation_batches(whole, 3))
    np.testing.assert_array_equal(batch.target, tokens)
    assert np.asarray(batch.target_mask).all()
    np.testing.assert_array_equal(batch.prompt, [[0]] * 3)
    assert whole.truncated_targets == 0
    assert encode_split(Split(tokens=tokens), IdTokenizer(Vocabulary(12, 0, 0, None)), 3).truncated_targets == 3


# --------------------------------------------------------------------------------------------------------- shapes


@settings(deadline=None)
@given(texts_strategy, st.booleans(), st.integers(1, 10), st.integers(1, 6), st.integers(0, 9), st.data())
def test_masks_are_true_on_the_tokens_and_padding_is_on_the_outside(
    texts: list[str], conditional: bool, max_length: int, longest: int, position: int, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, 20))
    prompts = [" ".join(text.split()[1:]) for text in texts] if conditional else None
    split = encode_split(Split(texts, prompts), TOKENIZER, max_length, longest)
    batch = batch_at(split, 0, position, size)
    prompt, prompt_mask, target, target_mask, label = fields(batch)
    assert prompt.shape == prompt_mask.shape == (size, longest + 1 if conditional else 1)
    assert target.shape == target_mask.shape == (size, max_length)
    assert prompt.dtype == target.dtype == label.dtype == np.int32
    assert prompt_mask.dtype == target_mask.dtype == bool
    assert label.tolist() == [-1] * size

    whole = {tuple(split.targets[i]): i for i in range(len(split))}
    for b in range(size):
        length = target_mask[b].sum()
        assert target_mask[b].tolist() == [True] * length + [False] * (max_length - length)
        assert (target[b][length:] == PAD).all()
        assert tuple(target[b][:length]) in whole
        start = prompt.shape[1] - prompt_mask[b].sum()
        assert prompt_mask[b].tolist() == [False] * start + [True] * (prompt.shape[1] - start)
        assert (prompt[b][:start] == PAD).all()
        assert prompt[b][start] == BOS
        if split.prompts is not None:
            # The document is one of those with this target, and the prompt is that document's own.
            pairs = {(tuple(split.targets[i]), tuple(split.prompts[i])) for i in range(len(split))}
            assert (tuple(target[b][:length]), tuple(prompt[b][start + 1 :])) in pairs


@given(texts_strategy, st.booleans(), st.integers(1, 10))
def test_the_target_mask_covers_the_end_of_text_and_nothing_after_it(
    texts: list[str], conditional: bool, max_length: int
) -> None:
    split = encode_split(Split(texts, texts if conditional else None), TOKENIZER, max_length, 3)
    (batch,) = evaluation_batches(split, len(texts))
    for text, target, mask in zip(texts, np.asarray(batch.target), np.asarray(batch.target_mask), strict=True):
        words = len(text.split())
        assert mask.sum() == min(words + 1, max_length)
        assert (target == EOS).sum() == (words < max_length)
        if words < max_length:
            assert target[words] == EOS
            assert mask[words]
        assert not mask[words + 1 :].any()


@given(texts_strategy, st.booleans(), st.integers(1, 9), st.integers(1, 6), st.integers(1, 20))
def test_a_texts_row_is_the_same_in_any_company(
    texts: list[str], conditional: bool, max_length: int, longest: int, size: int
) -> None:
    split = encode_split(Split(texts, texts[::-1] if conditional else None), TOKENIZER, max_length, longest)
    alone = [fields(batch) for batch in evaluation_batches(split, 1)]
    together = [fields(batch) for batch in evaluation_batches(split, size)]
    for i, row in enumerate(alone):
        for one, many in zip(row, together[i // size], strict=True):
            np.testing.assert_array_equal(one[0], many[i % size])


def test_a_conditional_batch_by_hand() -> None:
    split = encode_split(Split(["w1 w2", "w3"], ["w4", "w5 w6 w7"], np.array([1, -1])), TOKENIZER, 3, 2)
    batch = next(evaluation_batches(split, 2))
    w1, w2, w3, w4, w6, w7 = TOKENIZER.encode("w1 w2 w3 w4 w6 w7")
    np.testing.assert_array_equal(batch.prompt, [[PAD, BOS, w4], [BOS, w6, w7]])
    np.testing.assert_array_equal(batch.prompt_mask, [[False, True, True], [True, True, True]])
    np.testing.assert_array_equal(batch.target, [[w1, w2, EOS], [w3, EOS, PAD]])
    np.testing.assert_array_equal(batch.target_mask, [[True, True, True], [True, True, False]])
    np.testing.assert_array_equal(batch.label, [1, -1])


def test_prompts_may_all_be_empty() -> None:
    split = encode_split(Split(["w1", "w2"], ["", ""]), TOKENIZER, 3, 2)
    np.testing.assert_array_equal(batch_at(split, 0, 0, 2).prompt, [[PAD, PAD, BOS]] * 2)


# ---------------------------------------------------------------------------------------------------- the stream


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(0, 2**63), st.integers(0, 1000))
def test_a_batch_is_a_function_of_seed_and_position(count: int, size: int, seed: int, position: int) -> None:
    split = numbered(count)
    first = batch_at(split, seed, position, size)
    for other in (0, position + 1, position + 7):  # whatever was made in between
        batch_at(split, seed, other, size)
    batches._permutation.cache_clear()
    again = batch_at(numbered(count), seed, position, size)
    for left, right in zip(fields(first), fields(again), strict=True):
        np.testing.assert_array_equal(left, right)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 70))
def test_every_epoch_holds_each_document_once(count: int, size: int) -> None:
    split = numbered(count)
    epochs = 3
    stream = [row for position in range(-(-epochs * count // size)) for row in rows(batch_at(split, 1, position, size))]
    for epoch in range(epochs):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


@given(st.integers(1, 25), st.integers(1, 5), st.integers(1, 4), st.integers(0, 12), st.integers(1, 4))
def test_epochs_stay_whole_over_processes_and_a_resume_on_others(
    count: int, each: int, processes: int, stopped: int, later: int
) -> None:
    """A run is stopped at a position and goes on, in a new program, on another number of processes."""
    size = each * processes * later
    stream: list[int] = []
    for position in range(-(-3 * count // size) + 1):
        if position == stopped:
            batches._permutation.cache_clear()
        over = processes if position < stopped else later
        stream += [row for k in range(over) for row in rows(batch_at(numbered(count), 5, position, size, k, over))]
    for epoch in range(3):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_each_epoch_and_each_seed_has_an_order_of_its_own() -> None:
    split = numbered(50)
    orders = [rows(batch_at(split, seed, epoch, 50)) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len(set(map(tuple, orders))) == 6
    assert list(range(50)) not in orders


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 8), st.integers(0, 50))
def test_the_shards_of_all_processes_are_the_global_batch(count: int, each: int, processes: int, position: int) -> None:
    split = numbered(count)
    whole = batch_at(split, 3, position, each * processes)
    shards = [batch_at(split, 3, position, each * processes, k, processes) for k in range(processes)]
    for name in ("prompt", "prompt_mask", "target", "target_mask", "label"):
        np.testing.assert_array_equal(np.concatenate([getattr(s, name) for s in shards]), getattr(whole, name))


def test_labels_go_with_their_documents() -> None:
    batch = batch_at(numbered(20), 0, 3, 16)
    assert rows(batch) == np.asarray(batch.label).tolist()


def test_a_batch_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no batch of 4 from 0 documents"):
        batch_at(encode_split(Split([]), TOKENIZER, 4), 0, 0, 4)
    with pytest.raises(ValueError, match="no batch of 4 from 5 documents for process 0 of 3"):
        batch_at(numbered(5), 0, 0, 4, 0, 3)
    with pytest.raises(ValueError, match="process 2 of 2"):
        batch_at(numbered(5), 0, 0, 4, 2, 2)


@given(st.integers(0, 20), st.integers(1, 9))
def test_evaluation_sees_every_document_once_in_order_at_one_shape(count: int, size: int) -> None:
    texts = [f"w{i} w{i + 1}" for i in range(count)]
    split = encode_split(Split(texts, texts, np.arange(count)), TOKENIZER, 4, 3)
    seen = []
    for batch in evaluation_batches(split, size):
        prompt, prompt_mask, target, target_mask, label = fields(batch)
        assert prompt.shape == (size, 4)
        assert target.shape == (size, 4)
        real = target_mask.any(axis=1)
        seen += [TOKENIZER.decode(ids) for ids in target[real]]
        assert label[real].tolist() == list(range(len(seen) - real.sum(), len(seen)))
        for b in np.flatnonzero(~real):
            assert prompt[b].tolist() == [PAD, PAD, PAD, BOS]
            assert prompt_mask[b].tolist() == [False, False, False, True]
            assert (target[b] == PAD).all()
            assert label[b] == -1
    assert seen == texts


# ------------------------------------------------------------------------------------------------------- prefetch


def may_hang(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test in a thread of its own, so that a deadlock is a failure and not a run without end."""

    @functools.wraps(test)
    def guarded(*args: Any, **keys: Any) -> None:
        with_error: list[BaseException] = []

        def run() -> None:
            try:
                test(*args, **keys)
            except BaseException as error:
                with_error.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(timeout=600)
        assert not thread.is_alive(), "deadlock"
        if with_error:
            raise with_error[0]

    return guarded


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetch"]


@may_hang
def test_prefetch_gives_the_batches_in_order_from_its_start() -> None:
    split = numbered(10)
    stream = prefetch(
        lambda position: batch_at(split, 0, position, 4), start=3, put=lambda b: b.replace(label=b.label + 100)
    )
    for position in range(3, 20):
        batch = next(stream)
        assert rows(batch) == rows(batch_at(split, 0, position, 4))
        assert np.asarray(batch.label).tolist() == [row + 100 for row in rows(batch)]
    stream.close()
    assert workers() == []


@pytest.mark.parametrize("depth", [1, 2, 3])
@may_hang
def test_prefetch_works_ahead_but_no_further_than_its_depth(depth: int) -> None:
    made: list[int] = []
    split = numbered(4)

    def make(position: int) -> Batch:
        made.append(position)
        return batch_at(split, 0, position, 2)

    stream = prefetch(make, 0, lambda batch: batch, depth)
    next(stream)
    ahead = list(range(1 + depth + 1))
    deadline = time.monotonic() + 600
    while made != ahead and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == ahead
    assert threading.current_thread() not in workers()
    assert len(workers()) == 1
    stream.close()
    assert workers() == []


@may_hang
def test_prefetch_ends_its_thread_when_the_iterator_is_dropped_or_never_used() -> None:
    split = numbered(4)
    stream = prefetch(lambda position: batch_at(split, 0, position, 2), 0, lambda batch: batch)
    assert workers() == []
    next(stream)
    assert len(workers()) == 1
    del stream
    assert workers() == []


@pytest.mark.parametrize("where", ["make", "put"])
@may_hang
def test_prefetch_raises_in_the_consumer_what_its_thread_raised_after_the_batches_before(where: str) -> None:
    split = numbered(4)
    handed = iter(range(100))

    def fail_at_two(i: int, place: str) -> None:
        if place == where and i == 2:
            raise OSError(f"{where} failed")

    def make(position: int) -> Batch:
        fail_at_two(position, "make")
        return batch_at(split, 0, position, 2)

    def put(batch: Batch) -> Batch:
        fail_at_two(next(handed), "put")
        return batch

    stream = prefetch(make, 0, put)
    assert rows(next(stream)) == rows(batch_at(split, 0, 0, 2))
    assert rows(next(stream)) == rows(batch_at(split, 0, 1, 2))
    with pytest.raises(OSError, match=f"{where} failed"):
        next(stream)
    assert workers() == []


@may_hang
def test_prefetch_needs_room_for_a_batch() -> None:
    with pytest.raises(ValueError, match="depth should be at least 1"):
        next(prefetch(lambda position: batch_at(numbered(4), 0, position, 2), 0, lambda batch: batch, depth=0))


# -------------------------------------------------------------------------------------------------------- subsets


def ragged(sequences: Sequence[Sequence[int]]) -> Ragged:
    tokens = np.array([token for sequence in sequences for token in sequence], np.int32)
    return Ragged(tokens, np.concatenate([[0], np.cumsum([len(s) for s in sequences], dtype=np.int64)]))


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 99), max_size=5), max_size=9), st.data())
def test_a_subset_has_the_chosen_sequences_in_the_order_of_the_choice(
    sequences: list[list[int]], data: st.DataObject
) -> None:
    places = st.lists(st.integers(0, len(sequences) - 1), max_size=12) if sequences else st.just([])
    chosen = data.draw(places, label="chosen, some perhaps twice")
    whole = ragged(sequences)
    subset = whole.subset(np.array(chosen, np.int64))
    assert len(subset) == len(chosen)
    assert [subset[i].tolist() for i in range(len(subset))] == [sequences[i] for i in chosen]
    assert len(subset.tokens) == subset.offsets[-1]
    assert subset.tokens.dtype == np.int32
    assert subset.offsets.dtype == np.int64
    assert [whole[i].tolist() for i in range(len(whole))] == sequences, "the whole stays as it was"


def test_a_subset_of_a_subset_is_that_of_the_chosen_of_the_chosen() -> None:
    whole = ragged([[1], [], [2, 3], [4, 5, 6]])
    twice = whole.subset(np.array([3, 1, 2])).subset(np.array([2, 0]))
    assert [ids.tolist() for ids in twice] == [[2, 3], [4, 5, 6]]


def test_a_split_of_some_documents_keeps_prompts_and_labels_with_them_and_the_counts_of_the_whole() -> None:
    texts, prompts = ["w1 w2 w3 w4", "w5", "w6 zebra", " "], ["w7", "w8 w9 w10", "", "w11"]
    whole = encode_split(Split(texts, prompts, np.array([4, -1, 6, 7], np.int32)), TOKENIZER, 3, 2)
    some = whole.subset(np.array([2, 0]))
    assert len(some) == 2
    assert some.prompts is not None
    assert some.labels is not None
    assert [TOKENIZER.decode(ids) for ids in some.targets] == ["w6 <unk>", "w1 w2 w3"]
    assert [TOKENIZER.decode(ids) for ids in some.prompts] == ["", "w7"]
    assert some.labels.tolist() == [6, 4]
    assert some.notes() == whole.notes()
    assert len(some.notes()) == 4
    assert (some.vocabulary, some.max_length, some.max_prompt_length) == (TOKENIZER.vocabulary, 3, 2)
    of_some, of_whole = next(evaluation_batches(some, 2)), next(evaluation_batches(whole, 3))
    for part, complete in zip(fields(of_some), fields(of_whole), strict=True):
        np.testing.assert_array_equal(part, complete[[2, 0]])


def test_a_split_without_prompts_and_labels_has_subsets_without_them() -> None:
    some = encode_split(Split(["w1", "w2", "w3"]), TOKENIZER, 3).subset(np.array([1]))
    assert some.prompts is None
    assert some.labels is None
    assert [TOKENIZER.decode(ids) for ids in some.targets] == ["w2"]
    assert len(some.subset(np.arange(0))) == 0
    assert list(evaluation_batches(some.subset(np.arange(0)), 4)) == []


def test_a_split_of_sequences_alone_has_their_batches() -> None:
    encoded = encode_split(Split(["w1 w2", "w3", "w4 w5"]), TOKENIZER, 3)
    split = unconditional_split(encoded.targets, TOKENIZER.vocabulary, 3)
    assert split.notes() == ()
    for alone, usual in zip(
        fields(next(evaluation_batches(split, 4))), fields(next(evaluation_batches(encoded, 4))), strict=True
    ):
        np.testing.assert_array_equal(alone, usual)
