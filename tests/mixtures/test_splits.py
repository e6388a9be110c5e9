"""Splits of several sources as one: nothing is lost, and held-out text stands in the proportions of the mixture."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from gptgan_jax.data.corpora import Corpus, Part, Split
from gptgan_jax.data.encoding import TokenisedSplit, encode_split
from gptgan_jax.data.packing import packed_split
from gptgan_jax.data.tokenizers import WordTokenizer, fit_tokenizer
from gptgan_jax.mixtures.plan import MOST_EPOCHS, plan_of, repeated, table
from gptgan_jax.mixtures.rows import MixedRows, TextRows
from gptgan_jax.mixtures.splits import in_proportion, joined, mixed, of_each, parts_of

RNG = random.Random(0)
TEXTS = [
    [" ".join(RNG.choices("abcdefgh", k=RNG.randint(1, most))) for _ in range(n)] for most, n in ((4, 90), (20, 40))
]
TOKENIZER: Any = fit_tokenizer(WordTokenizer(), Corpus(Split(TEXTS[0] + TEXTS[1]), Split(), None))
NAMES, WEIGHTS = ("short", "long"), (0.25, 0.75)


def encoded(texts: list[str], **more: Any) -> TokenisedSplit:
    return encode_split(Split(texts, **more), TOKENIZER, 8, max_prompt_length=4, long_documents="split")


def whole() -> TokenisedSplit:
    return joined([encoded(texts) for texts in TEXTS], NAMES, WEIGHTS)


def test_a_joined_split_has_every_document_of_each_source() -> None:
    split = whole()
    for part, texts in zip(parts_of(split), TEXTS, strict=True):
        alone = encoded(texts)
        assert part.targets.tokens.tolist() == alone.targets.tokens.tolist()
        assert part.targets.offsets.tolist() == alone.targets.offsets.tolist()
        before = np.full(len(alone), -1) if alone.before is None else alone.before
        assert part.before is not None
        assert part.before.tolist() == before.tolist()
    assert split.split_documents == sum(encoded(texts).split_documents for texts in TEXTS)


def test_the_share_that_was_cut_is_of_the_tokens_of_all() -> None:
    parts = [encode_split(Split(texts), TOKENIZER, 8, long_documents="cut") for texts in TEXTS]
    alone = encode_split(Split([*TEXTS[0], *TEXTS[1]]), TOKENIZER, 8, long_documents="cut")
    assert 0 < alone.cut_share < 1
    assert parts[0].cut_share != pytest.approx(alone.cut_share, abs=0.05)
    assert joined(parts, NAMES, WEIGHTS).cut_share == pytest.approx(alone.cut_share)


def test_prompts_of_all_sources_are_joined() -> None:
    asked = [["a b", "c"], ["d", "e f g"]]
    split = joined([encoded(["a", "b"], prompts=prompts) for prompts in asked], NAMES, WEIGHTS)
    assert split.prompts is not None
    assert split.prompt_texts(TOKENIZER) == ["a b", "c", "d", "e f g"]


def test_texts_are_drawn_by_the_weights_over_their_tokens() -> None:
    split = whole()
    assert split.sources is not None
    mixture = MixedRows([TextRows(part) for part in parts_of(split)], WEIGHTS)
    assert np.allclose(split.sources.shares, mixture.shares)
    means = [len(part.targets.tokens) / len(part) for part in parts_of(split)]
    tokens = np.array(split.sources.shares) * means
    assert np.allclose(tokens / tokens.sum(), WEIGHTS)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.05, 0.95)])
def test_the_beginning_of_held_out_text_is_a_sample_of_the_mixture(shares: tuple[float, float]) -> None:
    split = mixed(whole(), shares)
    assert split.sources is not None
    sample = in_proportion(split)
    assert sample.sources is not None
    for count in (10, 20, len(sample)):
        found = np.bincount(sample.sources.of[:count], minlength=2)
        assert np.abs(found - np.array(shares) * count).max() <= 1
    # No larger one is: a source is used up.
    used = np.bincount(sample.sources.of, minlength=2), np.bincount(split.sources.of, minlength=2)
    assert (used[1] - used[0]).min() <= 1
    documents = Counter(tuple(split.targets[i].tolist()) for i in range(len(split)))
    assert documents == Counter(tuple(whole().targets[i].tolist()) for i in range(len(whole())))


def test_while_training_as_much_is_looked_at_of_each_source() -> None:
    split = mixed(whole(), (0.9, 0.1))
    assert split.sources is not None
    for count in (4, 30, 100):
        chosen = of_each(split, count)
        assert chosen.sources is not None
        found = np.bincount(chosen.sources.of, minlength=2)
        assert found.sum() == count
        assert abs(found[0] - found[1]) <= 1
    everything = of_each(split, 10**6)
    assert everything.targets.tokens.tolist() == split.targets.tokens.tolist()
    sizes = np.bincount(split.sources.of)
    most = of_each(split, len(split) - 1)
    assert most.sources is not None
    assert np.bincount(most.sources.of).min() == sizes.min()


# ---- what a run reads


def parts() -> list[Part]:
    corpora = [Corpus(Split(texts), Split(texts), None) for texts in TEXTS]
    return [Part(*one) for one in zip(NAMES, WEIGHTS, corpora, strict=True)]


@pytest.mark.parametrize("packing", ["none", "concatenate", "best_fit"])
def test_the_plan_is_what_is_drawn(packing: Any) -> None:
    split, rows = whole(), 3000
    plan = plan_of(parts(), [split] * 3, (), rows, packing)
    parts_read: Any = [
        TextRows(part) if packing == "none" else packed_split(part, packing, False) for part in parts_of(split)
    ]
    mixture = MixedRows(parts_read, WEIGHTS)
    batch = mixture.batch_at(0, 0, rows)
    sources, *_ = mixture.rows_at(0, np.arange(rows))
    tokens = np.asarray(batch.target_mask).sum(axis=1)
    for source, one in enumerate(plan):
        assert one.drawn == pytest.approx(tokens[sources == source].sum(), rel=0.02)
        assert one.epochs == pytest.approx((sources == source).sum() / len(parts_read[source]), rel=0.02)
        assert one.documents == len(TEXTS[source])


def test_a_source_that_is_repeated_often_is_told_of() -> None:
    split = whole()
    tokens = [len(part.targets.tokens) for part in parts_of(split)]
    rows = int(1.05 * MOST_EPOCHS * tokens[1] / WEIGHTS[1] / 8)
    plan = plan_of(parts(), [split] * 3, (), rows, "concatenate")
    (line,) = repeated(plan)
    assert f"data.sources.long: likelihood training reads its {tokens[1]:,} tokens 4.2 times" in line
    assert repeated(plan_of(parts(), [split] * 3, (), int(rows / 1.1), "concatenate")) == []
    lines = table(plan)
    assert [line.split()[0] for line in lines] == ["source", "short", "long", "all"]
    assert lines[2].split()[-1] == f"{plan[1].epochs:.2f}"
