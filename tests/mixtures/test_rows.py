"""Batches of a mixture: tokens come by the weights, rows are those of the sources, hosts and resumes change nothing."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.encoding import encode_split
from gptgan_jax.data.packing import packed_split, stored_rows
from gptgan_jax.data.store import build_store
from gptgan_jax.data.tokenizers import WordTokenizer, fit_tokenizer
from gptgan_jax.mixtures.rows import MixedRows, TextRows
from gptgan_jax.types import Batch

LENGTH, WEIGHTS = 16, (0.6, 0.3, 0.1)
# Sources whose words and whose lengths differ, so that a token tells its source.
LENGTHS, COUNTS = ((1, 4), (3, 12), (8, 30)), (150, 90, 40)
NAMES = "abc"
WORDS = [[f"{name}{i}" for i in range(20)] for name in NAMES]


def texts_of(source: int) -> list[str]:
    rng = random.Random(source)
    return [" ".join(rng.choices(WORDS[source], k=rng.randint(*LENGTHS[source]))) for _ in range(COUNTS[source])]


TEXTS = [texts_of(source) for source in range(3)]
ALL = Corpus(Split([text for texts in TEXTS for text in texts]), Split(), None)
TOKENIZER: Any = fit_tokenizer(WordTokenizer(), ALL)
# The source of each token id; -1 for the end of a text, which all have.
SOURCE = np.full(TOKENIZER.vocabulary.size, -1)
for source, words in enumerate(WORDS):
    for word in words:
        if (ids := TOKENIZER.encode(word)) and not TOKENIZER.unknown_words(word):
            SOURCE[ids[0]] = source


def parts_of(kind: str, folder: Path) -> list[Any]:
    splits = [encode_split(Split(texts), TOKENIZER, LENGTH, long_documents="split") for texts in TEXTS]
    match kind:
        case "none":
            return [TextRows(split) for split in splits]
        case "store" | "best_fit of a store":
            stores = [
                build_store(folder / name, lambda texts=texts: texts, TOKENIZER, "f", [].append)
                for name, texts in zip(NAMES, TEXTS, strict=True)
            ]
            how = "concatenate" if kind == "store" else "best_fit"
            return [stored_rows(store, how, TOKENIZER.vocabulary, LENGTH, False, [].append) for store in stores]
    return [packed_split(split, kind, False) for split in splits]  # type: ignore[arg-type]


@pytest.fixture(params=["none", "concatenate", "best_fit", "store", "best_fit of a store"])
def mixture(request: pytest.FixtureRequest, tmp_path: Path) -> MixedRows:
    return MixedRows(parts_of(request.param, tmp_path), WEIGHTS)


def sources_in(batch: Batch) -> np.ndarray:
    """The source of each row, by its tokens."""
    target, mask = np.asarray(batch.target), np.asarray(batch.target_mask)
    of = np.where(mask, SOURCE[target], -1)
    first = of.max(axis=1)
    assert ((of == -1) | (of == first[:, None])).all(), "a row is of one source"
    return first


def test_tokens_come_by_the_weights(mixture: MixedRows) -> None:
    tokens, rows = np.zeros(3), 0
    for position in range(100):
        batch = mixture.batch_at(5, position, 48)
        sources = sources_in(batch)
        np.add.at(tokens, sources, np.asarray(batch.target_mask).sum(axis=1))
        rows += len(sources)
    assert np.abs(tokens / tokens.sum() - WEIGHTS).max() < 0.01
    assert tokens.sum() / rows == pytest.approx(mixture.tokens_a_row, rel=0.01)


def test_each_host_reads_its_own_rows_of_the_batch(mixture: MixedRows) -> None:
    for position in (0, 3, 1000):
        whole = mixture.batch_at(5, position, 24)
        for hosts in (2, 3, 8):
            parts = [mixture.batch_at(5, position, 24, host, hosts) for host in range(hosts)]
            together = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
            assert jax.tree.all(jax.tree.map(np.array_equal, together, whole))
    with pytest.raises(ValueError, match="process 0 of 5"):
        mixture.batch_at(5, 0, 24, 0, 5)


def test_the_batch_at_a_position_does_not_depend_on_what_was_read_before(mixture: MixedRows) -> None:
    going = [mixture.batch_at(2, position, 16) for position in range(40)]
    resumed = MixedRows(mixture.parts, mixture.weights)
    for position in (39, 0, 17):
        assert jax.tree.all(jax.tree.map(np.array_equal, resumed.batch_at(2, position, 16), going[position]))
    # Rows are the same in batches of another size.
    larger = mixture.batch_at(2, 1, 32)
    assert np.array_equal(larger.target, np.concatenate([going[2].target, going[3].target]))


def test_no_row_comes_again_before_all_of_its_source_have_come(mixture: MixedRows) -> None:
    for seed in (0, 9):
        sources, rows, _ = mixture.rows_at(seed, np.arange(6400))
        orders = []
        for source, part in enumerate(mixture.parts):
            # By the numbers within the source the stream is one permutation after another.
            numbers = mixture._order.at(seed, np.arange(6400))[1][sources == source]
            ours = rows[sources == source][np.argsort(numbers)]
            for epoch in range(len(ours) // len(part)):
                one = ours[epoch * len(part) : (epoch + 1) * len(part)]
                assert sorted(one.tolist()) == list(range(len(part)))
                orders.append(tuple(one.tolist()))
        assert len(set(orders)) == len(orders), "each epoch has an order of its own"


def test_rows_are_those_of_the_source_alone(mixture: MixedRows) -> None:
    batch = mixture.batch_at(1, 4, 32)
    sources, rows, epochs = mixture.rows_at(1, 4 * 32 + np.arange(32))
    assert sources_in(batch).tolist() == sources.tolist()
    for place, (source, row, epoch) in enumerate(zip(sources, rows, epochs, strict=True)):
        alone = mixture.parts[source].gather(np.array([row]), epoch)
        assert jax.tree.all(jax.tree.map(lambda a, b, at=place: np.array_equal(a[0], b[at]), alone, batch))


def test_a_small_source_that_is_gone_through_within_a_batch(tmp_path: Path) -> None:
    split = encode_split(Split(["a1 a2", "a3"]), TOKENIZER, LENGTH)
    other = encode_split(Split(TEXTS[1]), TOKENIZER, LENGTH, long_documents="split")
    mixture = MixedRows([TextRows(split), TextRows(other)], (0.5, 0.5))
    sources, rows, _ = mixture.rows_at(0, np.arange(640))
    counts = Counter(rows[sources == 0].tolist())
    assert abs(counts[0] - counts[1]) <= 1


def test_sources_of_one_size_have_orders_of_their_own() -> None:
    split = encode_split(Split(TEXTS[1][:40]), TOKENIZER, LENGTH)
    mixture = MixedRows([TextRows(split), TextRows(split)], (0.5, 0.5))
    sources, rows, _ = mixture.rows_at(0, np.arange(2 * len(split)))
    numbers = mixture._order.at(0, np.arange(2 * len(split)))[1]
    first, second = (rows[sources == i][np.argsort(numbers[sources == i])] for i in range(2))
    assert first[:30].tolist() != second[:30].tolist()
