"""Byte pairs: English is cut as GPT-2 cuts it, text without spaces into pieces that unseen text is spelt in as well."""

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers

from gptgan_jax.data.corpora import Corpus, Split
from gptgan_jax.data.tokenizers import SPECIAL_TOKENS, BpeTokenizer, Tokenizer, fit_tokenizer
from gptgan_jax.tokenization.byte_pairs import LONGEST_WORD, fit_byte_pairs, pattern

LINES = [line for path in sorted(Path("docs").glob("*.md")) for line in path.read_text("utf-8").splitlines() if line]
# Without runs that are longer than any word, such as the rules of a table.
PROSE = [line for line in LINES if not re.search(rf"([^\w\s]|\s){{{LONGEST_WORD + 1}}}", line)]
GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
SPACED = st.characters(min_codepoint=9, max_codepoint=0x24F) | st.sampled_from("ДжабшΣλ€—“”’…☃🙂  \n\t''sdtrev")


def plain(texts: list[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Byte pairs with GPT-2's pieces."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = GPT2
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=GPT2.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def fitted(texts: list[str], vocab_size: int = 8000, prompts: tuple[str, ...] = ()) -> tokenizers.Tokenizer:
    return fit_byte_pairs(texts, prompts, vocab_size, SPECIAL_TOKENS)


def pieces_of(backend: tokenizers.Tokenizer, text: str) -> list[str]:
    assert backend.pre_tokenizer is not None
    return [text[start:end] for _, (start, end) in backend.pre_tokenizer.pre_tokenize_str(text)]


def test_english_text_gets_the_tokenizer_that_gpt2s_pieces_give() -> None:
    texts = PROSE[::2]
    ours, theirs = fitted(texts, 2000), plain(texts, 2000)
    assert ours.get_vocab() == theirs.get_vocab()
    unseen = PROSE[1::2]
    assert len(unseen) > 500
    assert [one.ids for one in ours.encode_batch(unseen)] == [one.ids for one in theirs.encode_batch(unseen)]


@settings(max_examples=300)
@given(st.text(SPACED, max_size=LONGEST_WORD))
def test_any_text_of_a_script_with_spaces_is_cut_as_gpt2_cuts_it(text: str) -> None:
    ours = pre_tokenizers.Split(tokenizers.Regex(pattern(1)), "isolated").pre_tokenize_str(text)
    assert [piece for piece, _ in ours] == [text[start:end] for _, (start, end) in GPT2.pre_tokenize_str(text)]


def halves(count: int, seed: int = 1) -> list[str]:
    r = random.Random(seed)
    nouns, verbs = "山水云月风花雪鸟江河松竹梅柳灯舟雨星霜桥", "照映拂送归落生过渡望听临随掩隐"
    part = lambda: "".join(r.choice(letters) for letters in (nouns, verbs, nouns, verbs, nouns))  # noqa: E731
    return [f"{part()}，{part()}。" for _ in range(count)]


def drawn(letters: str, shortest: int, longest: int, count: int) -> list[str]:
    r = random.Random(2)
    return ["".join(r.choices(letters, k=r.randint(shortest, longest))) for _ in range(count)]


UNSPACED = {
    "Chinese clauses": halves(1000),
    "few Chinese clauses": halves(60),
    "Han of many kinds": drawn("".join(map(chr, range(0x4E00, 0x4E00 + 400))), 5, 20, 500),
    "kana": drawn("あいうえおかきくけこさしすせそアイウエオ", 8, 20, 500),
    "Thai": drawn("กขคงจชดตถทนบปผพมยรลวสหอะาิีุูเแโ่้", 10, 60, 500),
    "Chinese with English words": [
        f"{a[:5]} {b}{a[6:]}" for a, b in zip(halves(800), drawn("abc", 1, 3, 800), strict=True)
    ],
    "DNA": drawn("ACGT", 30, 30, 1000),
    "protein": drawn("ACDEFGHIKLMNPQRSTVWY", 20, 60, 1000),
    "digits": drawn("0123456789", 20, 40, 1000),
    "emoji": drawn("😀😃😄😁😆😅🤣😂🙂🙃😉😊", 3, 12, 1000),
}


@pytest.mark.cases(4)
@pytest.mark.parametrize("name", UNSPACED)
def test_unseen_text_without_spaces_is_spelt_as_what_was_learned_from(name: str) -> None:
    texts = UNSPACED[name]
    seen, unseen = [text for i, text in enumerate(texts) if i % 5], texts[::5]
    tokens = [
        sum(len(one.ids) for one in backend.encode_batch(some)) / sum(map(len, some))
        for backend in (fitted(seen), plain(seen, 8000))
        for some in (seen, unseen)
    ]
    assert tokens[1] <= 1.2 * tokens[0]
    assert tokens[3] > 1.2 * tokens[2]  # GPT-2's pieces would not do


def test_text_set_apart_by_spaces_keeps_its_words_whole() -> None:
    words = random.Random(0)
    segmented = [" ".join(words.choices(["明月", "照", "高山", "图书馆", "不亦说乎"], k=6)) for _ in range(400)]
    assert pieces_of(fitted(segmented), "照 图书馆 不亦说乎") == ["照", " 图书馆", " 不亦说乎"]
    assert pieces_of(fitted(["नमस्ते दुनिया"] * 60), "हिन्दी में") == ["हिन्दी", " में"]


def test_a_few_texts_are_cut_at_every_character() -> None:
    assert pieces_of(fitted(["明月照高山"]), "明月abc高") == ["明", "月", "a", "b", "c", "高"]
    # One that is long is enough of them to tell.
    assert max(map(len, pieces_of(fitted(["".join(UNSPACED["DNA"] * 4)]), "ACGT" * 20))) > 1


LONG = {"dashes": "-", "letters": "a", "DNA": "ACGT", "digits": "1", "Han": "明月照", "spaces": " ", "marks": "\u0301"}


@pytest.mark.parametrize("name", LONG)
def test_a_piece_is_never_longer_than_a_word_may_be(name: str) -> None:
    backend = fitted(["the old man is near the river", "an old dog is there"] * 30)
    text = f"x{LONG[name] * 500}y"
    cut = pieces_of(backend, text)
    assert "".join(cut) == text
    assert max(map(len, cut)) <= LONGEST_WORD + 1


LEARNED = [
    fit_tokenizer(BpeTokenizer(vocab_size=400), Corpus(Split(texts), Split(["x"]), None))
    for texts in (PROSE[:200], halves(100), UNSPACED["DNA"][:100], UNSPACED["Thai"][:100])
]


@settings(max_examples=200)
@given(st.text() | st.text(SPACED) | st.text(st.sampled_from("明月。กา่ै1１a 🙂\u200d\ufe0f\u0301\n-"), max_size=80))
def test_every_text_is_decoded_to_itself(text: str) -> None:
    for tokenizer in LEARNED:
        assert isinstance(tokenizer, Tokenizer)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_prompts_are_learned_from_and_their_spaces_count() -> None:
    answers = ["yes", "no", "perhaps"] * 20
    asked = [f"is the {word} near the river" for word in ("dog", "cat", "man")] * 20
    alone, with_prompts = fitted(answers), fitted(answers, prompts=tuple(asked))
    assert len(with_prompts.encode(" river").ids) == 1
    assert pieces_of(with_prompts, "international")[0] == "international"
    assert len(pieces_of(alone, "international")) > 1


def test_the_same_text_gives_the_same_tokenizer() -> None:
    first, again = (fitted(halves(300)).to_str() for _ in range(2))
    assert first == again
    assert all(one != other for one, other in pairwise([first, fitted(halves(300, seed=9)).to_str()]))
