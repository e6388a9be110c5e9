"""The pieces of a text, one a token, are together the text."""

import pytest
import tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers

from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.tokenizers import BpeTokenizer, WordTokenizer, fit_tokenizer
from gptgan_jax.tokenization.pieces import Piece, piece_reader, whole_words
from gptgan_jax.tokenization.special_tokens import SpecialTokens
from gptgan_jax.tokenization.tokenizer import IdTokenizer, Tokenizer
from gptgan_jax.types import Vocabulary

TEXTS = ["the cat sat", "дом 漢字 🙂 שלום", "naïve 👩‍👩‍👧", "<b>bold</b>"]


def corpus() -> Corpus:
    return Corpus(train=Split(TEXTS * 3), valid=Split(TEXTS), test=None)


@pytest.mark.parametrize("text", [*TEXTS, " spaced  out ", "new\nline"])
def test_pieces_of_bytes_are_together_the_text_also_where_a_token_is_a_part_of_a_character(text: str) -> None:
    tokenizer = fit_tokenizer(BpeTokenizer(vocab_size=270), corpus())
    ids = tokenizer.ended(tokenizer.encode(text))
    *pieces, end = piece_reader(tokenizer)(ids)
    assert len(pieces) + 1 == len(ids)
    assert "".join(piece.text for piece in pieces) == text
    assert not any(piece.special for piece in pieces)
    assert end == Piece("<eos>", True)


def test_half_a_character_at_the_end_is_shown_as_one_that_is_missing() -> None:
    tokenizer = fit_tokenizer(BpeTokenizer(vocab_size=270), corpus())
    ids = tokenizer.encode("a漢")
    assert "".join(piece.text for piece in piece_reader(tokenizer)(ids[:-1])) == "a\N{REPLACEMENT CHARACTER}"


def test_pieces_of_words_have_the_space_before_them_and_unknown_ones_their_token() -> None:
    tokenizer = fit_tokenizer(WordTokenizer(), corpus())
    assert whole_words(tokenizer)
    read = piece_reader(tokenizer)
    assert [piece.text for piece in read(tokenizer.encode("the cat sat"))] == ["the", " cat", " sat"]
    assert [tuple(piece) for piece in read(tokenizer.encode("dogs sat"))] == [("<unk>", True), (" sat", False)]


def test_of_token_ids_they_are_the_numbers() -> None:
    tokenizer = IdTokenizer(Vocabulary(9, 0, 0, None))
    assert whole_words(tokenizer)
    assert [piece.text for piece in piece_reader(tokenizer)([3, 8])] == ["3", " 8"]


def test_of_sentencepiece_the_space_before_the_text_is_none_of_it() -> None:
    words = {"<s>": 0, "</s>": 1, "<unk>": 2, "▁the": 3, "▁c": 4, "at": 5}
    backend = Backend(models.WordLevel(words, unk_token="<unk>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in ("<s>", "</s>")])
    special = SpecialTokens.__new__(SpecialTokens)
    object.__setattr__(special, "unk", 2)
    tokenizer = Tokenizer(backend, Vocabulary(6, 1, 0, 1), special)
    assert [piece.text for piece in piece_reader(tokenizer)([3, 4, 5, 1])] == ["the", " c", "at", "</s>"]
