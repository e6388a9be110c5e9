"""In-filling: which units of a text are left out, that an answer fills them again, and on which side a text lies."""

import dataclasses
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptgan_jax.data.config import GrammarData, HfData, TextData
from gptgan_jax.data.corpora import Corpus, Split, load_corpus
from gptgan_jax.data.holding_out import normalised
from gptgan_jax.data.infilling import Filling, InfillingConfig, blanked, fill, infilled
from gptgan_jax.errors import UserError

LATIN = st.text(st.sampled_from("abcé ßø.,'-\n\t"), max_size=30)
CHINESE = st.text(st.sampled_from("春江花月夜，。 A1"), max_size=20)
THAI = st.text(st.sampled_from("กขคสวดี\u0e31\u0e34\u0e48\u0e33เแ "), max_size=20)
EMOJI = st.lists(
    st.sampled_from(["👨\u200d👩\u200d👧", "👍🏽", "❤\ufe0f", "🇩🇪", "🙂", " ", "a", "\u200d", "\u0301"]), max_size=9
).map("".join)
ANYTHING = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
CONFIGS = st.builds(
    InfillingConfig,
    share=st.floats(0.01, 1),
    spans=st.sampled_from(["contiguous", "random"]),
    blank=st.sampled_from(["_", "<blank>"]),
)
UNITS: Any = st.sampled_from(["word", "character"])
HALF = InfillingConfig(share=0.5, spans="random")


@settings(max_examples=600, deadline=None)
@given(st.one_of(LATIN, CHINESE, THAI, EMOJI, ANYTHING), CONFIGS, UNITS, st.integers(0, 3))
def test_a_prompt_filled_with_its_own_answer_is_the_text(
    text: str, config: InfillingConfig, unit: Any, copy: int
) -> None:
    if config.blank in text:
        with pytest.raises(UserError, match="occurs in"):
            blanked(text, config, unit, copy=copy)
        return
    pair = blanked(text, config, unit, copy=copy)
    if pair is None:
        assert unit == "character" or not text.split()
    else:
        assert fill(*pair, config.blank) == text


def test_a_blank_that_runs_into_its_neighbours_is_refused() -> None:
    """After an "a" the blank "aa" could begin one character earlier."""
    config, found = InfillingConfig(share=0.5, blank="aa"), set()
    for copy in range(20):
        try:
            found.add(blanked("ax", config, "character", copy=copy))
        except UserError as error:
            found.add(str(error))
    refused = (
        "blank 'aa' can't be told from the characters next to it in 'aaa'; choose another mark, such as one character "
        "that no text has"
    )
    assert found == {("aax", "a"), refused}


@pytest.mark.parametrize("spans", ["contiguous", "random"])
def test_what_is_missing_are_units_of_the_text_at_their_places(spans: Any) -> None:
    words = [f"w{i}" for i in range(40)]
    seen = set()
    for copy in range(200):
        pair = blanked(" ".join(words), InfillingConfig(share=0.3, spans=spans), copy=copy)
        assert pair is not None
        prompt = pair.prompt.split()
        places = [i for i, word in enumerate(prompt) if word == "_"]
        assert len(prompt) == 40
        assert [word for word in prompt if word != "_"] == [words[i] for i in range(40) if i not in places]
        assert pair.answer.split() == [words[i] for i in places]
        assert len(places) == 12
        assert (places[-1] - places[0] == 11) == (spans == "contiguous")
        seen |= set(places)
    assert seen == set(range(40))  # the first and the last too


@pytest.mark.parametrize(
    ("count", "share", "missing"),
    [(1, 0.5, 1), (1, 0.01, 1), (3, 0.5, 2), (5, 0.1, 1), (10, 0.04, 1), (10, 0.34, 3), (7, 1.0, 7), (4, 0.999, 4)],
)
def test_the_share_is_rounded_and_at_least_one_unit_is_missing(count: int, share: float, missing: int) -> None:
    pair = blanked(" ".join("abcdefghij"[:count]), InfillingConfig(share=share))
    assert pair is not None
    assert pair.prompt.count("_") == len(pair.answer.split()) == missing


def test_a_text_without_units_makes_no_pair_and_a_share_of_0_none_at_all() -> None:
    assert blanked("", HALF) is blanked(" \n", HALF, "character") is blanked("a b", InfillingConfig()) is None
    assert blanked("\u0301", HALF, "character") is None


def test_characters_keep_their_accents_and_joiners() -> None:
    every = InfillingConfig(share=1.0)
    assert blanked("e\u0301a สวัสดี", every, "character") == ("__ ____", "e\u0301a สวัสดี")
    assert blanked("👍🏽x", every, "character") == ("__", "👍🏽x")
    assert fill("春_花_夜", "江月") == "春江花月夜"


def test_an_answer_of_another_length_is_refused() -> None:
    for prompt, answer in (
        ("a _ b _", "x"),
        ("a _", "x y"),
        ("a _", ""),
        ("春__夜", "江"),
        ("a b", "x"),
        ("春_ _夜", "江月"),
    ):
        with pytest.raises(ValueError, match=r"white space|fills"):
            fill(prompt, answer)
    filling = Filling("_")
    assert [filling.of("a _", answer) for answer in ("b", "b c", "")] == ["a b", None, None]
    assert filling.unfit == 2


def test_blanks_depend_on_seed_text_and_copy_alone() -> None:
    texts = [f"the {a} cat sat on the {b} mat" for a in "abcde" for b in "vwxyz"]

    def pairs(texts: list[str], seed: int = 0) -> dict[str, list[str]]:
        split = Split(texts)
        corpus = infilled(Corpus(split, split, None), InfillingConfig(share=0.5, spans="random", copies=3), seed)
        found: dict[str, list[str]] = {}
        for prompt, answer in zip(corpus.train.prompts or (), corpus.train.texts, strict=True):
            found.setdefault(fill(str(prompt), answer), []).append(str(prompt))
        return found

    whole, shuffled = pairs(texts), pairs(random.Random(0).sample(texts, 25))
    assert whole == shuffled
    assert pairs(texts[:7]) == {text: whole[text] for text in texts[:7]}
    assert pairs(texts, seed=1) != whole
    assert all(len(set(prompts)) > 1 for prompts in whole.values())
    masks = {tuple(word == "_" for word in prompts[0].split()) for prompts in whole.values()}
    assert len(masks) > 10  # texts of one length have not one mask


def write(path: Path, texts: list[str]) -> str:
    path.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(path)


def texts_of(split: Split | None) -> list[str]:
    assert split is not None
    return [fill(str(prompt), text) for prompt, text in zip(split.prompts or (), split.texts, strict=True)]


def test_no_document_lies_in_two_splits(tmp_path: Path) -> None:
    """The same documents are held out as without in-filling, whatever blanks they get, and each is there once."""
    texts = [f"{a} {b} {c} here" for a in "abcdefgh" for b in "ijkl" for c in "mnop"]
    texts += [text.upper() for text in texts]  # the same but for case: never in two splits
    file = write(tmp_path / "text.txt", texts)
    plain = load_corpus(TextData(train=file, valid_fraction=0.2, test_fraction=0.2))
    corpus = load_corpus(
        TextData(
            train=file, valid_fraction=0.2, test_fraction=0.2, infilling=InfillingConfig(share=0.5, copies=4, longest=9)
        )
    )
    assert sorted(texts_of(corpus.train)) == sorted(4 * list(plain.train.texts))
    assert texts_of(corpus.valid) == list(plain.valid.texts)
    assert texts_of(corpus.test) == list(plain.test.texts if plain.test else ())
    sides = [{normalised(text) for text in texts_of(split)} for split in (corpus.train, corpus.valid, corpus.test)]
    assert not sides[0] & (sides[1] | sides[2])
    assert not sides[1] & sides[2]


def test_longer_documents_are_cut_into_parts_that_stay_together(tmp_path: Path) -> None:
    documents = ["\n".join(f"line {i} of {d}" for i in range(9)) for d in range(30)]
    folder = tmp_path / "books"
    folder.mkdir()
    for d, text in enumerate(documents):
        write(folder / f"{d}.txt", [text])
    config = TextData(
        train=str(folder), document="file", valid_fraction=0.3, infilling=InfillingConfig(share=0.5, longest=10)
    )
    corpus = load_corpus(config)
    parts = [texts_of(split) for split in (corpus.train, corpus.valid, corpus.test)]
    assert max(len(text.split()) for some in parts for text in some) == 10
    assert sorted(word for some in parts for text in some for word in text.split()) == sorted(
        " ".join(documents).split()
    )
    numbers = [{number for text in some for number in re.findall(r"of (\d+)", text)} for some in parts]
    assert sum(map(len, numbers)) == 30
    assert any("\n" in text for text in parts[0])


def test_rows_and_the_grammar_are_corpora_too(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = [{"said": f"one {i} two", "kind": "ab"[i % 2], "note": i} for i in range(40)]
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    infilling = InfillingConfig(share=0.4, copies=2)
    corpus = load_corpus(
        HfData(
            path="json", train=str(rows), text_column="said", label_column="kind", reward_columns=("note",),
            infilling=infilling,
        )
    )  # fmt: skip
    assert corpus.train.labels is not None
    for text, label, note in zip(
        texts_of(corpus.train), corpus.train.labels, corpus.train.columns["note"], strict=True
    ):
        assert (text, corpus.classes[label]) == (f"one {note} two", "ab"[note % 2])
    grammar = GrammarData(train_size=50, valid_size=5, test_size=5)
    plain, corpus = load_corpus(grammar), load_corpus(dataclasses.replace(grammar, infilling=infilling))
    assert texts_of(corpus.train) == 2 * list(plain.train.texts)
    assert corpus.source is None
    assert corpus.words == (*(plain.words or ()), "_")


@pytest.mark.parametrize(("texts", "unit"), [(["春江花月夜", "海上明月"], "character"), (["a word", "or two"], "word")])
def test_the_unit_is_a_character_in_text_without_spaces(texts: list[str], unit: str) -> None:
    corpus = infilled(Corpus(Split(texts), Split(texts), None), HALF, 0)
    assert f"data.infilling: {unit}s are left out" in corpus.notes
    assert texts_of(corpus.train) == texts
    assert any(str(prompt) != "_" and " " not in str(prompt) for prompt in corpus.train.prompts or ()) == (
        unit == "character"
    )


def test_a_blank_that_occurs_is_refused_with_one_that_does_not(tmp_path: Path) -> None:
    train = write(tmp_path / "a.txt", ["one two", "a snake_case word", "□ too"])
    with pytest.raises(UserError) as raised:
        load_corpus(TextData(train=train, valid=train, infilling=HALF))
    assert str(raised.value) == (
        "data.infilling.blank '_' occurs in document 2 of data.train, 'a snake_case word'; choose a mark that no text "
        "has, such as '<blank>'"
    )
    fine = InfillingConfig(share=0.5, blank="<blank>")
    assert "<blank>" in str((load_corpus(TextData(train=train, valid=train, infilling=fine)).train.prompts or ())[0])


def test_a_split_without_any_unit_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.valid: none of its 1 document has a character to leave out"):
        infilled(Corpus(Split(["春江花月"]), Split(["\u0301"]), None), HALF, 0)
    notes = infilled(Corpus(Split(["春江花月", "\u0301"]), Split(["夜"]), None), HALF, 0).notes
    assert "data.train: 1 document without a character to leave out skipped" in notes
