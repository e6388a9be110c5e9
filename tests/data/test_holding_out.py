"""What is held out: rows that ask the same together, and a count of what other held-out text shares with training."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gptgan_jax.config.checking import config_from
from gptgan_jax.data.config import HfData, TextData
from gptgan_jax.data.corpora import Corpus, Split, load_corpus
from gptgan_jax.data.holding_out import ALARM, held_out_parts, normalised, note_line, rule_for, shared_notes
from gptgan_jax.tokenization.chat_templates import Message, prompt_text


def rows_file(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def prompted(folder: Path, prompts: list[str], **keys: Any) -> Corpus:
    """A corpus of one file: a row a prompt, each with a text of its own."""
    rows = [{"prompt": prompt, "text": f"text {i}"} for i, prompt in enumerate(prompts)]
    return load_corpus(HfData(train=rows_file(folder / "train.jsonl", rows), prompt_column="prompt", **keys))


def conversations(folder: Path, *turns: list[str], **keys: Any) -> Corpus:
    """A corpus of one file: each row is a conversation, whose turns alternate."""
    roles = ("user", "assistant")
    rows = [{"messages": [{"role": roles[i % 2], "content": one} for i, one in enumerate(said)]} for said in turns]
    file = rows_file(folder / "train.jsonl", rows)
    return load_corpus(HfData(train=file, text_column="messages", assistant_turns="all", **keys))


def splits_of(corpus: Corpus) -> list[Split]:
    return [split for split in (corpus.train, corpus.valid, corpus.test) if split is not None]


def share(corpus: Corpus, attribute: str) -> list[set[str]]:
    """What two of the splits have in common."""
    sets = [{normalised(value) for value in getattr(split, attribute)} for split in splits_of(corpus)]
    return [one & other for i, one in enumerate(sets) for other in sets[i + 1 :]]


# ---- normalising


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is  this?", "what is this ?"),
        ("“Quoted” — don’t", '"quoted" - don\'t'),
        ("ﬁne Ｗide", "fine wide"),
        ("STRASSE", "straße"),
        ("soft\u00adhyphen\u200b", "softhyphen"),
        ("a\u00a0b\tc\n", "a b c"),
        ("well-known", "well known"),
        ("é", "e\u0301"),
    ],
)
def test_texts_that_differ_by_case_spaces_or_punctuation_are_one(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("what is 3 * 4", "what is 3 / 4"),
        ("what is 3 - 4", "what is 3 + 4"),
        ("minus -3", "minus 3"),
        ("1.5", "15"),
        ("?!", "..."),
        ("北京", "南京"),
        ("कि", "की"),
    ],
)
def test_texts_that_ask_another_thing_stay_apart(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@given(st.text(max_size=30))
def test_a_normalised_text_is_its_own(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert bool(once) == bool(text.strip())


# ---- by prompt


def test_all_texts_of_a_prompt_share_a_split_however_it_is_spelt(tmp_path: Path) -> None:
    spellings = ("What is thing {}?", "what is  thing {} ?", "WHAT IS THING {}", "what is thing {}")
    prompts = [how.format(i) for i in range(200) for how in spellings]
    random.Random(0).shuffle(prompts)
    corpus = prompted(tmp_path, prompts, valid_fraction=0.1, test_fraction=0.2)
    assert share(corpus, "prompts") == [set()] * 3
    assert sum(map(len, splits_of(corpus))) == 800
    held = [len(split) / 4 / 200 for split in splits_of(corpus)[1:]]
    assert held == [pytest.approx(0.1, abs=0.06), pytest.approx(0.2, abs=0.08)]
    assert "by prompt (200 prompts, none of them in two splits)" in corpus.notes[0]


def test_prompts_of_several_turns_are_held_out_whole(tmp_path: Path) -> None:
    turns = [[{"role": "user", "content": f"{a}"}, {"role": "assistant", "content": "ok"}] for a in "ab"]
    rows = [
        {"prompt": [*turns[i % 2], {"role": "user", "content": f"{i // 2}"}], "text": f"{i} {j}"}
        for i in range(200)
        for j in range(3)
    ]
    file = rows_file(tmp_path / "train.jsonl", rows)
    corpus = load_corpus(HfData(train=file, prompt_column="prompt", valid_fraction=0.2))
    prompts = [set(split.prompts or ()) for split in splits_of(corpus)]
    assert not prompts[0] & prompts[1]
    assert not prompts[0] & prompts[2]
    assert isinstance(next(iter(prompts[0]))[0], Message)


def test_the_smallest_set_of_prompts_that_can_be_parted_is(tmp_path: Path) -> None:
    for seed in range(8):
        corpus = prompted(tmp_path, [f"prompt {i}" for i in range(20)] * 4, seed=seed)
        assert share(corpus, "prompts") == [set()] * 3
        assert min(map(len, splits_of(corpus))) >= 4


def test_too_few_prompts_are_no_reason_to_hold_out_by_and_a_note_says_so(tmp_path: Path) -> None:
    corpus = prompted(tmp_path, ["translate", "condense", "explain"] * 200)
    assert [len(split) for split in splits_of(corpus)] != [600]
    assert set(corpus.train.prompts or ()) == {"translate", "condense", "explain"}
    assert any("0 different prompts" in note or "shared by many" in note for note in corpus.notes)
    few = prompted(tmp_path, [f"prompt {i}" for i in range(12)] * 9)
    assert any("only 12 different prompts" in note for note in few.notes)


@pytest.mark.parametrize("common", ["", " ?", "write a poem"])
def test_rows_of_an_empty_or_a_common_prompt_go_by_their_text(common: str, tmp_path: Path) -> None:
    for seed in range(10):  # by its prompt, some seed would hold out more than half of the rows
        corpus = prompted(tmp_path, [common] * 600 + [f"prompt {i // 2}" for i in range(400)], seed=seed)
        assert len(corpus.train) > 800
        assert any("held out by text: the prompt is empty, or shared by many" in note for note in corpus.notes)
        others = [{p for p in split.prompts or () if p != common} for split in splits_of(corpus)]
        assert not others[0] & (others[1] | others[2])
        assert all(common in (split.prompts or ()) for split in splits_of(corpus))


def test_a_few_rows_of_an_empty_prompt_go_by_their_text_too(tmp_path: Path) -> None:
    corpus = prompted(tmp_path, [""] * 40 + [f"prompt {i}" for i in range(400)], valid_fraction=0.3, test_fraction=0.3)
    assert all("" in (split.prompts or ()) for split in splits_of(corpus))


def test_labels_as_prompts_are_held_out_by_text(tmp_path: Path) -> None:
    rows = [{"text": f"Text {i // 2}{'!' * (i % 2)}", "label": "ab"[i % 2]} for i in range(400)]
    file = rows_file(tmp_path / "train.jsonl", rows)
    corpus = load_corpus(HfData(train=file, label_column="label", label_prompts=True))
    assert set(corpus.train.prompts or ()) == set(corpus.valid.prompts or ()) == {"a", "b"}
    assert share(corpus, "texts") == [set()] * 3


# ---- by text, by group


@settings(max_examples=60)
@given(
    texts=st.lists(st.text(max_size=5), min_size=1, max_size=30),
    more=st.lists(st.text(max_size=5), max_size=10),
    seed=st.integers(-(2**63), 2**64 - 1),
    answers=st.booleans(),
)
def test_a_document_stays_in_its_split_when_others_are_appended(
    texts: list[str], more: list[str], seed: int, answers: bool
) -> None:
    def split_of(documents: list[str]) -> dict[str, str]:
        split = Split(["answer"] * len(documents), documents) if answers else Split(documents)
        parts, _ = held_out_parts(split, {"valid": 0.3, "test": 0.3}, seed, take)
        held = {which: part.prompts or part.texts for which, part in parts.items()}
        assert sorted(text for part in held.values() for text in part) == sorted(documents)
        return {text: which for which, part in held.items() for text in part}

    def take(split: Split, rows: np.ndarray) -> Split:
        prompts = None if split.prompts is None else [split.prompts[i] for i in rows]
        return Split([split.texts[i] for i in rows], prompts)

    ballast = [f"ballast {i}" for i in range(60)]  # so that no split is empty
    # Empty prompts would go by the answer, which is the same for all.
    texts, more = ([text for text in some if normalised(text)] for some in (texts, more))
    before, after = split_of(ballast + texts), split_of(ballast + texts + more)
    assert before.items() <= after.items()


def test_texts_without_prompts_share_a_split_where_they_are_one_but_for_case_and_spaces(tmp_path: Path) -> None:
    lines = [how(f"a document {i}") for i in range(300) for how in (str, str.upper, lambda text: f"{text} .")]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    corpus = load_corpus(TextData(train=str(tmp_path / "train.txt")))
    assert share(corpus, "texts") == [set()] * 3
    assert len(corpus.valid) % 3 == 0


def test_a_group_shares_a_split_and_prompts_in_two_of_them_are_an_alarm(tmp_path: Path) -> None:
    rows = [{"prompt": f"prompt {i % 40}", "text": f"text {i}", "who": i % 50 if i % 10 else None} for i in range(1000)]
    file = rows_file(tmp_path / "train.jsonl", rows)
    keys = {"train": file, "prompt_column": "prompt", "group_column": "who", "valid_fraction": 0.1}
    corpus = load_corpus(HfData(**keys))
    groups = [{group for group in split.groups or () if group is not None} for split in splits_of(corpus)]
    assert not groups[0] & (groups[1] | groups[2])
    assert groups[1]
    assert groups[2]
    assert "data.train: 100 of its 1000 rows without a group (empty or null)" in corpus.notes
    assert any("by data.group_column (45 groups, none of them in two splits)" in note for note in corpus.notes)
    assert any(note.startswith(f"{ALARM}data.test shares 100 % of its prompts") for note in corpus.notes)
    # Named files are compared by group too.
    corpus = load_corpus(HfData(**keys, valid=rows_file(tmp_path / "valid.jsonl", rows[1:3])))
    assert "data.valid: 2 of its 2 documents are also in data.train by group" in corpus.notes


# ---- shared with training text


def test_what_named_files_share_with_training_text_is_counted_and_an_alarm_above_one_in_a_hundred(
    tmp_path: Path,
) -> None:
    train = [f"What is {i}?" for i in range(300)]
    for shared, alarms in ((0, False), (1, False), (2, True), (120, True)):
        held = [f"what is  {i} ?" if i < shared else f"other {i}" for i in range(120)]
        rows = [{"prompt": prompt, "text": "it is"} for prompt in held]
        corpus = prompted(tmp_path, train, valid=rows_file(tmp_path / "valid.jsonl", rows))
        assert any(f"data.valid: {shared} of its 120 prompts are also in data.train" in n for n in corpus.notes) == (
            shared > 0
        )
        assert any(note.startswith(f"{ALARM}data.valid shares") for note in corpus.notes) == alarms


MOLECULES = ["CC(=O)O", "Oc1ccccc1", "C1CCCCC1=O", "CC(C)C(=O)N", "O=C(O)c1ccccc1"]


@pytest.mark.parametrize(
    ("ours", "others"),
    [
        (MOLECULES, [text.replace("c", "C") for text in MOLECULES]),
        (MOLECULES, [text.replace("(", "").replace(")", "") for text in MOLECULES]),
        (["f(x) = g[x];", "y = f(x) + {a: 1};"], ["f(x) = g(x);", "Y = F(x) + {a: 1};"]),
    ],
)
def test_code_and_molecules_that_differ_in_case_or_brackets_are_not_shared(ours: list[str], others: list[str]) -> None:
    held = Split([text for text in others if text not in ours])
    assert held.texts
    assert list(shared_notes("data.valid", held, Split(ours))) == []
    assert any(ALARM in note for note in shared_notes("data.valid", Split([f" {ours[0]} "]), Split(ours)))
    # Prompts are compared in their own way.
    found = list(
        shared_notes(
            "data.valid",
            Split(["x"], ["sort a list"]),
            Split(ours, [f"Sort a list{'!' * i}" for i in range(len(ours))]),
        )
    )
    assert any("1 of its 1 prompt are also" in note for note in found)


def test_instructions_that_all_rows_have_are_no_shared_prompts() -> None:
    def split(texts: list[str]) -> Split:
        return Split(texts, ["write a poem" if i % 2 else "" for i in range(len(texts))])

    train = split([f"poem {i}" for i in range(100)])
    assert list(shared_notes("data.valid", split([f"verse {i}" for i in range(50)]), train)) == []
    found = list(shared_notes("data.valid", split([f"Poem {i}" for i in range(50)]), train))
    assert found[0] == "data.valid: 50 of its 50 documents are also in data.train"
    assert rule_for(train).questions == 0


def test_a_note_says_what_it_is_and_an_alarm_does_itself() -> None:
    assert note_line("2 lines") == "note: 2 lines"
    assert note_line(f"{ALARM}2 lines") == "ALARM: 2 lines"


# ---- conversations of which every turn is learned


@pytest.mark.parametrize("opening", ["question {}", "hello"], ids=["by the first prompt", "by all of a common one"])
def test_the_turns_of_a_conversation_share_a_split(opening: str, tmp_path: Path) -> None:
    said = [[opening.format(i // 2), f"a {i}", f"next {i}", f"b {i}", f"last {i}", f"c {i}"] for i in range(200)]
    corpus = conversations(tmp_path, *said, valid_fraction=0.2, test_fraction=0.2)
    parts = [{text.split()[1] for text in split.texts} for split in splits_of(corpus)]
    assert all(len(split) == 3 * len(part) for split, part in zip(splits_of(corpus), parts, strict=True))
    assert sum(map(len, parts)) == len(set().union(*parts)) == 200
    assert all(len(part) > 15 for part in parts)
    if opening != "hello":  # two conversations have each
        assert all({str(int(i) ^ 1) for i in part} == part for part in parts)
        assert "by first prompt (100 first prompts, none of them in two splits)" in corpus.notes[0]
    assert not any(note.startswith(ALARM) for note in corpus.notes)


@pytest.mark.parametrize(
    "turns",
    [
        lambda i: [("q", i // 2), ("a", 0, i % 2), ("next", i), ("b", i)],  # the shared beginning has no weight
        lambda i: [("hello", 0), ("hi", 0), ("q", i // 2), ("a", i), ("next", i), ("b", i)],
        lambda i: [("hello", 0), ("hi", 0), ("so", 0), ("yes", 0), ("q", i // 2), ("a", i)],
    ],
    ids=["unlearned", "greeted", "greeted twice"],
)
def test_no_prompt_that_few_share_is_in_two_splits_and_no_alarm_is_raised_by_those_that_many_do(
    turns: Any, tmp_path: Path
) -> None:
    rows = []
    for i in range(300):
        said = [(f"{one[0]} {one[1]}", *one[2:]) for one in turns(i)]
        roles = [{"role": ("user", "assistant")[k % 2], "content": one[0]} for k, one in enumerate(said)]
        rows.append({"messages": [one | {"weight": 0} if said[k][1:] == (1,) else one for k, one in enumerate(roles)]})
    keys = {"text_column": "messages", "assistant_turns": "all", "valid_fraction": 0.2}
    corpus = load_corpus(HfData(train=rows_file(tmp_path / "train.jsonl", rows), **keys))
    asked = [{prompt_text(one) for one in split.prompts if "q " in prompt_text(one)} for split in splits_of(corpus)]
    assert all(asked)
    assert not asked[0] & asked[1] | asked[0] & asked[2] | asked[1] & asked[2]
    assert not any(note.startswith(ALARM) for note in corpus.notes)
    # Files of their own, of which each has its questions, may all begin alike and answer alike.
    files = [rows_file(tmp_path / f"{i}.jsonl", rows[part]) for i, part in enumerate((slice(0, 200), slice(200, 300)))]
    named = load_corpus(HfData(train=files[0], valid=files[1], **keys))
    assert not any(note.startswith(ALARM) for note in named.notes)
    leaked = load_corpus(HfData(train=files[0], valid=rows_file(tmp_path / "2.jsonl", rows[150:300]), **keys))
    assert any(note.startswith(ALARM) and "prompts with data.train" in note for note in leaked.notes)
    sources = ({"kind": "hf", "weight": 1, "source": name, "train": one} for name, one in zip("ab", files, strict=True))
    each = {"text_column": "messages", "assistant_turns": "all"}
    mixed = load_corpus(config_from({"data": {"kind": "mixture", "sources": [one | each for one in sources]}}).data)
    assert not any(note.startswith(ALARM) for note in mixed.notes)


def test_a_conversation_whose_prompts_are_all_common_shares_a_split_by_all_of_its_turns(tmp_path: Path) -> None:
    corpus = conversations(tmp_path, *[["hello", "hi", "go on", f"answer {i}"] for i in range(100)], valid_fraction=0.2)
    for split in splits_of(corpus):
        assert list(split.texts).count("hi") == len(split) / 2 > 0


def test_text_that_is_added_moves_no_conversation(tmp_path: Path) -> None:
    said = [[f"question {i}", f"a {i}", f"next {i}", f"b {i}"] for i in range(100)]
    few, all_of = (conversations(tmp_path, *said[:count], valid_fraction=0.2) for count in (60, 100))
    for one, other in zip(splits_of(few), splits_of(all_of), strict=True):
        assert set(one.texts) <= set(other.texts)
