"""Packed rows hold every token once, and what a document costs does not depend on what stands beside it."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import build
from hypothesis import given
from hypothesis import strategies as st

from gptgan_jax import LstmConfig, TransformerConfig, Vocabulary, build_generator
from gptgan_jax.data.batches import evaluation_batches
from gptgan_jax.data.corpora import Split
from gptgan_jax.data.encoding import Ragged, TokenisedSplit, encode_split, unconditional_split
from gptgan_jax.data.packing import PackedSplit, best_fit, packed_batch_at, packed_split
from gptgan_jax.layers.attention import attend, mask_of, splash
from gptgan_jax.layers.dense import positions_of
from gptgan_jax.layers.lora import LoraConfig
from gptgan_jax.objectives.likelihood import token_log_probs
from gptgan_jax.tokenization.tokenizer import IdTokenizer
from gptgan_jax.types import Batch

VOCABULARY, T = Vocabulary(11), 8
PACKINGS = ("concatenate", "best_fit")


def ragged(documents: list[list[int]]) -> Ragged:
    return Ragged(
        np.array(list(itertools.chain(*documents)), np.int32), np.cumsum([0, *map(len, documents)]).astype(np.int64)
    )


def split_of(lengths: list[int], seed: int = 0) -> TokenisedSplit:
    """Texts of random tokens that end in EOS."""
    rng = np.random.default_rng(seed)
    documents = [[*rng.integers(3, VOCABULARY.size, length - 1).tolist(), VOCABULARY.eos_id] for length in lengths]
    return unconditional_split(ragged(documents), VOCABULARY, T)


def whole(packed: PackedSplit, epoch: int = 0) -> Batch:
    return packed.gather(np.arange(len(packed)), epoch)


SPLIT = split_of([3, 8, 5, 1, 2, 7, 4, 4, 6, 2])
LENGTHS = st.lists(st.integers(1, T), min_size=1, max_size=40)


@given(LENGTHS, st.sampled_from(PACKINGS), st.booleans(), st.integers(0, 50))
def test_in_every_epoch_each_token_stands_in_one_place_behind_the_one_before_it(
    lengths: list[int], packing: Any, across: bool, epoch: int
) -> None:
    split = split_of(lengths)
    batch = whole(packed_split(split, packing, across), epoch)
    assert batch.packed is not None
    mask = np.asarray(batch.target_mask)
    pairs = zip(np.asarray(batch.packed.inputs)[mask], np.asarray(batch.target)[mask], strict=True)
    documents = [split.targets[i].tolist() for i in range(len(split))]
    expected = [pair for text in documents for pair in zip([VOCABULARY.bos_id, *text], text, strict=False)]
    assert sorted((int(a), int(b)) for a, b in pairs) == sorted(expected)
    assert (np.asarray(batch.packed.segments)[~mask] == 0).all()
    assert (np.asarray(batch.packed.segments)[mask] > 0).all()


@given(LENGTHS)
def test_concatenated_rows_have_no_padding_but_at_the_end(lengths: list[int]) -> None:
    batch = whole(packed_split(split_of(lengths), "concatenate", False))
    flat = np.asarray(batch.target_mask).ravel()
    assert flat.sum() == sum(lengths)
    assert flat[: sum(lengths)].all()


def test_epochs_cut_concatenated_documents_at_different_places() -> None:
    stream = SPLIT.targets.tokens
    packed = packed_split(SPLIT, "concatenate", False)
    firsts = [np.asarray(whole(packed, epoch).target)[0] for epoch in range(T // 2)]
    starts = [[place for place in range(T) if first.tolist() == stream[place : place + T].tolist()] for first in firsts]
    assert starts[0] == [0]
    assert len({start for (start,) in starts}) == T // 2
    fitted = packed_split(SPLIT, "best_fit", False)
    jax.tree.map(np.testing.assert_array_equal, whole(fitted, 3), whole(fitted, 0))


@given(LENGTHS)
def test_best_fit_keeps_documents_whole_in_few_rows(lengths: list[int]) -> None:
    order, counts = best_fit(np.array(lengths), T)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    ends = np.cumsum(counts)
    sizes = [sum(lengths[i] for i in order[end - count : end]) for end, count in zip(ends, counts, strict=True)]
    assert max(sizes) <= T
    assert sum(size <= T // 2 for size in sizes) <= 1  # two half-empty rows would have been one


@pytest.mark.parametrize(
    ("lengths", "rows"), [([8, 8], 2), ([1] * 8, 1), ([5, 4, 3, 4], 2), ([6, 2, 5, 3, 7, 1], 3), ([8] * 3 + [1], 4)]
)
def test_best_fit_finds_the_fewest_rows_where_they_are_known(lengths: list[int], rows: int) -> None:
    assert len(best_fit(np.array(lengths), T)[1]) == rows


NETWORK = {"layers": 2, "width": 16, "heads": 2, "max_positions": 16}
NETWORKS = {
    "learned": TransformerConfig(**NETWORK),
    "rotary": TransformerConfig(**NETWORK, positions="rotary", kv_heads=1, norm="rms", tied_embeddings=False),
    "remat": TransformerConfig(**NETWORK, remat=True),
    "scanned": TransformerConfig(**NETWORK, scan_layers=True, positions="rotary"),
    "adapted": TransformerConfig(**NETWORK, lora=LoraConfig(rank=2)),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_packed_document_has_the_loss_and_the_gradient_of_the_document_alone(name: str, packing: Any) -> None:
    generator, params = build(NETWORKS[name], VOCABULARY)
    (alone,) = evaluation_batches(SPLIT, len(SPLIT))
    # Longer rows, in which few documents are cut in two where they stand one after another; those are left out.
    long = unconditional_split(SPLIT.targets, VOCABULARY, 14) if packing == "concatenate" else SPLIT
    kept = [i for i in range(len(SPLIT)) if packing == "best_fit" or not crosses(long, i)]
    rows = whole(packed_split(long, packing, False))

    def nats(params: Any, batch: Batch) -> jax.Array:
        return -token_log_probs(generator.logits(params, batch), batch.target) * batch.target_mask

    by_document = nats(params, alone).sum(axis=1)
    packed = packed_split(long, packing, False)
    flat = np.asarray(nats(params, rows))[np.asarray(rows.target_mask)]
    ends = np.asarray(packed.targets.offsets)
    order = best_fit(np.diff(SPLIT.targets.offsets), T)[0] if packing == "best_fit" else np.arange(len(SPLIT))
    for place, document in enumerate(order):
        if document in kept:
            found = flat[ends[place] : ends[place + 1]].sum()
            np.testing.assert_allclose(found, by_document[document], rtol=2e-5)
    if packing == "best_fit":
        weights = rows.target_mask / rows.target_mask.sum()
        assert generator.weighted_nats is not None
        gradient = jax.grad(lambda p: generator.weighted_nats(p, rows, weights))(params)
        expected = jax.grad(lambda p: nats(p, alone).sum() / alone.target_mask.sum())(params)
        for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-6)


def crosses(split: TokenisedSplit, document: int) -> bool:
    """Whether a document, of those that stand one after another, lies in two rows."""
    first, last = split.targets.offsets[document], split.targets.offsets[document + 1] - 1
    return bool(first // split.max_length != last // split.max_length)


def test_without_it_documents_of_a_row_see_each_other() -> None:
    generator, params = build(NETWORKS["learned"], VOCABULARY)
    apart, across = (whole(packed_split(SPLIT, "best_fit", across)) for across in (False, True))
    one, other = (generator.logits(params, batch) for batch in (apart, across))
    first = np.asarray(apart.packed.segments) == 1
    np.testing.assert_allclose(one[first], other[first], rtol=2e-4, atol=1e-5)
    later = np.asarray(apart.packed.segments) > 1
    assert float(jnp.abs(one - other)[later].max()) > 1e-2


@pytest.mark.parametrize("packing", PACKINGS)
def test_processes_share_the_batch_that_one_process_would_have(packing: Any) -> None:
    packed = packed_split(SPLIT, packing, False)
    for position in range(5):
        one = packed_batch_at(packed, 7, position, 4)
        parts = [packed_batch_at(packed, 7, position, 4, process, 2) for process in range(2)]
        joined = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        jax.tree.map(np.testing.assert_array_equal, joined, one)
    epoch = [packed_batch_at(packed, 7, position, 1) for position in range(len(packed))]
    rows = sorted(np.asarray(batch.target)[0].tolist() for batch in epoch)
    assert rows == sorted(np.asarray(whole(packed).target).tolist())


# ---- windows of long documents


def test_a_long_document_becomes_windows_in_which_each_token_stands_once() -> None:
    documents = np.arange(30).reshape(1, -1) % 7 + 3
    tokenizer = IdTokenizer(Vocabulary(11, eos_id=None))
    kept = encode_split(Split(tokens=documents), tokenizer, T, long_documents="split")
    assert len(kept) == 1  # sequences of ids are whole as they come
    assert kept.cut_share == pytest.approx(22 / 30)


def test_a_window_that_goes_on_a_document_is_read_behind_the_token_before_it() -> None:
    targets = ragged([[3, 4, 5], [6, 7], [8, 9]])
    split = TokenisedSplit(targets, None, None, VOCABULARY, 3, 1, before=np.array([-1, 5, -1], np.int32))
    (batch,) = evaluation_batches(split, 4)
    bos = VOCABULARY.bos_id
    assert np.asarray(batch.prompt).tolist() == [[bos], [5], [bos], [bos]]
    rows = whole(packed_split(split, "concatenate", False))
    assert np.asarray(rows.packed.inputs).tolist() == [[bos, 3, 4], [5, 6, bos], [8, 0, 0]]
    assert np.asarray(rows.packed.segments).tolist() == [[1, 1, 1], [1, 1, 2], [1, 0, 0]]
    fitted = whole(packed_split(split, "best_fit", False))
    assert sorted(np.asarray(fitted.packed.inputs).ravel().tolist()) == sorted([bos, 3, 4, 5, 6, bos, 8, 0, 0])
    assert split.subset(np.array([1])).before.tolist() == [5]


def test_a_window_beside_other_documents_is_a_segment_of_its_own() -> None:
    split = TokenisedSplit(
        ragged([[3, 4, 5], [6, 7]]), None, None, VOCABULARY, 5, 1, before=np.array([-1, 9], np.int32)
    )
    row = whole(packed_split(split, "best_fit", False)).packed
    assert np.asarray(row.segments).tolist() == [[1, 1, 1, 2, 2]]
    assert np.asarray(row.inputs).tolist() == [[VOCABULARY.bos_id, 3, 4, 9, 6]]


# ---- what reads segments


SEGMENTS = jnp.array([[1, 1, 1, 2, 2, 3, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]], jnp.int32)


def test_positions_count_within_each_segment() -> None:
    assert positions_of(SEGMENTS).tolist() == [[0, 1, 2, 0, 1, 0, 0, 1], list(range(8))]


def test_a_token_sees_those_before_it_in_its_segment() -> None:
    expected = [
        [[a == b and j <= i for j, b in enumerate(row)] for i, a in enumerate(row)] for row in SEGMENTS.tolist()
    ]
    assert mask_of(SEGMENTS, causal=True).tolist() == expected


def test_the_kernel_for_tpus_keeps_segments_apart() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    segments = jnp.array([[1] * 50 + [2] * 100 + [0] * 10], jnp.int32)
    queries = jax.random.normal(keys[0], (1, 160, 1, 2, 128))
    others = [jax.random.normal(key, (1, 1, 160, 128)) for key in keys[1:]]
    found = splash(queries, *others, segments, interpret=True)
    expected = attend(queries, *others, mask_of(segments, causal=True))
    np.testing.assert_allclose(found[:, :150], expected[:, :150], rtol=2e-4, atol=2e-5)


@pytest.mark.thorough
def test_an_lstm_and_an_encoder_refuse_packed_rows() -> None:
    rows = whole(packed_split(SPLIT, "best_fit", False))
    for config in (LstmConfig(embedding=4, hidden=4), TransformerConfig(**NETWORK, encoder_layers=1)):
        generator = build_generator(config, VOCABULARY)
        params = generator.init(jax.random.key(0), rows)
        with pytest.raises(ValueError, match="packed rows"):
            generator.logits(params, rows)
