"""Texts that are token ids: what is one, what isn't, and the tokenizer whose token i is the number i."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.tokenizers import CharacterTokenizer, IdsTokenizer, fit_tokenizer, load_tokenizer, read_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.tokenization.token_ids import MOST_IDS, TokenIds, parse_ids, unknown_ids
from gptgan_jax.tokenization.tokenizer import EndedIdTokenizer
from gptgan_jax.types import Vocabulary


def fit(texts: list[str], **keys: Any) -> EndedIdTokenizer:
    tokenizer = fit_tokenizer(IdsTokenizer(**keys), Corpus(Split(texts), Split(texts[:1]), None))
    assert isinstance(tokenizer, EndedIdTokenizer)
    return tokenizer


@given(st.lists(st.integers(0, 40)))
def test_token_i_is_the_number_i(ids: list[int]) -> None:
    tokenizer = fit(["40 1"])
    text = " ".join(map(str, ids))
    assert tokenizer.encode(text) == ids == tokenizer.backend.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text


def test_the_special_tokens_come_after_the_numbers(tmp_path: Path) -> None:
    tokenizer = fit(["7 3", "0"])
    assert tokenizer.vocabulary == Vocabulary(11, pad_id=8, bos_id=9, eos_id=10)
    assert tokenizer.unk_id is None
    assert tokenizer.ended([7]) == [7, 10]
    assert tokenizer.decode([7, 8, 3, 10, 0]) == "7 3"
    assert fit(["7 3"], vocab_size=100).vocabulary.size == 103
    tokenizer.save(tmp_path)
    for again in (load_tokenizer(tmp_path), read_tokenizer(tmp_path / "tokenizer.json")):
        assert isinstance(again, EndedIdTokenizer)
        assert again.vocabulary == tokenizer.vocabulary
        assert again.numbers == 8
        assert again.own_unit == "word"


@pytest.mark.parametrize(
    ("text", "word", "message"),
    [
        ("1 x 3", "x", "ids are whole numbers from 0, between spaces"),
        ("1 -2", "-2", "ids are whole numbers"),
        ("1.5", "1.5", "ids are whole numbers"),
        ("1e3 2", "1e3", "ids are whole numbers"),
        ("1,2", "1,2", "ids are whole numbers"),
        ("+3", "+3", "ids are whole numbers"),
        ("1_0", "1_0", "ids are whole numbers"),
        ("٣", "٣", "ids are whole numbers"),
        ("1 5 9", "5", "this text is made of 0 to 4"),
        ("1 " + "9" * 5000, "9" * 5000, "this text is made of 0 to 4"),
    ],
)
def test_what_is_no_id_is_refused(text: str, word: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        parse_ids(text, 5)
    assert len(str(refusal.value)) < 150
    assert word in unknown_ids(text, 5)
    assert refusal.value.word in unknown_ids(text, 5)


def test_numbers_may_begin_with_noughts_and_stand_between_any_white_space() -> None:
    assert parse_ids(" 007\t4\n0 ", 8) == [7, 4, 0]
    assert parse_ids("", 8) == []
    with pytest.raises(UserError, match="no token id"):
        parse_ids(str(MOST_IDS))


def test_a_list_of_numbers_is_no_text_to_a_tokenizer_of_text() -> None:
    tokenizer = fit_tokenizer(CharacterTokenizer(), Corpus(Split(["12 7"]), Split(), None))
    assert tokenizer.decode(tokenizer.encode("12 7")) == "12 7"
    listed: Any = TokenIds("12 7")
    ways: list[Callable[[], object]] = [
        lambda: tokenizer.encode(listed),
        lambda: tokenizer.encode_batch(["12 7", listed]),
        lambda: tokenizer.encode_prompts([listed]),
        lambda: tokenizer.encode_pairs([listed], ["12 7"]),
        lambda: tokenizer.encode_pairs(["12 7"], [listed]),
    ]
    for way in ways:
        with pytest.raises(UserError, match=r"'12 7', which is no text; .* set tokenizer.kind to ids"):
            way()
