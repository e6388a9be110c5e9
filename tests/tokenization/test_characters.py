"""A token a character or symbol: texts come back as they were, and a pattern or an alphabet that is none is refused."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.tokenizers import SPECIAL_TOKENS, CharacterTokenizer, Tokenizer, fit_tokenizer, load_tokenizer
from gptgan_jax.errors import UserError
from gptgan_jax.tokenization.token_texts import is_of_characters, is_of_words, token_texts

MOLECULES = ["CCO", "c1ccccc1Cl", "C[nH]Br", "N[C@@H](C)C(=O)O", "C%12CC%12", "BrCCl"]
SMILES = r"C|Cl|Br|\[[^\]]+\]|@@|%\d\d"


def fit(texts: list[str], **keys: Any) -> Tokenizer:
    tokenizer = fit_tokenizer(CharacterTokenizer(**keys), Corpus(Split(texts), Split(texts[:1]), None))
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer


def pieces(tokenizer: Tokenizer, text: str) -> list[str | None]:
    return [tokenizer.backend.id_to_token(i) for i in tokenizer.encode(text)]


@settings(max_examples=200, deadline=None)
@given(
    st.text(min_size=1).filter(lambda text: "<" not in text), st.sampled_from([None, r"\X", "[a-z]{2}|\\n ", SMILES])
)
def test_any_text_of_known_symbols_comes_back(text: str, symbols: str | None) -> None:
    tokenizer = fit([text, "a"], symbols=symbols)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.unk_id not in ids
    assert "".join(str(one) for one in pieces(tokenizer, text)) == text
    if symbols is None:
        assert pieces(tokenizer, text) == list(text)
    assert tokenizer.encode_batch([text]) == [ids]


def test_symbols_are_one_token_each_and_of_plain_ones_the_longest() -> None:
    tokenizer = fit(MOLECULES, symbols=SMILES)
    assert pieces(tokenizer, "CCl[nH]c1Br@@%12") == ["C", "Cl", "[nH]", "c", "1", "Br", "<unk>", "%12"]
    by_list = fit(MOLECULES, alphabet=("C", "Cl", "ClC", "O", "c", "1", "(", ")", "=", "N"))
    assert pieces(by_list, "CClCOCl") == ["C", "ClC", "O", "Cl"]


def test_a_grapheme_cluster_can_be_a_token() -> None:
    text = "e\u0301a👩‍👩‍👧\r\n"
    assert pieces(fit([text]), text) == list(text)
    assert pieces(fit([text], symbols=r"\X"), text) == ["e\u0301", "a", "👩‍👩‍👧", "\r\n"]


def test_characters_are_ranked_by_frequency_then_order_and_cut() -> None:
    def names(**keys: Any) -> list[str | None]:
        tokenizer = fit(["baab cc", "a"], **keys)
        return [tokenizer.backend.id_to_token(i) for i in range(tokenizer.vocabulary.size)]

    assert names() == [*SPECIAL_TOKENS, "a", "b", "c", " "]
    assert names(vocab_size=6) == [*SPECIAL_TOKENS, "a", "b"]
    assert names(min_count=2) == [*SPECIAL_TOKENS, "a", "b", "c"]
    assert names(alphabet="cab d") == [*SPECIAL_TOKENS, "c", "a", "b", " ", "d"]


def test_what_is_unknown_is_one_token_which_is_read_as_it_was_written() -> None:
    tokenizer = fit(["明月", "<eos>"])
    ids = tokenizer.encode("明日月")
    assert tokenizer.unk_id in ids
    assert tokenizer.decode(ids) == "明<unk>月"
    assert tokenizer.encode("明<unk>月") == ids
    assert tokenizer.unknown_words("明日月") == ["日"]
    # A text that spells a special token is its characters.
    assert tokenizer.decode(tokenizer.encode("<eos>")) == "<eos>"
    assert not set(tokenizer.encode("<eos>")) & {tokenizer.vocabulary.eos_id}
    by_symbols = fit(["<eos>a"], symbols="<[a-z]+>")
    assert by_symbols.encode("<eos>") == [by_symbols.unk_id]


def test_it_is_saved_and_its_tokens_stand_for_themselves(tmp_path) -> None:
    tokenizer = fit(MOLECULES, symbols=SMILES)
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert isinstance(again, Tokenizer)
    assert [again.encode(text) for text in MOLECULES] == [tokenizer.encode(text) for text in MOLECULES]
    assert [again.decode(again.encode(text)) for text in MOLECULES] == MOLECULES
    assert is_of_characters(again.backend)
    assert not is_of_words(again.backend)
    assert b"Cl" in token_texts(again.backend).values()  # no space before it
    assert again.own_unit == "character"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"symbols": "["}, r"tokenizer\.symbols: '\[' is no regular expression \(premature end of char-class\)"),
        ({"symbols": "a)|(b"}, r"tokenizer\.symbols: .* is no regular expression"),
        ({"symbols": "(?x)a # b"}, r"tokenizer\.symbols: .* is no regular expression"),
        ({"symbols": "C*"}, r"tokenizer\.symbols: 'C\*' matches the empty string"),
        ({"symbols": "(?=C)"}, r"tokenizer\.symbols: .* matches the empty string"),
        ({"symbols": "Cl|"}, r"tokenizer\.symbols: .* matches the empty string"),
        ({"alphabet": "CNOC"}, r"tokenizer\.alphabet: the symbol 'C' stands there 2 times; name it once"),
        ({"alphabet": ()}, r"tokenizer\.alphabet: it has no symbol"),
        ({"alphabet": ("C", "")}, r"tokenizer\.alphabet: it has no symbol, or an empty one"),
        ({"alphabet": ("C", "<pad>")}, r"tokenizer\.alphabet: '<pad>' is the name of a special token"),
        ({"alphabet": "ACGT"}, r"tokenizer\.alphabet: \d\d% of the training text is not in it \(such as 'c', "),
    ],
)
def test_a_pattern_or_an_alphabet_that_is_none_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        fit(MOLECULES, **keys)
    assert "\n" not in str(refusal.value)


def test_an_alphabet_leaves_no_tokens_to_choose() -> None:
    with pytest.raises(ValueError, match="alphabet says which tokens there are"):
        CharacterTokenizer(alphabet="ACGT", vocab_size=10)
