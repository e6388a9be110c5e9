"""Writing token by token: the very text that the sampler writes, in whole characters, compiled once."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chat_folders import write_folder

from gptgan_jax import LstmConfig, TransformerConfig, Vocabulary, build_generator
from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.tokenizers import BpeTokenizer, WordTokenizer, fit_tokenizer, read_tokenizer
from gptgan_jax.generation.streaming import TokenStream, WholeCharacters
from gptgan_jax.generation.texts import Drawing
from gptgan_jax.models.generators import Generator
from gptgan_jax.sampling.decoding import sample
from gptgan_jax.types import Params, unconditional_batch

VOCABULARY = Vocabulary(12)
CONFIGS = {
    "decoder": TransformerConfig(layers=1, width=8, heads=2, max_positions=32),
    "encoder-decoder": TransformerConfig(layers=1, encoder_layers=1, width=8, heads=2, max_positions=32),
    "lstm": LstmConfig(embedding=8, hidden=8),
}
LONGEST, LENGTH = 6, 9


def started(kind: str) -> tuple[Generator, Params]:
    generator = build_generator(CONFIGS[kind], VOCABULARY)
    params = generator.init(jax.random.key(1), unconditional_batch(jnp.zeros((1, LENGTH), jnp.int32), VOCABULARY))
    # Away from the nearly uniform distribution that networks begin with.
    return generator, jax.tree.map(lambda x: 4 * x, params)


def sampled(generator: Generator, params: Params, key: jax.Array, prompt: list[int], drawing: Drawing) -> list[int]:
    row = jnp.asarray([[VOCABULARY.bos_id, *prompt]], jnp.int32)
    written = sample(
        generator, params, key, row, jnp.ones_like(row, bool), LENGTH, drawing.temperature, **drawing.options()
    )
    return [int(i) for i in np.asarray(written.tokens)[np.asarray(written.mask)] if i != VOCABULARY.eos_id]


@pytest.mark.cases(1)
@pytest.mark.thorough
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(
    "drawing",
    [Drawing(0.0), pytest.param(Drawing(1.0), marks=pytest.mark.thorough), Drawing(0.8, 3, 0.9)],
    ids=str,
)
def test_it_writes_what_the_sampler_writes_whatever_the_prompts_length(kind: str, drawing: Drawing) -> None:
    generator, params = started(kind)
    stream = TokenStream(generator, params, drawing, LONGEST, LENGTH)
    texts = []
    for number, prompt in enumerate(([], [5], [4, 5, 6, 7, 8, 9])):
        key = jax.random.key(number)
        texts.append(list(stream(key, prompt)))
        assert texts[-1] == sampled(generator, params, key, prompt, drawing)
    assert any(texts)


def test_nothing_is_compiled_anew_for_another_prompt() -> None:
    generator, params = started("decoder")
    stream = TokenStream(generator, params, Drawing(), LONGEST, LENGTH)
    for prompt in ([], [5], [5, 6, 7]):
        list(stream(jax.random.key(0), prompt))
    assert stream._first._cache_size() == 1
    assert stream._following._cache_size() == 1


def test_a_prompt_that_is_too_long_is_refused() -> None:
    stream = TokenStream(*started("decoder"), Drawing(), LONGEST, LENGTH)
    with pytest.raises(ValueError, match="a prompt of 7 tokens; the longest has 6"):
        next(stream(jax.random.key(0), [5] * 7))


def streamed(tokenizer, ids: list[int]) -> list[str]:
    characters = WholeCharacters(tokenizer)
    return [*(characters.add(i) for i in ids), characters.rest()]


def test_pieces_are_whole_characters_and_make_the_whole_text() -> None:
    """Without merges every byte of a character is a token of its own."""
    tokenizer = fit_tokenizer(BpeTokenizer(vocab_size=260), Corpus(Split(["x"]), Split(["x"]), None))
    text = "naïve 漢字 🙂 end"
    pieces = streamed(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert pieces.count("") > 5


def test_bytes_that_never_become_a_character_are_shown_at_the_end() -> None:
    tokenizer = fit_tokenizer(BpeTokenizer(vocab_size=260), Corpus(Split(["x"]), Split(["x"]), None))
    ids = tokenizer.encode("a漢")[:-1]
    pieces = streamed(tokenizer, ids)
    assert pieces[:-1] == ["a", "", ""]
    assert "".join(pieces) == tokenizer.decode(ids)


@pytest.mark.parametrize("kind", ["first", "legacy"])
def test_characters_of_several_bytes_are_shown_once(kind: str, tmp_path: Path) -> None:
    """Where each byte of a character is a token, as in Llama 2, and no space is between characters."""
    tokenizer = read_tokenizer(write_folder(tmp_path, kind) / "tokenizer.json")
    text = "hello हूँ🙂👩🏽\u200d🚒 ไม่มี"
    pieces = streamed(tokenizer, tokenizer.encode(text))
    assert "".join(pieces) == text
    assert sum(map(bool, pieces)) > 12


def test_what_follows_a_change_of_what_was_shown_is_shown() -> None:
    spelt = {1: "don 't", 2: "don't", 3: "don't go"}
    tokenizer: Any = SimpleNamespace(decode=lambda ids: spelt[len(ids)])
    characters = WholeCharacters(tokenizer)
    assert [characters.add(0) for _ in range(3)] == ["don 't", "", " go"]
    assert characters.text == "don't go"


def test_words_come_with_the_spaces_between_them() -> None:
    tokenizer = fit_tokenizer(WordTokenizer(), Corpus(Split(["two cats run"]), Split(["x"]), None))
    assert streamed(tokenizer, tokenizer.encode("two cats run")) == ["two", " cats", " run", ""]
