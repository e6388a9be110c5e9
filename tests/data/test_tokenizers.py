"""Text to ids and back: what round-trips, what is special, what is unknown, and what a run folder keeps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers as hf
from hypothesis import given, settings
from hypothesis import strategies as st

from gptgan_jax.data.config import GrammarData
from gptgan_jax.data.corpora import Corpus, Split, load_corpus
from gptgan_jax.data.tokenizers import (
    SPECIAL_TOKENS,
    BpeTokenizer,
    FileTokenizer,
    IdTokenizer,
    Tokenizer,
    WordTokenizer,
    fit_tokenizer,
    load_tokenizer,
)
from gptgan_jax.errors import UserError
from gptgan_jax.sources.oracle import Oracle, init_oracle
from gptgan_jax.types import Vocabulary

TEXTS = ["a man walks", "a dog walks", "A cat sleeps .", "a <unk> man <eos> sits"]


def corpus_of(texts: list[str], prompts: list[str] | None = None, words: tuple[str, ...] | None = None) -> Corpus:
    return Corpus(Split(texts, prompts), Split(["held out valid"]), Split(["held out test"]), words=words)


def fit(config: Any, corpus: Corpus | None = None) -> Tokenizer:
    tokenizer = fit_tokenizer(config, corpus or corpus_of(TEXTS))
    assert isinstance(tokenizer, Tokenizer)
    return tokenizer


WORDS = fit(WordTokenizer())
BPE = fit(BpeTokenizer(vocab_size=300))


def names(tokenizer: Tokenizer) -> list[str | None]:
    return [tokenizer.backend.id_to_token(i) for i in range(tokenizer.vocabulary.size)]


@pytest.mark.parametrize("tokenizer", [WORDS, BPE])
def test_own_tokenizers_have_their_special_tokens_first(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocabulary == Vocabulary(len(names(tokenizer)), pad_id=0, bos_id=1, eos_id=2)
    assert tokenizer.unk_id == 3
    assert names(tokenizer)[:4] == list(SPECIAL_TOKENS)


# ------------------------------------------------------------------------------------------------------ word-level


def test_words_are_ranked_by_frequency_then_alphabet() -> None:
    assert names(WORDS)[4:] == ["a", "man", "walks", ".", "A", "cat", "dog", "sits", "sleeps"]
    assert names(fit(WordTokenizer(vocab_size=6)))[4:] == ["a", "man"]
    assert names(fit(WordTokenizer(min_count=2)))[4:] == ["a", "man", "walks"]
    assert "A" not in names(fit(WordTokenizer(lowercase=True)))
    assert fit(WordTokenizer(lowercase=True)).encode("A CAT") == fit(WordTokenizer(lowercase=True)).encode("a cat")


@pytest.mark.parametrize("text", ["ΛΟΓΟΣ ΣΟΦΟΣ", "Λόγος", "A CAT"])
def test_the_case_of_a_letter_is_the_same_whether_or_not_a_reader_looks_at_its_neighbours(text: str) -> None:
    """Like JavaScript, Python's `str.lower` writes another sigma at the end of a word; tokenizers doesn't."""
    backend = fit(WordTokenizer(lowercase=True)).backend
    seen = text
    for step in json.loads(backend.to_str())["normalizer"]["normalizers"]:
        seen = seen.lower() if step["type"] == "Lowercase" else seen.replace(step["pattern"]["String"], step["content"])
    assert backend.normalizer.normalize_str(text) == seen


def test_only_training_text_and_its_prompts_are_fitted() -> None:
    known = names(fit(WordTokenizer(), corpus_of(["a man"], ["who walks"])))
    assert known[4:] == ["a", "man", "walks", "who"]


@given(st.lists(st.sampled_from([w for w in names(WORDS)[4:] if w]), max_size=8), st.sampled_from([" ", "  ", " \t\n"]))
def test_known_words_round_trip_with_their_whitespace_normalised(words: list[str], space: str) -> None:
    ids = WORDS.encode(space.join(words) + space)
    assert len(ids) == len(words)
    assert WORDS.decode(ids) == " ".join(words)
    assert WORDS.unknown_words(" ".join(words)) == []


def test_unknown_words_are_named_and_shown_as_unknown() -> None:
    text = "a zebra walks, <eos> dog <pad>"
    assert WORDS.unknown_words(text) == ["zebra", "walks,", "<eos>", "<pad>"]
    assert WORDS.decode(WORDS.encode(text)) == "a <unk> <unk> <unk> dog <unk>"


@given(st.text())
def test_no_text_encodes_to_a_special_token(text: str) -> None:
    for tokenizer in (WORDS, BPE):
        for marked in (text, f"<eos>{text}", f"{text} <eos> <pad>{text}<bos> </s>"):
            assert {0, 1, 2}.isdisjoint(tokenizer.encode(marked))


def test_a_known_lexicon_is_the_vocabulary_so_that_nothing_of_the_grammar_is_unknown() -> None:
    corpus = load_corpus(GrammarData(train_size=1, valid_size=300, test_size=1))
    assert corpus.words is not None
    tokenizer = fit(WordTokenizer(min_count=5), corpus)
    assert set(names(tokenizer)) == {*SPECIAL_TOKENS, *corpus.words}
    assert not any(tokenizer.unknown_words(text) for text in corpus.valid.texts)
    assert [tokenizer.decode(tokenizer.encode(text)) for text in corpus.valid.texts] == list(corpus.valid.texts)
    with pytest.raises(UserError, match=r"tokenizer\.vocab_size: 50 is too small for this corpus, whose lexicon makes"):
        fit(WordTokenizer(vocab_size=50), corpus)


# ------------------------------------------------------------------------------------------------- byte-level BPE


@settings(max_examples=200)
@given(st.text())
def test_bpe_round_trips_any_text(text: str) -> None:
    assert BPE.decode(BPE.encode(text)) == text
    assert BPE.unknown_words(text) == []


@pytest.mark.parametrize("text", ["<eos> a <pad><unk>", " A\u00a0b\u2028\r\n\x00 ", "日本語 🙂 e\u0301", "it 's ."])
def test_bpe_round_trips_what_is_awkward(text: str) -> None:
    assert BPE.decode(BPE.encode(text)) == text


def test_bpe_learns_its_merges_from_training_text_alone_and_always_the_same() -> None:
    tokenizer = fit(BpeTokenizer(vocab_size=280), corpus_of(["walks walks walks"] * 5))
    assert tokenizer.vocabulary.size <= 280
    assert len(tokenizer.encode("walks")) == 1
    assert len(tokenizer.encode("held")) == 4
    again = fit(BpeTokenizer(vocab_size=280), corpus_of(["walks walks walks"] * 5))
    assert again.backend.to_str() == tokenizer.backend.to_str()


# -------------------------------------------------------------------------------------------------- decode, batches


@pytest.mark.parametrize("tokenizer", [WORDS, BPE])
def test_decoding_stops_at_the_end_of_text_and_drops_special_tokens(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("a man walks")
    assert tokenizer.decode([1, *ids[:1], 0, *ids[1:], 2, *ids]) == "a man walks"
    assert tokenizer.decode(np.array([*ids, 2, 0], np.int32)) == "a man walks"
    assert tokenizer.decode([2, *ids]) == ""


@pytest.mark.parametrize("tokenizer", [WORDS, BPE])
def test_a_batch_encodes_as_its_texts_do(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_batch([*TEXTS, ""]) == [tokenizer.encode(text) for text in [*TEXTS, ""]]


# ---------------------------------------------------------------------------------------------- files, run folders


@pytest.mark.parametrize("tokenizer", [WORDS, BPE])
def test_a_saved_tokenizer_loads_as_it_was(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "run")
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["tokenizer.json", "tokenizer_config.json"]
    loaded = load_tokenizer(tmp_path / "run")
    assert isinstance(loaded, Tokenizer)
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.unk_id == tokenizer.unk_id
    for text in [*TEXTS, "<eos> zebra"]:
        assert loaded.encode(text) == tokenizer.encode(text)
        assert loaded.decode(loaded.encode(text)) == tokenizer.decode(tokenizer.encode(text))
    with pytest.raises(UserError, match=r"none/tokenizer\.json: no such file"):
        load_tokenizer(tmp_path / "none")


def tokenizer_file(folder: Path, tokens: list[str], special: list[str], **config: Any) -> FileTokenizer:
    backend = hf.Tokenizer(hf.models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token="[UNK]"))
    backend.pre_tokenizer = hf.pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(special)
    backend.enable_truncation(2)
    backend.enable_padding(length=9)
    backend.save(str(folder / "tokenizer.json"))
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return FileTokenizer(path=str(folder / "tokenizer.json"))


@pytest.mark.parametrize(
    ("special", "config", "expected"),
    [
        (["<s>", "</s>", "<pad>"], {}, (3 + 2, 3 + 0, 3 + 1)),  # Llama
        (["[PAD]", "[CLS]", "[SEP]"], {}, (3 + 0, 3 + 1, 3 + 2)),  # BERT
        (["<|endoftext|>"], {}, (3, 3, 3)),  # GPT-2
        (["<|endoftext|>", "<|im_end|>"], {}, (3, 3, 3)),
        (["<|endoftext|>", "<|im_end|>"], {"eos_token": "<|im_end|>", "bos_token": None}, (4, 4, 4)),
        (["<|endoftext|>", "<stop>"], {"eos_token": {"content": "<stop>"}, "pad_token": "<|endoftext|>"}, (3, 4, 4)),
    ],
)
def test_a_tokenizer_file_brings_its_own_special_tokens(
    tmp_path: Path, special: list[str], config: dict, expected: tuple[int, int, int]
) -> None:
    tokenizer = fit(tokenizer_file(tmp_path, ["[UNK]", "a", "man", *special], special, **config))
    v = tokenizer.vocabulary
    assert (v.pad_id, v.bos_id, v.eos_id) == expected
    assert v.size == 3 + len(special)
    # Neither cut nor padded, and the unknown has its id; a special token's name in a text is unknown.
    assert tokenizer.encode(f"a man a zebra {special[0]}") == [1, 2, 1, 0, 0]
    tokenizer.save(tmp_path / "run")
    loaded = load_tokenizer(tmp_path / "run")
    assert loaded.vocabulary == v


def test_the_unknown_is_what_the_model_writes_for_it_whatever_the_files_name(tmp_path: Path) -> None:
    config = {"eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    tokenizer = fit(tokenizer_file(tmp_path, ["[UNK]", "a", "<|endoftext|>"], ["<|endoftext|>"], **config))
    assert tokenizer.unk_id == 0


def test_bad_tokenizer_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.json: no such file; tokenizer\.path should name a tokenizer\.json"):
        fit(FileTokenizer(path=str(tmp_path / "no.json")))
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    with pytest.raises(UserError, match=r"broken\.json: not a tokenizer\.json of Hugging Face tokenizers"):
        fit(FileTokenizer(path=str(broken)))
    endless = tokenizer_file(tmp_path, ["[UNK]", "a"], [])
    with pytest.raises(UserError, match=r"tokenizer\.json: no end-of-text token; one of <eos>, .*eos_token"):
        fit(endless)
    (tmp_path / "tokenizer_config.json").write_text("[")
    with pytest.raises(UserError, match=r"tokenizer_config\.json: not a JSON file"):
        fit(endless)


# ------------------------------------------------------------------------------------------------------ oracle ids


def test_the_oracle_has_ids_for_words_and_no_end(tmp_path: Path) -> None:
    source = Oracle(init_oracle(seed=0, vocab_size=12, hidden=3))
    tokens = source.sample(seed=0, count=4, length=5)
    corpus = Corpus(Split(tokens=tokens), Split(tokens=tokens), None, source=source)
    tokenizer = fit_tokenizer(WordTokenizer(), corpus)
    assert isinstance(tokenizer, IdTokenizer)
    assert tokenizer.vocabulary == Vocabulary(12, pad_id=0, bos_id=0, eos_id=None)
    text = tokenizer.decode(tokens[0])
    assert text == " ".join(str(i) for i in tokens[0])
    assert tokenizer.encode(text) == tokens[0].tolist()
    assert tokenizer.encode_batch([text, "3"]) == [tokens[0].tolist(), [3]]
    assert tokenizer.unknown_words("3 12 -1 x") == ["12", "-1", "x"]
    with pytest.raises(UserError, match="'12' is no token id; this text is made of 0 to 11"):
        tokenizer.encode("3 12")

    tokenizer.save(tmp_path)
    assert load_tokenizer(tmp_path) == tokenizer
    (tmp_path / "ids.json").write_text('{"vocab_size": 3}')
    with pytest.raises(UserError, match=r"ids\.json: should hold vocab_size and start_token"):
        load_tokenizer(tmp_path)
